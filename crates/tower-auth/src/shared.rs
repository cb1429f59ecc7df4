use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Request, Uri};
use tokio::sync::{Notify, watch};
use tower_auth_core::{
    Caching, Description, Error, ErrorKind, Fetch, Fingerprint, Reason, Stamp, StampContext,
    TokenSource,
};

use crate::cell::{Cell, Held, Phase, Snapshot};
use crate::clock::Clocks;
use crate::diagnosis::{Look, Notes};
use crate::driver::{self, Flight, Worker};
use crate::health::{FetchOutcome, FetchReport, Health, HealthState};
use crate::keyed::KeyId;
use crate::metrics::Meters;
use crate::policy::{
    Arrival, Failure, KeepReason, Machine, Now, Order, RefreshOptions, Rejection, Step, Verdict,
    View,
};
use crate::scheduler::Seat;
use crate::shape::Shape;

/// Everything that the handles of one cache share: what the request path reads ([`Cell`]), and behind a
/// mutex that the request path never takes, the refresh policy and its bookkeeping.
pub(crate) struct Shared<P, S: Stamp> {
    pub(crate) cell: Cell<S>,
    pub(crate) stamp: S,
    pub(crate) clocks: Clocks,
    pub(crate) source: Arc<P>,
    pub(crate) description: Description,
    pub(crate) caching: Caching,
    pub(crate) shape: Shape,
    pub(crate) meters: Meters,
    /// The longest that a caller waits for a credential.
    pub(crate) wait_budget: Duration,
    /// How many callers may wait at once.
    pub(crate) waiter_limit: usize,
    check_clock: bool,
    shards: usize,
    /// The place with the worker of many caches, for one of these.
    pub(crate) seat: Option<Seat>,
    /// What tells it from the other caches of a keyed one, in logs.
    pub(crate) key: Option<KeyId>,
    state: Mutex<State<S>>,
    /// Woken at each publication, each failed fetch and each end of a worker.
    pub(crate) changed: Notify,
    health: watch::Sender<Health>,
}

pub(crate) struct State<S: Stamp> {
    pub(crate) machine: Machine,
    pub(crate) worker: Worker,
    /// No further fetch: the cache was shut down.
    pub(crate) closed: bool,
    /// How many fetches have ended, whichever way.
    pub(crate) landings: u64,
    pub(crate) waiters: usize,
    pub(crate) last_error: Option<Error>,
    pub(crate) notes: Notes,
    held: Option<Held<S>>,
    published: Option<View>,
    challenge: Option<Arc<str>>,
    last_fetch: Option<FetchReport>,
    in_flight: Option<Reason>,
    /// What the last few generations put into their header, by fingerprint.
    ours: VecDeque<Fingerprint>,
}

/// What a builder has settled.
pub(crate) struct Settings {
    pub(crate) options: RefreshOptions,
    pub(crate) seed: u64,
    pub(crate) check_clock: bool,
    pub(crate) shards: usize,
}

/// What the worker does next.
pub(crate) enum Next {
    /// Poll this to its end.
    Fetch(Flight),
    /// Drop the fetch under way.
    Abandon,
    /// Nothing before this moment of the runtime's clock, unless woken.
    Sleep(Option<Duration>),
    End,
}

impl<P, S: Stamp> Shared<P, S> {
    pub(crate) fn new(source: P, stamp: S, clocks: Clocks, settings: Settings) -> Self
    where
        P: TokenSource<S::Credential>,
    {
        let description = source.describe();
        Self {
            cell: Cell::new(),
            stamp,
            clocks,
            caching: source.caching(),
            shape: Shape::default(),
            meters: Meters::new(description.name()),
            source: Arc::new(source),
            health: watch::Sender::new(Health::new(description.clone())),
            description,
            wait_budget: settings.options.wait_budget(),
            waiter_limit: settings.options.waiter_limit(),
            check_clock: settings.check_clock,
            shards: settings.shards,
            seat: None,
            key: None,
            state: Mutex::new(State {
                machine: Machine::new(settings.options, settings.seed),
                worker: Worker::default(),
                closed: false,
                landings: 0,
                waiters: 0,
                last_error: None,
                notes: Notes::default(),
                held: None,
                published: None,
                challenge: None,
                last_fetch: None,
                in_flight: None,
                ours: VecDeque::new(),
            }),
            changed: Notify::new(),
        }
    }

    /// The state behind the mutex. A panic of another holder leaves it whole: each change is made by
    /// code that does not call out.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshot, if a request may be stamped with it now.
    pub(crate) fn usable(&self) -> Option<Arc<Snapshot<S>>> {
        let snapshot = self.cell.load();
        let ready = snapshot.phase == Phase::Ready && self.clocks.wall_nanos() < snapshot.safe_end;
        ready.then_some(snapshot)
    }

    pub(crate) fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Whether a fetch is under way.
    pub(crate) fn is_fetching(&self) -> bool {
        self.lock().in_flight.is_some()
    }

    /// Whether one of the last few generations stamped this very value: a request that someone inside
    /// sends again carries our own stamp, not a credential of the caller's.
    pub(crate) fn is_ours(&self, value: &HeaderValue) -> bool {
        self.lock()
            .ours
            .contains(&Fingerprint::of(value.as_bytes()))
    }

    /// The API refused this generation. Older ones are of no interest: their successor is there.
    pub(crate) fn reject(self: &Arc<Self>, generation: u64, challenge: Option<&str>)
    where
        P: TokenSource<S::Credential>,
    {
        let rejection = {
            let mut state = self.lock();
            let rejection = state.machine.rejected(self.clocks.now(), generation);
            if rejection == Rejection::Renewing {
                state.challenge = challenge.map(Arc::from);
            }
            self.publish(&mut state);
            rejection
        };
        self.meters.refused(rejection);
        match rejection {
            Rejection::Stale => {}
            Rejection::Renewing => {
                tracing::warn!(
                    source = self.description.name(),
                    key = self.key_field(),
                    generation,
                    "credential refused, fetching another"
                );
                // Without a runtime there is nobody to fetch; the next caller says so.
                let _ = driver::engage(self, None);
            }
            other => {
                tracing::warn!(
                    source = self.description.name(),
                    key = self.key_field(),
                    generation,
                    ?other,
                    "credential refused"
                );
            }
        }
    }

    /// The API took this generation.
    pub(crate) fn accept(&self, generation: u64) {
        let mut state = self.lock();
        state.machine.accepted(self.clocks.now(), generation);
        self.publish(&mut state);
    }

    /// Asks the policy what is to be done, for the worker of this number.
    pub(crate) fn advance(self: &Arc<Self>, worker: u64) -> Next
    where
        P: TokenSource<S::Credential>,
    {
        let mut state = self.lock();
        let now = self.clocks.now();
        if state.closed || !state.worker.beat(worker) {
            return Next::End;
        }
        if let Some(held) = state.held.as_ref().filter(|held| held.is_used()) {
            let generation = held.generation;
            state.machine.used(generation);
        }
        let step = state.machine.step(now);
        self.publish(&mut state);
        self.measure(&state, now);
        match step {
            Step::Idle { until } => Next::Sleep(until),
            Step::Abandon { .. } => {
                tracing::warn!(
                    source = self.description.name(),
                    key = self.key_field(),
                    "fetch given up: it is older than the machine was awake"
                );
                if let Some(reason) = state.in_flight.take() {
                    self.meters.fetched(reason, None);
                }
                state.landings += 1;
                state.last_error = Some(self.no_answer_in_time());
                self.report(&state);
                Next::Abandon
            }
            Step::Fetch(order) => {
                tracing::debug!(source = self.description.name(), key = self.key_field(), reason = %order.reason, "fetching");
                state.in_flight = Some(order.reason);
                let mut cx = Fetch::new(order.reason)
                    .with_timeout(order.timeout)
                    .with_min_remaining(order.min_remaining);
                if let Some(held) = &state.held {
                    cx = cx.with_previous(Arc::clone(&held.credential));
                }
                if let (Reason::Rejected, Some(challenge)) = (order.reason, &state.challenge) {
                    cx = cx.with_challenge(Arc::clone(challenge));
                }
                self.report(&state);
                drop(state);
                Next::Fetch(self.flight(worker, order, cx))
            }
        }
    }

    fn flight(self: &Arc<Self>, worker: u64, order: Order, cx: Fetch<S::Credential>) -> Flight
    where
        P: TokenSource<S::Credential>,
    {
        let source = Arc::clone(&self.source);
        let cache = Arc::downgrade(self);
        Box::pin(async move {
            let result = driver::fetch(source, cx).await;
            if let Some(shared) = cache.upgrade() {
                shared.land(worker, &order, result);
            }
        })
    }

    /// Takes the result of a fetch.
    fn land(&self, worker: u64, order: &Order, result: Result<S::Credential, Error>)
    where
        P: TokenSource<S::Credential>,
    {
        let landed = result.and_then(|credential| {
            let credential = Arc::new(credential);
            Ok((self.prepare(&credential, order.sent.mono)?, credential))
        });
        let mut state = self.lock();
        let now = self.clocks.now();
        if !state.worker.beat(worker) {
            return;
        }
        state.landings += 1;
        state.in_flight = None;
        let outcome = match landed {
            Ok(((held, ours, look), credential)) => {
                match state
                    .machine
                    .fetched(now, Arrival::new(&*credential, order.sent))
                {
                    Verdict::Publish { generation } => {
                        tracing::info!(source = self.description.name(), key = self.key_field(), generation, reason = %order.reason, "new credential");
                        state.held = Some(held.numbered(generation));
                        state.last_error = None;
                        state.challenge = None;
                        state.remember(ours);
                        self.note_publication(&mut state, generation, look);
                        FetchOutcome::Published { generation }
                    }
                    Verdict::Keep(why) => {
                        tracing::warn!(
                            source = self.description.name(),
                            key = self.key_field(),
                            ?why,
                            "fetched credential not taken"
                        );
                        state.last_error = Some(self.not_taken(why, &state.notes));
                        FetchOutcome::Kept
                    }
                }
            }
            Err(error) => {
                let error = error.or_source(self.description.name().to_owned());
                tracing::warn!(source = self.description.name(), key = self.key_field(), kind = %error.kind(), %error, "fetch failed");
                state.machine.failed(now, Failure::from(&error));
                state.last_error = Some(error.clone());
                FetchOutcome::Failed(error)
            }
        };
        self.meters.fetched(order.reason, Some(&outcome));
        state.last_fetch = Some(FetchReport::new(order.reason, outcome));
        self.publish(&mut state);
        self.report(&state);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Makes a credential ready for each shard, and says what it will look like in its header.
    pub(crate) fn prepare(
        &self,
        credential: &Arc<S::Credential>,
        fetched: Duration,
    ) -> Result<(Held<S>, Option<Fingerprint>, Look), Error>
    where
        P: TokenSource<S::Credential>,
    {
        let prepared = (0..self.shards)
            .map(|_| self.stamp.prepare(credential))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.or_source(self.description.name().to_owned()))?;
        let mut probe = Request::new(());
        // Some schemes sign where the request goes, and stamp none that does not say so.
        *probe.uri_mut() = Uri::from_static("https://probe.invalid/");
        let ours = prepared.first().and_then(|prepared| {
            self.stamp
                .stamp(prepared, &mut probe, &StampContext::new(&self.clocks))
                .ok()?;
            let value = self.stamp.present(prepared, probe.headers())?;
            Some(Fingerprint::of(value.as_bytes()))
        });
        let look = self.look_at(credential, probe.headers())?;
        let held = Held::new(Arc::clone(credential), prepared, fetched);
        Ok((held, ours, look))
    }

    /// Makes what the policy says visible to the request path, if it says something new.
    pub(crate) fn publish(&self, state: &mut State<S>) {
        let view = state.machine.view();
        if state.published == Some(view) {
            return;
        }
        state.published = Some(view);
        let held = state.held.clone();
        let snapshot = match view {
            View::Empty => Snapshot::empty(),
            View::Ready {
                generation,
                safe_end_wall,
                suspected,
            } => Snapshot {
                phase: Phase::Ready,
                generation,
                safe_end: match safe_end_wall {
                    Some(end) if self.check_clock => nanos(end),
                    _ => u64::MAX,
                },
                suspected,
                held,
            },
            View::Renewing { generation } => Snapshot {
                phase: Phase::Wait,
                generation,
                safe_end: u64::MAX,
                suspected: true,
                held,
            },
            // What has run out is kept out of reach: a refresh grant may need it.
            View::Expired { generation } => Snapshot {
                generation,
                ..Snapshot::empty()
            },
        };
        self.cell.publish(snapshot);
        self.report(state);
        self.changed.notify_waiters();
    }

    fn not_taken(&self, why: KeepReason, notes: &Notes) -> Error {
        let what = match why {
            KeepReason::SameAgain => "it gave the credential that is held already",
            KeepReason::EndsEarlier => "it gave a credential that ends before the one that is held",
            KeepReason::Predates | KeepReason::Refused => {
                "it gave the credential that the API has refused"
            }
            KeepReason::ExpiredOnArrival => "the credential had expired on arrival",
        };
        let error = self.error(ErrorKind::Unavailable, what);
        match notes.suspicion() {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// What is said when the wait was in vain and nobody knows better.
    pub(crate) fn no_answer_in_time(&self) -> Error {
        let seconds = self.wait_budget.as_secs_f32();
        self.error(
            ErrorKind::Unavailable,
            format!("no credential within {seconds} s"),
        )
        .timed_out()
    }

    /// An error that names the source.
    pub(crate) fn error(&self, kind: ErrorKind, what: impl Into<Cow<'static, str>>) -> Error {
        Error::new(kind, what).with_source_name(self.description.name().to_owned())
    }

    /// The key, as a field of a log event; nothing where there are no keys.
    pub(crate) fn key_field(&self) -> Option<impl tracing::Value> {
        self.key.map(tracing::field::display)
    }

    fn measure(&self, state: &State<S>, now: Now) {
        let usable_until = match state.machine.view() {
            View::Ready { safe_end_wall, .. } => safe_end_wall,
            _ => None,
        };
        self.meters
            .measure(&state.machine.facts(), usable_until, now);
    }

    fn report(&self, state: &State<S>) {
        let facts = state.machine.facts();
        let (health_state, expires_at) = match state.machine.view() {
            View::Empty => (HealthState::Empty, None),
            View::Ready { safe_end_wall, .. } => (HealthState::Ready, safe_end_wall),
            View::Renewing { .. } => (HealthState::Renewing, None),
            View::Expired { .. } => (HealthState::Expired, None),
        };
        self.health.send_modify(|health| {
            health.state = health_state;
            health.generation = facts.generation.unwrap_or(0);
            health.usable_until = expires_at.map(|end| std::time::SystemTime::UNIX_EPOCH + end);
            health.failures = facts.failures;
            health.fetches = facts.flights;
            health.in_flight = facts.in_flight;
            health.last_fetch.clone_from(&state.last_fetch);
            health.last_error.clone_from(&state.last_error);
        });
    }

    /// A worker ended, on purpose or because its runtime did.
    pub(crate) fn worker_ended(&self, worker: u64) {
        let mut state = self.lock();
        if state.worker.end(worker) {
            if state.in_flight.take().is_some() {
                state.machine.aborted(self.clocks.now());
            }
            self.publish(&mut state);
            drop(state);
            self.changed.notify_waiters();
        }
    }
}

impl<S: Stamp> State<S> {
    /// A fetch that belonged to a worker which was given up.
    pub(crate) fn abandon_flight(&mut self, now: Now) {
        if self.in_flight.take().is_some() {
            self.machine.aborted(now);
        }
    }

    fn remember(&mut self, ours: Option<Fingerprint>) {
        let Some(ours) = ours else { return };
        if self.ours.len() == REMEMBERED_STAMPS {
            self.ours.pop_front();
        }
        self.ours.push_back(ours);
    }
}

impl<P, S: Stamp> Drop for Shared<P, S> {
    fn drop(&mut self) {
        // The worker holds no handle. It is woken to find that nobody does.
        if let Some(seat) = &self.seat {
            seat.leave();
            return;
        }
        self.state
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .worker
            .wake();
    }
}

impl<P, S: Stamp> fmt::Debug for Shared<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("source", &format_args!("{}", self.description))
            .field("snapshot", &self.cell.load())
            .finish_non_exhaustive()
    }
}

fn nanos(since_epoch: Duration) -> u64 {
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// Requests that were stamped longer ago than this many generations are not in the air any more.
const REMEMBERED_STAMPS: usize = 8;
