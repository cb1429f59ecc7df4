use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Unavailable, get, work_folder};

/// A program that serves on a port of the loopback interface. Dropping it ends the program.
#[derive(Debug)]
pub(crate) struct Server {
    part: &'static str,
    port: u16,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts the command made for a free port and waits until `ready`, a path, is answered with success.
    ///
    /// The program's standard input stays open as long as the server is in use, so that a program which
    /// ends when its input ends does not outlive a test run that was killed.
    pub(crate) async fn start(
        part: &'static str,
        command: impl Fn(u16) -> Command + Send + Sync,
        ready: &str,
    ) -> Result<Self, Unavailable> {
        let is_ready = |port: u16| async move {
            let answer = get(&format!("http://127.0.0.1:{port}{ready}")).await;
            answer.is_ok_and(|answer| answer.status.is_success())
        };
        Self::start_when(part, command, is_ready).await
    }

    /// The same for a program that is asked in another way whether it is ready, given its port.
    pub(crate) async fn start_when<F>(
        part: &'static str,
        command: impl Fn(u16) -> Command + Send + Sync,
        is_ready: impl Fn(u16) -> F + Send + Sync,
    ) -> Result<Self, Unavailable>
    where
        F: Future<Output = bool> + Send,
    {
        let unavailable = |reason| Unavailable { part, reason };
        let mut attempt = 1;
        loop {
            let mut server = Self::spawn(part, &command).map_err(unavailable)?;
            let reason = match timeout(LONGEST_START, server.until(&is_ready)).await {
                Ok(Ok(())) => return Ok(server),
                // Between the moment we saw that the port is free and the moment the program asked for
                // it, somebody else may have taken it.
                Ok(Err(_)) if attempt < MOST_ATTEMPTS => {
                    attempt += 1;
                    continue;
                }
                Ok(Err(reason)) => reason,
                Err(_) => format!("not ready after {LONGEST_START:?}"),
            };
            let log = server.log.display();
            return Err(unavailable(format!("{reason}, see {log}")));
        }
    }

    /// `http://127.0.0.1:<port>`, followed by this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The port that its command was made for.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What it has printed so far.
    #[expect(
        clippy::disallowed_methods,
        reason = "a log that the harness has the program write"
    )]
    pub(crate) fn printed(&self) -> io::Result<String> {
        fs::read_to_string(&self.log)
    }

    fn spawn(part: &'static str, command: impl Fn(u16) -> Command) -> Result<Self, String> {
        let port = free_port().map_err(|error| format!("no free port: {error}"))?;
        let logs = work_folder().join("logs");
        let log = logs.join(format!("{part}-{port}.log"));
        let files = fs::create_dir_all(&logs)
            .and_then(|()| File::create(&log))
            .and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = files.map_err(|error| format!("{}: {error}", log.display()))?;
        let mut command = command(port);
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => format!("{name} is not installed"),
                _ => format!("{name} cannot be started: {error}"),
            })?;
        Ok(Self {
            part,
            port,
            child,
            log,
        })
    }

    /// An error means that the program has ended.
    async fn until<F>(&mut self, is_ready: impl Fn(u16) -> F + Send + Sync) -> Result<(), String>
    where
        F: Future<Output = bool> + Send,
    {
        let mut ticks = interval(Duration::from_millis(50));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Err(format!("ended at once ({status})")),
                Err(error) => return Err(error.to_string()),
            }
            if is_ready(self.port).await {
                return Ok(());
            }
        }
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "helps whoever reads the failed test")]
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to do about it here.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("log of {}: {}", self.part, self.log.display());
        }
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Start-up takes a second or two, and several times that on a busy machine.
const LONGEST_START: Duration = Duration::from_secs(60);
const MOST_ATTEMPTS: u32 = 3;
