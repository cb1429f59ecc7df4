use std::error::Error;
use std::fmt;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use tower_service::Service;

/// The body of requests and responses: empty, and about as large as the types of HTTP bodies are.
///
/// A request in the transport's box comes to 256 bytes with it. What is larger is copied in a way that
/// takes more or fewer instructions with the address it happens to get.
pub type Body = Vec<u8>;

/// A transport that answers at once with a future of a known type.
///
/// The compiler sees through it, so it flatters the cheapest layer: there is nothing else to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready;

/// A transport that answers at once with a boxed future, as hyper-util's legacy client does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boxed;

/// An error of the shape that HTTP clients have: a kind and perhaps a cause.
#[derive(Debug)]
pub struct TransportError {
    kind: u8,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

/// Where the requests go.
#[must_use]
pub fn target() -> Uri {
    Uri::from_static("https://api.example.com/v1")
}

/// A request with four headers and spare room in its map, because growing the map belongs to
/// whichever layer adds the first header too many and would hide everything else.
///
/// The map stays below the size at which malloc leaves its per-thread cache: beyond it the cost of an
/// allocation depends on what the program allocated before.
#[must_use]
pub fn request(target: &Uri) -> Request<Body> {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(HOST, HeaderValue::from_static("api.example.com"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static("tower-auth-benches/0"));
    let mut request = Request::new(Body::new());
    *request.uri_mut() = target.clone();
    *request.headers_mut() = headers;
    request
}

impl Service<Request<Body>> for Ready {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        drop(black_box(request));
        std::future::ready(answer())
    }
}

impl Service<Request<Body>> for Boxed {
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        black_box(Box::pin(async move {
            drop(black_box(request));
            answer()
        }))
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the transport failed (kind {})", self.kind)
    }
}

impl Error for TransportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// Whether it succeeds is kept from the compiler, which could otherwise drop the layers' error paths.
fn answer() -> Result<Response<Body>, TransportError> {
    if black_box(true) {
        Ok(Response::new(Body::new()))
    } else {
        Err(TransportError {
            kind: 0,
            cause: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_as_long_wherever_it_goes() {
        let request = request(&target());
        let in_flight = Boxed.call(request);
        assert!(
            size_of_val(&*in_flight) <= 256,
            "{}",
            size_of_val(&*in_flight)
        );
    }

    #[test]
    fn the_map_has_room_for_one_more_header() {
        let mut request = request(&target());
        let before = request.headers().capacity();
        request
            .headers_mut()
            .insert(http::header::AUTHORIZATION, HeaderValue::from_static("x"));
        assert_eq!(request.headers().len(), 5);
        assert_eq!(request.headers().capacity(), before);
    }
}
