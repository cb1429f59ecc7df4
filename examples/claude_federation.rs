//! Shows: the Claude API without a long-lived key: the identity of a workload becomes a token that lives for
//!        seconds, is renewed ahead of its end, and replaced when it is revoked.
//! Run:   cargo run --example claude_federation
//! Needs: nothing; set ANTHROPIC_FEDERATION_RULE_ID, ANTHROPIC_ORGANIZATION_ID, ANTHROPIC_SERVICE_ACCOUNT_ID and
//!        ANTHROPIC_IDENTITY_TOKEN_FILE, or any other credential, to ask the real API.

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinHandle;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::{AuthLayer, BoxError, TokenSource};
use tower_auth_claude::{DEFAULT_BASE_URL, resolve};
use tower_auth_examples::{ClaudeStandIn, WorkloadIssuer};
use tower_auth_io::{MapEnv, MemoryFiles, World};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut world = World::system()?;
    let stand_in = if is_configured(&world) {
        None
    } else {
        println!("No credential is set: the program runs against a stand-in of its own.\n");
        let stand_in = StandIn::start().await?;
        world = stand_in.furnish(world);
        Some(stand_in)
    };

    // Which credential is it, and why?
    let resolution = resolve(&world).await;
    println!("{}", resolution.report());
    let source = resolution.into_source()?;
    println!("the credential: {}\n", source.describe());

    // The client that one has anyway, with the credential on each of its requests.
    let https = HttpsConnectorBuilder::new().with_native_roots()?;
    let https = https.https_or_http().enable_http1().build();
    let mut client = ServiceBuilder::new()
        .layer(AuthLayer::new(source).replay_once())
        .service(Client::builder(TokioExecutor::new()).build(https));

    let base = world.env().get("ANTHROPIC_BASE_URL")?;
    let base = base.unwrap_or_else(|| DEFAULT_BASE_URL.to_owned());
    let url = format!("{}/v1/messages", base.trim_end_matches('/'));
    let model = world.env().get("ANTHROPIC_MODEL")?;
    let model = model.unwrap_or_else(|| "claude-haiku-4-5".to_owned());
    let rounds = if stand_in.is_some() { 10 } else { 1 };
    for round in 1..=rounds {
        let request = Request::post(&url)
            .header("content-type", "application/json")
            .header("anthropic-version", "2023-06-01")
            .body(Full::<Bytes>::from(question(&model)))?;
        let response = client.ready().await?.call(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        println!("message {round:>2}: {status} {}", text_of(&answer));
        if let Some(stand_in) = &stand_in {
            tokio::time::sleep(Duration::from_millis(700)).await;
            if round == 6 {
                println!("            every token is revoked");
                stand_in.claude.revoke_all();
            }
        }
    }
    if let Some(stand_in) = &stand_in {
        let ledger = stand_in.claude.ledger();
        println!(
            "\nthe stand-in minted {} tokens of 3 s, answered {} messages and refused: {:?}",
            ledger.minted, ledger.answered, ledger.refusals
        );
    }
    Ok(())
}

fn is_configured(world: &World) -> bool {
    [
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_PROFILE",
        "ANTHROPIC_FEDERATION_RULE_ID",
    ]
    .into_iter()
    .any(|name| matches!(world.env().get(name), Ok(Some(_))))
}

fn question(model: &str) -> Bytes {
    let question = serde_json::json!({
        "model": model, "max_tokens": 16,
        "messages": [{"role": "user", "content": "Say hello."}],
    });
    Bytes::from(question.to_string())
}

fn text_of(answer: &[u8]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let text = answer
        .pointer("/content/0/text")
        .or_else(|| answer.pointer("/error/message"));
    text.and_then(|text| text.as_str())
        .unwrap_or_default()
        .to_owned()
}

/// A Claude API, and a cluster that puts identity tokens into a file, each of them good for one exchange.
struct StandIn {
    claude: ClaudeStandIn,
    files: MemoryFiles,
    cluster: JoinHandle<()>,
}

impl StandIn {
    async fn start() -> Result<Self, BoxError> {
        let issuer = Arc::new(WorkloadIssuer::generate()?);
        let claude = ClaudeStandIn::start(Duration::from_secs(3)).await?;
        claude.trust(
            WorkloadIssuer::ISSUER,
            ClaudeStandIn::AUDIENCE,
            &issuer.jwks(),
        )?;
        let files = MemoryFiles::new();
        files.write(TOKEN_PATH, issuer.token(WORKLOAD)?);
        let cluster = tokio::spawn({
            let files = files.clone();
            async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    if let Ok(token) = issuer.token(WORKLOAD) {
                        files.write(TOKEN_PATH, token);
                    }
                }
            }
        });
        Ok(Self {
            claude,
            files,
            cluster,
        })
    }

    /// The world as a workload in that cluster sees it.
    fn furnish(&self, world: World) -> World {
        let env = MapEnv::new()
            .with("ANTHROPIC_BASE_URL", self.claude.base_url())
            .with("ANTHROPIC_FEDERATION_RULE_ID", ClaudeStandIn::RULE)
            .with("ANTHROPIC_ORGANIZATION_ID", ClaudeStandIn::ORGANIZATION)
            .with(
                "ANTHROPIC_SERVICE_ACCOUNT_ID",
                ClaudeStandIn::SERVICE_ACCOUNT,
            )
            .with("ANTHROPIC_IDENTITY_TOKEN_FILE", TOKEN_PATH);
        world.with_env(env).with_files(self.files.clone())
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.cluster.abort();
    }
}

const TOKEN_PATH: &str = "/var/run/secrets/anthropic.com/token";
const WORKLOAD: &str = "system:serviceaccount:default:reports";
