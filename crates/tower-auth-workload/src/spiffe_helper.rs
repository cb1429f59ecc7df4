use std::path::Path;

use tower_auth_core::{Description, Error, ErrorKind, Fetch, Token, TokenSource};
use tower_auth_io::World;

use crate::{Audience, IdentityFile};

/// A JWT-SVID in the file that [spiffe-helper](https://github.com/spiffe/spiffe-helper) keeps up to date
/// (`jwt_svid_file_name`).
///
/// spiffe-helper overwrites the file in place, so that a reader can find it empty or half written. That is a
/// passing failure here: what was fetched before stays in use, and the file is soon read again.
///
/// ```
/// use tower_auth_workload::SpiffeHelperFile;
///
/// # let world = tower_auth_io::World::closed();
/// let source = SpiffeHelperFile::new("/run/svid/jwt", "https://api.anthropic.com", &world)?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SpiffeHelperFile(IdentityFile);

impl SpiffeHelperFile {
    /// The JWT-SVID in the file at this path.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the audience is blank or the path is empty or begins
    /// with `~`. The file is not read here.
    pub fn new(
        path: impl AsRef<Path>,
        audience: impl Into<Audience>,
        world: &World,
    ) -> Result<Self, Error> {
        let file = IdentityFile::named("spiffe-helper file", path, audience, world)?;
        Ok(Self(file.map_inspection(|inspection| {
            inspection
                .with_audience_hint(
                    "set `jwt_audience` of this file in spiffe-helper's configuration",
                )
                .with_expiry_hint("is spiffe-helper running, and does it reach its agent?")
        })))
    }
}

impl TokenSource for SpiffeHelperFile {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        let (token, _) = self.0.read().await.map_err(|error| match error.kind() {
            ErrorKind::Malformed => error.with_kind(ErrorKind::Unavailable).with_hint(
                "it may be half written; if this stays, the path is not that of a JWT-SVID",
            ),
            ErrorKind::NotConfigured => {
                error.with_hint("spiffe-helper creates it once it has its first JWT-SVID")
            }
            _ => error,
        })?;
        Ok(token)
    }

    fn describe(&self) -> Description {
        self.0.describe()
    }
}
