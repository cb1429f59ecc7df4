//! tonic's `Channel`, against a gRPC server at the other end of a pipe in memory.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};
use http::uri::PathAndQuery;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_stream::StreamExt as _;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_auth::{AuthLayer, BoxError, Error, ErrorKind, TokenCache, Unavailable};
use tower_auth_testing::{Answer, ScriptedSource, TestClock};

#[derive(Clone, PartialEq, prost::Message)]
struct Line {
    #[prost(string, tag = "1")]
    text: String,
}

const SAY: PathAndQuery = PathAndQuery::from_static("/echo.Echo/Say");
const CHAT: PathAndQuery = PathAndQuery::from_static("/echo.Echo/Chat");
/// As `CHAT`, but refuses the caller when all has been said.
const CHAT_AND_REFUSE: PathAndQuery = PathAndQuery::from_static("/echo.Echo/ChatAndRefuse");

/// Gives back what it is sent, to those who show one token.
#[derive(Clone)]
struct Echo {
    accepted: &'static str,
    seen: Arc<Mutex<Vec<Option<String>>>>,
}

impl Echo {
    fn that_takes(accepted: &'static str) -> Self {
        Self {
            accepted,
            seen: Arc::default(),
        }
    }

    fn channel(&self) -> Channel {
        let echo = self.clone();
        let connect = service_fn(move |_: Uri| {
            let (near, far) = tokio::io::duplex(1 << 16);
            let echo = echo.clone();
            let answer = hyper::service::service_fn(move |request| echo.clone().answer(request));
            tokio::spawn(
                http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(far), answer),
            );
            async { Ok::<_, Infallible>(TokioIo::new(near)) }
        });
        Endpoint::from_static("http://echo.test").connect_with_connector_lazy(connect)
    }

    /// What each call carried.
    fn seen(&self) -> Vec<Option<String>> {
        self.seen.lock().unwrap().clone()
    }

    async fn answer(
        self,
        request: http::Request<Incoming>,
    ) -> Result<http::Response<Body>, Infallible> {
        let carried = request.headers().get(AUTHORIZATION);
        let carried = carried.map(|value| value.to_str().unwrap().to_owned());
        self.seen.lock().unwrap().push(carried.clone());
        if carried.as_deref() != Some(self.accepted) {
            return Ok(Status::unauthenticated("who are you?").into_http());
        }
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<Line, Line>::default());
        let path = request.uri().path();
        Ok(if path == SAY.as_str() {
            let say = |line: Request<Line>| async { Ok(Response::new(line.into_inner())) };
            grpc.unary(service_fn(say), request).await
        } else {
            let refuse = path == CHAT_AND_REFUSE.as_str();
            let chat = move |lines: Request<Streaming<Line>>| {
                let farewell = refuse.then(|| Err(Status::unauthenticated("not any more")));
                let lines = lines.into_inner().chain(tokio_stream::iter(farewell));
                async { Ok(Response::new(lines)) }
            };
            grpc.streaming(service_fn(chat), request).await
        })
    }
}

fn line(text: &str) -> Line {
    Line {
        text: text.to_owned(),
    }
}

/// A unary call, as generated clients make it.
async fn say<S>(grpc: &mut Grpc<S>) -> Result<String, Status>
where
    S: GrpcService<Body>,
    S::ResponseBody: hyper::body::Body + Send + 'static,
    <S::ResponseBody as hyper::body::Body>::Error: Into<BoxError>,
{
    let ready = grpc.ready().await;
    ready.map_err(|error| Status::from_error(error.into()))?;
    let codec = ProstCodec::<Line, Line>::default();
    let answer = grpc.unary(Request::new(line("hi")), SAY, codec).await?;
    Ok(answer.into_inner().text)
}

/// A call with a stream in each direction; what came back, and how it ended.
async fn chat<S>(grpc: &mut Grpc<S>, path: PathAndQuery) -> (Vec<String>, Result<(), Status>)
where
    S: GrpcService<Body>,
    S::ResponseBody: hyper::body::Body + Send + 'static,
    <S::ResponseBody as hyper::body::Body>::Error: Into<BoxError>,
{
    assert!(grpc.ready().await.is_ok());
    let lines = tokio_stream::iter([line("a"), line("b")]);
    let codec = ProstCodec::<Line, Line>::default();
    let mut back = Vec::new();
    let mut answers = match grpc.streaming(Request::new(lines), path, codec).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (back, Err(status)),
    };
    loop {
        match answers.message().await {
            Ok(Some(line)) => back.push(line.text),
            Ok(None) => return (back, Ok(())),
            Err(status) => return (back, Err(status)),
        }
    }
}

fn lasting(text: &str) -> Answer {
    let token = tower_auth::Token::bearer(text);
    Answer::token(token.expires_in(Duration::from_secs(3600)))
}

/// Tokens "one" and "two", in a cache that lives in paused time.
fn two_tokens() -> (ScriptedSource, AuthLayer<ScriptedSource>) {
    let source = ScriptedSource::new([lasting("one"), lasting("two")]);
    let cache = TokenCache::builder(source.clone()).clock(TestClock::new());
    let layer = AuthLayer::from_cache(cache.seed(7).build())
        .any_origin()
        .refused(is_unauthenticated);
    (source, layer)
}

fn is_unauthenticated(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED
        || headers.get("grpc-status").is_some_and(|code| code == "16")
}

#[tokio::test(start_paused = true)]
async fn unary_and_streaming_calls_over_a_channel_carry_the_token() {
    let echo = Echo::that_takes("Bearer abc");
    let mut grpc = Grpc::new(AuthLayer::new("abc").any_origin().layer(echo.channel()));
    assert_eq!(say(&mut grpc).await.unwrap(), "hi");
    let (lines, end) = chat(&mut grpc, CHAT).await;
    assert_eq!(lines, ["a", "b"]);
    end.unwrap();
    assert_eq!(
        echo.seen(),
        [Some("Bearer abc".to_owned()), Some("Bearer abc".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_say_where_it_goes_unless_the_client_was_told() {
    let echo = Echo::that_takes("Bearer abc");
    let named = || {
        AuthLayer::new("abc")
            .origins(["https://api.example.com"])
            .unwrap()
    };
    for layer in [AuthLayer::new("abc"), named()] {
        let mut grpc = Grpc::new(layer.layer(echo.channel()));
        let status = say(&mut grpc).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
    assert_eq!(echo.seen(), [None, None], "a path has no origin");

    let origin = Uri::from_static("https://api.example.com");
    let mut grpc = Grpc::with_origin(named().layer(echo.channel()), origin);
    assert_eq!(say(&mut grpc).await.unwrap(), "hi");
    let other = Uri::from_static("https://other.example.com");
    let mut grpc = Grpc::with_origin(named().layer(echo.channel()), other);
    assert_eq!(
        say(&mut grpc).await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test(start_paused = true)]
async fn unauthenticated_brings_a_new_token_for_the_calls_that_follow() {
    let echo = Echo::that_takes("Bearer two");
    let (source, layer) = two_tokens();
    let mut grpc = Grpc::new(layer.layer(echo.channel()));
    let status = say(&mut grpc).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "who are you?")
    );
    // The renewal is spread over two seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(say(&mut grpc).await.unwrap(), "hi");
    let (lines, _) = chat(&mut grpc, CHAT).await;
    assert_eq!(lines, ["a", "b"]);
    assert_eq!(source.call_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_brings_a_new_token_too() {
    let echo = Echo::that_takes("Bearer two");
    let (source, layer) = two_tokens();
    let mut grpc = Grpc::new(layer.layer(echo.channel()));
    let (lines, end) = chat(&mut grpc, CHAT).await;
    assert!(lines.is_empty());
    assert_eq!(end.unwrap_err().code(), Code::Unauthenticated);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(say(&mut grpc).await.unwrap(), "hi");
    assert_eq!(source.call_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_status_after_the_messages_is_the_callers_to_act_upon() {
    let echo = Echo::that_takes("Bearer one");
    let (source, layer) = two_tokens();
    let mut grpc = Grpc::new(layer.layer(echo.channel()));
    let (lines, end) = chat(&mut grpc, CHAT_AND_REFUSE).await;
    assert_eq!(lines, ["a", "b"]);
    assert_eq!(end.unwrap_err().code(), Code::Unauthenticated);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        source.call_count(),
        1,
        "the layer is done when the headers are there"
    );
}

#[tokio::test(start_paused = true)]
async fn a_unary_call_whose_body_is_collected_is_replayed_unseen() {
    let echo = Echo::that_takes("Bearer two");
    let (source, layer) = two_tokens();
    let replaying = ServiceBuilder::new()
        .layer(layer.replay_once())
        .map_request(|request: http::Request<Full<Bytes>>| request.map(Body::new))
        .service(echo.channel());
    let collecting = service_fn(move |request: http::Request<Body>| {
        let replaying = replaying.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = Full::new(body.collect().await?.to_bytes());
            replaying
                .oneshot(http::Request::from_parts(parts, body))
                .await
        }
    });
    assert_eq!(say(&mut Grpc::new(collecting)).await.unwrap(), "hi");
    assert_eq!(source.call_count(), 2);
    assert_eq!(
        echo.seen(),
        [Some("Bearer one".to_owned()), Some("Bearer two".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_source_is_found_in_the_status() {
    let echo = Echo::that_takes("Bearer one");
    let source = ScriptedSource::new([Answer::error(ErrorKind::Denied)]);
    let layer = AuthLayer::new(source).any_origin();
    let status = say(&mut Grpc::new(layer.layer(echo.channel())))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(Error::find(&status).unwrap().kind(), ErrorKind::Denied);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_credential_can_have_a_status_of_ones_own() {
    let echo = Echo::that_takes("Bearer one");
    let source = ScriptedSource::new([Answer::error(ErrorKind::Denied)]);
    let layer = AuthLayer::new(source)
        .any_origin()
        .on_unavailable(|error: &Error| {
            Unavailable::Respond(Status::unavailable(error.to_string()).into_http())
        });
    let status = say(&mut Grpc::new(layer.layer(echo.channel())))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(echo.seen().is_empty());
}
