//! From a login at OpenBao to the Claude API: identity tokens that it signs, at the stand-in that checks them
//! with the keys it publishes.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::time::sleep;
use tower::{Layer, ServiceExt};
use tower_auth::{AuthLayer, BoxError, ErrorKind, Fetch, Reason, TokenSource};
use tower_auth_claude::Federation;
use tower_auth_examples::ClaudeStandIn;
use tower_auth_io::{Transport, World};
use tower_auth_vault::{IdentityToken, Login, Session};

use crate::harness::{get, or_skip};
use crate::openbao::{OpenBao, text};
use crate::vault::{RULES, http_client, server};

#[tokio::test]
async fn an_identity_token_of_openbao_becomes_a_claude_token_over_renewals_and_a_revocation()
-> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let claude = ClaudeStandIn::start(Duration::from_secs(3)).await?;
    let source = federation(&bao, ClaudeStandIn::AUDIENCE, &claude).await?;
    let client = AuthLayer::new(source).replay_once().layer(http_client());
    for round in 0..12 {
        if round == 6 {
            claude.revoke_all();
        }
        let request = Request::post(format!("{}/v1/messages", claude.base_url()))
            .header("content-type", "application/json")
            .header("anthropic-version", "2023-06-01")
            .body(Full::<Bytes>::from("{}"))?;
        let response = client.clone().oneshot(request).await?;
        assert_eq!(response.status(), StatusCode::OK, "{:?}", claude.ledger());
        sleep(Duration::from_millis(500)).await;
    }
    let ledger = claude.ledger();
    assert!((3..=7).contains(&ledger.minted), "{ledger:?}");
    assert_eq!(ledger.answered, 12);
    assert_eq!(ledger.refusals, ["a token is not ours, or revoked"]);
    Ok(())
}

#[tokio::test]
async fn an_identity_token_of_openbao_for_another_audience_is_denied() -> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let claude = ClaudeStandIn::start(Duration::from_secs(3)).await?;
    let source = federation(&bao, "https://api.example.com", &claude).await?;
    let error = source.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains("not for the audience"), "{hint}");
    assert_eq!(claude.ledger().refusals, ["InvalidAudience"]);
    Ok(())
}

/// A source that exchanges identity tokens for this audience, and whose stand-in trusts the server.
async fn federation(
    bao: &OpenBao,
    audience: &str,
    claude: &ClaudeStandIn,
) -> Result<Federation<IdentityToken>, BoxError> {
    bao.policy("p", RULES).await?;
    bao.user("reports", "s3cr:t%+").await?;
    bao.identity_role(audience).await?;
    let published = async |name: &str| -> Result<serde_json::Value, BoxError> {
        let answer = get(&bao.url(&format!("/v1/identity/oidc/.well-known/{name}"))).await?;
        Ok(serde_json::from_slice(&answer.body)?)
    };
    let issuer = text(&published("openid-configuration").await?, "/issuer")?;
    claude.trust(&issuer, ClaudeStandIn::AUDIENCE, &published("keys").await?)?;

    let session = Session::new(server(bao)?, Login::userpass("reports", "s3cr:t%+")?);
    let world = World::new(Transport::from_http(http_client()));
    let source = Federation::new(
        ClaudeStandIn::RULE,
        ClaudeStandIn::ORGANIZATION,
        session.identity_token("reports")?,
        &world,
    )?
    .with_service_account(ClaudeStandIn::SERVICE_ACCOUNT)?
    .with_base_url(&claude.base_url())?;
    Ok(source)
}
