#![expect(
    clippy::disallowed_methods,
    reason = "runs package managers and fills a folder under target"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Unavailable, work_folder};

/// Installs the packages that `tests/real/<part>/package-lock.json` pins, once, and gives the folder they
/// are in. The part's other files are copied there too.
pub(crate) async fn npm(part: &'static str) -> Result<PathBuf, Unavailable> {
    install(part, "package-lock.json", async |folder| {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        run(npm.current_dir(folder)).await
    })
    .await
}

/// The same for the packages that `tests/real/<part>/requirements.txt` pins, all of them, in the virtual
/// environment `venv`.
pub(crate) async fn pip(part: &'static str) -> Result<PathBuf, Unavailable> {
    install(part, "requirements.txt", async |folder| {
        let mut python = Command::new("python3");
        python.args(["-m", "venv", "--clear", "venv"]);
        run(python.current_dir(folder)).await?;
        let mut pip = Command::new(folder.join("venv/bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args([
            "--no-deps",
            "--only-binary",
            ":all:",
            "-r",
            "requirements.txt",
        ]);
        run(pip.current_dir(folder)).await
    })
    .await
}

/// Copies the part's files and installs what its `lock` file pins, unless that is there already.
async fn install(
    part: &'static str,
    lock: &str,
    install: impl AsyncFnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, Unavailable> {
    once(part, async {
        let folder = copy_files(part)?;
        let stamp = folder.join("installed");
        let lock = fs::read(folder.join(lock)).map_err(|error| format!("{lock}: {error}"))?;
        if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
            return Ok(folder);
        }
        install(&folder).await?;
        // Written last: an installation that was cut short is done again.
        fs::write(&stamp, lock).map_err(|error| format!("{}: {error}", stamp.display()))?;
        Ok(folder)
    })
    .await
    .map_err(|reason| Unavailable { part, reason })
}

/// Runs an installation the first time it is asked for. What came of it, a failure too, is what every
/// later test in this process is told.
async fn once(
    part: &'static str,
    install: impl Future<Output = Result<PathBuf, String>>,
) -> Result<PathBuf, String> {
    static DONE: Mutex<BTreeMap<&str, Result<PathBuf, String>>> = Mutex::const_new(BTreeMap::new());
    let mut done = DONE.lock().await;
    if let Some(outcome) = done.get(part) {
        return outcome.clone();
    }
    let outcome = install.await;
    done.insert(part, outcome.clone());
    outcome
}

fn copy_files(part: &str) -> Result<PathBuf, String> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("real")
        .join(part);
    let to = work_folder().join(part);
    let copy = || -> io::Result<()> {
        fs::create_dir_all(&to)?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    };
    copy().map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))?;
    Ok(to)
}

async fn run(command: &mut Command) -> Result<(), String> {
    let name = command
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(LONGEST_INSTALL, output).await {
        Err(_) => return Err(format!("{name}: no end after {LONGEST_INSTALL:?}")),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{name} is not installed"));
        }
        Ok(Err(error)) => return Err(format!("{name} cannot be started: {error}")),
        Ok(Ok(output)) => output,
    };
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last_lines: Vec<_> = text.lines().rev().take(3).collect();
    Err(format!(
        "{name} failed ({}): {}",
        output.status,
        last_lines.into_iter().rev().collect::<Vec<_>>().join("; ")
    ))
}

const LONGEST_INSTALL: Duration = Duration::from_secs(300);
