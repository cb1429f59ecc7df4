//! The layer on a request's way: what it stamps, what it leaves alone and what it passes on.

use std::time::Duration;

use http::{Request, Response};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_auth::{AuthLayer, BoxError, Fetch, Token, source_fn};

async fn echo(request: Request<()>) -> Result<Response<()>, BoxError> {
    let mut response = Response::new(());
    *response.headers_mut() = request.headers().clone();
    Ok(response)
}

#[tokio::test(start_paused = true)]
async fn each_request_is_stamped_from_the_first_on() {
    let source = source_fn(|_cx: Fetch| async {
        Ok(Token::bearer("abc").expires_in(Duration::from_secs(600)))
    });
    let mut client = ServiceBuilder::new()
        .layer(AuthLayer::new(source))
        .service(service_fn(echo));
    for _ in 0..3 {
        let request = Request::get("https://api.example.com/").body(()).unwrap();
        let response = client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.headers()["authorization"], "Bearer abc");
    }
}
