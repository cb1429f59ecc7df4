use std::time::Duration;

use fastrand::Rng;
use tower_auth_core::ErrorKind;

use super::schedule::between;
use super::{Failure, RefreshOptions};

/// The failures in a row, and when to try again. Times are on the timeline.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    failures: u32,
    since: Duration,
    last: Option<Failure>,
    next_try: Duration,
    next_probe: Duration,
}

/// What the delay after a failure depends on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// Something can still be stamped, for this long.
    Usable(Duration),
    /// Nothing can.
    Unusable,
}

impl Trouble {
    /// A flight failed.
    pub(super) fn add(
        &mut self,
        time: Duration,
        failure: Failure,
        standing: Standing,
        options: &RefreshOptions,
        rng: &mut Rng,
    ) {
        if self.failures == 0 {
            self.since = time;
        }
        self.failures = self.failures.saturating_add(1);
        self.last = Some(failure);
        let age = time.saturating_sub(self.since);
        let delay = delay(failure, self.failures, cap(standing, failure, age), rng);
        let (mut next_try, mut next_probe) = (delay, delay);
        if let Some(wish) = failure.retry_after {
            let wish = wish.min(options.retry_after_limit());
            let spread = wish
                .min(Duration::from_secs(30))
                .mul_f64(between(0.0, 1.0, rng));
            next_try = delay.max(wish.saturating_add(spread));
            next_probe = delay.max(wish.min(PROBE_INTERVAL).saturating_add(spread));
        }
        self.next_probe = time.saturating_add(next_probe);
        self.next_try = match standing {
            Standing::Usable(_) => time.saturating_add(next_try),
            Standing::Unusable => self.next_probe,
        };
    }

    /// A flight succeeded.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many flights failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// The moment of the first failure.
    pub(super) fn since(&self) -> Option<Duration> {
        (self.failures > 0).then_some(self.since)
    }

    /// The last failure.
    pub(super) fn last(&self) -> Option<Failure> {
        self.last
    }

    /// The moment before which no flight starts.
    pub(super) fn next_try(&self, is_usable: bool) -> Duration {
        if is_usable {
            self.next_try
        } else {
            self.next_probe
        }
    }

    /// Whether waiting is known to be of no use: the issuer or the configuration said no.
    pub(super) fn is_settled(&self) -> bool {
        self.last.is_some_and(|failure| is_refusal(failure.kind))
    }
}

/// The longest delay: it shrinks with what is left while a credential is usable, and grows with the age
/// of the outage when none is, so that an overloaded endpoint always gets to where it can drain.
fn cap(standing: Standing, failure: Failure, age: Duration) -> Duration {
    match standing {
        Standing::Usable(remaining) => {
            let longest = if failure.timed_out { 300 } else { 120 };
            (remaining / 4).clamp(Duration::from_secs(10), Duration::from_secs(longest))
        }
        Standing::Unusable => (age / 10).clamp(Duration::from_secs(30), Duration::from_secs(300)),
    }
}

fn delay(failure: Failure, failures: u32, cap: Duration, rng: &mut Rng) -> Duration {
    let exponent = failures.saturating_sub(1).min(16);
    let doubled = |base: u64| Duration::from_secs(base << exponent).min(cap);
    let longest = match failure.kind {
        // A new secret may take some seconds to reach every server of the issuer.
        kind if is_refusal(kind) && failures == 1 => {
            return Duration::from_secs_f64(between(1.0, 5.0, rng));
        }
        kind if is_refusal(kind) => cap,
        ErrorKind::Malformed if failures > MALFORMED_IN_A_ROW => cap,
        _ if failure.throttled => doubled(10),
        _ => doubled(2),
    };
    // What a server works on for a caller that has gone is lost, so an overloaded one is spared most.
    let shortest = if failure.timed_out { 0.75 } else { 0.5 };
    longest.mul_f64(between(shortest, 1.0, rng))
}

fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Denied | ErrorKind::InvalidConfig | ErrorKind::NotConfigured
    )
}

/// With nothing to stamp, a `Retry-After` is obeyed for no longer than this between two tries.
const PROBE_INTERVAL: Duration = Duration::from_secs(60);

/// So many answers that make no sense may be an accident of one proxy.
const MALFORMED_IN_A_ROW: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// The bounds of the delay after `failures` failures over `age` seconds.
    fn check(failure: Failure, failures: u32, standing: Standing, age: u64, low: f64, high: f64) {
        let mut rng = Rng::with_seed(1);
        let cap = cap(standing, failure, Duration::from_secs(age));
        for _ in 0..1_000 {
            let seen = delay(failure, failures, cap, &mut rng).as_secs_f64();
            assert!(
                low - 1e-6 <= seen && seen <= high + 1e-6,
                "{failure:?} {failures} {standing:?} {age}: {seen}"
            );
        }
    }

    #[test]
    fn the_delay_doubles_up_to_a_cap_that_depends_on_what_is_left() {
        let failure = Failure::new(ErrorKind::Unavailable);
        let usable = |seconds| Standing::Usable(Duration::from_secs(seconds));
        check(failure, 1, Standing::Unusable, 0, 1.0, 2.0);
        check(failure, 2, Standing::Unusable, 0, 2.0, 4.0);
        check(failure, 4, Standing::Unusable, 20, 8.0, 16.0);
        check(failure, 5, Standing::Unusable, 40, 15.0, 30.0);
        check(failure, 40, Standing::Unusable, 1_000, 50.0, 100.0);
        check(failure, u32::MAX, Standing::Unusable, 1 << 40, 150.0, 300.0);
        check(failure, 9, usable(1_800), 300, 60.0, 120.0);
        check(failure, 9, usable(100), 300, 12.5, 25.0);
        check(failure, 9, usable(4), 300, 5.0, 10.0);
    }

    #[test]
    fn each_kind_of_failure_has_its_own_pace() {
        let throttled = Failure {
            throttled: true,
            ..Failure::new(ErrorKind::Unavailable)
        };
        check(throttled, 1, Standing::Unusable, 0, 5.0, 10.0);
        check(throttled, 9, Standing::Unusable, 300, 15.0, 30.0);
        check(Failure::timeout(), 1, Standing::Unusable, 0, 1.5, 2.0);
        check(
            Failure::timeout(),
            20,
            Standing::Unusable,
            3_600,
            225.0,
            300.0,
        );
        for kind in [
            ErrorKind::Denied,
            ErrorKind::InvalidConfig,
            ErrorKind::NotConfigured,
        ] {
            check(Failure::new(kind), 1, Standing::Unusable, 0, 1.0, 5.0);
            check(Failure::new(kind), 2, Standing::Unusable, 3, 15.0, 30.0);
        }
        let malformed = Failure::new(ErrorKind::Malformed);
        check(malformed, 3, Standing::Unusable, 3, 4.0, 8.0);
        check(malformed, 4, Standing::Unusable, 9, 15.0, 30.0);
    }
}
