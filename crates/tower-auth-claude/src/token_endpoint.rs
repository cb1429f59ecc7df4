use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, Request, Response};
use serde::Serialize;
use tower_auth_core::{Error, ErrorKind, Expiry, Secret, Token};
use tower_auth_io::{EndpointUrl, World};
use tower_auth_oauth::{Refusal, ResponseReader, TokenResponse};
use zeroize::Zeroizing;

use crate::text;

/// `POST {base}/v1/oauth/token`, for either grant.
#[derive(Clone, Debug)]
pub(crate) struct TokenEndpoint {
    url: EndpointUrl,
    world: World,
    reader: ResponseReader,
}

impl TokenEndpoint {
    pub(crate) fn new(url: EndpointUrl, world: &World) -> Self {
        Self {
            url,
            world: world.clone(),
            reader: ResponseReader::new().with_vendor_errors(api_errors),
        }
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Sends one request and gives the answer as it came.
    pub(crate) async fn send(
        &self,
        body: &(impl Serialize + Sync),
        beta: &str,
    ) -> Result<Response<Bytes>, Error> {
        let unsendable = || {
            Error::new(
                ErrorKind::InvalidConfig,
                "no request can be made for the token endpoint",
            )
            .with_endpoint(self.url.uri())
        };
        let body = Zeroizing::new(serde_json::to_vec(body).map_err(|_| unsendable())?);
        let request = Request::post(self.url.uri().clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, AGENT)
            .header(ANTHROPIC_BETA, beta)
            .body(Bytes::from_owner(body))
            .map_err(|_| unsendable())?;
        let response = self.world.transport().send(request).await?;
        if response.body().len() > MAX_ANSWER {
            return Err(
                Error::new(ErrorKind::Malformed, "the answer is larger than 1 MiB")
                    .with_endpoint(self.url.uri())
                    .with_status(response.status()),
            );
        }
        Ok(response)
    }

    /// The token in an answer, as it is stamped. `sent` are the secrets that were in the request.
    pub(crate) fn read(
        &self,
        response: Response<Bytes>,
        sent: &[&Secret],
    ) -> Result<Answer, Error> {
        let status = response.status();
        self.reader
            .read(response, sent, self.world.clock().now())
            .and_then(Answer::check)
            .map_err(|error| {
                let error = error.with_endpoint(self.url.uri());
                if error.status().is_some() {
                    error
                } else {
                    error.with_status(status)
                }
            })
    }

    /// An error about an answer that could be read and is not what was asked for.
    pub(crate) fn malformed(&self, what: &'static str) -> Error {
        Error::new(ErrorKind::Malformed, what).with_endpoint(self.url.uri())
    }
}

/// A token that can be stamped, and what the endpoint said of its life.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) token: Token,
    /// `None` if it did not say.
    pub(crate) expiry: Option<Expiry>,
}

impl Answer {
    fn check(response: TokenResponse) -> Result<Self, Error> {
        let expiry = response.expiry();
        if matches!(expiry, Some(Expiry::In(lifetime)) if lifetime.as_secs() > LONGEST_LIFETIME) {
            return Err(Error::new(
                ErrorKind::Malformed,
                "expires_in is more than ten years, which no token of this API lives",
            ));
        }
        if let Some((position, what)) = text::first_flaw(response.access_token().expose()) {
            return Err(Error::new(
                ErrorKind::Malformed,
                format!(
                    "access_token has {what} at character {position}, which no header can carry"
                ),
            ));
        }
        let token = response.into_token(Token::DEFAULT_LIFETIME)?.with_header(
            ANTHROPIC_BETA,
            OAUTH_BETA,
            tower_auth_core::HeaderMode::MergeList,
        );
        Ok(Self { token, expiry })
    }
}

/// The API's own shape of an error, besides that of RFC 6749:
/// `{"type":"error","error":{"type":…,"message":…},"request_id":…}`.
fn api_errors(refusal: &Refusal<'_>, mut error: Error) -> Error {
    if let Some(code) = refusal.text("/error/type") {
        error = error.with_code(&code);
    }
    if let Some(message) = refusal.text("/error/message") {
        error = error.with_description(&message, refusal.secrets());
    }
    let id = refusal
        .headers()
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .map(|id| tower_auth_core::redact(id, refusal.secrets()))
        .or_else(|| refusal.text("/request_id"));
    match id {
        Some(id) => error.with_correlation(&id),
        None => error,
    }
}

/// What goes with a token that was obtained here.
pub(crate) const OAUTH_BETA: &str = "oauth-2025-04-20";
pub(crate) const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const AGENT: &str = concat!("tower-auth-claude/", env!("CARGO_PKG_VERSION"));
const MAX_ANSWER: usize = 1024 * 1024;
const LONGEST_LIFETIME: u64 = 10 * 365 * 24 * 60 * 60;
