//! Assertions: what is in them, that servers can verify them, and what happens when one is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, Validation, decode};
use serde_json::{Value, json};
use tower_auth_core::{Error, ErrorKind, Fetch, Reason, Secret, Token, TokenSource};
use tower_auth_io::{ManualClock, World};
use tower_auth_oauth::{
    Algorithm, Assertion, Certificates, ClientAuth, ClientCredentials, HmacAlgorithm, SigningKey,
    TokenEndpoint,
};
use tower_auth_testing::{Answer, Expect, FakeEndpoint, Reply, ScriptedSource};

const TOKEN: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#;
const URL: &str = "https://issuer.test/t1/token";
const NOW: u64 = 1_893_456_000;

const RSA: &str = include_str!("keys/rsa.pem");
const P256: &str = include_str!("keys/p256.pem");
const P384: &str = include_str!("keys/p384.pem");
const P521: &str = include_str!("keys/p521.pem");
const ED25519: &str = include_str!("keys/ed25519.pem");

fn key(pem: &str) -> SigningKey {
    SigningKey::from_pem(pem).unwrap()
}

fn world(issuer: &FakeEndpoint) -> World {
    World::closed()
        .with_transport(issuer.transport())
        .with_clock(ManualClock::at_unix(NOW))
}

async fn fetch(issuer: &FakeEndpoint, auth: ClientAuth) -> Result<Token, Error> {
    let endpoint = TokenEndpoint::new(URL, &world(issuer)).unwrap();
    let source = ClientCredentials::new(endpoint, auth);
    source.fetch(&Fetch::new(Reason::First)).await
}

/// The assertion that was sent for this client.
async fn sent(auth: ClientAuth) -> String {
    let issuer = FakeEndpoint::new();
    issuer.reply(Reply::json(TOKEN));
    fetch(&issuer, auth).await.unwrap();
    field(&issuer.last_request(), "client_assertion").unwrap()
}

fn field(request: &Request<Bytes>, name: &str) -> Option<String> {
    form_urlencoded::parse(request.body())
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.into_owned())
}

fn part(jwt: &str, nth: usize) -> Value {
    let part = jwt.split('.').nth(nth).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Verified by a library that others wrote. It knows Ed25519 under one name only.
fn verify(jwt: &str, key: &SigningKey) -> Value {
    let jwk: Jwk = serde_json::from_str(&key.public_jwk()).unwrap();
    let algorithm = match key.algorithm() {
        Algorithm::Ed25519 => "EdDSA",
        other => other.as_str(),
    };
    let mut validation = Validation::new(algorithm.parse().unwrap());
    validation.validate_exp = false;
    validation.validate_aud = false;
    let decoding = DecodingKey::from_jwk(&jwk).unwrap();
    decode(jwt, &decoding, &validation).unwrap().claims
}

#[tokio::test]
async fn o4_the_claims_are_those_of_a_client_for_this_endpoint() {
    let key = key(RSA);
    let jwt = sent(ClientAuth::private_key_jwt("reports", key.clone()).unwrap()).await;
    let claims = verify(&jwt, &key);
    assert_eq!(claims["iss"], "reports");
    assert_eq!(claims["sub"], "reports");
    assert_eq!(claims["aud"], URL);
    assert_eq!(claims["iat"], NOW);
    assert_eq!(claims["exp"], NOW + 60);
    assert_eq!(claims["jti"].as_str().unwrap().len(), 36);
    assert_eq!(claims.as_object().unwrap().len(), 6, "{claims}");
    assert_eq!(part(&jwt, 0), json!({"alg": "RS256", "typ": "JWT"}));
}

#[tokio::test]
async fn fc_h09_each_attempt_has_an_assertion_of_its_own() {
    let issuer = FakeEndpoint::new();
    issuer.always(|_, nth| match nth {
        0 => Reply::status(503),
        _ => Reply::json(TOKEN),
    });
    let endpoint = TokenEndpoint::new(URL, &world(&issuer)).unwrap();
    let auth = ClientAuth::private_key_jwt("reports", key(P256)).unwrap();
    let source = ClientCredentials::new(endpoint, auth);
    for _ in 0..5 {
        let _ = source.fetch(&Fetch::new(Reason::First)).await;
    }
    let ids: HashSet<_> = issuer
        .requests()
        .iter()
        .map(|request| part(&field(request, "client_assertion").unwrap(), 1)["jti"].to_string())
        .collect();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn fc_h09_an_assertion_lives_for_five_minutes_at_most() {
    let assertion = Assertion::new(key(P256), "reports");
    for seconds in [0, 301, 3600] {
        let lifetime = Duration::from_secs(seconds);
        let error = assertion.clone().with_lifetime(lifetime).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
    let assertion = assertion
        .with_lifetime(Duration::from_secs(300))
        .unwrap()
        .with_backdate(Duration::from_secs(3600))
        .with_not_before();
    let jwt = sent(ClientAuth::assertion("reports", assertion).unwrap()).await;
    let claims = part(&jwt, 1);
    assert_eq!(claims["iat"], NOW - 30);
    assert_eq!(claims["nbf"], NOW - 30);
    assert_eq!(claims["exp"], NOW + 270);
}

#[tokio::test]
async fn fc_h09_the_audience_is_the_endpoint_or_what_the_server_wants() {
    let assertion = Assertion::new(key(P256), "reports").with_audience("https://issuer.test");
    let jwt = sent(ClientAuth::assertion("reports", assertion).unwrap()).await;
    assert_eq!(part(&jwt, 1)["aud"], "https://issuer.test");
}

#[tokio::test]
async fn o5_a_key_id_is_sent_if_there_is_one() {
    for (id, expected) in [
        (Some("2030-01"), Value::from("2030-01")),
        (Some(" "), Value::Null),
        (None, Value::Null),
    ] {
        let mut key = key(P256);
        if let Some(id) = id {
            key = key.with_key_id(id);
        }
        let jwt = sent(ClientAuth::private_key_jwt("reports", key).unwrap()).await;
        let header = part(&jwt, 0);
        assert_eq!(header["kid"], expected);
        assert_eq!(header.get("kid").is_some(), !expected.is_null());
    }
}

#[tokio::test]
async fn o6_each_algorithm_is_verified_by_another_library() {
    for (pem, algorithm, signature) in [
        (RSA, Algorithm::Rs256, 256),
        (RSA, Algorithm::Rs384, 256),
        (RSA, Algorithm::Rs512, 256),
        (RSA, Algorithm::Ps256, 256),
        (RSA, Algorithm::Ps384, 256),
        (RSA, Algorithm::Ps512, 256),
        (P256, Algorithm::Es256, 64),
        (P384, Algorithm::Es384, 96),
        (ED25519, Algorithm::EdDsa, 64),
    ] {
        let key = key(pem).with_algorithm(algorithm).unwrap();
        let jwt = sent(ClientAuth::private_key_jwt("reports", key.clone()).unwrap()).await;
        assert_eq!(verify(&jwt, &key)["iss"], "reports", "{algorithm}");
        assert_eq!(part(&jwt, 0)["alg"], algorithm.as_str());
        let raw = jwt.rsplit('.').next().unwrap();
        let raw = BASE64_URL_SAFE_NO_PAD.decode(raw).unwrap();
        assert_eq!(raw.len(), signature, "{algorithm}");
    }
}

#[tokio::test]
async fn the_other_names_and_curves_are_signed_with_too() {
    use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, ED25519 as EDWARDS, UnparsedPublicKey};

    let ed = key(ED25519).with_algorithm(Algorithm::Ed25519).unwrap();
    for (key, coordinates) in [(ed, &["x"][..]), (key(P521), &["x", "y"][..])] {
        let jwt = sent(ClientAuth::private_key_jwt("reports", key.clone()).unwrap()).await;
        assert_eq!(part(&jwt, 0)["alg"], key.algorithm().as_str());
        let jwk: Value = serde_json::from_str(&key.public_jwk()).unwrap();
        let mut public = if coordinates.len() == 2 {
            vec![4]
        } else {
            vec![]
        };
        for name in coordinates {
            let number = jwk[name].as_str().unwrap();
            public.extend(BASE64_URL_SAFE_NO_PAD.decode(number).unwrap());
        }
        let (message, signature) = jwt.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let verified = if coordinates.len() == 2 {
            UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, public)
                .verify(message.as_bytes(), &signature)
        } else {
            UnparsedPublicKey::new(&EDWARDS, public).verify(message.as_bytes(), &signature)
        };
        verified.unwrap();
    }
}

#[tokio::test]
async fn a_shared_secret_signs_and_stays_here() {
    let secret = "a shared secret of sixty-four bytes, which is as many as HS512 wants";
    for (algorithm, name) in [
        (HmacAlgorithm::Hs256, "HS256"),
        (HmacAlgorithm::Hs384, "HS384"),
        (HmacAlgorithm::Hs512, "HS512"),
    ] {
        let issuer = FakeEndpoint::new();
        issuer.expect(
            Expect::post("/t1/token")
                .no_header("authorization")
                .no_form("client_secret")
                .form("client_id", "reports")
                .form(
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                ),
            Reply::json(TOKEN),
        );
        let auth = ClientAuth::secret_jwt("reports", secret, algorithm).unwrap();
        fetch(&issuer, auth).await.unwrap();
        issuer.assert_done();
        let jwt = field(&issuer.last_request(), "client_assertion").unwrap();
        assert_eq!(part(&jwt, 0), json!({"alg": name, "typ": "JWT"}));
        let mut validation = Validation::new(name.parse().unwrap());
        validation.validate_exp = false;
        validation.set_audience(&[URL]);
        let decoding = DecodingKey::from_secret(secret.as_bytes());
        decode::<Value>(&jwt, &decoding, &validation).unwrap();
    }
}

#[test]
fn a_shared_secret_that_is_shorter_than_the_hash_is_refused() {
    let error = ClientAuth::secret_jwt("id", "canary-short", HmacAlgorithm::Hs256).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let text = error.to_string();
    assert!(text.contains("HS256") && text.contains("32"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test]
async fn a_certificate_is_named_in_the_header() {
    let certificates = Certificates::from_pem(include_str!("keys/rsa-cert.pem")).unwrap();
    let assertion = Assertion::new(key(RSA), "reports")
        .with_certificate_thumbprint(&certificates)
        .unwrap()
        .with_certificate_chain(&certificates)
        .unwrap()
        .with_header("typ", "client-authentication+jwt")
        .unwrap()
        .with_claim("scope", "read")
        .unwrap();
    let jwt = sent(ClientAuth::assertion("reports", assertion).unwrap()).await;
    let header = part(&jwt, 0);
    assert_eq!(header["x5t#S256"], certificates.thumbprint());
    assert_eq!(header["x5t#S256"].as_str().unwrap().len(), 43);
    assert!(header["x5c"][0].as_str().unwrap().starts_with("MII"));
    assert_eq!(header["typ"], "client-authentication+jwt");
    assert_eq!(part(&jwt, 1)["scope"], "read");
}

#[test]
fn a_certificate_for_another_key_is_refused() {
    let certificates = Certificates::from_pem(include_str!("keys/rsa-cert.pem")).unwrap();
    let error = Assertion::new(key(P256), "reports")
        .with_certificate_thumbprint(&certificates)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let own = Certificates::from_pem(include_str!("keys/p256-cert.pem")).unwrap();
    Assertion::new(key(P256), "reports")
        .with_certificate_chain(&own)
        .unwrap();
}

#[test]
fn what_the_assertion_sets_itself_cannot_be_added() {
    let assertion = || Assertion::new(key(P256), "reports");
    for name in ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"] {
        let error = assertion().with_claim(name, 1).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    for name in ["alg", "kid", "crit", "b64"] {
        let error = assertion().with_header(name, "x").unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_clock_before_1970_is_an_error_that_says_so() {
    let world = World::closed().with_clock(ManualClock::at(
        SystemTime::UNIX_EPOCH - Duration::from_secs(1),
    ));
    let error = Assertion::new(key(P256), "reports")
        .sign(&world, URL)
        .unwrap_err();
    assert!(error.to_string().contains("1970"), "{error}");
}

#[tokio::test]
async fn the_assertion_of_another_source_is_asked_for_at_each_attempt() {
    let source = ScriptedSource::new(["eyJ.a.1", "eyJ.a.2"].map(answer));
    let auth = ClientAuth::assertion_from("reports", source).unwrap();
    for expected in ["eyJ.a.1", "eyJ.a.2"] {
        assert_eq!(sent(auth.clone()).await, expected);
    }
}

fn answer(text: &str) -> Answer {
    Answer::token(Token::bearer(text).expires_in(Duration::from_secs(3600)))
}

fn refused(status: u16) -> Reply {
    Reply::json(r#"{"error":"invalid_client"}"#).with_status(status)
}

#[tokio::test]
async fn fc_a30_a_refused_assertion_is_read_again_and_tried_once_if_it_has_changed() {
    for status in [400, 401] {
        let issuer = FakeEndpoint::new();
        issuer.reply(refused(status));
        issuer.reply(Reply::json(TOKEN));
        let source = std::sync::Arc::new(ScriptedSource::new(["old", "new"].map(answer)));
        let auth = ClientAuth::assertion_from("reports", source.clone()).unwrap();
        fetch(&issuer, auth).await.unwrap();
        issuer.assert_done();
        let assertions: Vec<_> = issuer
            .requests()
            .iter()
            .map(|request| field(request, "client_assertion").unwrap())
            .collect();
        assert_eq!(assertions, ["old", "new"]);
        assert_eq!(source.last_call().reason(), Reason::Rejected);
    }
}

#[tokio::test]
async fn fc_a30_the_same_assertion_is_not_tried_twice() {
    let issuer = FakeEndpoint::new();
    issuer.reply(refused(401));
    let auth = ClientAuth::assertion_from("reports", "the same").unwrap();
    let error = fetch(&issuer, auth).await.unwrap_err();
    assert_eq!(error.code(), Some("invalid_client"));
    issuer.assert_done();
}

#[tokio::test]
async fn fc_a30_a_second_refusal_is_final() {
    let issuer = FakeEndpoint::new();
    issuer.reply(refused(401));
    issuer.reply(refused(401));
    let source = ScriptedSource::new(["a", "b", "c"].map(answer));
    let auth = ClientAuth::assertion_from("reports", source).unwrap();
    fetch(&issuer, auth).await.unwrap_err();
    issuer.assert_done();
}

#[tokio::test]
async fn fc_a30_an_outage_or_another_refusal_does_not_ask_again() {
    for reply in [
        Reply::status(503),
        Reply::json(r#"{"error":"invalid_scope"}"#).with_status(400),
    ] {
        let issuer = FakeEndpoint::new();
        issuer.reply(reply);
        let source = std::sync::Arc::new(ScriptedSource::new(["a", "b"].map(answer)));
        let auth = ClientAuth::assertion_from("reports", source.clone()).unwrap();
        fetch(&issuer, auth).await.unwrap_err();
        assert_eq!(source.call_count(), 1);
        issuer.assert_done();
    }
}

#[tokio::test]
async fn fc_a30_a_source_that_fails_then_leaves_the_issuers_answer() {
    let issuer = FakeEndpoint::new();
    issuer.reply(refused(401));
    let source = ScriptedSource::new([answer("a"), Answer::error(ErrorKind::Unavailable)]);
    let auth = ClientAuth::assertion_from("reports", source).unwrap();
    let error = fetch(&issuer, auth).await.unwrap_err();
    assert_eq!(error.code(), Some("invalid_client"));
}

#[tokio::test]
async fn o17_an_assertion_that_is_about_to_run_out_is_asked_for_again() {
    let short = Answer::token(Token::bearer("short").expires_in(Duration::from_secs(5)));
    let source = std::sync::Arc::new(ScriptedSource::new([short, answer("long")]));
    let auth = ClientAuth::assertion_from("reports", source.clone()).unwrap();
    assert_eq!(sent(auth).await, "long");
    let calls = source.calls();
    assert_eq!(calls[0].min_remaining(), Duration::from_secs(60));
    assert_eq!(calls[1].reason(), Reason::Forced);
}

#[tokio::test]
async fn a_blank_assertion_is_not_sent() {
    let issuer = FakeEndpoint::new();
    let auth = ClientAuth::assertion_from("reports", Secret::from(" ")).unwrap();
    let error = fetch(&issuer, auth).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("client_assertion"), "{error}");
    issuer.assert_done();
}
