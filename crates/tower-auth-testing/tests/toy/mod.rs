//! A small client-credentials source, right in everything that the suite asks, and its harness; or wrong in one chosen way.

use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::Value;
use tower_auth_core::{Description, Error, ErrorKind, Fetch, Secret, Token, TokenSource};
use tower_auth_io::Transport;
use tower_auth_testing::conformance::{Harness, RotationCheck, World};
use tower_auth_testing::{Canary, Reply};

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    CachesInside,
    RetriesInside,
    FollowsRedirects,
    ShowsItsSecretInDebug,
    ShowsTheBodyInErrors,
    LogsTheRequest,
    SendsThePlainHeader,
    SendsTheSecretInTheUrl,
    LosesItsPlaceWhenDropped,
    KeepsTheFirstSecret,
    TakesServerErrorsForRefusals,
    TakesRefusalsForOutages,
    DropsRetryAfter,
    PanicsOnGarbage,
    SaysNothingOfExpiry,
    HasNoName,
}

/// The source, with its secret where a rotation can reach it.
pub(crate) struct ClientCredentials {
    transport: Transport,
    secret: Arc<RwLock<Canary>>,
    first: Canary,
    flaw: Option<Flaw>,
    kept: Mutex<Option<Token>>,
    is_busy: Mutex<bool>,
}

pub(crate) struct ToyHarness {
    pub(crate) secret: Arc<RwLock<Canary>>,
    pub(crate) flaw: Option<Flaw>,
}

impl ToyHarness {
    pub(crate) fn new(flaw: Option<Flaw>) -> Self {
        Self {
            secret: Arc::new(RwLock::new(Canary::new("client-secret"))),
            flaw,
        }
    }
}

impl Harness for ToyHarness {
    type Credential = Token;
    type Source = ClientCredentials;

    fn source(&self, world: &World) -> ClientCredentials {
        ClientCredentials {
            transport: world.transport(),
            secret: Arc::clone(&self.secret),
            first: self.secret.read().unwrap().clone(),
            flaw: self.flaw,
            kept: Mutex::new(None),
            is_busy: Mutex::new(false),
        }
    }

    fn answer(&self, _: &Request<Bytes>, nth: usize) -> Reply {
        let token = Canary::new(format!("access-token-{nth}"));
        Reply::json(format!(
            r#"{{"access_token":"{}","token_type":"Bearer","expires_in":3600}}"#,
            token.text()
        ))
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![Canary::new("client-secret"), Canary::new("replaced-secret")]
    }

    fn rotate(&self, _: &World) -> Option<RotationCheck> {
        let replaced = Canary::new("replaced-secret");
        *self.secret.write().unwrap() = replaced.clone();
        Some(Box::new(move |requests| {
            assert!(
                requests
                    .iter()
                    .all(|request| replaced.is_in_request(request))
            );
        }))
    }
}

impl ClientCredentials {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn request(&self, secret: &Canary) -> Request<Bytes> {
        let basic = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            format!("client:{}", secret.text()),
        );
        let mut value = HeaderValue::try_from(format!("Basic {basic}")).unwrap();
        value.set_sensitive(!self.has(Flaw::SendsThePlainHeader));
        let uri = if self.has(Flaw::SendsTheSecretInTheUrl) {
            format!("https://issuer.test/token?client_secret={}", secret.text())
        } else {
            "https://issuer.test/token".to_owned()
        };
        let mut request = Request::post(uri)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from("grant_type=client_credentials"))
            .unwrap();
        request.headers_mut().insert(AUTHORIZATION, value);
        request
    }

    async fn exchange(&self, secret: &Canary) -> Result<Token, Error> {
        let request = self.request(secret);
        if self.has(Flaw::LogsTheRequest) {
            tracing::trace!(headers = ?request.headers()[AUTHORIZATION].as_bytes(), "sending");
        }
        let basic = Secret::from(request.headers()[AUTHORIZATION].to_str().unwrap());
        let uri = request.uri().clone();
        let answer = self.transport.send(request).await?;
        let error = match self.read(&answer, secret, &basic) {
            Ok(token) => return Ok(token),
            Err(error) => error,
        };
        if self.has(Flaw::FollowsRedirects) && answer.status() == 302 {
            let mut again = self.request(secret);
            *again.uri_mut() = "https://elsewhere.test/elsewhere".parse().unwrap();
            self.transport.send(again).await?;
        }
        Err(error.with_endpoint(&uri).with_status(answer.status()))
    }

    fn read(
        &self,
        answer: &Response<Bytes>,
        secret: &Canary,
        basic: &Secret,
    ) -> Result<Token, Error> {
        let document: Value = match serde_json::from_slice(answer.body()) {
            Ok(document) => document,
            Err(_) if self.has(Flaw::PanicsOnGarbage) => panic!("not JSON"),
            Err(_) => Value::Null,
        };
        let status = answer.status();
        if status.is_redirection() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the endpoint answered with a redirect",
            ));
        }
        if matches!(status.as_u16(), 408 | 425 | 429 | 500..) {
            let kind = if self.has(Flaw::TakesServerErrorsForRefusals) {
                ErrorKind::Denied
            } else {
                ErrorKind::Unavailable
            };
            let error = Error::new(kind, "the issuer cannot answer now");
            return Err(match retry_after(answer.headers()) {
                Some(delay) if !self.has(Flaw::DropsRetryAfter) => error.with_retry_after(delay),
                _ => error,
            });
        }
        if !status.is_success() {
            let kind = if self.has(Flaw::TakesRefusalsForOutages) {
                ErrorKind::Unavailable
            } else {
                ErrorKind::Denied
            };
            let mut error = Error::new(kind, "the issuer refused the client");
            if self.has(Flaw::ShowsTheBodyInErrors) {
                let body = String::from_utf8_lossy(answer.body()).into_owned();
                return Err(error.with_cause(body));
            }
            let (plain, secrets) = (secret.secret(), |text: &str| {
                let bare = Secret::from(basic.expose().trim_start_matches("Basic "));
                tower_auth_core::redact(text, &[&secret.secret(), &bare])
            });
            if let Some(code) = document["error"].as_str() {
                error = error.with_code(&secrets(code));
            }
            if let Some(said) = document["error_description"].as_str() {
                error = error.with_description(&secrets(said), &[&plain]);
            }
            return Err(error);
        }
        let malformed = |what| Error::new(ErrorKind::Malformed, what);
        let token = document["access_token"].as_str();
        let token = token.ok_or_else(|| malformed("access_token is not a string"))?;
        let lifetime = document["expires_in"].as_u64();
        let lifetime = lifetime.ok_or_else(|| malformed("expires_in is not a number"))?;
        let token = Token::bearer(token);
        if self.has(Flaw::SaysNothingOfExpiry) {
            return Ok(token.never_expires());
        }
        Ok(token.expires_in(Duration::from_secs(lifetime)))
    }
}

impl TokenSource for ClientCredentials {
    async fn fetch(&self, _: &Fetch) -> Result<Token, Error> {
        let kept = self.kept.lock().unwrap().clone();
        if let Some(token) = kept.filter(|_| self.has(Flaw::CachesInside)) {
            return Ok(token);
        }
        if self.has(Flaw::LosesItsPlaceWhenDropped)
            && std::mem::replace(&mut *self.is_busy.lock().unwrap(), true)
        {
            return Err(Error::new(ErrorKind::Overloaded, "busy").or_source("toy"));
        }
        let secret = if self.has(Flaw::KeepsTheFirstSecret) {
            self.first.clone()
        } else {
            self.secret.read().unwrap().clone()
        };
        let mut result = self.exchange(&secret).await;
        if self.has(Flaw::RetriesInside) && result.is_err() {
            result = self.exchange(&secret).await;
        }
        *self.is_busy.lock().unwrap() = false;
        *self.kept.lock().unwrap() = result.as_ref().ok().cloned();
        result.map_err(|error| {
            if self.has(Flaw::HasNoName) {
                error
            } else {
                error.or_source("toy client credentials")
            }
        })
    }

    fn describe(&self) -> Description {
        let name = if self.has(Flaw::HasNoName) {
            ""
        } else {
            "toy client credentials"
        };
        Description::new(name).with_setting("secret", "an argument")
    }
}

impl std::fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ClientCredentials");
        if self.has(Flaw::ShowsItsSecretInDebug) {
            shown.field("secret", &self.first.text());
        }
        shown.finish_non_exhaustive()
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now: SystemTime = date(headers.get(DATE)?.to_str().ok()?)?;
    date(value)?.duration_since(now).ok()
}
