//! Shows: a Vault token by AppRole, renewed and replaced under traffic.
//! Run:   cargo run --example vault_approle
//! Needs: nothing, if OpenBao is installed where the real-server suites put it, or as `bao`. Or a server of
//!        yours: VAULT_ADDR, VAULT_ROLE_ID, VAULT_SECRET_ID (and VAULT_NAMESPACE, VAULT_CACERT, …).

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::{AuthLayer, BoxError, Credential};
use tower_auth_examples::{OpenBao, vault_session};
use tower_auth_io::World;
use tower_auth_vault::{Server, Session, refuses};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let world = World::system()?;
    // Held to the end of the program: the server ends with it.
    let mut own = None;
    let session = if let Some(session) = vault_session(&world)? {
        session
    } else if let Some(bao) = OpenBao::start(&world).await? {
        println!("started OpenBao at {}", bao.address());
        // Tokens live for 4 s and can be renewed up to 10 s.
        let life = json!({ "token_ttl": "4s", "token_max_ttl": "10s" });
        let login = bao.app_role(life).await?;
        let server = Server::new(own.insert(bao).address(), &world)?;
        Session::new(server, login)
    } else {
        println!(
            "There is no server. Name one with VAULT_ADDR, VAULT_ROLE_ID and VAULT_SECRET_ID.\n{}",
            OpenBao::HOW_TO_INSTALL
        );
        return Ok(());
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

const SECONDS: u64 = 14;
