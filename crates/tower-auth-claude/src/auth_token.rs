use std::fmt;

use tower_auth_core::{Description, Error, ErrorKind, Fetch, Secret, Token, TokenSource};
use tower_auth_io::World;

use crate::base_url::BaseUrl;
use crate::text::{self, Shape};
use crate::vars;

/// A bearer token that somebody else obtains and replaces: what `ANTHROPIC_AUTH_TOKEN` holds, usually the
/// token of a gateway.
///
/// It is sent as it is and never renewed. No `anthropic-beta` goes with it.
///
/// ```
/// use tower_auth_claude::AuthToken;
///
/// let token = AuthToken::new("gateway-token")?.with_base_url("https://gateway.example.com/claude")?;
/// # let _ = token;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct AuthToken {
    token: Secret,
    base: BaseUrl,
    description: Description,
}

impl AuthToken {
    /// This token, for <https://api.anthropic.com>. No variable is read.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is blank or in quotation marks, has a character
    /// that no token has, or is a refresh token.
    pub fn new(token: impl Into<Secret>) -> Result<Self, Error> {
        Self::from_setting("the bearer token", "argument", &token.into()).map_err(named)
    }

    /// The token in `ANTHROPIC_AUTH_TOKEN`, for the API at `ANTHROPIC_BASE_URL`. Whatever else the
    /// environment offers is not looked at.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) if the variable is not set or empty; otherwise as
    /// [`new`](Self::new), or because of `ANTHROPIC_BASE_URL`.
    pub fn from_env(world: &World) -> Result<Self, Error> {
        let token = world
            .env()
            .require_secret(vars::AUTH_TOKEN)
            .map_err(named)?;
        Self::from_setting(vars::AUTH_TOKEN, vars::AUTH_TOKEN, &token)
            .and_then(|source| Ok(source.at(vars::base_url(world)?)))
            .map_err(named)
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
        token: &Secret,
    ) -> Result<Self, Error> {
        let token = text::credential(setting, token)?;
        if Shape::of(token.expose()) == Shape::RefreshToken {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "{setting} holds an OAuth refresh token (sk-ant-ort…), which no API takes: \
                     use the profile that it belongs to"
                ),
            ));
        }
        Ok(Self {
            token,
            base: BaseUrl::standard()?,
            description: Description::new(NAME).with_setting("token", from),
        })
    }

    pub(crate) fn at(mut self, base: BaseUrl) -> Self {
        self.base = base;
        self
    }
}

impl TokenSource for AuthToken {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        Ok(Token::bearer(self.token.clone()).never_expires())
    }

    fn describe(&self) -> Description {
        text::with_prefixes(self.description.clone()).with_origin(self.base.origin().clone())
    }
}

impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthToken")
            .field("base", &self.base)
            .field("fingerprint", &self.token.fingerprint())
            .finish_non_exhaustive()
    }
}

fn named(error: Error) -> Error {
    error.or_source(NAME)
}

const NAME: &str = "claude auth token";
