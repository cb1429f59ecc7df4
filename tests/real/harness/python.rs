#![expect(clippy::disallowed_methods, reason = "runs a program")]

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::{Unavailable, pip};

/// Runs `tests/real/<part>/ask.py` with the packages of the part, and with these variables and no others, and
/// gives the lines that it prints.
pub(crate) async fn ask_python(
    part: &'static str,
    variables: &[(&str, &str)],
) -> Result<Vec<String>, Unavailable> {
    let unavailable = |reason: String| Unavailable { part, reason };
    let folder = pip(part).await?;
    let mut python = Command::new(folder.join("venv/bin/python"));
    python
        .arg("ask.py")
        .current_dir(&folder)
        .env_clear()
        .env("HOME", &folder)
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
