//! Proof of possession through the layers that a program uses.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use serde_json::Value;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::AuthLayer;
use tower_auth_core::{BoxError, Fetch, Reason, TokenSource};
use tower_auth_io::{ManualClock, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, Dpop, SigningKey, TokenEndpoint};
use tower_auth_testing::{FakeEndpoint, Reply};

const BOUND: &str = r#"{"access_token":"t","token_type":"DPoP","expires_in":3600}"#;
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
const CHALLENGE: HeaderName = HeaderName::from_static("www-authenticate");

struct Bench {
    issuer: FakeEndpoint,
    dpop: Dpop,
    source: ClientCredentials,
}

fn bench() -> Bench {
    let issuer = FakeEndpoint::new();
    let world = World::closed()
        .with_transport(issuer.transport())
        .with_clock(ManualClock::default());
    let dpop = Dpop::new(SigningKey::generate().unwrap(), &world);
    let endpoint = TokenEndpoint::new("https://api.test/token", &world)
        .unwrap()
        .with_dpop(dpop.clone());
    Bench {
        source: ClientCredentials::new(endpoint, ClientAuth::none("id").unwrap()),
        issuer,
        dpop,
    }
}

fn proof(request: &Request<Bytes>) -> Value {
    let jws = request.headers()["dpop"].to_str().unwrap();
    let claims = jws.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// An API behind the layers that a program would use.
fn client(
    bench: &Bench,
    api: &FakeEndpoint,
) -> impl Service<Request<Bytes>, Response = Response<Bytes>, Error = BoxError> + Clone {
    let transport = api.transport();
    let client = tower::service_fn(move |request| {
        let transport = transport.clone();
        async move { transport.send(request).await.map_err(BoxError::from) }
    });
    ServiceBuilder::new()
        .layer(
            AuthLayer::with_stamp(bench.source.clone(), bench.dpop.clone())
                .refused(Dpop::refuses_token),
        )
        .layer(bench.dpop.nonces_layer())
        .service(client)
}

fn get(path: &str) -> Request<Bytes> {
    Request::get(format!("https://api.test{path}"))
        .body(Bytes::new())
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn d7_a_nonce_of_the_api_is_kept_for_the_api_and_the_token_stays() {
    let bench = bench();
    bench.issuer.always(|_, _| Reply::json(BOUND));
    let api = FakeEndpoint::new();
    api.reply(
        Reply::status(401)
            .with_header(CHALLENGE, r#"DPoP error="use_dpop_nonce""#)
            .with_header(NONCE, "a1"),
    );
    api.always(|_, _| Reply::json("{}"));
    let client = client(&bench, &api);
    let statuses = [
        client.clone().oneshot(get("/1")).await.unwrap().status(),
        client.clone().oneshot(get("/2")).await.unwrap().status(),
    ];
    assert_eq!(statuses, [StatusCode::UNAUTHORIZED, StatusCode::OK]);
    let claims: Vec<_> = api.requests().iter().map(proof).collect();
    let nonces: Vec<_> = claims.iter().map(|claims| claims.get("nonce")).collect();
    assert_eq!(nonces, [None, Some(&Value::from("a1"))]);
    // The demand was not a refusal of the token, and the issuer's nonces are others.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(bench.issuer.request_count(), 1);
    bench
        .source
        .fetch(&Fetch::new(Reason::Forced))
        .await
        .unwrap();
    assert!(proof(&bench.issuer.last_request()).get("nonce").is_none());
}

#[tokio::test(start_paused = true)]
async fn d7_another_origin_gets_no_nonce_of_this_one() {
    let bench = bench();
    bench.issuer.always(|_, _| Reply::json(BOUND));
    let api = FakeEndpoint::new();
    api.always(|_, _| Reply::json("{}").with_header(NONCE, "a1"));
    let client = client(&bench, &api);
    client.clone().oneshot(get("/")).await.unwrap();
    let other = Request::get("https://api.test:8443/")
        .body(Bytes::new())
        .unwrap();
    client.clone().oneshot(other).await.unwrap();
    assert!(proof(&api.last_request()).get("nonce").is_none());
}

#[tokio::test(start_paused = true)]
async fn d9_each_attempt_through_the_layer_is_proved_anew() {
    let bench = bench();
    bench.issuer.always(|_, _| Reply::json(BOUND));
    let api = FakeEndpoint::new();
    api.reply(Reply::status(503));
    api.reply(Reply::json("{}"));
    let client = client(&bench, &api);
    // What a retry layer above does: it sends the request as it was given.
    for _ in 0..2 {
        client.clone().oneshot(get("/")).await.unwrap();
    }
    let ids: HashSet<_> = api
        .requests()
        .iter()
        .map(|request| proof(request)["jti"].to_string())
        .collect();
    assert_eq!(ids.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn d9_a_stamped_request_that_comes_back_gets_a_new_proof() {
    let bench = bench();
    bench.issuer.always(|_, _| Reply::json(BOUND));
    let api = FakeEndpoint::new();
    api.always(|_, _| Reply::json("{}"));
    let client = client(&bench, &api);
    client.clone().oneshot(get("/")).await.unwrap();
    let stamped = api.last_request();
    client.clone().oneshot(stamped.clone()).await.unwrap();
    assert_ne!(proof(&stamped)["jti"], proof(&api.last_request())["jti"]);
}

#[cfg(feature = "retry")]
#[tokio::test(start_paused = true)]
async fn d7_a_demand_is_answered_once_by_the_retry_policy() {
    for (demands, expected) in [(1, StatusCode::OK), (2, StatusCode::UNAUTHORIZED)] {
        let bench = bench();
        bench.issuer.always(|_, _| Reply::json(BOUND));
        let api = FakeEndpoint::new();
        for nth in 0..demands {
            api.reply(
                Reply::status(401)
                    .with_header(CHALLENGE, r#"DPoP error="use_dpop_nonce""#)
                    .with_header(NONCE, &format!("a{nth}")),
            );
        }
        api.always(|_, _| Reply::json("{}"));
        let client = ServiceBuilder::new()
            .retry(tower_auth_oauth::RetryOnNonce::new())
            .service(client(&bench, &api));
        let status = client.oneshot(get("/")).await.unwrap().status();
        assert_eq!((status, api.request_count()), (expected, 2));
        let [first, second] = &api.requests()[..] else {
            panic!("two requests")
        };
        assert_ne!(proof(first)["jti"], proof(second)["jti"]);
        assert_eq!(proof(second)["nonce"], "a0");
    }
}
