use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use tower_auth_core::{Description, Error, ErrorKind, Fetch, Token, TokenSource};
use tower_auth_io::{Command, Run, World};

use crate::Audience;
use crate::inspection::Inspection;

/// An identity token that a program prints. It is run anew for every fetch.
///
/// The program is given as a list of arguments and there is no shell. What it prints is never shown, not
/// even when it fails.
///
/// ```
/// use tower_auth_io::Command;
/// use tower_auth_workload::CommandToken;
///
/// # let world = tower_auth_io::World::closed();
/// let command = Command::new("vendor-cli").args(["id-token", "--audience", "https://api.anthropic.com"]);
/// let source = CommandToken::new(command, "https://api.anthropic.com", &world)?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct CommandToken {
    command: Command,
    run: Arc<dyn Run>,
    inspection: Inspection,
    /// Where the program can be found.
    absence_hint: Option<Cow<'static, str>>,
}

impl CommandToken {
    /// The token that this program prints.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the audience is blank. The program is not run here.
    pub fn new(
        command: Command,
        audience: impl Into<Audience>,
        world: &World,
    ) -> Result<Self, Error> {
        Ok(Self {
            command,
            run: Arc::clone(world.run()),
            inspection: Inspection::new("identity token command", audience, world)?
                .with_audience_hint("give the program the audience that is expected")
                .with_expiry_hint("the program must print a token that is still good"),
            absence_hint: None,
        })
    }

    /// The same for a vendor's program.
    pub(crate) fn of_vendor(mut self, name: &'static str, absent: &'static str) -> Self {
        self.inspection = self.inspection.named(name);
        self.absence_hint = Some(Cow::Borrowed(absent));
        self
    }

    /// The same with further arguments.
    pub(crate) fn with_args<const N: usize>(mut self, args: [String; N]) -> Self {
        self.command = self.command.args(args);
        self
    }
}

impl TokenSource for CommandToken {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        let output = self.run.run(&self.command).await;
        let text = output
            .and_then(|output| output.into_text())
            .map_err(|error| {
                let error = error.with_source_name(self.inspection.name());
                match &self.absence_hint {
                    Some(hint) if error.kind() == ErrorKind::NotConfigured => {
                        error.with_hint(hint.clone())
                    }
                    _ => error,
                }
            })?;
        let (token, _) = self.inspection.inspect(text, &self.place())?;
        Ok(token)
    }

    fn describe(&self) -> Description {
        self.inspection
            .describe()
            .with_setting("token", self.place())
    }
}

impl CommandToken {
    fn place(&self) -> String {
        format!(
            "the output of `{}`",
            std::path::Path::new(self.command.program()).display()
        )
    }
}

impl fmt::Debug for CommandToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandToken")
            .field("command", &self.command)
            .field("inspection", &self.inspection)
            .finish_non_exhaustive()
    }
}
