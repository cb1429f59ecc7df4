use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use tower_auth_core::{Fetch, Reason};

/// How a [`ScriptedSource`](crate::ScriptedSource) was asked once, and what became of it.
#[derive(Clone, Debug)]
pub struct Call {
    reason: Reason,
    min_remaining: Duration,
    timeout: Duration,
    challenge: Option<String>,
    claims: Option<String>,
    has_previous: bool,
    at: Instant,
    pub(super) outcome: Outcome,
}

/// What became of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It has not ended.
    Running,
    /// It gave a credential or an error.
    Answered,
    /// It panicked, or its future was dropped before it had an answer.
    Dropped,
}

/// The cause of a [`ScriptedSource`](crate::ScriptedSource)'s error when it was asked more often than its test said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptRanOut {
    pub(super) call: usize,
}

impl Call {
    /// A fetch that begins at this moment.
    pub(super) fn new<T>(cx: &Fetch<T>) -> Self {
        Self {
            reason: cx.reason(),
            min_remaining: cx.min_remaining(),
            timeout: cx.timeout(),
            challenge: cx.challenge().map(str::to_owned),
            claims: cx.claims().map(str::to_owned),
            has_previous: cx.previous().is_some(),
            at: Instant::now(),
            outcome: Outcome::Running,
        }
    }

    /// [`Fetch::reason`].
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// [`Fetch::min_remaining`].
    #[must_use]
    pub fn min_remaining(&self) -> Duration {
        self.min_remaining
    }

    /// [`Fetch::timeout`].
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// [`Fetch::challenge`].
    #[must_use]
    pub fn challenge(&self) -> Option<&str> {
        self.challenge.as_deref()
    }

    /// [`Fetch::claims`].
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        self.claims.as_deref()
    }

    /// Whether it was given a previous credential.
    #[must_use]
    pub fn has_previous(&self) -> bool {
        self.has_previous
    }

    /// When it began, by tokio's clock.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at
    }

    /// What became of it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}

impl ScriptRanOut {
    /// Which call it was for which there was no answer, counted from 1.
    #[must_use]
    pub fn call(&self) -> usize {
        self.call
    }
}

impl fmt::Display for ScriptRanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} is more than the script has answers", self.call)
    }
}

impl std::error::Error for ScriptRanOut {}
