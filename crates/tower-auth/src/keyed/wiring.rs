use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Uri};
use tower_auth_core::{BoxTokenSource, Error, Stamp};

use super::tenants::{GENERATION_BITS, GENERATIONS, Tenant, TenantCache, Tenants};
use super::{Key, MissingKey, RequestHead};
use crate::errand::Errand;
use crate::layer::{Foreign, OnExisting};
use crate::origins::Origins;
use crate::registry::{Registration, Ticket};
use crate::unavailable::{OnUnavailable, Unavailable};
use crate::wiring::{Attempt, Stamper};

/// What all clones of a service share.
pub(super) struct KeyedWiring<K: Key + ?Sized, Sel, S: Stamp, U> {
    pub(super) select: Arc<Sel>,
    pub(super) tenants: Arc<Tenants<K, S>>,
    pub(super) missing: MissingKey,
    pub(super) origins: Option<Origins>,
    pub(super) existing: OnExisting,
    pub(super) foreign: Foreign,
    pub(super) fallback: Arc<U>,
    pub(super) registration: Registration,
    /// Whether somebody was told that requests have no origin.
    pub(super) told: AtomicBool,
}

/// How an attempt to stamp a request ended.
pub(super) enum Found<K: Key + ?Sized, S: Stamp> {
    Stamped(Ticket),
    /// The key has nothing to stamp it with.
    Wait(Arc<TenantCache<S>>),
    /// The key is not held.
    Unknown(K::Owned),
    NoKey,
    /// The key's credential is not meant for where it goes.
    Foreign,
    Failed(Error),
}

impl<K, Sel, S, U> KeyedWiring<K, Sel, S, U>
where
    K: Key + ?Sized,
    Sel: for<'r> Fn(RequestHead<'r>) -> Option<Cow<'r, K>> + Send + Sync + 'static,
    S: Stamp,
{
    #[inline]
    pub(super) fn select_and_stamp<B>(&self, request: &mut Request<B>) -> Found<K, S> {
        let guard = self.tenants.guard();
        let tenant = {
            let Some(key) = (self.select)(RequestHead::of(request)) else {
                return Found::NoKey;
            };
            match self.tenants.find(&key, &guard) {
                Some(tenant) => tenant,
                None => return Found::Unknown(key.into_owned()),
            }
        };
        self.stamp_from(tenant, request)
    }

    /// The cache of the request's key, if it is held.
    pub(super) fn cache_of<B>(&self, request: &Request<B>) -> Option<Arc<TenantCache<S>>> {
        let key = (self.select)(RequestHead::of(request))?;
        self.tenants.peek(&key)
    }
}

impl<K: Key + ?Sized, Sel, S: Stamp, U> KeyedWiring<K, Sel, S, U> {
    pub(super) fn stamp_for<B>(&self, key: &K, request: &mut Request<B>) -> Option<Found<K, S>> {
        let guard = self.tenants.guard();
        let tenant = self.tenants.find(key, &guard)?;
        Some(self.stamp_from(tenant, request))
    }

    #[inline(always)]
    fn stamp_from<B>(&self, tenant: &Tenant<S>, request: &mut Request<B>) -> Found<K, S> {
        if self.origins.is_none() && !tenant.origins.allow(request.uri()) {
            return Found::Foreign;
        }
        let stamper = self.stamper(&tenant.cache);
        let attempt = tenant
            .cache
            .cell
            .with(|snapshot| stamper.stamp_if_usable(snapshot, request));
        match attempt {
            Attempt::Done(ticket) => Found::Stamped(ticket),
            Attempt::Wait => Found::Wait(Arc::clone(&tenant.cache)),
            Attempt::Failed(error) => Found::Failed(error),
        }
    }

    #[inline(always)]
    pub(super) fn stamper<'a>(
        &self,
        cache: &'a Arc<TenantCache<S>>,
    ) -> Stamper<'a, BoxTokenSource<S::Credential>, Arc<S>> {
        let number = cache.seat.as_ref().map_or(0, |seat| seat.id());
        Stamper {
            cache,
            existing: self.existing,
            watch: self
                .registration
                .watch_for(number << GENERATION_BITS, GENERATIONS),
        }
    }

    /// Whether the layer lets a request go there; where it leaves that to the sources, it does.
    #[inline]
    pub(super) fn layer_allows(&self, uri: &Uri) -> bool {
        match &self.origins {
            Some(origins) => origins.allow(uri),
            None => true,
        }
    }

    /// The same, for a key's cache whose source has a say.
    pub(super) fn allows(&self, cache: &TenantCache<S>, uri: &Uri) -> bool {
        match &self.origins {
            Some(origins) => origins.allow(uri),
            None => Origins::of_source(cache.description.origins()).allow(uri),
        }
    }

    pub(super) fn tell_about_missing_origin(&self) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "a request without scheme and host is sent without a credential; \
                 if the inner service talks to one server only, allow any origin",
            );
        }
    }
}

/// A request that waits for the credential of its key.
pub(super) struct KeyedErrand<K: Key + ?Sized, Sel, S: Stamp, U> {
    pub(super) wiring: Arc<KeyedWiring<K, Sel, S, U>>,
    pub(super) cache: Arc<TenantCache<S>>,
}

impl<K, Sel, S, U, R> Errand<R> for KeyedErrand<K, Sel, S, U>
where
    K: Key + ?Sized,
    Sel: Send + Sync + 'static,
    S: Stamp,
    U: OnUnavailable<R>,
{
    type Source = BoxTokenSource<S::Credential>;
    type Stamp = Arc<S>;

    fn stamper(&self) -> Stamper<'_, Self::Source, Self::Stamp> {
        self.wiring.stamper(&self.cache)
    }

    fn decide(&self, error: &Error) -> Unavailable<R> {
        self.wiring.fallback.decide(error)
    }
}
