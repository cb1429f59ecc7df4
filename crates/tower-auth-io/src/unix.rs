use std::future::{Future, poll_fn};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tower::Service;
use tower_auth_core::{BoxError, Error, ErrorKind};

use crate::Transport;
use crate::transport::{too_large, unavailable};

/// A client for an agent on this machine that listens at a Unix socket and speaks HTTP/2 with prior
/// knowledge (RFC 9113 section 3.3), as gRPC does.
///
/// Each exchange has a connection of its own, so that an agent may restart between two of them. Who may
/// connect is decided by the mode of the socket; nothing leaves this machine, so there is no TLS.
///
/// The trailers of an answer are put among its headers, where gRPC's status is looked for; a header of the
/// same name stays.
///
/// ```
/// use tower_auth_io::UnixClient;
///
/// let transport = UnixClient::new("/run/agent/api.sock")?.transport();
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until `transport` is called"]
pub struct UnixClient {
    path: PathBuf,
    timeout: Duration,
    body_limit: usize,
}

impl UnixClient {
    /// How long the whole exchange may take where nothing else is said: 30 s.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

    /// A client for the socket at this path.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the path is relative: the working directory is not a
    /// place to trust.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        if !path.is_absolute() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "the path {} of a socket must begin with /: write the whole path",
                    path.display()
                ),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            timeout: Self::DEFAULT_TIMEOUT,
            body_limit: Transport::DEFAULT_BODY_LIMIT,
        })
    }

    /// How long the whole exchange may take.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many bytes of an answer are read; 256 KiB where this is not called.
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Makes the client. This does not connect.
    #[must_use]
    pub fn transport(self) -> Transport {
        Transport::new(Agent(Arc::new(self)))
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|cause| self.refused(cause))?;
        let broken = |cause: hyper::Error| {
            unavailable(
                "the connection broke before there was an answer",
                cause.into(),
            )
        };
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let answer = async {
            let (mut parts, body) = sender
                .send_request(request.map(Full::new))
                .await
                .map_err(broken)?
                .into_parts();
            let status = parts.status;
            let body = Limited::new(body, self.body_limit)
                .collect()
                .await
                .map_err(|error| {
                    if error.is::<LengthLimitError>() {
                        too_large(self.body_limit)
                    } else {
                        unavailable("the answer broke off before its end", error)
                    }
                    .with_status(status)
                })?;
            for (name, value) in body.trailers().into_iter().flatten() {
                parts.headers.entry(name).or_insert(value.clone());
            }
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        // The connection is driven here, so that dropping the exchange drops it too. It may end while the
        // end of the answer still waits to be read, and a failure of it shows in the answer.
        // `await` drops the connection at its end: what it leaves unanswered is told so by that alone.
        let connection = async { drop(connection.await) };
        let (mut answer, mut connection) = (pin!(answer), pin!(connection));
        let mut has_ended = false;
        poll_fn(|cx| {
            has_ended = has_ended || connection.as_mut().poll(cx).is_ready();
            answer.as_mut().poll(cx)
        })
        .await
    }

    fn refused(&self, cause: io::Error) -> Error {
        let path = self.path.display();
        let (kind, text) = match cause.kind() {
            io::ErrorKind::NotFound => (
                ErrorKind::Unavailable,
                format!(
                    "there is no socket {path}: the agent has not started, or listens elsewhere"
                ),
            ),
            io::ErrorKind::ConnectionRefused => (
                ErrorKind::Unavailable,
                format!("nobody listens at the socket {path}: the agent has stopped"),
            ),
            io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => (
                ErrorKind::InvalidConfig,
                format!("the socket {path} cannot be used: check its path, owner and mode"),
            ),
            _ => (
                ErrorKind::Unavailable,
                format!("the agent at the socket {path} could not be reached"),
            ),
        };
        Error::new(kind, text).with_cause(cause)
    }
}

#[derive(Clone)]
struct Agent(Arc<UnixClient>);

impl Service<Request<Bytes>> for Agent {
    type Response = Response<Bytes>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let client = Arc::clone(&self.0);
        Box::pin(async move {
            match tokio::time::timeout(client.timeout, client.exchange(request)).await {
                Ok(done) => done.map_err(Into::into),
                Err(_) => Err(Error::new(
                    ErrorKind::Unavailable,
                    format!(
                        "the agent at the socket {} did not answer within {} s",
                        client.path.display(),
                        client.timeout.as_secs_f32()
                    ),
                )
                .timed_out()
                .into()),
            }
        })
    }
}
