use std::path::Path;
use std::time::Duration;

use tower_auth_core::{
    Description, Error, ErrorKind, Expiry, Fetch, RefreshHint, Token, TokenSource,
};
use tower_auth_io::{UnverifiedClaims, World};

use crate::{Audience, IdentityFile};

/// The token of a pod's service account, in a file that the kubelet writes and replaces.
///
/// The file is opened anew at every fetch, so a rotation is seen; nothing is remembered. Its audience is
/// written in the pod's specification and cannot be chosen here: a `serviceAccountToken` projection has an
/// `audience`, and without one the token is for the Kubernetes API. A token of another audience is an error
/// before it is sent anywhere. To choose the audience in the program, use
/// [`TokenRequest`](crate::TokenRequest).
///
/// A volume that is mounted with `subPath` is never updated; do not put the token there.
///
/// ```
/// use tower_auth_workload::KubernetesFile;
///
/// # let world = tower_auth_io::World::closed();
/// let source = KubernetesFile::new(
///     "/var/run/secrets/tokens/claude",
///     "https://api.anthropic.com",
///     &world,
/// )?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct KubernetesFile(IdentityFile);

impl KubernetesFile {
    /// Where a pod finds the token that is for the Kubernetes API.
    pub const DEFAULT_PATH: &'static str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

    /// The token in the projected volume's file at this path.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the audience is blank or the path is empty or begins
    /// with `~`. The file is not read here.
    pub fn new(
        path: impl AsRef<Path>,
        audience: impl Into<Audience>,
        world: &World,
    ) -> Result<Self, Error> {
        let file = IdentityFile::named("kubernetes token file", path, audience, world)?;
        let aud = file.audience().expected().unwrap_or_default().to_owned();
        Ok(Self(file.map_inspection(|inspection| {
            inspection
                .with_audience_hint(format!(
                    "the audience is set in the pod's specification: write `audience: {aud}` under \
                     `serviceAccountToken` of a projected volume and name its file here"
                ))
                .with_expiry_hint(
                    "the kubelet has not replaced it: a file mounted with `subPath` is never updated",
                )
        })))
    }

    /// The token at [`DEFAULT_PATH`](Self::DEFAULT_PATH), which is for the Kubernetes API. It is good for a
    /// recipient that asks the API about it (`TokenReview`), as Vault's Kubernetes login does. Any other
    /// recipient deserves an audience of its own, and could use this one to act on the cluster.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn automounted(audience: impl Into<Audience>, world: &World) -> Result<Self, Error> {
        Self::new(Self::DEFAULT_PATH, audience, world)
    }
}

impl TokenSource for KubernetesFile {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        let (token, claims) = self.0.read().await.map_err(|error| self.explain(error))?;
        Ok(if is_extended(&claims) {
            token
                .with_expiry(Expiry::In(EXTENDED_LIFETIME))
                .with_refresh_hint(RefreshHint::In(REREAD))
        } else {
            token
        })
    }

    fn describe(&self) -> Description {
        self.0.describe()
    }
}

impl KubernetesFile {
    fn explain(&self, error: Error) -> Error {
        if error.kind() != ErrorKind::NotConfigured {
            return error;
        }
        error.with_hint(if self.0.path() == Path::new(Self::DEFAULT_PATH) {
            "is this a pod, and one without `automountServiceAccountToken: false`?"
        } else {
            "mount a projected volume with a `serviceAccountToken` there"
        })
    }
}

/// Whether the cluster has stretched the token's life to a year, for clients that do not read the file again
/// (`--service-account-extend-token-expiration`). The file is replaced within a day all the same.
fn is_extended(claims: &UnverifiedClaims) -> bool {
    claims
        .lifetime()
        .is_some_and(|lifetime| lifetime > LONGEST_BETWEEN_ROTATIONS)
}

/// The kubelet replaces every token after a day.
const LONGEST_BETWEEN_ROTATIONS: Duration = Duration::from_secs(24 * 3600);
/// How long an extended token is used if the file cannot be read any more.
const EXTENDED_LIFETIME: Duration = Duration::from_secs(300);
const REREAD: Duration = Duration::from_secs(50);
