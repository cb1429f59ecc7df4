use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tower_auth_core::{Credential, Error, ErrorKind, Fetch, Stamp, TokenSource};
use tracing::Instrument;

use crate::scheduler::Seat;
use crate::shared::{Next, Shared};

/// The background task of a cache: it sleeps until the refresh policy wants a fetch, makes it, and hands
/// the result in. Made by [`TokenCache::pair`](crate::TokenCache::pair) for those who spawn tasks
/// themselves.
///
/// It ends when the last handle of its cache is dropped or the cache is shut down. It keeps no handle
/// alive. If it is dropped earlier, the cache spawns one of its own when it next needs one.
#[must_use = "a driver does nothing unless it is spawned"]
pub struct Driver(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// What a cache knows of its worker.
#[derive(Default)]
pub(crate) struct Worker {
    /// Counts the workers there have been, so that one that was replaced can tell.
    number: u64,
    running: Option<Running>,
}

struct Running {
    wake: Wake,
    /// How often it asked what to do. One that does not ask when it is woken sits on a runtime that
    /// nobody polls.
    beats: u64,
}

/// How a worker is told to look at a cache.
enum Wake {
    /// It works for this cache alone.
    Own(Arc<Notify>),
    /// It works for many, and this is the place of this one.
    Shared(Seat),
}

/// What somebody saw of the worker when waking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Woken {
    worker: u64,
    beats: u64,
    at: Duration,
}

impl Worker {
    /// Registers a new worker in place of whatever there was.
    pub(crate) fn install(&mut self) -> (u64, Arc<Notify>) {
        self.wake();
        let wake = Arc::new(Notify::new());
        self.number += 1;
        self.running = Some(Running {
            wake: Wake::Own(Arc::clone(&wake)),
            beats: 0,
        });
        (self.number, wake)
    }

    /// Notes that this worker, which works for other caches too, has taken over from an earlier one.
    /// `true` if that is news; nothing happens if a later one has.
    pub(crate) fn adopt(&mut self, worker: u64, seat: &Seat) -> bool {
        let is_news = self.number < worker || (self.number == worker && self.running.is_none());
        if is_news {
            self.number = worker;
            self.running = Some(Running {
                wake: Wake::Shared(seat.clone()),
                beats: 0,
            });
        }
        is_news
    }

    /// Notes a sign of life. `false` if this worker was replaced and has to go.
    pub(crate) fn beat(&mut self, worker: u64) -> bool {
        match &mut self.running {
            Some(running) if self.number == worker => {
                running.beats += 1;
                true
            }
            _ => false,
        }
    }

    /// Forgets this worker; `false` if it was replaced before.
    pub(crate) fn end(&mut self, worker: u64) -> bool {
        self.number == worker && self.running.take().is_some()
    }

    pub(crate) fn wake(&self) {
        match self.running.as_ref().map(|running| &running.wake) {
            Some(Wake::Own(wake)) => wake.notify_one(),
            Some(Wake::Shared(seat)) => seat.wake(),
            None => {}
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// What is seen of it at `now`; `None` if there is none, or if it has not answered to being woken
    /// `before`.
    pub(crate) fn look(&self, before: Option<Woken>, now: Duration) -> Option<Woken> {
        let running = self.running.as_ref()?;
        match before {
            Some(before) if (before.worker, before.beats) == (self.number, running.beats) => {
                (now.saturating_sub(before.at) < PATIENCE_WITH_WORKER).then_some(before)
            }
            _ => Some(Woken {
                worker: self.number,
                beats: running.beats,
                at: now,
            }),
        }
    }
}

/// Wakes the worker, or spawns one on the runtime of the caller. A worker that has not answered to being
/// woken `before` is replaced: a runtime that nobody polls any more must not hold up those who run
/// elsewhere.
pub(crate) fn engage<P, S>(
    shared: &Arc<Shared<P, S>>,
    before: Option<Woken>,
) -> Result<Option<Woken>, Error>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    let no_runtime = |cause| {
        let what = "a credential can be fetched only within a tokio runtime";
        shared
            .error(ErrorKind::InvalidConfig, what)
            .with_cause(cause)
    };
    let (number, wake, runtime) = {
        let mut state = shared.lock();
        if state.closed {
            return Err(shared.error(ErrorKind::Unavailable, "the token cache was shut down"));
        }
        if let Some(seat) = &shared.seat {
            // The scheduler takes locks of its own, and may end a worker of this very cache.
            drop(state);
            return seat.engage(before).map_err(no_runtime);
        }
        let now = shared.clocks.now();
        if let Some(woken) = state.worker.look(before, now.mono) {
            state.worker.wake();
            return Ok(Some(woken));
        }
        let runtime = Handle::try_current().map_err(no_runtime)?;
        state.abandon_flight(now);
        let (number, wake) = state.worker.install();
        (number, wake, runtime)
    };
    // Not under the lock: a runtime that is shutting down drops the task at once, and its end is noted
    // under the same lock.
    drop(runtime.spawn(drive(Arc::downgrade(shared), number, wake)));
    Ok(None)
}

/// A worker for the caller to spawn.
pub(crate) fn pair<P, S>(shared: &Arc<Shared<P, S>>) -> Driver
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    let (number, wake) = shared.lock().worker.install();
    Driver(Box::pin(drive(Arc::downgrade(shared), number, wake)))
}

/// How long a caller waits for a sign of life of the worker before it starts another.
pub(crate) const PATIENCE_WITH_WORKER: Duration = Duration::from_secs(1);

/// A fetch under way, which hands its result in by itself.
pub(crate) type Flight = Pin<Box<dyn Future<Output = ()> + Send>>;

fn drive<P, S>(
    cache: Weak<Shared<P, S>>,
    number: u64,
    wake: Arc<Notify>,
) -> impl Future<Output = ()> + Send
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    // Made before the first poll, so that a task dropped unpolled is noticed as well.
    let end = NoteEnd { cache, number };
    async move {
        let mut flight: Option<Flight> = None;
        loop {
            let until = {
                let Some(shared) = end.cache.upgrade() else {
                    return;
                };
                match shared.advance(number) {
                    Next::End => return,
                    Next::Sleep(until) => until.map(|at| shared.clocks.instant(at)),
                    Next::Abandon => {
                        flight = None;
                        continue;
                    }
                    Next::Fetch(started) => {
                        flight = Some(started);
                        continue;
                    }
                }
            };
            let has_landed = wait(flight.as_mut(), until, &wake).await;
            if has_landed {
                flight = None;
            }
        }
    }
}

/// Waits for whichever comes first: the end of the fetch (`true`), the moment, a wake-up.
async fn wait(
    mut flight: Option<&mut Flight>,
    until: Option<tokio::time::Instant>,
    wake: &Notify,
) -> bool {
    let mut timer = pin!(sleep_until(until));
    let mut woken = pin!(wake.notified());
    std::future::poll_fn(|cx| {
        if let Some(Poll::Ready(())) = flight.as_mut().map(|flight| flight.as_mut().poll(cx)) {
            return Poll::Ready(true);
        }
        if timer.as_mut().poll(cx).is_ready() || woken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await
}

/// Sleeps until this moment; for ever where there is none.
pub(crate) async fn sleep_until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One attempt, with its time limit, and with a panic turned into an error.
pub(crate) async fn fetch<P, T>(source: Arc<P>, cx: Fetch<T>) -> Result<T, Error>
where
    P: TokenSource<T>,
    T: Credential,
{
    let attempt = async {
        let mut attempt = pin!(async { source.fetch(&cx).await });
        std::future::poll_fn(|task| {
            // A panicking source is not polled again, and nothing of its state is looked at.
            catch_unwind(AssertUnwindSafe(|| attempt.as_mut().poll(task))).unwrap_or_else(|_| {
                // The payload may hold a secret, so it is not looked at either.
                Poll::Ready(Err(Error::new(
                    ErrorKind::Unavailable,
                    "the source panicked",
                )))
            })
        })
        .await
    };
    // Not evaluated where nobody listens.
    let span =
        tracing::info_span!("fetch", source = source.describe().name(), reason = %cx.reason());
    match tokio::time::timeout(cx.timeout(), attempt.instrument(span)).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(
            ErrorKind::Unavailable,
            format!("no answer within {} s", cx.timeout().as_secs_f32()),
        )
        .timed_out()),
    }
}

/// Tells the cache when its worker is gone, however it went.
struct NoteEnd<P, S: Stamp> {
    cache: Weak<Shared<P, S>>,
    number: u64,
}

impl<P, S: Stamp> Drop for NoteEnd<P, S> {
    fn drop(&mut self) {
        if let Some(shared) = self.cache.upgrade() {
            shared.worker_ended(self.number);
        }
    }
}
