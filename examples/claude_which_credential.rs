//! Shows: which credential for the Claude API is used on this machine, and why not another one.
//! Run:   cargo run --example claude_which_credential
//! Needs: nothing, and shows no secret.

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use tower_auth::{BoxError, TokenSource};
use tower_auth_claude::resolve;
use tower_auth_io::World;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let resolution = resolve(&World::system()?).await;
    println!("{}", resolution.report());
    match resolution.into_source() {
        Ok(source) => println!("the credential: {}", source.describe()),
        Err(error) => println!("there is no credential: {error}"),
    }
    Ok(())
}
