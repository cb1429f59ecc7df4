use std::fmt;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::retry::Policy;

use crate::Receipt;
use crate::replay::forget_fulfilled_wish;

/// A policy for tower's retry layer: a request whose credential was refused is sent once more, when there
/// is a newer credential. Everything else is left to another policy.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_auth::{AuthLayer, RetryOnUnauthorized};
///
/// let client = ServiceBuilder::new()
///     .retry(RetryOnUnauthorized::new())
///     .layer(AuthLayer::new("a-fixed-token"))
///     .service(tower::service_fn(|_: http::Request<()>| async {
///         Ok::<_, tower_auth::BoxError>(http::Response::new(()))
///     }));
/// # let _ = client;
/// ```
///
/// A renewal that is known to be out of reach is not waited for: the caller keeps the response that
/// refused. One that fails while it is waited for cannot be undone, because the retry layer has given that
/// response up; the second attempt is made all the same and its outcome is the caller's. Where this
/// matters, use [`replay_once`](crate::AuthLayer::replay_once).
#[derive(Clone, Debug)]
pub struct RetryOnUnauthorized<Pol = NoOtherRetry> {
    inner: Pol,
    /// The retry layer clones a policy for each request, so this counts one request's attempts.
    spent: bool,
}

impl RetryOnUnauthorized {
    /// Retries for this reason alone. The request has to be `Clone`.
    #[must_use]
    pub fn new() -> Self {
        Self::around(NoOtherRetry)
    }
}

impl Default for RetryOnUnauthorized {
    fn default() -> Self {
        Self::new()
    }
}

impl<Pol> RetryOnUnauthorized<Pol> {
    /// Retries for this reason, and for those of another policy, which also decides how a request is
    /// cloned and whether it is.
    #[must_use]
    pub fn around(policy: Pol) -> Self {
        Self {
            inner: policy,
            spent: false,
        }
    }
}

impl<Pol, B, R, E> Policy<Request<B>, Response<R>, E> for RetryOnUnauthorized<Pol>
where
    Pol: Policy<Request<B>, Response<R>, E>,
{
    type Future = RetryFuture<Pol::Future>;

    fn retry(
        &mut self,
        request: &mut Request<B>,
        result: &mut Result<Response<R>, E>,
    ) -> Option<Self::Future> {
        if !self.spent {
            if let Some(renewal) = renewal(result) {
                self.spent = true;
                forget_fulfilled_wish(request);
                return Some(RetryFuture::new(State::Renewal { renewal }));
            }
        }
        self.inner
            .retry(request, result)
            .map(|inner| RetryFuture::new(State::Inner { inner }))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        self.inner.clone_request(request)
    }
}

type Renewal = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A wait for a newer credential, unless there will be none.
fn renewal<R, E>(result: &Result<Response<R>, E>) -> Option<Renewal> {
    let receipt = result.as_ref().ok()?.extensions().get::<Receipt>()?;
    if !receipt.is_refused() {
        return None;
    }
    let mut renewal: Renewal = Box::pin(receipt.renewed());
    // A policy has to decide at once. The first look tells whether waiting makes sense; the retry
    // layer's own task takes over from the next.
    match renewal
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(true) => Some(Box::pin(ready(true))),
        Poll::Ready(false) => None,
        Poll::Pending => Some(renewal),
    }
}

/// Retries nothing, and lets any request that is `Clone` be sent again.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoOtherRetry;

impl<B: Clone, R, E> Policy<Request<B>, Response<R>, E> for NoOtherRetry {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        _: &mut Result<Response<R>, E>,
    ) -> Option<Self::Future> {
        None
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

pin_project! {
    /// What a [`RetryOnUnauthorized`] waits for before the next attempt.
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // A newer credential.
        Renewal { renewal: Renewal },
        // Whatever the other policy waits for.
        Inner { #[pin] inner: F },
    }
}

impl<F> RetryFuture<F> {
    fn new(state: State<F>) -> Self {
        Self { state }
    }
}

impl<F: Future<Output = ()>> Future for RetryFuture<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.project().state.project() {
            StateProj::Renewal { renewal } => renewal.as_mut().poll(cx).map(drop),
            StateProj::Inner { inner } => inner.poll(cx),
        }
    }
}

impl<F> fmt::Debug for RetryFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").finish_non_exhaustive()
    }
}
