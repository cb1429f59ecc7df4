use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use tower_auth_core::{Error, Secret};

use super::{SigningKey, invalid};
use crate::Certificates;

impl SigningKey {
    /// The private key in a PKCS #12 file (`.p12`, `.pfx`; RFC 7292), and its certificates.
    ///
    /// The crate that opens the file brings ciphers of its own, because those of old files are in no
    /// other library; what the key signs is signed by aws-lc all the same.
    ///
    /// # Errors
    /// [`InvalidConfig`](tower_auth_core::ErrorKind::InvalidConfig) if the password is wrong, if there is
    /// no private key with a certificate, or if the key cannot be used. See
    /// [`from_pem`](Self::from_pem).
    #[cfg_attr(docsrs, doc(cfg(feature = "pkcs12")))]
    pub fn from_pkcs12(
        file: impl AsRef<[u8]>,
        password: impl Into<Secret>,
    ) -> Result<(Self, Certificates), Error> {
        let password = password.into();
        let policy = Pkcs12ImportPolicy::Strict;
        let store = KeyStore::from_pkcs12(file.as_ref(), password.expose(), policy)
            .map_err(|_| invalid("the PKCS #12 file cannot be opened; is the password right?"))?;
        let (_, chain) = store.private_key_chain().ok_or_else(|| {
            invalid("there is no private key with a certificate in the PKCS #12 file")
        })?;
        let key = Self::from_der(chain.key().as_der())?;
        let ders = chain.certs().iter();
        let certificates = Certificates::from_der(ders.map(|cert| cert.as_der().to_vec()))?;
        Ok((key, certificates))
    }
}
