use tower_auth_core::{Description, Error, Fetch, Token, TokenSource};
use tower_auth_io::{Command, World};

use crate::{Audience, CommandToken, EnvToken};

/// An identity token of a CircleCI job.
///
/// ```
/// use tower_auth_workload::CircleCi;
///
/// # let world = tower_auth_io::World::closed();
/// let source = CircleCi::new("https://api.anthropic.com", &world)?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CircleCi(Origin);

#[derive(Clone, Debug)]
enum Origin {
    Command(CommandToken),
    Variable(EnvToken),
}

impl CircleCi {
    /// A token for this audience, from `circleci run oidc get`, which asks CircleCI at every call.
    ///
    /// # Errors
    /// [`InvalidConfig`](tower_auth_core::ErrorKind::InvalidConfig) if the audience is blank.
    pub fn new(audience: impl Into<String>, world: &World) -> Result<Self, Error> {
        let audience = audience.into();
        let claims = serde_json::json!({ "aud": audience }).to_string();
        let command = Command::new("circleci")
            .args(["run", "oidc", "get", "--claims"])
            .args([claims]);
        CommandToken::new(command, Audience::from(audience), world).map(|token| {
            Self(Origin::Command(token.of_vendor(
                NAME,
                "it is there in every CircleCI job; elsewhere there is no such token",
            )))
        })
    }

    /// The token that the job starts with, in `CIRCLE_OIDC_TOKEN_V2`. Its audience is the id of the
    /// organization and cannot be chosen, and it ends after an hour.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_env(organization: impl Into<Audience>, world: &World) -> Result<Self, Error> {
        let token = EnvToken::new("CIRCLE_OIDC_TOKEN_V2", organization, world)?;
        Ok(Self(Origin::Variable(token.of_vendor(
            NAME,
            "CircleCI sets it in its jobs; in one where it does not, add a `context:` to the job",
            "its audience is the organization's id: use CircleCi::new to choose another",
            "CircleCI does not renew it within a job: use CircleCi::new, which asks for another",
        ))))
    }
}

impl TokenSource for CircleCi {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        match &self.0 {
            Origin::Command(token) => token.fetch(cx).await,
            Origin::Variable(token) => token.fetch(cx).await,
        }
    }

    fn describe(&self) -> Description {
        match &self.0 {
            Origin::Command(token) => token.describe(),
            Origin::Variable(token) => token.describe(),
        }
    }
}

const NAME: &str = "circleci oidc token";
