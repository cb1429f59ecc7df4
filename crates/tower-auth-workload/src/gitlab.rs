use tower_auth_core::{Description, Error, Fetch, Token, TokenSource};
use tower_auth_io::World;

use crate::{Audience, EnvToken};

/// The identity token of a GitLab CI job, in the variable that the job's `id_tokens:` keyword names.
///
/// GitLab makes it when the job starts and does not renew it: it ends with the job's timeout, or after five
/// minutes where the job has none. Its audience is the `aud` beside the variable's name.
///
/// ```
/// use tower_auth_workload::GitLab;
///
/// # let world = tower_auth_io::World::closed();
/// let source = GitLab::new("CLAUDE_ID_TOKEN", "https://api.anthropic.com", &world)?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GitLab(EnvToken);

impl GitLab {
    /// The token in the variable of this name.
    ///
    /// # Errors
    /// [`InvalidConfig`](tower_auth_core::ErrorKind::InvalidConfig) if the name or the audience is blank.
    pub fn new(
        variable: impl Into<String>,
        audience: impl Into<Audience>,
        world: &World,
    ) -> Result<Self, Error> {
        let token = EnvToken::new(variable.into(), audience, world)?;
        let aud = token.audience().expected().unwrap_or("<audience>");
        let keyword = format!(
            "write `id_tokens: {{ {}: {{ aud: {aud} }} }}` into the job in .gitlab-ci.yml",
            token.variable()
        );
        Ok(Self(token.of_vendor(
            "gitlab id token",
            keyword.clone(),
            keyword,
            "GitLab does not renew it within a job: raise the job's `timeout`, or split the job",
        )))
    }
}

impl TokenSource for GitLab {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        self.0.fetch(cx).await
    }

    fn describe(&self) -> Description {
        self.0.describe()
    }
}
