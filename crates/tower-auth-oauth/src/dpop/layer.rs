use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_auth_core::Origin;
use tower_layer::Layer;
use tower_service::Service;

use super::{Dpop, PROOF, Party};

/// Remembers the nonces in the answers of the service below. See [`Dpop::nonces_layer`].
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until a service is wrapped in it"]
pub struct DpopNoncesLayer {
    dpop: Dpop,
}

/// The service of a [`DpopNoncesLayer`].
#[derive(Clone, Debug)]
pub struct DpopNonces<S> {
    inner: S,
    dpop: Dpop,
}

pin_project! {
    /// The future of [`DpopNonces`].
    #[must_use = "futures do nothing unless polled"]
    pub struct DpopNoncesFuture<F> {
        #[pin]
        inner: F,
        watched: Option<(Dpop, Origin)>,
    }
}

impl DpopNoncesLayer {
    pub(super) fn new(dpop: Dpop) -> Self {
        Self { dpop }
    }
}

impl<S> Layer<S> for DpopNoncesLayer {
    type Service = DpopNonces<S>;

    fn layer(&self, inner: S) -> DpopNonces<S> {
        DpopNonces {
            inner,
            dpop: self.dpop.clone(),
        }
    }
}

impl<S, B, R> Service<Request<B>> for DpopNonces<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = DpopNoncesFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let origin = request
            .headers()
            .contains_key(PROOF)
            .then(|| Origin::of(request.uri()).ok())
            .flatten();
        DpopNoncesFuture {
            watched: origin.map(|origin| (self.dpop.clone(), origin)),
            inner: self.inner.call(request),
        }
    }
}

impl<F, R, E> Future for DpopNoncesFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
        if let (Ok(response), Some((dpop, origin))) = (&answer, this.watched.take()) {
            dpop.learn(Party::Api, origin, response.headers());
        }
        Poll::Ready(answer)
    }
}

impl<F> fmt::Debug for DpopNoncesFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopNoncesFuture").finish_non_exhaustive()
    }
}
