//! Shows: the order of timeouts, a retry and the token, and a 401 that the caller does not see.
//! Run:   cargo run --example retry_and_timeout
//! Needs: nothing; it has a token revoked, so it runs against the stand-ins only.

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::{AuthLayer, BoxError, RetryOnUnauthorized};
use tower_auth_examples::{Api, Issuer};
use tower_auth_io::{Transport, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let issuer = Issuer::start(Duration::from_secs(60)).await?;
    let api = Api::start(issuer.verifier()).await?;
    let hyper = Client::builder(TokioExecutor::new()).build_http();

    let world = World::new(Transport::from_http(hyper.clone()));
    let endpoint = TokenEndpoint::new(&issuer.token_url(), &world)?;
    let auth = ClientAuth::secret_post(issuer.client_id(), issuer.client_secret())?;
    let source = ClientCredentials::new(endpoint, auth);

    let mut client = ServiceBuilder::new()
        // The whole call, with all attempts and the wait for a token.
        .timeout(Duration::from_secs(15))
        .retry(RetryOnUnauthorized::new())
        // One attempt.
        .timeout(Duration::from_secs(12))
        .layer(AuthLayer::new(source))
        .service(hyper);

    for revoked in [false, true] {
        if revoked {
            issuer.revoke(issuer.ledger().issued);
            println!("the token is revoked");
        }
        let request = Request::get(api.url()).body(Full::<Bytes>::default())?;
        let response = client.ready().await?.call(request).await?;
        println!("the caller sees {}", response.status());
    }
    let seen = api.seen();
    println!(
        "the API has answered 200 to {} requests and 401 to {}",
        seen.accepted,
        seen.refused()
    );
    Ok(())
}
