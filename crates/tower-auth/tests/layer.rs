//! The layer on a request's way: what it stamps, what it leaves alone, how it waits and what it passes on.
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a function of the tests fails the test"
)]

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::limit::ConcurrencyLimit;
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_auth::policy::RefreshOptions;
use tower_auth::{
    Auth, AuthLayer, AuthOverride, BoxError, Error, ErrorKind, Expiry, Fingerprint, HeaderMode,
    Headers, OnExisting, Placement, Reason, SendWithout, Stamp, StampContext, Stamped, Token,
    TokenCache, TokenSource, Unavailable,
};
use tower_auth_testing::{
    Answer, Canary, FakeEndpoint, FakeService, Gate, LeakGuard, Reply, ScriptedSource, TestClock,
    fresh_tokens,
};

type Body = Full<Bytes>;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

fn request() -> Request<Body> {
    Request::get("https://api.example.com/v1")
        .body(Body::default())
        .unwrap()
}

fn request_with(name: HeaderName, values: &[&'static str]) -> Request<Body> {
    let mut request = request();
    for value in values {
        request
            .headers_mut()
            .append(&name, HeaderValue::from_static(value));
    }
    request
}

fn api() -> FakeEndpoint {
    let api = FakeEndpoint::new();
    api.always(|_, _| Reply::status(200));
    api
}

/// What the last request carried in this header.
fn carried(api: &FakeEndpoint, name: &HeaderName) -> Vec<String> {
    api.last_request()
        .headers()
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

fn lasting(text: &str) -> Answer {
    Answer::token(Token::bearer(text).expires_in(Duration::from_secs(3600)))
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets every other task run until nothing moves, without letting time pass.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

async fn send<S>(service: &mut S, request: Request<Body>) -> Result<S::Response, S::Error>
where
    S: Service<Request<Body>>,
{
    service.ready().await?.call(request).await
}

/// A request that has been handed over and not been waited for.
async fn begin<S>(service: &mut S) -> S::Future
where
    S: Service<Request<Body>, Error: std::fmt::Debug>,
{
    service.ready().await.unwrap().call(request())
}

/// What happens without waiting for something that the test holds back. A test that hangs tells nothing.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(100), future)
        .await
        .unwrap()
}

/// A layer whose credential is there already, in front of the fake API.
async fn warm(
    layer: AuthLayer<ScriptedSource>,
    api: &FakeEndpoint,
) -> Auth<FakeService, ScriptedSource> {
    layer.cache().ready().await.unwrap();
    layer.layer(api.service())
}

#[tokio::test(start_paused = true)]
async fn each_request_is_stamped_from_the_first_on_with_a_sensitive_value() {
    let api = api();
    let source = ScriptedSource::new([lasting("abc")]);
    let mut client = AuthLayer::new(source.clone()).layer(api.service());
    for _ in 0..3 {
        send(&mut client, request()).await.unwrap();
        assert_eq!(carried(&api, &AUTHORIZATION), ["Bearer abc"]);
        assert!(api.last_request().headers()[AUTHORIZATION].is_sensitive());
    }
    assert_eq!(source.call_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_before_the_first_request() {
    let source = fresh_tokens(Duration::from_secs(600));
    let mut client = AuthLayer::new(source.clone()).layer(api().service());
    let ready = ServiceExt::<Request<Body>>::ready(&mut client).await;
    assert!(ready.is_ok());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(source.call_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_the_inner_services_alone() {
    let (mut mock, mut handle) = tower_test::mock::spawn_with(|mock| {
        // A source that never answers: if readiness waited for it, it would not come.
        AuthLayer::new(ScriptedSource::new([Answer::hang()])).layer(mock)
    });
    let _: &mut tower_test::mock::Handle<Request<()>, Response<()>> = &mut handle;
    handle.allow(0);
    tokio_test::assert_pending!(mock.poll_ready());
    handle.allow(1);
    tokio_test::assert_ready_ok!(mock.poll_ready());
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_inner_services_readiness_is_passed_on() {
    let (mut mock, handle) = tower_test::mock::spawn_with(|mock| AuthLayer::new("t").layer(mock));
    let mut handle: tower_test::mock::Handle<Request<()>, Response<()>> = handle;
    handle.send_error("down");
    let error = tokio_test::assert_ready_err!(mock.poll_ready());
    assert_eq!(error.to_string(), "down");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_inner_service_is_passed_on_as_it_is() {
    let api = FakeEndpoint::new();
    api.reply(Reply::reset());
    let mut client = warm(AuthLayer::new(ScriptedSource::new([lasting("abc")])), &api).await;
    let error = send(&mut client, request()).await.unwrap_err();
    assert!(error.is::<std::io::Error>(), "{error:?}");
    assert!(Error::find(&*error).is_none());
}

#[tokio::test(start_paused = true)]
async fn no_permit_is_held_while_a_request_waits_for_its_credential() {
    let api = api();
    let gate = Gate::new();
    let source = ScriptedSource::new([lasting("abc").behind(&gate)]);
    let mut client = AuthLayer::new(source).layer(ConcurrencyLimit::new(api.service(), 1));

    let mut other = client.clone();
    let waiting = tokio::spawn(begin(&mut client).await);
    gate.reached().await;

    let mut opted_out = request();
    opted_out.extensions_mut().insert(AuthOverride::skip());
    soon(send(&mut other, opted_out)).await.unwrap();
    assert_eq!(
        api.request_count(),
        1,
        "it went through the one permit there is"
    );
    assert!(carried(&api, &AUTHORIZATION).is_empty());

    drop(client);
    gate.open();
    waiting.await.unwrap().unwrap();
    assert_eq!(carried(&api, &AUTHORIZATION), ["Bearer abc"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_still_obeys_the_limit_when_it_is_sent() {
    let (mock, mut handle) = tower_test::mock::pair::<Request<()>, Response<()>>();
    let mut client = AuthLayer::new("t").layer(ConcurrencyLimit::new(mock, 1));
    let mut first = pin!(client.ready().await.unwrap().call(https()));
    let mut second = pin!(client.ready().await.unwrap().call(https()));
    for _ in 0..50 {
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    let (_, respond) = handle.next_request().await.unwrap();
    assert!(
        poll_once(pin!(handle.next_request())).is_pending(),
        "one at a time"
    );
    respond.send_response(Response::new(()));
    first.await.unwrap();
    let mut next = pin!(handle.next_request());
    assert!(poll_once(second.as_mut()).is_pending());
    let Poll::Ready(Some((_, respond))) = poll_once(next.as_mut()) else {
        panic!("the permit has gone to the other")
    };
    respond.send_response(Response::new(()));
    second.await.unwrap();
}

fn https() -> Request<()> {
    Request::get("https://api.example.com/").body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn fc_c27_no_permit_is_kept_by_a_request_that_is_answered_without_being_sent() {
    let api = api();
    let layer =
        AuthLayer::new(ScriptedSource::new([Answer::error(ErrorKind::Denied)]).then_repeat_last())
            .on_unavailable(|_: &Error| Unavailable::Fail);
    let limited = ConcurrencyLimit::new(api.service(), 1);
    let mut client = layer.layer(limited);
    let mut other = client.clone();
    assert!(send(&mut client, request()).await.is_err());

    let mut taken = request();
    taken
        .extensions_mut()
        .insert(AuthOverride::token(Token::bearer("bad token")));
    assert!(send(&mut client, taken).await.is_err());
    let mut opted_out = request();
    opted_out.extensions_mut().insert(AuthOverride::skip());
    soon(send(&mut other, opted_out)).await.unwrap();
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn dropping_one_waiter_takes_nothing_from_the_others() {
    let api = api();
    let gate = Gate::new();
    let source = ScriptedSource::new([lasting("abc").behind(&gate)]);
    let mut client = AuthLayer::new(source.clone()).layer(api.service());
    let first = begin(&mut client).await;
    let mut second = begin(&mut client).await;
    let mut first = Box::pin(first);
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(Pin::new(&mut second)).is_pending());
    gate.reached().await;
    drop(first);
    gate.open();
    second.await.unwrap();
    assert_eq!((source.call_count(), api.request_count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_cold_requests_share_one_fetch() {
    let api = api();
    let source = ScriptedSource::new([lasting("abc").after(Duration::from_secs(1))]);
    let client = AuthLayer::new(source.clone()).layer(api.service());
    let tasks: Vec<_> = (0..1000)
        .map(|_| tokio::spawn(client.clone().oneshot(request())))
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!((source.call_count(), api.request_count()), (1, 1000));
}

#[tokio::test(start_paused = true)]
async fn fc_f04_the_callers_own_credential_is_kept_replaced_or_an_error() {
    let api = api();
    let layer = || AuthLayer::new(ScriptedSource::new([lasting("abc")]));
    let own: &[&[&str]] = &[&["Basic x"], &["Basic x", "Basic y"], &[""]];
    for own in own {
        let own = *own;
        let send_own = || request_with(AUTHORIZATION, own);
        let mut keeping = warm(layer(), &api).await;
        send(&mut keeping, send_own()).await.unwrap();
        assert_eq!(carried(&api, &AUTHORIZATION), own);

        let mut replacing = warm(layer().on_existing(OnExisting::Replace), &api).await;
        send(&mut replacing, send_own()).await.unwrap();
        assert_eq!(
            carried(&api, &AUTHORIZATION),
            ["Bearer abc"],
            "exactly one value"
        );

        let before = api.request_count();
        let mut refusing = warm(layer().on_existing(OnExisting::Error), &api).await;
        let error = send(&mut refusing, send_own()).await.unwrap_err();
        let error = Error::find(&*error).unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(
            error.to_string().contains("carries a credential already"),
            "{error}"
        );
        assert_eq!(api.request_count(), before, "nothing was sent");
    }
}

#[tokio::test(start_paused = true)]
async fn fc_f05_only_the_place_of_the_credential_counts_as_taken() {
    let api = api();
    let mut client = warm(AuthLayer::new(ScriptedSource::new([lasting("abc")])), &api).await;
    send(&mut client, request_with(API_KEY, &["k", "l"]))
        .await
        .unwrap();
    assert_eq!(carried(&api, &AUTHORIZATION), ["Bearer abc"]);
    assert_eq!(carried(&api, &API_KEY), ["k", "l"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_its_own_credential_does_not_wait_for_ours() {
    let api = api();
    let clock = TestClock::new();
    let source = ScriptedSource::new([lasting("abc"), Answer::hang()]);
    let cache = TokenCache::builder(source).clock(clock).build();
    let mut client = warm(AuthLayer::from_cache(cache.clone()), &api).await;
    api.reply(Reply::status(401));
    send(&mut client, request()).await.unwrap();
    // Refused, and its successor never comes.
    let start = tokio::time::Instant::now();
    send(&mut client, request_with(AUTHORIZATION, &["Basic x"]))
        .await
        .unwrap();
    assert_eq!(carried(&api, &AUTHORIZATION), ["Basic x"]);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn fc_c25_a_stamp_of_ours_that_comes_back_is_replaced_by_the_present_one() {
    let api = api();
    let clock = TestClock::new();
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let cache = TokenCache::builder(source).clock(clock).build();
    // Whatever is set for the caller's own credentials, this is not one.
    for existing in [OnExisting::Keep, OnExisting::Error] {
        let mut client = warm(
            AuthLayer::from_cache(cache.clone()).on_existing(existing),
            &api,
        )
        .await;
        let mut again = request();
        again
            .headers_mut()
            .insert(AUTHORIZATION, HeaderValue::from_static("Bearer one"));
        send(&mut client, again.clone()).await.unwrap();
        if existing == OnExisting::Keep {
            cache.refresh().await.unwrap();
        }
        send(&mut client, again).await.unwrap();
        assert_eq!(carried(&api, &AUTHORIZATION), ["Bearer two"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_of_a_list_header_is_added_and_not_added_twice() {
    let api = api();
    let beta = HeaderName::from_static("anthropic-beta");
    let token = Token::bearer("abc")
        .expires_in(Duration::from_secs(3600))
        .with_header(beta.clone(), "oauth", HeaderMode::MergeList);
    let mut client = warm(
        AuthLayer::new(ScriptedSource::new([Answer::token(token)])),
        &api,
    )
    .await;
    for (own, expected) in [
        (&["tools"][..], &["tools, oauth"][..]),
        (&["oauth,tools"], &["oauth,tools"]),
        (&[], &["oauth"]),
    ] {
        send(&mut client, request_with(beta.clone(), own))
            .await
            .unwrap();
        assert_eq!(carried(&api, &beta), expected);
    }
    let mut own = request_with(beta.clone(), &["tools"]);
    own.headers_mut()
        .insert(AUTHORIZATION, HeaderValue::from_static("Basic x"));
    send(&mut client, own).await.unwrap();
    assert_eq!(
        carried(&api, &beta),
        ["tools"],
        "it goes with our credential alone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_can_opt_out_and_then_waits_for_nothing() {
    let api = api();
    let source = ScriptedSource::new([Answer::hang()]);
    let mut client = AuthLayer::new(source.clone()).layer(api.service());
    let mut request = request();
    request.extensions_mut().insert(AuthOverride::skip());
    send(&mut client, request).await.unwrap();
    assert!(carried(&api, &AUTHORIZATION).is_empty());
    assert_eq!(source.call_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_can_ask_for_a_fresh_credential_for_everybody() {
    let api = api();
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let mut client = warm(AuthLayer::new(source.clone()), &api).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut fresh = request();
    fresh.extensions_mut().insert(AuthOverride::fresh());
    for request in [fresh, request()] {
        send(&mut client, request).await.unwrap();
        assert_eq!(carried(&api, &AUTHORIZATION), ["Bearer two"]);
    }
    assert_eq!(source.call_count(), 2);
    assert_eq!(source.last_call().reason(), Reason::Forced);
}

#[tokio::test(start_paused = true)]
async fn a_request_can_bring_its_own_token_and_the_cache_is_not_asked() {
    let api = api();
    let source = ScriptedSource::new([Answer::hang()]);
    let mut client = AuthLayer::new(source.clone()).layer(api.service());
    let mut own = request();
    own.extensions_mut()
        .insert(AuthOverride::token(Token::in_header(API_KEY, "mine")));
    send(&mut client, own).await.unwrap();
    assert_eq!(carried(&api, &API_KEY), ["mine"]);
    assert_eq!(source.call_count(), 0);

    let mut bad = request();
    bad.extensions_mut()
        .insert(AuthOverride::token(Token::bearer("canary\n")));
    let error = send(&mut client, bad).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "credential of the request: the token for the authorization header holds a line break"
    );
    assert_eq!(api.request_count(), 1);
}

struct Keys;

struct Pair(&'static str);

impl tower_auth::Credential for Pair {
    fn expiry(&self) -> Expiry {
        Expiry::Never
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.as_bytes())
    }
}

impl TokenSource<Pair> for Keys {
    async fn fetch(&self, _: &tower_auth::Fetch<Pair>) -> Result<Pair, Error> {
        Ok(Pair("shared"))
    }

    fn describe(&self) -> tower_auth::Description {
        tower_auth::Description::new("keys")
    }
}

/// A stamp over another credential than a token, that needs the time and can fail for one request.
#[derive(Clone)]
struct Signature;

impl Stamp for Signature {
    type Credential = Pair;
    type Prepared = &'static str;

    fn prepare(&self, pair: &Pair) -> Result<&'static str, Error> {
        Ok(pair.0)
    }

    fn stamp<B>(
        &self,
        key: &&'static str,
        request: &mut Request<B>,
        cx: &StampContext<'_>,
    ) -> Result<Stamped, Error> {
        if request.uri().path() == "/unsignable" {
            return Err(Error::new(ErrorKind::Malformed, "no signature for this"));
        }
        if request.headers().contains_key(API_KEY) {
            return Ok(Stamped::Occupied);
        }
        let since = cx
            .now()
            .duration_since(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        let value = format!("{key}-{}", since.as_secs() > 0);
        request
            .headers_mut()
            .insert(API_KEY, value.parse().unwrap());
        Ok(Stamped::Done)
    }

    fn present<'r>(
        &self,
        _: &&'static str,
        headers: &'r http::HeaderMap,
    ) -> Option<&'r HeaderValue> {
        headers.get(API_KEY)
    }

    fn clear(&self, _: &&'static str, headers: &mut http::HeaderMap) {
        headers.remove(API_KEY);
    }
}

#[tokio::test(start_paused = true)]
async fn another_stamp_over_another_credential_works_the_same() {
    let api = api();
    let mut client = AuthLayer::with_stamp(Keys, Signature).layer(api.service());
    for _ in 0..3 {
        send(&mut client, request()).await.unwrap();
        assert_eq!(carried(&api, &API_KEY), ["shared-true"]);
    }
    let mut own = request();
    own.extensions_mut()
        .insert(AuthOverride::credential(Pair("own")));
    send(&mut client, own).await.unwrap();
    assert_eq!(carried(&api, &API_KEY), ["own-true"]);

    let sent = api.request_count();
    let mut wrong = request();
    wrong
        .extensions_mut()
        .insert(AuthOverride::token(Token::bearer("t")));
    let error = send(&mut client, wrong).await.unwrap_err();
    assert_eq!(
        Error::find(&*error).unwrap().kind(),
        ErrorKind::InvalidConfig
    );

    let unsignable = Request::get("https://api.example.com/unsignable")
        .body(Body::default())
        .unwrap();
    let error = send(&mut client, unsignable).await.unwrap_err();
    assert_eq!(error.to_string(), "keys: no signature for this");
    assert_eq!(api.request_count(), sent);
}

#[tokio::test(start_paused = true)]
async fn without_a_credential_the_caller_gets_the_sources_error_by_default() {
    let api = api();
    let refused = Error::new(ErrorKind::Denied, "no such client").with_source_name("the issuer");
    let mut client =
        AuthLayer::new(ScriptedSource::new([Answer::failing(refused)])).layer(api.service());
    let error = send(&mut client, request()).await.unwrap_err();
    let error = Error::find(&*error).unwrap();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(error.to_string(), "the issuer: no such client");
    assert_eq!(api.request_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_credential_a_request_can_be_sent_all_the_same() {
    let api = api();
    let mut client =
        AuthLayer::new(ScriptedSource::new([Answer::error(ErrorKind::Denied)]).then_repeat_last())
            .on_unavailable(SendWithout)
            .layer(api.service());
    send(&mut client, request()).await.unwrap();
    assert!(carried(&api, &AUTHORIZATION).is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_credential_a_response_of_the_users_making_can_be_given() {
    let sent = service_fn(|_: Request<Body>| async {
        Ok::<Response<&'static str>, BoxError>(Response::new("sent"))
    });
    let layer = AuthLayer::new(
        ScriptedSource::new([Answer::error(ErrorKind::Unavailable)]).then_repeat_last(),
    )
    .on_unavailable(|error: &Error| match error.kind() {
        ErrorKind::Unavailable => {
            let mut response = Response::new("later");
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            Unavailable::Respond(response)
        }
        _ => Unavailable::Fail,
    });
    let response = layer.layer(sent).oneshot(request()).await.unwrap();
    assert_eq!(
        (response.status(), *response.body()),
        (StatusCode::SERVICE_UNAVAILABLE, "later")
    );
}

#[tokio::test(start_paused = true)]
async fn fc_g06_a_token_that_cannot_be_sent_fails_by_name_and_is_not_shown() {
    for (bad, flaw) in [
        ("-line\nbreak", "line break"),
        ("-nul\0", "NUL"),
        ("-umlaut-ä", "outside of ASCII"),
        ("-two words", "no bearer token"),
    ] {
        let canary = Canary::new("bad-token");
        let guard = LeakGuard::new();
        guard.watch([&canary]);
        let logs = guard.record_logs();
        let api = api();
        let token = Token::bearer(format!("{}{bad}", canary.text()));
        let source = ScriptedSource::new([Answer::token(token)]).then_repeat_last();
        let layer = AuthLayer::new(source);
        guard.value("layer", &layer);
        let mut client = layer.layer(api.service());
        let error = send(&mut client, request()).await.unwrap_err();
        let found = Error::find(&*error).unwrap();
        assert_eq!(found.kind(), ErrorKind::Malformed);
        assert!(found.source_name().is_some(), "{found}");
        assert!(found.to_string().contains(flaw), "{found}");
        assert_eq!(api.request_count(), 0);
        guard.error("error", &*error);
        guard.value("service", &client);
        drop(logs);
        guard.assert_clean();
    }
    for bad in ["", "  ", &"x".repeat(100 * 1024)] {
        let api = api();
        let source = ScriptedSource::new([Answer::token(Token::bearer(bad))]).then_repeat_last();
        let mut client = AuthLayer::new(source).layer(api.service());
        let error = send(&mut client, request()).await.unwrap_err();
        assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::Malformed);
        assert_eq!(api.request_count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_stamped_after_its_end_however_warm_the_service_is() {
    let api = api();
    let clock = TestClock::new();
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let cache = TokenCache::builder(source).clock(clock.clone()).build();
    let mut client = warm(AuthLayer::from_cache(cache), &api).await;
    for _ in 0..3 {
        send(&mut client, request()).await.unwrap();
        assert_eq!(carried(&api, &AUTHORIZATION), ["Bearer one"]);
    }
    clock.suspend(Duration::from_secs(2 * 3600));
    send(&mut client, request()).await.unwrap();
    assert_eq!(carried(&api, &AUTHORIZATION), ["Bearer two"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_has_kept_a_credential_takes_the_next_one_at_once() {
    let api = api();
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let cache = TokenCache::builder(source).clock(TestClock::new()).build();
    let mut client = warm(AuthLayer::from_cache(cache.clone()), &api).await;
    for _ in 0..3 {
        send(&mut client, request()).await.unwrap();
    }
    cache.refresh().await.unwrap();
    for _ in 0..3 {
        send(&mut client, request()).await.unwrap();
        assert_eq!(carried(&api, &AUTHORIZATION), ["Bearer two"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_requests_use_is_renewed_before_one_has_to_wait() {
    let api = api();
    let source = fresh_tokens(Duration::from_secs(100));
    let cache = TokenCache::builder(source.clone())
        .clock(TestClock::new())
        .build();
    let mut client = warm(AuthLayer::from_cache(cache), &api).await;
    for _ in 0..1000 {
        let start = tokio::time::Instant::now();
        send(&mut client, request()).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let calls = source.calls();
    assert!(calls.len() >= 10, "{} fetches", calls.len());
    assert!(
        calls[1..]
            .iter()
            .all(|call| call.reason() == Reason::Scheduled)
    );
}

#[tokio::test(start_paused = true)]
async fn no_permit_is_held_while_a_credential_is_fetched_for_the_second_time() {
    let api = FakeEndpoint::new();
    let (answer, fetch) = (Gate::new(), Gate::new());
    api.reply(Reply::status(200).behind(&answer));
    api.always(|_, _| Reply::status(200));
    let clock = TestClock::new();
    let source = ScriptedSource::new([lasting("one"), lasting("two").behind(&fetch)]);
    let cache = TokenCache::builder(source).clock(clock.clone()).build();
    let mut opted_out = request();
    opted_out.extensions_mut().insert(AuthOverride::skip());

    let client = AuthLayer::from_cache(cache).layer(ConcurrencyLimit::new(api.service(), 1));
    let mut waiting = client.clone();
    let waiting = begin(&mut waiting).await;
    let first = tokio::spawn(client.clone().oneshot(opted_out.clone()));
    answer.reached().await;
    // It gets its credential and then waits for the permit until the credential has ended.
    let waiting = tokio::spawn(waiting);
    settle().await;
    clock.suspend(Duration::from_secs(2 * 3600));
    answer.open();
    first.await.unwrap().unwrap();
    fetch.reached().await;
    soon(client.oneshot(opted_out)).await.unwrap();
    fetch.open();
    soon(waiting).await.unwrap().unwrap();
    assert_eq!(carried(&api, &AUTHORIZATION), ["Bearer two"]);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_ends_while_the_inner_service_becomes_ready_is_not_stamped() {
    let (mock, mut handle) = tower_test::mock::pair::<Request<()>, Response<()>>();
    let clock = TestClock::new();
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let cache = TokenCache::builder(source).clock(clock.clone()).build();
    let mut client = AuthLayer::from_cache(cache).layer(mock);
    handle.allow(1);
    let mut waiting = client.ready().await.unwrap().call(https());
    handle.allow(0);
    let waiting = tokio::spawn(async move { Pin::new(&mut waiting).await });
    settle().await;
    clock.suspend(Duration::from_secs(2 * 3600));
    handle.allow(u64::MAX);
    let (request, respond) = handle.next_request().await.unwrap();
    assert_eq!(request.headers()[AUTHORIZATION], "Bearer two");
    respond.send_response(Response::new(()));
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_asked_for_each_request_is() {
    let api = api();
    let source = fresh_tokens(Duration::from_secs(600)).per_request();
    let mut client = AuthLayer::new(source.clone()).layer(api.service());
    let mut seen = Vec::new();
    for _ in 0..3 {
        send(&mut client, request()).await.unwrap();
        seen.extend(carried(&api, &AUTHORIZATION));
    }
    seen.dedup();
    assert_eq!((seen.len(), source.call_count()), (3, 3));
}

/// Where the bytes of the value that a request was stamped with are.
async fn value_address(
    client: &mut Auth<FakeService, ScriptedSource>,
    api: &FakeEndpoint,
) -> usize {
    send(client, request()).await.unwrap();
    api.last_request().headers()[AUTHORIZATION]
        .as_bytes()
        .as_ptr()
        .addr()
}

#[test]
fn requests_on_different_threads_share_no_reference_count_and_those_on_one_do() {
    let api = api();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let own = runtime();
    let cache = TokenCache::builder(ScriptedSource::new([lasting("abc")]))
        .shards(64)
        .build();
    let client = own.block_on(warm(AuthLayer::from_cache(cache), &api));
    let here = || {
        let mut client = client.clone();
        own.block_on(async {
            let address = value_address(&mut client, &api).await;
            assert_eq!(
                value_address(&mut client, &api).await,
                address,
                "warm or not"
            );
            assert_eq!(value_address(&mut client, &api).await, address);
            address
        })
    };
    let there = std::thread::scope(|scope| {
        let mut client = client.clone();
        let api = &api;
        scope
            .spawn(move || runtime().block_on(value_address(&mut client, api)))
            .join()
            .unwrap()
    });
    assert_eq!(here(), here());
    assert_ne!(here(), there);
}

#[tokio::test(start_paused = true)]
async fn it_works_inside_the_usual_neighbours() {
    let api = api();
    let layer = AuthLayer::new(fresh_tokens(Duration::from_secs(3600)));
    let stack = ServiceBuilder::new()
        .load_shed()
        .timeout(Duration::from_secs(60))
        .buffer(16)
        .concurrency_limit(4)
        .layer(layer.clone())
        .service(BoxCloneService::new(api.service()));
    let boxed = BoxCloneService::new(layer.layer(BoxCloneService::new(stack)));
    for _ in 0..10 {
        boxed.clone().oneshot(request()).await.unwrap();
        assert_eq!(carried(&api, &AUTHORIZATION).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn fc_c26_a_timeout_outside_covers_the_wait_for_a_credential_and_hurts_nobody_else() {
    let api = api();
    let source = ScriptedSource::new([lasting("abc").after(Duration::from_secs(5))]);
    let client = AuthLayer::new(source.clone()).layer(api.service());
    let hasty = tower::timeout::Timeout::new(client.clone(), Duration::from_secs(1));
    let error = hasty.oneshot(request()).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error:?}");
    client.oneshot(request()).await.unwrap();
    assert_eq!((source.call_count(), api.request_count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_buffer_below_gets_its_place_back_while_a_request_waits() {
    let api = api();
    let gate = Gate::new();
    let source = ScriptedSource::new([lasting("abc").behind(&gate)]);
    let buffer = tower::buffer::Buffer::new(api.service(), 1);
    let client = AuthLayer::new(source).layer(buffer);
    let waiting = tokio::spawn(client.clone().oneshot(request()));
    gate.reached().await;
    let mut opted_out = request();
    opted_out.extensions_mut().insert(AuthOverride::skip());
    soon(client.oneshot(opted_out)).await.unwrap();
    gate.open();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_has_an_end_and_its_error_names_the_source() {
    let api = api();
    let options = RefreshOptions::default().with_wait_budget(Duration::from_secs(3));
    let cache = TokenCache::builder(ScriptedSource::new([Answer::hang()]))
        .refresh(options)
        .build();
    let mut client = AuthLayer::from_cache(cache).layer(api.service());
    let start = tokio::time::Instant::now();
    let error = send(&mut client, request()).await.unwrap_err();
    let error = Error::find(&*error).unwrap();
    assert!(
        error.is_timeout() && error.source_name().is_some(),
        "{error}"
    );
    assert!(start.elapsed() <= Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn the_stamp_of_the_layer_decides_the_header() {
    let api = api();
    let stamp = Headers::new().named(Placement::header(API_KEY));
    let mut client =
        AuthLayer::with_stamp(ScriptedSource::new([lasting("abc")]), stamp).layer(api.service());
    send(&mut client, request()).await.unwrap();
    assert_eq!(carried(&api, &API_KEY), ["abc"]);
    assert!(carried(&api, &AUTHORIZATION).is_empty());
}
