//! A federation below the layer that everybody uses: when it exchanges, and what a caller gets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use http_body_util::Full;
use support::{Api, issuer, stuck_issuer, world};
use tower::{Layer, Service, ServiceExt};
use tower_auth::{Auth, AuthLayer, BoxError, Error, OnExisting, Receipt, TokenCache};
use tower_auth_claude::{ApiKey, Federation};
use tower_auth_testing::{Canary, FakeService, LeakGuard, Reply, ScriptedSource, TestClock};

type Body = Full<Bytes>;
type Source = Federation<ScriptedSource>;
type Client = Auth<FakeService, Source, tower_auth::Headers, tower_auth::Fail>;

fn cache(api: &Api, subject: ScriptedSource) -> TokenCache<Source> {
    let source = Federation::new("fdrl_1", "org", subject, &world(&api.endpoint)).unwrap();
    TokenCache::builder(source)
        .clock(TestClock::new())
        .seed(7)
        .build()
}

fn client(api: &Api, subject: ScriptedSource) -> Client {
    AuthLayer::from_cache(cache(api, subject)).layer(api.endpoint.service())
}

fn request() -> Request<Body> {
    Request::post("https://api.anthropic.com/v1/messages")
        .body(Body::from("{}"))
        .unwrap()
}

async fn send<S>(service: &mut S, request: Request<Body>) -> Result<S::Response, S::Error>
where
    S: Service<Request<Body>>,
{
    service.ready().await?.call(request).await
}

async fn status<S, R>(service: &mut S) -> StatusCode
where
    S: Service<Request<Body>, Response = http::Response<R>, Error = BoxError>,
{
    send(service, request()).await.unwrap().status()
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

async fn check_one_exchange_for_three_requests(lifetime: u64) {
    let api = Api::new(lifetime);
    let mut client = client(&api, issuer());
    for _ in 0..3 {
        assert_eq!(status(&mut client).await, StatusCode::OK);
    }
    assert_eq!(api.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn c82_a_token_of_an_hour_serves_several_requests() {
    check_one_exchange_for_three_requests(3600).await;
}

#[tokio::test(start_paused = true)]
async fn c83_a_token_of_100_seconds_serves_several_requests() {
    check_one_exchange_for_three_requests(100).await;
}

#[tokio::test(start_paused = true)]
async fn c84_a_token_of_a_minute_serves_several_requests() {
    check_one_exchange_for_three_requests(60).await;
}

#[tokio::test(start_paused = true)]
async fn c85_a_token_of_20_seconds_serves_several_requests() {
    check_one_exchange_for_three_requests(20).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_is_replaced_ahead_of_its_end_by_a_new_identity_token() {
    let api = Api::new(600);
    let subject = issuer();
    let mut client = client(&api, subject.clone());
    for _ in 0..60 {
        assert_eq!(status(&mut client).await, StatusCode::OK);
        seconds(30).await;
    }
    assert!((3..=8).contains(&api.minted()), "{}", api.minted());
    assert_eq!(subject.call_count(), api.minted(), "one for each exchange");
    assert_eq!(api.attempts(), api.minted(), "none was refused");
}

#[tokio::test(start_paused = true)]
async fn c74_an_outage_at_the_start_is_waited_for() {
    let api = Api::new(600);
    api.break_down(Reply::status(503));
    let mut client = client(&api, issuer());
    let recovering = async {
        seconds(1).await;
        api.recover();
    };
    let (status, ()) = tokio::join!(status(&mut client), recovering);
    assert_eq!(status, StatusCode::OK);
    assert!(api.attempts() >= 2);
}

#[tokio::test(start_paused = true)]
async fn c86_a_token_is_used_through_an_outage_while_it_lives() {
    let api = Api::new(100);
    let mut client = client(&api, issuer());
    assert_eq!(status(&mut client).await, StatusCode::OK);
    api.break_down(Reply::status(503));
    for _ in 0..9 {
        seconds(10).await;
        assert_eq!(status(&mut client).await, StatusCode::OK);
    }
    assert!((2..=15).contains(&api.attempts()), "{}", api.attempts());
}

#[tokio::test(start_paused = true)]
async fn c87_an_expired_token_and_an_outage_are_an_error() {
    let api = Api::new(100);
    let mut client = client(&api, issuer());
    assert_eq!(status(&mut client).await, StatusCode::OK);
    api.break_down(Reply::status(503));
    seconds(101).await;
    let error = send(&mut client, request()).await.unwrap_err();
    assert!(Error::find(&*error).is_some(), "{error}");
    assert_eq!(api.calls(), 1, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn c88_callers_who_come_first_share_one_exchange() {
    let api = Api::new(600);
    let client = client(&api, issuer());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = client.clone();
        calls.spawn(async move { status(&mut client).await });
    }
    assert!(calls.join_all().await.iter().all(StatusCode::is_success));
    assert_eq!(api.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn c89_callers_who_wait_share_the_failure() {
    let api = Api::new(600);
    api.break_down(Reply::json(r#"{"error":"invalid_grant"}"#).with_status(401));
    let client = client(&api, issuer());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = client.clone();
        calls.spawn(async move { send(&mut client, request()).await.is_err() });
    }
    assert!(calls.join_all().await.into_iter().all(|failed| failed));
    assert!(api.attempts() <= 4, "{}", api.attempts());
    assert_eq!(api.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn c90_requests_refused_together_cause_one_exchange_with_a_new_identity_token() {
    let api = Api::new(3600);
    let subject = issuer();
    let cache = cache(&api, subject.clone());
    let client = AuthLayer::from_cache(cache.clone())
        .replay_once()
        .layer(api.endpoint.service());
    cache.ready().await.unwrap();
    seconds(10).await;
    api.revoke();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = client.clone();
        calls.spawn(async move { send(&mut client, request()).await.unwrap().status() });
    }
    assert!(calls.join_all().await.iter().all(StatusCode::is_success));
    assert_eq!(api.minted(), 2);
    assert_eq!(subject.call_count(), 2);
    assert_eq!(api.calls(), 16, "each was sent twice");
}

#[tokio::test(start_paused = true)]
async fn c91_an_api_that_always_refuses_is_asked_twice() {
    let api = Api::new(3600);
    let mut client = AuthLayer::from_cache(cache(&api, issuer()))
        .replay_once()
        .layer(api.endpoint.service());
    assert_eq!(send(&mut client, request()).await.unwrap().status(), 200);
    seconds(60).await;
    let endpoint = api.endpoint.clone();
    endpoint.always(|request, nth| {
        if request.uri().path() == "/v1/oauth/token" {
            support::minted(&format!("t{nth}"), 3600)
        } else {
            Reply::status(401)
        }
    });
    let before = api.calls();
    let response = send(&mut client, request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(api.calls() - before, 2);
}

#[tokio::test(start_paused = true)]
async fn c92_without_a_replay_the_next_request_has_a_new_token() {
    let api = Api::new(3600);
    let mut client = client(&api, issuer());
    assert_eq!(status(&mut client).await, StatusCode::OK);
    seconds(10).await;
    api.revoke();
    assert_eq!(status(&mut client).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&mut client).await, StatusCode::OK);
    assert_eq!(api.minted(), 2);
}

#[tokio::test(start_paused = true)]
async fn c94_a_key_is_never_replayed() {
    let api = Api::new(3600);
    let mut client = AuthLayer::new(ApiKey::new("k").unwrap())
        .replay_once()
        .layer(api.endpoint.service());
    let response = send(&mut client, request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(api.endpoint.request_count(), 1);
    assert_eq!(api.endpoint.last_request().headers()["x-api-key"], "k");
}

#[tokio::test(start_paused = true)]
async fn c96_a_used_identity_token_leaves_the_current_token_in_use() {
    let api = Api::new(600);
    let mut client = client(&api, stuck_issuer());
    for _ in 0..19 {
        assert_eq!(status(&mut client).await, StatusCode::OK);
        seconds(30).await;
    }
    assert_eq!(api.attempts(), 1, "it was sent once");
    seconds(60).await;
    let error = send(&mut client, request()).await.unwrap_err();
    let chain = format!("{:?}", Error::find(&*error).unwrap());
    assert!(chain.contains("assertion_reused"), "{chain}");
}

#[tokio::test(start_paused = true)]
async fn c97_the_refusal_is_the_callers_where_there_is_no_new_token() {
    let api = Api::new(3600);
    let subject = stuck_issuer();
    let mut client = AuthLayer::from_cache(cache(&api, subject))
        .replay_once()
        .layer(api.endpoint.service());
    assert_eq!(send(&mut client, request()).await.unwrap().status(), 200);
    seconds(10).await;
    api.revoke();
    let response = send(&mut client, request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(response.extensions().get::<Receipt>().unwrap().is_refused());
    assert_eq!(api.attempts(), 1, "the used identity token was not sent");
}

#[tokio::test(start_paused = true)]
async fn c99_a_request_with_a_credential_of_its_own_is_left_alone_or_has_only_ours() {
    let api = Api::new(3600);
    let own = || {
        let mut request = request();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, "Bearer mine".parse().unwrap());
        headers.insert("anthropic-beta", "a-1".parse().unwrap());
        request
    };
    let cache = cache(&api, issuer());
    let mut kept = AuthLayer::from_cache(cache.clone()).layer(api.endpoint.service());
    send(&mut kept, own()).await.unwrap();
    let headers = api.endpoint.last_request().headers().clone();
    assert_eq!(headers[AUTHORIZATION], "Bearer mine");
    assert_eq!(headers["anthropic-beta"], "a-1");

    let mut replaced = AuthLayer::from_cache(cache)
        .on_existing(OnExisting::Replace)
        .layer(api.endpoint.service());
    send(&mut replaced, own()).await.unwrap();
    let headers = api.endpoint.last_request().headers().clone();
    assert_eq!(headers.get_all(AUTHORIZATION).iter().count(), 1);
    assert_ne!(headers[AUTHORIZATION], "Bearer mine");
}

/// What arrives of these lines of `anthropic-beta`.
async fn betas(lines: &[&str]) -> Vec<String> {
    let api = Api::new(3600);
    let mut request = request();
    for line in lines {
        request
            .headers_mut()
            .append("anthropic-beta", line.parse().unwrap());
    }
    send(&mut client(&api, issuer()), request).await.unwrap();
    let last = api.endpoint.last_request();
    let lines = last.headers().get_all("anthropic-beta").iter();
    lines
        .map(|line| line.to_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn c100_a_beta_that_only_begins_like_ours_is_another() {
    assert_eq!(
        betas(&["a-1, oauth-2025-04-20b"]).await,
        ["a-1, oauth-2025-04-20b, oauth-2025-04-20"]
    );
    assert_eq!(betas(&[]).await, ["oauth-2025-04-20"]);
}

#[tokio::test(start_paused = true)]
async fn c101_a_beta_that_is_there_is_not_added() {
    assert_eq!(betas(&["oauth-2025-04-20,x"]).await, ["oauth-2025-04-20,x"]);
}

#[tokio::test(start_paused = true)]
async fn c102_no_line_of_betas_is_lost() {
    assert_eq!(betas(&["a", "b"]).await, ["a, b, oauth-2025-04-20"]);
}

#[tokio::test(start_paused = true)]
async fn c108_a_request_to_another_origin_causes_no_exchange_and_carries_nothing() {
    let api = Api::new(3600);
    let mut client = client(&api, issuer());
    for url in [
        "https://api.anthropic.com.evil.test/v1/messages",
        "http://api.anthropic.com/v1/messages",
        "https://api.anthropic.com:8443/v1/messages",
    ] {
        let request = Request::get(url).body(Body::default()).unwrap();
        send(&mut client, request).await.unwrap();
        let headers = api.endpoint.last_request().headers().clone();
        assert!(!headers.contains_key(AUTHORIZATION), "{url}");
        assert!(!headers.contains_key("anthropic-beta"), "{url}");
    }
    assert_eq!(api.attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn c110_a_caller_who_leaves_takes_nobody_with_him() {
    let api = Api::new(600);
    let client = client(&api, issuer());
    let mut first = client.clone();
    let abandoned = tokio::spawn(async move { status(&mut first).await });
    tokio::task::yield_now().await;
    abandoned.abort();
    let mut second = client;
    assert_eq!(status(&mut second).await, StatusCode::OK);
    assert_eq!(api.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn c111_nothing_that_is_shown_has_a_secret() {
    let guard = LeakGuard::new();
    let recording = guard.record_logs();
    let minted = Canary::new("minted");
    let identity = Canary::jwt("identity");
    let endpoint = tower_auth_testing::FakeEndpoint::new();
    let token = minted.text().to_owned();
    endpoint.always(move |request, _| {
        if request.uri().path() == "/v1/oauth/token" {
            support::minted(&token, 600)
        } else {
            Reply::status(401)
        }
    });
    let subject = ScriptedSource::from_rule(move |_| {
        tower_auth_testing::Answer::token(tower_auth::Token::bearer(&identity))
    });
    let source = Federation::new("fdrl_1", "org", subject, &world(&endpoint)).unwrap();
    let source = Arc::new(source);
    guard.value("the source", &source);
    let layer = AuthLayer::new(Arc::clone(&source));
    guard.value("the layer", &layer);
    let mut client = layer.layer(endpoint.service());
    let response = send(&mut client, request()).await.unwrap();
    guard.value(
        "the receipt",
        response.extensions().get::<Receipt>().unwrap(),
    );
    guard.value("the client", &client);
    drop(recording);
    guard.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn c95_only_a_401_is_a_refusal() {
    let api = Api::new(3600);
    let mut client = client(&api, issuer());
    assert_eq!(status(&mut client).await, StatusCode::OK);
    for other in [403, 529] {
        api.endpoint.reply(Reply::status(other));
        assert_eq!(status(&mut client).await.as_u16(), other);
    }
    seconds(10).await;
    assert_eq!(api.attempts(), 1);
}
