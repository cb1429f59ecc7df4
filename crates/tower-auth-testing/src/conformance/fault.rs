use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tower_auth_core::ErrorKind;

use crate::Reply;

/// What the conformance suite does to a source's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// There is never an answer.
    Hang,
    /// Nobody listens.
    Refused,
    /// The connection is reset before the answer.
    Reset,
    /// The connection ends in the middle of the body.
    BreaksOff,
    /// A status that says "not now": 408, 425, 429, 500, 502, 503, 504.
    Status(u16),
    /// 429 with `Retry-After: 7`.
    RetryAfterSeconds,
    /// 503 with a `Retry-After` date 7 s after the answer's `Date`.
    RetryAfterDate,
    /// 302 to another host.
    Redirect,
    /// 200 with an HTML page.
    Html,
    /// 200 with the first half of a good answer.
    Truncated,
    /// 200 with nothing.
    Empty,
    /// 200 with `{}`.
    NoFields,
    /// 200 with `null`.
    Null,
    /// 200 with a good answer whose strings have become numbers, and its numbers objects.
    WrongTypes,
    /// 200 with 10 MiB.
    Oversize,
    /// 401 that quotes the request in `error_description` and its like.
    EchoInDescription,
    /// 401 that quotes the request in `error`, where a code belongs.
    EchoAsCode,
    /// 500 with an HTML page that quotes the request.
    EchoInHtml,
}

impl Fault {
    /// What may become of it.
    #[must_use]
    pub fn kinds(self) -> &'static [ErrorKind] {
        match self {
            Self::Hang
            | Self::Refused
            | Self::Reset
            | Self::BreaksOff
            | Self::Status(_)
            | Self::RetryAfterSeconds
            | Self::RetryAfterDate
            | Self::EchoInHtml => &[ErrorKind::Unavailable],
            Self::Redirect => &[ErrorKind::Malformed, ErrorKind::InvalidConfig],
            // Proxies give an empty 200 when they are overloaded, so both readings are sound.
            Self::Empty => &[ErrorKind::Malformed, ErrorKind::Unavailable],
            Self::Html
            | Self::Truncated
            | Self::NoFields
            | Self::Null
            | Self::WrongTypes
            | Self::Oversize => &[ErrorKind::Malformed],
            Self::EchoInDescription | Self::EchoAsCode => {
                &[ErrorKind::Denied, ErrorKind::Malformed]
            }
        }
    }

    /// The status that the error has to name.
    pub(super) fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status),
            Self::RetryAfterSeconds => Some(429),
            Self::RetryAfterDate => Some(503),
            Self::Redirect => Some(302),
            Self::EchoInDescription | Self::EchoAsCode => Some(401),
            Self::EchoInHtml => Some(500),
            _ => None,
        }
    }

    /// The answer to this request, which would have been answered with `good`.
    pub(super) fn reply(self, request: &Request<Bytes>, good: Reply, now: SystemTime) -> Reply {
        match self {
            Self::Hang => Reply::hang(),
            Self::Refused => Reply::refused(),
            Self::Reset => Reply::reset(),
            Self::BreaksOff => {
                let half = good.body().len() / 2;
                good.breaking_off(half)
            }
            Self::Status(status) => Reply::status(status),
            Self::RetryAfterSeconds => Reply::status(429).with_retry_after(RETRY_AFTER),
            Self::RetryAfterDate => Reply::status(503)
                .with_date(now)
                .with_retry_after_date(now + RETRY_AFTER),
            Self::Redirect => Reply::redirect(&format!("https://{OTHER_HOST}/elsewhere")),
            Self::Html => Reply::html("<!doctype html><title>Welcome</title>Log in to the Wi-Fi."),
            Self::Truncated => {
                let half = good.body().len() / 2;
                good.truncated(half)
            }
            Self::Empty => good.truncated(0),
            Self::NoFields => Reply::json("{}"),
            Self::Null => Reply::json("null"),
            Self::WrongTypes => {
                let answer = serde_json::from_slice(&good.body()).unwrap_or(json!({}));
                Reply::json(with_wrong_types(answer).to_string())
            }
            Self::Oversize => Reply::oversize(10 << 20),
            Self::EchoInDescription => {
                let said = quote(request);
                let answer = json!({
                    "error": "invalid_client",
                    "error_description": said,
                    "errors": [said],
                    "message": said,
                });
                Reply::json(answer.to_string()).with_status(401)
            }
            Self::EchoAsCode => {
                let said = quote(request);
                Reply::json(json!({ "error": said, "code": said }).to_string()).with_status(401)
            }
            Self::EchoInHtml => {
                Reply::html(format!("<pre>{}</pre>", quote(request))).with_status(500)
            }
        }
    }
}

/// The parts of a request that hold secrets, a form's values decoded.
fn quote(request: &Request<Bytes>) -> String {
    let mut said = String::from("refused:");
    for (name, value) in form_urlencoded::parse(request.body()) {
        // Writing into a string cannot fail.
        let _ = write!(said, " {name} '{value}'");
    }
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        let _ = write!(said, " {name} '{value}'");
    }
    said
}

fn with_wrong_types(value: Value) -> Value {
    match value {
        Value::String(_) => json!(12345),
        Value::Number(_) => json!({ "a": 1 }),
        Value::Bool(_) | Value::Null => json!("text"),
        Value::Array(items) => items.into_iter().map(with_wrong_types).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, with_wrong_types(value)))
            .collect(),
    }
}

pub(super) const RETRY_AFTER: Duration = Duration::from_secs(7);
/// Where redirects lead.
pub(super) const OTHER_HOST: &str = "elsewhere.test";
