use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::value::RawValue;
use tower_auth_core::{Error, ErrorKind, Expiry, RefreshHint, Secret, Token, redact};

use crate::seconds;

/// What a token endpoint gave (RFC 6749 section 5.1).
///
/// It is what the issuer said, not yet a credential: [`into_token`](Self::into_token) decides whether
/// the token can be stamped.
#[derive(Clone)]
pub struct TokenResponse {
    access_token: Secret,
    token_type: String,
    expiry: Option<Expiry>,
    refresh_hint: Option<RefreshHint>,
    refresh_token: Option<Secret>,
    issued_token_type: Option<String>,
    /// Whether a proof was sent that binds the token to a key.
    proved: bool,
}

impl TokenResponse {
    /// The longest `access_token` that is taken, in bytes: 64 KiB. No server accepts a header of that
    /// size.
    pub const MAX_TOKEN_LENGTH: usize = 64 * 1024;

    /// The `access_token`.
    #[must_use]
    pub fn access_token(&self) -> &Secret {
        &self.access_token
    }

    /// The `token_type` as the issuer wrote it, without any secret; `Bearer` where it said nothing.
    #[must_use]
    pub fn token_type(&self) -> &str {
        &self.token_type
    }

    /// How long the token lives: until `expires_on` if there is one, else for `expires_in`; `None` if the
    /// issuer did not say.
    ///
    /// The absolute time wins because an issuer that hands out a token again may repeat the
    /// `expires_in` of the first time. It is turned into a lifetime with the answer's own `Date`, where
    /// there is one, so that a wrong local clock does no harm.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        self.expiry
    }

    /// When the issuer would like to be asked again (`refresh_in`).
    #[must_use]
    pub fn refresh_hint(&self) -> Option<RefreshHint> {
        self.refresh_hint
    }

    /// The token that the next one can be had for (RFC 6749 section 6).
    #[must_use]
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.refresh_token.as_ref()
    }

    /// The `issued_token_type` of a token exchange (RFC 8693 section 2.2.1), without any secret.
    #[must_use]
    pub fn issued_token_type(&self) -> Option<&str> {
        self.issued_token_type.as_deref()
    }

    /// The access token as a credential for `Authorization: Bearer`, or for `Authorization: DPoP` if it
    /// is bound to the key of the [`Dpop`](crate::Dpop) that the endpoint was given. Where the issuer did
    /// not say how long it lives, it is [`Expiry::AskEvery`] `default_lifetime`.
    ///
    /// # Errors
    /// [`Malformed`](ErrorKind::Malformed), naming the type, if the token is of any other: a client must
    /// not use a type that it does not understand (RFC 6749 section 7.1).
    pub fn into_token(self, default_lifetime: Duration) -> Result<Token, Error> {
        let scheme = if self.is_bearer() {
            BEARER
        } else if self.proved && self.is_dpop() {
            DPOP
        } else {
            return Err(unusable(&self.token_type));
        };
        let token = Token::with_scheme(scheme, self.access_token)
            .with_expiry(self.expiry.unwrap_or(Expiry::AskEvery(default_lifetime)));
        Ok(match self.refresh_hint {
            Some(hint) => token.with_refresh_hint(hint),
            None => token,
        })
    }

    /// Removes what was sent, and the token, from the one text of the issuer that is shown.
    pub(crate) fn redacted(mut self, sent: &[&Secret]) -> Self {
        if !self.is_bearer() {
            let token_type = redact(&self.token_type, &[&self.access_token]);
            self.token_type = redact(&token_type, sent);
        }
        if let Some(issued) = &mut self.issued_token_type {
            *issued = redact(&redact(issued, &[&self.access_token]), sent);
        }
        self
    }

    /// A proof was sent that binds the token to a key.
    pub(crate) fn proved(mut self) -> Self {
        self.proved = true;
        self
    }

    pub(crate) fn is_bearer(&self) -> bool {
        self.token_type.eq_ignore_ascii_case(BEARER)
    }

    fn is_dpop(&self) -> bool {
        self.token_type.eq_ignore_ascii_case(DPOP)
    }
}

/// Shows the type and the times, never the token.
impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenResponse")
            .field("token_type", &self.token_type)
            .field("expiry", &self.expiry)
            .field("refresh_hint", &self.refresh_hint)
            .field("has_refresh_token", &self.refresh_token.is_some())
            .field("issued_token_type", &self.issued_token_type)
            .finish_non_exhaustive()
    }
}

/// What a body turned out to be.
pub(crate) enum Content {
    Token(TokenResponse),
    /// It has an `error` member, whatever its status says.
    Refusal,
    /// There is nothing in it.
    Empty,
    /// It is no object of JSON.
    NotJson,
    /// It is one, or should be, and something is wrong with it.
    Malformed(Error),
}

/// Reads the body of a successful answer that was sent at `date`. It is total, and no error shows what
/// was in a field.
pub(crate) fn read(body: &[u8], date: Option<SystemTime>) -> Content {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Content::Empty;
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Content::Malformed(malformed("the answer is not UTF-8"));
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // An array would do as well for the parser: the fields in the order of the struct.
    if !text.trim_start().starts_with('{') {
        return Content::NotJson;
    }
    let members: Members<'_> = match serde_json::from_str(text) {
        Ok(members) => members,
        Err(error) => return Content::Malformed(unreadable(error)),
    };
    if members.error.is_some_and(|error| !says_none(error)) {
        return Content::Refusal;
    }
    match members.into_response(date) {
        Ok(response) => Content::Token(response),
        Err(error) => Content::Malformed(error),
    }
}

/// The members by name, each of them unread: so that none is in the way of another, and that an error
/// names the field.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    access_token: Option<&'a RawValue>,
    token_type: Option<&'a RawValue>,
    expires_in: Option<&'a RawValue>,
    expires_on: Option<&'a RawValue>,
    refresh_in: Option<&'a RawValue>,
    refresh_token: Option<&'a RawValue>,
    issued_token_type: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

impl Members<'_> {
    fn into_response(self, date: Option<SystemTime>) -> Result<TokenResponse, Error> {
        Ok(TokenResponse {
            access_token: self.access_token()?,
            token_type: self.token_type()?,
            expiry: self.expiry(date)?,
            // A wish is not worth an error.
            refresh_hint: self
                .refresh_in
                .and_then(seconds::whole_seconds)
                .and_then(seconds::lifetime)
                .map(RefreshHint::In),
            refresh_token: self.refresh_token()?,
            issued_token_type: self.issued_token_type.and_then(seconds::string),
            proved: false,
        })
    }

    /// One that cannot be read is an error: the old one may be of no use any more.
    fn refresh_token(&self) -> Result<Option<Secret>, Error> {
        let Some(raw) = self.refresh_token.filter(|raw| raw.get() != "null") else {
            return Ok(None);
        };
        let token = seconds::string(raw)
            .map(Secret::new)
            .ok_or_else(|| malformed("refresh_token is not a string"))?;
        if token.expose().len() > TokenResponse::MAX_TOKEN_LENGTH {
            return Err(malformed("refresh_token is longer than 64 KiB"));
        }
        Ok(Some(token).filter(|token| !token.is_blank()))
    }

    fn access_token(&self) -> Result<Secret, Error> {
        let raw = self
            .access_token
            .ok_or_else(|| malformed("the answer has no access_token"))?;
        let token = seconds::string(raw)
            .map(Secret::new)
            .ok_or_else(|| malformed("access_token is not a string"))?;
        if token.is_blank() {
            return Err(malformed("access_token is blank"));
        }
        if token.expose().len() > TokenResponse::MAX_TOKEN_LENGTH {
            return Err(malformed("access_token is longer than 64 KiB"));
        }
        Ok(token)
    }

    fn token_type(&self) -> Result<String, Error> {
        let Some(raw) = self.token_type else {
            return Ok(BEARER.to_owned());
        };
        let text = seconds::string(raw).ok_or_else(|| malformed("token_type is not a string"))?;
        Ok(match text.trim() {
            "" => BEARER.to_owned(),
            text => text.to_owned(),
        })
    }

    fn expiry(&self, date: Option<SystemTime>) -> Result<Option<Expiry>, Error> {
        if let Some(raw) = self.expires_on {
            let seconds = seconds::whole_seconds(raw)
                .ok_or_else(|| malformed("expires_on is not a number of seconds since 1970"))?;
            let end = seconds::moment(seconds).ok_or_else(|| expired("expires_on"))?;
            let Some(date) = date else {
                return Ok(Some(Expiry::At(end)));
            };
            return match end.duration_since(date) {
                Ok(lifetime) if !lifetime.is_zero() => Ok(Some(Expiry::In(lifetime))),
                _ => Err(expired("expires_on")),
            };
        }
        let Some(raw) = self.expires_in else {
            return Ok(None);
        };
        let seconds = seconds::whole_seconds(raw)
            .ok_or_else(|| malformed("expires_in is not a number of seconds"))?;
        let lifetime = seconds::lifetime(seconds).ok_or_else(|| expired("expires_in"))?;
        Ok(Some(Expiry::In(lifetime)))
    }
}

/// The parser's own error names a place or a field and never a value.
fn unreadable(error: serde_json::Error) -> Error {
    if error.is_eof() {
        malformed("the answer breaks off in the middle")
    } else if error.is_data() {
        // Every member is taken as it is, so what is wrong with the data can only be a second one.
        malformed("the answer has a field twice").with_cause(error)
    } else {
        malformed("the answer is not JSON").with_cause(error)
    }
}

/// Some issuers write the member into every answer.
fn says_none(error: &RawValue) -> bool {
    matches!(error.get(), r#""""# | "false")
}

fn unusable(token_type: &str) -> Error {
    if token_type.eq_ignore_ascii_case("N_A") {
        return malformed(
            "the issuer gave a token of type N_A, which is no access token and can only be exchanged; \
             ask for urn:ietf:params:oauth:token-type:access_token",
        );
    }
    if token_type.eq_ignore_ascii_case(DPOP) {
        return malformed(
            "the issuer gave a token of type DPoP, which is bound to a key, and none was offered",
        );
    }
    Error::new(
        ErrorKind::Malformed,
        format!("the issuer gave a token of type {token_type}, which is not a bearer token"),
    )
}

fn expired(field: &str) -> Error {
    Error::new(
        ErrorKind::Malformed,
        format!("the token is already expired, says {field}"),
    )
}

fn malformed(message: &'static str) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

const BEARER: &str = "Bearer";
const DPOP: &str = "DPoP";
