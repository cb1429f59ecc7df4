use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tower_auth_core::Error;

use crate::SigningKey;

/// Writes a signed JWT in the compact form (RFC 7515 section 3.1): `encoded_header` is in base64url
/// already, `claims` is JSON.
pub(crate) fn write(
    encoded_header: &str,
    claims: &str,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Error>,
) -> Result<String, Error> {
    let mut jws = String::with_capacity(encoded_header.len() + 2 * claims.len() + 700);
    jws.push_str(encoded_header);
    jws.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut jws);
    let signature = sign(jws.as_bytes())?;
    jws.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut jws);
    Ok(jws)
}

/// JSON in base64url, as the parts of a JWS have it.
pub(crate) fn encode(json: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json)
}

/// What a JWT is signed with.
#[derive(Clone)]
pub(crate) enum Signer {
    Key(SigningKey),
    /// A secret that the server has too.
    Hmac(HmacAlgorithm, Box<hmac::Key>),
}

/// How a JWT is signed with a shared secret (RFC 7518 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HmacAlgorithm {
    /// HMAC with SHA-256. The secret has to have 32 bytes.
    #[default]
    Hs256,
    /// HMAC with SHA-384. The secret has to have 48 bytes.
    Hs384,
    /// HMAC with SHA-512. The secret has to have 64 bytes.
    Hs512,
}

impl Signer {
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Key(key) => key.algorithm().as_str(),
            Self::Hmac(algorithm, _) => algorithm.as_str(),
        }
    }

    pub(crate) fn key_id(&self) -> Option<&str> {
        match self {
            Self::Key(key) => key.key_id(),
            Self::Hmac(..) => None,
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Self::Key(key) => key.sign(message),
            Self::Hmac(_, key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
        }
    }
}

impl HmacAlgorithm {
    /// The value of `alg`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    pub(crate) fn key(self, secret: &[u8]) -> hmac::Key {
        let algorithm = match self {
            Self::Hs256 => hmac::HMAC_SHA256,
            Self::Hs384 => hmac::HMAC_SHA384,
            Self::Hs512 => hmac::HMAC_SHA512,
        };
        hmac::Key::new(algorithm, secret)
    }

    /// How long a secret has to be, in bytes: as long as the hash (RFC 7518 section 3.2).
    pub(crate) fn shortest_secret(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
        }
    }
}
