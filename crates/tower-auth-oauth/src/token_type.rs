use std::borrow::Cow;
use std::fmt;

use tower_auth_core::{Error, ErrorKind};

/// What kind of token is exchanged, or asked for (RFC 8693 section 3).
///
/// ```
/// use tower_auth_oauth::TokenType;
///
/// assert_eq!(TokenType::JWT.to_string(), "urn:ietf:params:oauth:token-type:jwt");
/// let saml = TokenType::new("urn:ietf:params:oauth:token-type:saml2")?;
/// let error = TokenType::new(" ").unwrap_err();
/// assert!(error.to_string().contains("actor_token_type"));
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TokenType(Cow<'static, str>);

impl TokenType {
    /// An access token of the issuer that is asked.
    pub const ACCESS_TOKEN: Self = Self::known("urn:ietf:params:oauth:token-type:access_token");
    /// A refresh token of the issuer that is asked.
    pub const REFRESH_TOKEN: Self = Self::known("urn:ietf:params:oauth:token-type:refresh_token");
    /// An ID token (OpenID Connect Core 1.0 section 2).
    pub const ID_TOKEN: Self = Self::known("urn:ietf:params:oauth:token-type:id_token");
    /// A JWT of whatever use: the identity of a workload.
    pub const JWT: Self = Self::known("urn:ietf:params:oauth:token-type:jwt");

    /// Any other kind, by its URI.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is blank.
    pub fn new(uri: impl Into<Cow<'static, str>>) -> Result<Self, Error> {
        let uri = uri.into();
        if uri.trim().is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "subject_token_type, actor_token_type and requested_token_type must not be blank; \
                 they are URIs, like urn:ietf:params:oauth:token-type:jwt",
            ));
        }
        Ok(Self(uri))
    }

    /// The URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    const fn known(uri: &'static str) -> Self {
        Self(Cow::Borrowed(uri))
    }
}

impl fmt::Display for TokenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TokenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenType({self})")
    }
}
