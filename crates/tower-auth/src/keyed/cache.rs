use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower_auth_core::{BoxTokenSource, Clock, Error, Stamp, TokenSource};

use super::tenants::{Limits, Make, Tenants};
use super::{Key, KeyId};
use crate::clock::Clocks;
use crate::policy::RefreshOptions;
use crate::{Headers, Health, Shape, TokenCache};

/// A [`TokenCache`] for each key, made when the key is first seen and dropped when it is not used any
/// more.
///
/// Each key's credential is fetched, renewed and replaced for itself, by the same rules as that of a
/// single cache; one key's failing issuer is no concern of the others. One background task drives all of
/// them. A credential that nobody used is not renewed, and a key that nobody uses goes: after an hour, or
/// when there are more than 1,024 and it is the least recently used (both can be set). A key that comes
/// back begins anew, with a fetch.
///
/// This is a handle; clones share one cache. [`AuthLayer::keyed`](crate::AuthLayer::keyed) makes one by
/// itself.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// use std::time::Duration;
/// use tower_auth::{Fetch, KeyedCache, Token, source_fn};
///
/// let cache: KeyedCache<str> = KeyedCache::new(|tenant: &str| {
///     let tenant = tenant.to_owned();
///     source_fn(move |_cx: Fetch| {
///         let token = format!("a-token-of-{tenant}");
///         async { Ok(Token::bearer(token).expires_in(Duration::from_secs(600))) }
///     })
/// });
/// assert_eq!(cache.get("a").await?.secret().expose(), "a-token-of-a");
/// assert_eq!(cache.get("b").await?.secret().expose(), "a-token-of-b");
/// assert_eq!(cache.len(), 2);
/// # Ok(()) }
/// ```
pub struct KeyedCache<K: Key + ?Sized, S: Stamp = Headers> {
    pub(super) tenants: Arc<Tenants<K, S>>,
}

impl<K: Key + ?Sized> KeyedCache<K> {
    /// A cache with the default settings. `make` makes the source of a key; it is called when a key is
    /// first seen, may be called more than once for it, and has to be quick.
    pub fn new<P: TokenSource>(make: impl Fn(&K) -> P + Send + Sync + 'static) -> Self {
        KeyedCacheBuilder::new(make).build()
    }
}

impl KeyedCache<str> {
    /// A cache with other than the default settings, for keys of any type.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_auth::KeyedCache;
    ///
    /// let cache: KeyedCache<u64> = KeyedCache::builder(|user: &u64| format!("token-{user}"))
    ///     .max_keys(100_000)
    ///     .max_idle(Duration::from_secs(600))
    ///     .build();
    /// # let _ = cache;
    /// ```
    pub fn builder<M>(make: M) -> KeyedCacheBuilder<M> {
        KeyedCacheBuilder::new(make)
    }
}

impl<K: Key + ?Sized, S: Stamp> KeyedCache<K, S> {
    /// The credential of this key, fetched if need be. However many callers wait, one fetch runs.
    ///
    /// # Errors
    /// As [`TokenCache::get`].
    pub async fn get(&self, key: &K) -> Result<Arc<S::Credential>, Error> {
        let cache = self.tenant(key);
        cache.get().await
    }

    /// The cache of this key alone, to be held on to by those who have many requests for one key. While
    /// it is held the key counts as used.
    ///
    /// [`shutdown`](TokenCache::shutdown) of it concerns this key alone.
    #[must_use]
    pub fn tenant(&self, key: &K) -> TokenCache<BoxTokenSource<S::Credential>, Arc<S>> {
        TokenCache {
            shared: self.tenants.find_or_admit(key),
        }
    }

    /// How this key is doing; `None` if it is not held. Asking does not count as use.
    #[must_use]
    pub fn health(&self, key: &K) -> Option<Health> {
        self.tenants.peek(key).map(|cache| cache.health())
    }

    /// What this key is called in logs.
    #[must_use]
    pub fn key_id(&self, key: &K) -> KeyId {
        self.tenants.key_id(key)
    }

    /// How many keys are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether no key is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys were dropped so far because there were too many or nobody used them.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.tenants.evictions()
    }

    /// Drops this key: its user has logged out, its tenant has gone. Those who wait for it are served, a
    /// fetch under way ends by itself, and the next request with this key begins anew. `false` if it was
    /// not held.
    pub fn remove(&self, key: &K) -> bool {
        self.tenants.remove(key)
    }

    /// Ends the background task and waits for its end. Fetches under way are dropped. The credentials
    /// that are there serve until their end; after that, callers get an error.
    pub async fn shutdown(&self) {
        self.tenants.scheduler.shutdown().await;
    }
}

/// Settings of a [`KeyedCache`]. Made by [`KeyedCache::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct KeyedCacheBuilder<M, S = Headers> {
    make: M,
    stamp: S,
    options: RefreshOptions,
    clock: Option<Arc<dyn Clock>>,
    check_clock: bool,
    max_keys: usize,
    max_idle: Duration,
    max_fetches: usize,
    shape: Shape,
    seed: Option<u64>,
}

impl<M> KeyedCacheBuilder<M> {
    fn new(make: M) -> Self {
        Self {
            make,
            stamp: Headers::new(),
            options: RefreshOptions::default(),
            clock: None,
            check_clock: true,
            max_keys: 1024,
            max_idle: Duration::from_secs(3600),
            max_fetches: 64,
            shape: Shape::default(),
            seed: None,
        }
    }
}

impl<M, S> KeyedCacheBuilder<M, S> {
    /// Stamps in another way than as a plain header.
    pub fn stamp<Z: Stamp>(self, stamp: Z) -> KeyedCacheBuilder<M, Z> {
        KeyedCacheBuilder {
            make: self.make,
            stamp,
            options: self.options,
            clock: self.clock,
            check_clock: self.check_clock,
            max_keys: self.max_keys,
            max_idle: self.max_idle,
            max_fetches: self.max_fetches,
            shape: self.shape,
            seed: self.seed,
        }
    }

    /// When to refresh each credential, how long to wait, how to back off.
    pub fn refresh(mut self, options: RefreshOptions) -> Self {
        self.options = options;
        self
    }

    /// Another wall clock than the system's. It is read for each request.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Does not compare the wall clock with the credential's end for each request. See
    /// [`TokenCacheBuilder::without_clock_check`](crate::TokenCacheBuilder::without_clock_check).
    pub fn without_clock_check(mut self) -> Self {
        self.check_clock = false;
        self
    }

    /// How many keys are kept at most; 1,024 by default, at least 1. With one more, those that were used
    /// least recently go, first of all those that nobody waits for. No key is ever refused.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys.max(1);
        self
    }

    /// How long a key is kept that nobody uses; an hour by default, at least 1 s. It may stay for an
    /// eighth longer.
    pub fn max_idle(mut self, idle: Duration) -> Self {
        self.max_idle = idle.max(Duration::from_secs(1));
        self
    }

    /// How many fetches run at once for all keys together; 64 by default, at least 1. One that takes
    /// longer than 3 s is not counted any more: issuers that hang do not hold up the keys of others.
    pub fn max_fetches(mut self, fetches: usize) -> Self {
        self.max_fetches = fetches.max(1);
        self
    }

    /// What happens to a token whose shape does not fit its header. See
    /// [`TokenCacheBuilder::shape`](crate::TokenCacheBuilder::shape).
    pub fn shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// Draws all randomness of the refresh times from this seed, for tests and simulations.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The cache. It spawns its background task when it is first used, on the runtime of that use.
    pub fn build<K, P>(self) -> KeyedCache<K, S>
    where
        K: Key + ?Sized,
        M: Fn(&K) -> P + Send + Sync + 'static,
        P: TokenSource<S::Credential>,
        S: Stamp,
    {
        let make = self.make;
        let make: Make<K, S> = Box::new(move |key| BoxTokenSource::new(make(key)));
        let clocks = self.clock.map_or_else(Clocks::coarse, Clocks::with_wall);
        let limits = Limits {
            max_keys: self.max_keys,
            max_idle: self.max_idle,
            options: self.options,
            check_clock: self.check_clock,
            shape: self.shape,
            seed: self.seed,
        };
        KeyedCache {
            tenants: Tenants::new(make, self.stamp, clocks, limits, self.max_fetches),
        }
    }
}

impl<K: Key + ?Sized, S: Stamp> Clone for KeyedCache<K, S> {
    fn clone(&self) -> Self {
        Self {
            tenants: Arc::clone(&self.tenants),
        }
    }
}

/// Shows how many keys there are, and none of them.
impl<K: Key + ?Sized, S: Stamp> fmt::Debug for KeyedCache<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCache")
            .field("keys", &self.len())
            .field("evictions", &self.evictions())
            .finish_non_exhaustive()
    }
}

impl<M, S> fmt::Debug for KeyedCacheBuilder<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCacheBuilder")
            .field("options", &self.options)
            .field("max_keys", &self.max_keys)
            .field("max_idle", &self.max_idle)
            .field("max_fetches", &self.max_fetches)
            .finish_non_exhaustive()
    }
}
