use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Response, StatusCode, Uri};
use serde_json::Value;
use tower_auth_core::{Error, ErrorKind, Secret, redact};
use tower_auth_io::retry_after;
use zeroize::Zeroize;

/// What the server said, if it was not an error.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) endpoint: Uri,
    body: Value,
}

/// What a refusal is about, for whoever knows more than the status.
pub(crate) struct Refusal {
    pub(crate) error: Error,
    pub(crate) status: StatusCode,
    /// `data` is there in some refusals: a version of a secret that was deleted.
    pub(crate) data: Option<Value>,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            status: error.status().unwrap_or_default(),
            error,
            data: None,
        }
    }
}

impl Answer {
    /// Reads an answer. `sent` are the secrets of the request, which may be quoted in an error.
    pub(crate) fn read(
        response: Response<Bytes>,
        endpoint: Uri,
        sent: &[&Secret],
        now: SystemTime,
    ) -> Result<Self, Refusal> {
        let (head, bytes) = response.into_parts();
        let status = head.status;
        let read = Reading {
            status,
            headers: &head.headers,
            bytes: &bytes,
            sent,
        };
        let outcome = if status.is_redirection() {
            Err(redirected(&head.headers, sent).into())
        } else if status.is_success() {
            read.success().map_err(Refusal::from)
        } else {
            Err(read.refusal(now))
        };
        wipe(bytes);
        match outcome {
            Ok(body) => Ok(Self {
                status,
                endpoint,
                body,
            }),
            Err(refusal) => Err(Refusal {
                error: refusal.error.with_status(status).with_endpoint(&endpoint),
                status,
                data: refusal.data,
            }),
        }
    }

    /// The value at this place (RFC 6901), if there is one that is not null.
    pub(crate) fn at(&self, pointer: &str) -> Option<&Value> {
        self.body.pointer(pointer).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer)?.as_str()
    }

    /// The secret at this place, moved out.
    ///
    /// # Errors
    /// `Malformed`, naming the place, if it is no text or not fit for a header.
    pub(crate) fn secret(&mut self, pointer: &str) -> Result<Secret, Error> {
        let name = pointer.trim_start_matches('/').replace('/', ".");
        let taken = self.body.pointer_mut(pointer).map(Value::take);
        let malformed = |what: &str| self.malformed(format!("{name} {what}"));
        let secret = match taken {
            None | Some(Value::Null) => return Err(malformed("is missing in the answer")),
            Some(Value::String(text)) => Secret::new(text),
            Some(other) => {
                return Err(malformed(&format!("is {}, not a text", kind_of(&other))));
            }
        };
        if secret.is_blank() {
            return Err(malformed("is blank"));
        }
        Ok(secret)
    }

    /// A number of seconds, however it is written; a century at most.
    pub(crate) fn seconds(&self, pointer: &str) -> Result<Option<Duration>, Error> {
        let Some(value) = self.at(pointer) else {
            return Ok(None);
        };
        let seconds = match value {
            // This cast cuts the fraction off and stops at both ends.
            Value::Number(number) => number.as_f64().map(|number| number as u64),
            Value::String(text) => text.trim().parse::<f64>().ok().map(|number| number as u64),
            _ => None,
        };
        match seconds {
            Some(seconds) => Ok(Some(Duration::from_secs(seconds.min(CENTURY)))),
            None => Err(self.malformed(format!(
                "{} is not a number of seconds",
                pointer.trim_start_matches('/').replace('/', ".")
            ))),
        }
    }

    pub(crate) fn is_true(&self, pointer: &str) -> bool {
        self.at(pointer).and_then(Value::as_bool).unwrap_or(false)
    }

    /// What the server would like people to know.
    pub(crate) fn warnings(&self, sent: &[&Secret]) -> Vec<String> {
        texts(self.at("/warnings"), sent)
    }

    pub(crate) fn malformed(&self, what: String) -> Error {
        Error::new(ErrorKind::Malformed, what)
            .with_status(self.status)
            .with_endpoint(&self.endpoint)
    }
}

struct Reading<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    bytes: &'a [u8],
    sent: &'a [&'a Secret],
}

impl Reading<'_> {
    fn success(&self) -> Result<Value, Error> {
        if self.status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        match serde_json::from_slice(self.bytes) {
            Ok(body @ Value::Object(_)) => Ok(body),
            _ => Err(Error::new(
                ErrorKind::Malformed,
                format!(
                    "the answer is not that of Vault or OpenBao but {}",
                    self.media()
                ),
            )
            .with_hint("check the address: it must be that of the API, without /ui")),
        }
    }

    fn refusal(&self, now: SystemTime) -> Refusal {
        let mut body = serde_json::from_slice(self.bytes).unwrap_or(Value::Null);
        let said = texts(body.pointer("/errors"), self.sent);
        let (kind, message) = judge(self.status, &said);
        let mut error = if body.is_object() {
            Error::new(kind, message)
        } else {
            Error::new(kind, format!("{message}; the answer was {}", self.media()))
        };
        let said = if said.is_empty() {
            texts(body.pointer("/warnings"), self.sent)
        } else {
            said
        };
        if !said.is_empty() {
            error = error.with_description(&said.join("; "), self.sent);
        }
        if let Some(id) = body.pointer("/request_id").and_then(Value::as_str) {
            let id = redact(id, self.sent);
            if !id.is_empty() {
                error = error.with_correlation(&id);
            }
        }
        if let Some(delay) = retry_after(self.headers, now) {
            error = error.with_retry_after(delay);
        }
        Refusal {
            error,
            status: self.status,
            data: body.pointer_mut("/data").map(Value::take),
        }
    }

    /// What the body is, in words. A media type that is not plainly one is not repeated.
    fn media(&self) -> String {
        if self.bytes.iter().all(u8::is_ascii_whitespace) {
            return "empty".to_owned();
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '+' | '.');
        self.headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .map(str::trim)
            .filter(|text| text.len() <= 64 && text.contains('/') && text.chars().all(is_plain))
            .map(|text| redact(text, self.sent))
            .unwrap_or_else(|| "something without a content type".to_owned())
    }
}

/// What a status means here. The codes 472 and 473 are those of replicas.
fn judge(status: StatusCode, said: &[String]) -> (ErrorKind, &'static str) {
    use ErrorKind::{Denied, InvalidConfig, Malformed, Unavailable};
    let says = |word: &str| said.iter().any(|text| text.contains(word));
    match status.as_u16() {
        400 => (Denied, "the server found the request invalid"),
        401 | 403 => (Denied, "the server denied permission"),
        404 => (InvalidConfig, "the server has nothing at this path"),
        405 => (
            InvalidConfig,
            "the server does not support this at this path",
        ),
        413 => (InvalidConfig, "the request is too large for the server"),
        412 => (
            Unavailable,
            "the server has not caught up with its cluster yet",
        ),
        429 => (Unavailable, "the server wants fewer requests"),
        472 => (
            Unavailable,
            "the server is a replica for disaster recovery and does not serve requests",
        ),
        473 => (
            Unavailable,
            "the server is a performance standby and could not answer",
        ),
        501 => (Unavailable, "the server is not initialized"),
        503 if says("sealed") => (Unavailable, "the server is sealed"),
        503 => (
            Unavailable,
            "the server is sealed, in maintenance, or has no active node",
        ),
        408 | 425 | 500..=599 => (Unavailable, "the server could not answer"),
        _ => (
            Malformed,
            "the server does not behave like Vault or OpenBao",
        ),
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
            "the server answered with a redirect to host {}, which is not followed",
            redact(&host, sent)
        ),
        None => "the server answered with a redirect, which is not followed".to_owned(),
    };
    Error::new(ErrorKind::Malformed, message)
        .with_hint("if that is the active node, use its address or that of a load balancer")
}

fn texts(value: Option<&Value>, sent: &[&Secret]) -> Vec<String> {
    let Some(Value::Array(items)) = value else {
        return Vec::new();
    };
    items
        .iter()
        .filter_map(Value::as_str)
        .map(|text| {
            let words: Vec<&str> = text.split_whitespace().collect();
            redact(&words.join(" "), sent)
        })
        .map(|text| {
            // What multierror of the servers puts before a single error.
            text.strip_prefix("1 error occurred: * ")
                .map(str::to_owned)
                .unwrap_or(text)
        })
        .filter(|text| !text.is_empty())
        .collect()
}

pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.as_mut().zeroize();
    }
}

/// For ever, as far as a program is concerned, and far from the end of any clock.
const CENTURY: u64 = 100 * 365 * 24 * 60 * 60;
