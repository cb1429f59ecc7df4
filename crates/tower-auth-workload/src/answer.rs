//! Answers in JSON of the services that issue identity tokens.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Response, StatusCode, Uri};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_auth_core::{Error, ErrorKind, Secret, redact};
use tower_auth_io::retry_after;
use zeroize::Zeroize;

/// What a successful answer says. `sent` are the secrets of the request, which the server may quote.
///
/// # Errors
/// Those of [`refusal`]; [`Malformed`](ErrorKind::Malformed) if the answer is not JSON of this form.
pub(crate) fn read<T: DeserializeOwned>(
    response: Response<Bytes>,
    sent: &[&Secret],
    now: SystemTime,
) -> Result<T, Error> {
    if !response.status().is_success() {
        return Err(refusal(&response, sent, now));
    }
    let (parts, body) = response.into_parts();
    // The cause is not kept: it quotes the value that has the wrong type.
    let read = serde_json::from_slice(&body).map_err(|_| {
        let what = if body.iter().all(u8::is_ascii_whitespace) {
            "the answer is empty".to_owned()
        } else if serde_json::from_slice::<Value>(&body).is_ok_and(|value| value.is_object()) {
            "the answer has no token in the place where one belongs".to_owned()
        } else {
            format!(
                "the answer is not a JSON object but {}",
                media(&parts.headers)
            )
        };
        Error::new(ErrorKind::Malformed, what).with_status(parts.status)
    });
    wipe(body);
    read
}

/// What an answer means that is no success: a redirect is not followed, a status that speaks of the moment is
/// [`Unavailable`](ErrorKind::Unavailable), other refusals are [`Denied`](ErrorKind::Denied), and what no such
/// service says is [`Malformed`](ErrorKind::Malformed). Reason and message of a Kubernetes `Status`, and the
/// message of others, are added.
pub(crate) fn refusal(response: &Response<Bytes>, sent: &[&Secret], now: SystemTime) -> Error {
    let (status, headers) = (response.status(), response.headers());
    if status.is_redirection() {
        return Error::new(ErrorKind::Malformed, redirect(headers, sent)).with_status(status);
    }
    let (kind, message) = judge(status);
    let mut error = Error::new(kind, message).with_status(status);
    let body: Value = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
    if let Some(reason) = body.get("reason").and_then(Value::as_str) {
        error = error.with_code(&redact(reason, sent));
    }
    if let Some(message) = body.get("message").and_then(Value::as_str) {
        error = error.with_description(message, sent);
    }
    match retry_after(headers, now) {
        Some(delay) => error.with_retry_after(delay),
        None => error,
    }
}

fn judge(status: StatusCode) -> (ErrorKind, &'static str) {
    match status.as_u16() {
        429 => (ErrorKind::Unavailable, "the issuer wants fewer requests"),
        408 | 425 | 500..=599 => (ErrorKind::Unavailable, "the issuer could not answer"),
        400 | 401 | 403 | 409 | 422 => (ErrorKind::Denied, "the issuer refused"),
        _ => (
            ErrorKind::Malformed,
            "the endpoint does not behave like one that issues identity tokens",
        ),
    }
}

/// The host alone is named: the rest of a `Location` may quote the request.
fn redirect(headers: &HeaderMap, sent: &[&Secret]) -> String {
    let host = headers
        .get(LOCATION)
        .and_then(|location| Uri::try_from(location.as_bytes()).ok())
        .and_then(|location| location.host().map(|host| redact(host, sent)));
    match host {
        Some(host) => format!("the answer is a redirect to host {host}, which is not followed"),
        None => "the answer is a redirect, which is not followed".to_owned(),
    }
}

/// What an answer says it is, if that is plainly a media type.
fn media(headers: &HeaderMap) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '+' | '.');
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim)
        .filter(|text| text.len() <= 64 && text.contains('/') && text.chars().all(is_plain))
        .unwrap_or("something without a content type")
}

fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.as_mut().zeroize();
    }
}
