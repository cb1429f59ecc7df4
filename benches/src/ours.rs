use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};
use tower_auth::{Auth, AuthLayer, ResponseFuture, Token, TokenCache};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Body, Boxed, Ready, TransportError};

/// What stands in for an HTTP client.
pub(crate) trait Transport:
    Service<
        Request<Body>,
        Response = Response<Body>,
        Error = TransportError,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
}

impl<T> Transport for T where
    T: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = TransportError,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// This project's layer as a program has it once it is warm: with a token that ends in an hour, the rule
/// for origins that nobody configured, and the clock that is looked at for each request.
///
/// The runtime is the one that the cache's refresher lives on. It has to outlive the service and is at
/// rest while requests are measured.
pub(crate) fn service<T: Transport>(transport: T, token: String) -> (Auth<T, Token>, Arc<Runtime>) {
    let cache = TokenCache::new(Token::bearer(token).expires_in(LIFETIME));
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime
        .block_on(cache.ready())
        .unwrap_or_else(|error| panic!("no token: {error}"));
    (
        AuthLayer::from_cache(cache).layer(transport),
        Arc::new(runtime),
    )
}

pub(crate) fn service_bytes_added() -> usize {
    size_of::<Auth<[u64; 4], Token>>() - size_of::<[u64; 4]>()
}

pub(crate) fn future_bytes_added() -> usize {
    fn added<F>() -> usize {
        size_of::<ResponseFuture<F, Body>>() - size_of::<F>()
    }
    added::<<Boxed as Service<Request<Body>>>::Future>()
        .max(added::<<Ready as Service<Request<Body>>>::Future>())
}

const LIFETIME: Duration = Duration::from_secs(3600);
