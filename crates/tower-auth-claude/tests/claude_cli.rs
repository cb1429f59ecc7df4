//! Running a program in the place of `claude`.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tower::{Service, ServiceExt};
use tower_auth_claude::{ClaudeCli, Completion, Prompt};
use tower_auth_core::{Error, ErrorKind};
use tower_auth_io::{SystemEnv, SystemRun, World};

/// A script that is gone when its test is done.
struct Script(PathBuf);

impl Script {
    fn new(name: &str, lines: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("claude-{name}-{}", std::process::id()));
        fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Self(path)
    }

    async fn ask(&self, timeout: Duration) -> Result<Completion, Error> {
        let world = World::closed().with_run(SystemRun).with_env(SystemEnv);
        let mut cli = ClaudeCli::new(&world)
            .with_program(&self.0)
            .with_timeout(timeout);
        let prompt = Prompt::new("2 + \"2\" $HOME?").with_model("m");
        cli.ready().await?.call(prompt).await
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

// One test, because a script cannot be started while another thread that is starting a program still has it
// open for writing.
#[tokio::test]
async fn the_program_has_the_prompt_as_it_is_and_no_other_variables_and_is_killed_if_it_hangs() {
    let script = Script::new(
        "echo",
        r#"[ "$1 $2 $3 $4 $5" = '-p --output-format json --model m' ] || exit 1
[ "$6" = '2 + "2" $HOME?' ] || exit 2
[ -z "$CARGO_MANIFEST_DIR" ] || exit 3
[ -n "$PATH" ] || exit 4
echo '{"type":"result","is_error":false,"result":"4","session_id":"s"}'"#,
    );
    let completion = script.ask(Duration::from_secs(60)).await.unwrap();
    assert_eq!(completion.text(), "4");

    let script = Script::new("hang", "sleep 600");
    let error = script.ask(Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_timeout());
}
