use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as Turns;
use tower_auth_core::{Error, ErrorKind, Secret};
use tower_auth_io::{Files, ReadRules, World};

/// Where a refresh token is kept that changes with each use.
///
/// One at a time uses it: [`take`](Self::take) waits for its turn, and the turn ends when the lease is
/// dropped. Where several processes share the store, the turns have to be between them too.
pub trait RefreshTokenStore: Send + Sync + 'static {
    /// Waits for its turn and gives the refresh token.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) if there is none,
    /// [`Unavailable`](ErrorKind::Unavailable) if somebody else holds it for too long.
    fn take(&self) -> Taking<'_>;

    /// Puts a new refresh token in the place of the one that was taken. When this is done, it has to
    /// survive whatever the store is to survive.
    ///
    /// # Errors
    /// Whatever went wrong. The new one is kept in memory then, and is put again at the next use.
    fn put<'a>(&'a self, lease: &'a RefreshTokenLease, token: Secret) -> Putting<'a>;

    /// Where it is, for people.
    fn place(&self) -> String;
}

/// What [`RefreshTokenStore::take`] returns.
pub type Taking<'a> = Pin<Box<dyn Future<Output = Result<RefreshTokenLease, Error>> + Send + 'a>>;

/// What [`RefreshTokenStore::put`] returns.
pub type Putting<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// A refresh token that nobody else uses until this is dropped.
#[must_use = "a lease that is dropped is over"]
pub struct RefreshTokenLease {
    token: Secret,
    #[expect(dead_code, reason = "what is held is there to be dropped")]
    held: Box<dyn Send + Sync>,
}

impl RefreshTokenLease {
    /// This token, for as long as `held` is not dropped.
    pub fn new(token: Secret, held: impl Send + Sync + 'static) -> Self {
        Self {
            token,
            held: Box::new(held),
        }
    }

    /// The refresh token.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }
}

impl fmt::Debug for RefreshTokenLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshTokenLease").finish_non_exhaustive()
    }
}

/// A refresh token in memory: for one that does not change, or a program that gets another one each time
/// it starts. Clones share it.
#[derive(Clone)]
pub struct RefreshTokenInMemory {
    token: Arc<Mutex<Secret>>,
    turns: Arc<Turns<()>>,
}

impl RefreshTokenInMemory {
    /// With this refresh token.
    pub fn new(token: impl Into<Secret>) -> Self {
        Self {
            token: Arc::new(Mutex::new(token.into())),
            turns: Arc::default(),
        }
    }

    /// Puts another one there, after somebody has logged in again.
    pub fn replace(&self, token: impl Into<Secret>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token.into();
    }
}

impl RefreshTokenStore for RefreshTokenInMemory {
    fn take(&self) -> Taking<'_> {
        Box::pin(async {
            let turn = Arc::clone(&self.turns).lock_owned().await;
            let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(RefreshTokenLease::new(token.clone(), turn))
        })
    }

    fn put<'a>(&'a self, lease: &'a RefreshTokenLease, token: Secret) -> Putting<'a> {
        let mut kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        // Another one that was put there by hand since is the newer one.
        if kept.expose() == lease.token().expose() {
            *kept = token;
        }
        drop(kept);
        Box::pin(std::future::ready(Ok(())))
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

impl fmt::Debug for RefreshTokenInMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshTokenInMemory")
            .finish_non_exhaustive()
    }
}

/// A refresh token in a file of its own, which only its owner may read. Processes on one machine can share
/// it: they take turns with a lock on a file beside it, with `.lock` after its name.
#[derive(Clone)]
pub struct RefreshTokenFile {
    path: PathBuf,
    lock: PathBuf,
    files: Arc<dyn Files>,
    turns: Arc<Turns<()>>,
}

impl RefreshTokenFile {
    /// The refresh token in the file at this path. Nothing is read now.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, world: &World) -> Self {
        let path = path.into();
        let mut lock = path.clone().into_os_string();
        lock.push(".lock");
        Self {
            path,
            lock: lock.into(),
            files: Arc::clone(world.files()),
            turns: Arc::default(),
        }
    }

    async fn take_now(&self) -> Result<RefreshTokenLease, Error> {
        let turn = Arc::clone(&self.turns).lock_owned().await;
        let lock = self
            .files
            .lock(&self.lock, PATIENCE)
            .await
            .map_err(|error| error.about(&self.lock))?;
        // Only now: the process before may have put another one there.
        let rules = ReadRules::up_to(LONGEST).private();
        let token = self.files.read_text_within(&self.path, rules).await?;
        Ok(RefreshTokenLease::new(token, (lock, turn)))
    }
}

impl RefreshTokenStore for RefreshTokenFile {
    fn take(&self) -> Taking<'_> {
        Box::pin(self.take_now())
    }

    fn put<'a>(&'a self, _: &'a RefreshTokenLease, token: Secret) -> Putting<'a> {
        Box::pin(async {
            let written = self.files.write_private(&self.path, token).await;
            written.map_err(|error| not_kept(error.about(&self.path), &self.path))
        })
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }
}

impl fmt::Debug for RefreshTokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshTokenFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn not_kept(cause: Error, path: &Path) -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        format!(
            "the new refresh token could not be written to {}",
            path.display()
        ),
    )
    .with_hint("it is in memory until the program ends; make the file and its folder writable")
    .with_cause(cause)
}

/// As long as a fetch may take.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST: usize = 64 * 1024;
