mod connector;
mod proxy;
mod tls;

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::Service;
use tower_auth_core::{BoxError, Error, ErrorKind};

use crate::endpoint::Reach;
use crate::transport::{WholeBodies, unavailable};
use crate::{Env, SystemEnv, Transport};
use connector::Connector;

/// The HTTPS client that comes with these crates, and its settings.
///
/// It makes one exchange and no more: **no redirect is followed**, a 3xx is an answer like any other, and
/// whoever reads it must not send a credential to its `Location` (RFC 9700 section 4.12). It connects
/// within 5 s and ends within 30 s, reads at most 256 KiB of an answer, trusts the certificates of the
/// system and those that are added, and speaks HTTP/1.1 and, with the feature `http2`, HTTP/2. Plain
/// `http` is refused except to this machine and to link-local metadata servers.
///
/// A proxy named by `HTTPS_PROXY` or `ALL_PROXY` is used, minding `NO_PROXY`, for all but this machine
/// and metadata servers. It is only ever asked for a tunnel (`CONNECT`), so it sees the name of the
/// endpoint and nothing of the exchange.
///
/// ```no_run
/// use std::time::Duration;
/// use tower_auth_io::Client;
///
/// let transport = Client::new()
///     .with_ca_file("/etc/company/ca.pem")
///     .with_timeout(Duration::from_secs(10))
///     .transport()?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[must_use = "settings do nothing until `transport` is called"]
pub struct Client {
    connect_timeout: Duration,
    timeout: Duration,
    body_limit: usize,
    roots: Roots,
    identity: Option<Identity>,
    server_name: Option<String>,
    clear_text: bool,
    proxies: Option<Arc<dyn Env>>,
}

/// What the client shows of itself.
struct Identity {
    certificates: Pem,
    key: Pem,
}

/// The certificates that are trusted.
struct Roots {
    system: bool,
    extra: Vec<Pem>,
}

enum Pem {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Client {
    /// How long connecting may take where nothing else is said, TLS included: 5 s.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// How long the whole exchange may take where nothing else is said: 30 s.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

    /// The default settings.
    pub fn new() -> Self {
        Self {
            connect_timeout: Self::DEFAULT_CONNECT_TIMEOUT,
            timeout: Self::DEFAULT_TIMEOUT,
            body_limit: Transport::DEFAULT_BODY_LIMIT,
            roots: Roots {
                system: true,
                extra: Vec::new(),
            },
            identity: None,
            server_name: None,
            clear_text: false,
            proxies: Some(Arc::new(SystemEnv)),
        }
    }

    /// How long it may take to find the address, connect, pass a proxy and agree on TLS.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the whole exchange may take, from the first look at the address to the last byte.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many bytes of an answer are read.
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Trusts the certificates in this PEM file besides the others. It is read once, when the client is
    /// made.
    pub fn with_ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.extra.push(Pem::File(path.into()));
        self
    }

    /// Trusts these certificates in PEM besides the others.
    pub fn with_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.extra.push(Pem::Bytes(pem.into()));
        self
    }

    /// Trusts the certificates that were added and not those of the system.
    pub fn without_system_roots(mut self) -> Self {
        self.roots.system = false;
        self
    }

    /// Shows this certificate to servers that ask for one (mutual TLS): a PEM file with the certificate and
    /// those up to the root, and one with its key. They are read once, when the client is made.
    pub fn with_certificate_files(
        mut self,
        certificates: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some(Identity {
            certificates: Pem::File(certificates.into()),
            key: Pem::File(key.into()),
        });
        self
    }

    /// As [`with_certificate_files`](Self::with_certificate_files), from memory.
    pub fn with_certificate_pem(
        mut self,
        certificates: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.identity = Some(Identity {
            certificates: Pem::Bytes(certificates.into()),
            key: Pem::Bytes(key.into()),
        });
        self
    }

    /// Expects this name in the certificate of every server, whatever host the URL has.
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sends plain `http` to other machines too. Whoever is on the way can read and use what is sent: see
    /// [`EndpointUrl::clear_text`](crate::EndpointUrl::clear_text).
    pub fn allowing_clear_text(mut self) -> Self {
        self.clear_text = true;
        self
    }

    /// Looks for proxies in this environment. It is read once, when the client is made.
    pub fn with_env(mut self, env: impl Env) -> Self {
        self.proxies = Some(Arc::new(env));
        self
    }

    /// Uses no proxy, whatever the environment says.
    pub fn without_proxy(mut self) -> Self {
        self.proxies = None;
        self
    }

    /// Makes the client. This reads certificates from disk and does not connect.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if no root certificate could be loaded, if a CA file
    /// cannot be read or has no certificate, or if a proxy variable does not name a proxy.
    pub fn transport(self) -> Result<Transport, Error> {
        let tls = tls::config(&self.roots, self.identity.as_ref())?;
        let server_name = self
            .server_name
            .as_deref()
            .map(tls::server_name)
            .transpose()?;
        let proxies = match self.proxies {
            Some(env) => proxy::matcher(&*env)?,
            None => None,
        };
        let connector = Connector::new(tls, server_name, proxies, self.connect_timeout);
        let reach = if self.clear_text {
            Allowed::ClearText
        } else {
            Allowed::Private
        };
        Ok(Transport::new(Deadline {
            inner: WholeBodies::new(Hyper::new(connector, reach), self.body_limit),
            timeout: self.timeout,
        }))
    }

    /// Makes a client that sends every request to this socket, whatever host its URL has: a server on this
    /// machine that listens on no port. The URL is `http://localhost` and a path. It speaks HTTP/1.1; certificates,
    /// proxies and [`allowing_clear_text`](Self::allowing_clear_text) mean nothing here.
    #[cfg(unix)]
    pub fn unix_transport(self, socket: impl Into<PathBuf>) -> Transport {
        let connector = connector::Socket::new(socket.into(), self.connect_timeout);
        Transport::new(Deadline {
            inner: WholeBodies::new(Hyper::new(connector, Allowed::Private), self.body_limit),
            timeout: self.timeout,
        })
    }
}

impl<C> Hyper<C>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    fn new(connector: C, allowed: Allowed) -> Self {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            // Tokens are fetched minutes apart: a connection that was idle that long is likely dead.
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(2);
        // A peer that vanished must not keep its connection in the pool for the next exchange.
        #[cfg(feature = "http2")]
        builder
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_TIMEOUT);
        Self {
            client: builder.build(connector),
            allowed,
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("connect_timeout", &self.connect_timeout)
            .field("timeout", &self.timeout)
            .field("body_limit", &self.body_limit)
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// The client that comes with these crates, in its default settings. See [`Client`].
    ///
    /// # Errors
    /// As [`Client::transport`].
    pub fn https() -> Result<Self, Error> {
        Client::new().transport()
    }
}

type Exchange<R> = Pin<Box<dyn Future<Output = Result<Response<R>, BoxError>> + Send>>;

/// hyper-util's client, with errors that say what failed.
#[derive(Clone)]
struct Hyper<C> {
    client: legacy::Client<C, Full<Bytes>>,
    allowed: Allowed,
}

/// How far a request may travel in clear.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    Private,
    ClearText,
}

impl<C> Service<Request<Full<Bytes>>> for Hyper<C>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Exchange<Incoming>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        if let Err(error) = refuse_clear(&request, self.allowed) {
            return Box::pin(std::future::ready(Err(error.into())));
        }
        let answer = self.client.request(request);
        Box::pin(async move { answer.await.map_err(|error| explain(error).into()) })
    }
}

/// Ends an exchange that takes too long, wherever it is.
#[derive(Clone)]
struct Deadline<S> {
    inner: S,
    timeout: Duration,
}

impl<S> Service<Request<Bytes>> for Deadline<S>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Bytes>;
    type Error = BoxError;
    type Future = Exchange<Bytes>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let timeout = self.timeout;
        let exchange = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout(timeout, exchange).await {
                Ok(done) => done,
                Err(_) => Err(out_of_time("there was no whole answer", timeout).into()),
            }
        })
    }
}

/// A credential does not leave this machine in clear, whatever URL came in, unless that was asked for.
fn refuse_clear<B>(request: &Request<B>, allowed: Allowed) -> Result<(), Error> {
    match Reach::of(request.uri())? {
        Reach::Clear if allowed == Allowed::Private => Err(Error::new(
            ErrorKind::InvalidConfig,
            "refused to send a credential over plain http: use an https URL",
        )),
        Reach::Https | Reach::Loopback | Reach::Metadata | Reach::Clear => Ok(()),
    }
}

fn explain(error: legacy::Error) -> Error {
    let failed = if is_tls(&error) {
        "the TLS handshake failed"
    } else if error.is_connect() {
        "could not connect"
    } else {
        "the connection broke before there was an answer"
    };
    match Error::find(&error) {
        Some(ours) => ours.clone(),
        None => unavailable(failed, error.into()),
    }
}

fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut link = Some(error);
    while let Some(error) = link {
        if error.is::<rustls::Error>() {
            return true;
        }
        // `io::Error` answers with the cause of what it wraps, not with what it wraps.
        link = match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

fn out_of_time(what: &str, timeout: Duration) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("{what} within {} s", timeout.as_secs_f32()),
    )
    .timed_out()
}

const IDLE: Duration = Duration::from_secs(30);
#[cfg(feature = "http2")]
const PING_EVERY: Duration = Duration::from_secs(10);
#[cfg(feature = "http2")]
const PING_TIMEOUT: Duration = Duration::from_secs(5);
