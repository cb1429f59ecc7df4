use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tower_auth_core::Clock;

/// A wall clock that follows tokio's time, and that a test can set wrong.
///
/// In a test with paused time (`#[tokio::test(start_paused = true)]`) the wall moves exactly as far as
/// tokio's time does, so that a month passes at once and nothing depends on the machine's clock. On
/// top of that [`step`](Self::step_forward) and [`suspend`](Self::suspend) move the wall alone. Clones
/// show the same time.
///
/// ```
/// use std::time::Duration;
/// use tower_auth_core::Clock;
/// use tower_auth_testing::TestClock;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let clock = TestClock::new();
/// tokio::time::sleep(Duration::from_secs(60)).await;
/// clock.step_back(Duration::from_secs(3600));
/// assert_eq!(clock.now(), clock.start() - Duration::from_secs(3540));
/// # });
/// ```
#[derive(Clone)]
pub struct TestClock(Arc<Inner>);

struct Inner {
    start: SystemTime,
    began: Instant,
    /// How far the wall is ahead of tokio's time, in nanoseconds.
    offset: AtomicI64,
}

impl TestClock {
    /// A clock that shows 2026-01-01T00:00:00Z at this moment of tokio's time.
    #[must_use]
    pub fn new() -> Self {
        Self::starting_at(SystemTime::UNIX_EPOCH + NEW_YEAR_2026)
    }

    /// A clock that shows `start` at this moment of tokio's time.
    #[must_use]
    pub fn starting_at(start: SystemTime) -> Self {
        Self(Arc::new(Inner {
            start,
            began: Instant::now(),
            offset: AtomicI64::new(0),
        }))
    }

    /// What it showed when it was made.
    #[must_use]
    pub fn start(&self) -> SystemTime {
        self.0.start
    }

    /// Somebody sets the wall clock ahead. tokio's time does not notice.
    pub fn step_forward(&self, by: Duration) {
        self.0.offset.fetch_add(nanoseconds(by), Ordering::SeqCst);
    }

    /// Somebody sets the wall clock back. tokio's time does not notice.
    pub fn step_back(&self, by: Duration) {
        self.0.offset.fetch_sub(nanoseconds(by), Ordering::SeqCst);
    }

    /// The machine sleeps: the wall is later by `period` when it wakes, while tokio's time, which
    /// stands still during a suspend on Linux and macOS, has not moved.
    pub fn suspend(&self, period: Duration) {
        self.step_forward(period);
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        let offset = self.0.offset.load(Ordering::SeqCst);
        let ahead = Duration::from_nanos(offset.unsigned_abs());
        let followed = self.0.start + self.0.began.elapsed();
        if offset < 0 {
            followed - ahead
        } else {
            followed + ahead
        }
    }
}

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestClock").field(&self.now()).finish()
    }
}

/// A step of more than 292 years is taken as 292 years.
fn nanoseconds(step: Duration) -> i64 {
    i64::try_from(step.as_nanos()).unwrap_or(i64::MAX)
}

const NEW_YEAR_2026: Duration = Duration::from_secs(1_767_225_600);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn the_wall_follows_tokios_time_exactly() {
        let clock = TestClock::new();
        tokio::time::advance(HOUR * 24 * 30).await;
        assert_eq!(clock.now(), clock.start() + HOUR * 24 * 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_moves_the_wall_and_not_tokios_time() {
        let clock = TestClock::new();
        let before = Instant::now();
        clock.step_forward(HOUR);
        assert_eq!(clock.now(), clock.start() + HOUR);
        clock.step_back(HOUR * 3);
        assert_eq!(clock.now(), clock.start() - HOUR * 2);
        assert_eq!(Instant::now(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspend_is_over_before_any_sleep_ends() {
        let clock = TestClock::new();
        let sleep = tokio::time::sleep(HOUR);
        clock.suspend(HOUR * 8);
        sleep.await;
        assert_eq!(clock.now(), clock.start() + HOUR * 9);
    }

    #[tokio::test(start_paused = true)]
    async fn clones_show_the_same_time() {
        let clock = TestClock::new();
        clock.clone().step_forward(HOUR);
        assert_eq!(clock.now(), clock.start() + HOUR);
    }
}
