//! Shows: a token on each request of a reqwest client, and redirects that do not carry it away.
//! Run:   cargo run --example reqwest_client --features reqwest
//! Needs: nothing; the issuer and the API are stand-ins.

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use std::time::Duration;

use http::{Request, Response};
use reqwest::redirect::Policy;
use reqwest::{Body, Client};
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_auth::{AuthLayer, BoxError};
use tower_auth_examples::{Api, Issuer};
use tower_auth_io::{Transport, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};
use tower_http::follow_redirect::FollowRedirectLayer;

/// The stack of layers, with a name that can be written into a struct.
type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// Sends what was built with reqwest through a stack. The answer has all methods of reqwest's, except that
/// its `url` is not known any more.
async fn send(stack: &Stack, request: reqwest::Request) -> Result<reqwest::Response, BoxError> {
    Ok(stack.clone().oneshot(request.try_into()?).await?.into())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let issuer = Issuer::start(Duration::from_secs(60)).await?;
    let api = Api::start(issuer.verifier()).await?;

    let hyper = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
    let world = World::new(Transport::from_http(hyper.build_http()));
    let endpoint = TokenEndpoint::new(&issuer.token_url(), &world)?;
    let auth = ClientAuth::secret_basic(issuer.client_id(), issuer.client_secret())?;
    let source = ClientCredentials::new(endpoint, auth);

    // Its own redirects would go on below the layer, which could not see where to.
    let client = Client::builder().redirect(Policy::none()).build()?;
    let below = client.clone();
    let stack = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(AuthLayer::new(source).origins([api.url().as_str()])?)
        .service(service_fn(move |request: Request<Body>| {
            let client = below.clone();
            async move {
                let response = client.execute(request.try_into()?).await?;
                Ok::<Response<Body>, reqwest::Error>(response.into())
            }
        }));

    let stack = Stack::new(stack);

    let request = client.get(api.url()).header("accept", "application/json");
    let response = send(&stack, request.build()?).await?.error_for_status()?;
    println!("the API answered {}", response.text().await?);
    println!("it accepted {} token", api.seen().accepted);
    Ok(())
}
