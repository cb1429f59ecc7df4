use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;
use tower_auth::{Description, Error, Fetch, Reason, Token, TokenSource};

/// What happened, in order, with the time since the start.
#[derive(Debug)]
pub(crate) struct Timeline {
    start: Instant,
    entries: Mutex<Vec<Entry>>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    #[serde(rename = "at_ms", serialize_with = "as_millis")]
    pub(crate) at: Duration,
    #[serde(flatten)]
    pub(crate) event: Event,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    TrafficStarted {
        workers: u32,
    },
    Fetched {
        nth: u64,
        #[serde(serialize_with = "as_word")]
        reason: Reason,
        #[serde(rename = "took_ms", serialize_with = "as_millis")]
        took: Duration,
    },
    FetchFailed {
        #[serde(serialize_with = "as_word")]
        reason: Reason,
        error: String,
    },
    IssuerDown,
    IssuerUp {
        dropped: u64,
    },
    TokenRevoked {
        nth: u64,
    },
    TrafficStopped,
}

impl Timeline {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            entries: Mutex::default(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn record(&self, event: Event) {
        let at = self.elapsed();
        self.lock().push(Entry { at, event });
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    pub(crate) fn latest(&self) -> String {
        self.lock()
            .last()
            .map_or_else(String::new, |entry| entry.event.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source that notes each fetch of another one in a timeline.
#[derive(Debug)]
pub(crate) struct Noted<P> {
    source: P,
    timeline: Arc<Timeline>,
    fetched: AtomicU64,
}

impl<P> Noted<P> {
    pub(crate) fn new(source: P, timeline: Arc<Timeline>) -> Self {
        Self {
            source,
            timeline,
            fetched: AtomicU64::new(0),
        }
    }
}

impl<P: TokenSource> TokenSource for Noted<P> {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        let begun = Instant::now();
        let outcome = self.source.fetch(cx).await;
        let reason = cx.reason();
        self.timeline.record(match &outcome {
            Ok(_) => Event::Fetched {
                nth: self.fetched.fetch_add(1, Ordering::Relaxed) + 1,
                reason,
                took: begun.elapsed(),
            },
            Err(error) => Event::FetchFailed {
                reason,
                error: error.to_string(),
            },
        });
        outcome
    }

    fn describe(&self) -> Description {
        self.source.describe()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.3} s  {}", self.at.as_secs_f64(), self.event)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrafficStarted { workers } => {
                write!(f, "{workers} workers start, there is no token yet")
            }
            Self::Fetched { nth, reason, took } => {
                write!(
                    f,
                    "token {nth} fetched in {} ms ({reason})",
                    took.as_millis()
                )
            }
            Self::FetchFailed { reason, error } => write!(f, "fetch failed ({reason}): {error}"),
            Self::IssuerDown => f.write_str("the token endpoint goes down"),
            Self::IssuerUp { dropped } => {
                write!(
                    f,
                    "the token endpoint is back; fetches that got no answer: {dropped}"
                )
            }
            Self::TokenRevoked { nth } => {
                write!(f, "token {nth} is revoked, the API refuses it from here on")
            }
            Self::TrafficStopped => f.write_str("the workers stop"),
        }
    }
}

pub(crate) fn as_millis<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((time.as_secs_f64() * 1e6).round() / 1e3)
}

fn as_word<S: Serializer>(reason: &Reason, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(reason.as_str())
}
