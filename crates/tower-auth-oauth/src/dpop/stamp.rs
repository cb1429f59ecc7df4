use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request};
use tower_auth_core::{Error, ErrorKind, Origin, Stamp, StampContext, Stamped, Token};

use super::{Dpop, PROOF, Party};
use crate::form;

/// A token that is ready to be stamped, with its hash.
pub struct PreparedDpop {
    authorization: HeaderValue,
    /// `None` for a bearer token, which goes without a proof.
    ath: Option<String>,
}

/// Stamps `Authorization: DPoP …` and, made anew for each request, `DPoP: …` (RFC 9449 section 7.1).
impl Stamp for Dpop {
    type Credential = Token;
    type Prepared = PreparedDpop;

    fn prepare(&self, token: &Token) -> Result<PreparedDpop, Error> {
        let scheme = token.placement().scheme().unwrap_or_default();
        let is_bound = scheme.eq_ignore_ascii_case("DPoP");
        let is_bearer = scheme.eq_ignore_ascii_case("Bearer");
        if *token.placement().name() != AUTHORIZATION || !(is_bound || is_bearer) {
            return Err(malformed("the token is not one for Authorization: DPoP"));
        }
        if is_bearer && !self.accepts_bearer() {
            return Err(malformed(
                "the token is a Bearer token, it is not bound to the key of the DPoP proofs",
            ));
        }
        if !token.headers().is_empty() {
            return Err(malformed(
                "the token brings further headers, which are not stamped with DPoP",
            ));
        }
        let text = token.secret().expose();
        if !is_token68(text) {
            return Err(malformed(
                "the token for the authorization header has a character that no token may have",
            ));
        }
        let scheme = if is_bound { "DPoP " } else { "Bearer " };
        let mut authorization = String::with_capacity(scheme.len() + text.len());
        authorization.push_str(scheme);
        authorization.push_str(text);
        let mut authorization = HeaderValue::from_maybe_shared(form::wiped(authorization))
            .map_err(|_| malformed("the token cannot be in a header"))?;
        authorization.set_sensitive(true);
        Ok(PreparedDpop {
            authorization,
            ath: is_bound.then(|| BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))),
        })
    }

    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the request does not say where it goes: the proof
    /// is for a URL.
    fn stamp<B>(
        &self,
        prepared: &PreparedDpop,
        request: &mut Request<B>,
        cx: &StampContext<'_>,
    ) -> Result<Stamped, Error> {
        let headers = request.headers();
        if headers.contains_key(AUTHORIZATION) || headers.contains_key(PROOF) {
            return Ok(Stamped::Occupied);
        }
        let proof = match &prepared.ath {
            Some(ath) => {
                let origin = Origin::of(request.uri()).map_err(|_| no_url())?;
                let nonce = self.nonce(Party::Api, &origin);
                Some(self.prove(
                    request.method(),
                    request.uri(),
                    &origin,
                    Some(ath),
                    nonce.as_deref(),
                    cx.now(),
                )?)
            }
            None => None,
        };
        let headers = request.headers_mut();
        if let Some(proof) = proof {
            headers.try_insert(PROOF, proof).map_err(|_| full())?;
        }
        headers
            .try_insert(AUTHORIZATION, prepared.authorization.clone())
            .map_err(|_| full())?;
        Ok(Stamped::Done)
    }

    fn present<'r>(&self, _: &PreparedDpop, headers: &'r HeaderMap) -> Option<&'r HeaderValue> {
        headers.get(AUTHORIZATION).or_else(|| headers.get(PROOF))
    }

    fn clear(&self, _: &PreparedDpop, headers: &mut HeaderMap) {
        headers.remove(AUTHORIZATION);
        headers.remove(PROOF);
    }
}

/// Shows nothing of the token.
impl fmt::Debug for PreparedDpop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedDpop")
            .field("is_bound", &self.ath.is_some())
            .finish_non_exhaustive()
    }
}

/// RFC 9110 section 11.2.
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b"-._~+/".contains(&c);
    !body.is_empty() && body.bytes().all(is_allowed)
}

fn no_url() -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        "a request without scheme and host cannot have a DPoP proof, which is for a URL",
    )
}

fn full() -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        "the request has too many headers for another one",
    )
}

fn malformed(message: &'static str) -> Error {
    Error::new(ErrorKind::Malformed, message)
}
