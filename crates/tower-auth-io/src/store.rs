use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::FileError;

/// Puts a file in the place of another, so that a reader sees the old one or the new one and nothing in
/// between, whenever the power goes.
///
/// The new one is written beside the old one under a name that nobody can guess, and is readable by its
/// owner only from its first byte on.
pub(crate) fn replace(path: &Path, contents: &[u8], name: [u8; 8]) -> Result<(), FileError> {
    // A rename would replace the link and leave its target, which others may read, as it was.
    let target = if path.is_symlink() {
        fs::canonicalize(path).map_err(|_| FileError::Dangling)?
    } else {
        path.to_owned()
    };
    let (Some(folder), Some(file_name)) = (target.parent(), target.file_name()) else {
        return Err(FileError::Directory);
    };
    if target.is_dir() {
        return Err(FileError::Directory);
    }
    make_folder(folder).map_err(FileError::Unwritable)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(file_name);
    hidden.push(format!(".{:016x}.tmp", u64::from_ne_bytes(name)));
    let unfinished = Unfinished(folder.join(hidden));
    unfinished
        .write(contents)
        .and_then(|()| fs::rename(&unfinished.0, &target))
        .map_err(FileError::Unwritable)?;
    // Not every file system can do this, and the new file is in its place either way.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// A file that goes when it is not renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn write(&self, contents: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;

            options.mode(0o600);
        }
        let mut file = options.open(&self.0)?;
        file.write_all(contents)?;
        file.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After the rename there is nothing of this name.
        let _ = fs::remove_file(&self.0);
    }
}

/// Tries to lock the file at `path`, which is made for this purpose and stays.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>, FileError> {
    if let Some(folder) = path.parent() {
        make_folder(folder).map_err(FileError::Unwritable)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        options
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    }
    let file = options.open(path).map_err(FileError::Unwritable)?;
    lock_now(file)
}

#[cfg(unix)]
fn lock_now(file: File) -> Result<Option<File>, FileError> {
    use rustix::fs::{FlockOperation, flock};

    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(cause) => Err(FileError::Unwritable(cause.into())),
    }
}

/// There is no lock that the standard library of the oldest supported compiler offers here: processes
/// rely on reading the file again.
#[cfg(not(unix))]
fn lock_now(file: File) -> Result<Option<File>, FileError> {
    Ok(Some(file))
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;

        builder.mode(0o700);
    }
    builder.create(folder)
}
