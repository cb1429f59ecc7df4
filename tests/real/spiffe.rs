use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tower_auth::{BoxError, Error, ErrorKind, Fetch, Reason, TokenCache, TokenSource};
use tower_auth_io::{SystemClock, Transport, UnixClient, UnverifiedClaims, World};
use tower_auth_workload::SpiffeWorkloadApi;

use crate::harness::or_skip;
use crate::spiffe_agent::SpiffeAgent;

#[tokio::test]
async fn the_agent_refuses_a_request_without_the_security_header() -> Result<(), BoxError> {
    let Some(agent) = or_skip(SpiffeAgent::start(LIFETIME).await) else {
        return Ok(());
    };
    let transport = UnixClient::new(agent.socket())?.transport();
    let request = Request::post("http://localhost/SpiffeWorkloadAPI/FetchJWTSVID")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Bytes::from_static(b"\0\0\0\0\x03\x0a\x01a"))?;
    let answer = transport.send(request).await?;
    assert_eq!(answer.headers()["grpc-status"], "3");
    Ok(())
}

#[tokio::test]
async fn a_jwt_svid_is_for_the_audience_that_was_asked_for() -> Result<(), BoxError> {
    let Some(agent) = or_skip(SpiffeAgent::start(LIFETIME).await) else {
        return Ok(());
    };
    let source = source(&agent, AUDIENCE)?;
    let first = fetch(&source).await?;
    let claims = UnverifiedClaims::of(&first)?;
    assert!(claims.is_for(AUDIENCE));
    assert_eq!(claims.subject(), Some(SpiffeAgent::DEFAULT_ID));
    assert_eq!(claims.lifetime(), Some(LIFETIME));
    assert_ne!(fetch(&source).await?, first);

    let second = fetch(&source.clone().with_hint(SpiffeAgent::SECOND_HINT)).await?;
    let subject = UnverifiedClaims::of(&second)?;
    assert_eq!(subject.subject(), Some(SpiffeAgent::SECOND_ID));
    let second = fetch(&source.with_spiffe_id(SpiffeAgent::SECOND_ID)).await?;
    let subject = UnverifiedClaims::of(&second)?;
    assert_eq!(subject.subject(), Some(SpiffeAgent::SECOND_ID));
    Ok(())
}

#[tokio::test]
async fn a_workload_without_an_entry_waits_for_one() -> Result<(), BoxError> {
    let Some(agent) = or_skip(SpiffeAgent::start(LIFETIME).await) else {
        return Ok(());
    };
    let error = fetch(&source(&agent, SpiffeAgent::UNKNOWN_AUDIENCE)?)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(error.code(), Some("PERMISSION_DENIED"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_cache_renews_from_the_agent_before_the_end() -> Result<(), BoxError> {
    let Some(agent) = or_skip(SpiffeAgent::start(Duration::from_secs(4)).await) else {
        return Ok(());
    };
    let cache = TokenCache::new(source(&agent, AUDIENCE)?);
    let first = cache.get().await?.secret().expose().to_owned();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..100 {
        ticks.tick().await;
        let token = cache.get().await?;
        let end = UnverifiedClaims::of(token.secret().expose())?.expires_at();
        assert!(end > Some(tower_auth::Clock::now(&SystemClock)));
        if token.secret().expose() != first {
            return Ok(());
        }
    }
    panic!("the JWT-SVID was never renewed")
}

#[tokio::test]
async fn an_agent_that_is_gone_is_a_passing_failure() -> Result<(), BoxError> {
    let Some(agent) = or_skip(SpiffeAgent::start(LIFETIME).await) else {
        return Ok(());
    };
    let source = source(&agent, AUDIENCE)?;
    fetch(&source).await?;
    drop(agent);
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    Ok(())
}

fn source(agent: &SpiffeAgent, audience: &str) -> Result<SpiffeWorkloadApi, Error> {
    let endpoint = format!("unix://{}", agent.socket().display());
    SpiffeWorkloadApi::at(&endpoint, audience, &World::new(no_network()))
}

/// A JWT-SVID comes through the socket alone.
fn no_network() -> Transport {
    Transport::new(tower::service_fn(|_| async {
        Err::<http::Response<Bytes>, _>(std::io::Error::other("asked over the network"))
    }))
}

async fn fetch(source: &SpiffeWorkloadApi) -> Result<String, Error> {
    let token = source.fetch(&Fetch::new(Reason::First)).await?;
    Ok(token.secret().expose().to_owned())
}

const AUDIENCE: &str = "https://api.example.com";
const LIFETIME: Duration = Duration::from_secs(300);
