use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::{HeaderMap, StatusCode};
use tower_auth_core::{Error, ErrorKind, Origin, Stamp, TokenSource};
use tower_layer::Layer;

use super::tenants::GENERATIONS;
use super::wiring::KeyedWiring;
use super::{Key, KeyedAuth, KeyedCache, RequestHead};
use crate::layer::{Foreign, OnExisting, Receipts};
use crate::origins::Origins;
use crate::registry::{Entry, Refused, Registration, Watched};
use crate::{AuthLayer, Fail, Headers};

/// Puts a credential on each request of the service below, chosen by a key that the request shows. Made by
/// [`AuthLayer::keyed`].
///
/// It does what [`AuthLayer`] does, for each key by itself: what one key's API refuses, or its issuer does
/// not give, is no concern of the others.
#[must_use = "a layer does nothing until a service is wrapped in it"]
pub struct KeyedAuthLayer<K: Key + ?Sized, Sel, S: Stamp = Headers, U = Fail> {
    select: Arc<Sel>,
    cache: KeyedCache<K, S>,
    missing: MissingKey,
    /// `None`: where each key's source says.
    origins: Option<Origins>,
    existing: OnExisting,
    foreign: Foreign,
    receipts: Receipts,
    refused: Option<Refused>,
    fallback: Arc<U>,
}

/// What happens to a request that shows no key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingKey {
    /// The caller gets an error.
    #[default]
    Error,
    /// It is sent without a credential.
    PassThrough,
}

impl AuthLayer<()> {
    /// Stamps each request with the credential of its key: of its tenant, user, audience or scope.
    ///
    /// `select` finds the key in the request's head. It gives a [`Cow`], so that a key that lies in the
    /// request is looked up without being copied. `make` makes the source of a key that was not seen
    /// before; see [`KeyedCache`] for how long a key is kept.
    ///
    /// ```
    /// use std::borrow::Cow;
    /// use tower_auth::{AuthLayer, RequestHead};
    ///
    /// // Whoever calls the service puts this into the extensions of the request.
    /// #[derive(Clone, PartialEq, Eq, Hash)]
    /// struct Tenant(String);
    ///
    /// let layer = AuthLayer::keyed(
    ///     |head: RequestHead<'_>| head.extensions().get::<Tenant>().map(Cow::Borrowed),
    ///     |tenant: &Tenant| format!("the fixed token of {}", tenant.0),
    /// );
    /// # let _ = layer;
    /// ```
    ///
    /// A key must be something that the program knows to be true of the request. A header that an outside
    /// caller has set lets him choose whose credential is used.
    pub fn keyed<K, P, Sel>(
        select: Sel,
        make: impl Fn(&K) -> P + Send + Sync + 'static,
    ) -> KeyedAuthLayer<K, Sel>
    where
        K: Key + ?Sized,
        P: TokenSource,
        Sel: for<'r> Fn(RequestHead<'r>) -> Option<Cow<'r, K>> + Send + Sync + 'static,
    {
        KeyedAuthLayer::from_cache(select, KeyedCache::new(make))
    }
}

impl<K: Key + ?Sized, Sel, S: Stamp> KeyedAuthLayer<K, Sel, S> {
    /// Stamps what this cache holds: for a cache that was made with other settings than the default, or
    /// that several layers share.
    pub fn from_cache(select: Sel, cache: KeyedCache<K, S>) -> Self
    where
        Sel: for<'r> Fn(RequestHead<'r>) -> Option<Cow<'r, K>> + Send + Sync + 'static,
    {
        Self {
            select: Arc::new(select),
            cache,
            missing: MissingKey::default(),
            origins: None,
            existing: OnExisting::default(),
            foreign: Foreign::default(),
            receipts: Receipts::default(),
            refused: None,
            fallback: Arc::new(Fail),
        }
    }
}

impl<K: Key + ?Sized, Sel, S: Stamp, U> KeyedAuthLayer<K, Sel, S, U> {
    /// What happens to a request that shows no key.
    pub fn on_missing_key(mut self, missing: MissingKey) -> Self {
        self.missing = missing;
        self
    }

    /// As [`AuthLayer::origins`], for all keys.
    ///
    /// # Errors
    /// As [`AuthLayer::origins`].
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
                "no origin is named, so no credential would ever be sent",
            ));
        }
        Ok(self.with_origins(origins))
    }

    /// As [`origins`](Self::origins), for origins that have been parsed already.
    pub fn with_origins(mut self, origins: impl IntoIterator<Item = Origin>) -> Self {
        self.origins = Some(Origins::only(origins));
        self
    }

    /// As [`AuthLayer::any_origin`], for all keys.
    pub fn any_origin(mut self) -> Self {
        self.origins = Some(Origins::Any);
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
    pub fn on_unavailable<V>(self, fallback: V) -> KeyedAuthLayer<K, Sel, S, V> {
        KeyedAuthLayer {
            select: self.select,
            cache: self.cache,
            missing: self.missing,
            origins: self.origins,
            existing: self.existing,
            foreign: self.foreign,
            receipts: self.receipts,
            refused: self.refused,
            fallback: Arc::new(fallback),
        }
    }

    /// Which responses refuse the credential. See [`AuthLayer::refused`].
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

    /// The cache, to watch it, to remove keys, or to get at the credential of one.
    #[must_use]
    pub fn cache(&self) -> &KeyedCache<K, S> {
        &self.cache
    }
}

impl<I, K: Key + ?Sized, Sel, S: Stamp, U> Layer<I> for KeyedAuthLayer<K, Sel, S, U> {
    type Service = KeyedAuth<I, K, Sel, S, U>;

    fn layer(&self, inner: I) -> Self::Service {
        let tenants = Arc::clone(&self.cache.tenants);
        let watched: Arc<dyn Watched> = tenants.clone();
        let registration = Registration::new(Entry {
            cache: Arc::downgrade(&watched),
            source: None,
            generations: GENERATIONS,
            refused: self.refused.clone(),
            receipts_always: self.receipts == Receipts::Always,
        });
        KeyedAuth::new(
            inner,
            KeyedWiring {
                select: Arc::clone(&self.select),
                tenants,
                missing: self.missing,
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

impl<K: Key + ?Sized, Sel, S: Stamp, U> Clone for KeyedAuthLayer<K, Sel, S, U> {
    fn clone(&self) -> Self {
        Self {
            select: Arc::clone(&self.select),
            cache: self.cache.clone(),
            missing: self.missing,
            origins: self.origins.clone(),
            existing: self.existing,
            foreign: self.foreign,
            receipts: self.receipts,
            refused: self.refused.clone(),
            fallback: Arc::clone(&self.fallback),
        }
    }
}

impl<K: Key + ?Sized, Sel, S: Stamp, U> fmt::Debug for KeyedAuthLayer<K, Sel, S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedAuthLayer")
            .field("cache", &self.cache)
            .field("on_missing_key", &self.missing)
            .field("origins", &self.origins)
            .field("on_existing", &self.existing)
            .field("on_foreign_origin", &self.foreign)
            .field("receipts", &self.receipts)
            .finish_non_exhaustive()
    }
}
