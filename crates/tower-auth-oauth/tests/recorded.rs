//! What another client was recorded sending to a certified server, and what it was answered: we send the
//! same, and read the same.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderName, Request};
use serde_json::Value;
use tower_auth_core::{Credential, Expiry, Fetch, Reason, TokenSource};
use tower_auth_io::World;
use tower_auth_oauth::{
    Algorithm, Assertion, ClientAuth, ClientCredentials, Discovery, Dpop, HmacAlgorithm,
    SigningKey, TokenEndpoint,
};
use tower_auth_testing::{FakeEndpoint, Reply};

fn recording() -> Value {
    serde_json::from_str(include_str!("recordings/oauth4webapi.json")).unwrap()
}

fn exchanges(keep: impl Fn(&Value) -> bool) -> Vec<Value> {
    let all = recording()["exchanges"].as_array().unwrap().clone();
    let kept: Vec<_> = all.into_iter().filter(|exchange| keep(exchange)).collect();
    assert!(!kept.is_empty());
    kept
}

fn reply(exchange: &Value) -> Reply {
    let answer = &exchange["answer"];
    let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
    let reply = Reply::json(answer["body"].to_string()).with_status(status);
    match answer["dpop-nonce"].as_str() {
        Some(nonce) => reply.with_header(HeaderName::from_static("dpop-nonce"), nonce),
        None => reply,
    }
}

fn source(issuer: &FakeEndpoint, auth: ClientAuth, dpop: bool) -> ClientCredentials {
    let world = World::closed().with_transport(issuer.transport());
    let mut endpoint = TokenEndpoint::new(recording()["url"].as_str().unwrap(), &world).unwrap();
    if dpop {
        endpoint = endpoint.with_dpop(Dpop::new(SigningKey::generate().unwrap(), &world));
    }
    ClientCredentials::new(endpoint, auth)
}

fn form(request: &Request<Bytes>) -> BTreeMap<String, String> {
    form_urlencoded::parse(request.body())
        .into_owned()
        .collect()
}

fn part(jws: &str, nth: usize) -> Value {
    let part = jws.split('.').nth(nth).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn assertions_agree_with_a_recording() {
    for exchange in exchanges(|exchange| exchange.get("assertion").is_some()) {
        let theirs = &exchange["assertion"];
        let client = exchange["form"]["client_id"].as_str().unwrap();
        let auth = match theirs["header"]["alg"].as_str().unwrap() {
            "HS256" => {
                let secret = "a-long-enough-shared-secret-of-32-bytes!";
                ClientAuth::secret_jwt(client, secret, HmacAlgorithm::Hs256)
            }
            name => {
                let (pem, algorithm) = match name {
                    "RS256" => (include_str!("keys/rsa.pem"), Algorithm::Rs256),
                    "PS256" => (include_str!("keys/rsa.pem"), Algorithm::Ps256),
                    "ES256" => (include_str!("keys/p256.pem"), Algorithm::Es256),
                    _ => (include_str!("keys/ed25519.pem"), Algorithm::Ed25519),
                };
                let key = SigningKey::from_pem(pem).unwrap();
                let key = key.with_algorithm(algorithm).unwrap();
                let key = key.with_key_id(theirs["header"]["kid"].as_str().unwrap());
                let audience = theirs["claims"]["aud"].as_str().unwrap();
                let assertion = Assertion::new(key, client).with_audience(audience);
                ClientAuth::assertion(client, assertion.with_not_before())
            }
        };
        let issuer = FakeEndpoint::new();
        issuer.reply(reply(&exchange));
        let scope = exchange["form"]["scope"].as_str().unwrap_or_default();
        let source = source(&issuer, auth.unwrap(), false).with_scope(scope);
        let token = source.fetch(&Fetch::new(Reason::First)).await.unwrap();
        assert_eq!(token.secret().expose(), "recorded");
        assert_eq!(token.expiry(), Expiry::In(Duration::from_secs(8)));

        let mut ours = form(&issuer.last_request());
        let jwt = ours.remove("client_assertion").unwrap();
        assert_eq!(serde_json::to_value(ours).unwrap(), exchange["form"]);
        let mut header = part(&jwt, 0);
        // The type may be left out, and is not by us (RFC 7519 section 5.1).
        header.as_object_mut().unwrap().remove("typ");
        assert_eq!(header, theirs["header"]);
        let claims = part(&jwt, 1);
        let mut expected = names(&theirs["claims"]);
        if client == "csjwt" {
            expected.remove("nbf");
        }
        assert_eq!(names(&claims), expected);
        assert_eq!(claims["iss"], theirs["claims"]["iss"]);
        assert_eq!(claims["sub"], theirs["claims"]["sub"]);
        let life =
            |claims: &Value| claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(life(&claims), life(&theirs["claims"]));
    }
}

#[tokio::test]
async fn the_dance_for_a_nonce_agrees_with_a_recording() {
    let exchanges = exchanges(|exchange| exchange.get("dpop").is_some());
    let issuer = FakeEndpoint::new();
    for exchange in &exchanges {
        issuer.reply(reply(exchange));
    }
    let auth = ClientAuth::secret_basic("dpop", "dpop-secret").unwrap();
    let source = source(&issuer, auth, true);
    let token = source.fetch(&Fetch::new(Reason::First)).await.unwrap();
    assert_eq!(token.placement().scheme(), Some("DPoP"));
    issuer.assert_done();
    for (request, exchange) in issuer.requests().iter().zip(&exchanges) {
        let theirs = &exchange["dpop"];
        let proof = request.headers()["dpop"].to_str().unwrap();
        let (header, claims) = (part(proof, 0), part(proof, 1));
        assert_eq!(names(&header), names(&theirs["header"]));
        assert_eq!(names(&header["jwk"]), names(&theirs["header"]["jwk"]));
        assert_eq!(header["typ"], theirs["header"]["typ"]);
        assert_eq!(names(&claims), names(&theirs["claims"]));
        for name in ["htm", "htu", "nonce"] {
            assert_eq!(claims.get(name), theirs["claims"].get(name), "{name}");
        }
        assert_eq!(
            serde_json::to_value(form(request)).unwrap(),
            exchange["form"]
        );
        // It writes a hyphen as %2D, which means the same.
        let decode = |header: &str| {
            let pair = BASE64_STANDARD.decode(&header["Basic ".len()..]).unwrap();
            let pair = String::from_utf8(pair).unwrap();
            pair.replace("%2D", "-")
        };
        let ours = request.headers()["authorization"].to_str().unwrap();
        assert_eq!(
            decode(ours),
            decode(exchange["authorization"].as_str().unwrap())
        );
    }
}

#[tokio::test]
async fn the_metadata_of_a_recording_is_understood() {
    let issuer = FakeEndpoint::new();
    issuer.reply(Reply::json(recording()["metadata"].to_string()));
    let world = World::closed().with_transport(issuer.transport());
    let discovery = Discovery::new("https://localhost:9443", &world).unwrap();
    let metadata = discovery.metadata().await.unwrap();
    assert_eq!(
        metadata.token_endpoint().to_string(),
        recording()["url"].as_str().unwrap()
    );
    assert!(metadata.mtls_token_endpoint().is_none());
}
