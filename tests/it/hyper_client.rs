//! hyper-util's client with its pool, over loopback.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_auth::{AuthLayer, BoxError, Error, ErrorKind};
use tower_auth_testing::{Answer, ScriptedSource, fresh_tokens};

use crate::loopback::Server;

#[tokio::test]
async fn a_hyper_client_is_wrapped_as_it_is() {
    let server = Server::content().await;
    let mut client = ServiceBuilder::new()
        .layer(AuthLayer::new("abc"))
        .service(Client::builder(TokioExecutor::new()).build_http());
    for _ in 0..2 {
        let request = Request::get(server.url("/"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "hello");
    }
    assert_eq!(server.authorized(), [["Bearer abc"], ["Bearer abc"]]);
}

#[tokio::test]
async fn many_tasks_share_a_client_and_one_fetch() {
    let server = Server::content().await;
    let source = fresh_tokens(Duration::from_secs(600));
    let client = AuthLayer::new(source.clone())
        .layer(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());
    let requests: Vec<_> = (0..20)
        .map(|n| {
            let request = Request::post(server.url("/")).body(Full::from(n.to_string()));
            tokio::spawn(client.clone().oneshot(request.unwrap()))
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    assert_eq!(source.call_count(), 1);
    let arrived = server.authorized();
    assert_eq!(arrived.len(), 20);
    assert!(arrived.iter().all(|values| *values == arrived[0]));
}

#[tokio::test]
async fn a_body_that_is_neither_clone_nor_sync_is_sent_as_it_is() {
    let server = Server::content().await;
    let client: Client<_, UnsyncBoxBody<Bytes, BoxError>> =
        Client::builder(TokioExecutor::new()).build_http();
    let client = AuthLayer::new("abc").layer(client);
    let body = Full::<Bytes>::from("once").map_err(Into::into);
    let request = Request::post(server.url("/")).body(UnsyncBoxBody::new(body));
    client.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(server.seen()[0].body(), "once");
    assert_eq!(server.authorized(), [["Bearer abc"]]);
}

#[tokio::test]
async fn an_error_says_whether_it_was_the_connection_or_the_credential() {
    let gone = Server::content().await.url("/");
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = || Request::get(&gone).body(Full::default()).unwrap();

    let error = AuthLayer::new("abc")
        .layer(client.clone())
        .oneshot(request())
        .await
        .unwrap_err();
    assert!(error.is::<hyper_util::client::legacy::Error>(), "{error:?}");
    assert!(Error::find(&*error).is_none());

    let source = ScriptedSource::new([Answer::error(ErrorKind::Denied)]);
    let client = AuthLayer::new(source).layer(client);
    let error = client.oneshot(request()).await.unwrap_err();
    assert_eq!(Error::find(&*error).unwrap().kind(), ErrorKind::Denied);
}
