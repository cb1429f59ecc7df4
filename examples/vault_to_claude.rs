//! Shows: from a Vault login to the Claude API without a key of Claude's: Vault signs who the program is, and
//!        that is exchanged for a token that lives for minutes.
//! Run:   cargo run --example vault_to_claude
//! Needs: nothing, if OpenBao is installed where the real-server suites put it, or as `bao`; Claude is a stand-in
//!        then. For the real ones: VAULT_ADDR, VAULT_ROLE_ID, VAULT_SECRET_ID, VAULT_IDENTITY_ROLE (and
//!        VAULT_NAMESPACE, VAULT_CACERT, …), ANTHROPIC_FEDERATION_RULE_ID, ANTHROPIC_ORGANIZATION_ID and
//!        ANTHROPIC_SERVICE_ACCOUNT_ID.

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::{AuthLayer, BoxError, TokenSource};
use tower_auth_claude::{DEFAULT_BASE_URL, Federation};
use tower_auth_examples::{ClaudeStandIn, OpenBao, vault_session};
use tower_auth_io::World;
use tower_auth_vault::{IdentityToken, Server, Session};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let world = World::system()?;
    let stand_ins = match (
        world.env().get("VAULT_ADDR")?,
        world.env().get(RULE_VARIABLE)?,
    ) {
        (Some(_), Some(_)) => None,
        (None, None) => match StandIns::start(&world).await? {
            Some(stand_ins) => Some(stand_ins),
            None => {
                println!(
                    "There is no Vault. Name yours, and your federation rule at Claude, with VAULT_ADDR and \
                     {RULE_VARIABLE}: see the top of this example.\n{}",
                    OpenBao::HOW_TO_INSTALL
                );
                return Ok(());
            }
        },
        _ => return Err(format!("set both VAULT_ADDR and {RULE_VARIABLE}, or neither").into()),
    };
    let (source, base) = match &stand_ins {
        Some(stand_ins) => stand_ins.source(&world).await?,
        None => configured(&world)?,
    };
    println!("the credential: {}\n", source.describe());

    let https = HttpsConnectorBuilder::new().with_native_roots()?;
    let https = https.https_or_http().enable_http1().build();
    let mut client = ServiceBuilder::new()
        .layer(AuthLayer::new(source).replay_once())
        .service(Client::builder(TokioExecutor::new()).build(https));

    let url = format!("{}/v1/messages", base.trim_end_matches('/'));
    let question = json!({
        "model": "claude-haiku-4-5", "max_tokens": 16,
        "messages": [{"role": "user", "content": "Say hello."}],
    });
    let rounds = if stand_ins.is_some() { 10 } else { 1 };
    for round in 1..=rounds {
        let request = Request::post(&url)
            .header("content-type", "application/json")
            .header("anthropic-version", "2023-06-01")
            .body(Full::<Bytes>::from(question.to_string()))?;
        let response = client.ready().await?.call(request).await?;
        println!("message {round:>2}: {}", response.status());
        if stand_ins.is_some() {
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    }
    if let Some(stand_ins) = &stand_ins {
        let ledger = stand_ins.claude.ledger();
        println!(
            "\nClaude's stand-in minted {} tokens of 3 s, answered {} messages and refused: {:?}",
            ledger.minted, ledger.answered, ledger.refusals
        );
    }
    Ok(())
}

/// What the environment names, and the base URL of Claude. The role's `client_id` has to be the audience that
/// the federation rule expects.
fn configured(world: &World) -> Result<(Federation<IdentityToken>, String), BoxError> {
    let session = vault_session(world)?.ok_or("VAULT_ADDR is not set")?;
    let role = world.env().require("VAULT_IDENTITY_ROLE")?;
    let rule = world.env().require(RULE_VARIABLE)?;
    let organization = world.env().require("ANTHROPIC_ORGANIZATION_ID")?;
    let account = world.env().require("ANTHROPIC_SERVICE_ACCOUNT_ID")?;
    let base = world.env().get("ANTHROPIC_BASE_URL")?;
    let base = base.unwrap_or_else(|| DEFAULT_BASE_URL.to_owned());
    let source = Federation::new(&rule, &organization, session.identity_token(&role)?, world)?
        .with_service_account(&account)?
        .with_base_url(&base)?;
    Ok((source, base))
}

/// A real OpenBao, and a Claude API that trusts the identity tokens of it.
struct StandIns {
    bao: OpenBao,
    claude: ClaudeStandIn,
}

impl StandIns {
    /// `None` if there is no OpenBao.
    async fn start(world: &World) -> Result<Option<Self>, BoxError> {
        let Some(bao) = OpenBao::start(world).await? else {
            return Ok(None);
        };
        println!("started OpenBao at {}", bao.address());
        let key = json!({ "allowed_client_ids": "*", "algorithm": "ES256" });
        bao.write("identity/oidc/key/claude", key).await?;
        let role = json!({ "key": "claude", "ttl": "5m", "client_id": ClaudeStandIn::AUDIENCE });
        bao.write("identity/oidc/role/claude", role).await?;
        let rules = r#"path "identity/oidc/token/claude" { capabilities = ["read"] }"#;
        bao.write("sys/policies/acl/claude", json!({ "policy": rules }))
            .await?;

        let claude = ClaudeStandIn::start(Duration::from_secs(3)).await?;
        let published = bao
            .read("identity/oidc/.well-known/openid-configuration")
            .await?;
        let issuer = published.get("issuer").and_then(Value::as_str);
        let jwks = bao.read("identity/oidc/.well-known/keys").await?;
        claude.trust(
            issuer.ok_or("OpenBao names no issuer")?,
            ClaudeStandIn::AUDIENCE,
            &jwks,
        )?;
        Ok(Some(Self { bao, claude }))
    }

    async fn source(&self, world: &World) -> Result<(Federation<IdentityToken>, String), BoxError> {
        let settings = json!({ "token_policies": "claude", "token_ttl": "60s" });
        let login = self.bao.app_role(settings).await?;
        let session = Session::new(Server::new(self.bao.address(), world)?, login);
        let identity = session.identity_token("claude")?;
        let base = self.claude.base_url();
        let source = Federation::new(
            ClaudeStandIn::RULE,
            ClaudeStandIn::ORGANIZATION,
            identity,
            world,
        )?
        .with_service_account(ClaudeStandIn::SERVICE_ACCOUNT)?
        .with_base_url(&base)?;
        Ok((source, base))
    }
}

const RULE_VARIABLE: &str = "ANTHROPIC_FEDERATION_RULE_ID";
