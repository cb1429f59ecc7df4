//! The layer below tower's retry layer.
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a function of the tests fails the test"
)]
#![cfg(feature = "retry")]

use std::future::{Ready, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::retry::Policy;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::{
    AuthLayer, AuthOverride, ErrorKind, Receipt, RetryOnUnauthorized, Token, TokenCache,
};
use tower_auth_testing::{Answer, FakeEndpoint, Reply, ScriptedSource, TestClock, fresh_tokens};

type Body = Full<Bytes>;

/// Counts the API's answers.
const ANSWER: HeaderName = HeaderName::from_static("x-answer");

fn request() -> Request<Body> {
    Request::get("https://api.example.com/v1")
        .body(Body::default())
        .unwrap()
}

fn lasting(text: &str) -> Answer {
    Answer::token(Token::bearer(text).expires_in(Duration::from_secs(3600)))
}

fn layer(source: &ScriptedSource) -> AuthLayer<ScriptedSource> {
    TokenCache::builder(source.clone())
        .clock(TestClock::new())
        .seed(7)
        .build()
        .into()
}

fn api_that_takes(good: &'static str) -> FakeEndpoint {
    let api = FakeEndpoint::new();
    api.always(move |request, before| {
        let taken = request
            .headers()
            .get(AUTHORIZATION)
            .is_some_and(|value| value.as_bytes() == format!("Bearer {good}").as_bytes());
        Reply::status(if taken { 200 } else { 401 }).with_header(ANSWER, &before.to_string())
    });
    api
}

/// Retries a status 500 as often as this says.
#[derive(Clone)]
struct OnServerError(usize);

impl<B: Clone, R, E> Policy<Request<B>, Response<R>, E> for OnServerError {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<R>, E>,
    ) -> Option<Ready<()>> {
        let failed = result
            .as_ref()
            .is_ok_and(|response| response.status().is_server_error());
        self.0 = self.0.checked_sub(usize::from(failed))?;
        failed.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

/// Lets no request be cloned, as for a body that streams.
#[derive(Clone)]
struct NoClones;

impl<B, R, E> Policy<Request<B>, Response<R>, E> for NoClones {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Request<B>, _: &mut Result<Response<R>, E>) -> Option<Ready<()>> {
        None
    }

    fn clone_request(&mut self, _: &Request<B>) -> Option<Request<B>> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_retried_when_there_is_a_newer_credential() {
    let api = api_that_takes("two");
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let client = ServiceBuilder::new()
        .retry(RetryOnUnauthorized::new())
        .layer(layer(&source))
        .service(api.service());
    let response = client.oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!((api.request_count(), source.call_count()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn fc_c25_each_attempt_is_stamped_with_the_present_credential() {
    let api = FakeEndpoint::new();
    api.reply(Reply::status(500));
    api.reply(Reply::status(401));
    api.always(|_, _| Reply::status(200));
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let client = ServiceBuilder::new()
        .retry(RetryOnUnauthorized::around(OnServerError(3)))
        .layer(layer(&source))
        .service(api.service());
    let response = client.oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let carried: Vec<_> = api
        .requests()
        .iter()
        .map(|request| {
            let values: Vec<_> = request
                .headers()
                .get_all(AUTHORIZATION)
                .iter()
                .cloned()
                .collect();
            assert_eq!(values.len(), 1, "never appended");
            values[0].to_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(carried, ["Bearer one", "Bearer one", "Bearer two"]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_refused_requests_share_one_renewal() {
    let api = api_that_takes("two");
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let client = ServiceBuilder::new()
        .retry(RetryOnUnauthorized::new())
        .layer(layer(&source))
        .service(api.service());
    let tasks: Vec<_> = (0..100)
        .map(|_| tokio::spawn(client.clone().oneshot(request())))
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert_eq!(source.call_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn there_is_one_more_attempt_and_no_third() {
    let api = FakeEndpoint::new();
    // So slow that a renewal would be possible after each answer.
    api.always(|_, _| Reply::status(401).after(Duration::from_secs(400)));
    let source = fresh_tokens(Duration::from_secs(36_000));
    let client = ServiceBuilder::new()
        .retry(RetryOnUnauthorized::new())
        .layer(layer(&source))
        .service(api.service());
    for sent in [2, 4] {
        let answer = client.clone().oneshot(request());
        let answer = tokio::time::timeout(Duration::from_secs(3600), answer).await;
        let response = answer.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(api.request_count(), sent, "for each request anew");
    }
}

#[tokio::test(start_paused = true)]
async fn the_original_refusal_is_the_callers_where_no_renewal_can_come() {
    let api = api_that_takes("never");
    let client = ServiceBuilder::new()
        .retry(RetryOnUnauthorized::new())
        .layer(AuthLayer::new("fixed"))
        .service(api.service());
    let response = client.oneshot(request()).await.unwrap();
    assert_eq!(response.headers()["x-answer"], "0");
    assert!(response.extensions().get::<Receipt>().unwrap().is_refused());
    assert_eq!(api.request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_while_it_is_waited_for_ends_in_bounded_time() {
    let api = api_that_takes("never");
    let source = ScriptedSource::new([lasting("one"), Answer::error(ErrorKind::Unavailable)])
        .then_repeat_last();
    let client = ServiceBuilder::new()
        .retry(RetryOnUnauthorized::new())
        .layer(layer(&source))
        .service(api.service());
    let start = tokio::time::Instant::now();
    let response = client.oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(api.request_count() <= 2);
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_cloned_is_sent_once() {
    let api = api_that_takes("two");
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let client = ServiceBuilder::new()
        .retry(RetryOnUnauthorized::around(NoClones))
        .layer(layer(&source))
        .service(api.service());
    let response = client.oneshot(request()).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(api.request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_401_to_a_request_without_our_credential_is_not_retried() {
    let api = api_that_takes("two");
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let client = ServiceBuilder::new()
        .retry(RetryOnUnauthorized::new())
        .layer(layer(&source))
        .service(api.service());
    let mut skipped = request();
    skipped.extensions_mut().insert(AuthOverride::skip());
    let response = client.oneshot(skipped).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!((api.request_count(), source.call_count()), (1, 0));
}
