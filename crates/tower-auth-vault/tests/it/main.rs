//! The crate against a server that is not there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
mod environment;
mod login;
mod reading;
mod renewal;
