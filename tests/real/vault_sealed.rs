//! An OpenBao as it is in production, sealed when it starts and reached over TLS only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, interval};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_auth::{AuthLayer, BoxError, TokenCache};
use tower_auth_io::{Client, Transport, World};
use tower_auth_vault::{Login, Session};

use crate::harness::{Server, Unavailable, or_skip, pip};
use crate::openbao::{self, text};
use crate::vault_certificate::{Folder, Pki};

#[tokio::test]
async fn a_sealed_server_behind_tls_is_waited_for() -> Result<(), BoxError> {
    let pki = Pki::new()?;
    let folder = Folder::new("sealed")?;
    let client = || {
        let client = Client::new().without_proxy().without_system_roots();
        client.with_ca_pem(pki.ca.pem()).transport()
    };
    let Some(mut bao) = or_skip(OpenBao::start(&pki, &folder, client()?).await) else {
        return Ok(());
    };
    bao.initialize().await?;
    bao.unseal().await?;
    bao.user("me", "s3cr:t%+").await?;

    let asked = Asked::default();
    let world = World::new(asked.listen(client()?));
    let server = tower_auth_vault::Server::new(&bao.address(), &world)?;
    let cache = TokenCache::new(Session::new(server, Login::userpass("me", "s3cr:t%+")?));
    let api = client()?;
    let api = service_fn(move |request: Request<Bytes>| {
        let api = api.clone();
        async move { api.send(request).await.map_err(BoxError::from) }
    });
    let service = AuthLayer::from_cache(cache.clone()).layer(api);

    let start = Instant::now();
    let url = bao.url("auth/token/lookup-self");
    let before = answers(&service, &url, start + LIFE * 3 / 8).await?;
    assert!(before.iter().all(|status| *status == 200), "{before:?}");
    // The first renewal of a process may come early.
    let attempts = asked.take();
    let (login, renewals) = attempts.split_first().ok_or("it never logged in")?;
    assert_eq!(login, "/v1/auth/userpass/login/me");
    assert!(
        renewals.iter().all(|path| path.ends_with("/renew-self")),
        "{attempts:?}"
    );

    bao.seal().await?;
    assert!(
        cache.refresh().await.is_err(),
        "a sealed server gives nothing"
    );
    let sealed = answers(&service, &url, start + LIFE * 6 / 8).await?;
    assert!(sealed.iter().all(|status| *status == 503), "{sealed:?}");
    let attempts = asked.take();
    assert!((1..=5).contains(&attempts.len()), "{attempts:?}");
    assert!(cache.health().failures() > 0, "{:?}", cache.health());

    bao.unseal().await?;
    let after = answers(&service, &url, start + LIFE * 12 / 8).await?;
    // It may need a moment more to serve, and then it serves.
    let recovered = after.iter().position(|status| *status == 200);
    let (waiting, served) = after.split_at(recovered.ok_or("it never served again")?);
    assert!(waiting.iter().all(|status| *status == 503), "{after:?}");
    assert!(waiting.len() < served.len(), "{after:?}");
    assert!(served.iter().all(|status| *status == 200), "{after:?}");
    let attempts = asked.take();
    assert!((1..=5).contains(&attempts.len()), "{attempts:?}");
    assert_eq!(cache.health().failures(), 0, "{:?}", cache.health());
    Ok(())
}

/// The paths at which the session has asked.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn listen(&self, transport: Transport) -> Transport {
        let asked = Arc::clone(&self.0);
        Transport::new(service_fn(move |request: Request<Bytes>| {
            let path = request.uri().path().to_owned();
            asked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(path);
            let transport = transport.clone();
            async move { transport.send(request).await }
        }))
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sends a request every 20 ms, and gives what was answered until then.
async fn answers<S>(service: &S, url: &str, end: Instant) -> Result<Vec<StatusCode>, BoxError>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Error = BoxError> + Clone + Send + Sync,
    S::Future: Send,
{
    let mut pace = interval(Duration::from_millis(20));
    let mut statuses = Vec::new();
    while Instant::now() < end {
        pace.tick().await;
        let request = Request::get(url).body(Bytes::new())?;
        statuses.push(service.clone().oneshot(request).await?.status());
    }
    Ok(statuses)
}

/// A running OpenBao, and what its operator knows.
struct OpenBao {
    server: Server,
    client: Transport,
    key: String,
    root: String,
}

impl OpenBao {
    async fn start(pki: &Pki, folder: &Folder, client: Transport) -> Result<Self, Unavailable> {
        let installed = pip("openbao").await?;
        let command = |port: u16| {
            let mut serve = openbao::server(&installed);
            // Without the file it ends at once, and its log says why.
            if let Ok(file) = folder.configuration(pki, port, IN_MEMORY) {
                serve.arg(format!("-config={}", file.display()));
            }
            serve
        };
        let is_ready = |port: u16| {
            let client = &client;
            async move {
                let url = format!("https://127.0.0.1:{port}/v1/sys/seal-status");
                match Request::get(url).body(Bytes::new()) {
                    Ok(request) => client.send(request).await.is_ok(),
                    Err(_) => false,
                }
            }
        };
        let server = Server::start_when("openbao", command, is_ready).await?;
        Ok(Self {
            server,
            client,
            key: String::new(),
            root: String::new(),
        })
    }

    fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.server.port())
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.address())
    }

    async fn initialize(&mut self) -> Result<(), BoxError> {
        let shares = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let answer = self.put("sys/init", shares).await?;
        self.key = text(&answer, "/keys/0")?;
        self.root = text(&answer, "/root_token")?;
        Ok(())
    }

    async fn unseal(&self) -> Result<(), BoxError> {
        let answer = self.put("sys/unseal", json!({ "key": self.key })).await?;
        assert_eq!(answer.pointer("/sealed"), Some(&json!(false)), "{answer}");
        Ok(())
    }

    async fn seal(&self) -> Result<(), BoxError> {
        self.put("sys/seal", json!({})).await?;
        Ok(())
    }

    /// Mounts the login by password, for this user.
    async fn user(&self, name: &str, password: &str) -> Result<(), BoxError> {
        self.put("sys/auth/userpass", json!({ "type": "userpass" }))
            .await?;
        let user = json!({ "password": password, "token_ttl": LIFE.as_secs() });
        self.put(&format!("auth/userpass/users/{name}"), user)
            .await?;
        Ok(())
    }

    /// Asks as root, once there is one, for something that has to succeed.
    async fn put(&self, path: &str, document: Value) -> Result<Value, BoxError> {
        let mut request = Request::builder().method(Method::PUT).uri(self.url(path));
        if !self.root.is_empty() {
            request = request.header("x-vault-token", &self.root);
        }
        let request = request.body(Bytes::from(document.to_string()))?;
        let answer = self.client.send(request).await?;
        if !answer.status().is_success() {
            return Err(format!("{path}: {}: {:?}", answer.status(), answer.body()).into());
        }
        Ok(serde_json::from_slice(answer.body()).unwrap_or(Value::Null))
    }
}

const IN_MEMORY: &str = r#"
storage "inmem" {}
disable_mlock = true
"#;

/// The life of a token.
const LIFE: Duration = Duration::from_secs(8);
