use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::sync::watch;
use tower_auth::{BoxError, Secret};

use crate::server::Server;
use crate::tokens::{Signer, Verifier};

/// An OAuth token endpoint that grants `client_credentials` (RFC 6749 section 4.4) to one client,
/// with its secret in a Basic header or in the form.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_auth::BoxError> {
/// use std::time::Duration;
/// use tower_auth_examples::{Api, Issuer};
///
/// let issuer = Issuer::start(Duration::from_secs(60)).await?;
/// let api = Api::start(issuer.verifier()).await?;
/// println!("tokens at {}, orders at {}", issuer.token_url(), api.url());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Issuer {
    state: Arc<State>,
    server: Server,
}

/// What an [`Issuer`] has seen so far.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Ledger {
    /// Tokens it has issued.
    pub issued: u64,
    /// Requests it has dropped without an answer while it was down.
    pub dropped: u64,
    /// Requests whose client or grant it has refused.
    pub refused: u64,
    /// Requests that are being answered.
    pub in_flight: u64,
    /// The most requests it has ever answered at the same time.
    pub max_in_flight: u64,
    /// Whether it is down.
    pub down: bool,
}

struct State {
    signer: Signer,
    client_secret: Secret,
    lifetime: Duration,
    ledger: watch::Sender<Ledger>,
}

impl Issuer {
    /// Starts one on a free loopback port. Its tokens live for `lifetime`, in whole seconds as
    /// `expires_in` is. The signing key and the client's secret are made up at this moment.
    ///
    /// # Errors
    /// If no port is free or the system has no randomness.
    pub async fn start(lifetime: Duration) -> Result<Self, BoxError> {
        let secret: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(32)
            .collect();
        let state = Arc::new(State {
            signer: Signer::generate()?,
            client_secret: Secret::new(secret),
            lifetime: Duration::from_secs(lifetime.as_secs()),
            ledger: watch::Sender::default(),
        });
        let service = {
            let state = Arc::clone(&state);
            service_fn(move |request| Arc::clone(&state).answer(request))
        };
        let server = Server::start(service).await?;
        Ok(Self { state, server })
    }

    /// The token endpoint.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("http://{}/token", self.server.address())
    }

    /// The one client's id.
    #[must_use]
    pub fn client_id(&self) -> &'static str {
        CLIENT_ID
    }

    /// The one client's secret.
    #[must_use]
    pub fn client_secret(&self) -> Secret {
        self.state.client_secret.clone()
    }

    /// One token without any ceremony, as a broker within the same program would hand it out.
    ///
    /// # Errors
    /// If it could not be signed.
    pub fn token(&self) -> Result<Secret, BoxError> {
        self.state.sign().map(Secret::new)
    }

    /// What an API needs to check its tokens.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        self.state.signer.verifier().clone()
    }

    /// From here on connections are closed without an answer.
    pub fn take_down(&self) {
        self.state.ledger.send_modify(|ledger| ledger.down = true);
    }

    /// Ends what [`take_down`](Self::take_down) began.
    pub fn bring_up(&self) {
        self.state.ledger.send_modify(|ledger| ledger.down = false);
    }

    /// Puts the `nth` token, counted from 1, on the revocation list of every
    /// [`verifier`](Self::verifier).
    pub fn revoke(&self, nth: u64) {
        self.state.signer.verifier().revoke(nth.to_string());
    }

    /// What it has seen so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.state.ledger.borrow().clone()
    }

    /// Waits until its account satisfies the condition.
    pub async fn wait_until(&self, condition: impl FnMut(&Ledger) -> bool + Send) {
        // The sender lives as long as `self`, so the channel cannot be closed.
        let _ = self.state.ledger.subscribe().wait_for(condition).await;
    }
}

impl State {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, BoxError> {
        let _presence = Presence::enter(&self.ledger);
        // Long enough that callers who each fetch for themselves are caught at it.
        tokio::time::sleep(LATENCY).await;
        if self.ledger.borrow().down {
            self.ledger.send_modify(|ledger| ledger.dropped += 1);
            return Err("the issuer is down".into());
        }
        let (head, body) = request.into_parts();
        if head.method != Method::POST || head.uri.path() != "/token" {
            return respond(StatusCode::NOT_FOUND, &serde_json::json!({}));
        }
        let body = Limited::new(body, MAX_FORM).collect().await?.to_bytes();
        let form = Form::parse(&body);
        if !self.knows(&head.headers, &form) {
            self.ledger.send_modify(|ledger| ledger.refused += 1);
            let error = serde_json::json!({ "error": "invalid_client" });
            let mut response = respond(StatusCode::UNAUTHORIZED, &error)?;
            let challenge = http::HeaderValue::from_static("Basic realm=\"issuer\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            return Ok(response);
        }
        if form.get("grant_type") != Some("client_credentials") {
            self.ledger.send_modify(|ledger| ledger.refused += 1);
            let error = serde_json::json!({ "error": "unsupported_grant_type" });
            return respond(StatusCode::BAD_REQUEST, &error);
        }
        self.issue()
    }

    fn issue(&self) -> Result<Response<Full<Bytes>>, BoxError> {
        let token = self.sign()?;
        respond(
            StatusCode::OK,
            &serde_json::json!({
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": self.lifetime.as_secs(),
            }),
        )
    }

    fn sign(&self) -> Result<String, BoxError> {
        let mut nth = 0;
        self.ledger.send_modify(|ledger| {
            ledger.issued += 1;
            nth = ledger.issued;
        });
        self.signer.sign(CLIENT_ID, nth.to_string(), self.lifetime)
    }

    /// `client_secret_basic` or `client_secret_post`, RFC 6749 section 2.3.1.
    fn knows(&self, headers: &HeaderMap, form: &Form) -> bool {
        let secret = self.client_secret.expose();
        if let Some((id, given)) = basic_credentials(headers) {
            return id == CLIENT_ID && given == secret;
        }
        form.get("client_id") == Some(CLIENT_ID) && form.get("client_secret") == Some(secret)
    }
}

/// One request's share in [`Ledger::in_flight`], given back however the request ends.
struct Presence<'a>(&'a watch::Sender<Ledger>);

impl<'a> Presence<'a> {
    fn enter(ledger: &'a watch::Sender<Ledger>) -> Self {
        ledger.send_modify(|ledger| {
            ledger.in_flight += 1;
            ledger.max_in_flight = ledger.max_in_flight.max(ledger.in_flight);
        });
        Self(ledger)
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|ledger| ledger.in_flight -= 1);
    }
}

struct Form(Vec<(String, String)>);

impl Form {
    fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }
}

/// Id and secret are form-encoded before they are joined, so that either may hold a colon.
fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let joined = BASE64_STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    let joined = String::from_utf8(joined).ok()?;
    let (id, secret) = joined.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

fn form_decoded(text: &str) -> Option<String> {
    let (decoded, _) = form_urlencoded::parse(text.as_bytes()).next()?;
    Some(decoded.into_owned())
}

fn respond(
    status: StatusCode,
    body: &serde_json::Value,
) -> Result<Response<Full<Bytes>>, BoxError> {
    Ok(Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json")
        .header(CACHE_CONTROL, "no-store")
        .body(Full::from(body.to_string()))?)
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("lifetime", &self.lifetime)
            .field("ledger", &*self.ledger.borrow())
            .finish_non_exhaustive()
    }
}

const CLIENT_ID: &str = "quickstart";
const LATENCY: Duration = Duration::from_millis(20);
const MAX_FORM: usize = 64 * 1024;
