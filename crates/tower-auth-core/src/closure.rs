use std::fmt;
use std::time::Duration;

use crate::{
    BoxError, Caching, Credential, Description, Error, ErrorKind, Expiry, Fetch, Secret, Token,
    TokenSource,
};

/// A source made of a closure that returns a credential with its expiry.
///
/// ```
/// use std::time::Duration;
/// use tower_auth_core::{Fetch, Token, source_fn};
///
/// let source = source_fn(|_cx: Fetch| async {
///     Ok(Token::bearer("an-access-token").expires_in(Duration::from_secs(600)))
/// })
/// .named("my broker");
/// # let _ = source;
/// ```
pub fn source_fn<T, F, Fut>(fetch: F) -> SourceFn<F>
where
    F: Fn(Fetch<T>) -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    SourceFn {
        fetch,
        name: "closure",
    }
}

/// A source made of a plain callable that returns a token and knows nothing of its expiry.
///
/// The token goes into `Authorization: Bearer`. If it is a JWT its `exp` is its end; otherwise the
/// closure is asked again every five minutes, or as [`BearerFn::ask_every`] says. Any error can be
/// passed up with `?`; its text is shown, so it must hold no secret.
///
/// ```
/// use tower_auth_core::bearer_fn;
///
/// let source = bearer_fn(|| async { Ok("an-access-token") });
/// # let _ = source;
/// ```
pub fn bearer_fn<S, F, Fut>(fetch: F) -> BearerFn<F>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<S, BoxError>>,
    S: Into<Secret>,
{
    BearerFn {
        fetch,
        name: "closure",
        ask_every: Token::DEFAULT_LIFETIME,
        caching: Caching::Shared,
    }
}

/// See [`source_fn`].
#[derive(Clone)]
pub struct SourceFn<F> {
    fetch: F,
    name: &'static str,
}

impl<F> SourceFn<F> {
    /// What errors and logs call it.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }
}

impl<T, F, Fut> TokenSource<T> for SourceFn<F>
where
    T: Credential,
    F: Fn(Fetch<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, Error>> + Send,
{
    async fn fetch(&self, cx: &Fetch<T>) -> Result<T, Error> {
        (self.fetch)(cx.clone())
            .await
            .map_err(|error| error.or_source(self.name))
    }

    fn describe(&self) -> Description {
        Description::new(self.name)
    }
}

/// See [`bearer_fn`].
#[derive(Clone)]
pub struct BearerFn<F> {
    fetch: F,
    name: &'static str,
    ask_every: Duration,
    caching: Caching,
}

impl<F> BearerFn<F> {
    /// What errors and logs call it.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// How long a token is used before the closure is asked again; five minutes where this is not
    /// called. A JWT's own `exp` has precedence.
    #[must_use]
    pub fn ask_every(mut self, period: Duration) -> Self {
        self.ask_every = period;
        self
    }

    /// Asks the closure for each request, and for several at the same time, because it caches by
    /// itself. This takes requests off the fast path: each one pays for the call.
    #[must_use]
    pub fn per_request(mut self) -> Self {
        self.caching = Caching::PerRequest;
        self
    }
}

impl<F, Fut, S> TokenSource for BearerFn<F>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<S, BoxError>> + Send,
    S: Into<Secret>,
{
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        match (self.fetch)().await {
            Ok(secret) => Ok(Token::bearer(secret).with_expiry(Expiry::AskEvery(self.ask_every))),
            Err(cause) => Err(match cause.downcast::<Error>() {
                Ok(error) => error.or_source(self.name),
                Err(cause) => Error::new(ErrorKind::Unavailable, "the closure failed")
                    .with_source_name(self.name)
                    .with_cause(cause),
            }),
        }
    }

    fn describe(&self) -> Description {
        Description::new(self.name)
    }

    fn caching(&self) -> Caching {
        self.caching
    }
}

impl<F> fmt::Debug for SourceFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceFn")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for BearerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerFn")
            .field("name", &self.name)
            .field("ask_every", &self.ask_every)
            .field("caching", &self.caching)
            .finish_non_exhaustive()
    }
}
