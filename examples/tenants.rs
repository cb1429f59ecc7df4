//! Shows: one credential per tenant, behind one client.
//! Run:   cargo run --example tenants
//! Needs: nothing; each tenant's issuer and the API that checks the tokens are stand-ins.

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::{
    BoxError, Error, ErrorKind, Fetch, KeyedAuthLayer, KeyedCache, RequestHead, Token, source_fn,
};
use tower_auth_examples::{Api, Issuer};

/// Whose request it is. The program puts this into the extensions of a request once it knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tenant(&'static str);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let issuer = Arc::new(Issuer::start(Duration::from_secs(60)).await?);
    let api = Api::start(issuer.verifier()).await?;

    // Called once for each tenant, when its first request comes.
    let source_of = move |tenant: &Tenant| {
        let (issuer, name) = (Arc::clone(&issuer), tenant.0);
        source_fn(move |_cx: Fetch| {
            let token = if name == "umbrella" {
                Err(Error::new(ErrorKind::Denied, "this tenant has not paid"))
            } else {
                let no_token = |cause| {
                    Error::new(ErrorKind::Unavailable, "it gave no token").with_cause(cause)
                };
                issuer.token().map_err(no_token)
            };
            async { Ok(Token::bearer(token?).expires_in(Duration::from_secs(60))) }
        })
        .named("the tenant's issuer")
    };
    let cache = KeyedCache::builder(source_of)
        .max_keys(10_000)
        .max_idle(Duration::from_secs(600))
        .build();
    let layer = KeyedAuthLayer::from_cache(tenant_of, cache.clone());
    let mut client = ServiceBuilder::new()
        .layer(layer)
        .service(Client::builder(TokioExecutor::new()).build_http());

    for tenant in ["initech", "hooli", "umbrella", "initech", "hooli"].map(Tenant) {
        let mut request = Request::get(api.url()).body(Full::<Bytes>::default())?;
        request.extensions_mut().insert(tenant.clone());
        match client.ready().await?.call(request).await {
            Ok(response) => println!("{}: the API answered {}", tenant.0, response.status()),
            Err(error) => println!("{}: {error}", tenant.0),
        }
    }
    println!("{} tenants are held", cache.len());
    for tenant in ["initech", "hooli", "umbrella"].map(Tenant) {
        if let Some(health) = cache.health(&tenant) {
            println!(
                "{} is {} in logs; fetches: {}, state: {:?}",
                tenant.0,
                cache.key_id(&tenant),
                health.fetches(),
                health.state()
            );
        }
    }
    Ok(())
}

/// The key lies in the request, so a look-up copies nothing.
fn tenant_of(head: RequestHead<'_>) -> Option<Cow<'_, Tenant>> {
    head.extensions().get::<Tenant>().map(Cow::Borrowed)
}
