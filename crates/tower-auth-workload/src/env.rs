use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use tower_auth_core::{Description, Error, ErrorKind, Fetch, Token, TokenSource};
use tower_auth_io::{Env, World};

use crate::Audience;
use crate::inspection::Inspection;

/// An identity token in an environment variable, read anew at every fetch.
///
/// A process cannot be given another environment, so such a token serves a job and not a service: once it
/// has run out, every fetch says so.
///
/// ```
/// use tower_auth_core::TokenSource;
/// use tower_auth_workload::EnvToken;
///
/// # let world = tower_auth_io::World::closed();
/// let source = EnvToken::new("PIPELINE_JWT", "https://api.anthropic.com", &world)?;
/// assert_eq!(
///     source.describe().to_string(),
///     "identity token variable (audience from https://api.anthropic.com, token from PIPELINE_JWT)",
/// );
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct EnvToken {
    variable: Cow<'static, str>,
    env: Arc<dyn Env>,
    inspection: Inspection,
    /// What to do where the variable is not set.
    absence_hint: Option<Cow<'static, str>>,
}

impl EnvToken {
    /// The token in this variable.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the audience or the name is blank. The variable is not
    /// read here.
    pub fn new(
        variable: impl Into<Cow<'static, str>>,
        audience: impl Into<Audience>,
        world: &World,
    ) -> Result<Self, Error> {
        let variable = variable.into();
        let inspection = Inspection::new("identity token variable", audience, world)?
            .with_expiry_hint("whoever starts this process must give it a token that outlives it");
        if variable.trim().is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the name of the environment variable is empty",
            )
            .with_source_name(inspection.name()));
        }
        Ok(Self {
            variable,
            env: Arc::clone(world.env()),
            inspection,
            absence_hint: None,
        })
    }

    /// The same for a vendor who says how the variable comes to be.
    pub(crate) fn of_vendor(
        mut self,
        name: &'static str,
        absent: impl Into<Cow<'static, str>>,
        audience: impl Into<Cow<'static, str>>,
        expired: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.inspection = self
            .inspection
            .named(name)
            .with_audience_hint(audience)
            .with_expiry_hint(expired);
        self.absence_hint = Some(absent.into());
        self
    }

    pub(crate) fn variable(&self) -> &str {
        &self.variable
    }

    pub(crate) fn audience(&self) -> &Audience {
        self.inspection.audience()
    }
}

impl TokenSource for EnvToken {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        let text = self.env.require_secret(&self.variable).map_err(|error| {
            let error = error.with_source_name(self.inspection.name());
            match &self.absence_hint {
                Some(hint) if error.kind() == ErrorKind::NotConfigured => {
                    error.with_hint(hint.clone())
                }
                _ => error,
            }
        })?;
        let place = format!("the environment variable {}", self.variable);
        let (token, _) = self.inspection.inspect(text, &place)?;
        Ok(token)
    }

    fn describe(&self) -> Description {
        self.inspection
            .describe()
            .with_setting("token", self.variable.clone())
    }
}

impl fmt::Debug for EnvToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvToken")
            .field("variable", &self.variable)
            .field("inspection", &self.inspection)
            .finish_non_exhaustive()
    }
}
