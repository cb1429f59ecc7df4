//! Workload identity federation: our source and the official client at the same strict stand-in of the
//! Claude API, with identity tokens of a real issuer.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::sleep;
use tower::{Layer, ServiceExt};
use tower_auth::{AuthLayer, BoxError, ErrorKind, Fetch, Reason, TokenSource};
use tower_auth_claude::{Federation, Profile};
use tower_auth_examples::{ClaudeStandIn, WorkloadIssuer};
use tower_auth_io::{MapEnv, Transport, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};

use crate::anthropic_sdk;
use crate::harness::{get, or_skip};
use crate::oidc_provider::OidcProvider;

#[tokio::test]
async fn the_official_client_federates_at_the_stand_in() -> Result<(), BoxError> {
    let workloads = WorkloadIssuer::generate()?;
    let claude = ClaudeStandIn::start(Duration::from_secs(600)).await?;
    let token = workloads.token("reports")?;
    let base_url = claude.base_url();
    let variables = [
        ("ANTHROPIC_BASE_URL", base_url.as_str()),
        ("ANTHROPIC_FEDERATION_RULE_ID", ClaudeStandIn::RULE),
        ("ANTHROPIC_ORGANIZATION_ID", ClaudeStandIn::ORGANIZATION),
        (
            "ANTHROPIC_SERVICE_ACCOUNT_ID",
            ClaudeStandIn::SERVICE_ACCOUNT,
        ),
        ("ANTHROPIC_IDENTITY_TOKEN", token.as_str()),
    ];
    // Nobody is trusted yet, so the stand-in refuses as the real one does.
    let Some(words) = or_skip(anthropic_sdk::ask(1, &variables).await) else {
        return Ok(());
    };
    assert_ne!(words, ["ok"], "{:?}", claude.ledger());
    claude.trust(
        WorkloadIssuer::ISSUER,
        ClaudeStandIn::AUDIENCE,
        &workloads.jwks(),
    )?;
    let Some(words) = or_skip(anthropic_sdk::ask(2, &variables).await) else {
        return Ok(());
    };
    assert_eq!(words, ["ok", "ok"], "{:?}", claude.ledger());
    assert_eq!(claude.ledger().minted, 1);
    Ok(())
}

/// A folder with a federation profile `p` for this stand-in, gone when its test is done.
#[cfg(unix)]
struct ProfileFolder(std::path::PathBuf);

#[cfg(unix)]
impl ProfileFolder {
    fn new(claude: &ClaudeStandIn) -> Result<Self, BoxError> {
        use std::os::unix::fs::PermissionsExt;

        let name = format!("claude-profile-{}", std::process::id());
        let folder = Self(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        let config = folder.path("configs/p.json");
        std::fs::create_dir_all(folder.path("configs"))?;
        let document = serde_json::json!({
            "version": "1.0",
            "authentication": {
                "type": "oidc_federation", "federation_rule_id": ClaudeStandIn::RULE,
                "service_account_id": ClaudeStandIn::SERVICE_ACCOUNT,
                "identity_token": {"source": "file", "path": folder.path("identity")},
            },
            "organization_id": ClaudeStandIn::ORGANIZATION, "base_url": claude.base_url(),
        });
        std::fs::write(&config, document.to_string())?;
        // Whatever the mask of the process is.
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o644))?;
        Ok(folder)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

#[cfg(unix)]
impl Drop for ProfileFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_kept_token_of_a_profile_is_shared_with_the_official_client() -> Result<(), BoxError> {
    let workloads = WorkloadIssuer::generate()?;
    let claude = ClaudeStandIn::start(Duration::from_secs(600)).await?;
    claude.trust(
        WorkloadIssuer::ISSUER,
        ClaudeStandIn::AUDIENCE,
        &workloads.jwks(),
    )?;
    let folder = ProfileFolder::new(&claude)?;
    let root = folder
        .0
        .to_str()
        .ok_or("the folder's name is not Unicode")?;
    let variables = [("ANTHROPIC_CONFIG_DIR", root), ("ANTHROPIC_PROFILE", "p")];
    let world = World::new(Transport::from_http(
        Client::builder(TokioExecutor::new()).build_http(),
    ))
    .with_env(MapEnv::from(variables));
    let profile = Profile::load("p", &world).await?;

    // Theirs keeps a token, ours takes it.
    std::fs::write(folder.path("identity"), workloads.token("reports")?)?;
    let Some(words) = or_skip(anthropic_sdk::ask(1, &variables).await) else {
        return Ok(());
    };
    assert_eq!(words, ["ok"], "{:?}", claude.ledger());
    profile.fetch(&Fetch::new(Reason::First)).await?;
    assert_eq!(claude.ledger().minted, 1);

    // Ours keeps a token, theirs takes it.
    std::fs::remove_file(folder.path("credentials/p.json"))?;
    std::fs::write(folder.path("identity"), workloads.token("reports")?)?;
    profile.fetch(&Fetch::new(Reason::First)).await?;
    assert_eq!(claude.ledger().minted, 2);
    let Some(words) = or_skip(anthropic_sdk::ask(1, &variables).await) else {
        return Ok(());
    };
    assert_eq!(words, ["ok"], "{:?}", claude.ledger());
    assert_eq!(claude.ledger().minted, 2, "{:?}", claude.ledger());
    Ok(())
}

/// A source that exchanges the tokens of `provider`, and whose stand-in trusts them.
async fn federation(
    provider: &OidcProvider,
    claude: &ClaudeStandIn,
) -> Result<Federation<ClientCredentials>, BoxError> {
    let jwks = get(&provider.jwks_uri()).await?;
    let jwks = serde_json::from_slice(&jwks.body)?;
    claude.trust(&provider.issuer(), OidcProvider::AUDIENCE, &jwks)?;
    let world = World::new(Transport::from_http(
        Client::builder(TokioExecutor::new()).build_http(),
    ));
    let endpoint = TokenEndpoint::new(&provider.token_endpoint(), &world)?;
    let client = OidcProvider::BASIC;
    let auth = ClientAuth::secret_basic(client.id, client.secret)?;
    let identity = ClientCredentials::new(endpoint, auth).with_scope(OidcProvider::SCOPE);
    let source = Federation::new(
        ClaudeStandIn::RULE,
        ClaudeStandIn::ORGANIZATION,
        identity,
        &world,
    )?
    .with_service_account(ClaudeStandIn::SERVICE_ACCOUNT)?
    .with_base_url(&claude.base_url())?;
    Ok(source)
}

#[tokio::test]
async fn a_federation_is_served_over_several_renewals_and_a_revocation() -> Result<(), BoxError> {
    let Some(provider) = or_skip(OidcProvider::start(Duration::from_secs(60)).await) else {
        return Ok(());
    };
    let claude = ClaudeStandIn::start(Duration::from_secs(3)).await?;
    let source = federation(&provider, &claude).await?;
    let client = AuthLayer::new(source)
        .replay_once()
        .layer(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());
    for round in 0..16 {
        if round == 8 {
            claude.revoke_all();
        }
        let request = Request::post(format!("{}/v1/messages", claude.base_url()))
            .header("content-type", "application/json")
            .header("anthropic-version", "2023-06-01")
            .body(Full::from("{}"))?;
        let response = client.clone().oneshot(request).await?;
        assert_eq!(response.status(), StatusCode::OK, "{:?}", claude.ledger());
        sleep(Duration::from_millis(500)).await;
    }
    let ledger = claude.ledger();
    assert!((3..=8).contains(&ledger.minted), "{ledger:?}");
    assert_eq!(ledger.answered, 16);
    assert_eq!(ledger.refusals, ["a token is not ours, or revoked"]);
    Ok(())
}

#[tokio::test]
async fn a_token_for_another_audience_is_denied_with_advice() -> Result<(), BoxError> {
    let Some(provider) = or_skip(OidcProvider::start(Duration::from_secs(60)).await) else {
        return Ok(());
    };
    let claude = ClaudeStandIn::start(Duration::from_secs(3)).await?;
    let source = federation(&provider, &claude).await?;
    let jwks = serde_json::from_slice(&get(&provider.jwks_uri()).await?.body)?;
    claude.trust(&provider.issuer(), ClaudeStandIn::AUDIENCE, &jwks)?;
    let error = source.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains("not for the audience"), "{hint}");
    assert_eq!(claude.ledger().refusals, ["InvalidAudience"]);
    Ok(())
}
