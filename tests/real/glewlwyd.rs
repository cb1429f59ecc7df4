//! `glewlwyd`: an OAuth 2.0 server of another author, strict about assertions and short of words when it
//! refuses one. It is a package of Debian: `apt-get install glewlwyd sqlite3`.

#![expect(
    clippy::disallowed_methods,
    reason = "describes a program to start, and writes its settings"
)]

use std::fs;
use std::process::Command;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tower_auth_core::{BoxError, ErrorKind, Fetch, Reason, TokenSource};
use tower_auth_io::World;
use tower_auth_oauth::{
    Assertion, BasicEncoding, ClientAuth, ClientCredentials, Dpop, SigningKey, TokenEndpoint,
};

use crate::harness::{Server, Unavailable, or_skip, work_folder};

const RSA: &str = include_str!("../../crates/tower-auth-oauth/tests/keys/rsa.pem");
const RSA_PUBLIC: &str = include_str!("../../crates/tower-auth-oauth/tests/keys/rsa-public.pem");
/// It does not decode what RFC 6749 has encoded.
const SECRET: &str = "gl-s3cr%2Bt+";

#[tokio::test]
async fn a_server_that_takes_each_assertion_once_takes_ours() -> Result<(), BoxError> {
    let Some(server) = Glewlwyd::start_or_skip().await else {
        return Ok(());
    };
    let world = World::system()?;
    let key = SigningKey::from_pem(RSA)?;
    let source = |auth| server.source(&world, auth);
    let signed = source(ClientAuth::private_key_jwt("signing", key.clone())?)?;
    for _ in 0..3 {
        let token = signed.fetch(&Fetch::new(Reason::First)).await?;
        assert_eq!(token.placement().scheme(), Some("Bearer"));
    }
    // It refuses with a status alone, and takes the endpoint for the audience and nothing else.
    let assertion = Assertion::new(key, "signing").with_audience(server.server.url("/api/oidc"));
    for refused in [
        source(ClientAuth::assertion("signing", assertion)?)?,
        source(ClientAuth::private_key_jwt(
            "signing",
            SigningKey::generate()?,
        )?)?,
        source(ClientAuth::secret_basic("basic", "canary-wrong")?)?,
    ] {
        let error = refused.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert_eq!(error.status(), Some(StatusCode::FORBIDDEN), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn d1_a_server_that_takes_each_proof_once_takes_ours() -> Result<(), BoxError> {
    let Some(server) = Glewlwyd::start_or_skip().await else {
        return Ok(());
    };
    let world = World::system()?;
    let dpop = Dpop::new(SigningKey::generate()?, &world);
    let endpoint = TokenEndpoint::new(&server.token_endpoint(), &world)?.with_dpop(dpop);
    let auth = ClientAuth::secret_basic_encoded("basic", SECRET, BasicEncoding::Raw)?;
    let source = ClientCredentials::new(endpoint, auth).with_scope("read");
    for _ in 0..3 {
        let token = source.fetch(&Fetch::new(Reason::First)).await?;
        assert_eq!(token.placement().scheme(), Some("DPoP"));
    }
    Ok(())
}

struct Glewlwyd {
    server: Server,
}

impl Glewlwyd {
    /// Skips where the package is not installed, also where real servers are required: that takes the
    /// rights of an administrator, and a test run does not ask for them.
    #[expect(clippy::print_stdout, reason = "tells what was left out")]
    async fn start_or_skip() -> Option<Self> {
        let mut shell = Command::new("sh");
        let found = shell.args(["-c", "command -v glewlwyd && command -v sqlite3"]);
        if !found.status().is_ok_and(|status| status.success()) {
            println!("skipped: {PART}: it is not installed");
            return None;
        }
        or_skip(Self::start().await)
    }

    async fn start() -> Result<Self, Unavailable> {
        let server = Server::start(PART, command, "/config").await?;
        let glewlwyd = Self { server };
        glewlwyd.set_up().await.map_err(|error| Unavailable {
            part: PART,
            reason: error.to_string(),
        })?;
        Ok(glewlwyd)
    }

    fn token_endpoint(&self) -> String {
        self.server.url("/api/oidc/token")
    }

    fn source(&self, world: &World, auth: ClientAuth) -> Result<ClientCredentials, BoxError> {
        let endpoint = TokenEndpoint::new(&self.token_endpoint(), world)?;
        Ok(ClientCredentials::new(endpoint, auth).with_scope("read"))
    }

    /// Registers a scope, the OpenID Connect plugin and two clients, as its administrator does.
    async fn set_up(&self) -> Result<(), BoxError> {
        let admin = json!({"username": "admin", "password": "password"});
        let response = self.send(Method::POST, "/auth/", "", admin).await?;
        let cookie = response
            .headers()
            .get(header::SET_COOKIE)
            .ok_or("no cookie")?;
        let cookie = cookie.to_str()?.split(';').next().unwrap_or_default();
        let post = async |path: &str, body| self.send(Method::POST, path, cookie, body).await;
        let scope = json!({
            "name": "read", "display_name": "read", "password_required": false, "scheme": {},
        });
        post("/scope/", scope).await?;
        let plugin = json!({
            "module": "oidc", "name": "oidc", "display_name": "oidc", "order_rank": 0,
            "readonly": false,
            "parameters": {
                "iss": self.server.url("/api/oidc"),
                "jwt-type": "rsa", "jwt-key-size": "256", "key": RSA, "cert": RSA_PUBLIC,
                "access-token-duration": 60, "refresh-token-duration": 60, "code-duration": 60,
                "refresh-token-rolling": false, "allow-non-oidc": true,
                "auth-type-client-enabled": true, "auth-type-code-enabled": false,
                "auth-type-refresh-enabled": false, "auth-type-device-enabled": false,
                "auth-type-implicit-enabled": false, "auth-type-none-enabled": false,
                "auth-type-password-enabled": false, "auth-type-token-enabled": false,
                "request-parameter-allow": true, "request-maximum-exp": 300,
                "client-pubkey-parameter": "pubkey", "client-jwks-parameter": "jwks",
                "client-jwks_uri-parameter": "jwks_uri",
                "oauth-dpop-allowed": true, "oauth-dpop-iat-duration": 30, "scope": [],
            },
        });
        post("/mod/plugin/", plugin).await?;
        let module = self
            .send(Method::GET, "/mod/client/database", cookie, Value::Null)
            .await?;
        let mut module: Value = serde_json::from_slice(module.body())?;
        let format = json!({"pubkey": {
            "multiple": false, "read": true, "write": true,
            "profile-read": true, "profile-write": true,
        }});
        let parameters = module.get_mut("parameters").and_then(Value::as_object_mut);
        parameters
            .ok_or("no parameters")?
            .insert("data-format".to_owned(), format);
        self.send(Method::PUT, "/mod/client/database", cookie, module)
            .await?;
        for (id, extra, methods) in [
            (
                "basic",
                ("client_secret", SECRET),
                json!(["client_secret_basic"]),
            ),
            (
                "signing",
                ("pubkey", RSA_PUBLIC),
                json!(["private_key_jwt"]),
            ),
        ] {
            let mut client = json!({
                "client_id": id, "confidential": true, "enabled": true, "scope": ["read"],
                "authorization_type": ["client_credentials"],
                "redirect_uri": ["https://reports.example.com/"],
                "token_endpoint_auth_method": methods,
            });
            let members = client.as_object_mut().ok_or("no object")?;
            members.insert(extra.0.to_owned(), json!(extra.1));
            post("/client/?source=database", client).await?;
        }
        Ok(())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        cookie: &str,
        body: Value,
    ) -> Result<Response<Bytes>, BoxError> {
        let request = Request::builder()
            .method(method)
            .uri(self.server.url(&format!("/api{path}")))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::COOKIE, cookie)
            .body(Full::from(body.to_string()))?;
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let (head, body) = client.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        if !head.status.is_success() {
            let text = String::from_utf8_lossy(&body);
            return Err(format!("{path} is refused with {}: {text}", head.status).into());
        }
        Ok(Response::from_parts(head, body))
    }
}

/// Makes the database anew and starts the server with it.
fn command(port: u16) -> Command {
    let folder = work_folder().join(format!("glewlwyd-{port}"));
    let settings = format!(
        r#"port={port}
bind_address="127.0.0.1"
external_url="http://127.0.0.1:{port}"
api_prefix="api"
cookie_secure=0
session_expiration=3600
session_key="session"
login_api_enabled=true
admin_scope="g_admin"
profile_scope="g_profile"
admin_session_authentication="cookie"
profile_session_authentication="cookie"
log_mode="console"
log_level="INFO"
user_module_path="/usr/lib/glewlwyd/user"
client_module_path="/usr/lib/glewlwyd/client"
user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme"
plugin_module_path="/usr/lib/glewlwyd/plugin"
hash_algorithm="SHA512"
database={{type="sqlite3", path="db.sqlite"}};
"#
    );
    // What cannot be written here is what the server says that it cannot read.
    let _ = fs::create_dir_all(&folder);
    let _ = fs::write(folder.join("settings"), settings);
    let mut shell = Command::new("sh");
    shell.current_dir(folder).args(["-c", START]);
    shell
}

const PART: &str = "glewlwyd";
const START: &str = "rm -f db.sqlite && \
    zcat /usr/share/doc/glewlwyd/database/init.sqlite3.sql.gz | sqlite3 db.sqlite && \
    exec glewlwyd --config-file=settings";
