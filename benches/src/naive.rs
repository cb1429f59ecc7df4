use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};
use tower_layer::Layer;
use tower_service::Service;

/// What one writes in an afternoon: the token in a lock, the header formatted for each request.
#[derive(Clone)]
pub(crate) struct NaiveLayer {
    token: Arc<RwLock<String>>,
}

#[derive(Clone)]
pub(crate) struct Naive<S> {
    inner: S,
    token: Arc<RwLock<String>>,
}

impl NaiveLayer {
    pub(crate) fn new(token: String) -> Self {
        Self {
            token: Arc::new(RwLock::new(token)),
        }
    }
}

impl<S> Layer<S> for NaiveLayer {
    type Service = Naive<S>;

    fn layer(&self, inner: S) -> Naive<S> {
        Naive {
            inner,
            token: self.token.clone(),
        }
    }
}

impl<S, B> Service<Request<B>> for Naive<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let text = format!(
            "Bearer {}",
            self.token.read().unwrap_or_else(PoisonError::into_inner)
        );
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        self.inner.call(request)
    }
}
