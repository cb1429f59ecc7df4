use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tower_auth_core::{Description, Error, Fetch, Fingerprint, Secret, Token, TokenSource};

use crate::{ClientAuth, Grant, RefreshTokenLease, RefreshTokenStore, TokenEndpoint};

/// Access tokens for a refresh token (RFC 6749 section 6), as a [`TokenSource`].
///
/// Many issuers give a new refresh token with each answer and take the old one no more; whoever sends the
/// old one again may lose all of them (RFC 9700 section 4.14.2). So the refresh token is in a
/// [`RefreshTokenStore`], is used by one at a time, and a new one is put there before the access token
/// that came with it is given out. What is lost all the same is an answer that never arrived: if the
/// issuer takes the old one no more by then, somebody has to log in again.
///
/// ```
/// use tower_auth_oauth::{ClientAuth, RefreshToken, RefreshTokenFile, TokenEndpoint};
///
/// # let world = tower_auth_io::World::closed();
/// let endpoint = TokenEndpoint::new("https://login.example.com/token", &world)?;
/// let store = RefreshTokenFile::new("/var/lib/reports/refresh-token", &world);
/// let source = RefreshToken::new(endpoint, ClientAuth::none("reports")?, store);
/// # let _ = source;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct RefreshToken {
    endpoint: TokenEndpoint,
    auth: ClientAuth,
    grant: Grant,
    store: Arc<dyn RefreshTokenStore>,
    memory: Arc<Mutex<Memory>>,
    default_lifetime: Duration,
    description: Description,
}

#[derive(Default)]
struct Memory {
    /// A new refresh token that has not reached the store yet, and the one that it replaces.
    unsaved: Option<(Fingerprint, Secret)>,
    /// The one that the issuer takes no more, since when, and what it said.
    refused: Option<(Fingerprint, SystemTime, Error)>,
}

impl RefreshToken {
    /// Tokens from this endpoint for this client and the refresh token in this store.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, auth: ClientAuth, store: impl RefreshTokenStore) -> Self {
        let grant = Grant::refresh_token(Secret::from(""));
        let description = Description::new(grant.name())
            .with_setting("token", endpoint.url().to_string())
            .with_setting("refresh token", store.place());
        Self {
            endpoint,
            auth,
            grant,
            store: Arc::new(store),
            memory: Arc::default(),
            default_lifetime: Token::DEFAULT_LIFETIME,
            description,
        }
    }

    /// Asks for less than the refresh token is good for. See [`Grant::with_scope`].
    #[must_use]
    pub fn with_scope(mut self, scope: &str) -> Self {
        self.grant = self.grant.with_scope(scope);
        self
    }

    /// Adds the URI of an API that the token is for. See [`Grant::with_resource`].
    #[must_use]
    pub fn with_resource(mut self, uri: impl Into<String>) -> Self {
        self.grant = self.grant.with_resource(uri);
        self
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

    /// See [`GrantSource::with_default_lifetime`](crate::GrantSource::with_default_lifetime).
    #[must_use]
    pub fn with_default_lifetime(mut self, lifetime: Duration) -> Self {
        self.default_lifetime = lifetime.max(Duration::from_secs(1));
        self
    }

    /// See [`GrantSource::with_description`](crate::GrantSource::with_description).
    #[must_use]
    pub fn with_description(mut self, description: Description) -> Self {
        self.description = description;
        self
    }

    async fn renew(&self, cx: &Fetch) -> Result<Token, Error> {
        let lease = self.store.take().await?;
        let token = self.newest(&lease).await?;
        let now = self.endpoint.world().clock().now();
        self.remind_of_refusal(&token, now)?;
        let grant = self.grant.clone().with_refresh_token(token.clone());
        let response = match self.endpoint.request(cx, &grant, &self.auth).await {
            Err(error) if error.code() == Some("invalid_grant") => {
                let error = error.with_hint(
                    "the refresh token has expired, was revoked or was used before; log in again",
                );
                self.memory().refused = Some((token.fingerprint(), now, error.clone()));
                return Err(error);
            }
            answer => answer?,
        };
        if let Some(next) = response.refresh_token() {
            if next.expose() != token.expose() {
                // Remembered before anything else can go wrong: this fetch may be dropped while the store
                // is at work, and the old one is of no use from here on.
                self.memory().unsaved = Some((token.fingerprint(), next.clone()));
                self.save(&lease, next).await?;
            }
        }
        response
            .into_token(self.default_lifetime)
            .map_err(|error| error.with_endpoint(self.endpoint.url().uri()))
    }

    /// The refresh token to use: that of the store, unless its successor has not got there yet.
    async fn newest(&self, lease: &RefreshTokenLease) -> Result<Secret, Error> {
        let stored = lease.token();
        let unsaved = self.memory().unsaved.clone();
        match unsaved {
            Some((replaced, next)) if replaced == stored.fingerprint() => {
                self.save(lease, &next).await?;
                Ok(next)
            }
            _ => {
                // Somebody has put another one there since.
                self.memory().unsaved = None;
                Ok(stored.clone())
            }
        }
    }

    async fn save(&self, lease: &RefreshTokenLease, token: &Secret) -> Result<(), Error> {
        self.store.put(lease, token.clone()).await?;
        self.memory().unsaved = None;
        Ok(())
    }

    /// Asking again with what was refused is of no use, and counts as an attack with some issuers.
    fn remind_of_refusal(&self, token: &Secret, now: SystemTime) -> Result<(), Error> {
        match &self.memory().refused {
            Some((refused, since, error))
                if *refused == token.fingerprint()
                    && now
                        .duration_since(*since)
                        .is_ok_and(|age| age < REFUSAL_COUNTS_FOR) =>
            {
                Err(error.clone())
            }
            _ => Ok(()),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenSource for RefreshToken {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        self.renew(cx)
            .await
            .map_err(|error| error.or_source(self.description.name().to_owned()))
    }

    fn describe(&self) -> Description {
        self.description.clone()
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken")
            .field("endpoint", &self.endpoint)
            .field("auth", &self.auth)
            .field("grant", &self.grant)
            .field("store", &self.store.place())
            .field("default_lifetime", &self.default_lifetime)
            .finish_non_exhaustive()
    }
}

const REFUSAL_COUNTS_FOR: Duration = Duration::from_secs(60);
