use std::time::Duration;

use tower_auth_core::Reason;

use super::{Flight, Machine};
use crate::policy::{Now, Order, Step};

impl Machine {
    /// When the next flight starts, and why.
    pub(super) fn next_flight(&self, now: Now, time: Duration) -> Option<(Duration, Reason)> {
        let is_usable = self.is_usable(time);
        let next_try = self.trouble.next_try(is_usable);
        let forced = self.forcing.pending().map(|pending| {
            let at = match pending.reason {
                Reason::Rejected => pending.at.max(next_try),
                _ => pending.at,
            };
            (at, pending.reason)
        });
        let regular = match self.held {
            Some(held) if self.is_fresh(time) => held
                .life
                .filter(|_| held.is_used || self.options.keeps_warm())
                .map(|life| (life.refresh_at.max(next_try), Reason::Scheduled)),
            // Stale service ends with the outage, so the outage has to be watched.
            _ if self.demanded.is_some() || self.options.keeps_warm() || is_usable => {
                let reason = match self.held {
                    Some(_) => Reason::Expired,
                    None => Reason::First,
                };
                Some((next_try, reason))
            }
            _ => None,
        };
        let (at, reason) = match (forced, regular) {
            (Some(forced), Some(regular)) if regular.0 < forced.0 => regular,
            (forced, regular) => forced.or(regular)?,
        };
        Some((at.max(self.spaced(now, time)), reason))
    }

    /// The first moment at which the spacing allows a flight.
    fn spaced(&self, now: Now, time: Duration) -> Duration {
        self.last_start.map_or(Duration::ZERO, |start| {
            let allowed = start.saturating_add(self.options.min_spacing());
            match allowed.saturating_sub(now.mono) {
                Duration::ZERO => Duration::ZERO,
                wait => time.saturating_add(wait),
            }
        })
    }

    pub(super) fn launch(&mut self, now: Now, time: Duration, reason: Reason) -> Order {
        // A renewal for another reason serves whoever asked out of turn just as well.
        let reason = self.forcing.pending().map_or(reason, |pending| {
            self.forcing.start(time, &mut self.rng);
            pending.reason
        });
        self.flights = self.flights.saturating_add(1);
        self.last_start = Some(now.mono);
        let timeout = match self.trouble.last() {
            Some(last) if last.timed_out => self.options.fetch_timeout().saturating_mul(2),
            _ => self.options.fetch_timeout(),
        };
        self.flight = Some(Flight {
            id: self.flights,
            reason,
            start: time,
            timeout,
        });
        let remaining = self.held.and_then(|held| held.life).map(|life| life.end);
        Order {
            id: self.flights,
            reason,
            timeout,
            sent: now,
            min_remaining: remaining.map_or(Duration::ZERO, |end| end.saturating_sub(time)),
        }
    }

    pub(super) fn idle(&self, now: Now, time: Duration, wake: Option<Duration>) -> Step {
        let end = self.last_moment().filter(|end| *end > time);
        let moments = [wake, end, self.look_for_use(time)];
        let Some(next) = moments.into_iter().flatten().min() else {
            return Step::Idle { until: None };
        };
        let wait = next.saturating_sub(time).min(self.options.heartbeat());
        Step::Idle {
            until: Some(now.mono.saturating_add(wait)),
        }
    }

    /// When to look whether a credential that nobody had used is in use by now: at the time of its renewal,
    /// then each time a quarter of what is left has gone. Stamping tells nobody; it is asked for.
    fn look_for_use(&self, time: Duration) -> Option<Duration> {
        let held = self.held.filter(|held| !held.is_used)?;
        let life = held.life.filter(|life| time < life.safe_end)?;
        let quarter = (life.safe_end.saturating_sub(time) / 4).max(LOOK);
        Some(life.refresh_at.max(time.saturating_add(quarter)))
    }
}

/// The least time between two looks whether a credential is in use.
const LOOK: Duration = Duration::from_millis(100);
