//! What the issuer and the API of the examples answer.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics when its premises do not hold"
)]

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower_auth::{ErrorKind, Fetch, Reason, TokenSource};
use tower_auth_examples::{Api, Issuer};
use tower_auth_io::{Transport, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};

const LIFETIME: Duration = Duration::from_secs(60);

async fn send(request: Request<Full<Bytes>>) -> Response<Bytes> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

async fn ask(issuer: &Issuer, form: &'static str) -> Response<Bytes> {
    let request = Request::post(issuer.token_url())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(form));
    send(request.unwrap()).await
}

async fn call(api: &Api, authorization: Option<&str>) -> Response<Bytes> {
    let mut request = Request::get(api.url());
    if let Some(value) = authorization {
        request = request.header(AUTHORIZATION, value);
    }
    send(request.body(Full::default()).unwrap()).await
}

fn source(issuer: &Issuer, auth: ClientAuth) -> ClientCredentials {
    let http = Client::builder(TokioExecutor::new()).build_http();
    let world = World::new(Transport::from_http(http));
    ClientCredentials::new(
        TokenEndpoint::new(&issuer.token_url(), &world).unwrap(),
        auth,
    )
}

#[tokio::test]
async fn a_client_is_known_by_its_secret_in_the_header_and_in_the_form() {
    let issuer = Issuer::start(LIFETIME).await.unwrap();
    let api = Api::start(issuer.verifier()).await.unwrap();
    let (id, secret) = (issuer.client_id(), issuer.client_secret());
    for auth in [
        ClientAuth::secret_basic(id, secret.clone()).unwrap(),
        ClientAuth::secret_post(id, secret).unwrap(),
    ] {
        let token = source(&issuer, auth)
            .fetch(&Fetch::new(Reason::First))
            .await
            .unwrap();
        let value = format!("Bearer {}", token.secret().expose());
        assert_eq!(call(&api, Some(&value)).await.status(), StatusCode::OK);
    }
    assert_eq!(issuer.ledger().issued, 2);
    assert_eq!(api.seen().accepted, 2);
}

#[tokio::test]
async fn a_wrong_secret_is_an_invalid_client() {
    let issuer = Issuer::start(LIFETIME).await.unwrap();
    for auth in [
        ClientAuth::secret_basic(issuer.client_id(), "wrong").unwrap(),
        ClientAuth::secret_post(issuer.client_id(), "wrong").unwrap(),
    ] {
        let error = source(&issuer, auth)
            .fetch(&Fetch::new(Reason::First))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.code(), Some("invalid_client"));
    }
    assert_eq!(issuer.ledger().refused, 2);
}

#[tokio::test]
async fn a_request_that_names_no_client_is_refused_with_a_challenge() {
    let issuer = Issuer::start(LIFETIME).await.unwrap();
    let response = ask(&issuer, "grant_type=client_credentials").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(response.headers().contains_key(WWW_AUTHENTICATE));
}

#[tokio::test]
async fn an_issuer_that_is_down_does_not_answer_until_it_is_up() {
    let issuer = Issuer::start(LIFETIME).await.unwrap();
    let auth = ClientAuth::secret_basic(issuer.client_id(), issuer.client_secret()).unwrap();
    let source = source(&issuer, auth);
    issuer.take_down();
    let error = source.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.status(), None);
    assert_eq!(issuer.ledger().dropped, 1);

    issuer.bring_up();
    source.fetch(&Fetch::new(Reason::First)).await.unwrap();
    assert_eq!(issuer.ledger().issued, 1);
}

#[tokio::test]
async fn the_api_says_what_is_wrong_with_a_token_but_not_that_there_is_none() {
    let issuer = Issuer::start(LIFETIME).await.unwrap();
    let stranger = Issuer::start(LIFETIME).await.unwrap();
    let api = Api::start(issuer.verifier()).await.unwrap();
    let challenge = |response: &Response<Bytes>| {
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let value = response.headers()[WWW_AUTHENTICATE].to_str().unwrap();
        value.to_owned()
    };

    let without = challenge(&call(&api, None).await);
    assert!(!without.contains("error"), "{without}");

    let revoked = format!("Bearer {}", issuer.token().unwrap().expose());
    issuer.revoke(1);
    let foreign = format!("Bearer {}", stranger.token().unwrap().expose());
    for token in [&revoked, &foreign] {
        let refused = challenge(&call(&api, Some(token)).await);
        assert!(refused.contains(r#"error="invalid_token""#), "{refused}");
    }
    let seen = api.seen();
    assert_eq!((seen.without, seen.revoked, seen.invalid), (1, 1, 1));
}
