use std::borrow::Cow;
use std::convert::Infallible;
use std::time::Duration;

use tower_auth_core::{Description, Error, Fetch, Secret, Token, TokenSource};

use crate::{ClientAuth, Grant, GrantSource, TokenEndpoint};

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
pub struct ClientCredentials(GrantSource);

impl ClientCredentials {
    /// Tokens from this endpoint for this client.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, auth: ClientAuth) -> Self {
        Self(GrantSource::new(
            endpoint,
            auth,
            Grant::client_credentials(),
        ))
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
        self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Result<Self, Error> {
        let change = |grant: Grant| grant.with_parameter(name, value);
        self.0.map_grant(change).map(Self)
    }

    /// Adds a field whose value is a secret.
    ///
    /// # Errors
    /// See [`Grant::with_secret_parameter`].
    pub fn with_secret_parameter(
        self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Secret>,
    ) -> Result<Self, Error> {
        let change = |grant: Grant| grant.with_secret_parameter(name, value);
        self.0.map_grant(change).map(Self)
    }

    /// How long a token is taken to live whose issuer does not say, and which is no JWT with an `exp`:
    /// five minutes where this is not called, and a second at least.
    #[must_use]
    pub fn with_default_lifetime(self, lifetime: Duration) -> Self {
        Self(self.0.with_default_lifetime(lifetime))
    }

    /// Says what this source is and where its settings came from, for an integration that knows better.
    /// The name is also the one in errors.
    #[must_use]
    pub fn with_description(self, description: Description) -> Self {
        Self(self.0.with_description(description))
    }

    fn map_grant(self, change: impl FnOnce(Grant) -> Grant) -> Self {
        let Ok(source) = self.0.map_grant(|grant| Ok::<_, Infallible>(change(grant)));
        Self(source)
    }
}

impl TokenSource for ClientCredentials {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        self.0.fetch(cx).await
    }

    fn describe(&self) -> Description {
        self.0.describe()
    }
}
