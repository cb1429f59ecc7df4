use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_auth_core::Clock;

use crate::policy::Now;

/// The two clocks a cache lives by: the runtime's, which can be slept on and may stand still while the
/// machine sleeps, and the wall clock, which knows of suspends but can be set wrong.
///
/// The wall clock is read on every request, so the default is the coarse one that the kernel keeps in
/// memory (a few milliseconds of resolution, no system call).
#[derive(Clone)]
pub(crate) struct Clocks {
    wall: Wall,
    /// Where `Now::mono` counts from.
    start: tokio::time::Instant,
}

#[derive(Clone)]
enum Wall {
    Coarse,
    Custom(Arc<dyn Clock>),
}

impl Clocks {
    pub(crate) fn coarse() -> Self {
        Self {
            wall: Wall::Coarse,
            start: tokio::time::Instant::now(),
        }
    }

    pub(crate) fn with_wall(clock: Arc<dyn Clock>) -> Self {
        Self {
            wall: Wall::Custom(clock),
            start: tokio::time::Instant::now(),
        }
    }

    /// Both clocks, for the refresh policy.
    pub(crate) fn now(&self) -> Now {
        Now {
            mono: self.mono(),
            wall: Duration::from_nanos(self.wall_nanos()),
        }
    }

    /// The runtime's clock, since this value was made.
    pub(crate) fn mono(&self) -> Duration {
        tokio::time::Instant::now().saturating_duration_since(self.start)
    }

    /// The moment at which [`mono`](Self::mono) will have reached `at`.
    pub(crate) fn instant(&self, at: Duration) -> tokio::time::Instant {
        self.start
            .checked_add(at)
            .unwrap_or_else(|| self.start + FAR)
    }

    /// The wall clock in nanoseconds since the Unix epoch: what the request path compares.
    #[inline]
    pub(crate) fn wall_nanos(&self) -> u64 {
        match &self.wall {
            Wall::Coarse => coarse_nanos(),
            Wall::Custom(clock) => nanos_since_epoch(clock.now()),
        }
    }
}

/// For stamps that sign the time.
impl Clock for Clocks {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.wall_nanos())
    }
}

impl fmt::Debug for Clocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clocks").finish_non_exhaustive()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
fn coarse_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    // A clock before 1970 is as good as one at 1970: no credential has ended by then. One after 2554
    // wraps round; to find that out costs as much as the rest.
    let seconds = time.tv_sec.max(0).unsigned_abs();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.wrapping_mul(NANOS_PER_SECOND).wrapping_add(nanos)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[expect(
    clippy::disallowed_methods,
    reason = "the one read of the wall clock on this platform"
)]
fn coarse_nanos() -> u64 {
    nanos_since_epoch(SystemTime::now())
}

fn nanos_since_epoch(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Far enough to be "never", near enough for every platform's timer.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
