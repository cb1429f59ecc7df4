use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tower_auth_core::{Error, ErrorKind};

/// A certificate that a key is registered with, and those above it: for issuers that find a key by its
/// certificate instead of by a name, as Entra ID does.
///
/// ```no_run
/// use tower_auth_oauth::{Assertion, Certificates, SigningKey};
///
/// # fn read() -> Result<Vec<u8>, tower_auth_core::Error> { todo!() }
/// let pem = read()?;
/// let assertion = Assertion::new(SigningKey::from_pem(&pem)?, "client-id")
///     .with_certificate_thumbprint(&Certificates::from_pem(&pem)?)?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Certificates {
    leaf: CertificateDer<'static>,
    above: Vec<CertificateDer<'static>>,
}

impl Certificates {
    /// The certificates in this PEM text, that of the key first. Keys beside them are passed over.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is not PEM or there is none.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_ref()).collect();
        Self::of(found.map_err(|_| invalid("the certificate is not PEM"))?)
    }

    /// Certificates in DER, that of the key first.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if there is none.
    pub fn from_der(ders: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, Error> {
        Self::of(ders.into_iter().map(CertificateDer::from).collect())
    }

    /// SHA-256 of the key's certificate, as base64url (`x5t#S256`, RFC 7515 section 4.1.8).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.leaf))
    }

    /// The key's certificate, in DER.
    #[must_use]
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// All of them in base64, that of the key first (`x5c`, RFC 7515 section 4.1.6).
    pub(crate) fn chain(&self) -> Vec<String> {
        std::iter::once(&self.leaf)
            .chain(&self.above)
            .map(|certificate| BASE64_STANDARD.encode(certificate))
            .collect()
    }

    fn of(ders: Vec<CertificateDer<'static>>) -> Result<Self, Error> {
        let mut ders = ders.into_iter();
        match ders.next() {
            Some(leaf) if !leaf.is_empty() => Ok(Self {
                leaf,
                above: ders.collect(),
            }),
            _ => Err(invalid("there is no certificate")),
        }
    }
}

/// Shows the thumbprint.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("thumbprint", &self.thumbprint())
            .field("above", &self.above.len())
            .finish()
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}
