use std::fmt;
use std::time::{Duration, SystemTime};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tower_auth_core::{Error, ErrorKind, Secret, redact};

use crate::BasicEncoding;
use crate::response::Content;

/// An answer that is no token, as an integration of an issuer sees it.
pub struct Refusal<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    body: Value,
    /// What the body is, in words.
    media: String,
    secrets: &'a [&'a Secret],
}

impl<'a> Refusal<'a> {
    pub(crate) fn new(
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
            media: redact(&media(headers, body), secrets),
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

    /// The error that the answer is. `content` is anything but a token.
    pub(crate) fn explain(
        &self,
        content: Content,
        now: SystemTime,
        try_encoding: Option<BasicEncoding>,
    ) -> Error {
        let error = match content {
            Content::Malformed(error) => error,
            Content::Empty => Error::new(ErrorKind::Unavailable, "the answer is empty"),
            Content::NotJson => Error::new(
                ErrorKind::Malformed,
                format!("the answer is not JSON but {}", self.media),
            ),
            Content::Refusal | Content::Token(_) => self.classify(try_encoding),
        };
        self.add_facts(error, now)
    }

    fn classify(&self, try_encoding: Option<BasicEncoding>) -> Error {
        // As it is, not as it is shown: the client's secret may be a part of the word.
        let code = self.body.get("error").and_then(Value::as_str);
        let code = code.map(str::trim).filter(|code| !code.is_empty());
        let (kind, message) = judge(self.status, code);
        let client_refused = code == Some("invalid_client")
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
            Error::new(kind, format!("{message}; the answer was {}", self.media))
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

/// What a body is, in words. A media type that is not plainly one is not repeated.
fn media(headers: &HeaderMap, body: &[u8]) -> String {
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

/// Where issuers write the id of a request, in the order in which they are believed.
const CORRELATION_HEADERS: [&str; 4] = [
    "x-ms-request-id",
    "x-okta-request-id",
    "x-correlation-id",
    "x-request-id",
];

const RETRY_AFTER_MILLISECONDS: [&str; 2] = ["retry-after-ms", "x-ms-retry-after-ms"];
