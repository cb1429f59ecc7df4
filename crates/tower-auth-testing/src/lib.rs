#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod gate;
mod source;

pub use clock::TestClock;
pub use gate::Gate;
pub use source::{Answer, Call, Outcome, ScriptRanOut, ScriptedSource, fresh_tokens};
