use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tower_auth_core::Clock;

/// The wall clock of the operating system.
///
/// ```
/// use std::time::SystemTime;
/// use tower_auth_core::Clock;
/// use tower_auth_io::SystemClock;
///
/// assert!(SystemClock.now() > SystemTime::UNIX_EPOCH);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the wall clock"
    )]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stands still until it is moved. Clones show the same time.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_auth_core::Clock;
/// use tower_auth_io::ManualClock;
///
/// let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
/// let shared = clock.clone();
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(shared.now(), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<SystemTime>>);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// A clock that shows this many seconds since the Unix epoch, as the claims of a JWT count them.
    #[must_use]
    pub fn at_unix(seconds: u64) -> Self {
        Self::at(later(SystemTime::UNIX_EPOCH, Duration::from_secs(seconds)))
    }

    /// Moves it to `now`, forwards or backwards.
    pub fn set(&self, now: SystemTime) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Moves it forwards. It stays where it is if that would be beyond what the platform can show.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = later(*now, by);
    }
}

/// Shows 2030-01-01T00:00:00Z.
impl Default for ManualClock {
    fn default() -> Self {
        Self::at_unix(1_893_456_000)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn later(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_add(by).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_goes_where_it_is_told() {
        let clock = ManualClock::default();
        let shared = clock.clone();
        clock.advance(Duration::from_secs(60));
        assert_eq!(
            shared.now(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_060)
        );
        shared.set(SystemTime::UNIX_EPOCH);
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn advancing_beyond_the_end_of_time_does_not_panic() {
        let clock = ManualClock::default();
        let before = clock.now();
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), before);
    }
}
