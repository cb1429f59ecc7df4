//! The sources against doubles of everything they ask.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cached;
mod conformance;
mod every_source;
mod files;
mod github;
mod identity;
mod kubernetes;
mod pipelines;
#[cfg(all(unix, feature = "spiffe"))]
mod spiffe;
