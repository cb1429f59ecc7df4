//! Token files on a real disk.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "a test stops where its preparation fails"
)]

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tower_auth_core::{Error, ErrorKind};
use tower_auth_io::{ReadRules, SystemFiles, TokenFile};

/// A directory that is gone when its test is done.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "files-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join("token");
        fs::write(&path, contents).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Reads without waiting for the writer to settle.
fn token_file(path: impl AsRef<Path>) -> TokenFile {
    let files = SystemFiles::new().with_settling_time(Duration::ZERO);
    TokenFile::new(path).unwrap().with_files(Arc::new(files))
}

async fn read(path: impl AsRef<Path>) -> Result<String, Error> {
    let secret = token_file(path).read().await?;
    Ok(secret.expose().to_owned())
}

async fn check_refused(path: impl AsRef<Path> + Send + Sync, kind: ErrorKind, word: &str) {
    let error = read(&path).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(word), "{error}");
    let shown = path.as_ref().display().to_string();
    assert!(error.to_string().contains(&shown), "{error}");
}

#[tokio::test]
async fn fc_d01_a_missing_file_is_not_configured_until_it_appears() {
    let dir = Dir::new();
    let path = dir.0.join("token");
    check_refused(&path, ErrorKind::NotConfigured, "there is no file").await;
    check_refused(
        dir.file("t").join("below"),
        ErrorKind::NotConfigured,
        "there is no file",
    )
    .await;
    assert_eq!(read(path).await.unwrap(), "t");
}

#[tokio::test]
async fn fc_d03_an_empty_file_is_a_passing_state() {
    let dir = Dir::new();
    check_refused(dir.file("\n"), ErrorKind::Unavailable, "is empty").await;
}

#[tokio::test]
async fn fc_d06_a_link_without_its_target_is_a_passing_state() {
    let dir = Dir::new();
    let link = dir.0.join("link");
    symlink(dir.0.join("later"), &link).unwrap();
    check_refused(&link, ErrorKind::Unavailable, "does not exist").await;
    fs::write(dir.0.join("later"), "t").unwrap();
    assert_eq!(read(link).await.unwrap(), "t");
}

#[tokio::test]
async fn fc_d07_a_file_that_may_not_be_read_is_told_from_a_missing_one() {
    let dir = Dir::new();
    let path = dir.file("t");
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    // Nothing is forbidden to root.
    if File::open(&path).is_err() {
        check_refused(&path, ErrorKind::InvalidConfig, "cannot be read").await;
    }
    let odd = dir.0.join("nul\0");
    let error = read(&odd).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
}

#[tokio::test]
async fn fc_d08_a_private_file_must_be_closed_to_others() {
    let dir = Dir::new();
    let path = dir.file("t");
    let file = token_file(&path).with_rules(ReadRules::up_to(1024).private());
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let error = file.read().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("mode 0640"), "{error}");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(file.read().await.unwrap().expose(), "t");
}

#[tokio::test]
async fn fc_d09_a_private_file_must_not_be_a_link() {
    let dir = Dir::new();
    let path = dir.file("t");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let link = dir.0.join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(read(&link).await.unwrap(), "t");
    let file = token_file(&link).with_rules(ReadRules::up_to(1024).private());
    let error = file.read().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

#[tokio::test]
async fn fc_d12_a_huge_file_is_refused_by_its_size() {
    let dir = Dir::new();
    let path = dir.file("");
    // Sparse: it takes no room.
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    check_refused(path, ErrorKind::Malformed, "larger than the limit").await;
}

#[tokio::test]
async fn fc_d13_pipes_sockets_and_devices_are_refused_at_once() {
    let dir = Dir::new();
    let pipe = dir.0.join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    check_refused(pipe, ErrorKind::InvalidConfig, "a pipe, a socket").await;

    let socket = dir.0.join("s");
    // A path that is too long for a socket is none of this test's business.
    if UnixListener::bind(&socket).is_ok() {
        check_refused(socket, ErrorKind::InvalidConfig, "a pipe, a socket").await;
    }
    check_refused("/dev/zero", ErrorKind::InvalidConfig, "a device").await;
}

#[tokio::test]
async fn fc_d14_a_directory_is_no_token() {
    let dir = Dir::new();
    check_refused(&dir.0, ErrorKind::InvalidConfig, "is a directory").await;
}

#[tokio::test]
async fn fc_d04_a_file_that_was_just_written_is_looked_at_twice() {
    let dir = Dir::new();
    let path = dir.file("half");
    let reading = tokio::spawn({
        let files = SystemFiles::new().with_settling_time(Duration::from_secs(1));
        let file = TokenFile::new(&path).unwrap().with_files(Arc::new(files));
        async move { file.read().await }
    });
    // The writer goes on as long as it is read, so that no look finds the file at rest.
    let mut writer = File::options().append(true).open(&path).unwrap();
    while !reading.is_finished() {
        writer.write_all(b"x").unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let error = reading.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("changed while"), "{error}");
    drop(writer);
    assert!(read(&path).await.unwrap().starts_with("half"));
}

#[tokio::test]
async fn fc_d04_a_value_written_in_place_is_seen_whole() {
    let dir = Dir::new();
    let path = dir.file("a".repeat(4000));
    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (path, done) = (path.clone(), Arc::clone(&done));
        move || {
            let mut value = [b'a'; 4000];
            while !done.load(Ordering::Relaxed) {
                let next = if value[0] == b'z' { b'a' } else { value[0] + 1 };
                value.fill(next);
                let mut file = File::create(&path).unwrap();
                for part in value.chunks(500) {
                    file.write_all(part).unwrap();
                }
            }
        }
    });
    let file = TokenFile::new(&path).unwrap();
    for _ in 0..10 {
        match file.read().await {
            Ok(token) => {
                let token = token.expose().as_bytes();
                assert_eq!(token.len(), 4000);
                assert!(token.iter().all(|byte| *byte == token[0]));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
    }
    done.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(file.read().await.unwrap().expose().len(), 4000);
}

/// Does what the kubelet does to publish a new value: a directory of its own for each, and a link to the
/// newest that is replaced by a rename.
struct Volume {
    dir: PathBuf,
    generation: u32,
}

impl Volume {
    fn publish(&mut self) {
        let old = self.dir.join(format!("..{}", self.generation));
        self.generation += 1;
        let new = format!("..{}", self.generation);
        fs::create_dir(self.dir.join(&new)).unwrap();
        let value = format!("{0}.{0}.{0}\n", self.generation);
        fs::write(self.dir.join(&new).join("token"), value).unwrap();
        symlink(&new, self.dir.join("..data_tmp")).unwrap();
        fs::rename(self.dir.join("..data_tmp"), self.dir.join("..data")).unwrap();
        if self.generation == 1 {
            symlink("..data/token", self.dir.join("token")).unwrap();
        } else {
            fs::remove_dir_all(old).unwrap();
        }
    }
}

#[tokio::test]
async fn fc_d05_a_rotated_volume_is_never_seen_torn_or_empty() {
    let dir = Dir::new();
    let mut volume = Volume {
        dir: dir.0.clone(),
        generation: 0,
    };
    volume.publish();
    let done = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            while volume.generation < 500 {
                volume.publish();
            }
            done.store(true, Ordering::Release);
        }
    });
    let file = token_file(dir.0.join("token"));
    let (mut reads, mut seen) = (0, 0);
    loop {
        let last = done.load(Ordering::Acquire);
        match file.read().await {
            Ok(token) => {
                let parts: Vec<u32> = token
                    .expose()
                    .split('.')
                    .map(|part| part.parse().unwrap())
                    .collect();
                assert_eq!(parts, [parts[0]; 3]);
                assert!(parts[0] >= seen, "{} came after {seen}", parts[0]);
                seen = parts[0];
                reads += 1;
            }
            // The directory that the link led to was removed between two steps of the lookup.
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::NotConfigured | ErrorKind::Unavailable
                ),
                "{error}"
            ),
        }
        if last {
            break;
        }
    }
    writer.join().unwrap();
    assert_eq!(seen, 500);
    assert!(reads > 1, "{reads}");
}

#[tokio::test]
async fn fc_d19_a_new_value_is_seen_without_any_notification() {
    let dir = Dir::new();
    let path = dir.file("t1");
    let file = token_file(&path);
    assert_eq!(file.read().await.unwrap().expose(), "t1");
    fs::write(dir.0.join("next"), "t2").unwrap();
    fs::rename(dir.0.join("next"), &path).unwrap();
    assert_eq!(file.read().await.unwrap().expose(), "t2");
}
