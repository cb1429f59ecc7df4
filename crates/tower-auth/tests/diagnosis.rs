//! What a cache tells about its credential, and what it notices before it uses one.
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a function of the tests fails the test"
)]

use std::borrow::Cow;
use std::sync::Once;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{DATE, HeaderName, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::{
    AuthLayer, BoxError, Chain, Description, Diagnosis, Error, ErrorKind, Expiry, Fetch, Headers,
    KeyedAuthLayer, KeyedCache, Placement, Prefix, Receipt, RequestHead, Shape, ShapeFlaw, Skew,
    Token, TokenCache, TokenSource, source_fn,
};
use tower_auth_testing::{Answer, Canary, LeakGuard, ScriptedSource, TestClock, fresh_tokens};

/// 2030-03-17T17:46:40Z.
const START: u64 = 1_900_000_000;

fn clock() -> TestClock {
    TestClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(START))
}

fn cache<P: TokenSource>(source: P) -> TokenCache<P> {
    TokenCache::builder(source).clock(clock()).seed(7).build()
}

fn hour(text: &str) -> Token {
    Token::bearer(text).expires_in(Duration::from_secs(3600))
}

fn jwt(claims: &str) -> String {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    format!("{}.{}.c2ln", part(r#"{"alg":"none"}"#), part(claims))
}

/// Has the guard record this thread. What a thread without a subscriber finds uninteresting is not shown to
/// the others either, so each has one.
fn record(guard: &LeakGuard) -> tracing::subscriber::DefaultGuard {
    static EVERY_THREAD: Once = Once::new();
    EVERY_THREAD.call_once(|| {
        tracing::subscriber::set_global_default(LeakGuard::new().subscriber()).unwrap();
    });
    guard.record_logs()
}

/// The events that were logged as warnings.
fn warnings(guard: &LeakGuard) -> Vec<String> {
    guard
        .logs()
        .into_iter()
        .filter(|line| line.contains("WARN"))
        .collect()
}

fn json(diagnosis: &Diagnosis) -> serde_json::Value {
    serde_json::from_str(&diagnosis.to_json()).unwrap()
}

/// A source that knows how the credentials of its issuer begin.
struct Known(Token);

impl TokenSource for Known {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        Ok(self.0.clone())
    }

    fn describe(&self) -> Description {
        Description::new("example")
            .with_setting("key", "EXAMPLE_KEY")
            .with_audience("https://api.example.com")
            .with_prefix(Prefix::new("ex-key-", "an API key").belongs_in(api_key()))
            .with_prefix(
                Prefix::new("ex-oat-", "an OAuth token")
                    .belongs_in(Placement::authorization("Bearer")),
            )
    }
}

fn api_key() -> Placement {
    Placement::header(HeaderName::from_static("x-api-key"))
}

async fn refuse<P: TokenSource>(
    cache: &TokenCache<P>,
    challenge: &str,
    date: &'static str,
) -> Response<Bytes> {
    let challenge = challenge.to_owned();
    let api = service_fn(move |_: Request<Full<Bytes>>| {
        let response = Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header(WWW_AUTHENTICATE, &challenge)
            .header(DATE, date)
            .body(Bytes::new())
            .unwrap();
        async { Ok::<_, BoxError>(response) }
    });
    let request = Request::get("https://api.example.com/v1")
        .body(Full::default())
        .unwrap();
    AuthLayer::from_cache(cache.clone())
        .layer(api)
        .oneshot(request)
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_diagnosis_of_a_fresh_cache_asks_nobody() {
    let source = ScriptedSource::new([]);
    let cache = cache(source.clone());
    let report = cache.diagnose();
    assert_eq!(source.call_count(), 0);
    assert_eq!(report.fetched_at(), None);
    assert_eq!(
        report.to_string().lines().nth(1),
        Some("state        empty")
    );
    assert_eq!(json(&report)["generation"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_diagnosis_says_where_the_credential_is_from_and_how_it_is_used() {
    let source = Known(
        Token::in_header(api_key().name().clone(), "ex-key-1")
            .expires_in(Duration::from_secs(3600)),
    );
    let cache = cache(source);
    cache.ready().await.unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    let report = cache.diagnose();
    let fingerprint = report.fingerprint().unwrap();
    assert_eq!(
        report.to_string(),
        format!(
            "\
source       example
             key from EXAMPLE_KEY
state        ready, credential 1
fetched      2030-03-17T17:46:40Z (1 min 40 s ago)
usable until 2030-03-17T18:46:30Z (in 58 min 10 s)
header       x-api-key: …
fingerprint  {fingerprint}
last fetch   first: published"
        )
    );
    let json = json(&report);
    assert_eq!(json["source"], "example");
    assert_eq!(json["settings"][0]["from"], "EXAMPLE_KEY");
    assert_eq!(json["fetched_at"], START);
    assert_eq!(json["header"], "x-api-key");
    assert_eq!(json["last_error"], serde_json::Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_diagnosis_names_the_last_error_with_its_causes() {
    let cache = cache(ScriptedSource::new([Answer::failing(
        Error::new(ErrorKind::Denied, "no").with_cause(std::io::Error::other("deep down")),
    )]));
    cache.ready().await.unwrap_err();
    let report = cache.diagnose();
    let text = report.to_string();
    assert!(
        text.contains("last error   denied: scripted source: no\n"),
        "{text}"
    );
    assert!(text.contains("\n             because deep down"), "{text}");
    assert_eq!(json(&report)["last_error"]["causes"][0], "deep down");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_explained_by_the_receipt_of_the_response() {
    let cache = cache(ScriptedSource::new([
        Answer::token(hour("t1")),
        Answer::hang(),
    ]));
    cache.ready().await.unwrap();
    let challenge = "Bearer error=\"invalid_token\"";
    let response = refuse(&cache, challenge, "Sun, 17 Mar 2030 17:41:40 GMT").await;
    let receipt = response.extensions().get::<Receipt>().unwrap();
    let report = receipt.diagnose().unwrap();
    let refusal = report.refusal().unwrap();
    assert_eq!(refusal.generation(), 1);
    assert_eq!(refusal.challenge(), Some(challenge));
    assert_eq!(report.skew(), Some(Skew::Ahead(300)));
    let text = report.to_string();
    assert!(
        text.contains("refused      credential 1, 2030-03-17T17:46:40Z (0 s ago): Bearer error"),
        "{text}"
    );
    assert!(
        text.contains("clock        5 min 0 s ahead of the API's"),
        "{text}"
    );
    assert_eq!(json(&report)["clock_ahead_by"], 300);
    drop(cache);
    assert!(receipt.diagnose().is_none(), "the receipt keeps no cache");
}

#[tokio::test(start_paused = true)]
async fn of_refusals_in_the_same_second_the_first_is_looked_at() {
    let cache = cache(ScriptedSource::new([
        Answer::token(hour("t1")),
        Answer::hang(),
    ]));
    cache.ready().await.unwrap();
    let api = service_fn(|request: Request<Full<Bytes>>| async move {
        // Long enough for both to be stamped.
        let delay = request.headers()["x-delay"].to_str().unwrap().parse();
        tokio::time::sleep(Duration::from_millis(delay.unwrap())).await;
        let response = Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header(WWW_AUTHENTICATE, &request.headers()["x-delay"])
            .body(Bytes::new());
        Ok::<_, BoxError>(response.unwrap())
    });
    let service = AuthLayer::from_cache(cache.clone()).layer(api);
    let refused_after = |delay: u64| {
        let request = Request::get("https://api.example.com/v1")
            .header("x-delay", delay)
            .body(Full::default());
        service.clone().oneshot(request.unwrap())
    };
    let told = || {
        cache
            .diagnose()
            .refusal()
            .unwrap()
            .challenge()
            .map(str::to_owned)
    };
    let (first, second, third) = (refused_after(10), refused_after(900), refused_after(1010));
    let all = async { tokio::join!(first, second) };
    let (_, third) = tokio::join!(
        async {
            all.await.0.unwrap();
            assert_eq!(told().as_deref(), Some("10"));
        },
        third
    );
    third.unwrap();
    assert_eq!(told().as_deref(), Some("1010"));
}

#[tokio::test(start_paused = true)]
async fn an_error_after_refusals_says_what_the_api_said() {
    let source = ScriptedSource::new([
        Answer::token(hour("t1")),
        Answer::token(hour("t1")),
        Answer::token(hour("t1")),
    ]);
    let cache = cache(source);
    cache.ready().await.unwrap();
    refuse(
        &cache,
        "Bearer error=\"invalid_token\"",
        "Sun, 17 Mar 2030 18:00:00 GMT",
    )
    .await;
    let error = cache.refresh().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("the API said: Bearer error=\"invalid_token\""),
        "{text}"
    );
    assert!(
        text.contains("this machine's clock is 13 min 20 s behind the API's"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn claims_are_shown_on_request_only() {
    let text = jwt(r#"{"iss":"https://i.test","sub":"someone","aud":["a","b"],"exp":1900003600}"#);
    let cache = cache(Token::bearer(text));
    cache.ready().await.unwrap();
    let plain = cache.diagnose();
    assert!(plain.claims().is_none() && !plain.to_string().contains("someone"));
    let report = cache.diagnose_with_claims();
    let claims = report.claims().unwrap();
    assert_eq!(claims.issuer(), Some("https://i.test"));
    assert_eq!(claims.audiences(), ["a", "b"]);
    let shown = report.to_string();
    assert!(
        shown.contains("claims       iss https://i.test (none of them verified)"),
        "{shown}"
    );
    assert!(
        shown.contains("exp 2030-03-17T18:46:40Z (in 1 h 0 min)"),
        "{shown}"
    );
    assert_eq!(json(&report)["unverified_claims"]["sub"], "someone");
}

#[tokio::test(start_paused = true)]
async fn fc_e02_a_diagnosis_lists_what_else_there_was_and_tells_once() {
    let guard = LeakGuard::new();
    let recording = record(&guard);
    let absent = source_fn(|_cx: Fetch| async {
        Err::<Token, _>(Error::new(ErrorKind::NotConfigured, "there is no file /t"))
    })
    .named("token file");
    let renewed = fresh_tokens(Duration::from_secs(3600));
    let chain = Chain::new("my API").or(absent).or(renewed).or("t2");
    let cache = cache(chain);
    cache.ready().await.unwrap();
    cache.refresh().await.unwrap();
    assert_eq!(cache.health().generation(), 2);
    drop(recording);
    let report = cache.diagnose();
    assert_eq!(report.source().name(), "scripted source");
    assert!(report.to_string().ends_with(
        "\
chain        token file          not configured  there is no file /t
             scripted source     chosen
             fixed bearer token  shadowed"
    ));
    assert_eq!(json(&report)["chain"][2]["status"], "shadowed");
    let told: Vec<_> = warnings(&guard)
        .into_iter()
        .filter(|line| line.contains("shadowed"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn fc_e05_a_credential_in_the_wrong_header_is_told_once_per_generation() {
    let guard = LeakGuard::new();
    let recording = record(&guard);
    let cache = cache(Known(hour("ex-key-1")));
    cache.ready().await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    cache.refresh().await.unwrap();
    assert_eq!(
        cache.health().generation(),
        1,
        "the same with a longer life"
    );
    drop(recording);
    assert_eq!(warnings(&guard).len(), 1, "{:?}", warnings(&guard));
    assert!(warnings(&guard)[0].contains("an API key, which belongs in"));
    assert_eq!(
        cache.diagnose().flaws(),
        [ShapeFlaw::WrongPlace {
            what: "an API key".to_owned(),
            belongs_in: vec![api_key()],
        }]
    );
}

#[tokio::test(start_paused = true)]
async fn fc_e05_the_header_that_counts_is_the_one_it_travels_in() {
    let stamp = Headers::new().named(api_key());
    let cache = TokenCache::builder(Known(hour("ex-key-1")))
        .stamp(stamp)
        .clock(clock())
        .build();
    cache.ready().await.unwrap();
    assert_eq!(cache.diagnose().flaws(), []);
    assert_eq!(cache.diagnose().placement(), Some(&api_key()));
}

#[tokio::test(start_paused = true)]
async fn a_credential_of_a_wrong_shape_is_denied_or_passed_over_as_told() {
    let build = |shape| {
        TokenCache::builder(Known(hour("ex-key-1")))
            .clock(clock())
            .shape(shape)
            .build()
    };
    let error = build(Shape::Deny).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert_eq!(
        error.to_string(),
        "example: the credential is an API key, which belongs in \"x-api-key: …\""
    );
    let off = build(Shape::Off);
    off.ready().await.unwrap();
    assert_eq!(off.diagnose().flaws(), []);
    let foreign = jwt(r#"{"aud":"https://other.example.com","exp":1900003600}"#);
    let cache = cache(Known(Token::bearer(foreign).with_expiry(Expiry::Never)));
    cache.ready().await.unwrap();
    assert_eq!(cache.diagnose().flaws()[0].as_str(), "foreign audience");
}

#[tokio::test(start_paused = true)]
async fn a_denied_shape_holds_for_a_source_that_is_asked_for_each_request() {
    let source = ScriptedSource::new([])
        .then_rule(|_| Answer::token(hour("changeme")))
        .per_request();
    let cache = TokenCache::builder(source).shape(Shape::Deny).build();
    let error = cache.get().await.unwrap_err();
    assert!(error.to_string().contains("placeholder"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn fc_g06_no_diagnosis_shows_a_secret() {
    let canary = Canary::new("token");
    let guard = LeakGuard::new();
    let recording = record(&guard);
    let cache = cache(ScriptedSource::new([
        Answer::token(hour(canary.text())),
        Answer::token(hour(canary.text())),
    ]));
    cache.ready().await.unwrap();
    let challenge = format!("Bearer error_description=\"bad token {}\"", canary.text());
    let response = refuse(&cache, &challenge, "Sun, 17 Mar 2030 17:46:40 GMT").await;
    let error = cache.refresh().await.unwrap_err();
    guard.error("the error after the refusal", &error);
    let by_receipt = response.extensions().get::<Receipt>().unwrap().diagnose();
    for report in [by_receipt.unwrap(), cache.diagnose_with_claims()] {
        assert!(
            report
                .refusal()
                .unwrap()
                .challenge()
                .unwrap()
                .contains("[…]")
        );
        guard.value("a diagnosis", &report);
        guard.display("a diagnosis", &report);
        guard.text("JSON of a diagnosis", report.to_json());
    }
    drop(recording);
    guard.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn fc_g11_of_a_challenge_to_a_credential_that_is_not_held_the_scheme_is_kept() {
    let canary = Canary::new("token");
    let source = ScriptedSource::new([])
        .then_rule({
            let canary = canary.clone();
            move |_| Answer::token(hour(canary.text()))
        })
        .per_request();
    let cache = cache(source);
    let guard = LeakGuard::new();
    let quoted = canary.text();
    for (challenge, kept) in [
        (
            format!("Bearer error_description=\"bad token {quoted}\""),
            Some("Bearer"),
        ),
        (format!("{quoted} is bad"), None),
    ] {
        refuse(&cache, &challenge, "Sun, 17 Mar 2030 17:46:40 GMT").await;
        let report = cache.diagnose();
        assert_eq!(report.refusal().unwrap().challenge(), kept);
        guard.value("a diagnosis", &report);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    guard.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn fc_g11_a_late_refusal_of_a_credential_that_was_replaced_shows_nothing_of_it() {
    let old = Canary::new("replaced");
    let cache = cache(ScriptedSource::new([
        Answer::token(hour(old.text())),
        Answer::token(hour("t2")),
    ]));
    cache.ready().await.unwrap();
    let challenge = format!("Bearer error_description=\"bad token {}\"", old.text());
    let api = service_fn(move |_: Request<()>| {
        let refusal = Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header(WWW_AUTHENTICATE, &challenge);
        let refusal = refusal.body(()).unwrap();
        async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok::<_, BoxError>(refusal)
        }
    });
    let request = Request::get("https://api.example.com/").body(()).unwrap();
    let late = AuthLayer::from_cache(cache.clone())
        .layer(api)
        .oneshot(request);
    let renew = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cache.refresh().await.unwrap();
    };
    let (response, ()) = tokio::join!(late, renew);
    let receipt = response
        .unwrap()
        .extensions()
        .get::<Receipt>()
        .unwrap()
        .clone();
    let report = receipt.diagnose().unwrap();
    let refusal = report.refusal().unwrap();
    assert_eq!(
        (refusal.generation(), refusal.challenge()),
        (1, Some("Bearer"))
    );
    let guard = LeakGuard::new();
    guard.value("a diagnosis", &report);
    guard.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_fetch_is_a_span_and_a_request_is_not() {
    let guard = LeakGuard::new();
    let recording = record(&guard);
    let cache = cache(ScriptedSource::new([Answer::token(hour("t1"))]));
    let api = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
    let service = AuthLayer::from_cache(cache.clone()).layer(api);
    for _ in 0..3 {
        let request = Request::get("https://api.example.com/").body(()).unwrap();
        service.clone().oneshot(request).await.unwrap();
    }
    drop(recording);
    let logs = guard.logs();
    let is_span = |line: &&String| line.starts_with("INFO tower_auth::driver fetch ");
    let spans: Vec<_> = logs.iter().filter(is_span).collect();
    assert_eq!(spans.len(), 1, "{logs:#?}");
    assert!(
        spans[0].contains("scripted source") && spans[0].contains("first"),
        "{spans:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_a_keyed_layer_explains_the_credential_of_its_key() {
    let keys = KeyedCache::builder(|key: &String| format!("changeme-{key}"))
        .clock(clock())
        .build();
    let layer = KeyedAuthLayer::from_cache(
        |head: RequestHead<'_>| head.extensions().get::<String>().map(Cow::Borrowed),
        keys,
    );
    let api = service_fn(|_: Request<()>| async {
        let refusal = Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header(WWW_AUTHENTICATE, "Bearer");
        Ok::<_, BoxError>(refusal.body(()).unwrap())
    });
    let request = Request::get("https://api.example.com/").extension("tenant".to_owned());
    let service = layer.layer(api);
    let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
    let receipt = response.extensions().get::<Receipt>().unwrap();
    let report = receipt.diagnose().unwrap();
    assert_eq!(report.refusal().unwrap().challenge(), Some("Bearer"));
    assert_eq!(report.health().generation(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_a_keyed_cache_are_looked_at_as_told() {
    let keys = KeyedCache::builder(|_: &str| "changeme")
        .shape(Shape::Deny)
        .build();
    let error = keys.tenant("a").ready().await.unwrap_err();
    assert!(error.to_string().contains("placeholder"), "{error}");
}
