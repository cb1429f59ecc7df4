//! An API that lets nobody in without a token that its issuer signed and that has not expired.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_auth_core::BoxError;

use crate::harness::get;

/// The API, on a free port of the loopback interface until it is dropped.
#[derive(Debug)]
pub(crate) struct Api {
    url: String,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

/// What the API was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// How many requests it let in.
    pub(crate) accepted: usize,
    /// The ids of the tokens it let in.
    pub(crate) tokens: BTreeSet<String>,
    /// Why it refused the others.
    pub(crate) refused: Vec<String>,
}

struct Guard {
    keys: JwkSet,
    validation: Validation,
}

impl Api {
    /// Starts it with the keys that the issuer publishes now.
    pub(crate) async fn start(
        issuer: &str,
        jwks_uri: &str,
        audience: &str,
    ) -> Result<Self, BoxError> {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = 0;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let guard = Arc::new(Guard {
            keys: serde_json::from_slice(&get(jwks_uri).await?.body)?,
            validation,
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let seen = Arc::<Mutex<Seen>>::default();
        let task = tokio::spawn(serve(listener, guard, Arc::clone(&seen)));
        Ok(Self { url, seen, task })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked until now.
    pub(crate) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, guard: Arc<Guard>, seen: Arc<Mutex<Seen>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (guard, seen) = (Arc::clone(&guard), Arc::clone(&seen));
        let service = service_fn(move |request: Request<Incoming>| {
            let response = answer(&guard, &seen, request.headers());
            async { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn answer(guard: &Guard, seen: &Mutex<Seen>, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let verdict = guard.token_id(headers);
    let mut seen = lock(seen);
    let mut response = Response::new(Full::default());
    match verdict {
        Ok(id) => {
            seen.accepted += 1;
            seen.tokens.insert(id);
        }
        Err(reason) => {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            seen.refused.push(reason);
        }
    }
    response
}

impl Guard {
    /// The `jti` of the bearer token, or why it is not good.
    fn token_id(&self, headers: &HeaderMap) -> Result<String, String> {
        let token = headers
            .get(header::AUTHORIZATION)
            .ok_or("no Authorization")?
            .to_str()
            .ok()
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or("not a Bearer token")?;
        let kid = decode_header(token)
            .map_err(|error| error.to_string())?
            .kid
            .ok_or("no kid")?;
        let key = self.keys.find(&kid).ok_or("no such key")?;
        let key = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
        let claims = decode::<serde_json::Value>(token, &key, &self.validation)
            .map_err(|error| error.to_string())?
            .claims;
        let id = claims
            .get("jti")
            .and_then(|id| id.as_str())
            .ok_or("no jti")?;
        Ok(id.to_owned())
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
