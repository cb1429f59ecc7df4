use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use tower_auth_core::{Clock, Secret};
use zeroize::Zeroizing;

use crate::files::wait_for_lock;
use crate::{
    FileError, FileFacts, Files, Locking, Looking, Random as _, ReadRules, Reading, SystemClock,
    SystemRandom, Writing, store,
};

/// The file system of this machine.
///
/// Needs a tokio runtime: reading happens on its blocking threads. Links are followed, so that the
/// `..data` link of a Kubernetes volume leads to the newest value. Pipes, sockets and devices are refused
/// without waiting for them.
///
/// A file that is overwritten in place can be seen half written. A value is taken only if size and
/// modification time stayed the same while it was read; a file that was modified a moment ago is looked
/// at once more 50 ms later.
#[derive(Clone, Debug)]
pub struct SystemFiles {
    settling: Duration,
}

impl SystemFiles {
    /// The file system.
    #[must_use]
    pub fn new() -> Self {
        Self { settling: SETTLING }
    }

    /// How long a file must have been left alone by its writer before one look at it is enough; 50 ms
    /// where this is not called. Zero is right where every writer renames.
    #[must_use]
    pub fn with_settling_time(mut self, settling: Duration) -> Self {
        self.settling = settling;
        self
    }
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl Files for SystemFiles {
    fn read<'a>(&'a self, path: &'a Path, rules: ReadRules) -> Reading<'a> {
        Box::pin(async move {
            for _ in 0..ATTEMPTS {
                let owned = path.to_owned();
                let snapshot = blocking(move || Snapshot::take(&owned, rules)).await?;
                if let Some(bytes) = snapshot.settled(self.settling).await? {
                    return Ok(bytes);
                }
            }
            Err(FileError::Changing)
        })
    }

    fn look<'a>(&'a self, path: &'a Path) -> Looking<'a> {
        let path = path.to_owned();
        Box::pin(blocking(move || match path.metadata() {
            Ok(found) => Ok(Some(FileFacts::new(found.len(), found.modified().ok()))),
            Err(cause) => match refusal(&path, cause) {
                FileError::Missing | FileError::Dangling => Ok(None),
                error => Err(error),
            },
        }))
    }

    fn write_private<'a>(&'a self, path: &'a Path, contents: Secret) -> Writing<'a> {
        let path = path.to_owned();
        Box::pin(blocking(move || {
            let mut name = [0; 8];
            SystemRandom
                .fill(&mut name)
                .map_err(|cause| FileError::Unwritable(io::Error::other(cause)))?;
            store::replace(&path, contents.expose().as_bytes(), name)
        }))
    }

    fn lock<'a>(&'a self, path: &'a Path, patience: Duration) -> Locking<'a> {
        Box::pin(wait_for_lock(patience, move || {
            let path = path.to_owned();
            blocking(move || store::try_lock(&path))
        }))
    }
}

/// Reads a file on this thread, for a constructor.
#[cfg(feature = "hyper")]
pub(crate) fn read_now(path: &Path, rules: ReadRules) -> Result<Vec<u8>, FileError> {
    let mut snapshot = Snapshot::take(path, rules)?;
    if !snapshot.whole {
        return Err(FileError::Changing);
    }
    Ok(std::mem::take(&mut *snapshot.bytes))
}

/// The bytes of an open file, and what it looked like when they were read.
struct Snapshot {
    file: File,
    seen: Stamp,
    bytes: Zeroizing<Vec<u8>>,
    whole: bool,
}

impl Snapshot {
    fn take(path: &Path, rules: ReadRules) -> Result<Self, FileError> {
        let file = open(path, rules)?;
        let before = Stamp::of(&file)?;
        let limit = rules.limit();
        if before.size > limit as u64 {
            return Err(FileError::TooLarge);
        }
        // One byte more than expected: growth shows, and the buffer never moves and leaves copies.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit.min(before.size as usize) + 2));
        (&file)
            .take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(FileError::Unreadable)?;
        if bytes.len() > limit {
            return Err(FileError::TooLarge);
        }
        let seen = Stamp::of(&file)?;
        // The files of a pseudo file system say that they are empty and are not.
        let whole = before == seen && (seen.size == 0 || seen.size == bytes.len() as u64);
        Ok(Self {
            file,
            seen,
            bytes,
            whole,
        })
    }

    /// The bytes, if their writer seems to have finished.
    async fn settled(mut self, settling: Duration) -> Result<Option<Vec<u8>>, FileError> {
        if !self.whole {
            tokio::time::sleep(settling).await;
            return Ok(None);
        }
        if !settling.is_zero() && self.seen.age() < settling {
            tokio::time::sleep(settling).await;
            let file = self.file;
            // The open file is asked, not the path: one that was replaced by a rename is still whole.
            if blocking(move || Stamp::of(&file)).await? != self.seen {
                return Ok(None);
            }
        }
        Ok(Some(std::mem::take(&mut *self.bytes)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(file: &File) -> Result<Self, FileError> {
        let metadata = file.metadata().map_err(FileError::Unreadable)?;
        Ok(Self {
            size: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }

    /// Zero for a file from the future, as a clock behind that of its server makes it.
    fn age(&self) -> Duration {
        self.modified
            .and_then(|modified| SystemClock.now().duration_since(modified).ok())
            .unwrap_or_default()
    }
}

fn open(path: &Path, rules: ReadRules) -> Result<File, FileError> {
    // Looking before opening: to open some devices is to operate them.
    let found = look(path, rules)?;
    admit(&found, rules)?;
    let file = options(rules)
        .open(path)
        .map_err(|cause| refusal(path, cause))?;
    let opened = file.metadata().map_err(FileError::Unreadable)?;
    admit(&opened, rules)?;
    Ok(file)
}

fn look(path: &Path, rules: ReadRules) -> Result<Metadata, FileError> {
    if rules.follows_links() {
        path.metadata()
    } else {
        path.symlink_metadata()
    }
    .map_err(|cause| refusal(path, cause))
}

fn refusal(path: &Path, cause: io::Error) -> FileError {
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            if path.is_symlink() {
                FileError::Dangling
            } else {
                FileError::Missing
            }
        }
        _ => FileError::Unreadable(cause),
    }
}

fn admit(metadata: &Metadata, rules: ReadRules) -> Result<(), FileError> {
    if metadata.is_symlink() {
        return Err(FileError::Link);
    }
    if metadata.is_dir() {
        return Err(FileError::Directory);
    }
    if !metadata.is_file() {
        return Err(FileError::NotAFile);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let mode = metadata.mode() & 0o7777;
        if mode & rules.forbidden_mode() != 0 {
            return Err(FileError::Exposed(mode));
        }
    }
    #[cfg(not(unix))]
    let _ = rules;
    Ok(())
}

/// Opening never waits: what was a file a moment ago may be a pipe without a writer by now.
#[cfg(unix)]
fn options(rules: ReadRules) -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if !rules.follows_links() {
        flags |= OFlags::NOFOLLOW;
    }
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits() as i32);
    options
}

#[cfg(not(unix))]
fn options(_: ReadRules) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    options
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => Err(FileError::Unreadable(io::Error::other(
            if ended.is_panic() {
                "the reading thread panicked"
            } else {
                "the runtime is shutting down"
            },
        ))),
    }
}

const SETTLING: Duration = Duration::from_millis(50);
const ATTEMPTS: u32 = 2;
