use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{DATE, LOCATION};
use http::{HeaderMap, Response, Uri};
use tower_auth_core::{Error, ErrorKind, Secret, redact};
use zeroize::Zeroize;

use crate::response::{self, Content};
use crate::{BasicEncoding, Refusal, TokenResponse};

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
            let content = if status.is_success() {
                response::read(&body, date(headers))
            } else {
                Content::Refusal
            };
            match content {
                Content::Token(response) => Ok(response.redacted(sent)),
                other => {
                    let refusal = Refusal::new(status, headers, &body, sent);
                    let error = refusal.explain(other, now, try_encoding);
                    Err(match &self.vendor {
                        Some(enrich) => enrich(&refusal, error),
                        None => error,
                    })
                }
            }
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

/// The host alone is named: the rest of a `Location` may quote the request.
pub(crate) fn redirected(headers: &HeaderMap, sent: &[&Secret]) -> Error {
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

/// When the answer was made, by the clock of the server (RFC 9110 section 6.6.1).
fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.as_mut().zeroize();
    }
}
