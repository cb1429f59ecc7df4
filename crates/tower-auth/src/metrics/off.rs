//! What a cache counts without the feature `metrics`: nothing.

use std::time::Duration;

use tower_auth_core::Reason;

use crate::health::FetchOutcome;
use crate::keyed::KeyId;
use crate::policy::{Facts, Now, Rejection};

/// Stands for the metrics of one cache and has none.
#[derive(Debug)]
pub(crate) struct Meters;

impl Meters {
    pub(crate) fn new(_source: &str) -> Self {
        Self
    }

    pub(crate) fn label_key(&mut self, _key: KeyId) {}

    pub(crate) fn fetched(&self, _reason: Reason, _outcome: Option<&FetchOutcome>) {}

    pub(crate) fn refused(&self, _rejection: Rejection) {}

    pub(crate) fn waiting(&self, _waiters: usize) {}

    pub(crate) fn measure(&self, _facts: &Facts, _usable_until: Option<Duration>, _now: Now) {}
}
