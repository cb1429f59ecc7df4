#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cause;
mod clock;
mod endpoint;
mod env;
mod transport;

pub use clock::{ManualClock, SystemClock};
pub use endpoint::EndpointUrl;
pub use env::{Env, Lookup, MapEnv, SystemEnv};
pub use transport::Transport;
