//! Installs and starts real servers. A new one is a module beside `oidc_provider`: install, command, path
//! that tells when it is ready.

mod http;
mod install;
mod python;
mod server;

use std::path::{Path, PathBuf};

pub(crate) use http::{get, post_form, send_json};
pub(crate) use install::{npm, pip};
pub(crate) use python::ask_python;
pub(crate) use server::Server;

/// A part that cannot be had here, and why.
#[derive(Clone, Debug)]
pub(crate) struct Unavailable {
    pub(crate) part: &'static str,
    pub(crate) reason: String,
}

/// The part, or a report that the test is skipped.
///
/// # Panics
/// Where the environment says that real servers are required.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test run is told in the environment what it requires, and tells on its output what it left out"
)]
pub(crate) fn or_skip<T>(part: Result<T, Unavailable>) -> Option<T> {
    match part {
        Ok(part) => Some(part),
        Err(Unavailable { part, reason }) => {
            assert!(
                std::env::var_os("REQUIRE_REAL").is_none_or(|value| value != "1"),
                "{part} is required and not available: {reason}"
            );
            println!("skipped: {part}: {reason}");
            None
        }
    }
}

/// `target/real`, wherever the target folder is.
pub(crate) fn work_folder() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().unwrap_or(scratch).join("real")
}
