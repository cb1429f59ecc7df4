//! When to fetch, how long to wait, what a failure means: the rules of the cache as a state machine
//! without clock, task or I/O.
//!
//! Nobody needs this module to use a cache. It is public for those who drive the [`Machine`] themselves,
//! simulate a fleet with the rules that are shipped, or test against them.
//!
//! The driver owns the clock and the source; the machine owns the decisions:
//!
//! 1. Tell the machine what happened ([`demand`](Machine::demand), [`fetched`](Machine::fetched),
//!    [`failed`](Machine::failed), [`rejected`](Machine::rejected), …).
//! 2. Call [`step`](Machine::step) and do what it says until it says [`Step::Idle`].
//! 3. Show callers what [`view`](Machine::view) says; compare it with what they see after each step, because
//!    time alone changes it too.
//! 4. Sleep until the moment of [`Step::Idle`] or until the next event.
//!
//! ```
//! use std::time::Duration;
//! use tower_auth::policy::{Arrival, Lifetime, Machine, Now, RefreshOptions, Step, Verdict, View};
//! use tower_auth::{Expiry, Fingerprint};
//!
//! let now = Now { mono: Duration::ZERO, wall: Duration::from_secs(1_700_000_000) };
//! let mut machine = Machine::new(RefreshOptions::default(), 7);
//! machine.demand(now);
//! let Step::Fetch(order) = machine.step(now) else { panic!("somebody waits") };
//! let lifetime = Lifetime::new(Expiry::In(Duration::from_secs(3600)), None, order.sent);
//! let arrival = Arrival { lifetime, fingerprint: Fingerprint::of(b"secret"), hint: None };
//! assert_eq!(machine.fetched(now, arrival), Verdict::Publish { generation: 1 });
//! assert!(matches!(machine.view(), View::Ready { generation: 1, .. }));
//! ```

mod backoff;
mod events;
mod force;
mod machine;
mod options;
mod schedule;
mod timeline;

pub use crate::lifetime::Lifetime;
pub use events::{
    Arrival, Facts, Failure, KeepReason, Order, Patience, Rejection, Step, Verdict, View,
};
pub use machine::Machine;
pub use options::{Profile, RefreshOptions};
pub use timeline::Now;
