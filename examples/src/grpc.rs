use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tonic_prost::ProstCodec;
use tower_auth::BoxError;

use crate::api::bearer_token;
use crate::tokens::Verifier;

/// Asks for an order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OrderRequest {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub number: u64,
}

/// An order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Order {
    /// What was ordered.
    #[prost(string, tag = "1")]
    pub item: String,
}

/// A gRPC API with one method that verifies the token of every call. It answers with an order, or with
/// `UNAUTHENTICATED` in the headers of a response without messages.
#[derive(Debug)]
pub struct GrpcApi {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl GrpcApi {
    /// The path of its method.
    pub const GET_ORDER: &str = "/orders.Orders/GetOrder";

    /// Starts one on a free loopback port, which accepts the tokens of one issuer.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(verifier: Verifier) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, verifier));
        Ok(Self {
            address,
            _accepting: accepting,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn accept(listener: TcpListener, verifier: Verifier) {
    let mut connections = JoinSet::new();
    loop {
        // A peer that is gone before it was accepted is its own affair.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let verifier = verifier.clone();
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| answer(verifier.clone(), request)),
            );
        connections.spawn(async move {
            // The only errors are the peer's: it hung up, or it does not speak HTTP/2.
            let _ = connection.await;
        });
    }
}

async fn answer(
    verifier: Verifier,
    request: Request<Incoming>,
) -> Result<Response<Body>, BoxError> {
    if let Err(status) = check(&verifier, &request) {
        return Ok(status.into_http());
    }
    let mut grpc = tonic::server::Grpc::new(ProstCodec::<Order, OrderRequest>::default());
    let get_order = |request: tonic::Request<OrderRequest>| async move {
        let item = format!("what order {} is about", request.get_ref().number);
        Ok::<_, Status>(tonic::Response::new(Order { item }))
    };
    Ok(grpc.unary(tower::service_fn(get_order), request).await)
}

fn check(verifier: &Verifier, request: &Request<Incoming>) -> Result<(), Status> {
    if request.uri().path() != GrpcApi::GET_ORDER {
        return Err(Status::unimplemented("there is no such method"));
    }
    let token = bearer_token(request.headers())
        .ok_or_else(|| Status::unauthenticated("there is no token"))?;
    verifier
        .verify(token)
        .map(drop)
        .map_err(|refusal| Status::unauthenticated(refusal.as_str()))
}
