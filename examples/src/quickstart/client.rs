use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::{Service, ServiceBuilder};
use tower_auth::policy::{Profile, RefreshOptions};
use tower_auth::{AuthLayer, BoxError, Error, RetryOnUnauthorized, TokenSource};
use tower_auth_io::{Transport, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};

use crate::Issuer;

/// The client that one has anyway.
pub(crate) type Hyper = Client<HttpConnector, Empty<Bytes>>;

pub(crate) fn hyper() -> Hyper {
    Client::builder(TokioExecutor::new()).build_http()
}

/// Tokens from this issuer.
pub(crate) fn source(issuer: &Issuer) -> Result<ClientCredentials, Error> {
    let http: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let world = World::new(Transport::from_http(http));
    let endpoint = TokenEndpoint::new(&issuer.token_url(), &world)?;
    let client = ClientAuth::secret_basic(issuer.client_id(), issuer.client_secret())?;
    Ok(ClientCredentials::new(endpoint, client))
}

/// The same client with a token on each request. A request whose token is refused is sent once more
/// with the next one.
pub(crate) fn with_tokens<P: TokenSource>(
    layer: AuthLayer<P>,
    client: Hyper,
) -> impl Service<Request<Empty<Bytes>>, Response = Response<Incoming>, Error = BoxError, Future: Send>
+ Clone
+ Send
+ 'static {
    ServiceBuilder::new()
        .retry(RetryOnUnauthorized::new())
        .layer(layer)
        .service(client)
}

/// The default rules, or the same in proportion for a run that is too short for them.
pub(crate) fn refresh_rules(pace: f64) -> RefreshOptions {
    let rules = RefreshOptions::default();
    if pace >= 1.0 {
        return rules;
    }
    rules
        .with_profile(Profile::Custom {
            from: 0.45 * pace,
            to: 0.55 * pace,
        })
        .with_min_spacing(Duration::from_secs(1).mul_f64(pace))
        .with_force_delay(Duration::from_secs(2).mul_f64(pace))
}
