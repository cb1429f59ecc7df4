use std::time::SystemTime;

/// The wall clock, as an argument.
///
/// Expiries and JWT claims are wall-clock facts; a test moves this clock instead of waiting.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_auth_core::Clock;
///
/// struct Fixed(SystemTime);
/// impl Clock for Fixed {
///     fn now(&self) -> SystemTime { self.0 }
/// }
/// let clock = Fixed(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
/// assert_eq!(clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 1);
/// ```
pub trait Clock: Send + Sync + 'static {
    /// What time it is.
    fn now(&self) -> SystemTime;
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> SystemTime {
        (**self).now()
    }
}
