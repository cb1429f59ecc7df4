//! One credential for each key, on paused time.
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a function of the tests fails the test"
)]

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName};
use http::{Request, StatusCode};
use http_body_util::Full;
use proptest::prelude::{any, prop, proptest};
use tower::{Layer, Service, ServiceExt};
use tower_auth::{
    AuthLayer, AuthOverride, Error, ErrorKind, Foreign, HealthState, KeyedAuthLayer, KeyedCache,
    MissingKey, Reason, Receipt, RequestHead, RetryOnUnauthorized, Token,
};
use tower_auth_testing::{
    Answer, Canary, FakeEndpoint, Gate, LeakGuard, Reply, ScriptedSource, TestClock,
};

type Body = Full<Bytes>;

const TENANT: HeaderName = HeaderName::from_static("x-tenant");

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Whoever calls the service puts this into the extensions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tenant(String);

/// One source for each tenant, made when it is first seen.
#[derive(Clone, Default)]
struct Issuers(Arc<Mutex<HashMap<String, ScriptedSource>>>);

impl Issuers {
    /// What this tenant's issuer answers. The others give `tenant-1`, `tenant-2` and so on for an hour.
    fn script(&self, tenant: &str, source: &ScriptedSource) {
        self.lock().insert(tenant.to_owned(), source.clone());
    }

    fn source(&self, tenant: &str) -> ScriptedSource {
        let numbered = |tenant: &str| {
            let tenant = tenant.to_owned();
            ScriptedSource::from_rule(move |n| {
                let text = format!("{tenant}-{}", n + 1);
                Answer::token(Token::bearer(text).expires_in(seconds(3600)))
            })
        };
        let mut sources = self.lock();
        let source = sources
            .entry(tenant.to_owned())
            .or_insert_with(|| numbered(tenant));
        source.clone()
    }

    fn fetches(&self, tenant: &str) -> usize {
        self.lock()
            .get(tenant)
            .map_or(0, ScriptedSource::call_count)
    }

    fn all_fetches(&self) -> usize {
        self.lock().values().map(ScriptedSource::call_count).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, ScriptedSource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> impl Fn(&str) -> ScriptedSource + Send + Sync + 'static {
        let issuers = self.clone();
        move |tenant| issuers.source(tenant)
    }

    fn cache(&self) -> KeyedCache<str> {
        KeyedCache::builder(self.make())
            .clock(TestClock::new())
            .seed(7)
            .build()
    }
}

fn by_header(head: RequestHead<'_>) -> Option<Cow<'_, str>> {
    head.header(&TENANT).map(Cow::Borrowed)
}

type ByHeader = for<'r> fn(RequestHead<'r>) -> Option<Cow<'r, str>>;

fn layer(cache: KeyedCache<str>) -> KeyedAuthLayer<str, ByHeader> {
    KeyedAuthLayer::from_cache(by_header, cache)
}

fn request(tenant: &str) -> Request<Body> {
    Request::get("https://api.example.com/v1")
        .header(TENANT, tenant)
        .body(Body::default())
        .unwrap()
}

fn api() -> FakeEndpoint {
    let api = FakeEndpoint::new();
    api.always(|_, _| Reply::status(200));
    api
}

/// What the last request carried.
fn carried(api: &FakeEndpoint) -> Option<String> {
    let request = api.last_request();
    let value = request.headers().get(AUTHORIZATION)?;
    Some(value.to_str().unwrap().to_owned())
}

async fn send<S>(service: &mut S, request: Request<Body>) -> Result<S::Response, S::Error>
where
    S: Service<Request<Body>>,
{
    service.ready().await?.call(request).await
}

async fn text(cache: &KeyedCache<str>, key: &str) -> String {
    cache.get(key).await.unwrap().secret().expose().to_owned()
}

/// Lets every other task run until nothing moves, without letting time pass.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_carries_the_credential_of_its_key() {
    let (issuers, api) = (Issuers::default(), api());
    let mut client = layer(issuers.cache()).layer(api.service());
    for _ in 0..3 {
        for tenant in ["a", "b", "c"] {
            send(&mut client, request(tenant)).await.unwrap();
            assert_eq!(carried(&api).unwrap(), format!("Bearer {tenant}-1"));
        }
    }
    assert_eq!(issuers.all_fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_default_layer_takes_keys_from_the_extensions_as_well() {
    let api = api();
    let mut client = AuthLayer::keyed(
        |head| head.extensions().get::<Tenant>().map(Cow::Borrowed),
        |tenant: &Tenant| format!("fixed-{}", tenant.0),
    )
    .layer(api.service());
    let mut request = request("ignored");
    request.extensions_mut().insert(Tenant("x".to_owned()));
    send(&mut client, request).await.unwrap();
    assert_eq!(carried(&api).unwrap(), "Bearer fixed-x");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_is_an_error_or_passes_through() {
    let api = api();
    let issuers = Issuers::default();
    let layer = layer(issuers.cache());
    let without = || {
        Request::get("https://api.example.com/")
            .body(Body::default())
            .unwrap()
    };
    let error = send(&mut layer.layer(api.service()), without())
        .await
        .unwrap_err();
    assert_eq!(
        Error::find(&*error).unwrap().kind(),
        ErrorKind::InvalidConfig
    );
    assert!(error.to_string().contains("no key"), "{error}");
    assert_eq!(api.request_count(), 0);

    let layer = layer.on_missing_key(MissingKey::PassThrough);
    send(&mut layer.layer(api.service()), without())
        .await
        .unwrap();
    assert_eq!(carried(&api), None);

    // Two keys are none: whose credential would it be?
    let mut both = request("a");
    both.headers_mut().append(&TENANT, "b".parse().unwrap());
    send(&mut layer.layer(api.service()), both).await.unwrap();
    assert_eq!(carried(&api), None);
    assert!(layer.cache().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_may_name_its_key_itself() {
    let (issuers, api) = (Issuers::default(), api());
    let mut client = layer(issuers.cache()).layer(api.service());
    for _ in 0..2 {
        let mut request = request("a");
        let wish = AuthOverride::key("b".to_owned());
        assert_eq!(format!("{wish:?}"), "AuthOverride(key)");
        request.extensions_mut().insert(wish);
        send(&mut client, request).await.unwrap();
        assert_eq!(carried(&api).unwrap(), "Bearer b-1");
    }
    let mut wrong = request("a");
    wrong.extensions_mut().insert(AuthOverride::key(7_u32));
    let error = send(&mut client, wrong).await.unwrap_err();
    assert!(error.to_string().contains("another type"), "{error}");

    // A layer without keys has one credential for all.
    let mut single = AuthLayer::new("the-only-one").layer(api.service());
    for _ in 0..3 {
        let mut request = request("a");
        request.extensions_mut().insert(AuthOverride::key(7_u32));
        send(&mut single, request).await.unwrap();
        assert_eq!(carried(&api).unwrap(), "Bearer the-only-one");
    }
}

#[tokio::test(start_paused = true)]
async fn the_other_wishes_of_a_request_are_heard_too() {
    let (issuers, api) = (Issuers::default(), api());
    let mut client = layer(issuers.cache()).layer(api.service());
    send(&mut client, request("a")).await.unwrap();
    let with = |wish: AuthOverride| {
        let mut request = request("a");
        request.extensions_mut().insert(wish);
        request
    };
    let (skip, fresh) = (with(AuthOverride::skip()), with(AuthOverride::fresh()));
    let given = with(AuthOverride::token(Token::bearer("given")));
    send(&mut client, skip).await.unwrap();
    assert_eq!(carried(&api), None);
    send(&mut client, given).await.unwrap();
    assert_eq!(carried(&api).unwrap(), "Bearer given");
    tokio::time::sleep(seconds(2)).await;
    send(&mut client, fresh).await.unwrap();
    assert_eq!(carried(&api).unwrap(), "Bearer a-2");
}

#[tokio::test(start_paused = true)]
async fn the_origins_are_those_of_the_layer_or_else_of_each_source() {
    let (issuers, api) = (Issuers::default(), api());
    let layer = layer(issuers.cache());
    let plain = || {
        let mut request = request("a");
        *request.uri_mut() = "http://api.example.com/".parse().unwrap();
        request
    };
    send(&mut layer.layer(api.service()), plain())
        .await
        .unwrap();
    assert_eq!(carried(&api), None, "plain http, where no origin is named");
    send(&mut layer.layer(api.service()), request("a"))
        .await
        .unwrap();
    assert_eq!(carried(&api).unwrap(), "Bearer a-1");
    send(&mut layer.layer(api.service()), plain())
        .await
        .unwrap();
    assert_eq!(carried(&api), None, "the same with a credential at hand");

    let named = layer.clone().origins(["http://api.example.com"]).unwrap();
    send(&mut named.layer(api.service()), plain())
        .await
        .unwrap();
    assert_eq!(carried(&api).unwrap(), "Bearer a-1");
    let strict = named.on_foreign_origin(Foreign::Error);
    let error = send(&mut strict.layer(api.service()), request("a"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("api.example.com"), "{error}");
    assert!(layer.origins([""; 0]).is_err());
}

#[tokio::test(start_paused = true)]
async fn x15_a_key_whose_issuer_hangs_does_not_hold_up_another() {
    let issuers = Issuers::default();
    issuers.script("a", &ScriptedSource::from_rule(|_| Answer::hang()));
    let cache = issuers.cache();
    let hanging = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("a").await.map(drop) }
    });
    settle().await;
    let start = tokio::time::Instant::now();
    assert_eq!(text(&cache, "b").await, "b-1");
    assert_eq!(start.elapsed(), Duration::ZERO);
    let error = hanging.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn as_many_hanging_keys_as_fetches_may_run_hold_up_others_for_seconds_only() {
    let issuers = Issuers::default();
    let cache = KeyedCache::builder(issuers.make())
        .clock(TestClock::new())
        .max_fetches(4)
        .build();
    for n in 0..4 {
        let key = format!("hanging-{n}");
        issuers.script(&key, &ScriptedSource::from_rule(|_| Answer::hang()));
        let cache = cache.clone();
        tokio::spawn(async move { cache.get(&key).await.map(drop) });
    }
    settle().await;
    let start = tokio::time::Instant::now();
    assert_eq!(text(&cache, "b").await, "b-1");
    assert!(start.elapsed() <= seconds(4), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_more_fetches_run_at_once_than_may() {
    let busy = ScriptedSource::from_rule(|n| {
        let token = Token::bearer(format!("t{n}")).expires_in(seconds(3600));
        Answer::token(token).after(seconds(1))
    });
    let source = busy.clone();
    let cache = KeyedCache::builder(move |_: &u32| source.clone())
        .clock(TestClock::new())
        .max_fetches(8)
        .build();
    let callers: Vec<_> = (0..60_u32)
        .map(|key| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get(&key).await.map(drop) })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(busy.call_count(), 60);
    assert_eq!(busy.max_in_flight(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_of_each_key_share_one_fetch() {
    let issuers = Issuers::default();
    for key in ["a", "b"] {
        let answer = Answer::token(Token::bearer(key).expires_in(seconds(3600)));
        issuers.script(key, &ScriptedSource::new([answer.after(seconds(1))]));
    }
    let cache = issuers.cache();
    let callers: Vec<_> = (0..1000)
        .flat_map(|_| ["a", "b"])
        .map(|key| {
            let cache = cache.clone();
            tokio::spawn(async move { (key, text(&cache, key).await) })
        })
        .collect();
    for caller in callers {
        let (key, text) = caller.await.unwrap();
        assert_eq!(key, text);
    }
    assert_eq!(issuers.all_fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn fc_c29_keys_used_once_are_bounded_and_not_renewed_for_ever() {
    let issuers = Issuers::default();
    let cache = issuers.cache();
    for n in 0..10_000 {
        text(&cache, &format!("key-{n}")).await;
        assert!(cache.len() <= 1024);
    }
    assert!(cache.len() > 900, "{}", cache.len());
    assert_eq!(issuers.all_fetches(), 10_000);
    assert_eq!(cache.evictions(), 10_000 - cache.len() as u64);
    // What was used is renewed once. The renewed one is not used, so that was it.
    tokio::time::sleep(seconds(3600)).await;
    let fetches = issuers.all_fetches();
    assert!(fetches <= 11_024, "{fetches}");
    tokio::time::sleep(seconds(48 * 3600)).await;
    assert_eq!(issuers.all_fetches(), fetches);
    assert!(cache.is_empty(), "{} keys", cache.len());
}

#[tokio::test(start_paused = true)]
async fn a_key_in_use_stays_and_is_renewed_while_others_come_and_go() {
    let issuers = Issuers::default();
    let cache = KeyedCache::builder(issuers.make())
        .clock(TestClock::new())
        .max_keys(16)
        .build();
    for n in 0..1000 {
        text(&cache, "constant").await;
        text(&cache, &format!("key-{n}")).await;
        tokio::time::sleep(seconds(10)).await;
    }
    let renewals = issuers.source("constant").calls();
    assert!((4..=8).contains(&renewals.len()), "{}", renewals.len());
    assert!(
        renewals[1..]
            .iter()
            .all(|call| call.reason() == Reason::Scheduled),
        "it was never evicted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_nobody_uses_goes_and_begins_anew_when_it_comes_back() {
    let issuers = Issuers::default();
    let cache = KeyedCache::builder(issuers.make())
        .clock(TestClock::new())
        .max_idle(seconds(600))
        .build();
    text(&cache, "a").await;
    text(&cache, "held").await;
    let held = cache.tenant("held");
    for _ in 0..10 {
        tokio::time::sleep(seconds(60)).await;
        text(&cache, "b").await;
    }
    assert!(
        cache.health("a").is_some(),
        "ten minutes, but not yet noticed"
    );
    for _ in 0..2 {
        tokio::time::sleep(seconds(60)).await;
        text(&cache, "b").await;
    }
    assert!(cache.health("a").is_none());
    assert!(cache.health("b").is_some());
    assert!(cache.health("held").is_some(), "somebody holds on to it");
    drop(held);
    let before = issuers.fetches("a");
    assert_eq!(text(&cache, "a").await, format!("a-{}", before + 1));
    assert_eq!(issuers.source("a").last_call().reason(), Reason::First);
}

#[tokio::test(start_paused = true)]
async fn fc_i01_an_evicted_keys_flight_ends_silently_and_serves_who_waits() {
    let issuers = Issuers::default();
    let gate = Gate::new();
    let answer = Answer::token(Token::bearer("late").expires_in(seconds(3600)));
    let slow = ScriptedSource::new([answer.behind(&gate)]);
    issuers.script("slow", &slow);
    let cache = KeyedCache::builder(issuers.make())
        .clock(TestClock::new())
        .max_keys(2)
        .build();
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { text(&cache, "slow").await }
    });
    gate.reached().await;
    for key in ["a", "b", "c", "d"] {
        text(&cache, key).await;
        assert!(cache.health("slow").is_some(), "idle ones go first");
    }
    assert!(cache.remove("slow"));
    assert!(!cache.remove("slow"));
    settle().await;
    assert_eq!(slow.in_flight(), 1, "a fetch is not dropped");
    gate.open();
    assert_eq!(waiting.await.unwrap(), "late");
    settle().await;
    assert_eq!(slow.in_flight(), 0);
    assert!(cache.health("slow").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_nobody_waits_for_outlives_its_key() {
    let issuers = Issuers::default();
    let gate = Gate::new();
    let answer = Answer::token(Token::bearer("late").expires_in(seconds(3600)));
    let slow = ScriptedSource::new([answer.behind(&gate)]);
    issuers.script("slow", &slow);
    let cache = issuers.cache();
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { text(&cache, "slow").await }
    });
    gate.reached().await;
    waiting.abort();
    cache.remove("slow");
    settle().await;
    assert_eq!(
        slow.in_flight(),
        1,
        "what it does at the issuer is half done"
    );
    gate.open();
    settle().await;
    assert_eq!(slow.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn more_keys_in_use_than_are_kept_are_served_all_the_same_and_it_is_said() {
    let issuers = Issuers::default();
    let cache = KeyedCache::builder(issuers.make())
        .clock(TestClock::new())
        .max_keys(2)
        .build();
    let logs = LeakGuard::new();
    let recording = logs.record_logs();
    let held: Vec<_> = ["a", "b", "c"].map(|key| cache.tenant(key)).into();
    for one in &held {
        one.ready().await.unwrap();
    }
    drop(recording);
    assert_eq!(cache.len(), 2);
    assert!(cache.health("a").is_none(), "the oldest had to go");
    let said = logs.logs().join("\n");
    assert!(said.contains("more keys are in use"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn fc_c30_churn_of_keys_leaves_neither_tasks_nor_keys_behind() {
    let cache = KeyedCache::builder(|key: &u32| format!("token-{key}"))
        .clock(TestClock::new())
        .max_keys(256)
        .build();
    let metrics = tokio::runtime::Handle::current().metrics();
    let mut most = 0;
    for key in 0..30_000 {
        cache.get(&key).await.unwrap();
        most = most.max(metrics.num_alive_tasks());
        assert!(cache.len() <= 256);
    }
    assert!(most <= 2, "{most} tasks");
    cache.shutdown().await;
    settle().await;
    assert_eq!(metrics.num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn fc_i03_nobody_is_left_waiting_after_a_storm() {
    let issuers = Issuers::default();
    let gate = Gate::new();
    let answer = Answer::token(Token::bearer("t").expires_in(seconds(3600)));
    issuers.script("a", &ScriptedSource::new([answer.behind(&gate)]));
    let cache = issuers.cache();
    let storm: Vec<_> = (0..1024)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get("a").await.map(drop) })
        })
        .collect();
    gate.reached().await;
    settle().await;
    let error = cache.get("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    for caller in &storm {
        caller.abort();
    }
    settle().await;
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("a").await.map(drop) }
    });
    settle().await;
    gate.open();
    waiting.await.unwrap().unwrap();
}

/// An API that refuses what this tenant was given first.
fn api_that_refuses(refused: &'static str) -> FakeEndpoint {
    let api = FakeEndpoint::new();
    api.always(move |request, _| {
        let is_refused = request
            .headers()
            .get(AUTHORIZATION)
            .is_some_and(|value| value == refused);
        Reply::status(if is_refused { 401 } else { 200 })
    });
    api
}

#[tokio::test(start_paused = true)]
async fn what_one_tenants_api_refuses_is_no_concern_of_another() {
    let (issuers, api) = (Issuers::default(), api_that_refuses("Bearer a-1"));
    let layer = layer(issuers.cache());
    let mut client = layer.layer(api.service());
    send(&mut client, request("b")).await.unwrap();
    let refused = send(&mut client, request("a")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let receipt = refused.extensions().get::<Receipt>().unwrap();
    assert!(receipt.is_refused());
    assert_eq!(receipt.generation(), 1);
    assert_eq!(receipt.source_name(), "scripted source");
    assert!(receipt.age().is_some());
    assert!(receipt.renewed().await);
    assert_eq!(issuers.fetches("a"), 2);
    assert_eq!(issuers.source("a").last_call().reason(), Reason::Rejected);
    assert_eq!(issuers.fetches("b"), 1);
    send(&mut client, request("a")).await.unwrap();
    assert_eq!(carried(&api).unwrap(), "Bearer a-2");
    assert_eq!(layer.cache().health("b").unwrap().generation(), 1);
    assert_eq!(
        layer.cache().health("b").unwrap().state(),
        HealthState::Ready
    );
}

#[tokio::test(start_paused = true)]
async fn two_layers_share_a_cache_and_each_has_its_own_idea_of_a_refusal() {
    let issuers = Issuers::default();
    let api = FakeEndpoint::new();
    api.always(|_, _| Reply::status(403));
    let cache = issuers.cache();
    let mut lenient = layer(cache.clone()).layer(api.service());
    let mut strict = layer(cache)
        .refused(|status, _| status == StatusCode::FORBIDDEN)
        .layer(api.service());
    let response = send(&mut lenient, request("a")).await.unwrap();
    assert!(response.extensions().get::<Receipt>().is_none());
    let response = send(&mut strict, request("a")).await.unwrap();
    assert!(response.extensions().get::<Receipt>().is_some());
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(issuers.fetches("a"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_of_a_key_that_has_gone_does_nothing() {
    let issuers = Issuers::default();
    let gate = Gate::new();
    let api = FakeEndpoint::new();
    api.reply(Reply::status(401).behind(&gate));
    let layer = layer(issuers.cache());
    let client = layer.layer(api.service());
    text(layer.cache(), "a").await;
    let late = tokio::spawn(client.clone().oneshot(request("a")));
    gate.reached().await;
    layer.cache().remove("a");
    text(layer.cache(), "a").await;
    text(layer.cache(), "b").await;
    gate.open();
    let response = late.await.unwrap().unwrap();
    let receipt = response.extensions().get::<Receipt>().unwrap();
    assert!(receipt.is_refused());
    assert!(!receipt.renewed().await, "there is nobody to renew it");
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(issuers.fetches("a"), 2);
    assert_eq!(issuers.fetches("b"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_layer_gets_the_next_credential_of_the_same_key() {
    let (issuers, api) = (Issuers::default(), api_that_refuses("Bearer a-1"));
    let mut client = tower::ServiceBuilder::new()
        .retry(RetryOnUnauthorized::new())
        .layer(layer(issuers.cache()))
        .service(api.service());
    let response = send(&mut client, request("a")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(carried(&api).unwrap(), "Bearer a-2");
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Account {
    tenant: String,
    audience: String,
    scopes: BTreeSet<String>,
}

#[tokio::test(start_paused = true)]
async fn keys_that_differ_in_separators_alone_do_not_collide_and_order_is_up_to_their_type() {
    let made = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&made);
    let cache = KeyedCache::builder(move |_: &Account| {
        let mut made = counter.lock().unwrap();
        *made += 1;
        format!("token-{made}")
    })
    .clock(TestClock::new())
    .build();
    let account = |tenant: &str, audience: &str, scopes: &[&str]| Account {
        tenant: tenant.to_owned(),
        audience: audience.to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
    };
    let mut seen = HashSet::new();
    for (tenant, audience, scopes) in [
        ("a", "b", ["x", "y"].as_slice()),
        ("ab", "", &["x", "y"]),
        ("", "ab", &["x", "y"]),
        ("a:b", "", &["x", "y"]),
        ("a", ":b", &["x", "y"]),
        ("a", "b", &["x y"]),
        ("a", "b", &["x,y"]),
        ("a", "b", &["xy"]),
        ("a", "b", &["x"]),
        ("a", "bx", &["y"]),
        ("b", "a", &["x", "y"]),
        ("A", "b", &["x", "y"]),
    ] {
        let key = account(tenant, audience, scopes);
        let token = cache.get(&key).await.unwrap();
        assert!(seen.insert(token.secret().expose().to_owned()), "{key:?}");
    }
    let in_another_order = account("a", "b", &["y", "x"]);
    let token = cache.get(&in_another_order).await.unwrap();
    assert_eq!(token.secret().expose(), "token-1", "a set has no order");
}

proptest! {
    #[test]
    fn fc_h11_no_two_keys_share_a_credential(
        keys in prop::collection::hash_set(("[ab:|,]{0,3}", "[ab:|,]{0,3}", any::<u8>()), 1..40),
        rounds in 1..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let cache = KeyedCache::builder(|key: &(String, String, u8)| format!("{key:?}").into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
                .clock(TestClock::new())
                .max_keys(8)
                .build();
            let mut owners = HashMap::new();
            for _ in 0..rounds {
                for key in &keys {
                    let token = cache.get(key).await.unwrap();
                    let owner = owners.entry(token.secret().expose().to_owned()).or_insert(key);
                    assert_eq!(*owner, key);
                }
            }
            assert_eq!(owners.len(), keys.len());
        });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

#[test]
fn it_moves_to_another_runtime_when_the_first_is_dropped_in_the_middle_of_a_fetch() {
    let issuers = Issuers::default();
    let answer = || Answer::token(Token::bearer("second").expires_in(seconds(3600)));
    issuers.script("a", &ScriptedSource::new([Answer::hang(), answer()]));
    let cache = KeyedCache::builder(issuers.make()).build();
    let first = runtime();
    first.block_on(async {
        assert_eq!(text(&cache, "b").await, "b-1");
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("a").await.map(drop) });
        settle().await;
    });
    drop(first);
    assert_eq!(issuers.source("a").in_flight(), 0);
    let second = runtime();
    second.block_on(async {
        assert_eq!(text(&cache, "b").await, "b-1");
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(text(&cache, "a").await, "second");
    });
}

#[test]
fn a_runtime_that_is_not_polled_holds_up_nobody_for_long() {
    let issuers = Issuers::default();
    let cache = KeyedCache::builder(issuers.make()).build();
    let first = runtime();
    first.block_on(async {
        assert_eq!(text(&cache, "a").await, "a-1");
    });
    // It is still there, with the scheduler on it, but nothing drives it.
    runtime().block_on(async {
        let start = tokio::time::Instant::now();
        assert_eq!(text(&cache, "b").await, "b-1");
        assert!(start.elapsed() <= seconds(3), "{:?}", start.elapsed());
    });
    drop(first);
}

#[test]
fn without_a_runtime_it_says_so() {
    let cache = KeyedCache::new(|key: &str| key.to_owned());
    let mut get = std::pin::pin!(cache.get("a"));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = get.as_mut().poll(&mut cx) else {
        panic!("it cannot wait for anything");
    };
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("runtime"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn fc_c12_the_task_ends_with_the_last_handle_and_so_do_its_fetches() {
    let issuers = Issuers::default();
    let hanging = ScriptedSource::from_rule(|_| Answer::hang());
    issuers.script("a", &hanging);
    let cache = issuers.cache();
    let metrics = tokio::runtime::Handle::current().metrics();
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get("a").await.map(drop) }
    });
    settle().await;
    assert_eq!(hanging.in_flight(), 1);
    waiting.abort();
    drop(cache);
    settle().await;
    assert_eq!(hanging.in_flight(), 0);
    assert_eq!(metrics.num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_shutdown_what_is_there_serves_and_nothing_is_fetched() {
    let issuers = Issuers::default();
    let cache = issuers.cache();
    text(&cache, "a").await;
    cache.shutdown().await;
    cache.shutdown().await;
    assert_eq!(text(&cache, "a").await, "a-1");
    let error = cache.get("b").await.unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
    tokio::time::sleep(seconds(7200)).await;
    assert!(cache.get("a").await.is_err());
    assert_eq!(issuers.all_fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_key_can_be_shut_down_alone() {
    let issuers = Issuers::default();
    let cache = issuers.cache();
    let one = cache.tenant("a");
    one.ready().await.unwrap();
    one.shutdown().await;
    assert!(one.refresh().await.is_err());
    assert_eq!(text(&cache, "b").await, "b-1");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_harms_its_own_key_only() {
    let issuers = Issuers::default();
    let source = ScriptedSource::new([Answer::panic("boom"), Answer::error(ErrorKind::Denied)]);
    issuers.script("a", &source.then_repeat_last());
    let cache = issuers.cache();
    assert!(cache.get("a").await.is_err());
    assert_eq!(text(&cache, "b").await, "b-1");
}

#[tokio::test(start_paused = true)]
async fn fc_g12_no_key_is_in_logs_errors_or_debug_output() {
    let guard = LeakGuard::new();
    let (good, bad) = (Canary::new("good-key"), Canary::new("bad-key"));
    guard.watch([&good, &bad]);
    let recording = guard.record_logs();

    let make = {
        let bad = bad.text().to_owned();
        move |key: &str| match key == bad {
            true => ScriptedSource::from_rule(|_| Answer::error(ErrorKind::Denied)),
            false => tower_auth_testing::fresh_tokens(seconds(600)),
        }
    };
    let cache = KeyedCache::builder(make).clock(TestClock::new()).build();
    let api = FakeEndpoint::new();
    api.always(|_, _| Reply::status(401));
    let layer = layer(cache.clone());
    let mut client = layer.layer(api.service());
    let error = send(&mut client, request(bad.text())).await.unwrap_err();
    guard.error("error", &*error);
    let response = send(&mut client, request(good.text())).await.unwrap();
    guard.value("receipt", response.extensions().get::<Receipt>().unwrap());
    tokio::time::sleep(seconds(5)).await;
    let mut wish = request(good.text());
    wish.extensions_mut()
        .insert(AuthOverride::key(good.text().to_owned()));
    guard.value("wish", wish.extensions().get::<AuthOverride>().unwrap());
    guard.value("head", &RequestHead::of(&wish));
    guard.value("cache", &cache);
    guard.value("layer", &layer);
    guard.value("one", &cache.tenant(good.text()));
    guard.value("health", &cache.health(good.text()));
    guard.value("id", &cache.key_id(good.text()));
    let id = cache.key_id(good.text()).to_string();
    assert_ne!(id, cache.key_id(bad.text()).to_string());
    cache.shutdown().await;
    drop(recording);

    guard.assert_clean();
    let logs = guard.logs().join("\n");
    assert!(
        logs.contains(&id),
        "events name the key by its hash: {logs}"
    );
}

#[test]
fn threads_that_use_admit_and_remove_keys_at_once_get_each_its_own() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let api = api();
        let cache = KeyedCache::builder(|key: &str| format!("of-{key}"))
            .max_keys(24)
            .max_fetches(3)
            .build();
        let client = layer(cache.clone()).layer(api.service());
        let tasks: Vec<_> = (0..8_usize)
            .map(|task| {
                let (mut client, cache) = (client.clone(), cache.clone());
                tokio::spawn(async move {
                    for round in 0..300 {
                        let key = format!("key-{}", (task * 7 + round * 5) % 40);
                        if round % 11 == 0 {
                            cache.remove(&key);
                        }
                        assert_eq!(text(&cache, &key).await, format!("of-{key}"));
                        send(&mut client, request(&key)).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            tokio::time::timeout(seconds(60), task)
                .await
                .unwrap()
                .unwrap();
        }
        for request in api.requests() {
            let key = request.headers()[TENANT].to_str().unwrap().to_owned();
            let stamped = request.headers()[AUTHORIZATION].to_str().unwrap();
            assert_eq!(stamped, format!("Bearer of-{key}"));
        }
        assert!(cache.len() <= 24);
        cache.shutdown().await;
    });
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_was_replaced_and_comes_back_changes_nothing() {
    let source = ScriptedSource::from_rule(|n| {
        let token = Token::bearer(format!("t{n}")).expires_in(seconds(3600));
        Answer::token(token).after(seconds(5))
    });
    let fetched = source.clone();
    let cache = KeyedCache::builder(move |_: &str| fetched.clone()).build();
    let first = std::thread::spawn({
        let cache = cache.clone();
        move || {
            let first = runtime();
            first.block_on(async {
                tokio::spawn(async move { cache.get("a").await.map(drop) });
                settle().await;
            });
            first
        }
    })
    .join()
    .unwrap();
    assert_eq!(source.in_flight(), 1);
    // Nobody polls the first runtime, so this one starts a scheduler of its own.
    let credential = cache.get("a").await.unwrap();
    assert_eq!(cache.health("a").unwrap().generation(), 1);
    std::thread::spawn(move || {
        first.block_on(async { tokio::time::sleep(seconds(60)).await });
        drop(first);
    })
    .join()
    .unwrap();
    let again = cache.get("a").await.unwrap();
    assert_eq!(again.secret().expose(), credential.secret().expose());
    assert_eq!(cache.health("a").unwrap().generation(), 1);
}
