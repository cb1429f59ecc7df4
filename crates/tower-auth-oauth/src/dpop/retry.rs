use std::future::{Ready, ready};

use http::{Request, Response};
use tower::retry::Policy;

use super::Dpop;

/// Sends a request once more if the API demands a nonce in its proof (RFC 9449 section 9).
///
/// It is a policy for [`tower::retry`], for requests whose body can be cloned, and belongs above the layer
/// that stamps: that one makes the new proof, with the nonce that [`Dpop::nonces_layer`] has learned below
/// it.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_auth::AuthLayer;
/// use tower_auth_oauth::{Dpop, RetryOnNonce};
/// # use tower_auth_core::{BoxError, Token};
///
/// # fn build(
/// #     source: Token,
/// #     dpop: Dpop,
/// #     client: impl tower::Service<
/// #         http::Request<String>,
/// #         Response = http::Response<String>,
/// #         Error = BoxError,
/// #         Future: Send + 'static,
/// #     > + Clone + Send + 'static,
/// # ) {
/// let auth = AuthLayer::with_stamp(source, dpop.clone()).refused(Dpop::refuses_token);
/// let client = ServiceBuilder::new()
///     .retry(RetryOnNonce::new())
///     .layer(auth)
///     .layer(dpop.nonces_layer())
///     .service(client);
/// # fn is_service<S: tower::Service<http::Request<String>>>(_: S) {}
/// # is_service(client);
/// # }
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
#[derive(Clone, Debug, Default)]
#[must_use = "a policy does nothing until a retry layer is given it"]
pub struct RetryOnNonce {
    has_retried: bool,
}

impl RetryOnNonce {
    /// Once for each request.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<B: Clone, R, E> Policy<Request<B>, Response<R>, E> for RetryOnNonce {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<R>, E>,
    ) -> Option<Ready<()>> {
        let response = result.as_ref().ok()?;
        let wants_nonce = Dpop::wants_nonce(response.status(), response.headers());
        if self.has_retried || !wants_nonce {
            return None;
        }
        self.has_retried = true;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        (!self.has_retried).then(|| request.clone())
    }
}
