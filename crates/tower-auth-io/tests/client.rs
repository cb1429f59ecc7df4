//! The client against servers that misbehave.
#![cfg(feature = "hyper")]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where its preparation fails"
)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tower_auth_core::{Error, ErrorKind};
use tower_auth_io::{Client, MapEnv, Transport};

/// Does this with every connection.
async fn serve<F>(
    behave: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> (SocketAddr, impl Fn() -> usize)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(Mutex::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            *count.lock().unwrap() += 1;
            tokio::spawn(behave(stream));
        }
    });
    (address, move || *accepted.lock().unwrap())
}

/// Answers every request on a connection with these bytes, and then closes it.
async fn answering(answer: &'static [u8]) -> SocketAddr {
    let (address, _) = serve(move |mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
        // Closing with unread bytes would be a reset.
        while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
    })
    .await;
    address
}

/// Reads until the request's body, which every test sends, is there.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut request = Vec::new();
    while !request.ends_with(BODY.as_bytes()) {
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    request
}

fn client() -> Client {
    Client::new()
        .without_proxy()
        .without_system_roots()
        .with_ca_pem(Identity::new().ca)
}

fn transport() -> Transport {
    client().transport().unwrap()
}

async fn post(transport: &Transport, url: &str) -> Result<Response<Bytes>, Error> {
    let request = Request::post(url).body(Bytes::from(BODY)).unwrap();
    transport.send(request).await
}

async fn post_to(transport: &Transport, address: SocketAddr) -> Result<Response<Bytes>, Error> {
    post(transport, &format!("http://{address}/token?k=canary")).await
}

/// Checks the kind of a failure and that it shows the endpoint and nothing that was sent.
fn check(error: &Error, kind: ErrorKind, words: &str) {
    let text = format!("{error} {error:?}");
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(words), "{text}");
    assert!(!text.contains("canary"), "{text}");
    let endpoint = error.endpoint().unwrap();
    assert!(endpoint.ends_with("/token"), "{endpoint}");
}

const BODY: &str = "client_secret=canary&end";
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn fc_a02_an_endpoint_that_never_answers_runs_into_the_total_time() {
    let (closed, mut was_closed) = mpsc::unbounded_channel();
    let (address, _) = serve(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await;
            let end = stream.read(&mut [0; 1]).await;
            let _ = closed.send(matches!(end, Ok(0) | Err(_)));
        }
    })
    .await;
    let transport = client().with_timeout(SHORT).transport().unwrap();
    let error = post_to(&transport, address).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, "within 0.05 s");
    assert!(error.is_timeout());
    assert_eq!(was_closed.recv().await, Some(true));
}

#[tokio::test]
async fn fc_a03_connecting_has_a_time_of_its_own_that_includes_tls() {
    let (address, _) = serve(|mut stream| async move {
        while matches!(stream.read(&mut [0; 512]).await, Ok(1..)) {}
    })
    .await;
    let transport = client().with_connect_timeout(SHORT).transport().unwrap();
    let error = post(&transport, &format!("https://{address}/token"))
        .await
        .unwrap_err();
    check(
        &error,
        ErrorKind::Unavailable,
        "could not connect within 0.05 s",
    );
    assert!(error.is_timeout());
}

#[tokio::test]
async fn fc_a04_a_refused_connection_is_a_passing_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = post_to(&transport(), address).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, "could not connect");
    assert!(!error.is_timeout());
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn fc_a12_a_reset_before_the_status_is_a_passing_failure() {
    // What was not read when a connection is closed resets it.
    let (address, _) = serve(|stream| async move {
        stream.readable().await.unwrap();
    })
    .await;
    let error = post_to(&transport(), address).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, "connection broke before");
    assert_eq!(error.status(), None);
}

#[tokio::test]
async fn fc_a12_an_end_within_the_status_line_is_a_passing_failure() {
    for start in [&b""[..], b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Le"] {
        let address = answering(start).await;
        let error = post_to(&transport(), address).await.unwrap_err();
        check(&error, ErrorKind::Unavailable, "connection broke before");
    }
}

#[tokio::test]
async fn fc_a13_an_end_within_the_body_is_a_passing_failure() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"access_token\":\"canary\"}"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\ncanary",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ncanary\r\n",
    ] {
        let address = answering(answer).await;
        let error = post_to(&transport(), address).await.unwrap_err();
        check(&error, ErrorKind::Unavailable, "broke off before its end");
    }
}

#[tokio::test]
async fn fc_a15_an_empty_answer_is_an_answer() {
    let address = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let answer = post_to(&transport(), address).await.unwrap();
    assert!(answer.body().is_empty());
}

#[tokio::test]
async fn fc_a17_a_body_without_end_is_read_up_to_the_limit_and_hung_up() {
    let (written, mut was_written) = mpsc::unbounded_channel();
    let (address, _) = serve(move |mut stream| {
        let written = written.clone();
        async move {
            read_request(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let chunk = [b"1000\r\n", &[b'x'; 0x1000][..], b"\r\n"].concat();
            let mut total = 0;
            while stream.write_all(&chunk).await.is_ok() {
                total += 0x1000;
            }
            let _ = written.send(total);
        }
    })
    .await;
    let error = post_to(&transport(), address).await.unwrap_err();
    check(&error, ErrorKind::Malformed, "body limit of 262144 bytes");
    // What lies between is in the buffers of the two sockets.
    let total = was_written.recv().await.unwrap();
    assert!(total < 32 * 1024 * 1024, "{total}");
}

#[tokio::test]
async fn fc_a17_a_body_that_says_it_is_too_large_is_not_read() {
    let address = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await;
    let error = post_to(&transport(), address).await.unwrap_err();
    check(&error, ErrorKind::Malformed, "body limit of 262144 bytes");
}

#[tokio::test]
async fn fc_a18_a_body_that_drips_runs_into_the_total_time() {
    let (address, _) = serve(|mut stream| async move {
        read_request(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
        let _ = stream.write_all(head).await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let transport = client()
        .with_timeout(Duration::from_millis(150))
        .transport()
        .unwrap();
    let error = post_to(&transport, address).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, "within 0.15 s");
    assert!(error.is_timeout());
}

#[tokio::test]
async fn fc_a32_no_redirect_is_followed() {
    let (elsewhere, visits) = serve(|_| async {}).await;
    for status in [301, 302, 303, 307, 308] {
        let (address, _) = serve(move |mut stream| async move {
            read_request(&mut stream).await;
            let answer = format!(
                "HTTP/1.1 {status} Moved\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        let answer = post_to(&transport(), address).await.unwrap();
        assert_eq!(answer.status().as_u16(), status);
    }
    assert_eq!(visits(), 0);
}

#[tokio::test]
async fn fc_a36_interim_answers_are_skipped_and_do_not_go_on_for_ever() {
    let address = answering(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
          HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let answer = post_to(&transport(), address).await.unwrap();
    assert_eq!(answer.status().as_u16(), 408);

    let (address, _) = serve(|mut stream| async move {
        read_request(&mut stream).await;
        while stream
            .write_all(b"HTTP/1.1 102 Processing\r\n\r\n")
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let transport = client()
        .with_timeout(Duration::from_millis(150))
        .transport()
        .unwrap();
    let error = post_to(&transport, address).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, "within 0.15 s");
}

#[tokio::test]
async fn fc_g03_nothing_goes_to_another_machine_in_clear() {
    let transport = transport();
    for url in [
        "http://idp.test/token",
        "http://127.0.0.1.nip.io/token",
        "http://10.0.0.1/token",
    ] {
        let error = post(&transport, url).await.unwrap_err();
        check(&error, ErrorKind::InvalidConfig, "over plain http");
    }
}

/// A certificate authority and a server certificate for `idp.test`.
struct Identity {
    ca: String,
    acceptor: TlsAcceptor,
}

impl Identity {
    fn new() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["idp.test".to_owned(), "127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &ca)
            .unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        Self {
            ca: ca.pem(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    async fn answer(acceptor: TlsAcceptor, stream: impl AsyncRead + AsyncWrite + Unpin + Send) {
        if let Ok(mut stream) = acceptor.accept(stream).await {
            read_request(&mut stream).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    }
}

async fn tls_server(identity: &Identity) -> SocketAddr {
    let acceptor = identity.acceptor.clone();
    let (address, _) = serve(move |stream| Identity::answer(acceptor.clone(), stream)).await;
    address
}

fn trusting(identity: &Identity) -> Client {
    Client::new()
        .without_proxy()
        .without_system_roots()
        .with_ca_pem(identity.ca.clone())
}

#[tokio::test]
async fn an_added_ca_is_trusted() {
    let identity = Identity::new();
    let address = tls_server(&identity).await;
    let url = format!("https://{address}/token");
    let transport = trusting(&identity).transport().unwrap();
    assert_eq!(post(&transport, &url).await.unwrap().body(), "ok");

    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("ca-{}.pem", std::process::id()));
    std::fs::write(&path, &identity.ca).unwrap();
    let transport = Client::new()
        .without_proxy()
        .without_system_roots()
        .with_ca_file(&path)
        .transport();
    let _ = std::fs::remove_file(&path);
    assert_eq!(post(&transport.unwrap(), &url).await.unwrap().body(), "ok");
}

#[tokio::test]
async fn fc_a33_an_unknown_ca_and_a_wrong_host_fail_the_handshake() {
    let identity = Identity::new();
    let address = tls_server(&identity).await;
    let url = format!("https://{address}/token");
    let stranger = trusting(&Identity::new()).transport().unwrap();
    let error = post(&stranger, &url).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, "the TLS handshake failed");

    let url = format!("https://localhost:{}/token", address.port());
    let transport = trusting(&identity).transport().unwrap();
    let error = post(&transport, &url).await.unwrap_err();
    check(&error, ErrorKind::Unavailable, "the TLS handshake failed");
}

#[tokio::test]
async fn fc_a33_a_server_without_tls_is_not_tried_in_clear() {
    let (address, visits) = serve(|mut stream| async move {
        let mut seen = Vec::new();
        let _ = stream.read_buf(&mut seen).await;
        assert!(seen.starts_with(b"\x16\x03"), "not a handshake: {seen:?}");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let error = post(&transport(), &format!("https://{address}/token"))
        .await
        .unwrap_err();
    check(&error, ErrorKind::Unavailable, "the TLS handshake failed");
    assert_eq!(visits(), 1);
}

#[tokio::test]
async fn fc_a34_an_end_without_close_notify_is_a_passing_failure() {
    let identity = Identity::new();
    let acceptor = identity.acceptor.clone();
    let (address, _) = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            read_request(&mut stream).await;
            // A body that ends with the connection: only TLS can tell whether this is all of it.
            let part = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"access_token\":\"canary";
            let _ = stream.write_all(part).await;
            let _ = stream.flush().await;
            let _ = stream.get_mut().0.shutdown().await;
        }
    })
    .await;
    let transport = trusting(&identity).transport().unwrap();
    let error = post(&transport, &format!("https://{address}/token"))
        .await
        .unwrap_err();
    check(&error, ErrorKind::Unavailable, "broke off before its end");
}

#[test]
fn a_client_without_any_root_certificate_says_so() {
    let bare = || Client::new().without_system_roots();
    let error = bare().transport().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("no root certificate"), "{error}");

    let error = bare().with_ca_pem("canary").transport().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error.to_string().contains("no certificate in PEM"),
        "{error}"
    );

    let error = bare()
        .with_ca_file("/no/such/ca.pem")
        .transport()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("/no/such/ca.pem"), "{error}");
}

/// A proxy that tunnels every host to one address and keeps what it saw.
async fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let (address, _) = serve(move |mut stream| {
        let log = Arc::clone(&log);
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if matches!(stream.read_buf(&mut head).await, Ok(0) | Err(_)) {
                    return;
                }
            }
            log.lock().unwrap().extend_from_slice(&head);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let server = TcpStream::connect(to).await.unwrap();
            let (mut from_client, mut to_client) = stream.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            let mut part = Vec::new();
            while matches!(from_client.read_buf(&mut part).await, Ok(1..)) {
                log.lock().unwrap().extend_from_slice(&part);
                to_server.write_all(&part).await.unwrap();
                part.clear();
            }
        }
    })
    .await;
    (address, seen)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn fc_g05_a_proxy_sees_a_tunnel_and_its_own_credential_only() {
    let identity = Identity::new();
    let (proxy, seen) = proxy(tls_server(&identity).await).await;
    let variable = format!("http://user:pw@{proxy}");
    let transport = trusting(&identity)
        .with_env(MapEnv::new().with("HTTPS_PROXY", variable))
        .transport()
        .unwrap();
    let answer = post(&transport, "https://idp.test/token").await.unwrap();
    assert_eq!(answer.body(), "ok");
    let seen = seen.lock().unwrap();
    assert!(seen.starts_with(b"CONNECT idp.test:443 HTTP/1.1\r\n"));
    assert!(contains(&seen, "Proxy-Authorization: Basic dXNlcjpwdw=="));
    assert!(!contains(&seen, "canary"));
    assert!(!contains(&seen, "/token"));
}

#[tokio::test]
async fn fc_e08_this_machine_is_reached_without_the_proxy() {
    let (proxy, visits) = serve(|_| async {}).await;
    let address = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let env = MapEnv::new()
        .with("HTTPS_PROXY", format!("http://{proxy}"))
        .with("HTTP_PROXY", format!("http://{proxy}"))
        .with("ALL_PROXY", format!("http://{proxy}"));
    let transport = client().with_env(env).transport().unwrap();
    assert_eq!(post_to(&transport, address).await.unwrap().body(), "ok");
    assert_eq!(visits(), 0);
}

#[tokio::test]
async fn fc_g05_a_proxy_that_refuses_the_tunnel_gets_nothing_more() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut seen = Vec::new();
        stream.read_buf(&mut seen).await.unwrap();
        let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        while matches!(stream.read_buf(&mut seen).await, Ok(1..)) {}
        seen
    });
    let transport = client()
        .with_env(MapEnv::new().with("HTTPS_PROXY", format!("http://{address}")))
        .transport()
        .unwrap();
    let error = post(&transport, "https://idp.test/token")
        .await
        .unwrap_err();
    check(&error, ErrorKind::Unavailable, "could not connect");
    assert!(!contains(&seen.await.unwrap(), "canary"));
}

#[tokio::test]
async fn a_connection_is_used_again_until_the_server_closes_it() {
    let (address, connections) = serve(|mut stream| async move {
        for connection in ["keep-alive", "close"] {
            read_request(&mut stream).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: 2\r\n\r\nok"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
    .await;
    let transport = transport();
    for _ in 0..4 {
        assert_eq!(post_to(&transport, address).await.unwrap().body(), "ok");
    }
    assert_eq!(connections(), 2);
}
