use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tower_auth::BoxError;

/// Workers that send one request after the other until they are told to stop.
#[derive(Debug)]
pub(crate) struct Traffic {
    workers: JoinSet<()>,
    stop: watch::Sender<bool>,
    tally: Arc<Tally>,
}

/// What the callers saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    requests: AtomicU64,
    accepted: AtomicU64,
    unauthorized: AtomicU64,
    errors: AtomicU64,
    cold_start: AtomicU64,
    longest: AtomicU64,
    first_error: OnceLock<String>,
}

impl Traffic {
    pub(crate) fn start<C>(client: &C, url: &Uri, workers: u32) -> Self
    where
        C: Service<Request<Empty<Bytes>>, Response = Response<Incoming>, Error = BoxError>,
        C: Clone + Send + 'static,
        C::Future: Send,
    {
        let mut traffic = Self {
            workers: JoinSet::new(),
            stop: watch::Sender::new(false),
            tally: Arc::default(),
        };
        for _ in 0..workers {
            let tally = Arc::clone(&traffic.tally);
            let stop = traffic.stop.subscribe();
            traffic
                .workers
                .spawn(work(client.clone(), url.clone(), tally, stop));
        }
        traffic
    }

    pub(crate) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// Lets every worker finish the request it is at.
    pub(crate) async fn stop(mut self) -> Result<Arc<Tally>, BoxError> {
        self.stop.send_replace(true);
        while let Some(ended) = self.workers.join_next().await {
            ended?;
        }
        Ok(self.tally)
    }
}

impl Tally {
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests answered with 200.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Requests answered with 401.
    pub(crate) fn unauthorized(&self) -> u64 {
        self.unauthorized.load(Ordering::Relaxed)
    }

    /// Requests without an answer, or with another one than 200 and 401.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// How long the slowest worker waited for its first answer.
    pub(crate) fn cold_start(&self) -> Duration {
        Duration::from_micros(self.cold_start.load(Ordering::Relaxed))
    }

    /// How long the slowest answer took.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.load(Ordering::Relaxed))
    }

    pub(crate) fn first_error(&self) -> Option<&str> {
        self.first_error.get().map(String::as_str)
    }

    fn count(&self, outcome: &Result<StatusCode, BoxError>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(StatusCode::OK) => self.accepted.fetch_add(1, Ordering::Relaxed),
            Ok(StatusCode::UNAUTHORIZED) => self.unauthorized.fetch_add(1, Ordering::Relaxed),
            Ok(status) => self.fail(|| format!("the API answered {status}")),
            Err(error) => self.fail(|| chain(error)),
        };
    }

    fn fail(&self, describe: impl FnOnce() -> String) -> u64 {
        self.first_error.get_or_init(describe);
        self.errors.fetch_add(1, Ordering::Relaxed)
    }
}

/// Sends one request and reads its answer to the end, so that the connection can be used again.
pub(crate) async fn send<C>(client: &mut C, url: &Uri) -> Result<StatusCode, BoxError>
where
    C: Service<Request<Empty<Bytes>>, Response = Response<Incoming>, Error = BoxError> + Send,
    C::Future: Send,
{
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = url.clone();
    let response = client.ready().await?.call(request).await?;
    let status = response.status();
    response.into_body().collect().await?;
    Ok(status)
}

async fn work<C>(mut client: C, url: Uri, tally: Arc<Tally>, stop: watch::Receiver<bool>)
where
    C: Service<Request<Empty<Bytes>>, Response = Response<Incoming>, Error = BoxError> + Send,
    C::Future: Send,
{
    let mut cold = true;
    while !*stop.borrow() {
        let begun = Instant::now();
        let outcome = send(&mut client, &url).await;
        let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        tally.count(&outcome);
        let slowest = if cold {
            &tally.cold_start
        } else {
            &tally.longest
        };
        slowest.fetch_max(took, Ordering::Relaxed);
        cold = false;
        if outcome.is_err() {
            // A client that fails at once must not turn the run into a busy loop.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn chain(error: &BoxError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
