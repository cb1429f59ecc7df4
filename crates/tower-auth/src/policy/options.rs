use std::ops::RangeInclusive;
use std::time::Duration;

/// When to renew, how to wait, what to keep.
///
/// Every value is brought into the range that its setter names, so that no combination can make a cache
/// spin or stop.
///
/// ```
/// use std::time::Duration;
/// use tower_auth::policy::{Profile, RefreshOptions};
///
/// let options = RefreshOptions::default()
///     .with_profile(Profile::Frugal)
///     .with_wait_budget(Duration::from_secs(3));
/// assert_eq!(options.wait_budget(), Duration::from_secs(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "options do nothing until they are given to a cache"]
pub struct RefreshOptions {
    profile: Profile,
    min_spacing: Duration,
    fetch_timeout: Duration,
    wait_budget: Duration,
    waiter_limit: usize,
    keep_warm: bool,
    max_lifetime: Duration,
    serve_stale: Duration,
    retry_after_limit: Duration,
    force_delay: Duration,
    heartbeat: Duration,
}

/// At which part of its life a credential is replaced. The moment is drawn once per generation.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Profile {
    /// Between 45 % and 55 %: outages of up to 45 % of the lifetime go unnoticed.
    Resilient,
    /// Between 75 % and 85 %, for issuers that bill or meter.
    Frugal,
    /// Between these parts. Both are brought into 0.05 to 0.9.
    Custom {
        /// The earliest part.
        from: f64,
        /// The latest part.
        to: f64,
    },
}

impl RefreshOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            profile: Profile::Resilient,
            min_spacing: Duration::from_secs(1),
            fetch_timeout: Duration::from_secs(30),
            wait_budget: Duration::from_secs(10),
            waiter_limit: 1024,
            keep_warm: false,
            max_lifetime: Duration::from_secs(24 * 3600),
            serve_stale: Duration::ZERO,
            retry_after_limit: Duration::from_secs(300),
            force_delay: Duration::from_secs(2),
            heartbeat: Duration::from_secs(30),
        }
    }

    /// At which part of its life a credential is replaced; [`Profile::Resilient`] by default.
    pub fn with_profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The least time between the starts of two flights; 1 s by default, 100 ms to 1 min.
    pub fn with_min_spacing(mut self, spacing: Duration) -> Self {
        self.min_spacing = within(
            spacing,
            Duration::from_millis(100)..=Duration::from_secs(60),
        );
        self
    }

    /// How long a flight may take; 30 s by default, 1 s to 10 min. After a flight that timed out it is
    /// doubled: giving up while the server still works wastes what the server has left.
    pub fn with_fetch_timeout(mut self, timeout: Duration) -> Self {
        self.fetch_timeout = within(timeout, Duration::from_secs(1)..=Duration::from_secs(600));
        self
    }

    /// How long a caller without a credential waits; 10 s by default, at most 1 h.
    pub fn with_wait_budget(mut self, budget: Duration) -> Self {
        self.wait_budget = budget.min(Duration::from_secs(3600));
        self
    }

    /// How many callers may wait at once; 1,024 by default, at least 1.
    pub fn with_waiter_limit(mut self, limit: usize) -> Self {
        self.waiter_limit = limit.max(1);
        self
    }

    /// Renews even what nobody uses, and fetches before anybody asks. Off by default: issuers that
    /// count tokens would count these.
    pub fn keep_warm(mut self) -> Self {
        self.keep_warm = true;
        self
    }

    /// A credential that lives longer than this is renewed as if it lived this long; 24 h by default, at
    /// least 1 min. It stays usable until its own end.
    pub fn with_max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = lifetime.max(Duration::from_secs(60));
        self
    }

    /// How long past its safe end a credential is still stamped while its renewal fails; not at all by
    /// default, at most 24 h. Only for APIs that are known to relax the check during an outage.
    pub fn with_serve_stale(mut self, extra: Duration) -> Self {
        self.serve_stale = extra.min(Duration::from_secs(24 * 3600));
        self
    }

    /// How long a `Retry-After` may keep the cache away from the issuer; 5 min by default, at most 1 h.
    pub fn with_retry_after_limit(mut self, limit: Duration) -> Self {
        self.retry_after_limit = limit.min(Duration::from_secs(3600));
        self
    }

    /// The longest of the delays by which a renewal after a refusal is spread; 2 s by default, at most
    /// 1 min.
    pub fn with_force_delay(mut self, delay: Duration) -> Self {
        self.force_delay = delay.min(Duration::from_secs(60));
        self
    }

    /// How often the clocks are looked at when nothing else happens; 30 s by default, 1 s to 1 h. A
    /// suspend is noticed this late at most.
    pub fn with_heartbeat(mut self, heartbeat: Duration) -> Self {
        self.heartbeat = within(
            heartbeat,
            Duration::from_secs(1)..=Duration::from_secs(3600),
        );
        self
    }

    /// How long a caller without a credential waits.
    #[must_use]
    pub fn wait_budget(&self) -> Duration {
        self.wait_budget
    }

    /// How many callers may wait at once.
    #[must_use]
    pub fn waiter_limit(&self) -> usize {
        self.waiter_limit
    }

    /// How long a flight may take.
    #[must_use]
    pub fn fetch_timeout(&self) -> Duration {
        self.fetch_timeout
    }

    /// Whether what nobody uses is renewed too.
    #[must_use]
    pub fn keeps_warm(&self) -> bool {
        self.keep_warm
    }

    pub(super) fn min_spacing(&self) -> Duration {
        self.min_spacing
    }

    pub(super) fn max_lifetime(&self) -> Duration {
        self.max_lifetime
    }

    pub(super) fn serve_stale(&self) -> Duration {
        self.serve_stale
    }

    pub(super) fn retry_after_limit(&self) -> Duration {
        self.retry_after_limit
    }

    pub(super) fn force_delay(&self) -> Duration {
        self.force_delay
    }

    pub(super) fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// The earliest and the latest part of a life at which its renewal is due.
    pub(super) fn parts(&self) -> (f64, f64) {
        match self.profile {
            Profile::Resilient => (0.45, 0.55),
            Profile::Frugal => (0.75, 0.85),
            Profile::Custom { from, to } => {
                let bound = |part: f64, default: f64| {
                    let part = if part.is_nan() { default } else { part };
                    part.clamp(0.05, 0.9)
                };
                let (from, to) = (bound(from, 0.45), bound(to, 0.55));
                (from.min(to), from.max(to))
            }
        }
    }
}

impl Default for RefreshOptions {
    fn default() -> Self {
        Self::new()
    }
}

fn within(value: Duration, range: RangeInclusive<Duration>) -> Duration {
    value.clamp(*range.start(), *range.end())
}
