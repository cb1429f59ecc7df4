use tower_auth_core::{Description, Error, ErrorKind, Fetch, Token, TokenSource};
use tower_auth_io::World;

use crate::{Audience, EnvToken};

/// The workload identity token of an HCP Terraform (or Terraform Enterprise) run, in
/// `TFC_WORKLOAD_IDENTITY_TOKEN` or its tagged twin.
///
/// The run gets it if the workspace has the variable `TFC_WORKLOAD_IDENTITY_AUDIENCE`, with the same tag. It
/// ends with the run and is not renewed.
///
/// ```
/// use tower_auth_workload::HcpTerraform;
///
/// # let world = tower_auth_io::World::closed();
/// let source = HcpTerraform::new("https://api.anthropic.com", &world)?;
/// let tagged = HcpTerraform::tagged("CLAUDE", "https://api.anthropic.com", &world)?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HcpTerraform(EnvToken);

impl HcpTerraform {
    /// The token without a tag.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the audience is blank.
    pub fn new(audience: impl Into<Audience>, world: &World) -> Result<Self, Error> {
        Self::with_suffix("", audience, world)
    }

    /// The token with this tag, for a workspace that has several.
    ///
    /// # Errors
    /// As [`new`](Self::new), and if the tag has another character than letters, digits and `_`, or is `TYPE`.
    pub fn tagged(tag: &str, audience: impl Into<Audience>, world: &World) -> Result<Self, Error> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        // `TYPE` is a word that HCP Terraform keeps for itself.
        if tag.is_empty() || tag == "TYPE" || !tag.chars().all(is_plain) {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the tag of a token consists of letters, digits and _, without the _ before it, and is not TYPE",
            )
            .with_source_name(NAME));
        }
        Self::with_suffix(&format!("_{tag}"), audience, world)
    }

    fn with_suffix(
        suffix: &str,
        audience: impl Into<Audience>,
        world: &World,
    ) -> Result<Self, Error> {
        let variable = format!("TFC_WORKLOAD_IDENTITY_TOKEN{suffix}");
        let token = EnvToken::new(variable, audience, world)?;
        let setting = format!(
            "set the workspace variable TFC_WORKLOAD_IDENTITY_AUDIENCE{suffix} to {}",
            token.audience()
        );
        Ok(Self(token.of_vendor(
            NAME,
            setting.clone(),
            setting,
            "it ends with the run and is not renewed: start another run",
        )))
    }
}

impl TokenSource for HcpTerraform {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        self.0.fetch(cx).await
    }

    fn describe(&self) -> Description {
        self.0.describe()
    }
}

const NAME: &str = "hcp terraform workload identity";
