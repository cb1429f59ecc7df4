use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tower_auth_core::{Description, Error, ErrorKind, Expiry, Fetch, Secret, Token, TokenSource};

use crate::{Files, ReadRules, SystemFiles};

/// A file that holds one token: a projected service account token, the output of an agent.
///
/// It is opened anew for every fetch and links are followed, so a token that was rotated is seen. As a
/// [`TokenSource`] it gives a bearer token that ends with its `exp` if it is a JWT and is read again
/// after 60 s if it is not.
///
/// ```
/// use std::sync::Arc;
/// use tower_auth_io::{MemoryFiles, TokenFile};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_auth_core::Error> {
/// let disk = MemoryFiles::new().with("/run/secrets/token", "eyJ…\n");
/// let file = TokenFile::new("/run/secrets/token")?.with_files(Arc::new(disk));
/// assert_eq!(file.read().await?.expose(), "eyJ…");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenFile {
    path: PathBuf,
    files: Arc<dyn Files>,
    rules: ReadRules,
    name: &'static str,
    ask_every: Duration,
}

impl TokenFile {
    /// How many bytes a token may have where nothing else is said: 64 KiB.
    pub const DEFAULT_LIMIT: usize = 64 * 1024;

    /// The file at this path on this machine. A relative path is resolved against the working directory
    /// here, once; `~` is not expanded.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the path is empty or begins with `~`, or if there
    /// is no working directory.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self {
            path: resolve(path.as_ref())?,
            files: Arc::new(SystemFiles::new()),
            rules: ReadRules::up_to(Self::DEFAULT_LIMIT),
            name: "token file",
            ask_every: ASK_EVERY,
        })
    }

    /// Reads from another file system.
    #[must_use]
    pub fn with_files(mut self, files: Arc<dyn Files>) -> Self {
        self.files = files;
        self
    }

    /// Reads by other rules: another size limit, or only a file that is private to its owner.
    #[must_use]
    pub fn with_rules(mut self, rules: ReadRules) -> Self {
        self.rules = rules;
        self
    }

    /// What errors and logs call it: `token file` where this is not called.
    #[must_use]
    pub fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// How long a token that does not show its own end is used before the file is read again.
    #[must_use]
    pub fn ask_every(mut self, period: Duration) -> Self {
        self.ask_every = period;
        self
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the token. White space at its ends and a byte order mark go.
    ///
    /// # Errors
    /// Always naming the path. [`NotConfigured`](ErrorKind::NotConfigured) if there is no such file;
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is not a file or may not be read;
    /// [`Unavailable`](ErrorKind::Unavailable) if it is empty, is being written or its file system fails;
    /// [`Malformed`](ErrorKind::Malformed) if what is in it is not one token.
    pub async fn read(&self) -> Result<Secret, Error> {
        let text = self
            .files
            .read_text_within(&self.path, self.rules)
            .await
            .map_err(|error| error.or_source(self.name))?;
        one_token(&text).map_err(|(kind, what)| {
            Error::new(kind, format!("the file {} {what}", self.path.display()))
                .with_source_name(self.name)
        })
    }
}

impl TokenSource for TokenFile {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        let secret = self.read().await?;
        Ok(Token::bearer(secret).with_expiry(Expiry::AskEvery(self.ask_every)))
    }

    fn describe(&self) -> Description {
        Description::new(self.name).with_setting("token", self.path.display().to_string())
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenFile")
            .field("path", &self.path)
            .field("rules", &self.rules)
            .field("name", &self.name)
            .field("ask_every", &self.ask_every)
            .finish_non_exhaustive()
    }
}

fn resolve(path: &Path) -> Result<PathBuf, Error> {
    if path.starts_with("~") {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "the path {} begins with ~, which only a shell expands: write the whole path",
                path.display()
            ),
        ));
    }
    std::path::absolute(path).map_err(|cause| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("the path {:?} names no file: write the whole path", path),
        )
        .with_cause(cause)
    })
}

/// The token in a text, or what the text is instead. No part of the text is repeated.
fn one_token(text: &Secret) -> Result<Secret, (ErrorKind, &'static str)> {
    let token = text.expose().trim();
    let malformed = |what| Err((ErrorKind::Malformed, what));
    if token.is_empty() {
        return Err((
            ErrorKind::Unavailable,
            "is empty: whoever writes it has not done so, or has failed",
        ));
    }
    if token.starts_with("-----BEGIN") {
        return malformed("holds a key or certificate in PEM where a token is expected");
    }
    if token.starts_with('{') {
        return malformed("holds a JSON document where a token is expected");
    }
    if token.starts_with(['"', '\'']) {
        return malformed("holds a token in quotation marks: remove them");
    }
    if token.contains(char::is_whitespace) {
        return malformed("holds white space within the token: it must hold one token and no more");
    }
    if token.contains(char::is_control) {
        return malformed("holds a control character within the token");
    }
    Ok(if token.len() == text.expose().len() {
        text.clone()
    } else {
        Secret::from(token)
    })
}

const ASK_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryFiles;
    use tower_auth_core::{Credential, Reason};

    fn holding(contents: &[u8]) -> TokenFile {
        let disk = MemoryFiles::new().with("/t", contents);
        TokenFile::new("/t").unwrap().with_files(Arc::new(disk))
    }

    async fn check_refused(contents: &[u8], kind: ErrorKind, word: &str) {
        let error = holding(contents).read().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(word), "{text}");
        assert!(text.contains("/t"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    #[tokio::test]
    async fn fc_d03_an_empty_file_is_a_passing_state() {
        for empty in [&b""[..], b"\n", b" \t\r\n", b"\xef\xbb\xbf\n"] {
            check_refused(empty, ErrorKind::Unavailable, "is empty").await;
        }
    }

    #[tokio::test]
    async fn fc_d11_white_space_goes_at_the_ends_and_is_refused_inside() {
        for text in ["t1", "t1\n", "t1\r\n\r\n", "\u{feff}t1\n", " t1 "] {
            assert_eq!(
                holding(text.as_bytes()).read().await.unwrap().expose(),
                "t1"
            );
        }
        for text in ["canary t2", "canary\nt2\n", "canary\u{a0}t2"] {
            check_refused(text.as_bytes(), ErrorKind::Malformed, "white space").await;
        }
    }

    #[tokio::test]
    async fn fc_d10_control_characters_are_refused() {
        check_refused(b"canary\0t", ErrorKind::Malformed, "control character").await;
        check_refused(b"canary\xff", ErrorKind::Malformed, "not UTF-8").await;
    }

    #[tokio::test]
    async fn fc_d12_a_file_above_the_limit_is_refused() {
        check_refused(
            &[b'a'; 65_537],
            ErrorKind::Malformed,
            "larger than the limit",
        )
        .await;
        assert!(holding(&[b'a'; 65_536]).read().await.is_ok());
    }

    #[tokio::test]
    async fn fc_d17_a_key_where_a_token_belongs_is_named() {
        check_refused(
            b"-----BEGIN PRIVATE KEY-----\ncanary\n",
            ErrorKind::Malformed,
            "PEM",
        )
        .await;
        check_refused(b"{\"token\":\"canary\"}", ErrorKind::Malformed, "JSON").await;
        check_refused(b"\"canary\"\n", ErrorKind::Malformed, "quotation marks").await;
    }

    #[tokio::test]
    async fn fc_d01_a_file_that_appears_later_is_read() {
        let disk = MemoryFiles::new();
        let file = TokenFile::new("/t")
            .unwrap()
            .with_files(Arc::new(disk.clone()));
        let error = file.read().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        disk.write("/t", "t1");
        assert_eq!(file.read().await.unwrap().expose(), "t1");
    }

    #[tokio::test]
    async fn fc_d15_every_fetch_reads_the_file_again() {
        let disk = MemoryFiles::new().with("/t", "t1");
        let file = TokenFile::new("/t")
            .unwrap()
            .with_files(Arc::new(disk.clone()));
        let first = file.fetch(&Fetch::new(Reason::First)).await.unwrap();
        assert_eq!(first.secret().expose(), "t1");
        assert_eq!(first.expiry(), Expiry::AskEvery(Duration::from_secs(60)));
        disk.write("/t", "t2");
        let next = file.fetch(&Fetch::new(Reason::Rejected)).await.unwrap();
        assert_eq!(next.secret().expose(), "t2");
    }

    #[tokio::test]
    async fn fc_d16_the_same_content_has_the_same_fingerprint() {
        let disk = MemoryFiles::new().with("/t", "t1");
        let file = TokenFile::new("/t")
            .unwrap()
            .with_files(Arc::new(disk.clone()));
        let first = file.fetch(&Fetch::new(Reason::First)).await.unwrap();
        disk.write("/t", "t1\n");
        let next = file.fetch(&Fetch::new(Reason::Scheduled)).await.unwrap();
        assert_eq!(first.fingerprint(), next.fingerprint());
    }

    #[test]
    fn fc_d18_a_path_is_resolved_once() {
        let file = TokenFile::new("some/token").unwrap();
        assert!(file.path().is_absolute());
        assert!(file.path().ends_with("some/token"));
        for bad in ["~/token", ""] {
            let error = TokenFile::new(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.to_string().contains("whole path"), "{error}");
        }
    }

    #[test]
    fn it_describes_itself_by_its_path() {
        let file = TokenFile::new("/t").unwrap().named("kubernetes token");
        assert_eq!(
            file.describe().to_string(),
            "kubernetes token (token from /t)"
        );
    }
}
