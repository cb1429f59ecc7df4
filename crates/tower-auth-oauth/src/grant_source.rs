use std::time::Duration;

use tower_auth_core::{Description, Error, Fetch, Token, TokenSource};

use crate::{ClientAuth, Grant, TokenEndpoint};

/// A token for any [`Grant`], as a [`TokenSource`].
///
/// ```
/// use tower_auth_core::bearer_fn;
/// use tower_auth_oauth::{ClientAuth, Grant, GrantSource, TokenEndpoint};
///
/// # let world = tower_auth_io::World::closed();
/// let workload = bearer_fn(|| async { Ok("eyJ…") });
/// let endpoint = TokenEndpoint::new("https://login.example.com/token", &world)?;
/// let grant = Grant::jwt_bearer(workload).with_scope("orders.read");
/// let source = GrantSource::new(endpoint, ClientAuth::anonymous(), grant);
/// # let _ = source;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GrantSource {
    endpoint: TokenEndpoint,
    auth: ClientAuth,
    grant: Grant,
    default_lifetime: Duration,
    description: Description,
}

impl GrantSource {
    /// Tokens from this endpoint for this client and grant.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, auth: ClientAuth, grant: Grant) -> Self {
        let description =
            Description::new(grant.name()).with_setting("token", endpoint.url().to_string());
        Self {
            endpoint,
            auth,
            grant,
            default_lifetime: Token::DEFAULT_LIFETIME,
            description,
        }
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

    pub(crate) fn map_grant<E>(
        mut self,
        change: impl FnOnce(Grant) -> Result<Grant, E>,
    ) -> Result<Self, E> {
        self.grant = change(self.grant)?;
        Ok(self)
    }
}

impl TokenSource for GrantSource {
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
