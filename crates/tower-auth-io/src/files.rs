use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tower_auth_core::{Error, ErrorKind, Secret};
use zeroize::Zeroize;

/// The file system, as an argument.
///
/// A file is read whole and from its path each time, because the files that hold credentials are
/// replaced behind the reader's back.
pub trait Files: Send + Sync + 'static {
    /// The bytes of the file at `path`, if `rules` allow it.
    fn read<'a>(&'a self, path: &'a Path, rules: ReadRules) -> Reading<'a>;
}

/// What [`Files::read`] returns: the bytes, later.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, FileError>> + Send + 'a>>;

/// Which file is fit to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRules {
    limit: usize,
    private: bool,
}

impl ReadRules {
    /// A file of at most this many bytes.
    #[must_use]
    pub fn up_to(limit: usize) -> Self {
        Self {
            limit,
            private: false,
        }
    }

    /// Besides, it must be a file of its own rather than a symbolic link, and on Unix nobody but its
    /// owner may have access. Right for a store that a login wrote, wrong for a mounted token.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
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
        self.private
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
        };
        let error = Error::new(kind, text);
        match self {
            Self::Unreadable(cause) => error.with_cause(cause),
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
pub struct MemoryFiles(Arc<Mutex<BTreeMap<PathBuf, Entry>>>);

#[derive(Clone)]
enum Entry {
    Text(Vec<u8>),
    Failing(io::ErrorKind),
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

    /// Adds a file or replaces its contents.
    pub fn write(&self, path: impl Into<PathBuf>, contents: impl Into<Vec<u8>>) {
        self.set(path.into(), Entry::Text(contents.into()));
    }

    /// Makes every read of this path fail.
    pub fn fail(&self, path: impl Into<PathBuf>, how: io::ErrorKind) {
        self.set(path.into(), Entry::Failing(how));
    }

    /// Removes a file.
    pub fn remove(&self, path: impl AsRef<Path>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(path.as_ref());
    }

    fn set(&self, path: PathBuf, entry: Entry) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path, entry);
    }
}

impl Files for MemoryFiles {
    fn read<'a>(&'a self, path: &'a Path, rules: ReadRules) -> Reading<'a> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match files.get(path) {
            None => Err(FileError::Missing),
            Some(Entry::Text(text)) if text.len() > rules.limit => Err(FileError::TooLarge),
            Some(Entry::Text(text)) => Ok(text.clone()),
            Some(Entry::Failing(how)) => Err(FileError::Unreadable((*how).into())),
        };
        Box::pin(std::future::ready(found))
    }
}

impl fmt::Debug for MemoryFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFiles").finish_non_exhaustive()
    }
}

const TEXT_LIMIT: usize = 1024 * 1024;

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
