//! The client for agents against a real server at a real socket.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tower_auth_core::ErrorKind;
use tower_auth_io::UnixClient;

/// A folder of its own for each test; a socket's path must be short.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tai-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Answers with what it was sent, and trailers.
async fn echo(
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    assert_eq!(request.version(), Version::HTTP_2);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-both", HeaderValue::from_static("trailer"));
    let body = Full::new(body).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert("x-both", HeaderValue::from_static("header"));
    Ok(response)
}

fn serve(path: &Path) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(
                http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(echo)),
            );
        }
    })
}

fn ping() -> Request<Bytes> {
    Request::post("http://localhost/ping")
        .body(Bytes::from("ping"))
        .unwrap()
}

fn client(folder: &Folder) -> UnixClient {
    UnixClient::new(folder.socket()).unwrap()
}

#[tokio::test]
async fn trailers_join_the_headers_and_do_not_replace_them() {
    let folder = Folder::new("echo");
    let server = serve(&folder.socket());
    let answer = client(&folder).transport().send(ping()).await.unwrap();
    assert_eq!(answer.body(), "ping");
    assert_eq!(answer.headers()["grpc-status"], "0");
    assert_eq!(answer.headers()["x-both"], "header");
    server.abort();
}

#[tokio::test]
async fn fc_d20_an_agent_may_come_late_and_restart() {
    let folder = Folder::new("late");
    let transport = client(&folder).transport();
    let error = transport.send(ping()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("there is no socket"), "{error}");

    let server = serve(&folder.socket());
    transport.send(ping()).await.unwrap();
    server.abort();
    let _ = server.await;

    let error = transport.send(ping()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("nobody listens"), "{error}");

    std::fs::remove_file(folder.socket()).unwrap();
    let server = serve(&folder.socket());
    transport.send(ping()).await.unwrap();
    server.abort();
}

#[tokio::test]
async fn fc_a02_an_agent_that_never_answers_is_given_up() {
    let folder = Folder::new("mute");
    let listener = UnixListener::bind(folder.socket()).unwrap();
    let transport = client(&folder)
        .with_timeout(Duration::from_millis(50))
        .transport();
    let error = transport.send(ping()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_timeout(), "{error}");
    drop(listener);
}

#[tokio::test]
async fn fc_a12_an_agent_that_hangs_up_is_a_passing_failure() {
    let folder = Folder::new("gone");
    let listener = UnixListener::bind(folder.socket()).unwrap();
    let server = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    let error = client(&folder).transport().send(ping()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(!error.is_timeout(), "{error}");
    assert_eq!(error.endpoint(), Some("localhost/ping"));
    server.await.unwrap();
}

#[tokio::test]
async fn fc_a17_an_answer_without_end_is_cut() {
    let folder = Folder::new("endless");
    let listener = UnixListener::bind(folder.socket()).unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let endless = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Endless)) });
        let _ = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), endless)
            .await;
    });
    let transport = client(&folder).with_body_limit(4096).transport();
    let error = transport.send(ping()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    server.abort();
}

/// A body that goes on and on.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 1024])))))
    }
}

#[test]
fn a_relative_path_is_refused() {
    let error = UnixClient::new("agent.sock").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn a_socket_that_may_not_be_used_is_a_configuration_error() {
    let folder = Folder::new("long");
    let error = UnixClient::new(folder.0.join("x".repeat(200)))
        .unwrap()
        .transport()
        .send(ping())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
}
