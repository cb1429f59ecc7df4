//! The crates together, and with the clients that people have: loopback and memory only, no waiting.
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a function of the tests fails the test"
)]

mod axum_upstream;
mod hyper_client;
mod loopback;
mod reqwest_client;
mod send_sync;
mod tonic_channel;
mod tower_stacks;
