use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tower_auth_core::{Error, ErrorKind, Secret};
use zeroize::Zeroize;

/// The file system, as an argument.
///
/// A file is read whole and from its path each time, because the files that hold credentials are
/// replaced behind the reader's back. An implementation need not write or lock: what it leaves out fails
/// as unsupported.
pub trait Files: Send + Sync + 'static {
    /// The bytes of the file at `path`, if `rules` allow it.
    fn read<'a>(&'a self, path: &'a Path, rules: ReadRules) -> Reading<'a>;

    /// What there is at `path`, without reading it; links are followed. `None` if there is nothing.
    fn look<'a>(&'a self, path: &'a Path) -> Looking<'a> {
        let _ = path;
        Box::pin(std::future::ready(Err(unsupported())))
    }

    /// Puts a file with these contents at `path` that nobody but its owner can read (mode 0600 on Unix).
    ///
    /// Whatever was there is replaced as a whole: a reader sees the old file or the new one, also after a
    /// crash, and a failure leaves the old one. Folders that are missing are made for the owner only. A
    /// link stays, its target is replaced. Once begun it goes on to its end, even if nobody waits for it.
    fn write_private<'a>(&'a self, path: &'a Path, contents: Secret) -> Writing<'a> {
        let _ = (path, contents);
        Box::pin(std::future::ready(Err(unsupported())))
    }

    /// Waits until nobody else holds the lock at `path`, for `patience` at most, and holds it until
    /// what is returned is dropped.
    ///
    /// `path` is a file that exists for this purpose. The lock is advisory and holds against other
    /// processes on Unix; elsewhere it does not, and its holder has to read again what it guards.
    fn lock<'a>(&'a self, path: &'a Path, patience: Duration) -> Locking<'a> {
        let _ = (path, patience);
        Box::pin(std::future::ready(Err(unsupported())))
    }
}

/// What [`Files::read`] returns: the bytes, later.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, FileError>> + Send + 'a>>;

/// What [`Files::look`] returns.
pub type Looking<'a> =
    Pin<Box<dyn Future<Output = Result<Option<FileFacts>, FileError>> + Send + 'a>>;

/// What [`Files::write_private`] returns.
pub type Writing<'a> = Pin<Box<dyn Future<Output = Result<(), FileError>> + Send + 'a>>;

/// What [`Files::lock`] returns.
pub type Locking<'a> = Pin<Box<dyn Future<Output = Result<FileLock, FileError>> + Send + 'a>>;

/// What is known of a file that was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileFacts {
    /// How many bytes it has.
    pub len: u64,
    /// When it was last written, where the file system knows.
    pub modified: Option<SystemTime>,
}

impl FileFacts {
    pub(crate) fn new(len: u64, modified: Option<SystemTime>) -> Self {
        Self { len, modified }
    }
}

/// A lock that is held until this is dropped. See [`Files::lock`].
#[must_use = "a lock that is dropped is not held"]
pub struct FileLock(
    #[expect(dead_code, reason = "what is held is there to be dropped")] Box<dyn Send + Sync>,
);

impl FileLock {
    /// Holds a lock for as long as `held` is not dropped.
    pub fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Box::new(held))
    }
}

impl fmt::Debug for FileLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileLock")
    }
}

fn unsupported() -> FileError {
    FileError::Unwritable(io::ErrorKind::Unsupported.into())
}

/// Which file is fit to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRules {
    limit: usize,
    access: Access,
}

/// What others than a file's owner may do with it on Unix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Access {
    All,
    NoWriting,
    None,
    /// And it is no link.
    NoneNorLink,
}

impl ReadRules {
    /// A file of at most this many bytes.
    #[must_use]
    pub fn up_to(limit: usize) -> Self {
        Self {
            limit,
            access: Access::All,
        }
    }

    /// Besides, it must be a file of its own rather than a symbolic link, and on Unix nobody but its
    /// owner may have access. Right for a store that a login wrote, wrong for a mounted token.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.access = Access::NoneNorLink;
        self
    }

    /// Besides, on Unix nobody but its owner may have access. Links are followed: right for a store that
    /// may be mounted.
    #[must_use]
    pub fn owner_only(mut self) -> Self {
        self.access = self.access.max(Access::None);
        self
    }

    /// Besides, on Unix nobody but its owner may write to it: right for a configuration that says where
    /// credentials are sent.
    #[must_use]
    pub fn not_writable_by_others(mut self) -> Self {
        self.access = self.access.max(Access::NoWriting);
        self
    }

    /// The size limit in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether others must not have access.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.access >= Access::None
    }

    /// Whether a link is followed.
    #[must_use]
    pub fn follows_links(&self) -> bool {
        self.access != Access::NoneNorLink
    }

    /// The bits of a mode that are not allowed.
    pub(crate) fn forbidden_mode(&self) -> u32 {
        match self.access {
            Access::All => 0,
            Access::NoWriting => 0o022,
            Access::None | Access::NoneNorLink => 0o077,
        }
    }
}

/// Why a file was not read.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileError {
    /// There is nothing at the path.
    Missing,
    /// There is a symbolic link whose target does not exist.
    Dangling,
    /// It is a directory.
    Directory,
    /// It is a pipe, a socket or a device.
    NotAFile,
    /// It is larger than the limit.
    TooLarge,
    /// It changed while it was read.
    Changing,
    /// Others than its owner have access; its mode.
    Exposed(u32),
    /// It is a symbolic link where none may be.
    Link,
    /// The operating system refused.
    Unreadable(io::Error),
    /// The operating system refused to write or to lock.
    Unwritable(io::Error),
    /// Somebody else held the lock for too long.
    Locked,
}

impl FileError {
    /// What the reader of an error about the file at `path` should know and do.
    ///
    /// ```
    /// use tower_auth_core::ErrorKind;
    /// use tower_auth_io::FileError;
    ///
    /// let error = FileError::Missing.about("/run/token".as_ref());
    /// assert_eq!(error.kind(), ErrorKind::NotConfigured);
    /// assert_eq!(error.to_string(), "there is no file /run/token: create it or correct the path");
    /// ```
    #[must_use]
    pub fn about(self, path: &Path) -> Error {
        let path = path.display();
        let (kind, text) = match &self {
            Self::Missing => (
                ErrorKind::NotConfigured,
                format!("there is no file {path}: create it or correct the path"),
            ),
            Self::Dangling => (
                ErrorKind::Unavailable,
                format!(
                    "the file {path} is a link to a file that does not exist: whoever writes it is late"
                ),
            ),
            Self::Directory => (
                ErrorKind::InvalidConfig,
                format!("{path} is a directory: add the name of a file in it"),
            ),
            Self::NotAFile => (
                ErrorKind::InvalidConfig,
                format!("{path} is a pipe, a socket or a device: name a regular file"),
            ),
            Self::TooLarge => (
                ErrorKind::Malformed,
                format!("the file {path} is larger than the limit: check that it is the right one"),
            ),
            Self::Changing => (
                ErrorKind::Unavailable,
                format!(
                    "the file {path} changed while it was read: its writer should write another file and rename it"
                ),
            ),
            Self::Exposed(mode) => (
                ErrorKind::InvalidConfig,
                format!("the file {path} is open to others (mode {mode:04o}): make its mode 0600"),
            ),
            Self::Link => (
                ErrorKind::InvalidConfig,
                format!(
                    "the file {path} is a symbolic link, which is not trusted here: name the file itself"
                ),
            ),
            Self::Unreadable(cause) => (
                match cause.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => {
                        ErrorKind::InvalidConfig
                    }
                    _ => ErrorKind::Unavailable,
                },
                format!(
                    "the file {path} cannot be read: check its owner and mode, and its file system"
                ),
            ),
            Self::Unwritable(cause) => (
                match cause.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                        ErrorKind::InvalidConfig
                    }
                    _ => ErrorKind::Unavailable,
                },
                format!(
                    "the file {path} cannot be written: check the owner and mode of its folder, and the space left"
                ),
            ),
            Self::Locked => (
                ErrorKind::Unavailable,
                format!("the lock {path} is held by another process"),
            ),
        };
        let error = Error::new(kind, text);
        match self {
            Self::Unreadable(cause) | Self::Unwritable(cause) => error.with_cause(cause),
            _ => error,
        }
    }
}

impl dyn Files {
    /// The text of a file, as it is but for a byte order mark: a key in PEM, a configuration. At most
    /// 1 MiB.
    ///
    /// # Errors
    /// As [`FileError::about`] says, and [`Malformed`](ErrorKind::Malformed) if it is not UTF-8.
    pub async fn read_text(&self, path: &Path) -> Result<Secret, Error> {
        self.read_text_within(path, ReadRules::up_to(TEXT_LIMIT))
            .await
    }

    /// As `read_text`, with rules of the caller's own.
    ///
    /// # Errors
    /// As `read_text`.
    pub async fn read_text_within(&self, path: &Path, rules: ReadRules) -> Result<Secret, Error> {
        let bytes = self
            .read(path, rules)
            .await
            .map_err(|error| error.about(path))?;
        text(bytes, path)
    }
}

fn text(bytes: Vec<u8>, path: &Path) -> Result<Secret, Error> {
    match String::from_utf8(bytes) {
        Ok(text) => {
            let text = Secret::new(text);
            Ok(match text.expose().strip_prefix('\u{feff}') {
                Some(rest) => Secret::from(rest),
                None => text,
            })
        }
        Err(error) => {
            let mut bytes = error.into_bytes();
            let what = if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
                "is UTF-16: save it as UTF-8"
            } else {
                "is not UTF-8 text: check that it is the right one"
            };
            bytes.zeroize();
            Err(Error::new(
                ErrorKind::Malformed,
                format!("the file {} {what}", path.display()),
            ))
        }
    }
}

/// A file system in memory that has these files and no others. Clones share them.
///
/// ```
/// use tower_auth_io::{Files, MemoryFiles};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_auth_core::Error> {
/// let disk = MemoryFiles::new().with("/run/token", "t1");
/// let files: &dyn Files = &disk;
/// assert_eq!(files.read_text("/run/token".as_ref()).await?.expose(), "t1");
/// disk.remove("/run/token");
/// assert!(files.read_text("/run/token".as_ref()).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryFiles(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    files: BTreeMap<PathBuf, Entry>,
    locked: BTreeSet<PathBuf>,
    /// Paths that cannot be written, and why.
    full: BTreeMap<PathBuf, io::ErrorKind>,
    /// Counts the writes: the time of each, in seconds since 1970.
    writes: u64,
}

struct Entry {
    contents: Result<Vec<u8>, io::ErrorKind>,
    mode: u32,
    written: u64,
}

impl MemoryFiles {
    /// A file system without files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    #[must_use]
    pub fn with(self, path: impl Into<PathBuf>, contents: impl Into<Vec<u8>>) -> Self {
        self.write(path, contents);
        self
    }

    /// Adds a file or replaces its contents. It is its owner's only. Each write is a second later than the
    /// one before.
    pub fn write(&self, path: impl Into<PathBuf>, contents: impl Into<Vec<u8>>) {
        self.disk().put(path.into(), Ok(contents.into()));
    }

    /// Gives a file this Unix mode.
    pub fn set_mode(&self, path: impl AsRef<Path>, mode: u32) {
        if let Some(entry) = self.disk().files.get_mut(path.as_ref()) {
            entry.mode = mode;
        }
    }

    /// Makes every read of this path fail.
    pub fn fail(&self, path: impl Into<PathBuf>, how: io::ErrorKind) {
        self.disk().put(path.into(), Err(how));
    }

    /// Makes every [`write_private`](Files::write_private) to this path fail.
    pub fn fail_writes(&self, path: impl Into<PathBuf>, how: io::ErrorKind) {
        self.disk().full.insert(path.into(), how);
    }

    /// Removes a file.
    pub fn remove(&self, path: impl AsRef<Path>) {
        self.disk().files.remove(path.as_ref());
    }

    /// What is in a file.
    #[must_use]
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.files.get(path.as_ref())?.contents.clone().ok()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn put(&mut self, path: PathBuf, contents: Result<Vec<u8>, io::ErrorKind>) {
        self.writes += 1;
        let entry = Entry {
            contents,
            mode: 0o600,
            written: self.writes,
        };
        self.files.insert(path, entry);
    }
}

impl Files for MemoryFiles {
    fn read<'a>(&'a self, path: &'a Path, rules: ReadRules) -> Reading<'a> {
        let disk = self.disk();
        let found = match disk.files.get(path) {
            None => Err(FileError::Missing),
            Some(entry) => match &entry.contents {
                Err(how) => Err(FileError::Unreadable((*how).into())),
                Ok(_) if entry.mode & rules.forbidden_mode() != 0 => {
                    Err(FileError::Exposed(entry.mode))
                }
                Ok(text) if text.len() > rules.limit => Err(FileError::TooLarge),
                Ok(text) => Ok(text.clone()),
            },
        };
        Box::pin(std::future::ready(found))
    }

    fn look<'a>(&'a self, path: &'a Path) -> Looking<'a> {
        let disk = self.disk();
        let facts = disk.files.get(path).map(|entry| {
            let len = entry.contents.as_ref().map_or(0, Vec::len) as u64;
            let written = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(entry.written));
            FileFacts::new(len, written)
        });
        Box::pin(std::future::ready(Ok(facts)))
    }

    fn write_private<'a>(&'a self, path: &'a Path, contents: Secret) -> Writing<'a> {
        let mut disk = self.disk();
        let done = match disk.full.get(path) {
            Some(how) => Err(FileError::Unwritable((*how).into())),
            None => {
                disk.put(path.to_owned(), Ok(contents.expose().as_bytes().to_vec()));
                Ok(())
            }
        };
        Box::pin(std::future::ready(done))
    }

    fn lock<'a>(&'a self, path: &'a Path, patience: Duration) -> Locking<'a> {
        Box::pin(async move {
            let attempt = || {
                let is_free = self.disk().locked.insert(path.to_owned());
                Ok(is_free.then(|| MemoryLock(self.clone(), path.to_owned())))
            };
            wait_for_lock(patience, || std::future::ready(attempt())).await
        })
    }
}

struct MemoryLock(MemoryFiles, PathBuf);

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.disk().locked.remove(&self.1);
    }
}

/// Asks again and again: a thread that waits in the operating system could not be called back.
pub(crate) async fn wait_for_lock<L, F>(
    patience: Duration,
    mut attempt: impl FnMut() -> F + Send,
) -> Result<FileLock, FileError>
where
    L: Send + Sync + 'static,
    F: Future<Output = Result<Option<L>, FileError>> + Send,
{
    let end = tokio::time::Instant::now() + patience;
    loop {
        if let Some(held) = attempt().await? {
            return Ok(FileLock::new(held));
        }
        if tokio::time::Instant::now() >= end {
            return Err(FileError::Locked);
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

impl fmt::Debug for MemoryFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFiles").finish_non_exhaustive()
    }
}

const TEXT_LIMIT: usize = 1024 * 1024;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(contents: &[u8]) -> Result<Secret, Error> {
        let disk = MemoryFiles::new().with("/f", contents);
        let files: &dyn Files = &disk;
        files.read_text(Path::new("/f")).await
    }

    #[tokio::test]
    async fn fc_d10_a_byte_order_mark_goes_and_other_encodings_are_named() {
        assert_eq!(read(b"\xef\xbb\xbfa\n").await.unwrap().expose(), "a\n");
        for (bytes, word) in [
            (&b"\xff\xfec\0"[..], "UTF-16"),
            (b"canary\xff", "not UTF-8"),
        ] {
            let error = read(bytes).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.to_string().contains(word), "{error}");
            assert!(error.to_string().contains("/f"), "{error}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn fc_d07_a_refusal_of_the_system_is_shown_by_path_and_cause() {
        for (how, kind) in [
            (io::ErrorKind::PermissionDenied, ErrorKind::InvalidConfig),
            (
                io::ErrorKind::StaleNetworkFileHandle,
                ErrorKind::Unavailable,
            ),
            (io::ErrorKind::Other, ErrorKind::Unavailable),
        ] {
            let error = FileError::Unreadable(how.into()).about(Path::new("/f"));
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains("/f cannot be read"), "{error}");
            assert!(std::error::Error::source(&error).is_some());
        }
    }
}
