//! Where a credential goes, and where it does not follow.
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a function of the tests fails the test"
)]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response, Uri};
use http_body_util::Full;
use proptest::prelude::*;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_auth::{
    AuthLayer, AuthOverride, BoxError, Description, Error, ErrorKind, Fetch, Foreign, HeaderMode,
    Origin, Token, TokenCache, TokenSource,
};
use tower_auth_testing::{FakeEndpoint, Reply};
use tower_http::follow_redirect::FollowRedirectLayer;

type Body = Full<Bytes>;

/// A source of one token in two headers, that says where it is meant for.
struct Scoped(Vec<&'static str>);

impl TokenSource for Scoped {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        let extra = HeaderName::from_static("dpop");
        let token = Token::in_header(HeaderName::from_static("x-api-key"), "k-1")
            .with_header(extra, "p-1", HeaderMode::Replace)
            .expires_in(Duration::from_secs(600));
        Ok(token)
    }

    fn describe(&self) -> Description {
        self.0
            .iter()
            .fold(Description::new("scoped"), |described, origin| {
                described.with_origin(origin.parse().unwrap())
            })
    }
}

fn request(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::default()).unwrap()
}

fn api() -> FakeEndpoint {
    let api = FakeEndpoint::new();
    api.always(|_, _| Reply::status(200));
    api
}

/// Sends a request through this layer and says whether it arrived with a credential.
async fn arrives_stamped(layer: AuthLayer<Scoped>, uri: &str) -> bool {
    let api = api();
    layer.cache().ready().await.unwrap();
    let client = ServiceBuilder::new().layer(layer).service(api.service());
    client.oneshot(request(uri)).await.unwrap();
    let arrived = api.last_request();
    let has = |name| arrived.headers().contains_key(name);
    assert_eq!(has("x-api-key"), has("dpop"), "both or none");
    has("x-api-key")
}

#[tokio::test(start_paused = true)]
async fn fc_g03_where_no_origin_is_named_plain_http_gets_nothing_beyond_this_machine() {
    for (uri, expected) in [
        ("https://api.example.com/", true),
        ("http://127.0.0.1:8080/", true),
        ("http://localhost/", true),
        ("http://api.example.com/", false),
        ("http://169.254.169.254/latest", false),
        ("http://10.0.0.1/", false),
    ] {
        let layer = AuthLayer::new(Scoped(vec![]));
        assert_eq!(arrives_stamped(layer, uri).await, expected, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_sources_own_origins_hold_where_the_layer_names_none() {
    let layer = || {
        AuthLayer::new(Scoped(vec![
            "https://api.example.com",
            "http://10.0.0.7:81",
        ]))
    };
    assert!(arrives_stamped(layer(), "https://api.example.com/v1").await);
    assert!(
        arrives_stamped(layer(), "http://10.0.0.7:81/").await,
        "named, so it may be http"
    );
    assert!(!arrives_stamped(layer(), "https://other.example.com/").await);
    assert!(!arrives_stamped(layer(), "http://localhost/").await);
    let layer = layer().origins(["https://other.example.com"]).unwrap();
    assert!(arrives_stamped(layer.clone(), "https://other.example.com/").await);
    assert!(!arrives_stamped(layer, "https://api.example.com/v1").await);
}

#[tokio::test(start_paused = true)]
async fn any_origin_means_any_and_also_none() {
    let layer = || AuthLayer::new(Scoped(vec!["https://api.example.com"])).any_origin();
    for uri in [
        "http://elsewhere.test/",
        "https://elsewhere.test/",
        "/relative",
    ] {
        assert!(arrives_stamped(layer(), uri).await, "{uri}");
    }
    assert!(
        !arrives_stamped(AuthLayer::new(Scoped(vec![])), "/relative").await,
        "a request that does not say where it goes is not stamped unless that is said"
    );
}

#[tokio::test(start_paused = true)]
async fn a_foreign_origin_can_be_an_error() {
    let api = api();
    let layer =
        AuthLayer::new(Scoped(vec!["https://api.example.com"])).on_foreign_origin(Foreign::Error);
    let client = ServiceBuilder::new().layer(layer).service(api.service());
    let error = client
        .oneshot(request("https://evil.test/?q=s"))
        .await
        .unwrap_err();
    let error = Error::find(&*error).unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(
        error.to_string(),
        "scoped: the credential is not meant for evil.test"
    );
    assert_eq!(api.request_count(), 0);
}

#[test]
fn a_layer_without_an_origin_it_could_stamp_is_refused() {
    let origins = |list: &[&'static str]| AuthLayer::new("t").origins(list.iter().copied());
    assert_eq!(origins(&[]).unwrap_err().kind(), ErrorKind::InvalidConfig);
    assert_eq!(
        origins(&["api.example.com"]).unwrap_err().kind(),
        ErrorKind::InvalidConfig
    );
    assert!(origins(&["https://api.example.com"]).is_ok());
}

#[tokio::test(start_paused = true)]
async fn fc_f08_the_host_header_decides_nothing() {
    let api = api();
    let layer = AuthLayer::new(Scoped(vec![]))
        .origins(["https://api.example.com"])
        .unwrap();
    let client = ServiceBuilder::new().layer(layer).service(api.service());
    let mut request = request("https://evil.test/");
    request
        .headers_mut()
        .insert("host", "api.example.com".parse().unwrap());
    client.clone().oneshot(request).await.unwrap();
    assert!(!api.last_request().headers().contains_key("x-api-key"));
}

#[tokio::test(start_paused = true)]
async fn fc_g01_a_redirect_to_another_origin_takes_nothing_along() {
    for (target, expected) in [
        ("https://api.example.com/b", true),
        ("/b", true),
        ("https://evil.test/b", false),
        ("https://api.example.com:444/b", false),
        ("http://api.example.com/b", false),
        ("https://api.example.com.evil.test/b", false),
        ("//evil.test/b", false),
    ] {
        let api = api();
        api.reply(Reply::redirect(target));
        let layer = AuthLayer::new(Scoped(vec![]))
            .origins(["https://api.example.com"])
            .unwrap();
        let client = ServiceBuilder::new()
            .layer(FollowRedirectLayer::new())
            .layer(layer)
            .service(api.service());
        client
            .oneshot(request("https://api.example.com/a"))
            .await
            .unwrap();
        let arrived = api.requests();
        assert_eq!(arrived.len(), 2, "{target}");
        assert!(arrived[0].headers().contains_key("x-api-key"));
        for name in ["x-api-key", "dpop"] {
            assert_eq!(
                arrived[1].headers().contains_key(name),
                expected,
                "{name} to {target}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stamped_request_that_is_sent_on_from_inside_loses_its_stamp_at_another_origin() {
    let api = api();
    api.reply(Reply::redirect("https://evil.test/b"));
    let cache = TokenCache::new(Scoped(vec!["https://api.example.com"]));
    let client = ServiceBuilder::new()
        .layer(AuthLayer::from_cache(cache.clone()))
        .layer(FollowRedirectLayer::new())
        .layer(AuthLayer::from_cache(cache))
        .service(api.service());
    client
        .oneshot(request("https://api.example.com/a"))
        .await
        .unwrap();
    let arrived = api.requests();
    for name in ["x-api-key", "dpop"] {
        assert!(arrived[0].headers().contains_key(name));
        assert!(!arrived[1].headers().contains_key(name), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_requests_own_does_not_go_to_another_origin_either() {
    let api = api();
    let layer = AuthLayer::new(Scoped(vec!["https://api.example.com"]));
    let client = ServiceBuilder::new().layer(layer).service(api.service());
    for (uri, expected) in [
        ("https://api.example.com/", true),
        ("https://evil.test/", false),
    ] {
        let mut request = request(uri);
        request
            .extensions_mut()
            .insert(AuthOverride::token(Token::bearer("mine")));
        client.clone().oneshot(request).await.unwrap();
        assert_eq!(
            api.last_request().headers().contains_key("authorization"),
            expected,
            "{uri}"
        );
    }
}

/// Hosts that look like the right one to something that does not compare them whole.
fn look_alike() -> impl Strategy<Value = String> {
    let junk = "[a-z0-9]{1,5}";
    prop_oneof![
        junk.prop_map(|junk| format!("https://api.example.com.{junk}.test/")),
        junk.prop_map(|junk| format!("https://{junk}api.example.com/")),
        junk.prop_map(|junk| format!("https://{junk}.api.example.com/")),
        junk.prop_map(|junk| format!("https://api.example.com@{junk}.test/")),
        junk.prop_map(|junk| format!("https://api.example.com:x@{junk}.test/")),
        junk.prop_map(|junk| format!("https://{junk}.test/api.example.com")),
        junk.prop_map(|junk| format!("https://{junk}.test/?https://api.example.com/")),
        junk.prop_map(|junk| format!("http://api.example.com/{junk}")),
        Just("https://api.example.com./".to_owned()),
        Just("https://api-example.com/".to_owned()),
        Just("https://apixexample.com/".to_owned()),
        (1_u16..=65535)
            .prop_filter("another port", |port| *port != 443)
            .prop_map(|port| format!("https://api.example.com:{port}/")),
        junk.prop_map(|junk| format!("http://localhost.{junk}.test/")),
        junk.prop_map(|junk| format!("http://127.0.0.1.{junk}/")),
    ]
}

async fn pass_through(uri: Uri, layer: AuthLayer<&'static str>) -> bool {
    let api = tower::service_fn(|request: Request<()>| async move {
        let stamped = request.headers().contains_key("authorization");
        Ok::<_, BoxError>(Response::new(stamped))
    });
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *layer.layer(api).oneshot(request).await.unwrap().body()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn fc_g04_no_look_alike_is_taken_for_the_origin(text in look_alike()) {
        let Ok(uri) = text.parse::<Uri>() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let layer = AuthLayer::new("t").origins(["https://api.example.com"]).unwrap();
        prop_assert!(!runtime.block_on(pass_through(uri, layer)), "{}", text);
    }

    #[test]
    fn fc_f09_the_same_origin_in_any_spelling_is_taken(
        upper in any::<bool>(), port in any::<bool>(), user in any::<bool>(), path in "(/[a-z]{0,4}){0,2}(\\?[a-z]{0,3})?",
    ) {
        let host = if upper { "API.Example.COM" } else { "api.example.com" };
        let port = if port { ":443" } else { "" };
        let user = if user { "u:p@" } else { "" };
        let uri: Uri = format!("https://{user}{host}{port}{path}").parse().unwrap();
        let origin: Origin = "https://api.example.com".parse().unwrap();
        let layer = AuthLayer::new("t").with_origins([origin]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        prop_assert!(runtime.block_on(pass_through(uri, layer)));
    }
}
