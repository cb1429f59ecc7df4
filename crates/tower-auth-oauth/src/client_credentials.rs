use std::borrow::Cow;
use std::time::Duration;

use tower_auth_core::{Description, Error, Fetch, Secret, Token, TokenSource};

use crate::{ClientAuth, Grant, TokenEndpoint};

/// A token for the client itself (RFC 6749 section 4.4), as a [`TokenSource`].
///
/// ```
/// use tower_auth_core::TokenSource;
/// use tower_auth_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};
///
/// # let world = tower_auth_io::World::closed();
/// let endpoint = TokenEndpoint::new("https://login.example.com/token", &world)?;
/// let client = ClientAuth::secret_basic("reports", "s3cr3t")?;
/// let source = ClientCredentials::new(endpoint, client).with_scope("orders.read");
/// assert_eq!(
///     source.describe().to_string(),
///     "oauth client credentials (token from https://login.example.com/token)",
/// );
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    endpoint: TokenEndpoint,
    auth: ClientAuth,
    grant: Grant,
    default_lifetime: Duration,
    description: Description,
}

impl ClientCredentials {
    /// Tokens from this endpoint for this client.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, auth: ClientAuth) -> Self {
        let description = Description::new("oauth client credentials")
            .with_setting("token", endpoint.url().to_string());
        Self {
            endpoint,
            auth,
            grant: Grant::client_credentials(),
            default_lifetime: Token::DEFAULT_LIFETIME,
            description,
        }
    }

    /// Adds one scope, or several with blanks between them. See [`Grant::with_scope`].
    #[must_use]
    pub fn with_scope(self, scope: &str) -> Self {
        self.map_grant(|grant| grant.with_scope(scope))
    }

    /// Adds the URI of an API that the token is for. See [`Grant::with_resource`].
    #[must_use]
    pub fn with_resource(self, uri: impl Into<String>) -> Self {
        self.map_grant(|grant| grant.with_resource(uri))
    }

    /// Adds the name of an API that the token is for. See [`Grant::with_audience`].
    #[must_use]
    pub fn with_audience(self, audience: impl Into<String>) -> Self {
        self.map_grant(|grant| grant.with_audience(audience))
    }

    /// Adds a field that this issuer wants.
    ///
    /// # Errors
    /// See [`Grant::with_parameter`].
    pub fn with_parameter(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Result<Self, Error> {
        self.grant = self.grant.with_parameter(name, value)?;
        Ok(self)
    }

    /// Adds a field whose value is a secret.
    ///
    /// # Errors
    /// See [`Grant::with_secret_parameter`].
    pub fn with_secret_parameter(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Secret>,
    ) -> Result<Self, Error> {
        self.grant = self.grant.with_secret_parameter(name, value)?;
        Ok(self)
    }

    /// How long a token is taken to live whose issuer does not say, and which is no JWT with an `exp`:
    /// five minutes where this is not called, and a second at least.
    #[must_use]
    pub fn with_default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = lifetime.max(Duration::from_secs(1));
        self
    }

    /// Says what this source is and where its settings came from, for an integration that knows better.
    /// The name is also the one in errors.
    #[must_use]
    pub fn with_description(mut self, description: Description) -> Self {
        self.description = description;
        self
    }

    fn map_grant(mut self, change: impl FnOnce(Grant) -> Grant) -> Self {
        self.grant = change(self.grant);
        self
    }
}

impl TokenSource for ClientCredentials {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        self.endpoint
            .request(cx, &self.grant, &self.auth)
            .await
            .and_then(|response| {
                response
                    .into_token(self.default_lifetime)
                    .map_err(|error| error.with_endpoint(self.endpoint.url().uri()))
            })
            .map_err(|error| error.or_source(self.description.name().to_owned()))
    }

    fn describe(&self) -> Description {
        self.description.clone()
    }
}
