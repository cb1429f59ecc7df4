use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use tower_auth::{BoxError, Clock};
use tower_auth_io::SystemClock;

/// The claims of an access token (RFC 9068 section 2.2).
///
/// `iat` and `exp` keep their fraction, which RFC 7519 section 2 allows: with lifetimes of seconds,
/// whole numbers would make a token end up to a second before its `expires_in` says so.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    aud: String,
    sub: String,
    client_id: String,
    pub(crate) jti: String,
    iat: f64,
    exp: f64,
}

/// The issuer's private key, made at start and never written anywhere.
pub(crate) struct Signer {
    key: EncodingKey,
    verifier: Verifier,
}

/// What an API needs to check tokens of one [`Issuer`](crate::Issuer): its public key and its
/// revocation list. Clones share the list.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    key: DecodingKey,
    validation: Validation,
    revoked: RwLock<HashSet<String>>,
}

/// Why a token is not accepted. The text is the `error_description` of the challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Invalid,
    Expired,
    Revoked,
}

impl Signer {
    pub(crate) fn generate() -> Result<Self, BoxError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| "the system gave no randomness for a signing key")?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref())?;

        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The expiry is checked in `verify`, to the millisecond.
        validation.validate_exp = false;
        Ok(Self {
            key: EncodingKey::from_ec_der(document.as_ref()),
            verifier: Verifier(Arc::new(Inner {
                key: DecodingKey::from_ec_der(pair.public_key().as_ref()),
                validation,
                revoked: RwLock::default(),
            })),
        })
    }

    pub(crate) fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// A signed token for this client, which lives for `lifetime` from this moment.
    pub(crate) fn sign(
        &self,
        client_id: &str,
        jti: String,
        lifetime: Duration,
    ) -> Result<String, BoxError> {
        let issued_at = unix_now();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: client_id.to_owned(),
            client_id: client_id.to_owned(),
            jti,
            iat: issued_at,
            exp: issued_at + lifetime.as_secs_f64(),
        };
        let header = Header {
            typ: Some("at+jwt".to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }
}

impl Verifier {
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, Refusal> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.0.key, &self.0.validation)
            .map_err(|_| Refusal::Invalid)?
            .claims;
        if unix_now() >= claims.exp {
            return Err(Refusal::Expired);
        }
        let revoked = self
            .0
            .revoked
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if revoked.contains(&claims.jti) {
            return Err(Refusal::Revoked);
        }
        Ok(claims)
    }

    pub(crate) fn revoke(&self, jti: String) {
        let mut revoked = self
            .0
            .revoked
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        revoked.insert(jti);
    }
}

impl Refusal {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "the token is not one of our issuer's",
            Self::Expired => "the token has expired",
            Self::Revoked => "the token is revoked",
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

fn unix_now() -> f64 {
    SystemClock
        .now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://api.example";

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(signer: &Signer, lifetime: Duration) -> String {
        signer.sign("client", "1".to_owned(), lifetime).unwrap()
    }

    #[test]
    fn a_fresh_token_is_accepted() {
        let signer = Signer::generate().unwrap();
        let token = sign(&signer, Duration::from_secs(60));
        assert_eq!(signer.verifier().verify(&token).unwrap().jti, "1");
    }

    #[test]
    fn a_token_past_its_lifetime_is_expired() {
        let signer = Signer::generate().unwrap();
        let token = sign(&signer, Duration::ZERO);
        assert_eq!(
            signer.verifier().verify(&token).unwrap_err(),
            Refusal::Expired
        );
    }

    #[test]
    fn a_revoked_token_is_refused() {
        let signer = Signer::generate().unwrap();
        let token = sign(&signer, Duration::from_secs(60));
        signer.verifier().revoke("1".to_owned());
        assert_eq!(
            signer.verifier().verify(&token).unwrap_err(),
            Refusal::Revoked
        );
    }

    #[test]
    fn a_token_of_another_key_is_invalid() {
        let (signer, other) = (Signer::generate().unwrap(), Signer::generate().unwrap());
        let token = sign(&other, Duration::from_secs(60));
        assert_eq!(
            signer.verifier().verify(&token).unwrap_err(),
            Refusal::Invalid
        );
    }
}
