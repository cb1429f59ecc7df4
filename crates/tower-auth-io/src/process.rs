use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::time::timeout;
use tower_auth_core::{Error, ErrorKind, Secret};
use zeroize::{Zeroize, Zeroizing};

use crate::command::not_found;
use crate::{Command, Output, Run, Running};

/// Runs programs on this machine.
///
/// Needs a tokio runtime with I/O and time enabled. On Unix a program leads a process group of its own
/// and is killed with all of it; elsewhere its children are left alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRun;

impl Run for SystemRun {
    fn run<'a>(&'a self, command: &'a Command) -> Running<'a> {
        Box::pin(async move {
            let mut process = Process::start(command)?;
            match timeout(command.timeout(), process.finish(command)).await {
                Ok(done) => done,
                Err(_) => Err(command
                    .error(
                        ErrorKind::Unavailable,
                        &format!(
                            "did not end within {} s and was killed",
                            command.timeout().as_secs_f32()
                        ),
                    )
                    .timed_out()),
            }
        })
    }
}

/// A running program that does not survive its owner.
struct Process {
    child: Child,
}

impl Process {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that starts programs"
    )]
    fn start(command: &Command) -> Result<Self, Error> {
        let mut process = tokio::process::Command::new(command.program());
        process
            .args(command.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if !command.inherits_env() {
            process.env_clear();
        }
        process.envs(command.variables());
        // A group of its own, so that it can be killed with its children, and so that an interrupt of
        // the terminal does not reach it before this process has decided what to do.
        #[cfg(unix)]
        process.process_group(0);
        let child = process.spawn().map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => not_found(command),
            _ => command
                .error(
                    ErrorKind::InvalidConfig,
                    "could not be started: check its path and mode",
                )
                .with_cause(cause),
        })?;
        Ok(Self { child })
    }

    async fn finish(&mut self, command: &Command) -> Result<Output, Error> {
        let stdout = self.child.stdout.take();
        let stderr = self.child.stderr.take();
        let (stdout, (stderr, stderr_len)) = self
            .collect(stdout, stderr, command.output_limit())
            .await
            .map_err(|cause| {
                command
                    .error(ErrorKind::Unavailable, "could not be listened to")
                    .with_cause(cause)
            })?;
        let Some(stdout) = stdout else {
            return Err(command.error(
                ErrorKind::Malformed,
                &format!(
                    "printed more than {} bytes and was killed",
                    command.output_limit()
                ),
            ));
        };
        let status = self.child.wait().await.map_err(|cause| {
            command
                .error(ErrorKind::Unavailable, "could not be waited for")
                .with_cause(cause)
        })?;
        let stdout = utf8(stdout).ok_or_else(|| {
            command.error(
                ErrorKind::Malformed,
                "printed something that is not UTF-8 text",
            )
        })?;
        // Diagnostics are only searched for known phrases, so what is no text may go.
        let stderr = utf8(stderr).unwrap_or_else(|| Secret::from(""));
        Ok(Output::finished(
            command,
            status.code(),
            stdout,
            stderr,
            stderr_len,
        ))
    }

    /// Reads both streams to their end. A program that ended and left a child behind that holds them
    /// open does not hold the answer back: the child is killed.
    async fn collect(
        &mut self,
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
        limit: usize,
    ) -> io::Result<(Option<Zeroizing<Vec<u8>>>, (Zeroizing<Vec<u8>>, u64))> {
        let mut reading = pin!(both(
            async {
                match stdout {
                    Some(stream) => read_within(stream, limit).await,
                    None => Ok(Some(Zeroizing::default())),
                }
            },
            async {
                match stderr {
                    Some(stream) => read_beginning(stream).await,
                    None => Ok((Zeroizing::default(), 0)),
                }
            },
        ));
        loop {
            match timeout(LEFTOVER_CHECK, &mut reading).await {
                Ok(read) => return read,
                Err(_) if self.has_ended() => self.kill_group(),
                Err(_) => {}
            }
        }
    }

    /// Whether the program ended, without taking note of it: until that is done the number of its group
    /// cannot belong to anybody else.
    #[cfg(unix)]
    fn has_ended(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};

        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        self.pid()
            .is_some_and(|pid| matches!(waitid(WaitId::Pid(pid), options), Ok(Some(_))))
    }

    #[cfg(not(unix))]
    fn has_ended(&self) -> bool {
        false
    }

    #[cfg(unix)]
    fn kill_group(&self) {
        use rustix::process::{Signal, kill_process_group};

        if let Some(pid) = self.pid() {
            // It fails where there is nobody left to kill.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    #[cfg(not(unix))]
    fn kill_group(&self) {}

    /// None once its end was taken note of.
    #[cfg(unix)]
    fn pid(&self) -> Option<rustix::process::Pid> {
        let id = self.child.id()?;
        rustix::process::Pid::from_raw(i32::try_from(id).ok()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Both streams at the same time, because a program that fills one blocks until it is read. The first
/// that exceeds its limit or fails ends the reading.
async fn both<A, B>(
    first: impl Future<Output = io::Result<Option<A>>>,
    second: impl Future<Output = io::Result<B>>,
) -> io::Result<(Option<A>, B)>
where
    B: Default,
{
    let mut first = pin!(first);
    let mut second = pin!(second);
    let mut first_done = None;
    let mut second_done = None;
    poll_fn(|cx| {
        if first_done.is_none() {
            match first.as_mut().poll(cx) {
                Poll::Ready(Ok(Some(read))) => first_done = Some(read),
                Poll::Ready(Ok(None)) => return Poll::Ready(Ok((None, B::default()))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        if second_done.is_none() {
            match second.as_mut().poll(cx) {
                Poll::Ready(Ok(read)) => second_done = Some(read),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        match (first_done.take(), second_done.take()) {
            (Some(first), Some(second)) => Poll::Ready(Ok((Some(first), second))),
            (first, second) => {
                (first_done, second_done) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

/// The whole stream; nothing if it is longer than `limit`.
async fn read_within(
    stream: impl AsyncRead + Unpin,
    limit: usize,
) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let mut stream = stream.take(limit as u64 + 1);
    stream.read_to_end(&mut bytes).await?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

/// The beginning of the stream and the length of the whole.
async fn read_beginning(
    mut stream: impl AsyncRead + Unpin,
) -> io::Result<(Zeroizing<Vec<u8>>, u64)> {
    let mut bytes = Zeroizing::new(Vec::new());
    Pin::new(&mut stream)
        .take(STDERR_KEPT)
        .read_to_end(&mut bytes)
        .await?;
    let rest = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    let len = rest.saturating_add(bytes.len() as u64);
    Ok((bytes, len))
}

fn utf8(mut bytes: Zeroizing<Vec<u8>>) -> Option<Secret> {
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Some(Secret::new(text)),
        Err(error) => {
            error.into_bytes().zeroize();
            None
        }
    }
}

const LEFTOVER_CHECK: Duration = Duration::from_millis(100);
const STDERR_KEPT: u64 = 64 * 1024;
