use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::{HeaderMap, StatusCode};
use tower_auth_core::{Error, ErrorKind, Origin, Stamp, TokenSource};
use tower_layer::Layer;

use crate::origins::Origins;
use crate::registry::{Entry, Refused, Registration, Watched};
use crate::replay::ReplayLayer;
use crate::wiring::Wiring;
use crate::{Auth, Fail, Headers, TokenCache};

/// Puts a credential on each request of the service below, and keeps it fresh.
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, service_fn};
/// use tower_auth::{AuthLayer, BoxError, Fetch, Token, source_fn};
///
/// let source = source_fn(|_cx: Fetch| async {
///     Ok(Token::bearer("eyJ…").expires_in(Duration::from_secs(600)))
/// });
/// let client = ServiceBuilder::new()
///     .layer(AuthLayer::new(source).origins(["https://api.example.com"])?)
///     .service(service_fn(|request: http::Request<()>| async move {
///         assert!(request.headers().contains_key("authorization"));
///         Ok::<_, BoxError>(http::Response::new(()))
///     }));
/// # let _ = client;
/// # Ok::<(), tower_auth::Error>(())
/// ```
///
/// The service below can be any `Service<Request<B>, Response = Response<R>>` that is `Clone`, and its
/// error any that converts into [`BoxError`](crate::BoxError), which is the error of the resulting
/// [`Auth`] service; [`Error::find`] finds one of ours in it. It goes below retries, redirects and
/// timeouts, next to the client, so that each attempt is stamped anew.
///
/// Each call of [`layer`](Layer::layer) makes a service that is independent of the others but for the
/// cache, which they share.
#[must_use = "a layer does nothing until a service is wrapped in it"]
pub struct AuthLayer<P, S: Stamp = Headers, U = Fail> {
    cache: TokenCache<P, S>,
    origins: Origins,
    existing: OnExisting,
    foreign: Foreign,
    receipts: Receipts,
    refused: Option<Refused>,
    fallback: Arc<U>,
}

/// What happens to a request that carries something in the credential's place already.
///
/// Nothing is ever added to it. A value that was stamped by the same cache earlier, and comes back
/// because someone sends a stamped request again, is always replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnExisting {
    /// The caller's credential is sent and the cache's is not.
    #[default]
    Keep,
    /// The cache's credential takes its place. For a proxy, whose callers' headers must not go through.
    Replace,
    /// The caller gets an error.
    Error,
}

/// What happens to a request to an origin that the credential is not meant for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// It is sent without a credential.
    #[default]
    PassThrough,
    /// The caller gets an error.
    Error,
}

/// Which responses carry a [`Receipt`](crate::Receipt).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receipts {
    /// Those that refuse the credential.
    #[default]
    OnRefusal,
    /// All to requests that were stamped. Costs an allocation or two for each.
    Always,
}

impl<P: TokenSource> AuthLayer<P> {
    /// Stamps what this source gives, as a header, with the default refresh rules. Nothing is fetched
    /// before the first request.
    pub fn new(source: P) -> Self {
        Self::from_cache(TokenCache::new(source))
    }
}

impl<P, S> AuthLayer<P, S>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    /// Stamps what this source gives in another way than as a plain header, or as a header with other
    /// options than the default.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_auth::{AuthLayer, Headers, Placement};
    ///
    /// let stamp = Headers::new().named(Placement::header(HeaderName::from_static("x-api-key")));
    /// let layer = AuthLayer::with_stamp("a-fixed-key", stamp);
    /// # let _ = layer;
    /// ```
    pub fn with_stamp(source: P, stamp: S) -> Self {
        Self::from_cache(TokenCache::builder(source).stamp(stamp).build())
    }

    /// Stamps what this cache holds: for a cache that was made with other settings than the default, or
    /// that several layers share.
    pub fn from_cache(cache: TokenCache<P, S>) -> Self {
        Self {
            origins: Origins::of_source(cache.shared.description.origins()),
            cache,
            existing: OnExisting::default(),
            foreign: Foreign::default(),
            receipts: Receipts::default(),
            refused: None,
            fallback: Arc::new(Fail),
        }
    }
}

impl<P, S: Stamp, U> AuthLayer<P, S, U> {
    /// Stamps requests to these origins and no others. Replaces what the source says about where its
    /// credential is meant for.
    ///
    /// Where nothing is said at all, the credential goes to any `https` origin, and over plain `http`
    /// only to this machine. Naming the origins is better: it is what keeps a credential from following
    /// a redirect, or a URL that somebody else had a hand in.
    ///
    /// ```
    /// use tower_auth::AuthLayer;
    ///
    /// let layer = AuthLayer::new("t").origins(["https://api.example.com", "http://10.0.0.7:8080"])?;
    /// assert!(AuthLayer::new("t").origins(["api.example.com"]).is_err());
    /// # let _ = layer;
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if one is not an absolute `http` or `https` URL, or if
    /// there is none.
    pub fn origins(
        self,
        origins: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, Error> {
        let origins = origins
            .into_iter()
            .map(|origin| origin.as_ref().parse())
            .collect::<Result<Vec<Origin>, _>>()?;
        if origins.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "no origin is named, so the credential would never be sent",
            ));
        }
        Ok(self.with_origins(origins))
    }

    /// As [`origins`](Self::origins), for origins that have been parsed already.
    pub fn with_origins(mut self, origins: impl IntoIterator<Item = Origin>) -> Self {
        self.origins = Origins::only(origins);
        self
    }

    /// Stamps each request, wherever it goes and however.
    ///
    /// This is for an inner service that talks to one server only and whose requests may not even name
    /// it: a tonic `Channel`, an HTTP/1 connection. Around a client that goes wherever a URL says, it
    /// hands the credential to everybody.
    pub fn any_origin(mut self) -> Self {
        self.origins = Origins::Any;
        self
    }

    /// What happens to a request to another origin.
    pub fn on_foreign_origin(mut self, foreign: Foreign) -> Self {
        self.foreign = foreign;
        self
    }

    /// What happens to a request that carries a credential already.
    pub fn on_existing(mut self, existing: OnExisting) -> Self {
        self.existing = existing;
        self
    }

    /// What happens to a request for which there is no credential. See
    /// [`OnUnavailable`](crate::OnUnavailable).
    pub fn on_unavailable<V>(self, fallback: V) -> AuthLayer<P, S, V> {
        AuthLayer {
            cache: self.cache,
            origins: self.origins,
            existing: self.existing,
            foreign: self.foreign,
            receipts: self.receipts,
            refused: self.refused,
            fallback: Arc::new(fallback),
        }
    }

    /// Which responses refuse the credential; those with status 401 where this is not called.
    ///
    /// It is asked about each response to a request that was stamped. Leave 403 out unless the API
    /// answers so to an invalid credential: a permission that is missing will not come with a new token.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_auth::AuthLayer;
    ///
    /// // gRPC answers with status 200 and UNAUTHENTICATED (16) in a header.
    /// let layer = AuthLayer::new("t").refused(|status, headers| {
    ///     status == StatusCode::UNAUTHORIZED
    ///         || headers.get("grpc-status").is_some_and(|code| code == "16")
    /// });
    /// # let _ = layer;
    /// ```
    pub fn refused(
        mut self,
        refused: impl Fn(StatusCode, &HeaderMap) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.refused = Some(Arc::new(refused));
        self
    }

    /// Which responses carry a [`Receipt`](crate::Receipt).
    pub fn receipts(mut self, receipts: Receipts) -> Self {
        self.receipts = receipts;
        self
    }

    /// Sends a request whose credential was refused once more when there is a newer one: for those who
    /// have no retry layer. See [`ReplayLayer`].
    pub fn replay_once(self) -> ReplayLayer<P, S, U> {
        ReplayLayer::new(self)
    }

    /// The cache, to wait for it at start-up or to watch it.
    #[must_use]
    pub fn cache(&self) -> &TokenCache<P, S> {
        &self.cache
    }
}

impl<I, P, S, U> Layer<I> for AuthLayer<P, S, U>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    type Service = Auth<I, P, S, U>;

    fn layer(&self, inner: I) -> Self::Service {
        let cache = Arc::clone(&self.cache.shared);
        let watched: Arc<dyn Watched> = cache.clone();
        let registration = Registration::new(Entry {
            cache: Arc::downgrade(&watched),
            source: Some(cache.description.name().into()),
            generations: u64::MAX,
            refused: self.refused.clone(),
            receipts_always: self.receipts == Receipts::Always,
        });
        Auth::new(
            inner,
            Wiring {
                cache,
                origins: self.origins.clone(),
                existing: self.existing,
                foreign: self.foreign,
                fallback: Arc::clone(&self.fallback),
                registration,
                told: AtomicBool::new(false),
            },
        )
    }
}

impl<P, S: Stamp, U> Clone for AuthLayer<P, S, U> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            origins: self.origins.clone(),
            existing: self.existing,
            foreign: self.foreign,
            receipts: self.receipts,
            refused: self.refused.clone(),
            fallback: Arc::clone(&self.fallback),
        }
    }
}

impl<P, S> From<TokenCache<P, S>> for AuthLayer<P, S>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    fn from(cache: TokenCache<P, S>) -> Self {
        Self::from_cache(cache)
    }
}

impl<P, S: Stamp, U> fmt::Debug for AuthLayer<P, S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer")
            .field("cache", &self.cache)
            .field("origins", &self.origins)
            .field("on_existing", &self.existing)
            .field("on_foreign_origin", &self.foreign)
            .field("receipts", &self.receipts)
            .finish_non_exhaustive()
    }
}
