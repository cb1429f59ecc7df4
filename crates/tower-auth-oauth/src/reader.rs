use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, LOCATION};
use http::{HeaderMap, Response, StatusCode, Uri};
use serde_json::Value;
use tower_auth_core::{Error, ErrorKind, Secret, redact};
use zeroize::Zeroize;

use crate::response::{self, Body};
use crate::{BasicEncoding, TokenResponse};

/// Reads what a token endpoint answers: generous with what is merely unusual, and never in doubt whether
/// it was a token.
///
/// Errors follow RFC 6749 section 5.2. An issuer that says more, or says it otherwise, is served by
/// [`with_vendor_errors`](Self::with_vendor_errors).
///
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use tower_auth_core::{ErrorKind, Secret};
/// use tower_auth_oauth::ResponseReader;
///
/// let reader = ResponseReader::new().with_vendor_errors(|refusal, error| {
///     match refusal.text("/errorSummary") {
///         Some(summary) => error.with_description(&summary, refusal.secrets()),
///         None => error,
///     }
/// });
/// let answer = Response::builder()
///     .status(403)
///     .body(Bytes::from(r#"{"errorSummary":"no rule admits s3cr3t"}"#))
///     .unwrap();
/// # let now = std::time::SystemTime::UNIX_EPOCH;
/// let error = reader.read(answer, &[&Secret::from("s3cr3t")], now).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Denied);
/// assert_eq!(error.description(), Some("no rule admits […]"));
/// ```
#[derive(Clone, Default)]
pub struct ResponseReader {
    vendor: Option<Arc<VendorErrors>>,
}

type VendorErrors = dyn Fn(&Refusal<'_>, Error) -> Error + Send + Sync;

impl ResponseReader {
    /// A reader that knows what the RFCs say.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the integration of an issuer look at every answer that is no token, redirects excepted, and
    /// at the [`Error`] that was made of it; what it returns is what the caller gets.
    #[must_use]
    pub fn with_vendor_errors(
        mut self,
        enrich: impl Fn(&Refusal<'_>, Error) -> Error + Send + Sync + 'static,
    ) -> Self {
        self.vendor = Some(Arc::new(enrich));
        self
    }

    /// Reads an answer. `sent` are the secrets that were in the request: an issuer may quote them in its
    /// error, and they are removed. `now` counts only where an answer asks to be left alone until a date and
    /// has no `Date` of its own. The body is wiped if nobody else holds it.
    ///
    /// # Errors
    /// - [`Denied`](ErrorKind::Denied): the issuer said no.
    /// - [`Unavailable`](ErrorKind::Unavailable): it could not answer (408, 425, 5xx, an empty answer,
    ///   `temporarily_unavailable`, `server_error`) or wants fewer requests (429, `slow_down`), with
    ///   [`retry_after`](Error::retry_after) where it said so.
    /// - [`Malformed`](ErrorKind::Malformed): the answer is no answer of a token endpoint: a redirect, a
    ///   page of HTML, a token that is missing, blank or expired.
    pub fn read(
        &self,
        response: Response<Bytes>,
        sent: &[&Secret],
        now: SystemTime,
    ) -> Result<TokenResponse, Error> {
        self.read_with_hint(response, sent, now, None)
    }

    /// As [`read`](Self::read). `try_encoding` is mentioned where the issuer does not accept the client.
    pub(crate) fn read_with_hint(
        &self,
        response: Response<Bytes>,
        sent: &[&Secret],
        now: SystemTime,
        try_encoding: Option<BasicEncoding>,
    ) -> Result<TokenResponse, Error> {
        let (parts, body) = response.into_parts();
        let (status, headers) = (parts.status, &parts.headers);
        let outcome = if status.is_redirection() {
            Err(redirected(headers, sent))
        } else {
            let read = if status.is_success() {
                read_success(headers, &body)
            } else {
                Err(None)
            };
            read.map_err(|error| {
                let refusal = Refusal::new(status, headers, &body, sent);
                let error = error.unwrap_or_else(|| refusal.classify(try_encoding));
                let error = refusal.add_facts(error, now);
                match &self.vendor {
                    Some(enrich) => enrich(&refusal, error),
                    None => error,
                }
            })
        };
        wipe(body);
        outcome.map_err(|error| error.with_status(status))
    }
}

impl fmt::Debug for ResponseReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseReader")
            .field("vendor_errors", &self.vendor.is_some())
            .finish()
    }
}

/// An answer that is no token, as an integration of an issuer sees it.
pub struct Refusal<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    body: Value,
    /// What the body is, in words.
    content: String,
    secrets: &'a [&'a Secret],
}

impl<'a> Refusal<'a> {
    fn new(
        status: StatusCode,
        headers: &'a HeaderMap,
        body: &[u8],
        secrets: &'a [&'a Secret],
    ) -> Self {
        Self {
            status,
            headers,
            // The parser stops at a depth of 128, so it cannot be made to overflow the stack.
            body: serde_json::from_slice(body).unwrap_or(Value::Null),
            content: content(headers, body),
            secrets,
        }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers of the answer.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.headers
    }

    /// The secrets that were sent, for [`Error::with_description`].
    #[must_use]
    pub fn secrets(&self) -> &[&'a Secret] {
        self.secrets
    }

    /// The string, number or boolean at this place (RFC 6901: `/error_codes/0`) of an answer in JSON,
    /// after [`redact`] has been over it.
    #[must_use]
    pub fn text(&self, pointer: &str) -> Option<String> {
        let text = match self.body.pointer(pointer)? {
            Value::String(text) => redact(text, self.secrets),
            Value::Number(number) => redact(&number.to_string(), self.secrets),
            Value::Bool(truth) => truth.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    fn classify(&self, try_encoding: Option<BasicEncoding>) -> Error {
        let code = self.text("/error");
        let (kind, message) = judge(self.status, code.as_deref());
        let client_refused = code.as_deref() == Some("invalid_client")
            || (code.is_none() && self.status == StatusCode::UNAUTHORIZED);
        if let (true, Some(encoding)) = (client_refused, try_encoding) {
            return Error::new(
                kind,
                format!(
                    "{message}; the id or secret has characters that servers decode in two ways, \
                     try BasicEncoding::{encoding:?}"
                ),
            );
        }
        if self.body.is_object() {
            Error::new(kind, message)
        } else {
            Error::new(kind, format!("{message}; the answer was {}", self.content))
        }
    }

    /// What the issuer said, for any error about its answer.
    fn add_facts(&self, mut error: Error, now: SystemTime) -> Error {
        if let Some(code) = self.text("/error") {
            error = error.with_code(&code);
        }
        if let Some(Value::String(text)) = self.body.get("error_description") {
            error = error.with_description(text, self.secrets);
        }
        let correlation = CORRELATION_HEADERS
            .iter()
            .find_map(|name| self.headers.get(*name)?.to_str().ok());
        if let Some(id) = correlation {
            error = error.with_correlation(&redact(id, self.secrets));
        }
        if let Some(delay) = retry_after(self.headers, now) {
            error = error.with_retry_after(delay);
        }
        error
    }
}

/// Shows the status only: the rest is the issuer's, and may quote what it was sent.
impl fmt::Debug for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// `Err(None)` is a refusal that has still to be classified.
fn read_success(headers: &HeaderMap, body: &[u8]) -> Result<TokenResponse, Option<Error>> {
    match response::read(body, date(headers)) {
        Ok(Body::Token(response)) => Ok(response),
        Ok(Body::Refusal) => Err(None),
        Ok(Body::Empty) => Err(Some(Error::new(
            ErrorKind::Unavailable,
            "the answer is empty",
        ))),
        Ok(Body::NotJson) => Err(Some(Error::new(
            ErrorKind::Malformed,
            format!("the answer is not JSON but {}", content(headers, body)),
        ))),
        Err(error) => Err(Some(error)),
    }
}

/// What a refusal means. A status that speaks of the moment counts more than a code: the gateway that
/// sends it may have put any body under it.
fn judge(status: StatusCode, code: Option<&str>) -> (ErrorKind, &'static str) {
    use ErrorKind::{Denied, Malformed, Unavailable};
    match status.as_u16() {
        429 => return (Unavailable, "the issuer wants fewer requests"),
        408 | 425 | 500..=599 => return (Unavailable, "the issuer could not answer"),
        _ => {}
    }
    match code {
        Some("temporarily_unavailable" | "server_error") => {
            (Unavailable, "the issuer could not answer")
        }
        Some("slow_down") => (Unavailable, "the issuer wants fewer requests"),
        Some("invalid_client") => (Denied, "the issuer did not accept the client or its secret"),
        Some("invalid_grant") => (Denied, "the issuer did not accept the grant"),
        Some("unauthorized_client") => (Denied, "the client may not use this grant"),
        Some("unsupported_grant_type") => (Denied, "the issuer does not know this grant"),
        Some("invalid_scope") => (Denied, "the issuer does not give this scope to the client"),
        Some("invalid_target") => (
            Denied,
            "the issuer gives no token for this resource or audience",
        ),
        Some("invalid_request") => (Denied, "the issuer found the request invalid"),
        Some(_) => (Denied, "the issuer refused"),
        None if status.is_success() => (Denied, "the issuer refused"),
        None => match status.as_u16() {
            400 | 401 | 403 => (Denied, "the issuer refused"),
            _ => (
                Malformed,
                "the endpoint does not behave like a token endpoint",
            ),
        },
    }
}

/// The host alone is named: the rest of a `Location` may quote the request.
fn redirected(headers: &HeaderMap, sent: &[&Secret]) -> Error {
    let host = headers
        .get(LOCATION)
        .and_then(|location| Uri::try_from(location.as_bytes()).ok())
        .and_then(|location| location.host().map(str::to_owned));
    let message = match host {
        Some(host) => format!(
            "the endpoint answered with a redirect to host {}, which is not followed",
            redact(&host, sent)
        ),
        None => "the endpoint answered with a redirect, which is not followed".to_owned(),
    };
    Error::new(ErrorKind::Malformed, message)
}

/// What a body is, in words. A media type that is not plainly one is not repeated.
fn content(headers: &HeaderMap, body: &[u8]) -> String {
    if body.iter().all(u8::is_ascii_whitespace) {
        return "empty".to_owned();
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '+' | '.');
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim)
        .filter(|text| text.len() <= 64 && text.contains('/') && text.chars().all(is_plain))
        .unwrap_or("something without a content type")
        .to_owned()
}

/// When the answer was made, by the clock of the server (RFC 9110 section 6.6.1).
fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

/// In milliseconds, as Azure and others say it, or else in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    RETRY_AFTER_MILLISECONDS
        .iter()
        .filter_map(|name| headers.get(*name)?.to_str().ok())
        .filter_map(|value| value.trim().parse().ok().filter(|&wait| wait > 0))
        .map(Duration::from_millis)
        .next()
        .or_else(|| tower_auth_io::retry_after(headers, now))
}

fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.as_mut().zeroize();
    }
}

/// Where issuers write the id of a request, in the order in which they are believed.
const CORRELATION_HEADERS: [&str; 4] = [
    "x-ms-request-id",
    "x-okta-request-id",
    "x-correlation-id",
    "x-request-id",
];

const RETRY_AFTER_MILLISECONDS: [&str; 2] = ["retry-after-ms", "x-ms-retry-after-ms"];
