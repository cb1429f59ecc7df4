//! Proof of possession, to the issuer and to an API.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::HashSet;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use http::{HeaderName, Request, Response};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::Value;
use tower::{Layer, ServiceExt};
use tower_auth_core::{
    BoxError, Clock, Error, ErrorKind, Fetch, Reason, Stamp, StampContext, Stamped, Token,
    TokenSource,
};
use tower_auth_io::{ManualClock, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, Dpop, SigningKey, TokenEndpoint};
use tower_auth_testing::{Expect, FakeEndpoint, LeakGuard, Reply};

const BOUND: &str = r#"{"access_token":"t","token_type":"DPoP","expires_in":3600}"#;
const BEARER: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#;
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

struct Bench {
    issuer: FakeEndpoint,
    dpop: Dpop,
    source: ClientCredentials,
}

fn bench() -> Bench {
    bench_with(|dpop| dpop)
}

fn bench_with(change: fn(Dpop) -> Dpop) -> Bench {
    let issuer = FakeEndpoint::new();
    let world = World::closed()
        .with_transport(issuer.transport())
        .with_clock(ManualClock::default());
    let key = SigningKey::from_pem(include_str!("keys/p256.pem")).unwrap();
    let dpop = change(Dpop::new(key.clone(), &world));
    let endpoint = TokenEndpoint::new("https://issuer.test:443/token?tenant=1", &world)
        .unwrap()
        .with_dpop(dpop.clone());
    let client = ClientAuth::private_key_jwt("id", key).unwrap();
    Bench {
        source: ClientCredentials::new(endpoint, client),
        issuer,
        dpop,
    }
}

impl Bench {
    async fn fetch(&self) -> Result<Token, Error> {
        self.source.fetch(&Fetch::new(Reason::First)).await
    }

    /// The claims of the proofs that were sent.
    fn proofs(&self) -> Vec<Value> {
        self.issuer.requests().iter().map(proof).collect()
    }
}

fn demand(nonce: Option<&str>) -> Reply {
    let reply = Reply::json(r#"{"error":"use_dpop_nonce"}"#).with_status(400);
    match nonce {
        Some(nonce) => reply.with_header(NONCE, nonce),
        None => reply,
    }
}

fn part(jwt: &str, nth: usize) -> Value {
    let part = BASE64.decode(jwt.split('.').nth(nth).unwrap()).unwrap();
    serde_json::from_slice(&part).unwrap()
}

fn text<B>(request: &Request<B>) -> String {
    let values: Vec<_> = request.headers().get_all("dpop").iter().collect();
    let [value] = values[..] else {
        panic!("{} proofs", values.len())
    };
    assert!(value.is_sensitive());
    value.to_str().unwrap().to_owned()
}

/// The claims of a request's proof, after another library has verified it with the key that is in it.
fn proof<B>(request: &Request<B>) -> Value {
    let jwt = text(request);
    let header = part(&jwt, 0);
    assert_eq!(header["typ"], "dpop+jwt");
    let jwk: Jwk = serde_json::from_value(header["jwk"].clone()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    decode(&jwt, &key, &validation).unwrap().claims
}

#[tokio::test]
async fn d1_the_token_request_proves_the_key() {
    let bench = bench();
    bench.issuer.reply(Reply::json(BOUND));
    let token = bench.fetch().await.unwrap();
    assert_eq!(token.placement().scheme(), Some("DPoP"));
    let request = bench.issuer.last_request();
    let header = part(&text(&request), 0);
    assert_eq!(header["alg"], "ES256");
    let names: HashSet<_> = header["jwk"].as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 4, "the public members alone: {names:?}");
    assert!(header["jwk"].get("d").is_none());
    let claims = proof(&request);
    assert_eq!(claims["htm"], "POST");
    assert_eq!(claims["htu"], "https://issuer.test/token");
    assert_eq!(claims["iat"], 1_893_456_000);
    assert!(claims.get("ath").is_none() && claims.get("nonce").is_none());
}

#[tokio::test]
async fn d2_a_demanded_nonce_is_answered_with_everything_made_anew() {
    let bench = bench();
    bench.issuer.reply(demand(Some("n1")));
    bench.issuer.reply(Reply::json(BOUND));
    bench.fetch().await.unwrap();
    bench.issuer.assert_done();
    let [first, second] = &bench.proofs()[..] else {
        panic!("two requests")
    };
    assert!(first.get("nonce").is_none());
    assert_eq!(second["nonce"], "n1");
    assert_ne!(first["jti"], second["jti"]);
    let assertions: HashSet<_> = bench
        .issuer
        .requests()
        .iter()
        .map(|request| {
            let (_, jwt) = form_urlencoded::parse(request.body())
                .find(|(name, _)| name == "client_assertion")
                .unwrap();
            part(&jwt, 1)["jti"].to_string()
        })
        .collect();
    assert_eq!(assertions.len(), 2);
}

#[tokio::test]
async fn fc_h10_another_nonce_is_answered_once_more_and_not_a_third_time() {
    let bench = bench();
    for nonce in ["n1", "n2", "n3"] {
        bench.issuer.reply(demand(Some(nonce)));
    }
    let error = bench.fetch().await.unwrap_err();
    bench.issuer.assert_done();
    assert_eq!(error.code(), Some("use_dpop_nonce"));
    // What it said last is remembered all the same.
    bench.issuer.reply(Reply::json(BOUND));
    bench.fetch().await.unwrap();
    assert_eq!(bench.proofs().last().unwrap()["nonce"], "n3");
}

#[tokio::test]
async fn d3_a_nonce_that_is_demanded_again_ends_it() {
    let bench = bench();
    bench.issuer.reply(demand(Some("n1")));
    bench.issuer.reply(demand(Some("n1")));
    let error = bench.fetch().await.unwrap_err();
    bench.issuer.assert_done();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("use_dpop_nonce"), "{error}");
}

#[tokio::test]
async fn d4_a_demand_without_a_nonce_names_the_header() {
    for reply in [
        demand(None),
        demand(Some("a")).with_header(NONCE, "not a nonce"),
        demand(Some("")),
    ] {
        let bench = bench();
        bench.issuer.reply(reply);
        let error = bench.fetch().await.unwrap_err();
        bench.issuer.assert_done();
        assert!(error.to_string().contains("DPoP-Nonce"), "{error}");
    }
}

#[tokio::test]
async fn d5_a_nonce_that_comes_with_a_token_is_used_next() {
    let bench = bench();
    bench
        .issuer
        .reply(Reply::json(BOUND).with_header(NONCE, "n1"));
    bench.issuer.reply(Reply::json(BOUND));
    bench.fetch().await.unwrap();
    bench.fetch().await.unwrap();
    bench.issuer.assert_done();
    assert_eq!(bench.proofs().last().unwrap()["nonce"], "n1");
}

#[tokio::test]
async fn d11_a_nonce_that_comes_with_a_refusal_is_used_next() {
    let bench = bench();
    bench
        .issuer
        .reply(Reply::status(429).with_header(NONCE, "n1"));
    bench.issuer.reply(Reply::json(BOUND));
    bench.fetch().await.unwrap_err();
    bench.fetch().await.unwrap();
    assert_eq!(bench.proofs().last().unwrap()["nonce"], "n1");
}

#[tokio::test]
async fn d8_a_bearer_token_is_refused_unless_it_was_allowed() {
    let bench = bench();
    bench.issuer.reply(Reply::json(BEARER));
    let error = bench.fetch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let said = error.to_string();
    assert!(said.contains("Bearer") && said.contains("DPoP"), "{said}");

    let bench = bench_with(Dpop::accepting_bearer);
    bench.issuer.reply(Reply::json(BEARER));
    let token = bench.fetch().await.unwrap();
    assert_eq!(token.placement().scheme(), Some("Bearer"));
    let mut request = Request::get("https://api.test/").body(()).unwrap();
    stamp(&bench.dpop, &token, &mut request).unwrap();
    assert_eq!(header(&request, "authorization"), "Bearer t");
    assert!(!request.headers().contains_key("dpop"));
}

fn header<B>(request: &Request<B>, name: &str) -> String {
    let value = request.headers().get(name).unwrap();
    value.to_str().unwrap().to_owned()
}

fn stamp<B>(dpop: &Dpop, token: &Token, request: &mut Request<B>) -> Result<Stamped, Error> {
    let clock = ManualClock::default();
    dpop.stamp(&dpop.prepare(token)?, request, &StampContext::new(&clock))
}

fn bound() -> Token {
    Token::with_scheme("DPoP", "t")
}

#[test]
fn d6_a_request_carries_a_proof_for_itself() {
    let bench = bench();
    let mut request = Request::get("https://API.test:443/a/B%20c?x=canary")
        .body(())
        .unwrap();
    assert_eq!(
        stamp(&bench.dpop, &bound(), &mut request).unwrap(),
        Stamped::Done
    );
    assert_eq!(header(&request, "authorization"), "DPoP t");
    assert!(request.headers().values().all(|value| value.is_sensitive()));
    let claims = proof(&request);
    assert_eq!(claims["htm"], "GET");
    assert_eq!(claims["htu"], "https://api.test/a/B%20c");
    assert_eq!(claims["iat"], 1_893_456_000);
    assert_eq!(claims["ath"], BASE64.encode(digest(&SHA256, b"t")));
    assert!(
        BASE64
            .decode(claims["jti"].as_str().unwrap())
            .unwrap()
            .len()
            >= 12
    );
}

#[test]
fn d12_the_method_is_written_as_it_is_sent() {
    let bench = bench();
    for method in ["PATCH", "PROPFIND", "GET"] {
        let mut request = Request::builder()
            .method(method)
            .uri("http://127.0.0.1:8080")
            .body(())
            .unwrap();
        stamp(&bench.dpop, &bound(), &mut request).unwrap();
        let claims = proof(&request);
        assert_eq!(claims["htm"], method);
        assert_eq!(claims["htu"], "http://127.0.0.1:8080/");
    }
}

#[test]
fn fc_h10_each_request_has_a_proof_of_its_own() {
    let bench = bench();
    let ids: HashSet<_> = (0..100)
        .map(|_| {
            let mut request = Request::get("https://api.test/").body(()).unwrap();
            stamp(&bench.dpop, &bound(), &mut request).unwrap();
            proof(&request)["jti"].to_string()
        })
        .collect();
    assert_eq!(ids.len(), 100);
}

#[test]
fn a_request_that_does_not_say_where_it_goes_cannot_be_proved() {
    let mut request = Request::get("/a").body(()).unwrap();
    let error = stamp(&bench().dpop, &bound(), &mut request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(request.headers().is_empty());
}

#[test]
fn what_is_no_bound_token_is_not_stamped() {
    let dpop = bench().dpop;
    for token in [
        Token::bearer("canary"),
        Token::with_scheme("Basic", "canary"),
        Token::in_header(HeaderName::from_static("x-api-key"), "canary"),
        Token::with_scheme("DPoP", "canary\n"),
        Token::with_scheme("DPoP", ""),
    ] {
        let error = dpop.prepare(&token).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(!format!("{error:?}").contains("canary"), "{error}");
    }
}

#[test]
fn a_request_with_a_proof_or_a_credential_is_left_alone() {
    let dpop = bench().dpop;
    for name in ["authorization", "dpop"] {
        let mut request = Request::get("https://api.test/")
            .header(name, "theirs")
            .body(())
            .unwrap();
        assert_eq!(
            stamp(&dpop, &bound(), &mut request).unwrap(),
            Stamped::Occupied
        );
        assert_eq!(request.headers().len(), 1);
        let prepared = dpop.prepare(&bound()).unwrap();
        assert_eq!(
            dpop.present(&prepared, request.headers()).unwrap(),
            "theirs"
        );
        dpop.clear(&prepared, request.headers_mut());
        assert!(request.headers().is_empty());
    }
}

#[tokio::test]
async fn d10_the_key_of_the_token_is_the_key_of_the_proofs() {
    let bench = bench();
    bench.issuer.reply(Reply::json(BOUND));
    bench.fetch().await.unwrap();
    let jwk = part(&text(&bench.issuer.last_request()), 0)["jwk"].to_string();
    // The members are in the order of a thumbprint.
    assert_eq!(
        bench.dpop.thumbprint(),
        BASE64.encode(digest(&SHA256, jwk.as_bytes()))
    );
    let world = World::closed();
    let other = Dpop::new(SigningKey::generate().unwrap(), &world);
    assert_ne!(other.thumbprint(), bench.dpop.thumbprint());
}

#[tokio::test]
async fn a_refused_proof_tells_how_far_the_clocks_are_apart() {
    for (ahead, text) in [(true, "300 s ahead of"), (false, "300 s behind")] {
        let bench = bench();
        let now = ManualClock::default().now();
        let skew = Duration::from_secs(300);
        let theirs = if ahead { now - skew } else { now + skew };
        let refusal = Reply::json(r#"{"error":"invalid_dpop_proof"}"#).with_status(400);
        bench.issuer.reply(refusal.with_date(theirs));
        let error = bench.fetch().await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn debug_shows_no_key_and_no_token() {
    let bench = bench();
    let guard = LeakGuard::new();
    guard.value("dpop", &bench.dpop);
    guard.value("layer", &bench.dpop.nonces_layer());
    let prepared = bench.dpop.prepare(&Token::with_scheme("DPoP", "canary"));
    let shown = format!("{:?} {:?}", prepared.unwrap(), bench.dpop);
    assert!(!shown.contains("canary"), "{shown}");
    guard.assert_clean();
}

#[tokio::test]
async fn the_layer_passes_other_requests_by() {
    let bench = bench();
    let service = tower::service_fn(|_: Request<()>| async {
        let response = Response::builder().header("dpop-nonce", "n").body(());
        Ok::<_, BoxError>(response.unwrap())
    });
    let service = bench.dpop.nonces_layer().layer(service);
    let request = Request::get("https://api.test/").body(()).unwrap();
    service.oneshot(request).await.unwrap();
    let mut stamped = Request::get("https://api.test/").body(()).unwrap();
    stamp(&bench.dpop, &bound(), &mut stamped).unwrap();
    assert!(proof(&stamped).get("nonce").is_none());
}

#[tokio::test]
async fn without_a_proof_a_bound_token_is_an_error() {
    let issuer = FakeEndpoint::new();
    issuer.expect(Expect::post("/token").no_header("dpop"), Reply::json(BOUND));
    let world = World::closed().with_transport(issuer.transport());
    let endpoint = TokenEndpoint::new("https://issuer.test/token", &world).unwrap();
    let source = ClientCredentials::new(endpoint, ClientAuth::none("id").unwrap());
    let error = source.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
    assert!(error.to_string().contains("DPoP"), "{error}");
}
