use std::time::Duration;

use fastrand::Rng;
use tower_auth_core::{Fingerprint, Reason};

use super::schedule::between;

/// Renewals out of turn: who asked, how often, and which secrets the API has refused. Times are on the
/// timeline.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Forcing {
    pending: Option<Pending>,
    streak: u32,
    last: Duration,
    cooldown: Duration,
    refused: [Option<Fingerprint>; REMEMBERED],
    oldest: usize,
}

/// A renewal that was asked for and has not started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) at: Duration,
    pub(super) reason: Reason,
}

impl Forcing {
    /// Asks for a renewal at `at`. Fails with the end of the cool-down where there is one. `is_trusted`: what
    /// is asked about has shown to work, or a person asks.
    pub(super) fn request(
        &mut self,
        time: Duration,
        pending: Pending,
        is_trusted: bool,
    ) -> Result<(), Duration> {
        if let Some(until) = self.cooling_until() {
            if time < until {
                return Err(until);
            }
            // One path of the API may refuse what the others take. So acceptance alone does not end the
            // streak, a time without any renewal does.
            let calm = self.cooldown.saturating_mul(2).max(CALM);
            if is_trusted && time.saturating_sub(self.last) >= calm {
                self.streak = 0;
            }
        }
        if self.pending.is_none() {
            self.pending = Some(pending);
        }
        Ok(())
    }

    /// The renewal starts.
    pub(super) fn start(&mut self, time: Duration, rng: &mut Rng) {
        self.pending = None;
        let rung = usize::try_from(self.streak).unwrap_or(usize::MAX);
        let seconds = COOLDOWNS.get(rung).copied().unwrap_or(LONGEST_COOLDOWN);
        self.cooldown = Duration::from_secs(seconds).mul_f64(between(1.0, 1.25, rng));
        self.streak = self.streak.saturating_add(1);
        self.last = time;
    }

    /// What was asked for is not needed any more, or cannot be had for now.
    pub(super) fn withdraw(&mut self) {
        self.pending = None;
    }

    /// The renewal that has not started.
    pub(super) fn pending(&self) -> Option<Pending> {
        self.pending
    }

    /// How many renewals in a row did not settle the matter.
    pub(super) fn streak(&self) -> u32 {
        self.streak
    }

    /// The moment before which nothing is forced.
    pub(super) fn cooling_until(&self) -> Option<Duration> {
        (self.streak > 0).then(|| self.last.saturating_add(self.cooldown))
    }

    /// Remembers that the API refused this secret.
    pub(super) fn refuse(&mut self, fingerprint: Fingerprint) {
        if self.is_refused(fingerprint) {
            return;
        }
        if let Some(place) = self.refused.get_mut(self.oldest) {
            *place = Some(fingerprint);
        }
        self.oldest = (self.oldest + 1) % REMEMBERED;
    }

    /// Forgets that the API refused this secret.
    pub(super) fn absolve(&mut self, fingerprint: Fingerprint) {
        for place in &mut self.refused {
            if *place == Some(fingerprint) {
                *place = None;
            }
        }
    }

    /// Whether the API refused this secret.
    pub(super) fn is_refused(&self, fingerprint: Fingerprint) -> bool {
        self.refused.contains(&Some(fingerprint))
    }
}

/// Seconds between a forced renewal and the next one.
const COOLDOWNS: [u64; 5] = [5, 15, 45, 135, LONGEST_COOLDOWN];
const LONGEST_COOLDOWN: u64 = 300;
const CALM: Duration = Duration::from_secs(300);
const REMEMBERED: usize = 8;
