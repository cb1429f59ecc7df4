use std::time::Duration;

use tower_auth_core::Reason;

use super::{Flight, Held, Life, Machine, is_forced};
use crate::policy::schedule::{
    Draw, no_progress_delay, refresh_after, safety_margin, shorter_delay,
};
use crate::policy::{Arrival, KeepReason, Lifetime, Now};

impl Machine {
    /// The life of an arrival on the timeline, and its whole length. It ends when the first of the clocks
    /// says so, counted from the order.
    pub(super) fn life(
        &self,
        now: Now,
        time: Duration,
        lifetime: Lifetime,
        flight: Option<Flight>,
    ) -> Option<(Life, Duration)> {
        let Lifetime::Finite {
            total,
            end_mono,
            end_wall,
        } = lifetime
        else {
            return None;
        };
        let age = flight.map_or(Duration::ZERO, |flight| time.saturating_sub(flight.start));
        let left = end_mono
            .saturating_sub(now.mono)
            .min(end_wall.saturating_sub(now.wall))
            .min(total.saturating_sub(age));
        let end = time.saturating_add(left);
        let life = Life {
            end,
            safe_end: end.saturating_sub(safety_margin(total)).max(time),
            refresh_at: end,
        };
        // What is left of nothing is not usable, whatever the margin.
        let life = if left.is_zero() {
            Life {
                safe_end: time,
                ..life
            }
        } else {
            life
        };
        Some((life, total))
    }

    /// Why an arrival that has not run out should not take the place of what is held.
    pub(super) fn objection(
        &self,
        time: Duration,
        arrival: &Arrival,
        life: Option<(Life, Duration)>,
        flight: Option<Flight>,
    ) -> Option<KeepReason> {
        // With nothing to lose the API decides, not its past.
        let held = self.held.filter(|_| self.is_fresh(time))?;
        let end = |life: Option<Life>| life.map_or(Duration::MAX, |life| life.end);
        let (held_end, new_end) = (end(held.life), end(life.map(|(life, _)| life)));
        let is_same = arrival.fingerprint == held.fingerprint;
        if let Some(rejected) = held.rejected.filter(|_| is_same) {
            return Some(match flight {
                Some(flight) if flight.start < rejected => KeepReason::Predates,
                _ => KeepReason::Refused,
            });
        }
        if self.forcing.is_refused(arrival.fingerprint) {
            return Some(KeepReason::Refused);
        }
        if is_same {
            let left = new_end.saturating_sub(time);
            let is_longer = new_end > held_end.saturating_add(ROUNDING.min(left / 20));
            return (!is_longer).then_some(KeepReason::SameAgain);
        }
        let is_wanted =
            held.rejected.is_some() || flight.is_some_and(|flight| flight.reason == Reason::Forced);
        (new_end < held_end && !is_wanted).then_some(KeepReason::EndsEarlier)
    }

    /// What is held stays: asks again later, and not in a loop.
    pub(super) fn postpone(&mut self, time: Duration, reason: KeepReason, total: Option<Duration>) {
        self.no_progress = self.no_progress.saturating_add(1);
        self.demanded = None;
        let Some(life) = self.held.as_mut().and_then(|held| held.life.as_mut()) else {
            return;
        };
        let remaining = life.safe_end.saturating_sub(time);
        let delay = match (reason, total) {
            (KeepReason::EndsEarlier, Some(total)) => shorter_delay(remaining, total),
            _ => no_progress_delay(remaining),
        };
        life.refresh_at = life.refresh_at.max(time.saturating_add(delay));
    }

    pub(super) fn publish(
        &mut self,
        time: Duration,
        arrival: Arrival,
        life: Option<(Life, Duration)>,
        flight: Option<Flight>,
    ) -> u64 {
        let is_forced = flight.is_some_and(|flight| is_forced(flight.reason));
        let is_after_outage = self
            .trouble
            .since()
            .is_some_and(|since| time.saturating_sub(since) >= LONG_STREAK);
        let draw = if self.held.is_none() || is_forced || is_after_outage {
            Draw::Residual
        } else {
            Draw::Regular
        };
        let life = life.map(|(life, total)| {
            let after = refresh_after(total, arrival.hint, draw, &self.options, &mut self.rng);
            let issued = life.end.saturating_sub(total);
            Life {
                refresh_at: issued.saturating_add(after),
                ..life
            }
        });
        let same = self
            .held
            .filter(|held| held.fingerprint == arrival.fingerprint);
        let held = match same {
            Some(held) => Held {
                life,
                is_used: false,
                ..held
            },
            None => {
                self.generations = self.generations.saturating_add(1);
                Held {
                    generation: self.generations,
                    fingerprint: arrival.fingerprint,
                    life,
                    is_used: false,
                    rejected: None,
                    is_accepted: false,
                }
            }
        };
        self.held = Some(held);
        self.trouble.clear();
        self.forcing.withdraw();
        self.demanded = None;
        self.no_progress = 0;
        held.generation
    }
}

const LONG_STREAK: Duration = Duration::from_secs(60);
/// Ends that differ by less are the same end, rounded; where little is left, a smaller part of it counts.
const ROUNDING: Duration = Duration::from_secs(1);
