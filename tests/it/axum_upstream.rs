//! An axum service that calls another service with a credential of its own.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::{Layer, ServiceExt};
use tower_auth::{Auth, AuthLayer, BoxError, Error, ErrorKind, OnExisting};
use tower_auth_testing::{Answer, ScriptedSource};

use crate::loopback::Server;

type Upstream = Auth<Client<HttpConnector, Body>, ScriptedSource>;

#[derive(Clone)]
struct App {
    upstream: Upstream,
    origin: String,
}

/// Routes that make their own request, forward the caller's without its credential, and forward it as it
/// came.
fn app(upstream: Upstream, server: &Server) -> Router {
    Router::new()
        .route("/report", get(report))
        .route("/proxy", get(proxy))
        .route("/trap", get(trap))
        .with_state(App {
            upstream,
            origin: server.origin(),
        })
}

async fn report(State(app): State<App>) -> Response {
    let request = Request::get(format!("{}/rows", app.origin)).body(Body::empty());
    answer(app.upstream.oneshot(request.unwrap()).await)
}

async fn proxy(state: State<App>, mut request: Request<Body>) -> Response {
    // What the caller proved to us is no business of the service behind us.
    request.headers_mut().remove(AUTHORIZATION);
    trap(state, request).await
}

async fn trap(State(app): State<App>, mut request: Request<Body>) -> Response {
    request.headers_mut().remove(HOST);
    *request.uri_mut() = Uri::try_from(format!("{}/rows", app.origin)).unwrap();
    answer(app.upstream.oneshot(request).await)
}

/// axum's handlers answer, whatever happens. The caller is told what it can do, not what went wrong.
fn answer(result: Result<http::Response<hyper::body::Incoming>, BoxError>) -> Response {
    match result {
        Ok(response) => response.map(Body::new),
        Err(error) => match Error::find(&*error).map(Error::kind) {
            Some(ErrorKind::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
            Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
            None => StatusCode::BAD_GATEWAY,
        }
        .into_response(),
    }
}

fn client() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn layer() -> AuthLayer<ScriptedSource> {
    let token = tower_auth::Token::bearer("ours").never_expires();
    AuthLayer::new(ScriptedSource::new([Answer::token(token)]))
}

/// What arrives behind the service when a caller shows its own token at a route.
async fn upstream_sees(layer: AuthLayer<ScriptedSource>, route: &str) -> Vec<Vec<String>> {
    let server = Server::content().await;
    let app = app(layer.layer(client()), &server);
    let request = Request::get(route)
        .header(AUTHORIZATION, "Bearer callers")
        .body(Body::empty());
    let response = app.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    server.authorized()
}

#[tokio::test]
async fn a_handlers_own_request_carries_the_programs_credential() {
    assert_eq!(upstream_sees(layer(), "/report").await, [["Bearer ours"]]);
}

#[tokio::test]
async fn a_proxy_that_takes_the_callers_credential_off_sends_its_own() {
    assert_eq!(upstream_sees(layer(), "/proxy").await, [["Bearer ours"]]);
}

#[tokio::test]
async fn a_proxy_that_does_not_passes_the_callers_credential_on() {
    assert_eq!(upstream_sees(layer(), "/trap").await, [["Bearer callers"]]);
}

#[tokio::test]
async fn a_layer_that_replaces_closes_the_trap_and_one_that_fails_shows_it() {
    let replacing = layer().on_existing(OnExisting::Replace);
    assert_eq!(upstream_sees(replacing, "/trap").await, [["Bearer ours"]]);

    let server = Server::content().await;
    let failing = layer().on_existing(OnExisting::Error).layer(client());
    let request = Request::get("/trap").header(AUTHORIZATION, "Bearer callers");
    let response = app(failing, &server)
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_service_without_a_credential_answers_all_the_same() {
    let server = Server::content().await;
    let source = ScriptedSource::new([Answer::error(ErrorKind::Unavailable)]);
    // The cache would wait for the next attempt; this service prefers to answer.
    let options =
        tower_auth::policy::RefreshOptions::default().with_wait_budget(std::time::Duration::ZERO);
    let cache = tower_auth::TokenCache::builder(source).refresh(options);
    let upstream = AuthLayer::from_cache(cache.build()).layer(client());
    let request = Request::get("/report").body(Body::empty());
    let response = app(upstream, &server)
        .oneshot(request.unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(server.seen().is_empty());
}
