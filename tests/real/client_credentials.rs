use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;

use crate::api::Api;
use crate::harness::{or_skip, post_form};
use crate::oidc_provider::OidcProvider;

/// What the suites rest on, before anything of ours is tested with it.
#[tokio::test]
async fn the_provider_and_the_api_check_what_they_are_given() {
    let Some(provider) = or_skip(OidcProvider::start(Duration::from_secs(60)).await) else {
        return;
    };
    let api = Api::start(
        &provider.issuer(),
        &provider.jwks_uri(),
        OidcProvider::AUDIENCE,
    )
    .await
    .unwrap();

    let endpoint = provider.token_endpoint();
    let grant = [
        ("grant_type", "client_credentials"),
        ("scope", OidcProvider::SCOPE),
    ];
    let client = OidcProvider::BASIC;
    let not_encoded = basic(client.id, client.secret);
    let refused = post_form(&endpoint, Some(&not_encoded), &grant).await;
    assert!(refused.unwrap().status.is_client_error());

    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let encoded = basic(&encode(client.id), &encode(client.secret));
    let by_basic = post_form(&endpoint, Some(&encoded), &grant).await.unwrap();
    let client = OidcProvider::POST;
    let form = [
        ("client_id", client.id),
        ("client_secret", client.secret),
        grant[0],
        grant[1],
    ];
    let by_post = post_form(&endpoint, None, &form).await.unwrap();
    for answer in [by_basic, by_post] {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let token = answer["access_token"].as_str().unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
        for (token, status) in [(token, StatusCode::OK), (&forged, StatusCode::UNAUTHORIZED)] {
            let authorization = format!("Bearer {token}");
            let answer = post_form(api.url(), Some(&authorization), &[]).await;
            assert_eq!(answer.unwrap().status, status);
        }
    }
    let seen = api.seen();
    assert_eq!(
        (seen.accepted, seen.tokens.len(), seen.refused.len()),
        (2, 2, 2),
        "{seen:?}"
    );
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}
