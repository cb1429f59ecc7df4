use std::time::SystemTime;

use tokio::sync::watch;
use tower_auth_core::{Description, Error, Reason};

/// How a token cache is doing. A copy, taken at one moment; it holds no secret.
///
/// An alert that has proven useful: [`usable_until`](Self::usable_until) less than a quarter of the
/// token's lifetime away.
#[derive(Clone, Debug)]
pub struct Health {
    source: Description,
    pub(crate) state: HealthState,
    pub(crate) generation: u64,
    pub(crate) usable_until: Option<SystemTime>,
    pub(crate) failures: u32,
    pub(crate) fetches: u64,
    pub(crate) in_flight: Option<Reason>,
    pub(crate) last_fetch: Option<FetchReport>,
    pub(crate) last_error: Option<Error>,
}

/// What a cache has to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealthState {
    /// Nothing was fetched yet.
    Empty,
    /// Requests are stamped at once.
    Ready,
    /// The API refused the credential and its successor is being fetched; requests wait.
    Renewing,
    /// There was a credential and it has run out.
    Expired,
}

/// How a fetch went.
#[derive(Clone, Debug)]
pub struct FetchReport {
    reason: Reason,
    outcome: FetchOutcome,
}

/// What a fetch led to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FetchOutcome {
    /// Its credential is in use, under this number.
    Published {
        /// Counts the credentials that the cache accepted, from 1.
        generation: u64,
    },
    /// It brought something no better than what is held, and what is held was kept.
    Kept,
    /// It brought nothing.
    Failed(Error),
}

impl Health {
    pub(crate) fn new(source: Description) -> Self {
        Self {
            source,
            state: HealthState::Empty,
            generation: 0,
            usable_until: None,
            failures: 0,
            fetches: 0,
            in_flight: None,
            last_fetch: None,
            last_error: None,
        }
    }

    /// The source and where its settings came from.
    #[must_use]
    pub fn source(&self) -> &Description {
        &self.source
    }

    /// What the cache has to offer.
    #[must_use]
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// The number of the credential in use, from 1; 0 where there has been none.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Until when the credential is stamped: a little before its end. `None` where there is none, or
    /// where it never ends.
    #[must_use]
    pub fn usable_until(&self) -> Option<SystemTime> {
        self.usable_until
    }

    /// How many fetches in a row have failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How many fetches have begun.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        self.fetches
    }

    /// Why a fetch is under way, if one is.
    #[must_use]
    pub fn in_flight(&self) -> Option<Reason> {
        self.in_flight
    }

    /// How the last fetch went.
    #[must_use]
    pub fn last_fetch(&self) -> Option<&FetchReport> {
        self.last_fetch.as_ref()
    }

    /// What went wrong last, until a fetch succeeds.
    #[must_use]
    pub fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }
}

impl FetchReport {
    pub(crate) fn new(reason: Reason, outcome: FetchOutcome) -> Self {
        Self { reason, outcome }
    }

    /// Why it was made.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What came of it.
    #[must_use]
    pub fn outcome(&self) -> &FetchOutcome {
        &self.outcome
    }
}

/// Follows the [`Health`] of a cache without keeping the cache alive. Made by
/// [`TokenCache::subscribe`](crate::TokenCache::subscribe).
#[derive(Clone, Debug)]
pub struct HealthSubscription(watch::Receiver<Health>);

impl HealthSubscription {
    pub(crate) fn new(receiver: watch::Receiver<Health>) -> Self {
        Self(receiver)
    }

    /// Waits until something has changed and returns how things are then; changes in quick succession
    /// are seen as one. `None` once the last handle of the cache is gone.
    pub async fn changed(&mut self) -> Option<Health> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }

    /// How things are now.
    #[must_use]
    pub fn now(&self) -> Health {
        self.0.borrow().clone()
    }
}
