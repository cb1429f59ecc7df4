use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::watch;
use tower_auth_core::BoxError;
use tower_auth_io::Transport;
use tower_service::Service;

mod expect;
mod reply;

pub use expect::Expect;
pub use reply::{Reply, ReplyBody};

/// A server that is not there: it checks and records each request and answers as the test says.
///
/// [`transport`](Self::transport) makes it the way to an identity provider, [`service`](Self::service)
/// makes it the API behind a tower stack. There is no socket, so it works with paused time. Answers
/// are given in the order in which they were added, then [`always`](Self::always) decides.
///
/// A request that is not as expected is answered with an I/O error and remembered:
/// [`assert_done`](Self::assert_done) fails with what was wrong, and so does the drop of the last
/// handle, so that a test cannot overlook it.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, StatusCode};
/// use tower_auth_testing::{Expect, FakeEndpoint, Reply};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let issuer = FakeEndpoint::new();
/// issuer.expect(
///     Expect::post("/token").form("grant_type", "client_credentials").no_form("client_secret"),
///     Reply::json(r#"{"access_token":"t","expires_in":3600}"#),
/// );
///
/// let request = Request::post("https://issuer.test/token")
///     .header("content-type", "application/x-www-form-urlencoded")
///     .body(Bytes::from("grant_type=client_credentials"))
///     .unwrap();
/// let answer = issuer.transport().send(request).await.unwrap();
/// assert_eq!(answer.status(), StatusCode::OK);
/// issuer.assert_done();
/// # }
/// ```
#[derive(Clone)]
pub struct FakeEndpoint(Arc<Owner>);

/// A [`FakeEndpoint`] as a service. See [`FakeEndpoint::service`].
#[derive(Clone)]
pub struct FakeService(Arc<Shared>);

/// The part that belongs to the test; services hold [`Shared`] alone.
struct Owner(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// How many requests have arrived, for those who wait for one.
    arrived: watch::Sender<usize>,
}

type Rule = Box<dyn FnMut(&Request<Bytes>, usize) -> Reply + Send>;

struct State {
    script: VecDeque<(Expect, Reply)>,
    rule: Option<Rule>,
    requests: Vec<Request<Bytes>>,
    failures: Vec<String>,
}

impl FakeEndpoint {
    /// An endpoint that expects no request.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Owner(Arc::new(Shared {
            state: Mutex::new(State {
                script: VecDeque::new(),
                rule: None,
                requests: Vec::new(),
                failures: Vec::new(),
            }),
            arrived: watch::Sender::new(0),
        }))))
    }

    /// Adds what the next request has to be and how it is answered.
    pub fn expect(&self, expected: Expect, reply: Reply) {
        self.lock().script.push_back((expected, reply));
    }

    /// Adds how the next request is answered, whatever it is.
    pub fn reply(&self, reply: Reply) {
        self.expect(Expect::any(), reply);
    }

    /// Makes up the answers when none are left. `rule` is given the request and how many there were
    /// before. It runs under the endpoint's lock, so it must not use the endpoint itself.
    pub fn always(&self, rule: impl FnMut(&Request<Bytes>, usize) -> Reply + Send + 'static) {
        self.lock().rule = Some(Box::new(rule));
    }

    /// Every request that has arrived, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<Request<Bytes>> {
        self.lock().requests.clone()
    }

    /// How many requests have arrived.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.lock().requests.len()
    }

    /// The request that arrived last.
    ///
    /// # Panics
    /// If there was none.
    #[track_caller]
    #[must_use]
    pub fn last_request(&self) -> Request<Bytes> {
        let last = self.lock().requests.last().cloned();
        match last {
            Some(request) => request,
            None => panic!("the fake endpoint has seen no request"),
        }
    }

    /// Waits until `count` requests have arrived since the endpoint was made.
    pub async fn requested(&self, count: usize) {
        let mut arrived = self.0.0.arrived.subscribe();
        // `self` keeps the sender alive, so the channel cannot be closed here.
        let _ = arrived.wait_for(|arrived| *arrived >= count).await;
    }

    /// The way to this endpoint, for a source. It reads at most
    /// [`Transport::DEFAULT_BODY_LIMIT`] bytes of an answer, as the real one does.
    #[must_use]
    pub fn transport(&self) -> Transport {
        Transport::from_http(self.service())
    }

    /// This endpoint as the innermost service of a tower stack.
    #[must_use]
    pub fn service(&self) -> FakeService {
        FakeService(Arc::clone(&self.0.0))
    }

    /// Fails if a request was not as expected, or an expected one has not come.
    ///
    /// # Panics
    /// With what was wrong.
    #[track_caller]
    pub fn assert_done(&self) {
        let (failures, missing) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.failures), state.script.len())
        };
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(
            missing == 0,
            "the fake endpoint still expects {missing} requests"
        );
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock()
    }
}

impl Default for FakeEndpoint {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FakeEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("FakeEndpoint")
            .field("requests", &state.requests.len())
            .field("remaining", &state.script.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FakeService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeService").finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for FakeService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ReplyBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ReplyBody>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(Into::into)?.to_bytes();
            let reply = shared.answer(Request::from_parts(parts, body))?;
            Ok(reply.play().await?)
        })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let failures = std::mem::take(&mut self.0.lock().failures);
        if !failures.is_empty() && !std::thread::panicking() {
            panic!("{}", failures.join("\n"));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: Request<Bytes>) -> io::Result<Reply> {
        let mut state = self.lock();
        let nth = state.requests.len();
        let answer = state.answer(&request, nth);
        state.requests.push(request);
        self.arrived.send_replace(nth + 1);
        answer.map_err(|failure| {
            state.failures.push(failure);
            io::Error::other("the fake endpoint did not expect this request")
        })
    }
}

impl State {
    fn answer(&mut self, request: &Request<Bytes>, nth: usize) -> Result<Reply, String> {
        let line = format!(
            "request {} ({} {})",
            nth + 1,
            request.method(),
            request.uri().path()
        );
        if let Some((expected, reply)) = self.script.pop_front() {
            let wrong = expected.mismatches(request);
            return if wrong.is_empty() {
                Ok(reply)
            } else {
                Err(format!("{line} is not as expected: {}", wrong.join("; ")))
            };
        }
        match &mut self.rule {
            Some(rule) => Ok(rule(request, nth)),
            None => Err(format!("{line} was not expected")),
        }
    }
}
