//! Shows: a token on each call of a tonic client.
//! Run:   cargo run --example tonic_client --features tonic
//! Needs: nothing; the issuer and the gRPC API are stand-ins.

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;
use tower::ServiceBuilder;
use tower_auth::{AuthLayer, BoxError};
use tower_auth_examples::{GrpcApi, Issuer, Order, OrderRequest};
use tower_auth_io::{Transport, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let issuer = Issuer::start(Duration::from_secs(60)).await?;
    let api = GrpcApi::start(issuer.verifier()).await?;

    let hyper = Client::builder(TokioExecutor::new()).build_http();
    let world = World::new(Transport::from_http(hyper));
    let endpoint = TokenEndpoint::new(&issuer.token_url(), &world)?;
    let auth = ClientAuth::secret_basic(issuer.client_id(), issuer.client_secret())?;
    let source = ClientCredentials::new(endpoint, auth);

    let channel = Endpoint::from_shared(api.url())?.connect_lazy();
    let layer = AuthLayer::new(source)
        // A call is a path without a host: the channel talks to one server.
        .any_origin()
        // Status 200 and UNAUTHENTICATED (16) in a header.
        .refused(|status, headers| {
            status == StatusCode::UNAUTHORIZED
                || headers.get("grpc-status").is_some_and(|code| code == "16")
        });
    let service = ServiceBuilder::new().layer(layer).service(channel);

    // A generated client is made of the same service: `OrdersClient::new(service)`.
    let mut client = Grpc::new(service);
    for number in 1..=3 {
        client.ready().await?;
        let request = tonic::Request::new(OrderRequest { number });
        let path = PathAndQuery::from_static(GrpcApi::GET_ORDER);
        let codec = ProstCodec::<OrderRequest, Order>::default();
        let order = client.unary(request, path, codec).await?;
        println!("the API answered: {}", order.get_ref().item);
    }
    println!(
        "the issuer has issued {} token for 3 calls",
        issuer.ledger().issued
    );
    Ok(())
}
