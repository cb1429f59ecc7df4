use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower_auth_core::BoxError;

/// The whole of a response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Asks a server without anything of ours in between.
pub(crate) async fn get(url: &str) -> Result<Answer, BoxError> {
    send(Request::get(url).body(Full::default())?).await
}

/// Posts a form, with this `Authorization`.
pub(crate) async fn post_form(
    url: &str,
    authorization: Option<&str>,
    form: &[(&str, &str)],
) -> Result<Answer, BoxError> {
    let mut request =
        Request::post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    send(request.body(Full::from(form))?).await
}

/// Sends a document in JSON, with these headers.
pub(crate) async fn send_json(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    document: &serde_json::Value,
) -> Result<Answer, BoxError> {
    let mut request = Request::builder()
        .method(method)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request.body(Full::from(document.to_string()))?).await
}

async fn send(request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
    // A client per call, so that no pooled connection outlives the runtime of one test.
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = client.request(request).await?.into_parts();
    Ok(Answer {
        status: head.status,
        body: body.collect().await?.to_bytes(),
    })
}
