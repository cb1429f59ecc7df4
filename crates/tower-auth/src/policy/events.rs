use std::time::Duration;

use tower_auth_core::{Credential, Error, ErrorKind, Fingerprint, Reason, RefreshHint};

use super::{Lifetime, Now};

/// What a flight brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// How long it lives, counted from [`Order::sent`].
    pub lifetime: Lifetime,
    /// Tells it from its predecessor.
    pub fingerprint: Fingerprint,
    /// When the issuer would like to be asked again.
    pub hint: Option<RefreshHint>,
}

impl Arrival {
    /// What the machine needs to know of `credential`, which was asked for at `sent`.
    pub fn new<C: Credential + ?Sized>(credential: &C, sent: Now) -> Self {
        Self {
            lifetime: Lifetime::of(credential, sent),
            fingerprint: credential.fingerprint(),
            hint: credential.refresh_hint(),
        }
    }
}

/// How a flight failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the source said.
    pub kind: ErrorKind,
    /// Whether the endpoint answered 429 (RFC 6585 section 4).
    pub throttled: bool,
    /// How long the issuer asked to be left alone (RFC 9110 section 10.2.3).
    pub retry_after: Option<Duration>,
    /// Whether the time allowed ran out.
    pub timed_out: bool,
}

impl Failure {
    /// A failure of this kind about which nothing more is known.
    #[must_use]
    pub const fn new(kind: ErrorKind) -> Self {
        Self {
            kind,
            throttled: false,
            retry_after: None,
            timed_out: false,
        }
    }

    /// A flight that did not come back in time.
    #[must_use]
    pub const fn timeout() -> Self {
        Self {
            timed_out: true,
            ..Self::new(ErrorKind::Unavailable)
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind(),
            throttled: error.status().is_some_and(|status| status.as_u16() == 429),
            retry_after: error.retry_after(),
            timed_out: error.is_timeout(),
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whoever drives the machine must handle every step"
)]
pub enum Step {
    /// Start a flight. There is never a second one before this one is reported.
    Fetch(Order),
    /// Drop the flight of this id: it is older than its timeout allows on the clock that ran through a
    /// suspend. The machine has counted it as timed out; nothing is to be reported.
    Abandon {
        /// [`Order::id`].
        id: u64,
    },
    /// Wait.
    Idle {
        /// Call [`step`](super::Machine::step) when the monotonic clock shows this, or sooner on an event.
        /// `None`: only an event changes anything.
        until: Option<Duration>,
    },
}

/// A flight to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Order {
    /// Counts the flights, from 1.
    pub id: u64,
    /// Why a credential is wanted.
    pub reason: Reason,
    /// How long it may take.
    pub timeout: Duration,
    /// When it was ordered: lifetimes count from here.
    pub sent: Now,
    /// How long the held credential still lives; one that ends sooner is of little use.
    pub min_remaining: Duration,
}

/// What became of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a credential is either published or not"
)]
pub enum Verdict {
    /// Callers get it.
    Publish {
        /// Its number. The number of the held generation where the same secret came back with a longer
        /// life: what callers have stays, only its end moves.
        generation: u64,
    },
    /// It is dropped; what was held stays.
    Keep(KeepReason),
}

/// Why an arrival was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepReason {
    /// It is the one that is held, and it ends no later.
    SameAgain,
    /// It ends before the one that is held.
    EndsEarlier,
    /// It is the one that the API has refused, fetched before the API did so.
    Predates,
    /// The API has refused it.
    Refused,
    /// It has run out already. Counted as a failure.
    ExpiredOnArrival,
}

/// What a refusal by the API led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// A newer generation is there: a retry will use it.
    Stale,
    /// A flight is under way or about to start.
    Renewing,
    /// Nothing is done for now: the previous renewal did not help, or the issuer fails.
    CoolingDown {
        /// The monotonic moment from which the next refusal counts.
        until: Duration,
    },
    /// The credential is static: asking again would give the same.
    NotRenewable,
}

/// What callers may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whoever drives the machine must handle every view"
)]
pub enum View {
    /// There has been no credential so far.
    Empty,
    /// The generation may be stamped.
    Ready {
        /// Its number.
        generation: u64,
        /// The wall-clock moment from which it must not be stamped; `None` for a static credential.
        safe_end_wall: Option<Duration>,
        /// The API's answers to it are wanted: it was refused, or took the place of one that was. Report
        /// the first one that is no refusal to [`accepted`](super::Machine::accepted).
        suspected: bool,
    },
    /// The generation was refused and its successor is on the way. Callers wait for it at most their
    /// budget and then use this one.
    Renewing {
        /// Its number.
        generation: u64,
    },
    /// The generation has run out. Keep it: with
    /// [`serve_stale`](super::RefreshOptions::with_serve_stale) it may become `Ready` again.
    Expired {
        /// Its number.
        generation: u64,
    },
}

/// What a caller without a credential should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "one waits or one does not")]
pub enum Patience {
    /// There is a chance before the deadline.
    Wait,
    /// There is none: fail at once with the last error.
    GiveUp,
}

/// How it stands, for health checks and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The number of the held generation.
    pub generation: Option<u64>,
    /// The wall-clock end of the held generation, without any margin. `None` for a static one.
    pub ends_wall: Option<Duration>,
    /// The monotonic moment from which the held generation is to be replaced.
    pub refresh_at: Option<Duration>,
    /// How many flights failed since the last one that succeeded.
    pub failures: u32,
    /// The monotonic moment of the first of them.
    pub failing_since: Option<Duration>,
    /// What the last of them was.
    pub last_failure: Option<Failure>,
    /// The monotonic moment before which no flight starts.
    pub next_try: Option<Duration>,
    /// Why the flight in the air was started.
    pub in_flight: Option<Reason>,
    /// How many flights were started so far.
    pub flights: u64,
    /// How many forced renewals in a row did not settle the matter.
    pub force_streak: u32,
    /// The monotonic moment before which nothing is forced.
    pub cooling_until: Option<Duration>,
    /// How often in a row the issuer answered with nothing better than what is held.
    pub no_progress: u32,
    /// How often the wall clock ran ahead by more than a heartbeat: a suspend or a step.
    pub clock_jumps: u64,
}
