use http::Response;
use tower_auth_core::Error;

/// Decides what becomes of a request for which there is no credential, and none to be had within the
/// time that the cache lets its callers wait.
///
/// [`Fail`] and [`SendWithout`] always decide the same; a closure can look at the error:
///
/// ```
/// use http::{Response, StatusCode};
/// use tower_auth::{AuthLayer, Error, ErrorKind, Unavailable};
///
/// let layer = AuthLayer::new("a-fixed-token").on_unavailable(|error: &Error| match error.kind() {
///     ErrorKind::Unavailable | ErrorKind::Overloaded => {
///         let mut response = Response::new(String::from("try again later"));
///         *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
///         Unavailable::Respond(response)
///     }
///     _ => Unavailable::Fail,
/// });
/// # let _ = layer;
/// ```
pub trait OnUnavailable<R>: Send + Sync + 'static {
    /// Decides, given why there is no credential.
    fn decide(&self, error: &Error) -> Unavailable<R>;
}

/// What becomes of a request for which there is no credential.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unavailable<R> {
    /// The caller gets the error.
    Fail,
    /// The request is sent as it is. The API decides.
    SendWithout,
    /// The caller gets this response and the request is not sent.
    Respond(Response<R>),
}

/// The caller gets the error. This is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fail;

/// The request is sent as it is: for an API that serves anonymous callers too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendWithout;

impl<R> OnUnavailable<R> for Fail {
    fn decide(&self, _: &Error) -> Unavailable<R> {
        Unavailable::Fail
    }
}

impl<R> OnUnavailable<R> for SendWithout {
    fn decide(&self, _: &Error) -> Unavailable<R> {
        Unavailable::SendWithout
    }
}

impl<R, F> OnUnavailable<R> for F
where
    F: Fn(&Error) -> Unavailable<R> + Send + Sync + 'static,
{
    fn decide(&self, error: &Error) -> Unavailable<R> {
        self(error)
    }
}
