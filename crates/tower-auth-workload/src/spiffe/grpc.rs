//! One unary call of gRPC over HTTP/2, as far as the Workload API needs it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Request, Response};
use tower_auth_core::{Error, ErrorKind, redact};

use crate::answer;

/// The request for a JWT-SVID with this message.
pub(super) fn request(message: &[u8], timeout: Duration) -> Result<Request<Bytes>, Error> {
    let impossible = |cause: http::Error| {
        Error::new(ErrorKind::InvalidConfig, "no request can be made").with_cause(cause)
    };
    let length = u32::try_from(message.len())
        .map_err(|_| Error::new(ErrorKind::InvalidConfig, "the audience is larger than any"))?;
    let mut body = Vec::with_capacity(PREFIX + message.len());
    body.push(UNCOMPRESSED);
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(message);
    // At most eight digits, which is a day in milliseconds.
    let milliseconds = timeout.as_millis().clamp(1, 99_999_999);
    Request::post(METHOD)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(TE, HeaderValue::from_static("trailers"))
        .header("grpc-timeout", format!("{milliseconds}m"))
        // A browser or a proxy that was talked into a request cannot set this one.
        .header("workload.spiffe.io", HeaderValue::from_static("true"))
        .body(Bytes::from(body))
        .map_err(impossible)
}

/// The message in an answer.
///
/// # Errors
/// What the status of the call, or of the answer, says; [`Malformed`](ErrorKind::Malformed) if the answer is
/// not gRPC or not one message.
pub(super) fn read(response: Response<Bytes>, now: SystemTime) -> Result<Bytes, Error> {
    if !response.status().is_success() {
        return Err(answer::refusal(&response, &[], now));
    }
    let (parts, body) = response.into_parts();
    let headers = &parts.headers;
    let is_grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if !is_grpc {
        return Err(malformed("the answer is not gRPC"));
    }
    let Some(status) = headers.get("grpc-status") else {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "the answer ended before its status",
        ));
    };
    let status = status.to_str().ok().and_then(|text| text.parse().ok());
    match status {
        None => Err(malformed("the answer's status is not a number")),
        Some(0) => unframed(body),
        Some(code) => Err(failed(code, headers)),
    }
}

/// The one message of a unary answer, without its length.
fn unframed(body: Bytes) -> Result<Bytes, Error> {
    let Some((prefix, message)) = body.split_first_chunk::<PREFIX>() else {
        return Err(malformed("the answer has no message"));
    };
    let [compressed, length @ ..] = *prefix;
    if compressed != UNCOMPRESSED {
        return Err(malformed(
            "the answer is compressed, which it was not asked to be",
        ));
    }
    if u32::from_be_bytes(length) as usize != message.len() {
        return Err(malformed("the answer's length is not that of its message"));
    }
    Ok(body.slice(PREFIX..))
}

/// What a status other than OK means (gRPC status codes, as the SPIFFE Workload API uses them).
fn failed(code: u32, headers: &HeaderMap) -> Error {
    let said = headers
        .get("grpc-message")
        .map(|value| percent_decoded(value.as_bytes()))
        .unwrap_or_default();
    let (kind, name, message) = match code {
        // What SPIRE says to a workload whose registration has not arrived yet.
        7 if said.to_ascii_lowercase().contains("no identity issued") => (
            ErrorKind::Unavailable,
            "PERMISSION_DENIED",
            "the agent knows no identity for this workload",
        ),
        7 => (
            ErrorKind::Denied,
            "PERMISSION_DENIED",
            "the agent refused this workload",
        ),
        16 => (
            ErrorKind::Denied,
            "UNAUTHENTICATED",
            "the agent refused this workload",
        ),
        3 => (
            ErrorKind::InvalidConfig,
            "INVALID_ARGUMENT",
            "the agent found the request invalid",
        ),
        12 => (
            ErrorKind::InvalidConfig,
            "UNIMPLEMENTED",
            "what listens there is not a SPIFFE Workload API",
        ),
        4 => (
            ErrorKind::Unavailable,
            "DEADLINE_EXCEEDED",
            "the agent could not answer in time",
        ),
        14 => (
            ErrorKind::Unavailable,
            "UNAVAILABLE",
            "the agent could not answer",
        ),
        _ => (ErrorKind::Unavailable, "", "the agent could not answer"),
    };
    let error = Error::new(kind, message).with_description(&said, &[]);
    let error = match name {
        "" => error.with_code(&format!("gRPC status {code}")),
        name => error.with_code(name),
    };
    match code {
        7 => error.with_hint("create a registration entry whose selectors fit this workload"),
        3 => error.with_hint("check the audience and the SPIFFE ID"),
        4 => error.timed_out(),
        _ => error,
    }
}

/// The text of a `grpc-message` (gRPC over HTTP/2, "Percent-Encoded"). What is not encoded rightly stays.
fn percent_decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let decoded = match (byte, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(h, l)| h * 16 + l),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(byte));
        rest = after
            .get(if decoded.is_some() { 2 } else { 0 }..)
            .unwrap_or_default();
    }
    redact(&String::from_utf8_lossy(&bytes), &[])
}

fn hex(digit: u8) -> Option<u8> {
    // A hexadecimal digit is less than 16.
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn malformed(what: &'static str) -> Error {
    Error::new(ErrorKind::Malformed, what)
}

/// The service has no package, by its specification.
const METHOD: &str = "http://localhost/SpiffeWorkloadAPI/FetchJWTSVID";
/// A flag and four bytes of length.
const PREFIX: usize = 5;
const UNCOMPRESSED: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(headers: &[(&'static str, &str)], body: &[u8]) -> Response<Bytes> {
        let mut response = Response::new(Bytes::copy_from_slice(body));
        for (name, value) in headers {
            response
                .headers_mut()
                .insert(*name, HeaderValue::from_str(value).unwrap());
        }
        response
    }

    fn ok(body: &[u8]) -> Result<Bytes, Error> {
        let headers = [
            ("content-type", "application/grpc+proto"),
            ("grpc-status", "0"),
        ];
        read(answer(&headers, body), SystemTime::UNIX_EPOCH)
    }

    fn status(code: &str, message: &str) -> Error {
        let headers = [
            ("content-type", "application/grpc"),
            ("grpc-status", code),
            ("grpc-message", message),
        ];
        read(answer(&headers, b""), SystemTime::UNIX_EPOCH).unwrap_err()
    }

    #[test]
    fn w88_a_request_is_one_framed_message_with_the_security_header() {
        let request = request(b"\x0a\x01a", Duration::from_secs(2)).unwrap();
        assert_eq!(request.body().as_ref(), b"\0\0\0\0\x03\x0a\x01a");
        assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchJWTSVID");
        let headers = request.headers();
        assert_eq!(headers["workload.spiffe.io"], "true");
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["content-type"], "application/grpc");
        assert_eq!(headers["grpc-timeout"], "2000m");
    }

    #[test]
    fn w89_each_status_says_what_to_do() {
        use ErrorKind::{Denied, InvalidConfig, Malformed, Unavailable};
        for (code, message, kind) in [
            ("7", "no%20identity issued", Unavailable),
            ("7", "not you", Denied),
            ("16", "", Denied),
            ("3", "security header missing from request", InvalidConfig),
            ("12", "", InvalidConfig),
            ("4", "", Unavailable),
            ("8", "", Unavailable),
            ("13", "", Unavailable),
            ("14", "", Unavailable),
            ("99", "", Unavailable),
            ("-1", "", Malformed),
            ("x", "", Malformed),
        ] {
            let error = status(code, message);
            assert_eq!(error.kind(), kind, "{code}: {error}");
        }
        assert!(status("4", "").is_timeout());
        let said = status("7", "a%20%C3%A4%zz%2").to_string();
        assert!(said.contains("\"a ä%zz%2\""), "{said}");
        assert!(said.contains("registration entry"), "{said}");
    }

    #[test]
    fn w92_a_message_that_is_cut_or_compressed_is_refused() {
        assert_eq!(ok(b"\0\0\0\0\x02ab").unwrap(), "ab");
        for body in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x02ab",
            b"\0\0\0\0\x03ab",
            b"\0\0\0\0\x01ab",
            b"\0\xff\xff\xff\xffab",
        ] {
            assert_eq!(
                ok(body).unwrap_err().kind(),
                ErrorKind::Malformed,
                "{body:?}"
            );
        }
        let headers = [("content-type", "application/grpc")];
        let error = read(answer(&headers, b""), SystemTime::UNIX_EPOCH).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }

    proptest! {
        #[test]
        fn w92_reading_is_total(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = ok(&body);
            let _ = percent_decoded(&body);
        }
    }
}
