use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::Serialize;
use tower_auth_core::{Error, ErrorKind, Origin};
use tower_auth_io::{Random, World};

use crate::assertion::unix_seconds;
use crate::{SigningKey, jws};
use nonces::Nonces;

mod layer;
mod nonces;
#[cfg(feature = "retry")]
mod retry;
mod stamp;

pub use layer::{DpopNonces, DpopNoncesFuture, DpopNoncesLayer};
#[cfg(feature = "retry")]
pub use retry::RetryOnNonce;
pub use stamp::PreparedDpop;

/// Proof of possession (RFC 9449): tokens that are of use only to the holder of a key.
///
/// Three places work together, and all of them hold a clone of the same `Dpop`:
///
/// - [`TokenEndpoint::with_dpop`](crate::TokenEndpoint::with_dpop) proves the key to the issuer, which
///   binds the token to it;
/// - as the [`Stamp`](tower_auth_core::Stamp) of a layer or cache, it signs a new proof for each request
///   to the API;
/// - [`nonces_layer`](Self::nonces_layer), below that layer, remembers the nonces that the API demands.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_auth::AuthLayer;
/// use tower_auth_oauth::{ClientAuth, ClientCredentials, Dpop, SigningKey, TokenEndpoint};
///
/// # let world = tower_auth_io::World::closed();
/// # let client = tower::service_fn(|_: http::Request<()>| async {
/// #     Ok::<_, tower_auth_core::BoxError>(http::Response::new(()))
/// # });
/// let dpop = Dpop::new(SigningKey::generate()?, &world);
/// let endpoint = TokenEndpoint::new("https://login.example.com/token", &world)?
///     .with_dpop(dpop.clone());
/// let source = ClientCredentials::new(endpoint, ClientAuth::secret_basic("reports", "s3cr3t")?);
/// let auth = AuthLayer::with_stamp(source, dpop.clone())
///     .origins(["https://api.example.com"])?
///     .refused(Dpop::refuses_token);
/// let client = ServiceBuilder::new()
///     .layer(auth)
///     .layer(dpop.nonces_layer())
///     .service(client);
/// # let _ = client;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
///
/// An API that demands nonces refuses the first request, and any whose nonce has run out, with 401 and a
/// new nonce. That is no refusal of the token, which is what [`refuses_token`](Self::refuses_token) is
/// for. Nothing is sent again here, because that takes a body that can be sent twice: a retry layer above
/// tells such an answer by [`wants_nonce`](Self::wants_nonce), and with the feature `retry` there is a
/// policy for it, `RetryOnNonce`.
///
/// A proof is for one request: retries belong above the layer that stamps. Whatever changes the URL
/// belongs above it as well.
#[derive(Clone)]
pub struct Dpop {
    shared: Arc<Shared>,
    accepts_bearer: bool,
}

struct Shared {
    key: SigningKey,
    /// The header of every proof, in base64url.
    header: String,
    random: Arc<dyn Random>,
    /// One server may be issuer and API, and its nonces for the one are not good for the other
    /// (RFC 9449 section 9).
    issuers: Nonces,
    apis: Nonces,
}

/// Whose nonce it is.
#[derive(Clone, Copy)]
pub(crate) enum Party {
    Issuer,
    Api,
}

#[derive(Serialize)]
struct Claims<'a> {
    jti: String,
    htm: &'a str,
    htu: String,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

impl Dpop {
    /// Proofs with this key. A key of its own for each program is best, made by
    /// [`SigningKey::generate`]: a token that was bound to it dies with the program.
    #[must_use]
    pub fn new(key: SigningKey, world: &World) -> Self {
        let header = format!(
            r#"{{"typ":"dpop+jwt","alg":"{}","jwk":{}}}"#,
            key.algorithm(),
            key.public_jwk()
        );
        Self {
            shared: Arc::new(Shared {
                header: jws::encode(&header),
                key,
                random: Arc::clone(world.random()),
                issuers: Nonces::default(),
                apis: Nonces::default(),
            }),
            accepts_bearer: false,
        }
    }

    /// Takes a bearer token where the issuer gives one in spite of the proof, and stamps it as such. For
    /// the time in which an issuer is moved to DPoP: whoever gets hold of such a token can use it.
    #[must_use]
    pub fn accepting_bearer(mut self) -> Self {
        self.accepts_bearer = true;
        self
    }

    /// The thumbprint of the key, as the token has it in `cnf.jkt` (RFC 9449 section 6.1).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        self.shared.key.thumbprint()
    }

    /// Watches the answers of the service below for nonces (RFC 9449 section 8.2). It belongs between the
    /// layer that stamps and the client, and costs nothing for requests without a proof.
    pub fn nonces_layer(&self) -> DpopNoncesLayer {
        DpopNoncesLayer::new(self.clone())
    }

    /// Whether an answer refuses the token: 401, except for one that demands a nonce. For the option
    /// `refused` of the layer that stamps.
    #[must_use]
    pub fn refuses_token(status: StatusCode, headers: &HeaderMap) -> bool {
        status == StatusCode::UNAUTHORIZED && !Self::wants_nonce(status, headers)
    }

    /// Whether an answer demands a nonce (RFC 9449 section 9), so that the same request, stamped anew, may
    /// succeed.
    #[must_use]
    pub fn wants_nonce(status: StatusCode, headers: &HeaderMap) -> bool {
        status == StatusCode::UNAUTHORIZED
            && headers
                .get_all(WWW_AUTHENTICATE)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .any(demands_nonce)
    }

    pub(crate) fn accepts_bearer(&self) -> bool {
        self.accepts_bearer
    }

    /// Remembers the nonce in an answer from this origin, and gives it.
    pub(crate) fn learn(
        &self,
        party: Party,
        origin: Origin,
        headers: &HeaderMap,
    ) -> Option<Arc<str>> {
        let mut nonces = headers.get_all(NONCE).iter();
        let (Some(nonce), None) = (nonces.next(), nonces.next()) else {
            // None, or a contradiction.
            return None;
        };
        let nonce = nonce.to_str().ok().filter(|nonce| is_nonce(nonce))?;
        let nonce: Arc<str> = nonce.into();
        self.nonces(party).put(origin, Arc::clone(&nonce));
        Some(nonce)
    }

    pub(crate) fn nonce(&self, party: Party, origin: &Origin) -> Option<Arc<str>> {
        self.nonces(party).get(origin)
    }

    /// A new proof, for the `DPoP` header of one request. `ath` is the hash of the token that goes with
    /// it.
    pub(crate) fn prove(
        &self,
        method: &Method,
        uri: &Uri,
        origin: &Origin,
        ath: Option<&str>,
        nonce: Option<&str>,
        now: SystemTime,
    ) -> Result<HeaderValue, Error> {
        let mut id = [0; 16];
        self.shared.random.fill(&mut id)?;
        let claims = Claims {
            jti: BASE64_URL_SAFE_NO_PAD.encode(id),
            htm: method.as_str(),
            // Without query and fragment (RFC 9449 section 4.2), the host and port as every server
            // writes them.
            htu: format!("{origin}{}", uri.path()),
            iat: unix_seconds(now)?,
            ath,
            nonce,
        };
        let claims = serde_json::to_string(&claims).map_err(|_| not_written())?;
        let key = &self.shared.key;
        let proof = jws::write(&self.shared.header, &claims, |message| key.sign(message))?;
        let mut proof = HeaderValue::try_from(proof).map_err(|_| not_written())?;
        // Together with the token it lets somebody else send the same request once more.
        proof.set_sensitive(true);
        Ok(proof)
    }

    fn nonces(&self, party: Party) -> &Nonces {
        match party {
            Party::Issuer => &self.shared.issuers,
            Party::Api => &self.shared.apis,
        }
    }
}

/// Shows the thumbprint of the key.
impl fmt::Debug for Dpop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dpop")
            .field("algorithm", &self.shared.key.algorithm())
            .field("thumbprint", &self.thumbprint())
            .field("accepts_bearer", &self.accepts_bearer)
            .finish_non_exhaustive()
    }
}

/// `DPoP realm="…", error="use_dpop_nonce"`, in whatever order and among other challenges.
fn demands_nonce(challenge: &str) -> bool {
    challenge
        .split([' ', ','])
        .filter_map(|part| part.trim().strip_prefix("error="))
        .any(|error| error.trim_matches('"') == USE_NONCE)
}

/// The characters of RFC 9449 section 8.1, and not too many of them to be sent back.
fn is_nonce(nonce: &str) -> bool {
    let is_allowed = |c: u8| matches!(c, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    !nonce.is_empty() && nonce.len() <= LONGEST_NONCE && nonce.bytes().all(is_allowed)
}

fn not_written() -> Error {
    Error::new(ErrorKind::Malformed, "no DPoP proof could be written")
}

/// The header of a proof.
pub(crate) const PROOF: HeaderName = HeaderName::from_static("dpop");
/// The error that demands a nonce (RFC 9449 section 8).
pub(crate) const USE_NONCE: &str = "use_dpop_nonce";
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
const LONGEST_NONCE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_for_a_nonce_is_found_among_other_challenges() {
        for (challenge, expected) in [
            (r#"DPoP error="use_dpop_nonce""#, true),
            (
                r#"DPoP realm="a b", error="use_dpop_nonce", algs="ES256""#,
                true,
            ),
            (r#"Bearer realm="x", DPoP error=use_dpop_nonce"#, true),
            (r#"DPoP error="invalid_token""#, false),
            (r#"DPoP error_description="use_dpop_nonce""#, false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(
                WWW_AUTHENTICATE,
                HeaderValue::from_str(challenge).unwrap(),
            )]);
            let (yes, no) = (StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN);
            assert_eq!(Dpop::wants_nonce(yes, &headers), expected, "{challenge}");
            assert_eq!(Dpop::refuses_token(yes, &headers), !expected, "{challenge}");
            assert!(!Dpop::wants_nonce(no, &headers) && !Dpop::refuses_token(no, &headers));
        }
    }

    #[test]
    fn what_is_no_nonce_is_not_taken() {
        assert!(is_nonce("eyJ7S_zG.eyJH0-Z.HX4w-7v"));
        for text in ["", "a b", "a\"b", "a\\b", "é", &"a".repeat(1025)] {
            assert!(!is_nonce(text), "{text}");
        }
    }
}
