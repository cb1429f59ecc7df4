//! Writing and locking on a real disk.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where its preparation fails"
)]

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tower_auth_core::{ErrorKind, Secret};
use tower_auth_io::{FileError, Files, MemoryFiles, ReadRules, SystemFiles};

/// A directory that is gone when its test is done.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "store-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: impl AsRef<Path>) -> u32 {
    path.as_ref().metadata().unwrap().permissions().mode() & 0o777
}

async fn contents(path: &Path) -> String {
    let files: &dyn Files = &SystemFiles::new().with_settling_time(Duration::ZERO);
    files.read_text(path).await.unwrap().expose().to_owned()
}

async fn write(path: &Path, text: &str) -> Result<(), FileError> {
    SystemFiles::new()
        .write_private(path, Secret::from(text))
        .await
}

#[tokio::test]
async fn fc_g18_a_written_file_is_its_owners_only() {
    let dir = Dir::new();
    let path = dir.0.join("a/b/secret");
    write(&path, "one").await.unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(dir.0.join("a")), 0o700);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    write(&path, "two").await.unwrap();
    assert_eq!(contents(&path).await, "two");
    assert_eq!(mode(&path), 0o600, "the new file has a mode of its own");
    assert_eq!(fs::read_dir(dir.0.join("a/b")).unwrap().count(), 1);
}

#[tokio::test]
async fn fc_g18_a_link_stays_and_its_target_is_replaced() {
    let dir = Dir::new();
    let target = dir.0.join("target");
    let link = dir.0.join("link");
    write(&target, "one").await.unwrap();
    symlink("target", &link).unwrap();
    write(&link, "two").await.unwrap();
    assert_eq!(contents(&target).await, "two");
    assert!(link.is_symlink());
    symlink("nowhere", dir.0.join("dangling")).unwrap();
    let error = write(&dir.0.join("dangling"), "x").await.unwrap_err();
    assert!(matches!(error, FileError::Dangling), "{error:?}");
}

#[tokio::test]
async fn fc_a42_a_reader_sees_the_old_file_or_the_new_one() {
    let dir = Dir::new();
    let path = dir.0.join("secret");
    let texts = ["a".repeat(20_000), "b".repeat(10_000)];
    write(&path, &texts[0]).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (path, texts, stop) = (path.clone(), texts.clone(), Arc::clone(&stop));
        async move {
            for text in texts.iter().cycle().take(100) {
                write(&path, text).await.unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        }
    });
    while !stop.load(Ordering::Relaxed) {
        let seen = contents(&path).await;
        assert!(texts.contains(&seen), "{} bytes", seen.len());
    }
    writer.await.unwrap();
}

#[tokio::test]
async fn fc_a42_a_write_goes_on_when_nobody_waits() {
    let dir = Dir::new();
    let path = dir.0.join("secret");
    let files = SystemFiles::new();
    let mut writing = files.write_private(&path, Secret::from("new"));
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(writing.as_mut().poll(cx))).await;
    drop(polled);
    drop(writing);
    while !path.exists() {
        tokio::task::yield_now().await;
    }
    assert_eq!(contents(&path).await, "new");
}

#[tokio::test]
async fn fc_a43_a_lock_lets_one_in_at_a_time() {
    let dir = Dir::new();
    let path = dir.0.join("secret.lock");
    let files = SystemFiles::new();
    let held = files.lock(&path, Duration::ZERO).await.unwrap();
    let error = files.lock(&path, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, FileError::Locked));
    assert_eq!(error.about(&path).kind(), ErrorKind::Unavailable);
    assert_eq!(mode(&path), 0o600);
    let waiting = tokio::spawn({
        let (files, path) = (files.clone(), path.clone());
        async move { files.lock(&path, Duration::from_secs(60)).await.is_ok() }
    });
    tokio::task::yield_now().await;
    drop(held);
    assert!(waiting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn fc_a43_the_double_locks_too() {
    let disk = MemoryFiles::new();
    let held = disk.lock("/l".as_ref(), Duration::ZERO).await.unwrap();
    let error = disk.lock("/l".as_ref(), Duration::from_secs(5)).await;
    assert!(matches!(error, Err(FileError::Locked)));
    drop(held);
    let _held = disk.lock("/l".as_ref(), Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn fc_d22_a_failed_write_leaves_the_old_file_and_nothing_else() {
    let dir = Dir::new();
    let folder = dir.0.join("folder");
    fs::create_dir(&folder).unwrap();
    let error = write(&folder, "x").await.unwrap_err();
    assert!(matches!(error, FileError::Directory), "{error:?}");
    let file = dir.0.join("file");
    write(&file, "old").await.unwrap();
    let error = write(&file.join("below"), "x").await.unwrap_err();
    assert!(error.about(&file).to_string().contains("cannot be written"));
    assert_eq!(contents(&file).await, "old");
    assert_eq!(dir.names(), ["file", "folder"]);

    let disk = MemoryFiles::new().with("/f", "old");
    disk.fail_writes("/f", io::ErrorKind::StorageFull);
    let writing = disk.write_private("/f".as_ref(), Secret::from("new"));
    assert!(writing.await.is_err());
    assert_eq!(disk.contents("/f").unwrap(), b"old");
}

#[tokio::test]
async fn a_file_is_looked_at_without_being_read() {
    let dir = Dir::new();
    let path = dir.0.join("secret");
    let files = SystemFiles::new();
    assert_eq!(files.look(&path).await.unwrap(), None);
    write(&path, "12345").await.unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    let facts = files.look(&path).await.unwrap().unwrap();
    assert_eq!(facts.len, 5);
    assert!(facts.modified.is_some());
}

#[tokio::test]
async fn fc_d08_what_others_may_do_is_looked_at_behind_a_link() {
    let dir = Dir::new();
    let path = dir.0.join("secret");
    let link = dir.0.join("link");
    write(&path, "s").await.unwrap();
    symlink("secret", &link).unwrap();
    let files = SystemFiles::new().with_settling_time(Duration::ZERO);
    let owner_only = ReadRules::up_to(9).owner_only();
    let unwritable = ReadRules::up_to(9).not_writable_by_others();
    files.read(&link, owner_only).await.unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let error = files.read(&link, owner_only).await.unwrap_err();
    assert!(matches!(error, FileError::Exposed(0o644)), "{error:?}");
    files.read(&link, unwritable).await.unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    assert!(files.read(&link, unwritable).await.is_err());

    let disk = MemoryFiles::new().with("/f", "s");
    disk.set_mode("/f", 0o664);
    assert!(disk.read("/f".as_ref(), unwritable).await.is_err());
}
