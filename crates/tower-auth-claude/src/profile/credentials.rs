use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tower_auth_core::{Credential as _, Error, ErrorKind, Fetch, Reason, Secret};
use tower_auth_io::{FileLock, ReadRules, World};

use super::document::Document;

/// `credentials/<profile>.json`: the tokens of a profile, which several programs read and replace.
#[derive(Clone, Debug)]
pub(crate) struct CredentialsFile {
    path: PathBuf,
    world: World,
}

impl CredentialsFile {
    pub(crate) fn new(path: PathBuf, world: &World) -> Self {
        Self {
            path,
            world: world.clone(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) async fn read(&self) -> Result<Credentials, Error> {
        let rules = ReadRules::up_to(LIMIT).owner_only();
        Credentials::of(Document::read(&self.path, rules, &self.world).await?)
    }

    /// As [`read`](Self::read); `None` if there is no file.
    pub(crate) async fn read_if_there(&self) -> Result<Option<Credentials>, Error> {
        match self.read().await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == ErrorKind::NotConfigured => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn write(&self, document: &Document) -> Result<(), Error> {
        let writing = self
            .world
            .files()
            .write_private(&self.path, document.render());
        writing.await.map_err(|error| error.about(&self.path))
    }

    /// One process at a time may replace the tokens. `None` if that cannot be had: then this one goes on
    /// and reads again, as the official clients do, which know no lock.
    pub(crate) async fn lock(&self) -> Option<FileLock> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        match self.world.files().lock(&path, PATIENCE).await {
            Ok(held) => Some(held),
            Err(error) => {
                tracing::debug!(error = %error.about(&path), "going on without a lock");
                None
            }
        }
    }
}

/// What is in it.
pub(crate) struct Credentials {
    pub(crate) document: Document,
    pub(crate) access_token: Option<Secret>,
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) expires_at: Option<SystemTime>,
}

impl Credentials {
    fn of(document: Document) -> Result<Self, Error> {
        if let Some(kind) = document.text("/type")? {
            if kind != "oauth_token" {
                return Err(document.flaw("/type", "is not \"oauth_token\""));
            }
        }
        Ok(Self {
            access_token: document.secret("/access_token")?,
            refresh_token: document.secret("/refresh_token")?,
            expires_at: document.moment("/expires_at")?,
            document,
        })
    }

    /// The access token and its end, if it lives for long enough to be handed out for this fetch, and is
    /// not the one that is to be replaced.
    pub(crate) fn usable(&self, cx: &Fetch, now: SystemTime) -> Option<(&Secret, SystemTime)> {
        let (Some(token), Some(end)) = (&self.access_token, self.expires_at) else {
            return None;
        };
        let left = end.duration_since(now).unwrap_or_default();
        let is_news = match cx.previous() {
            Some(previous) => previous.fingerprint() != token.fingerprint(),
            None => !cx.must_be_new(),
        };
        let lasts = left > MARGIN.max(cx.min_remaining());
        (lasts && is_news && cx.reason() != Reason::Forced).then_some((token, end))
    }
}

/// Less than this is not worth handing out.
const MARGIN: Duration = Duration::from_secs(30);
/// For how long another process may hold the lock.
const PATIENCE: Duration = Duration::from_secs(10);
const LIMIT: usize = 256 * 1024;
