use std::ffi::OsString;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde_json::Value;
use tower_auth_core::{Error, ErrorKind};
use tower_auth_io::{Command, Output, World};
use tower_service::Service;

/// The `claude` program as a service: a prompt in, its answer out, with the login of whoever runs it.
///
/// It is for those who have a login to Claude Code and no credential for the API. The program does the
/// work and keeps its token to itself; nothing of it comes through here. It is no
/// [`TokenSource`](tower_auth_core::TokenSource), and a service for others needs a credential of the API.
///
/// The program is run as `claude -p --output-format json`, with an environment in which no key and no token
/// is set, so that its own login is what it uses. When the call is dropped, or takes too long, it is
/// killed.
///
/// ```
/// use tower::{Service, ServiceExt};
/// use tower_auth_claude::{ClaudeCli, Prompt};
/// use tower_auth_io::{Output, ScriptedRun, World};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_auth_core::Error> {
/// # let run = ScriptedRun::new().answer(Output::new(0, r#"{"type":"result","result":"4"}"#));
/// # let world = World::closed().with_run(run);
/// let mut claude = ClaudeCli::new(&world);
/// let completion = claude.ready().await?.call(Prompt::new("2 + 2?")).await?;
/// assert_eq!(completion.text(), "4");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClaudeCli {
    world: World,
    program: OsString,
    timeout: Duration,
    inherits_env: bool,
}

impl ClaudeCli {
    /// How long the program may take where nothing else is said: ten minutes.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

    /// The program `claude` on the search path.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self {
            world: world.clone(),
            program: "claude".into(),
            timeout: Self::DEFAULT_TIMEOUT,
            inherits_env: false,
        }
    }

    /// The program at this path.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<OsString>) -> Self {
        self.program = program.into();
        self
    }

    /// Kills the program after this time.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Gives the program every variable of this process. Then a key or a token in the environment comes
    /// before its login.
    #[must_use]
    pub fn inherit_env(mut self) -> Self {
        self.inherits_env = true;
        self
    }

    fn command(&self, prompt: &Prompt) -> Command {
        let mut command = Command::new(&self.program)
            .args(["-p", "--output-format", "json"])
            .with_timeout(self.timeout)
            .with_output_limit(OUTPUT_LIMIT);
        if let Some(model) = &prompt.model {
            command = command.args(["--model", model]);
        }
        // What begins with a dash would be taken for an option.
        command = if prompt.text.starts_with('-') {
            command.args([format!(" {}", prompt.text)])
        } else {
            command.args([&prompt.text])
        };
        if self.inherits_env {
            return command;
        }
        PASSED_ON
            .iter()
            .filter_map(|name| Some((*name, self.world.env().raw(name)?)))
            .fold(command.clear_env(), |command, (name, value)| {
                command.env(name, value)
            })
    }
}

impl Service<Prompt> for ClaudeCli {
    type Response = Completion;
    type Error = Error;
    type Future = Running;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    /// Runs the program once.
    ///
    /// Its error is [`NotConfigured`](ErrorKind::NotConfigured) if there is no such program,
    /// [`Denied`](ErrorKind::Denied) if nobody is logged in or may not use it,
    /// [`Unavailable`](ErrorKind::Unavailable) if it failed otherwise or took too long, and
    /// [`Malformed`](ErrorKind::Malformed) if its answer is not understood. What it printed is not shown.
    fn call(&mut self, prompt: Prompt) -> Running {
        let command = self.command(&prompt);
        let run = std::sync::Arc::clone(self.world.run());
        Running(Box::pin(async move {
            let output = run.run(&command).await.map_err(named)?;
            read(&output).map_err(named)
        }))
    }
}

impl fmt::Debug for ClaudeCli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaudeCli")
            .field("program", &self.program)
            .field("timeout", &self.timeout)
            .field("inherits_env", &self.inherits_env)
            .finish_non_exhaustive()
    }
}

/// What the program is asked.
///
/// It travels as an argument, which other users of the machine can see, and which most systems limit to
/// 128 KiB.
#[derive(Clone, Debug)]
pub struct Prompt {
    text: String,
    model: Option<String>,
}

impl Prompt {
    /// This text.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            model: None,
        }
    }

    /// Asks this model instead of the user's own choice.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }
}

/// What the program answered.
#[derive(Clone, Debug)]
pub struct Completion {
    text: String,
    session_id: Option<String>,
}

impl Completion {
    /// The answer.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The id under which the program keeps the conversation.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }
}

/// A run of the program. To drop it is to kill the program.
#[must_use = "futures do nothing unless polled"]
pub struct Running(Pin<Box<dyn Future<Output = Result<Completion, Error>> + Send>>);

impl Future for Running {
    type Output = Result<Completion, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

/// The program says why it failed in its answer, not in its diagnostics.
fn read(output: &Output) -> Result<Completion, Error> {
    let answer = serde_json::from_str(output.stdout().expose()).unwrap_or(Value::Null);
    // With some settings every message is printed and the result is the last of them.
    let result = match &answer {
        Value::Array(messages) => messages.last().unwrap_or(&Value::Null),
        other => other,
    };
    let text = |name: &str| result.get(name).and_then(Value::as_str);
    let failed = result.get("is_error").and_then(Value::as_bool) == Some(true);
    if failed || !output.is_success() {
        return Err(failure(result, output));
    }
    match text("result") {
        Some(answer) => Ok(Completion {
            text: answer.to_owned(),
            session_id: text("session_id").map(str::to_owned),
        }),
        None => Err(Error::new(
            ErrorKind::Malformed,
            "the program's answer has no result: is it a version that knows --output-format json?",
        )),
    }
}

fn failure(result: &Value, output: &Output) -> Error {
    let text = |name: &str| result.get(name).and_then(Value::as_str);
    let said = text("result").unwrap_or_else(|| output.stdout().expose());
    let asks_for_login = ["/login", "Not logged in", "Invalid API key"]
        .iter()
        .any(|phrase| said.contains(phrase));
    let code = text("error").or_else(|| result.pointer("/error/type").and_then(Value::as_str));
    let code = match code.or_else(|| text("subtype").filter(|subtype| *subtype != "success")) {
        Some(code) if is_code(code) => code,
        _ if asks_for_login => "authentication_failed",
        _ => "",
    };
    let error = match code {
        "authentication_failed" => Error::new(ErrorKind::Denied, "nobody is logged in to it")
            .with_hint("run `claude auth login`"),
        "oauth_org_not_allowed" => Error::new(
            ErrorKind::Denied,
            "the organization of its login may not use it",
        ),
        "billing_error" => Error::new(ErrorKind::Denied, "its account has a billing problem"),
        "rate_limit" => Error::new(ErrorKind::Unavailable, "its account has used up its limit"),
        _ => Error::new(
            ErrorKind::Unavailable,
            match output.code() {
                Some(code) => format!("it failed with exit code {code}"),
                None => "it was ended by a signal".to_owned(),
            },
        )
        .with_hint("run it by hand to see why"),
    };
    if code.is_empty() {
        error
    } else {
        error.with_code(code)
    }
}

/// A word of the program's, and not something it was told.
fn is_code(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 40
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn named(error: Error) -> Error {
    error.or_source("claude program")
}

/// What the program needs to find its way, its login and its proxy, and nothing that could be a
/// credential.
const PASSED_ON: [&str; 25] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TERM",
    "TMPDIR",
    "TZ",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "CLAUDE_CONFIG_DIR",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "USERPROFILE",
    "APPDATA",
    "LOCALAPPDATA",
    "SYSTEMROOT",
    "TEMP",
    "PATHEXT",
];
const OUTPUT_LIMIT: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tower_auth_io::{MapEnv, ScriptedRun};

    async fn ask(
        run: &ScriptedRun,
        cli: impl FnOnce(ClaudeCli) -> ClaudeCli,
    ) -> Result<Completion, Error> {
        let env = MapEnv::from([
            ("PATH", "/bin"),
            ("HOME", "/h"),
            ("ANTHROPIC_API_KEY", "canary"),
            ("ANTHROPIC_AUTH_TOKEN", "canary"),
            ("CLAUDE_CODE_OAUTH_TOKEN", "canary"),
        ]);
        let world = World::closed().with_run(run.clone()).with_env(env);
        cli(ClaudeCli::new(&world)).call(Prompt::new("-x")).await
    }

    async fn answered(code: i32, stdout: &str) -> Result<Completion, Error> {
        let run = ScriptedRun::new().answer(Output::new(code, stdout));
        ask(&run, |cli| cli).await
    }

    #[tokio::test]
    async fn an_answer_is_its_result() {
        for stdout in [
            r#"{"type":"result","is_error":false,"result":"hi","session_id":"s1"}"#,
            r#"[{"type":"system"},{"type":"result","result":"hi","session_id":"s1"}]"#,
        ] {
            let completion = answered(0, stdout).await.unwrap();
            assert_eq!(completion.text(), "hi");
            assert_eq!(completion.session_id(), Some("s1"));
        }
    }

    #[tokio::test]
    async fn no_key_and_no_token_reaches_the_program() {
        let run = ScriptedRun::new().answer(Output::new(0, r#"{"result":""}"#));
        ask(&run, |cli| cli.with_timeout(Duration::from_secs(9)))
            .await
            .unwrap();
        let command = &run.commands()[0];
        assert!(!command.inherits_env());
        let names: Vec<_> = command
            .variables()
            .map(|(name, _)| name.to_owned())
            .collect();
        assert_eq!(names, ["HOME", "PATH"]);
        let arguments: Vec<_> = command.arguments().collect();
        assert_eq!(arguments, ["-p", "--output-format", "json", " -x"]);
        assert_eq!(command.timeout(), Duration::from_secs(9));

        let run = ScriptedRun::new().answer(Output::new(0, r#"{"result":""}"#));
        ask(&run, ClaudeCli::inherit_env).await.unwrap();
        assert!(run.commands()[0].inherits_env());
    }

    #[tokio::test]
    async fn a_failure_is_told_by_its_code() {
        use ErrorKind::{Denied, Malformed, Unavailable};

        for (code, stdout, kind, found) in [
            (
                1,
                r#"{"is_error":true,"error":"authentication_failed"}"#,
                Denied,
                "authentication_failed",
            ),
            (
                1,
                r#"{"is_error":true,"result":"Invalid API key · Please run /login"}"#,
                Denied,
                "authentication_failed",
            ),
            (1, "Not logged in", Denied, "authentication_failed"),
            (
                1,
                r#"{"is_error":true,"error":{"type":"billing_error"}}"#,
                Denied,
                "billing_error",
            ),
            (
                1,
                r#"{"is_error":true,"error":"rate_limit"}"#,
                Unavailable,
                "rate_limit",
            ),
            (
                0,
                r#"{"is_error":true,"subtype":"error_max_turns"}"#,
                Unavailable,
                "error_max_turns",
            ),
            (1, r#"{"error":"Canary said so"}"#, Unavailable, ""),
            (3, "", Unavailable, ""),
            (0, "plain text", Malformed, ""),
        ] {
            let error = answered(code, stdout).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{stdout}");
            assert_eq!(error.code().unwrap_or_default(), found, "{stdout}");
            assert_eq!(error.source_name(), Some("claude program"));
            assert!(!format!("{error:?}").contains("Canary"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_not_configured() {
        let error = ask(&ScriptedRun::new(), |cli| cli.with_program("/opt/claude"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        assert!(error.to_string().contains("/opt/claude"), "{error}");
    }
}
