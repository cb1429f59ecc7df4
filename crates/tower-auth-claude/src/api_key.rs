use std::fmt;

use http::HeaderName;
use tower_auth_core::{Description, Error, ErrorKind, Fetch, Secret, Token, TokenSource};
use tower_auth_io::World;

use crate::base_url::BaseUrl;
use crate::text::{self, Shape};
use crate::vars;

/// A key of the Claude Console, `sk-ant-api…`, as a source.
///
/// It travels as `x-api-key`, which every version of the API and every gateway takes, or as a bearer token
/// if [`with_header`](Self::with_header) says so; never as both. It goes to the origin of its base URL and
/// nowhere else.
///
/// ```
/// use tower_auth_claude::ApiKey;
/// use tower_auth_core::TokenSource;
///
/// let key = ApiKey::new("sk-ant-api03-example")?;
/// assert_eq!(key.describe().origins()[0].to_string(), "https://api.anthropic.com");
///
/// let error = ApiKey::new("sk-ant-oat01-example").unwrap_err();
/// assert!(error.to_string().contains("OAuth access token"));
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct ApiKey {
    key: Secret,
    header: ApiKeyHeader,
    base: BaseUrl,
    description: Description,
}

/// The header that an [`ApiKey`] travels in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApiKeyHeader {
    /// `x-api-key: <key>`.
    #[default]
    XApiKey,
    /// `authorization: Bearer <key>`, as the official clients send it from API version 2026-10-21 on.
    Bearer,
}

impl ApiKey {
    /// This key, for <https://api.anthropic.com>. No variable is read.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is blank or in quotation marks, has a character
    /// that no key has, or is an OAuth token.
    pub fn new(key: impl Into<Secret>) -> Result<Self, Error> {
        Self::from_setting("the API key", "argument", &key.into()).map_err(named)
    }

    /// The key in `ANTHROPIC_API_KEY`, for the API at `ANTHROPIC_BASE_URL`. Whatever else the environment
    /// offers is not looked at.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) if the variable is not set or empty; otherwise as
    /// [`new`](Self::new), or because of `ANTHROPIC_BASE_URL`.
    pub fn from_env(world: &World) -> Result<Self, Error> {
        let key = world
            .env()
            .require_secret(vars::API_KEY)
            .map_err(|error| named(error).with_hint("make a key in the Console"))?;
        Self::from_setting(vars::API_KEY, vars::API_KEY, &key)
            .and_then(|source| Ok(source.at(vars::base_url(world)?)))
            .map_err(named)
    }

    /// Sends it in this header.
    #[must_use]
    pub fn with_header(mut self, header: ApiKeyHeader) -> Self {
        self.header = header;
        self
    }

    /// Sends it to the API at this URL instead of <https://api.anthropic.com>.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is neither `https` nor `http` to this machine.
    pub fn with_base_url(self, url: &str) -> Result<Self, Error> {
        let base = BaseUrl::parse("the base URL", url).map_err(named)?;
        Ok(self.at(base))
    }

    pub(crate) fn from_setting(
        setting: &str,
        from: &'static str,
        key: &Secret,
    ) -> Result<Self, Error> {
        let key = text::credential(setting, key)?;
        let wrong_slot = |what: &str| {
            Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{setting} holds {what}"),
            ))
        };
        match Shape::of(key.expose()) {
            Shape::AccessToken => wrong_slot(
                "an OAuth access token (sk-ant-oat…), which is no API key: it belongs in ANTHROPIC_AUTH_TOKEN",
            ),
            Shape::RefreshToken => wrong_slot(
                "an OAuth refresh token (sk-ant-ort…), which no API takes: use the profile that it belongs to",
            ),
            Shape::Jwt => wrong_slot(
                "a JWT, which is no API key: an identity token belongs in ANTHROPIC_IDENTITY_TOKEN",
            ),
            Shape::Key | Shape::Other => Ok(Self {
                key,
                header: ApiKeyHeader::default(),
                base: BaseUrl::standard()?,
                description: Description::new(NAME).with_setting("key", from),
            }),
        }
    }

    pub(crate) fn at(mut self, base: BaseUrl) -> Self {
        self.base = base;
        self
    }
}

impl TokenSource for ApiKey {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        let token = match self.header {
            ApiKeyHeader::XApiKey => Token::in_header(X_API_KEY, self.key.clone()),
            ApiKeyHeader::Bearer => Token::bearer(self.key.clone()),
        };
        Ok(token.never_expires())
    }

    fn describe(&self) -> Description {
        text::with_prefixes(self.description.clone()).with_origin(self.base.origin().clone())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("header", &self.header)
            .field("base", &self.base)
            .field("fingerprint", &self.key.fingerprint())
            .finish_non_exhaustive()
    }
}

fn named(error: Error) -> Error {
    error.or_source(NAME)
}

const NAME: &str = "claude api key";
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
