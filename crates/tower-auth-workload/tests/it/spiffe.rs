//! `FetchJWTSVID` against a server at a real socket, with another implementation of HTTP/2's other side.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixListener;
use tower_auth_core::ErrorKind;
use tower_auth_io::MapEnv;
use tower_auth_workload::SpiffeWorkloadApi;

use crate::identity::{AUDIENCE, error, jwt, text, world};

/// An agent's answer: a status with its message, and JWT-SVIDs as id, token and hint.
#[derive(Clone, Default)]
struct Answer {
    status: u32,
    message: &'static str,
    svids: Vec<(&'static str, String, &'static str)>,
}

/// A folder with the socket of an agent, once that has started.
struct Agent {
    folder: PathBuf,
    seen: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Agent {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tas-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self {
            folder,
            seen: Arc::default(),
        }
    }

    fn start(&self, answer: Answer) {
        let listener = UnixListener::bind(self.folder.join("s")).unwrap();
        let seen = Arc::clone(&self.seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, answer) = (Arc::clone(&seen), answer.clone());
                let serve =
                    service_fn(move |request| serve(Arc::clone(&seen), answer.clone(), request));
                tokio::spawn(
                    http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), serve),
                );
            }
        });
    }

    fn started(name: &str, answer: Answer) -> Self {
        let agent = Self::new(name);
        agent.start(answer);
        agent
    }

    fn source(&self) -> SpiffeWorkloadApi {
        let endpoint = format!("unix://{}", self.folder.join("s").display());
        let world = world()
            .0
            .with_env(MapEnv::new().with("SPIFFE_ENDPOINT_SOCKET", endpoint));
        SpiffeWorkloadApi::new(AUDIENCE, &world).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

async fn serve(
    seen: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    answer: Answer,
    request: Request<Incoming>,
) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let is_marked = parts
        .headers
        .get("workload.spiffe.io")
        .is_some_and(|v| v == "true");
    assert_eq!(parts.uri.path(), "/SpiffeWorkloadAPI/FetchJWTSVID");
    seen.lock().unwrap().push((parts.headers, body));
    let answer = if is_marked {
        answer
    } else {
        Answer {
            status: 3,
            message: "security header missing from request",
            ..answer
        }
    };
    let mut status = HeaderMap::new();
    status.insert("grpc-status", HeaderValue::from(answer.status));
    status.insert("grpc-message", HeaderValue::from_static(answer.message));
    let mut response = if answer.status == 0 {
        let body = Full::new(framed(&answer.svids));
        Response::new(
            body.with_trailers(std::future::ready(Some(Ok(status))))
                .boxed(),
        )
    } else {
        // An error has no body and its status among the headers.
        let mut response = Response::new(Full::new(Bytes::new()).boxed());
        response.headers_mut().extend(status);
        response
    };
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn framed(svids: &[(&str, String, &str)]) -> Bytes {
    let svids = svids.iter().flat_map(|(id, token, hint)| {
        let svid = [
            field(1, id.as_bytes()),
            field(2, token.as_bytes()),
            field(3, hint.as_bytes()),
        ];
        field(1, &svid.concat())
    });
    let message: Vec<u8> = svids.collect();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    Bytes::from(framed)
}

/// A field of less than 16 KiB.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut field = vec![
        number << 3 | 2,
        (length & 0x7f) as u8 | 0x80,
        (length >> 7) as u8,
    ];
    field.extend(value);
    field
}

fn one(token: &str) -> Answer {
    Answer {
        svids: vec![("spiffe://example.org/w", token.to_owned(), "")],
        ..Answer::default()
    }
}

#[tokio::test]
async fn w88_an_agent_is_asked_over_its_socket() {
    let agent = Agent::started("ask", one(&jwt("1")));
    assert_eq!(text(&agent.source()).await, jwt("1"));
    let (headers, body) = agent.seen.lock().unwrap().remove(0);
    assert_eq!(headers["workload.spiffe.io"], "true");
    assert_eq!(headers["te"], "trailers");
    assert_eq!(headers["grpc-timeout"], "30000m");
    let expected = [&b"\0\0\0\0\x1b\x0a\x19"[..], AUDIENCE.as_bytes()].concat();
    assert_eq!(body, expected);
}

#[tokio::test]
async fn w89_a_workload_without_an_entry_is_told_to_wait_for_one() {
    let agent = Agent::started(
        "entry",
        Answer {
            status: 7,
            message: "no identity issued",
            ..Answer::default()
        },
    );
    let error = error(&agent.source()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.code(), Some("PERMISSION_DENIED"));
    assert_eq!(error.source_name(), Some("spiffe workload api"));
    assert!(
        error.hint().unwrap().contains("registration entry"),
        "{error}"
    );
}

#[tokio::test]
async fn w89_an_answer_without_jwt_svids_is_malformed() {
    let agent = Agent::started("none", Answer::default());
    let error = error(&agent.source()).await;
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert_eq!(
        error.endpoint(),
        Some("localhost/SpiffeWorkloadAPI/FetchJWTSVID")
    );
}

/// Nothing happens on the socket, so the paused clock goes straight to the end of the wait.
#[tokio::test(start_paused = true)]
async fn w89_an_agent_that_is_slow_is_given_up() {
    let agent = Agent::new("slow");
    let listener = UnixListener::bind(agent.folder.join("s")).unwrap();
    let error = error(&agent.source()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_timeout(), "{error}");
    drop(listener);
}

#[tokio::test]
async fn w90_an_agent_that_starts_later_is_found() {
    let agent = Agent::new("late");
    let source = agent.source();
    let early = error(&source).await;
    assert_eq!(early.kind(), ErrorKind::Unavailable);
    assert!(early.to_string().contains("there is no socket"), "{early}");
    agent.start(one(&jwt("1")));
    assert_eq!(text(&source).await, jwt("1"));
}

#[tokio::test]
async fn w91_the_first_jwt_svid_is_the_default_and_a_hint_chooses() {
    let agent = Agent::started(
        "hints",
        Answer {
            svids: vec![
                ("spiffe://a/1", jwt("1"), "internal"),
                ("spiffe://a/2", jwt("2"), "external"),
            ],
            ..Answer::default()
        },
    );
    assert_eq!(text(&agent.source()).await, jwt("1"));
    assert_eq!(text(&agent.source().with_hint("external")).await, jwt("2"));
    let by_id = agent.source().with_spiffe_id("spiffe://a/2");
    assert_eq!(text(&by_id).await, jwt("2"));
    let error = error(&agent.source().with_hint("other")).await;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("2 JWT-SVIDs"), "{error}");
}

#[tokio::test]
async fn a_jwt_svid_is_inspected_like_every_token() {
    let other = crate::identity::jwt_of(serde_json::json!({ "aud": ["other"] }));
    let agent = Agent::started("aud", one(&other));
    let error = error(&agent.source()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

#[test]
fn w93_without_the_variable_it_is_not_configured() {
    let error = SpiffeWorkloadApi::new(AUDIENCE, &world().0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert!(
        error.to_string().contains("SPIFFE_ENDPOINT_SOCKET"),
        "{error}"
    );
}
