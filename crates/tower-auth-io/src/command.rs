use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tower_auth_core::{Error, ErrorKind, Secret};

/// A program to be run for what it prints: a vendor's CLI, a credential helper.
///
/// There is no shell: the arguments reach the program as they are. Its standard input is empty. It may
/// run for 30 s and print 1 MiB; when either is exceeded, or the caller goes away, it is killed together
/// with its children where the platform can do that. It inherits the environment, because CLIs find
/// their own settings there, unless [`clear_env`](Self::clear_env) says otherwise.
///
/// Arguments are visible to every process of the machine: never put a secret into one.
///
/// ```
/// use tower_auth_io::{Command, Output, Run, ScriptedRun};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_auth_core::Error> {
/// let run = ScriptedRun::new().answer(Output::new(0, "t1\n"));
/// let command = Command::new("vendor-cli").args(["print-token", "--format=text"]);
/// let text = run.run(&command).await?.into_text()?;
/// assert_eq!(text.expose(), "t1\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    inherits_env: bool,
    env: BTreeMap<OsString, OsString>,
    timeout: Duration,
    output_limit: usize,
}

impl Command {
    /// How long a program may run where nothing else is said: 30 s.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
    /// How many bytes a program may print where nothing else is said: 1 MiB.
    pub const DEFAULT_OUTPUT_LIMIT: usize = 1024 * 1024;

    /// The program of this name on the search path, or at this path.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            inherits_env: true,
            env: BTreeMap::new(),
            timeout: Self::DEFAULT_TIMEOUT,
            output_limit: Self::DEFAULT_OUTPUT_LIMIT,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable for the program.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Lets the program inherit nothing: it has the variables given with [`env`](Self::env) and no
    /// others. Give it `PATH`, or name the program by its path: where there is no `PATH`, which
    /// directories are searched is up to the platform.
    #[must_use]
    pub fn clear_env(mut self) -> Self {
        self.inherits_env = false;
        self
    }

    /// How long it may run.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many bytes it may print.
    #[must_use]
    pub fn with_output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// Its arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &OsStr> {
        self.args.iter().map(OsString::as_os_str)
    }

    /// The variables that are set for it.
    pub fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.env
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Whether it has the variables of this process besides its own.
    #[must_use]
    pub fn inherits_env(&self) -> bool {
        self.inherits_env
    }

    /// How long it may run.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How many bytes it may print.
    #[must_use]
    pub fn output_limit(&self) -> usize {
        self.output_limit
    }

    /// An error about this program. Neither its arguments nor its variables are shown.
    pub(crate) fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(
            kind,
            format!(
                "the program `{}` {what}",
                Path::new(&self.program).display()
            ),
        )
    }
}

/// Shows the names of variables and not their values.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &self.env.keys())
            .field("inherits_env", &self.inherits_env)
            .field("timeout", &self.timeout)
            .field("output_limit", &self.output_limit)
            .finish()
    }
}

/// What runs programs, as an argument.
pub trait Run: Send + Sync + 'static {
    /// Runs the program to its end. To drop what this returns is to kill it.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) if there is no such program,
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it may not be run,
    /// [`Unavailable`](ErrorKind::Unavailable) if it did not end in time (then
    /// [`is_timeout`](Error::is_timeout)), [`Malformed`](ErrorKind::Malformed) if it printed too much.
    /// A program that ran and failed is not an error here: see [`Output::into_text`].
    fn run<'a>(&'a self, command: &'a Command) -> Running<'a>;
}

/// What [`Run::run`] returns: the output, later.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Output, Error>> + Send + 'a>>;

/// How a program ended and what it printed.
///
/// `Debug` shows the exit code and lengths only.
#[derive(Clone)]
pub struct Output {
    program: String,
    code: Option<i32>,
    stdout: Secret,
    stderr: Secret,
    stderr_len: u64,
}

impl Output {
    /// Of a program that ended with this code and printed this.
    pub fn new(code: i32, stdout: impl Into<Secret>) -> Self {
        Self {
            program: String::new(),
            code: Some(code),
            stdout: stdout.into(),
            stderr: Secret::from(""),
            stderr_len: 0,
        }
    }

    /// Sets what it printed as diagnostics.
    #[must_use]
    pub fn with_stderr(mut self, stderr: impl Into<Secret>) -> Self {
        self.stderr = stderr.into();
        self.stderr_len = self.stderr.expose().len() as u64;
        self
    }

    /// The exit code; none if a signal ended the program.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.code
    }

    /// Whether the exit code is zero.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }

    /// What it printed.
    #[must_use]
    pub fn stdout(&self) -> &Secret {
        &self.stdout
    }

    /// The beginning of what it printed as diagnostics, at most 64 KiB. Look for known phrases in it;
    /// never show it, CLIs print tokens there.
    #[must_use]
    pub fn stderr(&self) -> &Secret {
        &self.stderr
    }

    /// What it printed, if it succeeded.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it did not, with the exit code and how much it said,
    /// but nothing of what it said.
    pub fn into_text(self) -> Result<Secret, Error> {
        if self.is_success() {
            return Ok(self.stdout);
        }
        let how = match self.code {
            Some(code) => format!("failed with exit code {code}"),
            None => "was ended by a signal".to_owned(),
        };
        Err(Error::new(
            ErrorKind::Unavailable,
            format!(
                "the program `{}` {how} and {} bytes of diagnostics, which are not shown: run it by hand",
                self.program, self.stderr_len
            ),
        ))
    }

    /// Names the program in errors.
    #[must_use]
    fn of(mut self, command: &Command) -> Self {
        self.program = Path::new(&command.program).display().to_string();
        self
    }

    #[cfg(feature = "process")]
    pub(crate) fn finished(
        command: &Command,
        code: Option<i32>,
        stdout: Secret,
        stderr: Secret,
        stderr_len: u64,
    ) -> Self {
        Self {
            program: String::new(),
            code,
            stdout,
            stderr,
            stderr_len,
        }
        .of(command)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("code", &self.code)
            .field("stdout_len", &self.stdout.expose().len())
            .field("stderr_len", &self.stderr_len)
            .finish_non_exhaustive()
    }
}

/// A double that runs nothing: it gives its answers in order and remembers what it was asked to run.
/// Clones share both. Without an answer left it behaves as if the program did not exist.
#[derive(Clone, Default)]
pub struct ScriptedRun(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    answers: VecDeque<Result<Output, Error>>,
    commands: Vec<Command>,
}

impl ScriptedRun {
    /// A double without answers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an answer.
    #[must_use]
    pub fn answer(self, output: Output) -> Self {
        self.push(Ok(output));
        self
    }

    /// Adds an answer that is an error of running.
    #[must_use]
    pub fn fail(self, error: Error) -> Self {
        self.push(Err(error));
        self
    }

    /// What it was asked to run so far.
    #[must_use]
    pub fn commands(&self) -> Vec<Command> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .commands
            .clone()
    }

    fn push(&self, answer: Result<Output, Error>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .answers
            .push_back(answer);
    }
}

impl Run for ScriptedRun {
    fn run<'a>(&'a self, command: &'a Command) -> Running<'a> {
        let mut script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        script.commands.push(command.clone());
        let answer = match script.answers.pop_front() {
            Some(answer) => answer.map(|output| output.of(command)),
            None => Err(not_found(command)),
        };
        Box::pin(std::future::ready(answer))
    }
}

impl fmt::Debug for ScriptedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedRun").finish_non_exhaustive()
    }
}

pub(crate) fn not_found(command: &Command) -> Error {
    command.error(
        ErrorKind::NotConfigured,
        "was not found: install it or correct its path",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_program_is_told_by_code_and_length_alone() {
        let run = ScriptedRun::new().answer(Output::new(3, "canary").with_stderr("canary"));
        let command = Command::new("cli").args(["canary"]).env("V", "canary");
        let output = run.run(&command).await.unwrap();
        let shown = format!("{output:?} {command:?}");
        let error = output.into_text().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the program `cli` failed with exit code 3 and 6 bytes of diagnostics, which are not shown: run it by hand"
        );
        assert!(!format!("{shown} {error:?}").contains("canary"), "{shown}");
    }

    #[tokio::test]
    async fn a_script_gives_its_answers_in_order_and_then_nothing() {
        let run = ScriptedRun::new()
            .answer(Output::new(0, "a"))
            .fail(Error::new(ErrorKind::Unavailable, "late"));
        let command = Command::new("cli");
        let text = run.run(&command).await.unwrap().into_text().unwrap();
        assert_eq!(text.expose(), "a");
        assert_eq!(run.run(&command).await.unwrap_err().to_string(), "late");
        let error = run.run(&command).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        assert_eq!(run.commands().len(), 3);
    }
}
