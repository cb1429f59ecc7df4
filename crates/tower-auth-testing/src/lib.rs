#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod canary;
mod clock;
pub mod conformance;
mod endpoint;
mod gate;
mod leaks;
mod source;

pub use canary::Canary;
pub use clock::TestClock;
pub use endpoint::{Expect, FakeEndpoint, FakeService, Reply, ReplyBody};
pub use gate::Gate;
pub use leaks::{Leak, LeakGuard};
pub use source::{Answer, Call, Outcome, ScriptRanOut, ScriptedSource, fresh_tokens};
