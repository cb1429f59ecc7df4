use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};
use tower_auth_core::{BoxError, Error, ErrorKind};

use crate::cause::presentable;

/// How an identity provider is reached: any [`tower::Service`] that answers HTTP requests.
///
/// Requests and answers are whole: token endpoints speak in small documents. A transport does not retry
/// and does not follow redirects; it makes one exchange and says what became of it.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use tower_auth_io::Transport;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_auth_core::Error> {
/// let transport = Transport::new(tower::service_fn(|request: Request<Bytes>| async move {
///     Ok::<_, std::io::Error>(Response::new(request.into_body()))
/// }));
/// let answer = transport.send(Request::new(Bytes::from("ping"))).await?;
/// assert_eq!(answer.body(), "ping");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Transport(BoxCloneSyncService<Request<Bytes>, Response<Bytes>, BoxError>);

impl Transport {
    /// How many bytes of an answer are read where nothing else is said: 256 KiB.
    pub const DEFAULT_BODY_LIMIT: usize = 256 * 1024;

    /// A transport over a service that takes and gives whole bodies. The service sees to timeouts and
    /// to the size of what it reads.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Request<Bytes>, Response = Response<Bytes>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        Self(BoxCloneSyncService::new(
            service.map_err(Into::<BoxError>::into),
        ))
    }

    /// A transport over an HTTP client, such as hyper-util's, with whatever layers the program has
    /// around it. At most [`DEFAULT_BODY_LIMIT`](Self::DEFAULT_BODY_LIMIT) bytes of an answer are read.
    ///
    /// The client must not follow redirects: what is sent to a token endpoint is a credential.
    pub fn from_http<S, B>(client: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        Self::from_http_limited(client, Self::DEFAULT_BODY_LIMIT)
    }

    /// As [`from_http`](Self::from_http), reading at most `limit` bytes of an answer.
    pub fn from_http_limited<S, B>(client: S, limit: usize) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        Self::new(WholeBodies::new(client, limit))
    }

    /// Makes one exchange. Any status is an answer; the caller decides what it means.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if there was no answer or it broke off, with the cause;
    /// [`is_timeout`](Error::is_timeout) tells whether time ran out. [`Malformed`](ErrorKind::Malformed)
    /// if the answer is larger than the body limit. Errors of these crates that the service gave pass
    /// through. All of them name the endpoint's host and path.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let uri = request.uri().clone();
        // `oneshot` waits for the clone to be ready: a clone of a ready service need not be.
        self.0
            .clone()
            .oneshot(request)
            .await
            .map_err(|error| explain(error).with_endpoint(&uri))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

/// A client whose bodies are streams, as one whose bodies are whole.
#[derive(Clone)]
pub(crate) struct WholeBodies<S> {
    inner: S,
    limit: usize,
}

impl<S> WholeBodies<S> {
    pub(crate) fn new(inner: S, limit: usize) -> Self {
        Self { inner, limit }
    }
}

impl<S, B> Service<Request<Bytes>> for WholeBodies<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Bytes>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let limit = self.limit;
        let answer = self.inner.call(request.map(Full::new));
        Box::pin(async move {
            let (parts, body) = answer.await.map_err(Into::into)?.into_parts();
            // What announces itself as too large is not read at all.
            if body.size_hint().lower() > limit as u64 {
                return Err(too_large(limit).with_status(parts.status).into());
            }
            match Limited::new(body, limit).collect().await {
                Ok(body) => Ok(Response::from_parts(parts, body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => {
                    Err(too_large(limit).with_status(parts.status).into())
                }
                Err(error) => Err(broke_off(error).with_status(parts.status).into()),
            }
        })
    }
}

pub(crate) fn too_large(limit: usize) -> Error {
    Error::new(
        ErrorKind::Malformed,
        format!("the answer is larger than the body limit of {limit} bytes"),
    )
}

fn broke_off(error: BoxError) -> Error {
    match Error::find(&*error) {
        Some(ours) => ours.clone(),
        None => unavailable("the answer broke off before its end", error),
    }
}

/// What a service's error means to the caller.
fn explain(error: BoxError) -> Error {
    match Error::find(&*error) {
        Some(ours) => ours.clone(),
        None => unavailable("there was no answer", error),
    }
}

/// An exchange that failed on the way; the next one may succeed.
pub(crate) fn unavailable(what: &'static str, cause: BoxError) -> Error {
    let timed_out = is_timeout(&*cause);
    let what = if timed_out {
        "there was no answer in time"
    } else {
        what
    };
    let error = Error::new(ErrorKind::Unavailable, what).with_cause(presentable(cause));
    if timed_out { error.timed_out() } else { error }
}

fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    let mut link = Some(error);
    while let Some(error) = link {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut)
            || error.is::<tokio::time::error::Elapsed>()
        {
            return true;
        }
        link = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::io;

    use tower::service_fn;

    fn request(uri: &str) -> Request<Bytes> {
        Request::post(uri)
            .body(Bytes::from("secret=canary"))
            .unwrap()
    }

    fn failing(error: fn() -> BoxError) -> Transport {
        Transport::new(service_fn(move |_: Request<Bytes>| {
            std::future::ready(Err::<Response<Bytes>, _>(error()))
        }))
    }

    async fn error_of(transport: &Transport) -> Error {
        transport
            .send(request("https://u:canary@a.test/token?k=canary"))
            .await
            .unwrap_err()
    }

    #[tokio::test]
    async fn fc_g08_a_failure_names_host_and_path_and_keeps_its_cause() {
        let error = error_of(&failing(|| {
            io::Error::from(io::ErrorKind::ConnectionReset).into()
        }))
        .await;
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.to_string(), "there was no answer (a.test/token)");
        assert!(!error.is_timeout());
        assert!(error.source().unwrap().is::<io::Error>());
    }

    #[tokio::test]
    async fn fc_g08_a_cause_that_shows_the_url_is_cut() {
        let error = error_of(&failing(|| {
            io::Error::other("error for url (https://u:canary@a.test/token?k=canary)").into()
        }))
        .await;
        let shown = format!("{error} {error:?} {}", error.source().unwrap());
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("https://a.test/token"), "{shown}");
    }

    #[tokio::test]
    async fn time_that_ran_out_is_marked() {
        let error = error_of(&failing(|| io::Error::from(io::ErrorKind::TimedOut).into())).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_timeout());
        assert_eq!(
            error.to_string(),
            "there was no answer in time (a.test/token)"
        );
    }

    #[tokio::test]
    async fn an_error_of_ours_passes_through_with_the_endpoint() {
        let error = error_of(&failing(|| {
            Error::new(ErrorKind::Overloaded, "enough").into()
        }))
        .await;
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert_eq!(error.to_string(), "enough (a.test/token)");
    }

    fn answering(body: &'static str, limit: usize) -> Transport {
        let client = service_fn(move |_: Request<Full<Bytes>>| {
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(
                body,
            )))))
        });
        Transport::from_http_limited(client, limit)
    }

    #[tokio::test]
    async fn fc_a17_a_body_above_the_limit_is_an_error_that_names_the_limit() {
        let exact = answering("12345", 5).send(request("https://a.test/")).await;
        assert_eq!(exact.unwrap().body(), "12345");

        let error = error_of(&answering("canary", 5)).await;
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert_eq!(
            error.to_string(),
            "the answer is larger than the body limit of 5 bytes (a.test/token, status 200)"
        );
    }

    #[tokio::test]
    async fn a_service_is_ready_before_it_is_called() {
        #[derive(Clone)]
        struct Strict {
            ready: bool,
        }
        impl Service<Request<Bytes>> for Strict {
            type Response = Response<Bytes>;
            type Error = Infallible;
            type Future = std::future::Ready<Result<Response<Bytes>, Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                self.ready = true;
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, _: Request<Bytes>) -> Self::Future {
                assert!(
                    std::mem::take(&mut self.ready),
                    "called before it was ready"
                );
                std::future::ready(Ok(Response::default()))
            }
        }
        let transport = Transport::new(Strict { ready: false });
        for _ in 0..2 {
            transport.send(request("https://a.test/")).await.unwrap();
        }
    }

    #[test]
    fn it_can_be_shared_between_threads() {
        fn shared<T: Send + Sync + Clone + 'static>() {}
        shared::<Transport>();
    }
}
