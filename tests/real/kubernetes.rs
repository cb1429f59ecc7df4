//! The part of a Kubernetes API server that OpenBao asks: TokenReview.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_auth_core::BoxError;

/// An API server on a free port that knows the tokens it has made itself.
#[derive(Debug)]
pub(crate) struct Cluster {
    url: String,
    key: KeyPair,
    made: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Cluster {
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let made = Arc::<Mutex<Vec<String>>>::default();
        let task = tokio::spawn(serve(listener, Arc::clone(&made)));
        let key = KeyPair::generate()?;
        Ok(Self {
            url,
            key,
            made,
            task,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A certificate in PEM, which OpenBao wants to have even where there is no TLS.
    pub(crate) fn certificate(&self) -> Result<String, BoxError> {
        let params = CertificateParams::new(["kubernetes.test".to_owned()])?;
        Ok(params.self_signed(&self.key)?.pem())
    }

    /// A token of the service account `default/reports`.
    pub(crate) fn token(&self) -> Result<String, BoxError> {
        let made = lock(&self.made).len();
        let claims = json!({
            "iss": "https://kubernetes.default.svc",
            "sub": ACCOUNT,
            "aud": ["https://kubernetes.default.svc"],
            "jti": made.to_string(),
            "iat": 1_700_000_000,
            "nbf": 1_700_000_000,
            "exp": 4_100_000_000_u64,
            "kubernetes.io": {
                "namespace": "default",
                "serviceaccount": { "name": "reports", "uid": "u1" },
            },
        });
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        let token = encode(&Header::new(Algorithm::ES256), &claims, &key)?;
        lock(&self.made).push(token.clone());
        Ok(token)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, made: Arc<Mutex<Vec<String>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let made = Arc::clone(&made);
        let service = service_fn(move |request: Request<Incoming>| {
            let made = Arc::clone(&made);
            async move { Ok::<_, Infallible>(review(request, &made).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn review(request: Request<Incoming>, made: &Mutex<Vec<String>>) -> Response<Full<Bytes>> {
    let is_review = request.uri().path().ends_with("/tokenreviews");
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let review: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let token = review.pointer("/spec/token").and_then(Value::as_str);
    let is_known = token.is_some_and(|token| lock(made).iter().any(|made| made == token));
    let status = if is_known {
        json!({
            "authenticated": true,
            "user": { "username": ACCOUNT, "uid": "u1", "groups": ["system:serviceaccounts"] },
            "audiences": ["https://kubernetes.default.svc"],
        })
    } else {
        json!({ "authenticated": false, "error": "unknown token" })
    };
    let answer = json!({
        "kind": "TokenReview",
        "apiVersion": "authentication.k8s.io/v1",
        "status": status,
    });
    let mut response = Response::new(Full::from(answer.to_string()));
    *response.status_mut() = if is_review {
        StatusCode::CREATED
    } else {
        StatusCode::NOT_FOUND
    };
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

fn lock(made: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    made.lock().unwrap_or_else(PoisonError::into_inner)
}

const ACCOUNT: &str = "system:serviceaccount:default:reports";
