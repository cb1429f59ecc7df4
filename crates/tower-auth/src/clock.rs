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
    per_request: PerRequest,
    /// Where `Now::mono` counts from.
    start: tokio::time::Instant,
}

#[derive(Clone)]
enum Wall {
    Coarse,
    Custom(Arc<dyn Clock>),
}

/// What a request compares the end of its credential with.
#[derive(Clone, Copy)]
enum PerRequest {
    Coarse,
    Wall,
    Nothing,
}

impl Clocks {
    pub(crate) fn coarse() -> Self {
        Self {
            wall: Wall::Coarse,
            per_request: PerRequest::Coarse,
            start: tokio::time::Instant::now(),
        }
    }

    pub(crate) fn with_wall(clock: Arc<dyn Clock>) -> Self {
        Self {
            wall: Wall::Custom(clock),
            per_request: PerRequest::Wall,
            start: tokio::time::Instant::now(),
        }
    }

    /// The same clocks, not read for each request.
    pub(crate) fn not_per_request(mut self) -> Self {
        self.per_request = PerRequest::Nothing;
        self
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

    /// The whole seconds that the wall clock shows since the Unix epoch; beyond all dates for a clock
    /// before it, so that whoever compares them looks again more closely. Zero where requests do not
    /// look at the clock.
    #[inline(always)]
    pub(crate) fn request_seconds(&self) -> u64 {
        match self.per_request {
            PerRequest::Coarse => coarse_seconds(),
            PerRequest::Wall => self.wall_nanos_of_request() / NANOS_PER_SECOND,
            PerRequest::Nothing => 0,
        }
    }

    /// Out of line: it is the clock of tests and simulations.
    #[inline(never)]
    fn wall_nanos_of_request(&self) -> u64 {
        self.wall_nanos()
    }

    /// The wall clock in nanoseconds since the Unix epoch.
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

#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline(always)]
fn coarse_seconds() -> u64 {
    // One before 1970 becomes a date beyond all others.
    rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec as u64
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn coarse_seconds() -> u64 {
    coarse_nanos() / NANOS_PER_SECOND
}

fn nanos_since_epoch(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Far enough to be "never", near enough for every platform's timer.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
