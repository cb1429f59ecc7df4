use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, interval};
use tower::{Layer, ServiceExt};
use tower_auth::{AuthLayer, BoxError, ErrorKind, Fetch, Reason, TokenCache, TokenSource};
use tower_auth_io::{Transport, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};

use crate::api::Api;
use crate::harness::{or_skip, post_form};
use crate::oidc_provider::OidcProvider;

#[tokio::test]
async fn a_client_with_basic_is_served_over_several_renewals() -> Result<(), BoxError> {
    let client = OidcProvider::BASIC;
    serve_over_several_renewals(ClientAuth::secret_basic(client.id, client.secret)?).await
}

#[tokio::test]
async fn a_client_with_post_is_served_over_several_renewals() -> Result<(), BoxError> {
    let client = OidcProvider::POST;
    serve_over_several_renewals(ClientAuth::secret_post(client.id, client.secret)?).await
}

#[tokio::test]
async fn a_wrong_secret_is_denied_and_not_shown() -> Result<(), BoxError> {
    let Some(provider) = or_skip(OidcProvider::start(LIFETIME).await) else {
        return Ok(());
    };
    for client in [
        ClientAuth::secret_basic(OidcProvider::BASIC.id, "canary-%+")?,
        ClientAuth::secret_post(OidcProvider::POST.id, "canary-%+")?,
    ] {
        let source = source(&provider, client)?;
        let error = source.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert_eq!(error.code(), Some("invalid_client"), "{error}");
        let shown = format!("{error} {error:?} {source:?}");
        assert!(!shown.contains("canary"), "{shown}");
    }
    Ok(())
}

/// Traffic for three lives of a token, to an API that checks each one.
async fn serve_over_several_renewals(client: ClientAuth) -> Result<(), BoxError> {
    let Some(provider) = or_skip(OidcProvider::start(LIFETIME).await) else {
        return Ok(());
    };
    let issuer = provider.issuer();
    let api = Api::start(&issuer, &provider.jwks_uri(), OidcProvider::AUDIENCE).await?;
    let cache = TokenCache::new(source(&provider, client)?);
    let layer = AuthLayer::from_cache(cache.clone()).origins([api.url()])?;
    let service = layer.layer(http_client());

    let end = Instant::now() + 3 * LIFETIME;
    let mut pace = interval(Duration::from_millis(20));
    let mut sent = 0;
    while Instant::now() < end {
        pace.tick().await;
        let request = Request::get(api.url()).body(Full::default())?;
        let response = service.clone().oneshot(request).await?;
        assert_eq!(
            response.status(),
            StatusCode::OK,
            "{:?}",
            api.seen().refused
        );
        response.into_body().collect().await?;
        sent += 1;
    }

    let seen = api.seen();
    assert_eq!((seen.accepted, seen.refused.len()), (sent, 0));
    // One at the start, and one at about each half of a life.
    let used = seen.tokens.len();
    assert!((4..=10).contains(&used), "{used} tokens");
    let health = cache.health();
    assert_eq!(health.failures(), 0, "{health:?}");
    // The last one may not have been used yet.
    let fetched = usize::try_from(health.fetches())?;
    assert!(
        fetched == used || fetched == used + 1,
        "{fetched} fetches, {used} tokens"
    );
    Ok(())
}

fn source(provider: &OidcProvider, client: ClientAuth) -> Result<ClientCredentials, BoxError> {
    let world = World::new(Transport::from_http(http_client()));
    let endpoint = TokenEndpoint::new(&provider.token_endpoint(), &world)?;
    Ok(ClientCredentials::new(endpoint, client).with_scope(OidcProvider::SCOPE))
}

fn http_client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

const LIFETIME: Duration = Duration::from_secs(8);

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
