use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use http::HeaderName;
use http::header::AUTHORIZATION;

use crate::{Credential, Expiry, Fingerprint, RefreshHint, Secret};

/// A secret text, the header it belongs in, and how long it lives.
///
/// The source names the header because the header is part of the credential: the same characters are
/// right as `Authorization: Bearer` and wrong as `x-api-key`.
///
/// ```
/// use std::time::Duration;
/// use http::HeaderName;
/// use tower_auth_core::{HeaderMode, Token};
///
/// let token = Token::bearer("an-access-token")
///     .expires_in(Duration::from_secs(3600))
///     .with_header(HeaderName::from_static("anthropic-beta"), "oauth-2025-04-20", HeaderMode::MergeList);
/// let key = Token::in_header(HeaderName::from_static("x-api-key"), "…").never_expires();
/// assert_eq!(key.placement().name(), "x-api-key");
/// # let _ = token;
/// ```
#[derive(Clone)]
pub struct Token {
    secret: Secret,
    placement: Placement,
    headers: Vec<ExtraHeader>,
    expiry: Expiry,
    refresh_hint: Option<RefreshHint>,
}

/// The header that a credential travels in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    name: HeaderName,
    scheme: Option<Cow<'static, str>>,
}

/// A header that goes with a credential.
#[derive(Clone)]
pub struct ExtraHeader {
    name: HeaderName,
    value: Secret,
    mode: HeaderMode,
}

/// What happens to a value that the request already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderMode {
    /// The credential's value takes its place.
    Replace,
    /// The header is a comma-separated list (RFC 9110 section 5.6.1) and the value is added to it
    /// unless it is there already.
    MergeList,
    /// The request's own value stays: the credential's is a default, as of a workspace.
    IfAbsent,
}

impl Token {
    /// `Authorization: Bearer <secret>` (RFC 6750 section 2.1).
    ///
    /// Until an expiry is set, it is [`Expiry::AskEvery`] five minutes.
    pub fn bearer(secret: impl Into<Secret>) -> Self {
        Self::with_scheme("Bearer", secret)
    }

    /// `Authorization: <scheme> <secret>` (RFC 9110 section 11.4).
    pub fn with_scheme(scheme: impl Into<Cow<'static, str>>, secret: impl Into<Secret>) -> Self {
        Self::placed(Placement::authorization(scheme), secret)
    }

    /// The secret alone, in a header of this name: `x-api-key`, `X-Vault-Token`.
    pub fn in_header(name: HeaderName, secret: impl Into<Secret>) -> Self {
        Self::placed(Placement::header(name), secret)
    }

    fn placed(placement: Placement, secret: impl Into<Secret>) -> Self {
        Self {
            secret: secret.into(),
            placement,
            headers: Vec::new(),
            expiry: Expiry::AskEvery(Self::DEFAULT_LIFETIME),
            refresh_hint: None,
        }
    }

    /// What a token whose issuer does not say is taken to live for.
    pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

    /// It lives for this long, counted from the moment the fetch began.
    #[must_use]
    pub fn expires_in(self, lifetime: Duration) -> Self {
        self.with_expiry(Expiry::In(lifetime))
    }

    /// It lives until this moment.
    #[must_use]
    pub fn expires_at(self, end: SystemTime) -> Self {
        self.with_expiry(Expiry::At(end))
    }

    /// It never expires and asking again would give the same.
    #[must_use]
    pub fn never_expires(self) -> Self {
        self.with_expiry(Expiry::Never)
    }

    /// Sets the expiry. See [`Expiry`].
    #[must_use]
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// Passes on when the issuer would like to be asked again.
    #[must_use]
    pub fn with_refresh_hint(mut self, hint: RefreshHint) -> Self {
        self.refresh_hint = Some(hint);
        self
    }

    /// Adds a header that goes with the credential.
    #[must_use]
    pub fn with_header(
        mut self,
        name: HeaderName,
        value: impl Into<Secret>,
        mode: HeaderMode,
    ) -> Self {
        self.headers.push(ExtraHeader {
            name,
            value: value.into(),
            mode,
        });
        self
    }

    /// Moves the credential to another header.
    #[must_use]
    pub fn with_placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// The text.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Where the text goes.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The headers that go with it.
    #[must_use]
    pub fn headers(&self) -> &[ExtraHeader] {
        &self.headers
    }
}

impl Credential for Token {
    fn expiry(&self) -> Expiry {
        self.expiry
    }

    fn fingerprint(&self) -> Fingerprint {
        self.secret.fingerprint()
    }

    fn refresh_hint(&self) -> Option<RefreshHint> {
        self.refresh_hint
    }

    fn jwt(&self) -> Option<&str> {
        Some(self.secret.expose())
    }
}

impl Placement {
    /// `Authorization`, with this scheme before the text.
    pub fn authorization(scheme: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: AUTHORIZATION,
            scheme: Some(scheme.into()),
        }
    }

    /// A header of this name, with nothing before the text.
    #[must_use]
    pub fn header(name: HeaderName) -> Self {
        Self { name, scheme: None }
    }

    /// The header's name.
    #[must_use]
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The authentication scheme before the text.
    #[must_use]
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scheme {
            Some(scheme) => write!(f, "{}: {scheme} …", self.name),
            None => write!(f, "{}: …", self.name),
        }
    }
}

impl ExtraHeader {
    /// The header's name.
    #[must_use]
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The header's value.
    #[must_use]
    pub fn value(&self) -> &Secret {
        &self.value
    }

    /// What happens to a value that is there already.
    #[must_use]
    pub fn mode(&self) -> HeaderMode {
        self.mode
    }
}

impl fmt::Debug for ExtraHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtraHeader")
            .field("name", &self.name)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// Shows where it goes, when it ends and a fingerprint; never the text.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("placement", &format_args!("{}", self.placement))
            .field("headers", &self.headers)
            .field("expiry", &self.expiry)
            .field("fingerprint", &self.secret.fingerprint())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let token = Token::bearer("canary-1").with_header(
            HeaderName::from_static("x-extra"),
            "canary-2",
            HeaderMode::Replace,
        );
        let shown = format!("{token:?} {token:#?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("authorization: Bearer …"), "{shown}");
    }

    #[test]
    fn a_token_that_says_nothing_is_not_eternal() {
        assert_eq!(
            Token::bearer("t").expiry(),
            Expiry::AskEvery(Duration::from_secs(300))
        );
    }
}
