//! JSON Web Keys (RFC 7517): private ones that are read, and public ones that are shown.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use tower_auth_core::Error;
use zeroize::Zeroizing;

use super::{Algorithm, Curve, Pair, RsaComponents, SigningKey, invalid};

impl SigningKey {
    /// A private key as a JWK (RFC 7517), with its `kid` and `alg` where it has them.
    ///
    /// # Errors
    /// [`InvalidConfig`](tower_auth_core::ErrorKind::InvalidConfig) if it is not one, if a member is
    /// missing, or if the key is of a kind or size that cannot be used.
    pub fn from_jwk(json: impl AsRef<[u8]>) -> Result<Self, Error> {
        // What the parser says may quote the key.
        let jwk: PrivateJwk = serde_json::from_slice(json.as_ref())
            .map_err(|_| invalid("the JWK is not a JSON object with a kty"))?;
        let mut key = Self::of(jwk.pair()?);
        if let Some(name) = &jwk.alg {
            let algorithm = Algorithm::named(name)
                .ok_or_else(|| invalid("the alg of the JWK is not one to sign with"))?;
            key = key.with_algorithm(algorithm)?;
        }
        Ok(match jwk.kid {
            Some(key_id) => key.with_key_id(key_id),
            None => key,
        })
    }

    /// The thumbprint of the public key (RFC 7638), as base64url: what a token that is bound to the key
    /// has in `cnf.jkt` (RFC 9449 section 6.1), and what many use as `kid`.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, self.public_jwk().as_bytes()))
    }

    /// The public key as a JWK, to be registered with the issuer. It has the required members in their
    /// order and nothing else, so that its hash is the thumbprint (RFC 7638 section 3).
    #[must_use]
    pub fn public_jwk(&self) -> String {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match &*self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                format!(
                    r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#,
                    encode(public.exponent().big_endian_without_leading_zero()),
                    encode(public.modulus().big_endian_without_leading_zero()),
                )
            }
            Pair::Ec(curve, pair) => {
                // An uncompressed point: 4, x, y (SEC 1 section 2.3.3).
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                format!(
                    r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
                    curve.name(),
                    encode(x),
                    encode(y),
                )
            }
            Pair::Ed25519(pair) => format!(
                r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#,
                encode(pair.public_key().as_ref()),
            ),
        }
    }
}

#[derive(Deserialize)]
struct PrivateJwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<Number>,
    y: Option<Number>,
    n: Option<Number>,
    e: Option<Number>,
    d: Option<Number>,
    p: Option<Number>,
    q: Option<Number>,
    dp: Option<Number>,
    dq: Option<Number>,
    qi: Option<Number>,
}

/// A number or a point in base64url.
type Number = Zeroizing<String>;

impl PrivateJwk {
    fn pair(&self) -> Result<Pair, Error> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => self.rsa(),
            ("EC", Some(name)) => {
                let curve = Curve::named(name)
                    .ok_or_else(|| invalid("the crv of the JWK is none of P-256, P-384, P-521"))?;
                self.ec(curve)
            }
            ("OKP", Some("Ed25519")) => {
                let (seed, public) = (read("d", &self.d)?, read("x", &self.x)?);
                Ed25519KeyPair::from_seed_and_public_key(&seed, &public)
                    .map(Pair::Ed25519)
                    .map_err(|_| damaged())
            }
            ("EC" | "OKP", _) => Err(invalid(
                "the crv of the JWK is none of P-256, P-384, P-521, Ed25519",
            )),
            _ => Err(invalid("the kty of the JWK is none of RSA, EC, OKP")),
        }
    }

    fn rsa(&self) -> Result<Pair, Error> {
        let components = RsaComponents {
            public_key: PublicKeyComponents {
                n: read("n", &self.n)?.to_vec(),
                e: read("e", &self.e)?.to_vec(),
            },
            d: read("d", &self.d)?,
            p: read("p", &self.p)?,
            q: read("q", &self.q)?,
            dP: read("dp", &self.dp)?,
            dQ: read("dq", &self.dq)?,
            qInv: read("qi", &self.qi)?,
        };
        RsaKeyPair::from_components(&components)
            .map(Pair::Rsa)
            .map_err(|_| damaged())
    }

    fn ec(&self, curve: Curve) -> Result<Pair, Error> {
        let (d, x, y) = (
            read("d", &self.d)?,
            read("x", &self.x)?,
            read("y", &self.y)?,
        );
        let point = [&[4], x.as_slice(), y.as_slice()].concat();
        EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &d, &point)
            .map(|pair| Pair::Ec(curve, pair))
            .map_err(|_| damaged())
    }
}

fn read(name: &str, number: &Option<Number>) -> Result<Zeroizing<Vec<u8>>, Error> {
    let text = number
        .as_ref()
        .ok_or_else(|| invalid(format!("the JWK has no {name}; is it a public key?")))?;
    BASE64_URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map(Zeroizing::new)
        .map_err(|_| invalid(format!("{name} of the JWK is not base64url")))
}

fn damaged() -> Error {
    invalid("the numbers of the JWK do not make a key that can be used")
}
