//! OpenBao, the open fork of Vault, as a server for development: unsealed, in memory, with the root token
//! `root`.

#![expect(clippy::disallowed_methods, reason = "describes a program to start")]

use std::path::Path;
use std::process::Command;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tower_auth_core::BoxError;

use crate::harness::{Server, Unavailable, pip, send_json};

/// A running OpenBao.
#[derive(Debug)]
pub(crate) struct OpenBao {
    server: Server,
}

impl OpenBao {
    /// Starts one.
    pub(crate) async fn start() -> Result<Self, Unavailable> {
        Self::start_with(None).await
    }

    /// Starts one that listens with TLS too, as this configuration says.
    pub(crate) async fn start_with(configuration: Option<&Path>) -> Result<Self, Unavailable> {
        let folder = pip("openbao").await?;
        let command = |port: u16| {
            let mut serve = server(&folder);
            serve
                .args(["-dev", "-dev-no-store-token"])
                .args(["-dev-root-token-id", ROOT])
                // It takes the next port for its cluster; the harness tries again if that is not free.
                .arg(format!("-dev-listen-address=127.0.0.1:{port}"));
            if let Some(file) = configuration {
                serve.arg(format!("-config={}", file.display()));
            }
            serve
        };
        let server = Server::start("openbao", command, "/v1/sys/health").await?;
        Ok(Self { server })
    }

    /// `http://127.0.0.1:<port>`, followed by this path.
    pub(crate) fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    /// Asks as root, for something that has to succeed.
    pub(crate) async fn write(&self, path: &str, document: Value) -> Result<Value, BoxError> {
        let (status, answer) = self.ask(Method::POST, path, ROOT, document).await?;
        if status.is_success() {
            Ok(answer)
        } else {
            Err(format!("{path}: {status}: {answer}").into())
        }
    }

    /// Asks with this token.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        token: &str,
        document: Value,
    ) -> Result<(StatusCode, Value), BoxError> {
        let url = self.url(&format!("/v1/{path}"));
        let headers = [("x-vault-token", token)];
        let answer = send_json(method, &url, &headers, &document).await?;
        let document = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        Ok((answer.status, document))
    }

    /// Mounts AppRole with the role `reports`, and gives its id.
    pub(crate) async fn app_role(&self, settings: Value) -> Result<String, BoxError> {
        self.write("sys/auth/approle", json!({ "type": "approle" }))
            .await?;
        self.write("auth/approle/role/reports", settings).await?;
        let path = "auth/approle/role/reports/role-id";
        let (_, answer) = self.ask(Method::GET, path, ROOT, json!({})).await?;
        text(&answer, "/data/role_id")
    }

    /// A new secret id of that role.
    pub(crate) async fn secret_id(&self) -> Result<String, BoxError> {
        let answer = self
            .write("auth/approle/role/reports/secret-id", json!({}))
            .await?;
        text(&answer, "/data/secret_id")
    }

    /// A new secret id of that role, in an envelope; or something else in one.
    pub(crate) async fn wrapped(&self, path: &str) -> Result<String, BoxError> {
        let url = self.url(&format!("/v1/{path}"));
        let headers = [("x-vault-token", ROOT), ("x-vault-wrap-ttl", "60")];
        let document = json!({ "secret_id": "something else" });
        let document = if path.starts_with("auth/") {
            json!({})
        } else {
            document
        };
        let answer = send_json(Method::POST, &url, &headers, &document).await?;
        text(&serde_json::from_slice(&answer.body)?, "/wrap_info/token")
    }

    /// A policy that allows this.
    pub(crate) async fn policy(&self, name: &str, rules: &str) -> Result<(), BoxError> {
        let path = format!("sys/policies/acl/{name}");
        self.write(&path, json!({ "policy": rules })).await?;
        Ok(())
    }

    /// Mounts the login by password, for this user of the policy `p`.
    pub(crate) async fn user(&self, name: &str, password: &str) -> Result<(), BoxError> {
        self.write("sys/auth/userpass", json!({ "type": "userpass" }))
            .await?;
        let user = json!({ "password": password, "token_policies": "p", "token_ttl": "60s" });
        self.write(&format!("auth/userpass/users/{name}"), user)
            .await?;
        Ok(())
    }

    /// The role `reports` of identity tokens, which are for this audience and live for five minutes.
    pub(crate) async fn identity_role(&self, audience: &str) -> Result<(), BoxError> {
        let key =
            json!({ "allowed_client_ids": "*", "algorithm": "ES256", "verification_ttl": "1h" });
        self.write("identity/oidc/key/k", key).await?;
        let role = json!({ "key": "k", "ttl": "5m", "client_id": audience });
        self.write("identity/oidc/role/reports", role).await?;
        Ok(())
    }

    /// A version of the secret `secret/weather`.
    pub(crate) async fn keep(&self, key: &str) -> Result<(), BoxError> {
        let document = json!({ "data": { "key": key } });
        self.write("secret/data/weather", document).await?;
        Ok(())
    }

    pub(crate) async fn seal(&self) -> Result<(), BoxError> {
        self.write("sys/seal", json!({})).await?;
        Ok(())
    }

    /// Unseals it with the key that it printed when it began.
    pub(crate) async fn unseal(&self) -> Result<(), BoxError> {
        let printed = self.server.printed()?;
        let key = printed
            .lines()
            .find_map(|line| line.trim().strip_prefix("Unseal Key: "))
            .ok_or("no unseal key was printed")?;
        let document = json!({ "key": key.trim() });
        self.write("sys/unseal", document).await?;
        Ok(())
    }
}

/// `bao server`, from the folder in which it is installed.
pub(crate) fn server(folder: &Path) -> Command {
    let mut serve = Command::new(folder.join("venv/bin/python"));
    serve
        .arg(folder.join("serve.py"))
        .arg(folder.join("venv/bin/bao"))
        .arg("server")
        .current_dir(folder);
    serve
}

pub(crate) fn text(answer: &Value, pointer: &str) -> Result<String, BoxError> {
    let text = answer.pointer(pointer).and_then(Value::as_str);
    Ok(text
        .ok_or_else(|| format!("no {pointer} in {answer}"))?
        .to_owned())
}

const ROOT: &str = "root";
