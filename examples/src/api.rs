use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tower_auth::BoxError;

use crate::server::Server;
use crate::tokens::{Refusal, Verifier};

/// An HTTP API that verifies the token of every request: signature, issuer, audience, expiry and the
/// revocation list. It answers 200, or 401 with a `WWW-Authenticate` challenge (RFC 6750 section 3).
#[derive(Debug)]
pub struct Api {
    state: Arc<State>,
    server: Server,
}

/// What an [`Api`] has seen so far, by its own account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// Requests whose token was good.
    pub accepted: u64,
    /// Requests whose token had expired when they arrived.
    pub expired: u64,
    /// Requests whose token was revoked.
    pub revoked: u64,
    /// Requests whose token was not one of the issuer's.
    pub invalid: u64,
    /// Requests without a token.
    pub without: u64,
}

#[derive(Debug)]
struct State {
    verifier: Verifier,
    accepted: AtomicU64,
    expired: AtomicU64,
    revoked: AtomicU64,
    invalid: AtomicU64,
    without: AtomicU64,
}

impl Api {
    /// Starts one on a free loopback port, which accepts the tokens of one issuer.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(verifier: Verifier) -> Result<Self, BoxError> {
        let state = Arc::new(State {
            verifier,
            accepted: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            invalid: AtomicU64::new(0),
            without: AtomicU64::new(0),
        });
        let service = {
            let state = Arc::clone(&state);
            service_fn(move |request: Request<Incoming>| {
                let response = state.answer(request.headers());
                async { response }
            })
        };
        let server = Server::start(service).await?;
        Ok(Self { state, server })
    }

    /// Something to ask for.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/orders", self.server.address())
    }

    /// What it has seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let state = &self.state;
        Seen {
            accepted: state.accepted.load(Ordering::Relaxed),
            expired: state.expired.load(Ordering::Relaxed),
            revoked: state.revoked.load(Ordering::Relaxed),
            invalid: state.invalid.load(Ordering::Relaxed),
            without: state.without.load(Ordering::Relaxed),
        }
    }
}

impl Seen {
    /// Requests answered with 401.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.expired + self.revoked + self.invalid + self.without
    }
}

impl State {
    fn answer(&self, headers: &HeaderMap) -> Result<Response<Full<Bytes>>, BoxError> {
        let Some(token) = bearer_token(headers) else {
            self.without.fetch_add(1, Ordering::Relaxed);
            // RFC 6750 section 3.1: no error code for a request without a token.
            return unauthorized("Bearer realm=\"orders\"");
        };
        let Err(refusal) = self.verifier.verify(token) else {
            self.accepted.fetch_add(1, Ordering::Relaxed);
            return Ok(Response::builder()
                .header(CONTENT_TYPE, "application/json")
                .body(Full::from(r#"{"orders":[1,2,3]}"#))?);
        };
        let count = match refusal {
            Refusal::Invalid => &self.invalid,
            Refusal::Expired => &self.expired,
            Refusal::Revoked => &self.revoked,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let reason = refusal.as_str();
        unauthorized(&format!(
            r#"Bearer realm="orders", error="invalid_token", error_description="{reason}""#
        ))
    }
}

pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token)
}

fn unauthorized(challenge: &str) -> Result<Response<Full<Bytes>>, BoxError> {
    Ok(Response::builder()
        .status(StatusCode::UNAUTHORIZED)
        .header(WWW_AUTHENTICATE, challenge)
        .body(Full::default())?)
}
