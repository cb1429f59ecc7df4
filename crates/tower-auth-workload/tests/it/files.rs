use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tower_auth_core::ErrorKind;
use tower_auth_io::{MemoryFiles, SystemFiles};
use tower_auth_workload::{IdentityFile, KubernetesFile, SpiffeHelperFile};

use crate::identity::{AUDIENCE, NOW, at, error, jwt, text, world};

/// A folder of its own for each test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("taw-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the kubelet does: the file is a link to `..data/token`, and `..data` a link that is replaced as a
/// whole.
#[cfg(unix)]
fn project(folder: &Folder, version: usize) {
    use std::os::unix::fs::symlink;

    let data = folder.0.join(format!("..{version}"));
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("token"), jwt(&version.to_string())).unwrap();
    let next = folder.0.join("..data_tmp");
    symlink(&data, &next).unwrap();
    fs::rename(&next, folder.0.join("..data")).unwrap();
    if version == 0 {
        symlink("..data/token", folder.0.join("token")).unwrap();
    } else {
        fs::remove_dir_all(folder.0.join(format!("..{}", version - 1))).unwrap();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn w82_a_token_that_the_kubelet_replaced_is_the_next_one() {
    let folder = Folder::new("swap");
    let files = SystemFiles::new().with_settling_time(Duration::ZERO);
    let world = world().0.with_files(files);
    let path = folder.0.join("token");
    let source = KubernetesFile::new(&path, AUDIENCE, &world).unwrap();
    for version in 0..50 {
        project(&folder, version);
        assert_eq!(text(&source).await, jwt(&version.to_string()));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn w82_a_reader_during_rotations_never_sees_a_torn_token() {
    let folder = std::sync::Arc::new(Folder::new("race"));
    project(&folder, 0);
    let files = SystemFiles::new().with_settling_time(Duration::ZERO);
    let world = world().0.with_files(files);
    let source = KubernetesFile::new(folder.0.join("token"), AUDIENCE, &world).unwrap();
    let writer = tokio::task::spawn_blocking({
        let folder = std::sync::Arc::clone(&folder);
        move || (1..200).for_each(|version| project(&folder, version))
    });
    let mut seen = 0;
    while !writer.is_finished() {
        match crate::identity::fetch(&source).await {
            Ok(_) => seen += 1,
            // The old folder goes right after the swap, as in a volume.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
    }
    writer.await.unwrap();
    assert!(seen > 0);
    assert_eq!(text(&source).await, jwt("199"));
}

#[tokio::test]
async fn w83_a_file_that_is_gone_or_empty_is_an_error_and_then_read_again() {
    let disk = MemoryFiles::new().with("/t", jwt("1"));
    let (world, clock) = world();
    let source = KubernetesFile::new("/t", AUDIENCE, &world.with_files(disk.clone())).unwrap();
    assert_eq!(text(&source).await, jwt("1"));
    disk.write("/t", "");
    assert_eq!(error(&source).await.kind(), ErrorKind::Unavailable);
    disk.remove("/t");
    assert_eq!(error(&source).await.kind(), ErrorKind::NotConfigured);
    disk.write("/t", jwt("2"));
    assert_eq!(text(&source).await, jwt("2"));

    clock.set(at(NOW + 310));
    let over = error(&source).await;
    assert_eq!(over.kind(), ErrorKind::Expired);
    assert!(
        over.to_string().contains("the file /t expired 10 s ago"),
        "{over}"
    );
    assert!(over.hint().unwrap().contains("subPath"), "{over}");
}

#[tokio::test]
async fn w85_odd_files_are_trimmed_or_named() {
    let read = async |contents: &[u8]| {
        let disk = MemoryFiles::new().with("/t", contents);
        let source = IdentityFile::new("/t", AUDIENCE, &world().0.with_files(disk)).unwrap();
        crate::identity::fetch(&source).await
    };
    for around in ["{}\r\n", "\u{feff}{}", " {}\n\n"] {
        let contents = around.replace("{}", &jwt("1"));
        let token = read(contents.as_bytes()).await.unwrap();
        assert_eq!(token.secret().expose(), jwt("1"));
    }
    for odd in [
        &vec![b'a'; 1 << 20][..],
        b"canary\xff",
        b"canary",
        b"-----BEGIN PRIVATE KEY-----\ncanary",
    ] {
        let error = read(odd).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().contains("/t"), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn w94_a_file_that_spiffe_helper_is_writing_is_a_passing_failure() {
    let disk = MemoryFiles::new().with("/t", jwt("1"));
    let world = world().0.with_files(disk.clone());
    let source = SpiffeHelperFile::new("/t", AUDIENCE, &world).unwrap();
    assert_eq!(text(&source).await, jwt("1"));
    let whole = jwt("2");
    for partial in ["", &whole[..10], &whole[..whole.len() / 2]] {
        disk.write("/t", partial);
        let error = error(&source).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    disk.write("/t", whole.clone());
    assert_eq!(text(&source).await, whole);
}
