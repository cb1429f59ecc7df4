use std::borrow::{Borrow, Cow};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_auth_core::{BoxError, Error, ErrorKind, Stamp};
use tower_service::Service;

use super::tenants::TenantCache;
use super::wiring::{Found, KeyedErrand, KeyedWiring};
use super::{Key, MissingKey, RequestHead};
use crate::control::{AuthOverride, Override};
use crate::errand::send_later;
use crate::future::ResponseFuture;
use crate::layer::Foreign;
use crate::registry::Ticket;
use crate::unavailable::OnUnavailable;
use crate::{Fail, Headers};

/// The service of a [`KeyedAuthLayer`](crate::KeyedAuthLayer).
///
/// A request whose key is held and has a usable credential is stamped and handed to the inner service
/// there and then, without a lock. One that is not waits in its future, as with [`Auth`](crate::Auth).
pub struct KeyedAuth<I, K: Key + ?Sized, Sel, S: Stamp = Headers, U = Fail> {
    inner: I,
    wiring: Arc<KeyedWiring<K, Sel, S, U>>,
}

impl<I, K: Key + ?Sized, Sel, S: Stamp, U> KeyedAuth<I, K, Sel, S, U> {
    pub(super) fn new(inner: I, wiring: KeyedWiring<K, Sel, S, U>) -> Self {
        Self {
            inner,
            wiring: Arc::new(wiring),
        }
    }

    /// The service below.
    #[must_use]
    pub fn get_ref(&self) -> &I {
        &self.inner
    }

    /// The service below.
    pub fn get_mut(&mut self) -> &mut I {
        &mut self.inner
    }

    /// The service below, without this one.
    #[must_use]
    pub fn into_inner(self) -> I {
        self.inner
    }
}

impl<I, K, Sel, S, U, B, R> Service<Request<B>> for KeyedAuth<I, K, Sel, S, U>
where
    I: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    I::Error: Into<BoxError>,
    I::Future: Send + 'static,
    K: Key + ?Sized,
    Sel: for<'r> Fn(RequestHead<'r>) -> Option<Cow<'r, K>> + Send + Sync + 'static,
    S: Stamp,
    U: OnUnavailable<R>,
    B: Send + 'static,
    R: 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ResponseFuture<I::Future, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if !request.extensions().is_empty() {
            if let Some(wish) = request.extensions().get::<AuthOverride>() {
                let wish = wish.clone();
                return self.call_otherwise(&wish, request);
            }
        }
        if !self.wiring.layer_allows(request.uri()) {
            return self.call_foreign(request);
        }
        let found = self.wiring.select_and_stamp(&mut request);
        self.go_on(found, request)
    }
}

impl<I, K, Sel, S, U> KeyedAuth<I, K, Sel, S, U>
where
    K: Key + ?Sized,
    Sel: for<'r> Fn(RequestHead<'r>) -> Option<Cow<'r, K>> + Send + Sync + 'static,
    S: Stamp,
{
    #[inline]
    fn go_on<B, R>(
        &mut self,
        found: Found<K, S>,
        request: Request<B>,
    ) -> ResponseFuture<I::Future, R>
    where
        I: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        I::Error: Into<BoxError>,
        I::Future: Send + 'static,
        U: OnUnavailable<R>,
        B: Send + 'static,
        R: 'static,
    {
        match found {
            Found::Stamped(ticket) => ResponseFuture::hot(self.inner.call(request), ticket),
            Found::Wait(cache) => self.call_later(cache, request, false),
            Found::Unknown(key) => self.call_first(key, request),
            Found::NoKey => self.call_without_key(request),
            Found::Foreign => self.call_foreign(request),
            Found::Failed(error) => self.fail(error),
        }
    }

    #[cold]
    #[inline(never)]
    fn call_otherwise<B, R>(
        &mut self,
        wish: &AuthOverride,
        mut request: Request<B>,
    ) -> ResponseFuture<I::Future, R>
    where
        I: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        I::Error: Into<BoxError>,
        I::Future: Send + 'static,
        U: OnUnavailable<R>,
        B: Send + 'static,
        R: 'static,
    {
        let wish = wish.kind();
        if let Override::Skip = wish {
            return self.pass(request);
        }
        if !self.wiring.layer_allows(request.uri()) {
            return self.call_foreign(request);
        }
        match wish {
            Override::Key(key) => match key.downcast_ref::<K::Owned>() {
                Some(key) => {
                    let found = self.wiring.stamp_for(key.borrow(), &mut request);
                    let found = found.unwrap_or_else(|| {
                        let key: &K = key.borrow();
                        Found::Unknown(key.to_owned())
                    });
                    self.go_on(found, request)
                }
                None => self.fail(error(
                    "the request brings a key of another type than this layer's keys",
                )),
            },
            Override::Credential(credential) => {
                let cache = self.wiring.cache_of(&request);
                let cache = cache.unwrap_or_else(|| Arc::clone(&self.wiring.tenants.blank));
                let stamper = self.wiring.stamper(&cache);
                match stamper.stamp_given(credential, &mut request) {
                    Ok(()) => self.pass(request),
                    Err(error) => self.fail(error),
                }
            }
            Override::Skip | Override::Fresh => {
                let cache = (self.wiring.select)(RequestHead::of(&request))
                    .map(|key| self.wiring.tenants.find_or_admit(&key));
                match cache {
                    Some(cache) if !self.wiring.allows(&cache, request.uri()) => {
                        self.call_foreign(request)
                    }
                    Some(cache) => self.call_later(cache, request, true),
                    None => self.call_without_key(request),
                }
            }
        }
    }

    /// For a key that is not held.
    #[cold]
    #[inline(never)]
    fn call_first<B, R>(
        &mut self,
        key: K::Owned,
        request: Request<B>,
    ) -> ResponseFuture<I::Future, R>
    where
        I: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        I::Error: Into<BoxError>,
        I::Future: Send + 'static,
        U: OnUnavailable<R>,
        B: Send + 'static,
        R: 'static,
    {
        let cache = self.wiring.tenants.admit(key);
        if self.wiring.allows(&cache, request.uri()) {
            self.call_later(cache, request, false)
        } else {
            self.call_foreign(request)
        }
    }

    #[cold]
    #[inline(never)]
    fn call_without_key<B, R>(&mut self, request: Request<B>) -> ResponseFuture<I::Future, R>
    where
        I: Service<Request<B>, Response = Response<R>> + Clone,
    {
        match self.wiring.missing {
            MissingKey::PassThrough => self.pass(request),
            MissingKey::Error => {
                self.fail(error("the request shows no key to choose a credential by"))
            }
        }
    }

    #[inline(never)]
    fn call_foreign<B, R>(&mut self, mut request: Request<B>) -> ResponseFuture<I::Future, R>
    where
        I: Service<Request<B>, Response = Response<R>> + Clone,
    {
        if request.uri().authority().is_none() {
            self.wiring.tell_about_missing_origin();
        }
        let cache = self.wiring.cache_of(&request);
        let cache = cache.unwrap_or_else(|| Arc::clone(&self.wiring.tenants.blank));
        let stamper = self.wiring.stamper(&cache);
        match self.wiring.foreign {
            Foreign::PassThrough => {
                stamper.unstamp(&mut request);
                self.pass(request)
            }
            Foreign::Error => {
                let error = stamper.foreign_origin(&request);
                self.fail(error)
            }
        }
    }

    /// Waits for a credential, and sends the request then.
    #[cold]
    #[inline(never)]
    fn call_later<B, R>(
        &mut self,
        cache: Arc<TenantCache<S>>,
        request: Request<B>,
        fresh: bool,
    ) -> ResponseFuture<I::Future, R>
    where
        I: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        I::Error: Into<BoxError>,
        I::Future: Send + 'static,
        U: OnUnavailable<R>,
        B: Send + 'static,
        R: 'static,
    {
        match self.wiring.stamper(&cache).needs_none(&request) {
            Ok(true) => return self.pass(request),
            Ok(false) => {}
            Err(error) => return self.fail(error),
        }
        self.give_readiness_back();
        let inner = self.inner.clone();
        let errand = KeyedErrand {
            wiring: Arc::clone(&self.wiring),
            cache,
        };
        ResponseFuture::cold(Box::pin(send_later(inner, errand, request, fresh)))
    }
}

impl<I, K: Key + ?Sized, Sel, S: Stamp, U> KeyedAuth<I, K, Sel, S, U> {
    /// Sends the request as it is.
    fn pass<B, R>(&mut self, request: Request<B>) -> ResponseFuture<I::Future, R>
    where
        I: Service<Request<B>, Response = Response<R>>,
    {
        ResponseFuture::hot(self.inner.call(request), Ticket::NONE)
    }

    #[cold]
    fn fail<F, R>(&mut self, error: Error) -> ResponseFuture<F, R>
    where
        I: Clone,
    {
        self.give_readiness_back();
        ResponseFuture::cold(Box::pin(async { Err(error.into()) }))
    }

    /// Puts a clone, which holds no permit, in place of the inner service that was made ready.
    fn give_readiness_back(&mut self)
    where
        I: Clone,
    {
        let fresh = self.inner.clone();
        self.inner = fresh;
    }
}

fn error(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfig, what).with_source_name("keyed credentials".to_owned())
}

impl<I: Clone, K: Key + ?Sized, Sel, S: Stamp, U> Clone for KeyedAuth<I, K, Sel, S, U> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            wiring: Arc::clone(&self.wiring),
        }
    }
}

impl<I, K, Sel, S, U> fmt::Debug for KeyedAuth<I, K, Sel, S, U>
where
    I: fmt::Debug,
    K: Key + ?Sized,
    S: Stamp,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedAuth")
            .field("inner", &self.inner)
            .field("keys", &self.wiring.tenants.len())
            .finish_non_exhaustive()
    }
}
