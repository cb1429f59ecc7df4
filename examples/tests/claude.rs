//! The stand-in of the Claude API is strict: what the real one refuses, it refuses.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use tower_auth::{BoxError, Error, ErrorKind, Fetch, Reason, TokenSource};
use tower_auth_claude::Federation;
use tower_auth_examples::{ClaudeStandIn, WorkloadIssuer};
use tower_auth_io::World;

struct Stage {
    workloads: WorkloadIssuer,
    claude: ClaudeStandIn,
}

impl Stage {
    async fn set() -> Result<Self, BoxError> {
        let workloads = WorkloadIssuer::generate()?;
        let claude = ClaudeStandIn::start(Duration::from_secs(60)).await?;
        claude.trust(
            WorkloadIssuer::ISSUER,
            ClaudeStandIn::AUDIENCE,
            &workloads.jwks(),
        )?;
        Ok(Self { workloads, claude })
    }

    /// Exchanges this identity token by this rule.
    async fn exchange(&self, rule: &str, identity: &str) -> Result<(), Error> {
        let world = World::system()?;
        let source = Federation::new(
            rule,
            ClaudeStandIn::ORGANIZATION,
            identity.to_owned(),
            &world,
        )?
        .with_base_url(&self.claude.base_url())?;
        source.fetch(&Fetch::new(Reason::First)).await.map(drop)
    }

    async fn check_refused(&self, rule: &str, identity: &str, reason: &str) {
        let error = self.exchange(rule, identity).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.description(), Some("Authentication failed"));
        assert!(error.correlation().unwrap().starts_with("req_"));
        let last = self.claude.ledger().refusals.pop().unwrap();
        assert!(last.contains(reason), "{last}");
    }
}

#[tokio::test]
async fn a_good_identity_token_is_exchanged_once() -> Result<(), BoxError> {
    let stage = Stage::set().await?;
    let identity = stage.workloads.token("reports")?;
    stage.exchange(ClaudeStandIn::RULE, &identity).await?;
    stage
        .check_refused(ClaudeStandIn::RULE, &identity, "exchanged already")
        .await;
    assert_eq!(stage.claude.ledger().minted, 1);
    Ok(())
}

#[tokio::test]
async fn what_is_not_of_the_issuer_or_the_rule_is_refused() -> Result<(), BoxError> {
    let stage = Stage::set().await?;
    let identity = stage.workloads.token("reports")?;
    stage
        .check_refused("fdrl_other", &identity, "no such rule")
        .await;
    let forged = WorkloadIssuer::generate()?.token("reports")?;
    stage
        .check_refused(ClaudeStandIn::RULE, &forged, "InvalidSignature")
        .await;
    stage
        .check_refused(ClaudeStandIn::RULE, "opaque", "not a JWT")
        .await;
    Ok(())
}
