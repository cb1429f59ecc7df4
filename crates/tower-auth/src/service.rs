use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_auth_core::{BoxError, Error, Stamp, StampContext, Stamped, TokenSource};
use tower_service::Service;

use crate::cell::{Padded, Phase, Snapshot};
use crate::clock::NANOS_PER_SECOND;
use crate::control::{AuthOverride, Override};
use crate::errand::send_later;
use crate::future::ResponseFuture;
use crate::layer::Foreign;
use crate::registry::{Ticket, Watch};
use crate::unavailable::OnUnavailable;
use crate::wiring::{Attempt, Wiring};
use crate::{Fail, Headers};

/// The service of an [`AuthLayer`](crate::AuthLayer).
///
/// A request that finds a usable credential is stamped and handed to the inner service there and then. A
/// request that does not waits in its future, while the inner service's readiness (a concurrency permit,
/// a place in a buffer) is given back and acquired anew afterwards.
///
/// Readiness is the inner service's alone. That there is no credential is not "this service is not
/// ready": it may concern one request and not the next.
///
/// A service that is called more than once keeps the credential that it stamped last, and so does one
/// that is idle, until its next call. Drop idle services if old credentials must be gone from memory.
pub struct Auth<I, P, S: Stamp = Headers, U = Fail> {
    inner: I,
    wiring: Arc<Wiring<P, S, U>>,
    /// Whether it was called before.
    called: bool,
    /// What is left of the stamp once the rest has been done. Kept from the second call on: a clone that
    /// serves one request would pay for it and have nothing from it.
    warm: Option<Box<Warm<S>>>,
}

/// What a request needs of a snapshot, where nothing but the epoch and the clock has to be looked at.
struct Warm<S: Stamp> {
    /// The publication it was taken from. It was read before the snapshot was, so the snapshot is never
    /// older than this says.
    epoch: u64,
    /// The last whole second, on the wall clock, before which the credential is good without a closer
    /// look.
    good_until: u64,
    ticket: Ticket,
    prepared: Arc<Padded<S::Prepared>>,
}

impl<I, P, S: Stamp, U> Auth<I, P, S, U> {
    pub(crate) fn new(inner: I, wiring: Wiring<P, S, U>) -> Self {
        Self {
            inner,
            wiring: Arc::new(wiring),
            called: false,
            warm: None,
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

    /// Stamps the request with what was kept, if that is still current and good.
    #[inline(always)]
    fn stamp_warm<B>(&self, request: &mut Request<B>) -> Option<Ticket> {
        let cache = &*self.wiring.cache;
        let warm = self.warm.as_ref()?;
        if warm.epoch != cache.cell.epoch() || cache.clocks.request_seconds() >= warm.good_until {
            return None;
        }
        let cx = StampContext::new(&cache.clocks);
        match cache.stamp.stamp(&warm.prepared.0, request, &cx) {
            Ok(Stamped::Done) => Some(warm.ticket),
            // The request is as it was. Whoever tries again finds out what to do.
            _ => None,
        }
    }

    /// Stamps the request with the current snapshot, and keeps what the next request needs of it.
    fn stamp_anew<B>(&mut self, request: &mut Request<B>) -> Attempt {
        let cell = &self.wiring.cache.cell;
        let epoch = cell.epoch();
        if !mem::replace(&mut self.called, true) {
            return cell.with(|snapshot| self.wiring.stamper().stamp_if_usable(snapshot, request));
        }
        let snapshot = cell.load();
        match Warm::of(&snapshot, epoch, self.wiring.registration.watch()) {
            // Where there is something to put it in, no memory is asked for.
            Some(fresh) => match &mut self.warm {
                Some(warm) => **warm = fresh,
                warm => *warm = Some(Box::new(fresh)),
            },
            None => self.warm = None,
        }
        self.wiring.stamper().stamp_if_usable(&snapshot, request)
    }
}

impl<S: Stamp> Warm<S> {
    fn of(snapshot: &Snapshot<S>, epoch: u64, watch: Watch) -> Option<Self> {
        let held = snapshot.held.as_ref()?;
        (snapshot.phase == Phase::Ready).then_some(())?;
        Some(Self {
            epoch,
            good_until: snapshot.safe_end / NANOS_PER_SECOND,
            ticket: watch.ticket(snapshot.generation, snapshot.suspected),
            prepared: Arc::clone(held.shard()?),
        })
    }
}

impl<I, P, S, U, B, R> Service<Request<B>> for Auth<I, P, S, U>
where
    I: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    I::Error: Into<BoxError>,
    I::Future: Send + 'static,
    P: TokenSource<S::Credential>,
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
            if let Some(wish) = wish(&request) {
                return self.call_otherwise(&wish, request);
            }
        }
        if self.wiring.origins.allow(request.uri()) {
            if let Some(ticket) = self.stamp_warm(&mut request) {
                return ResponseFuture::hot(self.inner.call(request), ticket);
            }
        }
        self.call_anew(request)
    }
}

/// What the caller said about this one request.
#[inline(never)]
fn wish<B>(request: &Request<B>) -> Option<AuthOverride> {
    let wish = request.extensions().get::<AuthOverride>()?;
    (!wish.is_for_keyed_layers()).then(|| wish.clone())
}

impl<I, P, S, U> Auth<I, P, S, U>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    /// For the first two calls, the first after each publication, and whatever is out of the ordinary.
    #[cold]
    #[inline(never)]
    fn call_anew<B, R>(&mut self, mut request: Request<B>) -> ResponseFuture<I::Future, R>
    where
        I: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        I::Error: Into<BoxError>,
        I::Future: Send + 'static,
        U: OnUnavailable<R>,
        B: Send + 'static,
        R: 'static,
    {
        if !self.wiring.origins.allow(request.uri()) {
            return self.call_foreign(request);
        }
        match self.stamp_anew(&mut request) {
            Attempt::Done(ticket) => ResponseFuture::hot(self.inner.call(request), ticket),
            Attempt::Wait => self.call_later(request, false),
            Attempt::Failed(error) => self.fail(error),
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
        if !self.wiring.origins.allow(request.uri()) {
            return self.call_foreign(request);
        }
        match wish {
            Override::Credential(credential) => {
                let stamper = self.wiring.stamper();
                match stamper.stamp_given(credential, &mut request) {
                    Ok(()) => self.pass(request),
                    Err(error) => self.fail(error),
                }
            }
            Override::Skip | Override::Fresh | Override::Key(_) => self.call_later(request, true),
        }
    }

    #[inline(never)]
    fn call_foreign<B, R>(&mut self, mut request: Request<B>) -> ResponseFuture<I::Future, R>
    where
        I: Service<Request<B>, Response = Response<R>> + Clone,
        I::Error: Into<BoxError>,
    {
        if request.uri().authority().is_none() {
            self.wiring.tell_about_missing_origin();
        }
        match self.wiring.foreign {
            Foreign::PassThrough => {
                self.wiring.stamper().unstamp(&mut request);
                self.pass(request)
            }
            Foreign::Error => {
                let error = self.wiring.stamper().foreign_origin(&request);
                self.fail(error)
            }
        }
    }

    /// Waits for a credential, and sends the request then.
    #[cold]
    #[inline(never)]
    fn call_later<B, R>(&mut self, request: Request<B>, fresh: bool) -> ResponseFuture<I::Future, R>
    where
        I: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        I::Error: Into<BoxError>,
        I::Future: Send + 'static,
        U: OnUnavailable<R>,
        B: Send + 'static,
        R: 'static,
    {
        match self.wiring.stamper().needs_none(&request) {
            Ok(true) => return self.pass(request),
            Ok(false) => {}
            Err(error) => return self.fail(error),
        }
        self.give_readiness_back();
        let inner = self.inner.clone();
        let wiring = Arc::clone(&self.wiring);
        ResponseFuture::cold(Box::pin(send_later(inner, wiring, request, fresh)))
    }

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

impl<I: Clone, P, S: Stamp, U> Clone for Auth<I, P, S, U> {
    /// The clone starts cold: users clone a service for each request, and a snapshot that all clones
    /// count references to is what they would wait for each other at.
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            wiring: Arc::clone(&self.wiring),
            called: false,
            warm: None,
        }
    }
}

impl<I: fmt::Debug, P, S: Stamp, U> fmt::Debug for Auth<I, P, S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("inner", &self.inner)
            .field("cache", &self.wiring.cache)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tower::{Layer, ServiceExt, service_fn};
    use tower_auth_core::Token;

    use super::*;
    use crate::AuthLayer;

    #[tokio::test(start_paused = true)]
    async fn the_second_call_keeps_the_snapshot_and_a_clone_starts_without() {
        let layer =
            AuthLayer::new(Token::bearer("t").expires_in(std::time::Duration::from_secs(60)));
        layer.cache().ready().await.unwrap();
        let mut client = layer.layer(service_fn(|_: Request<()>| async {
            Ok::<_, BoxError>(Response::new(()))
        }));
        let request = || Request::get("https://a.test/").body(()).unwrap();
        client.ready().await.unwrap().call(request()).await.unwrap();
        assert!(client.warm.is_none() && client.called);
        client.ready().await.unwrap().call(request()).await.unwrap();
        assert!(client.warm.is_some());
        let clone = client.clone();
        assert!(clone.warm.is_none() && !clone.called);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_that_is_no_refusal_clears_the_suspicion() {
        let fetches = std::sync::atomic::AtomicUsize::new(0);
        let source = tower_auth_core::source_fn(move |_: tower_auth_core::Fetch| {
            let is_first = fetches.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            async move {
                if !is_first {
                    let kind = tower_auth_core::ErrorKind::Unavailable;
                    return Err(Error::new(kind, "not again"));
                }
                Ok(Token::bearer("t").expires_in(std::time::Duration::from_secs(3600)))
            }
        });
        let layer = AuthLayer::new(source);
        let cell = &layer.cache().shared.cell;
        let requests = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let api = service_fn(move |_: Request<()>| {
            let is_first = requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            async move {
                let mut response = Response::new(());
                if is_first {
                    *response.status_mut() = http::StatusCode::UNAUTHORIZED;
                }
                Ok::<_, BoxError>(response)
            }
        });
        let mut client = layer.layer(api);
        let request = || Request::get("https://a.test/").body(()).unwrap();
        client.ready().await.unwrap().call(request()).await.unwrap();
        assert!(cell.with(|snapshot| snapshot.suspected));
        client.ready().await.unwrap().call(request()).await.unwrap();
        assert!(!cell.with(|snapshot| snapshot.suspected));
    }
}
