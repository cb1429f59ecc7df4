use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_auth_core::{BoxError, Stamp, TokenSource};
use tower_layer::Layer;
use tower_service::Service;

use crate::future::Outcome;
use crate::unavailable::OnUnavailable;
use crate::{Auth, AuthLayer, AuthOverride, Fail, Headers, Receipt, ResponseFuture};

/// An [`AuthLayer`] that sends a request whose credential was refused once more, with a newer one. Made by
/// [`AuthLayer::replay_once`].
///
/// It is for those who have no retry layer; in front of one, use
#[cfg_attr(
    feature = "retry",
    doc = "[`RetryOnUnauthorized`](crate::RetryOnUnauthorized)."
)]
#[cfg_attr(
    not(feature = "retry"),
    doc = "`RetryOnUnauthorized` (feature `retry`)."
)]
///
/// The body must be `Clone`, and each request is cloned, with its headers, before it is sent: this is the
/// price. There is one more attempt at most. If no newer credential comes within the time that the cache
/// lets its callers wait, the caller gets the response that was there first.
#[must_use = "a layer does nothing until a service is wrapped in it"]
pub struct ReplayLayer<P, S: Stamp = Headers, U = Fail>(AuthLayer<P, S, U>);

impl<P, S: Stamp, U> ReplayLayer<P, S, U> {
    pub(crate) fn new(layer: AuthLayer<P, S, U>) -> Self {
        Self(layer)
    }
}

impl<I, P, S, U> Layer<I> for ReplayLayer<P, S, U>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    type Service = Replay<Auth<I, P, S, U>>;

    fn layer(&self, inner: I) -> Self::Service {
        Replay {
            auth: self.0.layer(inner),
        }
    }
}

impl<P, S: Stamp, U> Clone for ReplayLayer<P, S, U> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P, S: Stamp, U> fmt::Debug for ReplayLayer<P, S, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReplayLayer").field(&self.0).finish()
    }
}

/// The service of a [`ReplayLayer`].
#[derive(Clone, Debug)]
pub struct Replay<A> {
    auth: A,
}

impl<I, P, S, U, B, R> Service<Request<B>> for Replay<Auth<I, P, S, U>>
where
    I: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    I::Error: Into<BoxError>,
    I::Future: Send + 'static,
    P: TokenSource<S::Credential>,
    S: Stamp,
    U: OnUnavailable<R>,
    B: Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ReplayFuture<Auth<I, P, S, U>, I::Future, B, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.auth.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let spare = Some((self.auth.clone(), request.clone()));
        ReplayFuture {
            state: State::First {
                future: self.auth.call(request),
                spare,
            },
        }
    }
}

pin_project! {
    /// The future of a [`Replay`] service.
    #[must_use = "futures do nothing unless polled"]
    pub struct ReplayFuture<A, F, B, R> {
        #[pin]
        state: State<A, F, B, R>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<A, F, B, R> {
        // The first attempt is under way, and this is what a second one needs.
        First { #[pin] future: ResponseFuture<F, R>, spare: Option<(A, Request<B>)> },
        // The credential was refused.
        Again { outcome: Outcome<R> },
    }
}

impl<A, F, E, B, R> Future for ReplayFuture<A, F, B, R>
where
    A: Service<Request<B>, Response = Response<R>, Error = BoxError> + Send + 'static,
    A::Future: Send,
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
    B: Send + 'static,
    R: Send + 'static,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let outcome = match self.as_mut().project().state.project() {
                StateProj::First { future, spare } => {
                    let answer = ready!(future.poll(cx));
                    let (response, receipt) = match refusal(answer) {
                        Ok(refused) => refused,
                        Err(answer) => return Poll::Ready(answer),
                    };
                    match spare.take() {
                        Some((auth, request)) => Box::pin(again(auth, request, response, receipt)),
                        None => return Poll::Ready(Ok(response)),
                    }
                }
                StateProj::Again { outcome } => return outcome.as_mut().poll(cx),
            };
            self.as_mut().project().state.set(State::Again { outcome });
        }
    }
}

/// Tells a response that refuses the credential from every other end of an attempt.
fn refusal<R>(
    answer: Result<Response<R>, BoxError>,
) -> Result<(Response<R>, Receipt), Result<Response<R>, BoxError>> {
    let response = answer.map_err(Err)?;
    let receipt = response.extensions().get::<Receipt>();
    match receipt.filter(|receipt| receipt.is_refused()).cloned() {
        Some(receipt) => Ok((response, receipt)),
        None => Err(Ok(response)),
    }
}

async fn again<A, B, R>(
    mut auth: A,
    mut request: Request<B>,
    refused: Response<R>,
    receipt: Receipt,
) -> Result<Response<R>, BoxError>
where
    A: Service<Request<B>, Response = Response<R>, Error = BoxError> + Send,
    A::Future: Send,
    B: Send,
    R: Send,
{
    if !receipt.renewed().await {
        return Ok(refused);
    }
    // Its body is not read, so an HTTP/1 connection goes with it; a second attempt while it is open
    // would need another one anyway.
    drop(refused);
    forget_fulfilled_wish(&mut request);
    poll_fn(|cx| auth.poll_ready(cx)).await?;
    auth.call(request).await
}

/// A request that asked for a new credential has had it.
pub(crate) fn forget_fulfilled_wish<B>(request: &mut Request<B>) {
    let wish = request.extensions().get::<AuthOverride>();
    if wish.is_some_and(AuthOverride::is_done_after_one_attempt) {
        request.extensions_mut().remove::<AuthOverride>();
    }
}

impl<A, F, B, R> fmt::Debug for ReplayFuture<A, F, B, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::First { .. } => "first attempt",
            State::Again { .. } => "again",
        };
        f.debug_tuple("ReplayFuture").field(&state).finish()
    }
}
