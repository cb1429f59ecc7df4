use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use serde::Serialize;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};
use tower_auth::{AuthLayer, BoxError, TokenSource};
use tower_http::set_header::SetRequestHeaderLayer;

use super::client::Hyper;
use super::traffic::send;

/// What our layer adds to a request. Times are medians for one request.
///
/// The nanoseconds are taken over a service that answers at once, where they can be seen. Over a real
/// connection they drown: those numbers are there to show it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    /// A service that answers at once.
    pub(crate) bare_ns: f64,
    /// Added by setting a fixed header with tower-http.
    pub(crate) fixed_header_added_ns: f64,
    /// Added by our layer.
    pub(crate) auth_added_ns: f64,
    /// The last one in terms of the one before.
    pub(crate) ratio_to_fixed_header: f64,
    /// A client that sets a fixed header, to the API and back.
    pub(crate) loopback_bare_us: f64,
    /// The same client with our layer instead.
    pub(crate) loopback_auth_us: f64,
    /// The last one in terms of the one before.
    pub(crate) loopback_ratio: f64,
    /// Whether this was an optimized build; otherwise the numbers mean little.
    pub(crate) optimized: bool,
}

/// Measures batches in turn, so that whatever else the machine does hits all alike.
pub(crate) async fn measure<P: TokenSource>(
    layer: &AuthLayer<P>,
    client: &Hyper,
    url: &Uri,
) -> Result<Cost, BoxError> {
    let mut bare = Answer;
    let mut fixed = fixed_header(layer).await?.layer(Answer);
    let mut auth = layer.layer(Answer);
    let [mut bare_times, mut fixed_times, mut auth_times] = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        bare_times.push(call_all(&mut bare).await?);
        fixed_times.push(call_all(&mut fixed).await?);
        auth_times.push(call_all(&mut auth).await?);
    }
    let bare_ns = median(bare_times) * 1e9;
    let fixed_header_added_ns = median(fixed_times) * 1e9 - bare_ns;
    let auth_added_ns = median(auth_times) * 1e9 - bare_ns;

    let mut auth = layer.layer(client.clone());
    let [mut bare_times, mut auth_times] = [const { Vec::new() }; 2];
    let begun = Instant::now();
    while begun.elapsed() < LOOPBACK_TIME {
        // The token of this moment, so that both put as many bytes on the wire and are accepted.
        let client = client.clone().map_err(Into::into);
        let mut bare = fixed_header(layer).await?.layer(client);
        bare_times.push(send_all(&mut bare, url).await?);
        auth_times.push(send_all(&mut auth, url).await?);
    }
    let loopback_bare_us = median(bare_times) * 1e6;
    let loopback_auth_us = median(auth_times) * 1e6;

    Ok(Cost {
        bare_ns: rounded(bare_ns),
        fixed_header_added_ns: rounded(fixed_header_added_ns),
        auth_added_ns: rounded(auth_added_ns),
        ratio_to_fixed_header: rounded(auth_added_ns / fixed_header_added_ns),
        loopback_bare_us: rounded(loopback_bare_us),
        loopback_auth_us: rounded(loopback_auth_us),
        loopback_ratio: rounded(loopback_auth_us / loopback_bare_us),
        optimized: !cfg!(debug_assertions),
    })
}

/// A service that answers at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer;

impl Service<Request<Empty<Bytes>>> for Answer {
    type Response = Response<Empty<Bytes>>;
    type Error = BoxError;
    type Future = Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        ready(Ok(Response::new(Empty::new())))
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\ncost of a request, medians of batches measured in turn"
        )?;
        let mut row = |name: &str, value: fmt::Arguments<'_>| writeln!(f, "  {name:<42} {value}");
        row(
            "a service that answers at once",
            format_args!("{:.0} ns", self.bare_ns),
        )?;
        row(
            "  a fixed header from tower-http adds",
            format_args!("{:.0} ns", self.fixed_header_added_ns),
        )?;
        row(
            "  our layer adds",
            format_args!(
                "{:.0} ns, {:.2} times the fixed header",
                self.auth_added_ns, self.ratio_to_fixed_header
            ),
        )?;
        row(
            "the API over loopback, fixed header",
            format_args!("{:.1} us", self.loopback_bare_us),
        )?;
        row(
            "  our layer instead",
            format_args!(
                "{:.1} us, {:.2} times that",
                self.loopback_auth_us, self.loopback_ratio
            ),
        )?;
        if !self.optimized {
            writeln!(
                f,
                "  This is a debug build: for numbers that mean something use --release."
            )?;
        }
        Ok(())
    }
}

/// Sets what our layer would stamp.
async fn fixed_header<P: TokenSource>(
    layer: &AuthLayer<P>,
) -> Result<SetRequestHeaderLayer<HeaderValue>, BoxError> {
    let token = layer.cache().get().await?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.secret().expose()))?;
    value.set_sensitive(true);
    Ok(SetRequestHeaderLayer::overriding(AUTHORIZATION, value))
}

async fn call_all<S>(service: &mut S) -> Result<Duration, BoxError>
where
    S: Service<Request<Empty<Bytes>>, Error = BoxError> + Send,
    S::Future: Send,
    S::Response: Send,
{
    // What a request carries anyway. The map has room for one more header, so that no measured layer
    // pays for its growth.
    let requests: Vec<_> = std::iter::repeat_with(|| {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::from_static("https://api.example.com/orders");
        for name in [ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT] {
            let value = HeaderValue::from_static("measured");
            request.headers_mut().insert(name, value);
        }
        request
    })
    .take(BATCH as usize)
    .collect();
    let begun = Instant::now();
    for request in requests {
        service.ready().await?.call(request).await?;
    }
    Ok(begun.elapsed())
}

async fn send_all<S>(client: &mut S, url: &Uri) -> Result<Duration, BoxError>
where
    S: Service<Request<Empty<Bytes>>, Response = Response<Incoming>, Error = BoxError> + Send,
    S::Future: Send,
{
    let begun = Instant::now();
    for _ in 0..BATCH {
        send(client, url).await?;
    }
    Ok(begun.elapsed())
}

/// Seconds for one request of the batch in the middle.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    (middle / BATCH).as_secs_f64()
}

fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

const BATCH: u32 = 32;
const ROUNDS: u32 = 1000;
const LOOPBACK_TIME: Duration = Duration::from_millis(600);
