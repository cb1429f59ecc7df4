use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{
    FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream,
};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tower::{Service, ServiceExt};
use tower_auth_core::BoxError;

use super::out_of_time;
use crate::endpoint::is_next_door;

/// Makes a connection, encrypted where the URL says so, within a time that covers every step.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Dial>,
    timeout: Duration,
}

/// Plain to the endpoint, or plain or encrypted to a proxy that made a tunnel.
type Wire = MaybeHttpsStream<TokioIo<TcpStream>>;
type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

impl Connector {
    pub(super) fn new(
        tls: ClientConfig,
        server_name: Option<ServerName<'static>>,
        proxies: Option<Matcher>,
        timeout: Duration,
    ) -> Self {
        let mut direct = HttpConnector::new();
        // The scheme is checked before a request comes here.
        direct.enforce_http(false);
        direct.set_nodelay(true);
        let dial = Dial {
            direct: direct.clone(),
            to_proxy: HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_or_http()
                .enable_http1()
                .wrap_connector(direct),
            proxies: proxies.map(Arc::new),
        };
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http();
        let https = match server_name {
            Some(name) => https.with_server_name_resolver(FixedServerNameResolver::new(name)),
            None => https,
        };
        let https = https.enable_http1();
        #[cfg(feature = "http2")]
        let https = https.enable_http2();
        Self {
            https: https.wrap_connector(dial),
            timeout,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Wire>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let timeout = self.timeout;
        let connecting = self.https.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(timeout, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(out_of_time("could not connect", timeout).into()),
            }
        })
    }
}

/// Makes the connection below TLS.
#[derive(Clone)]
struct Dial {
    direct: HttpConnector,
    to_proxy: HttpsConnector<HttpConnector>,
    proxies: Option<Arc<Matcher>>,
}

impl Service<Uri> for Dial {
    type Response = Wire;
    type Error = BoxError;
    type Future = Connecting<Wire>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let proxy = match &self.proxies {
            Some(proxies) if !is_next_door(&uri) => proxies.intercept(&uri),
            _ => None,
        };
        match proxy {
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy.clone());
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                Box::pin(async move { Ok(tunnel.oneshot(uri).await?) })
            }
            None => {
                let direct = self.direct.clone();
                Box::pin(async move { Ok(direct.oneshot(uri).await?.into()) })
            }
        }
    }
}

/// Connects to a socket in the file system.
#[cfg(unix)]
#[derive(Clone)]
pub(super) struct Socket {
    path: Arc<std::path::Path>,
    timeout: Duration,
}

#[cfg(unix)]
impl Socket {
    pub(super) fn new(path: std::path::PathBuf, timeout: Duration) -> Self {
        Self {
            path: path.into(),
            timeout,
        }
    }
}

#[cfg(unix)]
impl Service<Uri> for Socket {
    type Response = TokioIo<tokio::net::UnixStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (path, timeout) = (Arc::clone(&self.path), self.timeout);
        Box::pin(async move {
            let connecting = tokio::net::UnixStream::connect(&*path);
            match tokio::time::timeout(timeout, connecting).await {
                Ok(connected) => Ok(TokioIo::new(connected?)),
                Err(_) => Err(out_of_time("could not connect", timeout).into()),
            }
        })
    }
}
