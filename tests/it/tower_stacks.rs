//! The layer among tower's own: what each neighbor sees while a credential is on its way.

use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::Full;
use tower::balance::p2c::Balance;
use tower::buffer::Buffer;
use tower::discover::ServiceList;
use tower::hedge::{self, Hedge};
use tower::load::Constant;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_auth::{AuthLayer, AuthOverride, BoxError, Token};
use tower_auth_testing::{
    Answer, FakeEndpoint, Gate, Reply, ReplyBody, ScriptedSource, fresh_tokens,
};

type Body = Full<Bytes>;
type Client = BoxCloneSyncService<Request<Body>, Response<ReplyBody>, BoxError>;

fn request() -> Request<Body> {
    let request = Request::get("https://api.example.com/v1");
    request.body(Body::default()).unwrap()
}

/// One that needs no credential.
fn opted_out() -> Request<Body> {
    let mut request = request();
    request.extensions_mut().insert(AuthOverride::skip());
    request
}

fn api() -> FakeEndpoint {
    let api = FakeEndpoint::new();
    api.always(|_, _| Reply::json("{}"));
    api
}

/// A layer whose credential is on its way until the gate opens.
fn gated(gate: &Gate) -> AuthLayer<ScriptedSource> {
    let token = Token::bearer("abc").never_expires();
    AuthLayer::new(ScriptedSource::new([Answer::token(token).behind(gate)]))
}

/// What each request carried, of those that went to this API.
fn carried(api: &FakeEndpoint) -> Vec<Vec<String>> {
    let values = |request: &Request<Bytes>| {
        let values = request.headers().get_all(AUTHORIZATION).iter();
        values.map(|v| v.to_str().unwrap().to_owned()).collect()
    };
    api.requests().iter().map(values).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stack_can_be_boxed_at_each_level_and_shared_by_reference() {
    let api = api();
    let leaf: Client = BoxCloneSyncService::new(api.service());
    let stack = ServiceBuilder::new()
        .timeout(Duration::from_secs(60))
        .layer(AuthLayer::new("abc"))
        .service(leaf);
    let client: Client = BoxCloneSyncService::new(stack);
    let shared: &'static Client = Box::leak(Box::new(client));
    let calls = [(); 3].map(|()| tokio::spawn(async { shared.clone().oneshot(request()).await }));
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(carried(&api), [["Bearer abc"]; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_does_not_hold_up_a_buffer_above() {
    let (api, gate) = (api(), Gate::new());
    let client = Buffer::new(gated(&gate).layer(api.service()), 1);
    let waiting = tokio::spawn(client.clone().oneshot(request()));
    gate.reached().await;
    client.oneshot(opted_out()).await.unwrap();
    assert_eq!(api.request_count(), 1);
    gate.open();
    waiting.await.unwrap().unwrap();
    assert_eq!(carried(&api), [vec![], vec!["Bearer abc".to_owned()]]);
}

#[tokio::test(start_paused = true)]
async fn one_cache_serves_all_endpoints_of_a_balancer_below() {
    let apis = [api(), api(), api()];
    let source = fresh_tokens(Duration::from_secs(3600));
    let endpoints = apis.each_ref().map(|api| Constant::new(api.service(), 1));
    let balance = Balance::new(ServiceList::new::<Request<Body>>(endpoints));
    // A balancer cannot be cloned, and a buffer in front of it can.
    let client = AuthLayer::new(source.clone()).layer(Buffer::new(balance, 8));
    for _ in 0..30 {
        client.clone().oneshot(request()).await.unwrap();
    }
    let all: Vec<_> = apis.iter().flat_map(carried).collect();
    assert_eq!(all.len(), 30);
    assert!(
        all.iter()
            .all(|values| values.len() == 1 && *values == all[0])
    );
    assert_eq!(source.call_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_on_its_way_is_no_overload() {
    let (api, gate) = (api(), Gate::new());
    let client = ServiceBuilder::new()
        .load_shed()
        .layer(gated(&gate))
        .concurrency_limit(1)
        .service(api.service());
    let waiting = tokio::spawn(client.clone().oneshot(request()));
    gate.reached().await;
    client.oneshot(opted_out()).await.unwrap();
    gate.open();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_limit_above_counts_the_requests_that_wait_for_a_credential() {
    let (api, gate) = (api(), Gate::new());
    let client = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(1)
        .layer(gated(&gate))
        .service(api.service());
    let waiting = tokio::spawn(client.clone().oneshot(request()));
    gate.reached().await;
    let error = client.clone().oneshot(opted_out()).await.unwrap_err();
    assert!(
        error.is::<tower::load_shed::error::Overloaded>(),
        "{error:?}"
    );
    gate.open();
    waiting.await.unwrap().unwrap();
    client.oneshot(opted_out()).await.unwrap();
}

#[derive(Clone)]
struct Always;

impl hedge::Policy<Request<Body>> for Always {
    fn clone_request(&self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }

    fn can_retry(&self, _: &Request<Body>) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedged_request_is_stamped_on_its_own() {
    let api = FakeEndpoint::new();
    api.reply(Reply::json("{}").after(Duration::from_secs(60)));
    api.reply(Reply::json("{}"));
    // Each attempt is given a credential of its own, so that the two can be told apart.
    let source = fresh_tokens(Duration::from_secs(60)).per_request();
    let client = AuthLayer::new(source).layer(api.service());
    let minute = Duration::from_secs(60);
    let mut client = Hedge::new_with_mock_latencies(client, Always, 1, 0.9, minute, &[50; 10]);
    let start = tokio::time::Instant::now();
    client.ready().await.unwrap().call(request()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    let carried = carried(&api);
    assert_eq!(carried.len(), 2);
    assert!(carried.iter().all(|values| values.len() == 1));
    assert_ne!(carried[0], carried[1]);
}
