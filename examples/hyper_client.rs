//! Shows: a token on each request of a hyper client.
//! Run:   cargo run --example hyper_client
//! Needs: nothing; set TOKEN_URL, CLIENT_ID, CLIENT_SECRET and API_URL to use an issuer and an API of yours.

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::{AuthLayer, BoxError};
use tower_auth_examples::Target;
use tower_auth_io::{SystemEnv, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let target = Target::find(&SystemEnv).await?;

    // The client that one has anyway.
    let https = HttpsConnectorBuilder::new().with_native_roots()?;
    let https = https.https_or_http().enable_http1().build();
    let hyper = Client::builder(TokioExecutor::new()).build(https);

    // Where tokens come from.
    let endpoint = TokenEndpoint::new(&target.token_url, &World::system()?)?;
    let auth = ClientAuth::secret_basic(&target.client_id, target.client_secret.clone())?;
    let source = ClientCredentials::new(endpoint, auth);

    let mut client = ServiceBuilder::new()
        .layer(AuthLayer::new(source).origins([target.api_url.as_str()])?)
        .service(hyper);

    let request = Request::get(&target.api_url).body(Full::<Bytes>::default())?;
    let response = client.ready().await?.call(request).await?;
    println!("{} answered {}", target.api_url, response.status());
    Ok(())
}
