//! Real programs that misbehave.
#![cfg(all(unix, feature = "process"))]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where its preparation fails"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "what programs leave behind is looked at"
)]

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use tower_auth_core::{Error, ErrorKind};
use tower_auth_io::{Command, Output, Run, SystemRun};

fn shell(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

async fn run(command: Command) -> Result<Output, Error> {
    SystemRun.run(&command).await
}

/// A file that a program writes a process number into.
fn pid_file(name: &str) -> PathBuf {
    let name = format!("process-{}-{name}", std::process::id());
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

async fn written_pid(path: &PathBuf) -> Pid {
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') {
            let _ = std::fs::remove_file(path);
            return Pid::from_raw(text.trim().parse().unwrap()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Polls until the process is gone. One that was killed but not yet collected by its new parent still
/// has a number, and is told by its state.
async fn gone(pid: Pid) {
    let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
    while test_kill_process(pid).is_ok() {
        let state = std::fs::read_to_string(&stat).unwrap_or_default();
        if state.contains(") Z ") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn arguments_reach_the_program_as_they_are() {
    let command = Command::new("printf").args(["%s|", "a b", "$HOME", "`id`", "*"]);
    let text = run(command).await.unwrap().into_text().unwrap();
    assert_eq!(text.expose(), "a b|$HOME|`id`|*|");
}

#[tokio::test]
async fn both_streams_are_read_at_the_same_time() {
    // Each is larger than the buffer of a pipe.
    let script = "head -c 300000 /dev/zero | tr '\\0' e >&2; head -c 300000 /dev/zero | tr '\\0' o";
    let output = run(shell(script)).await.unwrap();
    assert_eq!(output.stderr().expose().len(), 64 * 1024);
    assert_eq!(output.into_text().unwrap().expose(), "o".repeat(300_000));
}

#[tokio::test]
async fn fc_g08_a_failed_program_is_told_without_what_it_printed() {
    let output = run(shell("echo canary; echo canary >&2; exit 7"))
        .await
        .unwrap();
    assert_eq!(output.code(), Some(7));
    assert_eq!(output.stderr().expose(), "canary\n");
    let error = output.into_text().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("`sh` failed with exit code 7 and 7 bytes"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");

    let error = run(shell("kill -9 $$")).await.unwrap().into_text();
    assert!(error.unwrap_err().to_string().contains("by a signal"));
}

#[tokio::test]
async fn a_missing_program_is_told_from_one_that_may_not_run() {
    let error = run(Command::new("no-such-program-here")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured, "{error}");
    assert!(
        error.to_string().contains("`no-such-program-here`"),
        "{error}"
    );
    let error = run(Command::new("/dev/null")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
}

#[tokio::test]
async fn fc_d21_standard_input_is_empty() {
    let text = run(shell("cat; echo end")).await.unwrap().into_text();
    assert_eq!(text.unwrap().expose(), "end\n");
}

#[tokio::test]
async fn fc_d21_a_program_that_hangs_is_killed_with_its_children() {
    let child = pid_file("hang");
    let script = format!("sleep 1000 & echo $! > {}; wait", child.display());
    let error = run(shell(&script).with_timeout(Duration::from_millis(300)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_timeout());
    assert!(
        error.to_string().contains("did not end within 0.3 s"),
        "{error}"
    );
    gone(written_pid(&child).await).await;
}

#[tokio::test]
async fn fc_d21_a_program_is_killed_when_its_caller_goes_away() {
    let child = pid_file("drop");
    let script = format!("sleep 1000 & echo $! > {}; wait", child.display());
    let running = tokio::spawn(run(shell(&script)));
    let pid = written_pid(&child).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    gone(pid).await;
}

#[tokio::test]
async fn fc_d21_a_child_left_behind_does_not_hold_the_answer_back() {
    let child = pid_file("left");
    let script = format!("sleep 1000 & echo $! > {}; echo t1", child.display());
    let text = run(shell(&script)).await.unwrap().into_text().unwrap();
    assert_eq!(text.expose(), "t1\n");
    gone(written_pid(&child).await).await;
}

#[tokio::test]
async fn fc_d21_output_without_end_stops_at_the_limit() {
    let error = run(shell("cat /dev/zero")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(
        error.to_string().contains("more than 1048576 bytes"),
        "{error}"
    );

    let four = |limit| run(shell("printf 1234").with_output_limit(limit));
    assert!(four(4).await.is_ok());
    assert_eq!(four(3).await.unwrap_err().kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn output_that_is_no_text_is_not_understood() {
    let error = run(shell("printf '\\377'")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn fc_g17_a_cleared_environment_has_what_was_given_and_no_more() {
    let command = Command::new("env").clear_env().env("ONLY", "this");
    let text = run(command).await.unwrap().into_text().unwrap();
    assert_eq!(text.expose(), "ONLY=this\n");
    let inherited = run(Command::new("env").env("ALSO", "this")).await.unwrap();
    let text = inherited.into_text().unwrap();
    assert!(text.expose().contains("ALSO=this\n"));
    assert!(text.expose().contains("PATH="));
}
