use serde_json::json;
use tower_auth_core::{Error, ErrorKind};
use tower_auth_io::{MapEnv, UnverifiedClaims, World};
use tower_auth_testing::{Expect, FakeEndpoint, Reply};
use tower_auth_workload::GitHubActions;

use crate::identity::{AUDIENCE, NOW, at, error, jwt, jwt_of, text, world};

const URL: &str = "https://pipelines.test/idtoken?api-version=2.0";

fn job(url: &str) -> MapEnv {
    MapEnv::from([
        ("GITHUB_ACTIONS", "true"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token"),
    ])
}

/// A source in a job, and the server it asks.
fn in_job(url: &str) -> (GitHubActions, FakeEndpoint) {
    let server = FakeEndpoint::new();
    let (world, _) = world();
    let world = world.with_transport(server.transport()).with_env(job(url));
    (GitHubActions::new(AUDIENCE, &world).unwrap(), server)
}

fn value(token: &str) -> Reply {
    Reply::json(json!({ "count": 1, "value": token }).to_string())
}

fn refused(env: MapEnv) -> Error {
    GitHubActions::new(AUDIENCE, &World::closed().with_env(env)).unwrap_err()
}

/// What `@actions/core` 3.0.1 was seen to send and what it was answered.
#[tokio::test]
async fn w76_the_request_is_that_of_the_official_toolkit() {
    const ANSWERED: &str = "eyJhbGciOiAibm9uZSIsICJ0eXAiOiAiSldUIn0.eyJpc3MiOiAiaHR0cHM6Ly9yZWMiLCAiaWF0IjogMTc5NTIxOTk5NiwgImV4cCI6IDE3OTUyMjM1OTYsICJhdWQiOiAiaHR0cHM6Ly9hcGkuYW50aHJvcGljLmNvbSJ9.sig";
    let server = FakeEndpoint::new();
    let (world, clock) = world();
    clock.set(at(1_795_219_996));
    let world = world.with_transport(server.transport()).with_env(
        job("http://127.0.0.1:9700/gha?api-version=2.0&x=1")
            .with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "gha-rt"),
    );
    let source = GitHubActions::new(AUDIENCE, &world).unwrap();
    server.expect(
        Expect::get("/gha")
            .header("accept", "application/json")
            .header("authorization", "Bearer gha-rt"),
        Reply::json(format!(r#"{{"count": 1, "value": "{ANSWERED}"}}"#)),
    );
    assert_eq!(text(&source).await, ANSWERED);
    let request = server.last_request();
    assert_eq!(
        request.uri().path_and_query().unwrap(),
        "/gha?api-version=2.0&x=1&audience=https%3A%2F%2Fapi.anthropic.com"
    );
    assert!(request.body().is_empty());
    server.assert_done();
}

#[test]
fn w77_a_job_without_the_permission_is_told_which_one() {
    let job = || MapEnv::from([("GITHUB_ACTIONS", "true")]);
    for env in [
        job(),
        job().with("ACTIONS_ID_TOKEN_REQUEST_URL", URL),
        job().with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"),
        MapEnv::new().with("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"),
    ] {
        let error = refused(env);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("permissions: { id-token: write }"), "{hint}");
    }
}

#[test]
fn w77_elsewhere_it_is_not_configured() {
    let error = refused(MapEnv::new());
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert_eq!(error.source_name(), Some("github actions id token"));
}

#[test]
fn the_request_url_must_be_https() {
    let error = refused(job("http://pipelines.test/idtoken"));
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error
            .to_string()
            .contains("ACTIONS_ID_TOKEN_REQUEST_URL must be an https URL"),
        "{error}"
    );
}

#[tokio::test]
async fn w78_a_failure_of_the_moment_does_not_stay() {
    let (source, server) = in_job(URL);
    server.reply(Reply::status(502));
    server.reply(value(&jwt("1")));
    assert_eq!(error(&source).await.kind(), ErrorKind::Unavailable);
    assert_eq!(text(&source).await, jwt("1"));
    assert_eq!(server.request_count(), 2);
}

#[tokio::test]
async fn w78_a_request_token_that_is_over_is_explained() {
    let (source, server) = in_job(URL);
    server.reply(Reply::json(r#"{"message":"token request-token is over"}"#).with_status(401));
    let error = error(&source).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(error.description(), Some("token […] is over"));
    assert!(
        error.hint().unwrap().contains("ends with its job"),
        "{error}"
    );
}

#[tokio::test]
async fn w78_an_answer_without_a_token_is_an_error() {
    for reply in [
        Reply::status(404),
        Reply::json("{}"),
        Reply::json(r#"{"value":null}"#),
        value(""),
        value("no.jwt"),
    ] {
        let (source, server) = in_job(URL);
        server.reply(reply);
        let error = error(&source).await;
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert_eq!(error.endpoint(), Some("pipelines.test/idtoken"));
    }
}

#[tokio::test]
async fn w79_every_exchange_gets_a_token_of_its_own() {
    let (source, server) = in_job(URL);
    server.always(|_, nth| value(&jwt(&nth.to_string())));
    let first = text(&source).await;
    let second = text(&source).await;
    assert_ne!(first, second);
    let claims = UnverifiedClaims::of(&second).unwrap();
    assert_eq!(claims.expires_at(), Some(at(NOW + 300)));
}

#[tokio::test]
async fn a_token_for_another_audience_is_not_handed_on() {
    let (source, server) = in_job(URL);
    server.reply(value(&jwt_of(json!({ "aud": "https://github.com/owner" }))));
    let error = error(&source).await;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error.to_string().contains("https://github.com/owner"),
        "{error}"
    );
}

#[tokio::test]
async fn a_new_token_that_is_over_blames_the_clock() {
    let (source, server) = in_job(URL);
    server.reply(value(&jwt_of(json!({ "aud": AUDIENCE, "exp": NOW - 60 }))));
    let error = error(&source).await;
    assert_eq!(error.kind(), ErrorKind::Expired);
    assert!(error.hint().unwrap().contains("clock"), "{error}");
}
