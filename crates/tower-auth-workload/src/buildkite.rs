use std::time::Duration;

use tower_auth_core::{Description, Error, Fetch, Token, TokenSource};
use tower_auth_io::{Command, World};

use crate::{Audience, CommandToken};

/// An identity token of a Buildkite job, from `buildkite-agent oidc request-token`.
///
/// The agent asks Buildkite at every call, so there is a new one for as long as the job runs.
///
/// ```
/// use std::time::Duration;
/// use tower_auth_workload::Buildkite;
///
/// # let world = tower_auth_io::World::closed();
/// let source = Buildkite::new("https://api.anthropic.com", &world)?
///     .with_lifetime(Duration::from_secs(600));
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Buildkite(CommandToken);

impl Buildkite {
    /// A token for this audience.
    ///
    /// # Errors
    /// [`InvalidConfig`](tower_auth_core::ErrorKind::InvalidConfig) if the audience is blank.
    pub fn new(audience: impl Into<String>, world: &World) -> Result<Self, Error> {
        let audience = audience.into();
        let command = Command::new("buildkite-agent")
            .args(["oidc", "request-token", "--audience"])
            .args([audience.as_str()]);
        CommandToken::new(command, Audience::from(audience), world).map(|token| {
            Self(token.of_vendor(
                "buildkite oidc token",
                "it is there in every job that a Buildkite agent runs; mount it into containers",
            ))
        })
    }

    /// How long it shall live, in whole seconds; what Buildkite thinks right where this is not called.
    #[must_use]
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        Self(self.0.with_args([
            "--lifetime".to_owned(),
            lifetime.as_secs().max(1).to_string(),
        ]))
    }
}

impl TokenSource for Buildkite {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        self.0.fetch(cx).await
    }

    fn describe(&self) -> Description {
        self.0.describe()
    }
}
