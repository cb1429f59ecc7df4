//! The official Python client of the Claude API: the judge of whether the stand-in is a Claude API.

#![expect(clippy::disallowed_methods, reason = "runs the client")]

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::{Unavailable, pip};

/// Asks for this many messages with these variables and no others, and gives a word for each.
pub(crate) async fn ask(
    messages: usize,
    variables: &[(&str, &str)],
) -> Result<Vec<String>, Unavailable> {
    let part = "anthropic-sdk";
    let unavailable = |reason: String| Unavailable { part, reason };
    let folder = pip(part).await?;
    let mut python = Command::new(folder.join("venv/bin/python"));
    python
        .arg("ask.py")
        .current_dir(&folder)
        .env_clear()
        .env("HOME", &folder)
        .env("MESSAGES", messages.to_string())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(LONGEST_RUN, python.output())
        .await
        .map_err(|_| unavailable(format!("no end after {LONGEST_RUN:?}")))?
        .map_err(|error| unavailable(error.to_string()))?;
    if !output.status.success() {
        return Err(unavailable(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ));
    }
    let words = String::from_utf8_lossy(&output.stdout);
    Ok(words.lines().map(str::to_owned).collect())
}

const LONGEST_RUN: Duration = Duration::from_secs(60);
