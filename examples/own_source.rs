//! Shows: a source of tokens of one's own.
//! Run:   cargo run --example own_source
//! Needs: nothing; the broker that hands out the tokens and the API that checks them are stand-ins.

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::{AuthLayer, BoxError, Description, Error, ErrorKind, Fetch, Token, TokenSource};
use tower_auth_examples::{Api, Issuer};

struct Broker(Issuer);

impl TokenSource for Broker {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        let text = self.0.token().map_err(|cause| {
            Error::new(ErrorKind::Unavailable, "it gave no token").with_cause(cause)
        })?;
        Ok(Token::bearer(text).expires_in(Duration::from_secs(60)))
    }

    fn describe(&self) -> Description {
        Description::new("my broker")
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let issuer = Issuer::start(Duration::from_secs(60)).await?;
    let api = Api::start(issuer.verifier()).await?;

    let layer = AuthLayer::new(Broker(issuer));
    let cache = layer.cache().clone();
    let mut client = ServiceBuilder::new()
        .layer(layer)
        .service(Client::builder(TokioExecutor::new()).build_http());

    for _ in 0..3 {
        let request = Request::get(api.url()).body(Full::<Bytes>::default())?;
        let response = client.ready().await?.call(request).await?;
        println!("the API answered {}", response.status());
    }
    let health = cache.health();
    println!(
        "{} was asked {} time for {} requests",
        health.source(),
        health.fetches(),
        api.seen().accepted
    );
    Ok(())
}
