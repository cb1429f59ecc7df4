use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaKeyPair,
};
use rustls_pki_types::pem::{self, SectionKind};
use tower_auth_core::{Error, ErrorKind};
use zeroize::Zeroizing;

mod jwk;
#[cfg(feature = "pkcs12")]
mod pkcs12;

/// A private key that signs JWTs: client assertions, grants, DPoP proofs.
///
/// It is read once, in any of the usual forms, and checked then. The algorithm follows from the kind of
/// key: `RS256` for RSA, `ES256`, `ES384` or `ES512` for the curves P-256, P-384 and P-521, `EdDSA` for
/// Ed25519; [`with_algorithm`](Self::with_algorithm) chooses another one that fits.
///
/// ```
/// use tower_auth_oauth::{Algorithm, SigningKey};
///
/// let key = SigningKey::generate()?;
/// assert_eq!(key.algorithm(), Algorithm::Es256);
/// let error = key.with_algorithm(Algorithm::Rs256).unwrap_err();
/// assert_eq!(error.to_string(), "an EC key on P-256 cannot sign with RS256");
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Pair>,
    algorithm: Algorithm,
    key_id: Option<String>,
}

/// How a JWT is signed (RFC 7518 section 3.1, RFC 8037 section 3.1, RFC 9864 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, with SHA-256.
    Rs256,
    /// RSA, PKCS #1 v1.5, with SHA-384.
    Rs384,
    /// RSA, PKCS #1 v1.5, with SHA-512.
    Rs512,
    /// RSA, PSS, with SHA-256 and a salt of 32 bytes.
    Ps256,
    /// RSA, PSS, with SHA-384 and a salt of 48 bytes.
    Ps384,
    /// RSA, PSS, with SHA-512 and a salt of 64 bytes.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519 under the name that RFC 8037 gave it, which stands for Ed448 too.
    EdDsa,
    /// Ed25519 under its own name (RFC 9864). A server that looks keys up by this name does not find
    /// them by the other one.
    Ed25519,
}

impl Algorithm {
    /// The value of `alg`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl SigningKey {
    /// The one private key in this PEM text: PKCS #8 (`PRIVATE KEY`), PKCS #1 (`RSA PRIVATE KEY`) or
    /// SEC 1 (`EC PRIVATE KEY`). Certificates beside it are passed over.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if there is no such section or more than one, if the
    /// key is encrypted, or if it is of a kind or size that cannot be used: RSA of less than 2048 bits,
    /// another curve.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, Error> {
        let mut rest = pem.as_ref();
        let mut found: Option<Zeroizing<Vec<u8>>> = None;
        loop {
            let (kind, der) = match pem::from_buf(&mut rest) {
                Ok(Some((kind, der))) => (kind, Zeroizing::new(der)),
                Ok(None) => break,
                Err(_) => return Err(invalid("the private key is not PEM")),
            };
            let is_key = matches!(
                kind,
                SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey
            );
            if is_key && found.replace(der).is_some() {
                return Err(invalid("there is more than one private key in the PEM"));
            }
        }
        if let Some(der) = found {
            return Self::from_der(&*der);
        }
        Err(if contains(pem.as_ref(), b"ENCRYPTED PRIVATE KEY") {
            invalid("the private key is encrypted; decrypt it, or use PKCS #12")
        } else {
            invalid("there is no private key in the PEM")
        })
    }

    /// A private key in DER: PKCS #8, PKCS #1 or SEC 1.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_der(der: impl AsRef<[u8]>) -> Result<Self, Error> {
        let der = der.as_ref();
        if let Ok(pair) = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)) {
            return Ok(Self::of(Pair::Rsa(pair)));
        }
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(curve.signing(), der) {
                return Ok(Self::of(Pair::Ec(curve, pair)));
            }
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            return Ok(Self::of(Pair::Ed25519(pair)));
        }
        Err(invalid(
            "the private key is none of RSA with 2048 to 8192 bits, P-256, P-384, P-521 and Ed25519, \
             or it is damaged",
        ))
    }

    /// A new key on P-256, for [`Dpop`](crate::Dpop): it lives as long as the program.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the crypto library has no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(Curve::P256.signing())
            .map_err(|_| Error::new(ErrorKind::Unavailable, "no key could be generated"))?;
        Ok(Self::of(Pair::Ec(Curve::P256, pair)))
    }

    /// Signs with this algorithm.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is not one for this kind of key.
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Result<Self, Error> {
        if !self.pair.algorithms().contains(&algorithm) {
            return Err(invalid(format!(
                "{} cannot sign with {algorithm}",
                self.pair.name()
            )));
        }
        self.algorithm = algorithm;
        Ok(self)
    }

    /// Names the key, so that the server finds the public one (`kid`, RFC 7515 section 4.1.4). A blank
    /// name is as good as none.
    #[must_use]
    pub fn with_key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into()).filter(|id| !id.trim().is_empty());
        self
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its name.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the crypto library fails, which it has no reason to.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = match (&*self.pair, self.algorithm) {
            (Pair::Rsa(pair), algorithm) => {
                let scheme = match algorithm {
                    Algorithm::Rs384 => &RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &RSA_PSS_SHA256,
                    Algorithm::Ps384 => &RSA_PSS_SHA384,
                    Algorithm::Ps512 => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(scheme, &SystemRandom::new(), message, &mut signature)
                    .map(|()| signature)
            }
            (Pair::Ec(_, pair), _) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec()),
            (Pair::Ed25519(pair), _) => pair
                .try_sign(message)
                .map(|signature| signature.as_ref().to_vec()),
        };
        signature.map_err(|_| Error::new(ErrorKind::Unavailable, "the key could not sign"))
    }

    /// Whether this certificate, in DER, is one for this key. Its public key is in it as it is, and no
    /// other certificate has those bytes.
    pub(crate) fn is_certified_by(&self, certificate: &[u8]) -> bool {
        match &*self.pair {
            Pair::Rsa(pair) => contains(
                certificate,
                pair.public_key()
                    .modulus()
                    .big_endian_without_leading_zero(),
            ),
            Pair::Ec(_, pair) => contains(certificate, pair.public_key().as_ref()),
            Pair::Ed25519(pair) => contains(certificate, pair.public_key().as_ref()),
        }
    }

    fn of(pair: Pair) -> Self {
        Self {
            algorithm: pair.usual_algorithm(),
            pair: Arc::new(pair),
            key_id: None,
        }
    }
}

/// Shows how it signs and what it is called.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl Pair {
    fn usual_algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_) => Algorithm::Rs256,
            Self::Ec(Curve::P256, _) => Algorithm::Es256,
            Self::Ec(Curve::P384, _) => Algorithm::Es384,
            Self::Ec(Curve::P521, _) => Algorithm::Es512,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn algorithms(&self) -> &'static [Algorithm] {
        use Algorithm::{
            Ed25519, EdDsa, Es256, Es384, Es512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512,
        };
        match self {
            Self::Rsa(_) => &[Rs256, Rs384, Rs512, Ps256, Ps384, Ps512],
            Self::Ec(Curve::P256, _) => &[Es256],
            Self::Ec(Curve::P384, _) => &[Es384],
            Self::Ec(Curve::P521, _) => &[Es512],
            Self::Ed25519(_) => &[EdDsa, Ed25519],
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "an RSA key",
            Self::Ec(Curve::P256, _) => "an EC key on P-256",
            Self::Ec(Curve::P384, _) => "an EC key on P-384",
            Self::Ec(Curve::P521, _) => "an EC key on P-521",
            Self::Ed25519(_) => "an Ed25519 key",
        }
    }
}

impl Curve {
    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }

    /// The value of `crv` (RFC 7518 section 6.2.1.1).
    fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521]
            .into_iter()
            .find(|curve| curve.name() == name)
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// The type that the crypto library takes the numbers of an RSA key in.
type RsaComponents = rsa::KeyPairComponents<Vec<u8>, Zeroizing<Vec<u8>>>;

const ALL: [Algorithm; 11] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::EdDsa,
    Algorithm::Ed25519,
];
