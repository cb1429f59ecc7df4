//! What a cache counts, with the feature `metrics`. Handles are made at the first use and held, and none
//! of them is on the way of a request that finds a credential.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Label, Unit, counter, describe_counter, describe_gauge, gauge};
use tower_auth_core::Reason;

use crate::health::FetchOutcome;
use crate::keyed::KeyId;
use crate::policy::{Facts, Now, Rejection};

/// The metrics of one cache.
#[derive(Debug)]
pub(crate) struct Meters {
    labels: Vec<Label>,
    handles: OnceLock<Handles>,
}

#[derive(Debug)]
struct Handles {
    fetches: Vec<(Reason, [Counter; 4])>,
    refusals: [Counter; 4],
    usable: Gauge,
    usable_until: Gauge,
    lifetime: Gauge,
    waiters: Gauge,
    failures: Gauge,
    no_progress: Gauge,
    clock_jumps: Counter,
    /// What has been seen of the numbers that only grow.
    seen_jumps: AtomicU64,
    seen_generation: AtomicU64,
}

impl Meters {
    /// For a source of this name.
    pub(crate) fn new(source: &str) -> Self {
        Self {
            labels: vec![Label::new("source", source.to_owned())],
            handles: OnceLock::new(),
        }
    }

    /// Tells it from the other caches of a keyed one, by a hash.
    pub(crate) fn label_key(&mut self, key: KeyId) {
        self.labels.push(Label::new("key", key.to_string()));
    }

    /// Counts a fetch that has ended; without an outcome if it was given up.
    pub(crate) fn fetched(&self, reason: Reason, outcome: Option<&FetchOutcome>) {
        // In the order of `OUTCOMES`.
        let at = match outcome {
            Some(FetchOutcome::Published { .. }) => 0,
            Some(FetchOutcome::Kept) => 1,
            Some(FetchOutcome::Failed(_)) => 2,
            None => 3,
        };
        let fetches = &self.handles().fetches;
        let counters = fetches.iter().find(|(known, _)| *known == reason);
        if let Some(counter) = counters.and_then(|(_, counters)| counters.get(at)) {
            counter.increment(1);
        }
    }

    /// Counts a refusal by an API, by what follows from it.
    pub(crate) fn refused(&self, rejection: Rejection) {
        // In the order of `CONSEQUENCES`.
        let at = match rejection {
            Rejection::Renewing => 0,
            Rejection::Stale => 1,
            Rejection::CoolingDown { .. } => 2,
            Rejection::NotRenewable => 3,
        };
        if let Some(counter) = self.handles().refusals.get(at) {
            counter.increment(1);
        }
    }

    /// How many callers wait.
    pub(crate) fn waiting(&self, waiters: usize) {
        self.handles().waiters.set(waiters as f64);
    }

    /// How things are now.
    pub(crate) fn measure(&self, facts: &Facts, usable_until: Option<Duration>, now: Now) {
        let handles = self.handles();
        let is_static = facts.generation.is_some() && facts.ends_wall.is_none();
        let (left, until) = match usable_until {
            Some(end) => (
                end.saturating_sub(now.wall).as_secs_f64(),
                end.as_secs_f64(),
            ),
            None if is_static => (f64::INFINITY, f64::INFINITY),
            None => (0.0, 0.0),
        };
        handles.usable.set(left);
        handles.usable_until.set(until);
        let generation = facts.generation.unwrap_or(0);
        if handles.seen_generation.swap(generation, Ordering::Relaxed) != generation {
            handles.lifetime.set(left);
        }
        handles.failures.set(f64::from(facts.failures));
        handles.no_progress.set(f64::from(facts.no_progress));
        let before = handles
            .seen_jumps
            .swap(facts.clock_jumps, Ordering::Relaxed);
        handles
            .clock_jumps
            .increment(facts.clock_jumps.saturating_sub(before));
    }

    fn handles(&self) -> &Handles {
        self.handles.get_or_init(|| Handles::new(&self.labels))
    }
}

impl Handles {
    fn new(labels: &[Label]) -> Self {
        describe();
        let with = |more: &[(&'static str, &'static str)]| {
            let more = more
                .iter()
                .map(|(name, value)| Label::from_static_parts(name, value));
            labels.iter().cloned().chain(more).collect::<Vec<_>>()
        };
        Self {
            fetches: REASONS
                .iter()
                .map(|reason| {
                    let counters = OUTCOMES.map(|outcome| {
                        counter!(
                            FETCHES,
                            with(&[("reason", reason.as_str()), ("outcome", outcome)])
                        )
                    });
                    (*reason, counters)
                })
                .collect(),
            refusals: CONSEQUENCES.map(|then| counter!(REFUSALS, with(&[("outcome", then)]))),
            usable: gauge!(USABLE, with(&[])),
            usable_until: gauge!(USABLE_UNTIL, with(&[])),
            lifetime: gauge!(LIFETIME, with(&[])),
            waiters: gauge!(WAITERS, with(&[])),
            failures: gauge!(FAILURES, with(&[])),
            no_progress: gauge!(NO_PROGRESS, with(&[])),
            clock_jumps: counter!(CLOCK_JUMPS, with(&[])),
            seen_jumps: AtomicU64::new(0),
            seen_generation: AtomicU64::new(0),
        }
    }
}

fn describe() {
    describe_counter!(
        FETCHES,
        "Fetches of a credential that have ended, by reason and outcome"
    );
    describe_counter!(
        REFUSALS,
        "Credentials that an API refused, by what followed"
    );
    describe_counter!(
        CLOCK_JUMPS,
        "Times that the wall clock ran ahead: a suspend or a step"
    );
    describe_gauge!(
        USABLE,
        Unit::Seconds,
        "How long the credential may still be used"
    );
    describe_gauge!(
        USABLE_UNTIL,
        Unit::Seconds,
        "Until when it may be used, since the Unix epoch"
    );
    describe_gauge!(
        LIFETIME,
        Unit::Seconds,
        "How long it could be used when it arrived"
    );
    describe_gauge!(WAITERS, "Callers that wait for a credential");
    describe_gauge!(FAILURES, "Fetches in a row that have failed");
    describe_gauge!(
        NO_PROGRESS,
        "Fetches in a row that brought nothing better than what is held"
    );
}

const FETCHES: &str = "tower_auth_fetches_total";
const REFUSALS: &str = "tower_auth_refusals_total";
const CLOCK_JUMPS: &str = "tower_auth_clock_jumps_total";
const USABLE: &str = "tower_auth_usable_seconds";
const USABLE_UNTIL: &str = "tower_auth_usable_until_timestamp_seconds";
const LIFETIME: &str = "tower_auth_lifetime_seconds";
const WAITERS: &str = "tower_auth_waiters";
const FAILURES: &str = "tower_auth_consecutive_failures";
const NO_PROGRESS: &str = "tower_auth_no_progress";

const REASONS: [Reason; 5] = [
    Reason::First,
    Reason::Scheduled,
    Reason::Expired,
    Reason::Rejected,
    Reason::Forced,
];
const OUTCOMES: [&str; 4] = ["published", "kept", "failed", "abandoned"];
const CONSEQUENCES: [&str; 4] = ["renewing", "stale", "cooling down", "not renewable"];
