//! Shows: traffic through tower-auth while tokens expire, the token endpoint fails and a token is revoked.
//! Run:   cargo run --release --example quickstart -- --seconds 12 --concurrency 16   (--help has the rest)
//! Needs: nothing; no variables, no network beyond loopback.

use std::io::{stderr, stdout};
use std::process::ExitCode;

use indicatif::ProgressBar;
use tower_auth_examples::quickstart;

#[tokio::main]
async fn main() -> std::io::Result<ExitCode> {
    let arguments = std::env::args_os().skip(1).collect();
    // It draws on standard error, and only on a terminal.
    let bar = ProgressBar::new(0);
    let outcome = quickstart::run(arguments, &bar, &mut stdout(), &mut stderr()).await?;
    Ok(ExitCode::from(outcome as u8))
}
