//! hvac, the Python client that most people use for Vault, as the judge of what a request looks like: method,
//! path, names of headers, keys of the body.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_auth::{BoxError, Fetch, Reason, TokenSource};
use tower_auth_io::{Transport, World};
use tower_auth_vault::{Login, Server, Session};

use crate::harness::{ask_python, or_skip};
use crate::vault::http_client;

#[tokio::test]
async fn requests_look_as_those_of_hvac_do() -> Result<(), BoxError> {
    let recorder = Recorder::start().await?;
    let variables = [("VAULT_ADDR", recorder.url.as_str())];
    let Some(words) = or_skip(ask_python("hvac", &variables).await) else {
        return Ok(());
    };
    assert_eq!(words, ["done"]);
    let mut theirs = recorder.take();
    assert_eq!(theirs.len(), 7, "{theirs:#?}");

    ask_as_hvac_does(&recorder.url).await?;
    let mut ours = recorder.take();

    // On purpose: a wrapping token is looked at before it is opened, to see where it was made.
    let look = Shape::new(
        "POST",
        "/v1/sys/wrapping/lookup",
        &["content-type"],
        &["token"],
    );
    assert!(ours.remove(&look), "{ours:#?}");
    // On purpose: what has nothing to say has no body. They send an empty object.
    let unwrap = |headers| Shape::new("POST", "/v1/sys/wrapping/unwrap", headers, &[]);
    assert!(theirs.remove(&unwrap(&["content-type", "x-vault-token"])));
    theirs.insert(unwrap(&["x-vault-token"]));

    assert_eq!(ours, theirs);
    Ok(())
}

async fn ask_as_hvac_does(url: &str) -> Result<(), BoxError> {
    let world = World::new(Transport::from_http(http_client()));
    let server = Server::new(url, &world)?.with_namespace("team")?;
    let session = |login| Session::new(server.clone(), login);

    let app_role = session(Login::app_role("r", "s")?);
    app_role.fetch(&Fetch::new(Reason::First)).await?;
    app_role.fetch(&Fetch::new(Reason::Scheduled)).await?;
    let secret = app_role.kv("secret", "weather/today", "key")?;
    secret.fetch(&Fetch::new(Reason::First)).await?;
    let identity = app_role.identity_token("reports")?;
    identity.fetch(&Fetch::new(Reason::First)).await?;

    let creation_path = "auth/approle/role/r/secret-id";
    for login in [
        Login::userpass("me.too-1", "p")?,
        Login::token("t"),
        Login::app_role_wrapped("r", "wrapping", creation_path)?,
    ] {
        session(login).fetch(&Fetch::new(Reason::First)).await?;
    }
    Ok(())
}

/// What is compared of a request.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Shape {
    method: String,
    path: String,
    headers: BTreeSet<String>,
    body: BTreeSet<String>,
}

impl Shape {
    /// With the headers that each request has, and these.
    fn new(method: &str, path: &str, headers: &[&str], body: &[&str]) -> Self {
        let of_each = ["x-vault-namespace", "x-vault-request"];
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: set(&[headers, &of_each].concat()),
            body: set(body),
        }
    }

    fn of(head: &Parts, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        Self {
            method: head.method.to_string(),
            path: head.uri.to_string(),
            headers: head
                .headers
                .keys()
                .map(|name| name.as_str().to_owned())
                .filter(|name| !OF_THE_HTTP_CLIENT.contains(&name.as_str()))
                .collect(),
            body: body
                .as_object()
                .map(|fields| fields.keys().cloned().collect())
                .unwrap_or_default(),
        }
    }
}

type Seen = Arc<Mutex<BTreeSet<Shape>>>;

/// A server that answers as Vault does, to whatever it is asked, and writes down what that was.
struct Recorder {
    url: String,
    seen: Seen,
    task: JoinHandle<()>,
}

impl Recorder {
    async fn start() -> Result<Self, BoxError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let seen = Seen::default();
        let routes = Router::new().fallback(answer).with_state(seen.clone());
        let task = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { url, seen, task })
    }

    /// What was seen since the last time.
    fn take(&self) -> BTreeSet<Shape> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(seen): State<Seen>, head: Parts, body: Bytes) -> impl IntoResponse {
    let shape = Shape::of(&head, &body);
    seen.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(shape);
    // One document has what each of them looks for.
    let document = json!({
        "request_id": "r", "lease_id": "", "lease_duration": 0, "renewable": false,
        "auth": {
            "client_token": "t", "accessor": "a", "policies": ["default"], "token_type": "service",
            "lease_duration": 60, "renewable": true, "num_uses": 0,
        },
        "data": {
            "id": "t", "ttl": 60, "creation_ttl": 60, "renewable": true, "type": "service",
            "num_uses": 0, "policies": ["default"], "path": "auth/approle/login",
            "creation_path": "auth/approle/role/r/secret-id", "secret_id": "s", "token": "jwt",
            "data": { "key": "sunny" }, "metadata": { "version": 1, "deletion_time": "" },
        },
    });
    ([(CONTENT_TYPE, "application/json")], document.to_string())
}

/// Headers that say nothing about Vault.
const OF_THE_HTTP_CLIENT: [&str; 6] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "user-agent",
];
