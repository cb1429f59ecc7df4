//! What the client shows, whom it takes a server for, and how far it goes, when it is told.
#![cfg(feature = "hyper")]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where its preparation fails"
)]

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower_auth_core::{Error, ErrorKind};
use tower_auth_io::{Client, Transport};

/// An authority and what it has signed, in PEM.
struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

struct Signed {
    certificate: String,
    key: String,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { ca }
    }

    fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        Signed {
            certificate: params.signed_by(&key, &self.ca).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn client(&self) -> Client {
        Client::new()
            .without_proxy()
            .without_system_roots()
            .with_ca_pem(self.ca.pem())
    }

    /// A server of this name that lets nobody in without a certificate of this authority.
    async fn serve(&self, name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.ca).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/token", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream).await;
                }
            }
        });
        url
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut request = Vec::new();
    while !request.ends_with(b"end") {
        if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
}

async fn post(transport: &Transport, url: &str) -> Result<Response<Bytes>, Error> {
    let request = Request::post(url).body(Bytes::from("canary end")).unwrap();
    transport.send(request).await
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_server_that_asks() {
    let pki = Pki::new();
    let url = pki.serve("127.0.0.1").await;
    let own = pki.sign("reports");

    let without = pki.client().transport().unwrap();
    let error = post(&without, &url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");

    let client = pki
        .client()
        .with_certificate_pem(own.certificate.clone(), own.key.clone());
    let answer = post(&client.transport().unwrap(), &url).await.unwrap();
    assert_eq!(answer.body(), "ok");

    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = |name: &str| folder.join(format!("{}-{name}", std::process::id()));
    let (certificate, key) = (file("client.pem"), file("client-key.pem"));
    std::fs::write(&certificate, &own.certificate).unwrap();
    std::fs::write(&key, &own.key).unwrap();
    let client = pki.client().with_certificate_files(&certificate, &key);
    let transport = client.transport();
    let _ = (std::fs::remove_file(certificate), std::fs::remove_file(key));
    assert_eq!(post(&transport.unwrap(), &url).await.unwrap().body(), "ok");
}

#[test]
fn a_client_certificate_that_is_none_is_named_and_not_shown() {
    let pki = Pki::new();
    let (own, other) = (pki.sign("reports"), pki.sign("reports"));
    for (certificate, key, words) in [
        ("canary", own.key.as_str(), "no certificate in PEM"),
        (&own.certificate, "canary", "no private key in PEM"),
        (&own.certificate, &own.certificate, "no private key in PEM"),
        (&own.certificate, &other.key, "do not fit"),
    ] {
        let client = pki.client().with_certificate_pem(certificate, key);
        let error = client.transport().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(words), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
    let client = pki.client().with_certificate_files("/nowhere.pem", "/k");
    let error = client.transport().unwrap_err();
    assert!(error.to_string().contains("/nowhere.pem"), "{error}");
}

#[tokio::test]
async fn another_name_can_be_expected_in_the_certificate() {
    let pki = Pki::new();
    let url = pki.serve("vault.test").await;
    let own = pki.sign("reports");
    let client = || {
        pki.client()
            .with_certificate_pem(own.certificate.clone(), own.key.clone())
    };
    let error = post(&client().transport().unwrap(), &url)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("TLS handshake"), "{error}");

    let named = client().with_server_name("vault.test").transport().unwrap();
    assert_eq!(post(&named, &url).await.unwrap().body(), "ok");
    let error = client().with_server_name("a b").transport().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
}

#[tokio::test]
async fn fc_g03_clear_text_to_other_machines_has_to_be_allowed() {
    let url = "http://nobody.invalid/token";
    let error = post(&Pki::new().client().transport().unwrap(), url)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");

    // It is tried, and there is no such host.
    let client = Pki::new().client().allowing_clear_text();
    let error = post(&client.transport().unwrap(), url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn every_request_of_a_unix_transport_goes_to_its_socket() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{}.sock", std::process::id()));
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer(stream).await;
        }
    });
    let transport = Client::new().unix_transport(&path);
    let done = post(&transport, "http://localhost/token").await;
    let refused = post(&transport, "http://a.test/token").await.unwrap_err();
    let _ = std::fs::remove_file(&path);
    assert_eq!(done.unwrap().body(), "ok");
    assert_eq!(refused.kind(), ErrorKind::InvalidConfig, "{refused}");

    let error = post(&transport, "http://localhost/token")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
