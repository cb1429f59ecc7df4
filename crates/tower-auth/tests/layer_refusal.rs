//! What the API's answer does: a refused credential is replaced, once, and the caller can find out.
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a function of the tests fails the test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_auth::policy::RefreshOptions;
use tower_auth::{
    AuthLayer, AuthOverride, BoxError, Error, ErrorKind, Reason, Receipt, Receipts, Token,
    TokenCache,
};
use tower_auth_testing::{
    Answer, Canary, FakeEndpoint, Gate, LeakGuard, Reply, ScriptedSource, TestClock, fresh_tokens,
};

type Body = Full<Bytes>;

/// Counts the API's answers.
const ANSWER: HeaderName = HeaderName::from_static("x-answer");

fn request() -> Request<Body> {
    Request::get("https://api.example.com/v1")
        .body(Body::default())
        .unwrap()
}

async fn send<S>(service: &mut S, request: Request<Body>) -> Result<S::Response, S::Error>
where
    S: Service<Request<Body>>,
{
    service.ready().await?.call(request).await
}

fn lasting(text: &str) -> Answer {
    Answer::token(Token::bearer(text).expires_in(Duration::from_secs(3600)))
}

/// A cache whose wall clock goes with the runtime's, so that paused time is all the time there is.
fn cache(source: &ScriptedSource) -> TokenCache<ScriptedSource> {
    TokenCache::builder(source.clone())
        .clock(TestClock::new())
        .seed(7)
        .build()
}

/// An API that takes this token alone.
fn api_that_takes(good: &'static str) -> FakeEndpoint {
    let api = FakeEndpoint::new();
    api.always(move |request, _| {
        let taken = request
            .headers()
            .get(AUTHORIZATION)
            .is_some_and(|value| value.as_bytes() == format!("Bearer {good}").as_bytes());
        Reply::status(if taken { 200 } else { 401 })
    });
    api
}

/// What the last request carried.
fn carried(api: &FakeEndpoint) -> String {
    let last = api.last_request();
    let value = last.headers().get(AUTHORIZATION);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_replaced_and_the_caller_gets_the_receipt() {
    let api = api_that_takes("two");
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let cache = cache(&source);
    let mut client = AuthLayer::from_cache(cache.clone()).layer(api.service());
    cache.ready().await.unwrap();
    tokio::time::sleep(Duration::from_secs(7)).await;

    let refused = send(&mut client, request()).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let receipt = refused.extensions().get::<Receipt>().unwrap();
    assert!(receipt.is_refused());
    assert_eq!(receipt.generation(), 1);
    assert_eq!(receipt.age().unwrap().as_secs(), 7);
    assert_eq!(receipt.source_name(), "scripted source");
    assert!(receipt.renewed().await);

    let taken = send(&mut client, request()).await.unwrap();
    assert_eq!(taken.status(), StatusCode::OK);
    assert!(
        taken.extensions().get::<Receipt>().is_none(),
        "on refusal only"
    );
    assert_eq!(source.call_count(), 2);
    assert_eq!(source.last_call().reason(), Reason::Rejected);
}

#[tokio::test(start_paused = true)]
async fn the_challenge_of_the_refusal_reaches_the_source() {
    let api = FakeEndpoint::new();
    api.reply(Reply::status(401).with_header(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""));
    api.always(|_, _| Reply::status(200));
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let mut client = AuthLayer::from_cache(cache(&source)).layer(api.service());
    send(&mut client, request()).await.unwrap();
    send(&mut client, request()).await.unwrap();
    assert_eq!(
        source.last_call().challenge(),
        Some("Bearer error=\"invalid_token\"")
    );
}

#[tokio::test(start_paused = true)]
async fn fc_c15_a_storm_of_refusals_causes_one_fetch() {
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let cache = cache(&source);
    cache.ready().await.unwrap();
    let gate = Gate::new();
    let pass = gate.clone();
    let api = service_fn(move |request: Request<Body>| {
        let gate = pass.clone();
        async move {
            let is_first = request.headers()[AUTHORIZATION] == "Bearer one";
            if is_first {
                gate.pass().await;
            }
            let mut response = Response::new(());
            if is_first {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
            }
            Ok::<_, BoxError>(response)
        }
    });
    let client = AuthLayer::from_cache(cache).layer(api);
    let tasks: Vec<_> = (0..1000)
        .map(|_| tokio::spawn(client.clone().oneshot(request())))
        .collect();
    gate.reached_by(1000).await;
    gate.open();
    for task in tasks {
        let response = task.await.unwrap().unwrap();
        assert_eq!(
            response.extensions().get::<Receipt>().unwrap().generation(),
            1
        );
    }
    client.oneshot(request()).await.unwrap();
    assert_eq!(source.call_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn fc_c16_a_late_refusal_of_an_old_credential_changes_nothing() {
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let cache = cache(&source);
    cache.ready().await.unwrap();
    let gate = Gate::new();
    let pass = gate.clone();
    let api = service_fn(move |_: Request<Body>| {
        let gate = pass.clone();
        async move {
            gate.pass().await;
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            Ok::<_, BoxError>(response)
        }
    });
    let client = AuthLayer::from_cache(cache.clone()).layer(api);
    let late = tokio::spawn(client.oneshot(request()));
    gate.reached().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    cache.refresh().await.unwrap();
    gate.open();
    let refused = late.await.unwrap().unwrap();
    let receipt = refused.extensions().get::<Receipt>().unwrap();
    assert_eq!((receipt.generation(), receipt.age()), (1, None));
    assert!(receipt.renewed().await, "there is a newer one already");
    assert!(cache.current().is_some(), "the present one stays in use");
    assert_eq!(source.call_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn fc_c18_an_api_that_refuses_everything_causes_few_fetches_and_gets_its_requests() {
    let api = api_that_takes("never");
    let source = fresh_tokens(Duration::from_secs(3600));
    let mut client = AuthLayer::from_cache(cache(&source)).layer(api.service());
    for _ in 0..3600 {
        let response = send(&mut client, request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(api.request_count(), 3600);
    assert!(source.call_count() <= 21, "{} fetches", source.call_count());
}

#[tokio::test(start_paused = true)]
async fn fc_c19_one_path_that_refuses_does_not_take_the_credential_from_the_others() {
    let api = FakeEndpoint::new();
    api.always(|request, _| {
        Reply::status(if request.uri().path() == "/bad" {
            401
        } else {
            200
        })
    });
    let source = fresh_tokens(Duration::from_secs(36_000));
    let mut client = AuthLayer::from_cache(cache(&source)).layer(api.service());
    for second in 0..3600 {
        let path = if second % 60 == 0 { "bad" } else { "good" };
        let request = Request::get(format!("https://api.example.com/{path}"))
            .body(Body::default())
            .unwrap();
        let response = send(&mut client, request).await.unwrap();
        assert_eq!(response.status() == StatusCode::OK, path == "good");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(source.call_count() <= 65, "{} fetches", source.call_count());
}

#[tokio::test(start_paused = true)]
async fn fc_c20_a_status_403_says_nothing_about_the_credential() {
    let api = FakeEndpoint::new();
    api.always(|_, _| Reply::status(403));
    let source = ScriptedSource::new([lasting("one")]);
    let mut client = AuthLayer::from_cache(cache(&source)).layer(api.service());
    for _ in 0..3 {
        let response = send(&mut client, request()).await.unwrap();
        assert!(response.extensions().get::<Receipt>().is_none());
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(source.call_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_counts_as_refused_can_be_said() {
    let api = FakeEndpoint::new();
    api.reply(Reply::status(200).with_header(HeaderName::from_static("grpc-status"), "16"));
    api.reply(Reply::status(401));
    api.always(|_, _| Reply::status(200));
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let mut client = AuthLayer::from_cache(cache(&source))
        .refused(|_, headers| headers.get("grpc-status").is_some_and(|code| code == "16"))
        .layer(api.service());
    let refused = send(&mut client, request()).await.unwrap();
    assert!(refused.extensions().get::<Receipt>().unwrap().is_refused());
    let unauthorized = send(&mut client, request()).await.unwrap();
    assert!(unauthorized.extensions().get::<Receipt>().is_none());
    assert_eq!(carried(&api), "Bearer two");
}

#[tokio::test(start_paused = true)]
async fn every_stamped_request_has_a_receipt_where_that_is_wanted() {
    let api = FakeEndpoint::new();
    api.always(|_, _| Reply::status(200));
    let source = ScriptedSource::new([lasting("one")]);
    let mut client = AuthLayer::from_cache(cache(&source))
        .receipts(Receipts::Always)
        .layer(api.service());
    for _ in 0..3 {
        let response = send(&mut client, request()).await.unwrap();
        let receipt = response.extensions().get::<Receipt>().unwrap();
        assert!(!receipt.is_refused());
        assert_eq!(receipt.generation(), 1);
    }
    let mut opted_out = request();
    opted_out.extensions_mut().insert(AuthOverride::skip());
    let response = send(&mut client, opted_out).await.unwrap();
    assert!(response.extensions().get::<Receipt>().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_something_that_is_not_ours_is_none_of_our_business() {
    let api = api_that_takes("never");
    let source = ScriptedSource::new([lasting("one")]);
    let cache = cache(&source);
    let mut client = AuthLayer::from_cache(cache.clone())
        .origins(["https://api.example.com"])
        .unwrap()
        .layer(api.service());
    cache.ready().await.unwrap();
    let foreign = Request::get("https://other.test/")
        .body(Body::default())
        .unwrap();
    let mut kept = request();
    kept.headers_mut()
        .insert(AUTHORIZATION, "Basic x".parse().unwrap());
    let mut skipped = request();
    skipped.extensions_mut().insert(AuthOverride::skip());
    let mut given = request();
    given
        .extensions_mut()
        .insert(AuthOverride::token(Token::bearer("own")));
    for request in [foreign, kept, skipped, given] {
        let response = send(&mut client, request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.extensions().get::<Receipt>().is_none());
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(source.call_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_noticed_although_the_service_that_sent_the_request_is_gone() {
    let api = api_that_takes("two");
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let cache = cache(&source);
    cache.ready().await.unwrap();
    let client = AuthLayer::from_cache(cache.clone()).layer(api.service());
    let refused = client.oneshot(request()).await.unwrap();
    assert!(
        refused
            .extensions()
            .get::<Receipt>()
            .unwrap()
            .renewed()
            .await
    );
    assert_eq!(cache.health().generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_keeps_no_cache_alive() {
    let api = api_that_takes("never");
    let source = ScriptedSource::new([lasting("one")]).then_repeat_last();
    let client = AuthLayer::new(source.clone()).layer(api.service());
    let refused = client.oneshot(request()).await.unwrap();
    let receipt = refused.extensions().get::<Receipt>().unwrap();
    assert!(!receipt.renewed().await);
    let calls = source.call_count();
    tokio::time::sleep(Duration::from_secs(100_000)).await;
    assert_eq!(source.call_count(), calls);
}

#[tokio::test(start_paused = true)]
async fn fc_g11_nothing_that_is_printed_or_logged_shows_the_credential() {
    let canary = Canary::new("token");
    let guard = LeakGuard::new();
    guard.watch([&canary]);
    let logs = guard.record_logs();
    let api = FakeEndpoint::new();
    let echo = format!("Bearer realm=\"{}\"", canary.text());
    api.always(move |_, _| Reply::status(401).with_header(WWW_AUTHENTICATE, &echo));
    let source =
        ScriptedSource::new([Answer::token(Token::bearer(canary.text()))]).then_repeat_last();
    let layer = AuthLayer::from_cache(cache(&source));
    let mut client = layer.layer(api.service());
    let future = ServiceExt::<Request<Body>>::ready(&mut client)
        .await
        .unwrap()
        .call(request());
    guard.value("future", &future);
    let response = future.await.unwrap();
    guard.value("receipt", response.extensions().get::<Receipt>().unwrap());
    guard.value("layer", &layer);
    guard.value("service", &client);
    guard.value("replay layer", &layer.clone().replay_once());
    guard.value(
        "override",
        &AuthOverride::token(Token::bearer(canary.text())),
    );
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(logs);
    assert!(!guard.logs().is_empty(), "a refusal is logged");
    guard.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_replay_sends_the_request_once_more_with_a_newer_credential() {
    let api = api_that_takes("two");
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let mut client = AuthLayer::from_cache(cache(&source))
        .replay_once()
        .layer(api.service());
    let mut posted = Request::post("https://api.example.com/")
        .body(Body::from("text"))
        .unwrap();
    posted
        .headers_mut()
        .insert("x-mine", "kept".parse().unwrap());
    let response = send(&mut client, posted).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let arrived = api.requests();
    assert_eq!(arrived.len(), 2);
    for request in &arrived {
        assert_eq!(request.body(), "text");
        assert_eq!(request.headers()["x-mine"], "kept");
        assert_eq!(request.headers().get_all(AUTHORIZATION).iter().count(), 1);
    }
    assert_eq!(source.call_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_replay_happens_once_however_often_the_api_refuses() {
    let api = api_that_takes("never");
    let source = fresh_tokens(Duration::from_secs(3600));
    let mut client = AuthLayer::from_cache(cache(&source))
        .replay_once()
        .layer(api.service());
    let response = send(&mut client, request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        response.extensions().get::<Receipt>().unwrap().generation(),
        2
    );
    assert_eq!(api.request_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_original_refusal_is_the_callers_where_the_renewal_fails() {
    for failure in [
        Answer::error(ErrorKind::Denied),
        Answer::error(ErrorKind::Unavailable),
        Answer::hang(),
    ] {
        let api = FakeEndpoint::new();
        api.always(|_, before| Reply::status(401).with_header(ANSWER, &before.to_string()));
        let source = ScriptedSource::new([lasting("one"), failure]).then_repeat_last();
        let mut client = AuthLayer::from_cache(cache(&source))
            .replay_once()
            .layer(api.service());
        let start = tokio::time::Instant::now();
        let response = send(&mut client, request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["x-answer"], "0", "the first answer");
        assert!(response.extensions().get::<Receipt>().unwrap().is_refused());
        assert_eq!(api.request_count(), 1);
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "{:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_fixed_credential_is_not_waited_for_when_it_is_refused() {
    let api = api_that_takes("other");
    let mut client = AuthLayer::new("fixed").replay_once().layer(api.service());
    let start = tokio::time::Instant::now();
    let response = send(&mut client, request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(api.request_count(), 1);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_replay_leaves_other_answers_and_errors_alone() {
    let api = FakeEndpoint::new();
    api.reply(Reply::status(500));
    api.reply(Reply::reset());
    let source = ScriptedSource::new([lasting("one")]);
    let mut client = AuthLayer::from_cache(cache(&source))
        .replay_once()
        .layer(api.service());
    let response = send(&mut client, request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let error = send(&mut client, request()).await.unwrap_err();
    assert!(Error::find(&*error).is_none());
    assert_eq!(api.request_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_replay_does_not_force_another_fetch_for_a_request_that_asked_for_one() {
    let api = FakeEndpoint::new();
    // Forced fetches in quick succession are refused by the cache, so the API takes its time.
    api.reply(Reply::status(401).after(Duration::from_secs(7)));
    api.always(|_, _| Reply::status(200));
    let source = ScriptedSource::new([lasting("one"), lasting("two"), lasting("three")]);
    let cache = cache(&source);
    cache.ready().await.unwrap();
    let mut client = AuthLayer::from_cache(cache)
        .replay_once()
        .layer(api.service());
    let mut fresh = request();
    fresh.extensions_mut().insert(AuthOverride::fresh());
    let response = send(&mut client, fresh).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(carried(&api), "Bearer three");
    let reasons: Vec<_> = source.calls().iter().map(|call| call.reason()).collect();
    assert_eq!(reasons, [Reason::First, Reason::Forced, Reason::Rejected]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_asked_for_each_request_is_asked_for_the_replay_too() {
    let source = fresh_tokens(Duration::from_secs(3600)).per_request();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let api = service_fn(move |_: Request<Body>| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            let mut response = Response::new(());
            if first {
                *response.status_mut() = StatusCode::UNAUTHORIZED;
            }
            Ok::<_, BoxError>(response)
        }
    });
    let client = AuthLayer::from_cache(cache(&source))
        .replay_once()
        .layer(api);
    let response = client.oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!((source.call_count(), sent.load(Ordering::Relaxed)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_renewal_requests_keep_flowing_with_what_there_is() {
    let api = api_that_takes("never");
    let source = ScriptedSource::new([lasting("one"), Answer::error(ErrorKind::Unavailable)])
        .then_repeat_last();
    let options = RefreshOptions::default().with_wait_budget(Duration::from_secs(5));
    let cache = TokenCache::builder(source)
        .clock(TestClock::new())
        .refresh(options)
        .build();
    let mut client = AuthLayer::from_cache(cache).layer(api.service());
    for _ in 0..20 {
        let response = send(&mut client, request()).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(carried(&api), "Bearer one", "the API decides");
    }
}
