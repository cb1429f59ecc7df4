use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Request;
use tower_auth_core::{Caching, Error, ErrorKind, Stamp, StampContext, Stamped, TokenSource};

use crate::cell::{Phase, Snapshot};
use crate::errand::Errand;
use crate::layer::{Foreign, OnExisting};
use crate::origins::Origins;
use crate::registry::{Registration, Ticket, Watch};
use crate::shared::Shared;
use crate::unavailable::{OnUnavailable, Unavailable};

/// What all clones of a service share.
pub(crate) struct Wiring<P, S: Stamp, U> {
    pub(crate) cache: Arc<Shared<P, S>>,
    pub(crate) origins: Origins,
    pub(crate) existing: OnExisting,
    pub(crate) foreign: Foreign,
    pub(crate) fallback: Arc<U>,
    pub(crate) registration: Registration,
    /// Whether somebody was told that requests have no origin.
    pub(crate) told: AtomicBool,
}

/// One cache, and how a layer stamps with it.
///
/// It is passed by value, and what is not inlined takes its parts: otherwise each request would put it
/// together in memory.
pub(crate) struct Stamper<'a, P, S: Stamp> {
    pub(crate) cache: &'a Arc<Shared<P, S>>,
    pub(crate) existing: OnExisting,
    pub(crate) watch: Watch,
}

/// How an attempt to stamp a request ended.
pub(crate) enum Attempt {
    /// It can be sent.
    Done(Ticket),
    /// There is nothing to stamp it with.
    Wait,
    /// It must not be sent.
    Failed(Error),
}

impl<P, S: Stamp, U> Wiring<P, S, U> {
    #[inline(always)]
    pub(crate) fn stamper(&self) -> Stamper<'_, P, S> {
        Stamper {
            cache: &self.cache,
            existing: self.existing,
            watch: self.registration.watch(),
        }
    }

    /// A request that says nothing about where it goes cannot be checked, which is normal for a client
    /// that is bound to one server and easily overlooked.
    pub(crate) fn tell_about_missing_origin(&self) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                source = self.cache.description.name(),
                "a request without scheme and host is sent without a credential; \
                 if the inner service talks to one server only, allow any origin",
            );
        }
    }
}

impl<P, S, U, R> Errand<R> for Arc<Wiring<P, S, U>>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
    U: OnUnavailable<R>,
{
    type Source = P;
    type Stamp = S;

    fn stamper(&self) -> Stamper<'_, P, S> {
        Wiring::stamper(self)
    }

    fn decide(&self, error: &Error) -> Unavailable<R> {
        self.fallback.decide(error)
    }
}

impl<P, S: Stamp> Clone for Stamper<'_, P, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, S: Stamp> Copy for Stamper<'_, P, S> {}

impl<P, S: Stamp> Stamper<'_, P, S> {
    /// Stamps the request if the snapshot holds something that may be stamped now.
    #[inline(always)]
    pub(crate) fn stamp_if_usable<B>(
        self,
        snapshot: &Snapshot<S>,
        request: &mut Request<B>,
    ) -> Attempt {
        if self.is_usable(snapshot) {
            self.stamp(snapshot, request)
        } else {
            Attempt::Wait
        }
    }

    #[inline]
    fn is_usable(self, snapshot: &Snapshot<S>) -> bool {
        snapshot.phase == Phase::Ready && !self.has_ended(snapshot)
    }

    #[inline]
    fn has_ended(self, snapshot: &Snapshot<S>) -> bool {
        // The clock is not read for a credential without an end.
        snapshot.safe_end != u64::MAX && self.cache.clocks.wall_nanos() >= snapshot.safe_end
    }

    /// Stamps the request with what the snapshot holds.
    #[inline(always)]
    pub(crate) fn stamp<B>(self, snapshot: &Snapshot<S>, request: &mut Request<B>) -> Attempt {
        let Some(held) = &snapshot.held else {
            return Attempt::Wait;
        };
        let Some(prepared) = held.prepared() else {
            return Attempt::Wait;
        };
        match self
            .cache
            .stamp
            .stamp(prepared, request, &StampContext::new(&self.cache.clocks))
        {
            Ok(Stamped::Done) => {
                held.mark_used();
                Attempt::Done(self.ticket(snapshot))
            }
            Ok(_) => match Self::settle(self.cache, self.existing, prepared, request) {
                Ok(true) => {
                    held.mark_used();
                    Attempt::Done(self.ticket(snapshot))
                }
                Ok(false) => Attempt::Done(Ticket::NONE),
                Err(error) => Attempt::Failed(error),
            },
            Err(error) => Attempt::Failed(Self::named(self.cache, error)),
        }
    }

    #[inline]
    fn ticket(self, snapshot: &Snapshot<S>) -> Ticket {
        self.watch.ticket(snapshot.generation, snapshot.suspected)
    }

    /// The request carries something in the credential's place. Whether it was stamped in the end.
    #[cold]
    #[inline(never)]
    fn settle<B>(
        cache: &Arc<Shared<P, S>>,
        existing: OnExisting,
        prepared: &S::Prepared,
        request: &mut Request<B>,
    ) -> Result<bool, Error> {
        let stamp = &cache.stamp;
        let is_ours = stamp
            .present(prepared, request.headers())
            .is_some_and(|value| cache.is_ours(value));
        match existing {
            OnExisting::Keep if !is_ours => return Ok(false),
            OnExisting::Error if !is_ours => return Err(Self::occupied(cache)),
            _ => stamp.clear(prepared, request.headers_mut()),
        }
        match stamp.stamp(prepared, request, &StampContext::new(&cache.clocks)) {
            Ok(Stamped::Done) => Ok(true),
            Ok(_) => Err(Self::occupied(cache)),
            Err(error) => Err(Self::named(cache, error)),
        }
    }

    /// Whether a request for which there is no usable credential needs none, because it carries one of
    /// the caller's. This can be told only if there has been a credential.
    #[cold]
    pub(crate) fn needs_none<B>(self, request: &Request<B>) -> Result<bool, Error> {
        let is_foreign = self.cache.cell.with(|snapshot| {
            let prepared = snapshot.held.as_ref()?.prepared()?;
            let value = self.cache.stamp.present(prepared, request.headers())?;
            Some(!self.cache.is_ours(value))
        });
        match (is_foreign, self.existing) {
            (Some(true), OnExisting::Keep) => Ok(true),
            (Some(true), OnExisting::Error) => Err(Self::occupied(self.cache)),
            _ => Ok(false),
        }
    }

    /// Stamps a credential of the caller's.
    pub(crate) fn stamp_given<B>(
        self,
        credential: &(dyn std::any::Any + Send + Sync),
        request: &mut Request<B>,
    ) -> Result<(), Error> {
        let credential = credential.downcast_ref::<S::Credential>().ok_or_else(|| {
            Self::named(
                self.cache,
                Error::new(
                    ErrorKind::InvalidConfig,
                    "the request brings a credential of another kind than this layer stamps",
                ),
            )
        })?;
        let prepared = self
            .cache
            .stamp
            .prepare(credential)
            .map_err(|error| error.or_source("credential of the request"))?;
        let stamped =
            self.cache
                .stamp
                .stamp(&prepared, request, &StampContext::new(&self.cache.clocks));
        match stamped {
            Ok(Stamped::Done) => Ok(()),
            Ok(_) => Self::settle(self.cache, self.existing, &prepared, request).map(drop),
            Err(error) => Err(Self::named(self.cache, error)),
        }
    }

    /// Takes a stamp of ours off a request to an origin that it is not meant for: someone inside sends a
    /// stamped request again, elsewhere.
    pub(crate) fn unstamp<B>(self, request: &mut Request<B>) {
        let stamp = &self.cache.stamp;
        self.cache.cell.with(|snapshot| {
            let Some(prepared) = snapshot.held.as_ref().and_then(|held| held.prepared()) else {
                return;
            };
            let is_ours = stamp
                .present(prepared, request.headers())
                .is_some_and(|value| self.cache.is_ours(value));
            if is_ours {
                stamp.clear(prepared, request.headers_mut());
            }
        });
    }

    pub(crate) fn foreign_origin<B>(self, request: &Request<B>) -> Error {
        let host = request.uri().host().unwrap_or("a request without a host");
        tracing::debug!(
            source = self.cache.description.name(),
            key = self.cache.key_field(),
            host,
            "request to an origin that the credential is not meant for",
        );
        Self::named(
            self.cache,
            Error::new(
                ErrorKind::InvalidConfig,
                format!("the credential is not meant for {host}"),
            ),
        )
    }

    fn occupied(cache: &Arc<Shared<P, S>>) -> Error {
        tracing::debug!(
            source = cache.description.name(),
            key = cache.key_field(),
            "request carries a credential already"
        );
        Self::named(
            cache,
            Error::new(
                ErrorKind::InvalidConfig,
                "the request carries a credential already, and this layer does not allow that",
            ),
        )
    }

    fn named(cache: &Arc<Shared<P, S>>, error: Error) -> Error {
        error.or_source(cache.description.name().to_owned())
    }
}

impl<P, S> Stamper<'_, P, S>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    /// Waits for something to stamp.
    pub(crate) async fn obtain(self, fresh: bool) -> Result<Arc<Snapshot<S>>, Error> {
        if fresh && self.cache.caching == Caching::Shared {
            self.cache.refresh().await?;
        }
        self.cache.obtain().await
    }

    /// What to stamp after a while has passed since `obtained` was: the present credential, or else the
    /// one obtained if the cache gave it out although it is not for everybody.
    pub(crate) fn still_good(self, obtained: &Arc<Snapshot<S>>) -> Option<Arc<Snapshot<S>>> {
        let current = self.cache.cell.load();
        if self.is_usable(&current) {
            return Some(current);
        }
        let is_for_us = obtained.phase == Phase::Wait
            && (self.cache.caching == Caching::PerRequest
                || (current.generation == obtained.generation && current.held.is_some()));
        (is_for_us && !self.has_ended(obtained)).then(|| Arc::clone(obtained))
    }

    pub(crate) fn nothing_usable(self) -> Error {
        self.cache.nothing_usable(None)
    }
}
