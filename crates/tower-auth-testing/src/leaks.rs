use std::any::Any;
use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use http::Request;
use tracing::Subscriber;
use tracing::subscriber::DefaultGuard;

use crate::Canary;

mod logs;
mod needles;

use logs::Recorder;
pub(crate) use needles::Needles;

/// Collects everything that a person or a server might get to see, and fails if a secret is in it.
///
/// Give it each value, error, panic and foreign request that your code produces, have it
/// [record the logs](Self::record_logs), and call [`assert_clean`](Self::assert_clean) at the end. It
/// looks for every [`Canary`], told of or not, in the forms named at [`Canary::is_in`]. A report says
/// where which canary was found, with some text around it, and never shows the canary itself.
///
/// Clones share what they have collected.
///
/// ```
/// use tower_auth_core::{Error, ErrorKind, Token};
/// use tower_auth_testing::{Canary, LeakGuard};
///
/// let canary = Canary::new("api-key");
/// let guard = LeakGuard::new();
/// let _recording = guard.record_logs();
///
/// guard.value("the token", &Token::bearer(&canary));
/// guard.error("the refusal", &Error::new(ErrorKind::Denied, "the issuer refused the key"));
/// guard.assert_clean();
/// ```
#[derive(Clone, Default)]
pub struct LeakGuard(Arc<Mutex<Collected>>);

/// A secret where none should be. `Display` says what and where, without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    place: String,
    canary: String,
    form: &'static str,
    excerpt: String,
}

#[derive(Default)]
struct Collected {
    canaries: Vec<Canary>,
    texts: Vec<Text>,
}

struct Text {
    place: String,
    text: String,
    is_log: bool,
}

impl LeakGuard {
    /// A guard that has seen nothing. It knows every canary by [`Canary::MARKER`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells it a name to use in reports, and of secrets that do not begin with the marker.
    pub fn watch<'a>(&self, canaries: impl IntoIterator<Item = &'a Canary>) {
        self.lock().canaries.extend(canaries.into_iter().cloned());
    }

    /// Takes in a text, of which `place` says what it is.
    pub fn text(&self, place: impl Into<String>, text: impl Into<String>) {
        self.push(place.into(), text.into(), false);
    }

    /// Takes in a value's `{:?}` and `{:#?}`.
    pub fn value(&self, place: &str, value: &dyn fmt::Debug) {
        self.text(format!("Debug of {place}"), format!("{value:?}"));
        self.text(format!("{{:#?}} of {place}"), format!("{value:#?}"));
    }

    /// Takes in a value's `{}`.
    pub fn display(&self, place: &str, value: &dyn fmt::Display) {
        self.text(format!("Display of {place}"), format!("{value}"));
    }

    /// Takes in an error and all its causes: `{}`, `{:#}`, `{:?}` and `{:#?}` of each.
    pub fn error(&self, place: &str, error: &(dyn StdError + 'static)) {
        let mut link = Some(error);
        for depth in 0..MAX_CAUSES {
            let Some(error) = link else { return };
            let place = match depth {
                0 => place.to_owned(),
                _ => format!("cause {depth} of {place}"),
            };
            self.value(&place, &error);
            self.display(&place, &error);
            self.text(format!("{{:#}} of {place}"), format!("{error:#}"));
            // `io::Error` answers with the cause of what it wraps, not with what it wraps.
            link = match error
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref)
            {
                Some(wrapped) => Some(wrapped),
                None => error.source(),
            };
        }
    }

    /// Takes in what a panic carried, as `JoinError::into_panic` or `catch_unwind` gives it.
    pub fn panic(&self, place: &str, payload: &(dyn Any + Send)) {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        if let Some(text) = text {
            self.text(format!("panic of {place}"), text);
        }
    }

    /// Runs this and takes in its panic; `None` if it panicked.
    pub fn catch<R>(&self, place: &str, run: impl FnOnce() -> R) -> Option<R> {
        catch_unwind(AssertUnwindSafe(run))
            .map_err(|payload| self.panic(place, &*payload))
            .ok()
    }

    /// Waits for this future and takes in its panic; `None` if it panicked.
    pub async fn catch_async<F>(&self, place: &str, future: F) -> Option<F::Output>
    where
        F: Future + Send,
    {
        let mut future = pin!(future);
        let polled = std::future::poll_fn(|task| {
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(task))) {
                Ok(poll) => poll.map(Ok),
                Err(payload) => Poll::Ready(Err(payload)),
            }
        })
        .await;
        polled.map_err(|payload| self.panic(place, &*payload)).ok()
    }

    /// Takes in a request that arrived where the credential must not go: its line, its headers,
    /// sensitive or not, and its body.
    pub fn request<B: AsRef<[u8]>>(&self, place: &str, request: &Request<B>) {
        self.text(format!("request at {place}"), render_request(request));
    }

    /// Takes in every span and event of this thread, down to `TRACE`, until the returned guard is
    /// dropped.
    ///
    /// `#[tokio::test]` runs all its tasks on this thread unless it is told otherwise. For other
    /// threads, install [`subscriber`](Self::subscriber) there. Records of the `log` crate are not
    /// seen.
    #[must_use = "the recording ends when this is dropped"]
    pub fn record_logs(&self) -> DefaultGuard {
        tracing::subscriber::set_default(self.subscriber())
    }

    /// The subscriber behind [`record_logs`](Self::record_logs).
    #[must_use]
    pub fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        let guard = self.clone();
        Recorder::new(move |place, text| guard.push(place, text, true))
    }

    /// What has been logged: a line for each event, and for each span and each record into one.
    #[must_use]
    pub fn logs(&self) -> Vec<String> {
        let collected = self.lock();
        let logs = collected.texts.iter().filter(|text| text.is_log);
        logs.map(|text| text.text.clone()).collect()
    }

    /// How many texts it has taken in. A test that is sure to have shown something can assert that.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().texts.len()
    }

    /// Whether it has taken in nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every leak found.
    #[must_use]
    pub fn leaks(&self) -> Vec<Leak> {
        let collected = self.lock();
        let needles = Needles::new(&collected.canaries);
        let leaks = collected.texts.iter().flat_map(|text| {
            needles.find(&text.text).into_iter().map(|found| Leak {
                place: text.place.clone(),
                canary: found.name,
                form: found.form,
                excerpt: found.excerpt,
            })
        });
        leaks.collect()
    }

    /// Fails if there is a leak.
    ///
    /// # Panics
    /// With the list of leaks, if there are any.
    #[track_caller]
    pub fn assert_clean(&self) {
        let leaks = self.leaks();
        if leaks.is_empty() {
            return;
        }
        let mut report = format!("{} secrets are where none should be:", leaks.len());
        for leak in leaks.iter().take(MAX_REPORTED) {
            // Writing into a string cannot fail.
            let _ = write!(report, "\n  {leak}");
        }
        if leaks.len() > MAX_REPORTED {
            report.push_str("\n  …");
        }
        panic!("{report}");
    }

    fn push(&self, place: String, text: String, is_log: bool) {
        self.lock().texts.push(Text {
            place,
            text,
            is_log,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leak {
    /// Where it was found.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The [name](Canary::name) of the canary, or `unnamed` if the guard was not told of it.
    #[must_use]
    pub fn canary(&self) -> &str {
        &self.canary
    }

    /// How it was encoded: `plain`, `base64`, `percent-encoded`, `hexadecimal` or `byte list`.
    #[must_use]
    pub fn form(&self) -> &str {
        self.form
    }

    /// Up to 40 characters around it, with every canary masked.
    #[must_use]
    pub fn excerpt(&self) -> &str {
        &self.excerpt
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "canary {} ({}) in {}: {}",
            self.canary, self.form, self.place, self.excerpt
        )
    }
}

impl fmt::Debug for LeakGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let collected = self.lock();
        f.debug_struct("LeakGuard")
            .field("canaries", &collected.canaries)
            .field("texts", &collected.texts.len())
            .finish()
    }
}

/// Everything a server sees of a request.
pub(crate) fn render_request<B: AsRef<[u8]>>(request: &Request<B>) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        let value = String::from_utf8_lossy(value.as_bytes());
        let _ = writeln!(text, "{name}: {value}");
    }
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(request.body().as_ref()));
    text
}

/// A chain of causes that goes on for longer is a cycle.
const MAX_CAUSES: usize = 64;
/// More would drown the first, which is the one to mend.
const MAX_REPORTED: usize = 20;
