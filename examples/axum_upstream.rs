//! Shows: an axum service that calls another API with a token of its own, not with its caller's.
//! Run:   cargo run --example axum_upstream --features axum
//! Needs: nothing; the issuer and the API are stand-ins.

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use std::net::Ipv4Addr;
use std::time::Duration;

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
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt};
use tower_auth::{Auth, AuthLayer, BoxError, Error, ErrorKind};
use tower_auth_examples::{Api, Issuer};
use tower_auth_io::{Transport, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};

#[derive(Clone)]
struct App {
    upstream: Auth<Client<HttpConnector, Body>, ClientCredentials>,
    orders: Uri,
}

async fn orders(State(app): State<App>, mut request: Request<Body>) -> Response {
    // Where the caller has proved who it is to this service, that proof stays here. The layer keeps a
    // header that is there already, so it would go on to the API in place of this service's own token.
    request.headers_mut().remove(AUTHORIZATION);
    request.headers_mut().remove(HOST);
    *request.uri_mut() = app.orders;
    match app.upstream.oneshot(request).await {
        Ok(response) => response.into_response(),
        Err(error) => status_of(&error).into_response(),
    }
}

/// No token for now, a fault of this service's set-up, or a fault of the API.
fn status_of(error: &BoxError) -> StatusCode {
    match Error::find(&**error).map(Error::kind) {
        Some(ErrorKind::Unavailable | ErrorKind::Overloaded) => StatusCode::SERVICE_UNAVAILABLE,
        Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
        None => StatusCode::BAD_GATEWAY,
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let issuer = Issuer::start(Duration::from_secs(60)).await?;
    let api = Api::start(issuer.verifier()).await?;

    let hyper = Client::builder(TokioExecutor::new()).build_http();
    let world = World::new(Transport::from_http(hyper));
    let endpoint = TokenEndpoint::new(&issuer.token_url(), &world)?;
    let auth = ClientAuth::secret_basic(issuer.client_id(), issuer.client_secret())?;
    let layer = AuthLayer::new(ClientCredentials::new(endpoint, auth));

    // Not before the first token is there does this service call itself ready.
    layer.cache().ready().await?;
    let app = Router::new().route("/orders", get(orders)).with_state(App {
        upstream: layer.layer(Client::builder(TokioExecutor::new()).build_http()),
        orders: api.url().parse()?,
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    let caller = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(format!("http://{address}/orders"))
        .header(AUTHORIZATION, "Bearer of-the-caller")
        .body(Body::empty())?;
    println!(
        "the caller sees {}",
        caller.request(request).await?.status()
    );
    println!("the API accepted {} token", api.seen().accepted);
    server.abort();
    Ok(())
}
