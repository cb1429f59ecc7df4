use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Uri};

use crate::{ChainReport, Secret, redact};

/// Any error, as tower passes them on.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why there is no credential.
///
/// [`kind`](Self::kind) is for programs: it says what the reader should do. `Display` is one line for
/// people: the source, what happened, the endpoint's host and path, the status and the codes the issuer
/// gave. It never shows a secret, a body, a query string or a header; the cause is in
/// [`source`](StdError::source) and is not repeated in the text.
///
/// It is cheap to clone, so that every caller who waited for one fetch can have it.
///
/// ```
/// use http::StatusCode;
/// use tower_auth_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Denied, "the issuer refused the client")
///     .with_source_name("entra client secret")
///     .with_endpoint(&"https://login.example.com/t/token?x=1".parse().unwrap())
///     .with_status(StatusCode::UNAUTHORIZED)
///     .with_code("invalid_client");
/// assert_eq!(
///     error.to_string(),
///     "entra client secret: the issuer refused the client (login.example.com/t/token, status 401, invalid_client)",
/// );
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source_name: Option<Cow<'static, str>>,
    endpoint: Option<String>,
    status: Option<StatusCode>,
    code: Option<String>,
    sub_codes: Vec<String>,
    description: Option<String>,
    correlation: Option<String>,
    retry_after: Option<Duration>,
    timed_out: bool,
    set_but_empty: bool,
    chain: Option<Arc<ChainReport>>,
    hint: Option<Cow<'static, str>>,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What the reader of an [`Error`] should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This mechanism is absent here: no variable, no file, no metadata server. A chain may go on to the
    /// next one.
    NotConfigured,
    /// It is present but wrong: a bad URL, an unreadable file, half of the variables. Fix the
    /// configuration; a chain must stop here.
    InvalidConfig,
    /// The issuer said no. Look at its [`code`](Error::code): the client, its secret, its permission or
    /// its scope is wrong.
    Denied,
    /// The issuer could not be reached or asked to be left alone: network, timeout, 429, 5xx. Wait; the
    /// cache tries again by itself.
    Unavailable,
    /// The answer was not understood, or the credential cannot be sent. Probably the endpoint is not what
    /// it is taken for.
    Malformed,
    /// There was a credential and it has run out without a successor. The cause says why.
    Expired,
    /// Too many callers already wait for a credential. Shed load.
    Overloaded,
}

impl ErrorKind {
    /// The word used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotConfigured => "not configured",
            Self::InvalidConfig => "invalid config",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Overloaded => "overloaded",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Error {
    /// An error of this kind. `message` is a lower-case fragment without a final dot and without
    /// anything secret.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            source_name: None,
            endpoint: None,
            status: None,
            code: None,
            sub_codes: Vec::new(),
            description: None,
            correlation: None,
            retry_after: None,
            timed_out: false,
            set_but_empty: false,
            chain: None,
            hint: None,
            cause: None,
        }))
    }

    /// The first of ours in a chain of causes, wherever other layers have wrapped it.
    ///
    /// ```
    /// use tower_auth_core::{BoxError, Error, ErrorKind};
    ///
    /// let boxed: BoxError = Error::new(ErrorKind::Expired, "no usable token").into();
    /// assert_eq!(Error::find(&*boxed).unwrap().kind(), ErrorKind::Expired);
    /// ```
    #[must_use]
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut link = Some(error);
        while let Some(error) = link {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            // `io::Error` answers with the cause of what it wraps, not with what it wraps.
            link = match error
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
            {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
        None
    }

    /// What the reader should do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Which source it came from.
    #[must_use]
    pub fn source_name(&self) -> Option<&str> {
        self.0.source_name.as_deref()
    }

    /// Host and path of the endpoint that was asked.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.0.endpoint.as_deref()
    }

    /// The status of the endpoint's answer.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// The OAuth `error` code (RFC 6749 section 5.2), or the vendor's main code.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// Further codes of the vendor, such as AADSTS numbers.
    pub fn sub_codes(&self) -> impl Iterator<Item = &str> {
        self.0.sub_codes.iter().map(String::as_str)
    }

    /// What the issuer said, shortened and with secrets removed.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// The id under which the issuer's support finds the request.
    #[must_use]
    pub fn correlation(&self) -> Option<&str> {
        self.0.correlation.as_deref()
    }

    /// How long the issuer asked to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What to try next.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Whether the time allowed ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.0.timed_out
    }

    /// Whether something is missing because it is set to nothing, as a CI system passes a secret that it
    /// does not have.
    #[must_use]
    pub fn is_set_but_empty(&self) -> bool {
        self.0.set_but_empty
    }

    /// What became of each source, if a [`Chain`](crate::Chain) made no choice.
    #[must_use]
    pub fn chain(&self) -> Option<&ChainReport> {
        self.0.chain.as_deref()
    }

    /// The same error with another kind.
    #[must_use]
    pub fn with_kind(self, kind: ErrorKind) -> Self {
        self.map(|inner| inner.kind = kind)
    }

    /// Names the source, replacing a name given deeper down.
    #[must_use]
    pub fn with_source_name(self, name: impl Into<Cow<'static, str>>) -> Self {
        self.map(|inner| inner.source_name = Some(name.into()))
    }

    /// Names the source unless one is named already.
    #[must_use]
    pub fn or_source(self, name: impl Into<Cow<'static, str>>) -> Self {
        if self.0.source_name.is_some() {
            self
        } else {
            self.with_source_name(name)
        }
    }

    /// Adds host and path of the endpoint; user name, password and query are left out.
    #[must_use]
    pub fn with_endpoint(self, uri: &Uri) -> Self {
        let host = uri.host().unwrap_or("");
        let port = uri
            .port_u16()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let endpoint = format!("{host}{port}{}", uri.path());
        self.map(|inner| inner.endpoint = Some(endpoint))
    }

    /// Adds the status of the answer.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        self.map(|inner| inner.status = Some(status))
    }

    /// Adds the OAuth `error` code, after [`redact`] has been over it. A server that may quote a secret
    /// here wants `redact` with that secret first; so for the sub-codes and the correlation id.
    #[must_use]
    pub fn with_code(self, code: &str) -> Self {
        let code = redact(code, &[]);
        self.map(|inner| inner.code = Some(code))
    }

    /// Adds a further code of the vendor.
    #[must_use]
    pub fn with_sub_code(self, code: &str) -> Self {
        let code = redact(code, &[]);
        self.map(|inner| inner.sub_codes.push(code))
    }

    /// Adds what the issuer said, after [`redact`] has been over it with the secrets that were sent.
    #[must_use]
    pub fn with_description(self, text: &str, secrets: &[&Secret]) -> Self {
        let text = redact(text, secrets);
        self.map(|inner| inner.description = (!text.is_empty()).then_some(text))
    }

    /// Adds the id under which the issuer's support finds the request.
    #[must_use]
    pub fn with_correlation(self, id: &str) -> Self {
        let id = redact(id, &[]);
        self.map(|inner| inner.correlation = Some(id))
    }

    /// Adds how long the issuer asked to be left alone.
    #[must_use]
    pub fn with_retry_after(self, delay: Duration) -> Self {
        self.map(|inner| inner.retry_after = Some(delay))
    }

    /// Adds what to try next: a setting to change, a command to run. Without anything secret.
    ///
    /// ```
    /// use tower_auth_core::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::NotConfigured, "VAULT_ADDR is not set").with_hint("set it to the server's URL");
    /// assert_eq!(error.to_string(), "VAULT_ADDR is not set; set it to the server's URL");
    /// ```
    #[must_use]
    pub fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        let hint = hint.into();
        self.map(|inner| inner.hint = Some(hint))
    }

    /// Marks that the time allowed ran out.
    #[must_use]
    pub fn timed_out(self) -> Self {
        self.map(|inner| inner.timed_out = true)
    }

    /// Marks that something is set, to nothing.
    #[must_use]
    pub fn set_but_empty(self) -> Self {
        self.map(|inner| inner.set_but_empty = true)
    }

    /// Adds what became of each source of a chain.
    #[must_use]
    pub fn with_chain(self, report: Arc<ChainReport>) -> Self {
        self.map(|inner| inner.chain = Some(report))
    }

    /// Adds the cause. Its text must hold no secret: it is shown to whoever prints the chain.
    #[must_use]
    pub fn with_cause(self, cause: impl Into<BoxError>) -> Self {
        let cause: BoxError = cause.into();
        self.map(|inner| inner.cause = Some(Arc::from(cause)))
    }

    fn map(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(name) = &inner.source_name {
            write!(f, "{name}: ")?;
        }
        f.write_str(&inner.message)?;
        let facts = inner
            .endpoint
            .iter()
            .cloned()
            .chain(
                inner
                    .status
                    .map(|status| format!("status {}", status.as_u16())),
            )
            .chain(inner.code.clone())
            .chain(inner.sub_codes.iter().cloned())
            .chain(inner.description.as_ref().map(|text| format!("\"{text}\"")))
            .chain(
                inner
                    .correlation
                    .as_ref()
                    .map(|id| format!("correlation {id}")),
            )
            .chain(
                inner
                    .retry_after
                    .map(|delay| format!("retry after {} s", delay.as_secs())),
            );
        let mut separator = " (";
        for fact in facts {
            write!(f, "{separator}{fact}")?;
            separator = ", ";
        }
        if separator == ", " {
            f.write_str(")")?;
        }
        match &inner.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Error");
        shown
            .field("kind", &self.0.kind)
            .field("message", &format_args!("{self}"));
        if let Some(cause) = &self.0.cause {
            shown.field("cause", cause);
        }
        shown.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .cause
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_and_userinfo_of_an_endpoint_are_not_shown() {
        let error = Error::new(ErrorKind::Unavailable, "no answer")
            .with_endpoint(&"https://u:canary@a.test:8443/t?k=canary".parse().unwrap());
        assert_eq!(error.to_string(), "no answer (a.test:8443/t)");
    }

    #[test]
    fn the_cause_is_in_source_and_not_in_the_text() {
        let error = Error::new(ErrorKind::Unavailable, "no answer")
            .with_cause(std::io::Error::other("reset"));
        assert_eq!(error.to_string(), "no answer");
        assert_eq!(error.source().unwrap().to_string(), "reset");
    }

    #[test]
    fn it_is_found_below_other_errors() {
        let ours = Error::new(ErrorKind::Overloaded, "too many callers wait");
        let wrapped = Error::new(ErrorKind::Unavailable, "outer").with_cause(ours.clone());
        let io = std::io::Error::other(ours);
        assert_eq!(
            Error::find(&wrapped).unwrap().kind(),
            ErrorKind::Unavailable
        );
        let boxed: BoxError = Box::new(io);
        assert_eq!(Error::find(&*boxed).unwrap().kind(), ErrorKind::Overloaded);
    }

    #[test]
    fn a_given_source_name_stays() {
        let error = Error::new(ErrorKind::Denied, "no")
            .with_source_name("inner")
            .or_source("outer");
        assert_eq!(error.source_name(), Some("inner"));
    }
}
