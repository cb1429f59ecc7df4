use std::path::Path;
use std::sync::Arc;

use tower_auth_core::{Description, Error, Fetch, Token, TokenSource};
use tower_auth_io::{TokenFile, UnverifiedClaims, World};

use crate::Audience;
use crate::inspection::Inspection;

/// An identity token in a file that someone else keeps up to date. It is read anew at every fetch.
///
/// For the file of a Kubernetes volume there is [`KubernetesFile`](crate::KubernetesFile), for that of
/// spiffe-helper [`SpiffeHelperFile`](crate::SpiffeHelperFile): they know what can be wrong with theirs.
///
/// ```
/// use tower_auth_workload::IdentityFile;
///
/// # let world = tower_auth_io::World::closed();
/// let source = IdentityFile::new("/run/agent/id.jwt", "https://api.anthropic.com", &world)?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct IdentityFile {
    file: TokenFile,
    inspection: Inspection,
}

impl IdentityFile {
    /// The token in the file at this path.
    ///
    /// # Errors
    /// [`InvalidConfig`](tower_auth_core::ErrorKind::InvalidConfig) if the audience is blank or the path is
    /// empty or begins with `~`. The file is not read here.
    pub fn new(
        path: impl AsRef<Path>,
        audience: impl Into<Audience>,
        world: &World,
    ) -> Result<Self, Error> {
        Self::named("identity token file", path, audience, world)
    }

    pub(crate) fn named(
        name: &'static str,
        path: impl AsRef<Path>,
        audience: impl Into<Audience>,
        world: &World,
    ) -> Result<Self, Error> {
        let file = TokenFile::new(path)
            .map_err(|error| error.with_source_name(name))?
            .with_files(Arc::clone(world.files()))
            .named(name);
        let inspection = Inspection::new(name, audience, world)?
            .with_expiry_hint("whoever writes the file has not renewed it in time");
        Ok(Self { file, inspection })
    }

    pub(crate) fn map_inspection(mut self, change: impl FnOnce(Inspection) -> Inspection) -> Self {
        self.inspection = change(self.inspection);
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn audience(&self) -> &Audience {
        self.inspection.audience()
    }

    pub(crate) async fn read(&self) -> Result<(Token, UnverifiedClaims), Error> {
        let text = self.file.read().await?;
        let place = format!("the file {}", self.file.path().display());
        self.inspection.inspect(text, &place)
    }
}

impl TokenSource for IdentityFile {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        let (token, _) = self.read().await?;
        Ok(token)
    }

    fn describe(&self) -> Description {
        self.inspection
            .describe()
            .with_setting("token", self.file.path().display().to_string())
    }
}
