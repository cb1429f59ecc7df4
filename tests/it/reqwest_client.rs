//! reqwest's client below the layer, and its types above.

use http::header::{AUTHORIZATION, HeaderName, LOCATION};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use reqwest::redirect::Policy;
use reqwest::{Body, Client};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::{AuthLayer, BoxError, Error, Headers, Placement};
use tower_http::follow_redirect::FollowRedirectLayer;

use crate::loopback::Server;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a stack of layers can stand on.
fn below(
    client: Client,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = reqwest::Error, Future: Send>
+ Clone
+ Send {
    tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move { Ok(client.execute(request.try_into()?).await?.into()) }
    })
}

/// What is built with reqwest's builders goes through a stack, and its answer has reqwest's methods.
async fn send<S>(stack: S, request: reqwest::Request) -> Result<reqwest::Response, BoxError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
{
    Ok(stack.oneshot(request.try_into()?).await?.into())
}

/// A client that leaves redirects to the layers, and ignores the proxies of the machine under test.
fn client() -> Client {
    let builder = Client::builder().redirect(Policy::none()).no_proxy();
    builder.build().unwrap()
}

/// Answers with a redirect to where the query says, or with 200.
async fn redirecting() -> Server {
    Server::start(|request| {
        let mut response = Response::new(Full::default());
        if let Some(to) = request.uri.query() {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            response.headers_mut().insert(LOCATION, to.parse().unwrap());
        }
        response
    })
    .await
}

fn key_for(server: &Server) -> AuthLayer<&'static str> {
    let stamp = Headers::new().named(Placement::header(API_KEY));
    AuthLayer::with_stamp("abc", stamp)
        .origins([server.origin().as_str()])
        .unwrap()
}

#[tokio::test]
async fn requests_and_responses_of_reqwest_go_through_the_layer() {
    let server = Server::content().await;
    let client = client();
    let stack = ServiceBuilder::new()
        .layer(AuthLayer::new("abc"))
        .service(below(client.clone()));
    let request = client.post(server.url("/rows")).body("some").build();
    let response = send(stack, request.unwrap()).await.unwrap();
    assert_eq!(
        response.error_for_status().unwrap().text().await.unwrap(),
        "hello"
    );
    assert_eq!(server.authorized(), [["Bearer abc"]]);
    assert_eq!(server.seen()[0].body(), "some");
}

#[tokio::test]
async fn what_reqwest_was_told_to_send_is_kept() {
    let server = Server::content().await;
    let client = client();
    let stack = ServiceBuilder::new()
        .layer(AuthLayer::new("abc"))
        .service(below(client.clone()));
    let request = client.get(server.url("/")).bearer_auth("callers").build();
    send(stack, request.unwrap()).await.unwrap();
    assert_eq!(server.authorized(), [["Bearer callers"]]);
}

#[tokio::test]
async fn redirects_above_the_layer_are_judged_by_their_origin() {
    let api = redirecting().await;
    let elsewhere = Server::content().await;
    let client = client();
    let stack = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(key_for(&api))
        .service(below(client.clone()));
    for target in [api.url("/moved"), elsewhere.url("/")] {
        let request = client.get(api.url(&format!("/?{target}"))).build();
        let response = send(stack.clone(), request.unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    let seen_by_api = api.carried(&API_KEY);
    assert_eq!(
        seen_by_api,
        [["abc"], ["abc"], ["abc"]],
        "the first hop, its redirect, the second"
    );
    assert_eq!(elsewhere.carried(&API_KEY), [[""; 0]]);
}

#[tokio::test]
async fn redirects_that_reqwest_follows_take_a_custom_header_along() {
    let api = redirecting().await;
    let elsewhere = Server::content().await;
    let client = Client::builder().no_proxy().build().unwrap();
    let stack = ServiceBuilder::new()
        .layer(key_for(&api))
        .service(below(client.clone()));
    let request = client.get(api.url(&format!("/?{}", elsewhere.url("/"))));
    send(stack, request.build().unwrap()).await.unwrap();
    // The layer saw one request, to an origin that the key is meant for.
    assert_eq!(elsewhere.carried(&API_KEY), [["abc"]]);
}

#[tokio::test]
async fn a_body_that_can_be_cloned_follows_a_redirect() {
    let api = redirecting().await;
    let client = client();
    let stack = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(AuthLayer::new("abc"))
        .service(below(client.clone()));
    let request = client.get(api.url("/?/moved")).build();
    send(stack, request.unwrap()).await.unwrap();
    assert_eq!(
        api.carried(&AUTHORIZATION),
        [["Bearer abc"], ["Bearer abc"]]
    );
}

#[tokio::test]
async fn an_error_of_reqwest_is_found_as_it_is() {
    let gone = Server::content().await.url("/");
    let client = client();
    let stack = AuthLayer::new("abc");
    let stack = ServiceBuilder::new()
        .layer(stack)
        .service(below(client.clone()));
    let error = send(stack, client.get(gone).build().unwrap())
        .await
        .unwrap_err();
    assert!(error.downcast_ref::<reqwest::Error>().unwrap().is_connect());
    assert!(Error::find(&*error).is_none());
}
