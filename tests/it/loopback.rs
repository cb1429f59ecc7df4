use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName};
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Answer = dyn Fn(&Parts) -> Response<Full<Bytes>> + Send + Sync;

/// An HTTP/1.1 server on a free loopback port that remembers what arrived.
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
    _accepting: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(
        answer: impl Fn(&Parts) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(answer), Arc::clone(&seen)));
        Self {
            address,
            seen,
            _accepting: accepting,
        }
    }

    /// One that answers 200 to everything.
    pub(crate) async fn content() -> Self {
        Self::start(|_| Response::new(Full::from("hello"))).await
    }

    /// Its origin, without a slash at the end.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    pub(crate) fn seen(&self) -> Vec<Request<Bytes>> {
        self.seen.lock().unwrap().clone()
    }

    /// The values of a header of each request that arrived.
    pub(crate) fn carried(&self, name: &HeaderName) -> Vec<Vec<String>> {
        let values = |request: &Request<Bytes>| {
            let values = request.headers().get_all(name).iter();
            values.map(|v| v.to_str().unwrap().to_owned()).collect()
        };
        self.seen().iter().map(values).collect()
    }

    pub(crate) fn authorized(&self) -> Vec<Vec<String>> {
        self.carried(&AUTHORIZATION)
    }
}

async fn accept(listener: TcpListener, answer: Arc<Answer>, seen: Arc<Mutex<Vec<Request<Bytes>>>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
        let service = service_fn(move |request: Request<Incoming>| {
            let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
            async move {
                let (parts, body) = request.into_parts();
                let response = answer(&parts);
                let body = body.collect().await.unwrap().to_bytes();
                seen.lock().unwrap().push(Request::from_parts(parts, body));
                Ok::<_, Infallible>(response)
            }
        });
        connections.spawn(async move {
            // The only errors are the peer's: it hung up.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
