//! Refresh tokens that change with each use.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Request;
use tower_auth_core::{Error, ErrorKind, Fetch, Reason, Secret, Token, TokenSource};
use tower_auth_io::{ManualClock, MemoryFiles, World};
use tower_auth_oauth::{
    ClientAuth, Putting, RefreshToken, RefreshTokenFile, RefreshTokenInMemory, RefreshTokenLease,
    RefreshTokenStore, Taking, TokenEndpoint,
};
use tower_auth_testing::{FakeEndpoint, Gate, LeakGuard, Reply};

const PATH: &str = "/state/refresh";

struct Bench {
    issuer: FakeEndpoint,
    clock: ManualClock,
    files: MemoryFiles,
    world: World,
}

fn bench() -> Bench {
    let issuer = FakeEndpoint::new();
    let clock = ManualClock::default();
    let files = MemoryFiles::new();
    let world = World::closed()
        .with_transport(issuer.transport())
        .with_clock(clock.clone())
        .with_files(files.clone());
    Bench {
        issuer,
        clock,
        files,
        world,
    }
}

impl Bench {
    fn source(&self, store: impl RefreshTokenStore) -> RefreshToken {
        let endpoint = TokenEndpoint::new("https://issuer.test/token", &self.world).unwrap();
        RefreshToken::new(endpoint, ClientAuth::none("id").unwrap(), store)
    }

    /// With the refresh token `r0` in a file.
    fn file(&self) -> RefreshTokenFile {
        self.files.write(PATH, "r0");
        self.files.set_mode(PATH, 0o600);
        RefreshTokenFile::new(PATH, &self.world)
    }

    fn stored(&self) -> String {
        String::from_utf8(self.files.contents(PATH).unwrap()).unwrap()
    }

    /// The refresh tokens that were sent.
    fn sent(&self) -> Vec<String> {
        self.issuer.requests().iter().map(refresh_token).collect()
    }
}

fn refresh_token<B: AsRef<[u8]>>(request: &Request<B>) -> String {
    form_urlencoded::parse(request.body().as_ref())
        .find(|(name, _)| name == "refresh_token")
        .unwrap()
        .1
        .into_owned()
}

fn token(next: Option<&str>) -> Reply {
    let next = next.map(|next| format!(r#","refresh_token":"{next}""#));
    Reply::json(format!(
        r#"{{"access_token":"t","token_type":"Bearer","expires_in":60{}}}"#,
        next.unwrap_or_default()
    ))
}

fn refused() -> Reply {
    Reply::json(r#"{"error":"invalid_grant"}"#).with_status(400)
}

async fn fetch(source: &RefreshToken) -> Result<Token, Error> {
    source.fetch(&Fetch::new(Reason::Scheduled)).await
}

#[tokio::test]
async fn o7_a_new_refresh_token_is_used_next() {
    let bench = bench();
    let source = bench
        .source(RefreshTokenInMemory::new("r0"))
        .with_scope("read");
    for next in ["r1", "r2", "r3"] {
        bench.issuer.reply(token(Some(next)));
        fetch(&source).await.unwrap();
    }
    assert_eq!(bench.sent(), ["r0", "r1", "r2"]);
    let body = bench.issuer.last_request().into_body();
    assert_eq!(
        body,
        "grant_type=refresh_token&scope=read&refresh_token=r2&client_id=id"
    );
}

/// Writes down what happens, and fails as it is told.
#[derive(Clone, Default)]
struct Recording {
    kept: Arc<Mutex<String>>,
    fails: Arc<Mutex<bool>>,
}

impl RefreshTokenStore for Recording {
    fn take(&self) -> Taking<'_> {
        let kept = self.kept.lock().unwrap().clone();
        Box::pin(async move { Ok(RefreshTokenLease::new(Secret::from(kept), ())) })
    }

    fn put<'a>(&'a self, _: &'a RefreshTokenLease, token: Secret) -> Putting<'a> {
        Box::pin(async move {
            // Not at once, so that a fetch can be dropped here.
            tokio::task::yield_now().await;
            if *self.fails.lock().unwrap() {
                return Err(Error::new(ErrorKind::InvalidConfig, "the disk is full"));
            }
            *self.kept.lock().unwrap() = token.expose().to_owned();
            Ok(())
        })
    }

    fn place(&self) -> String {
        "a recording".to_owned()
    }
}

#[tokio::test]
async fn o7_the_new_one_is_stored_before_the_access_token_is_given_out() {
    let bench = bench();
    let store = Recording::default();
    *store.kept.lock().unwrap() = "r0".to_owned();
    *store.fails.lock().unwrap() = true;
    let source = bench.source(store.clone());
    bench.issuer.reply(token(Some("r1")));
    let error = fetch(&source).await.unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
    // As long as it cannot be stored the issuer is left alone, and nothing is lost.
    fetch(&source).await.unwrap_err();
    *store.fails.lock().unwrap() = false;
    bench.issuer.reply(token(None));
    fetch(&source).await.unwrap();
    assert_eq!(bench.sent(), ["r0", "r1"]);
    assert_eq!(*store.kept.lock().unwrap(), "r1");
}

#[tokio::test]
async fn fc_a42_a_fetch_that_is_dropped_while_storing_loses_nothing() {
    let bench = bench();
    let store = Recording::default();
    *store.kept.lock().unwrap() = "r0".to_owned();
    let source = bench.source(store.clone());
    bench.issuer.reply(token(Some("r1")));
    {
        let mut fetch = pin!(fetch(&source));
        while bench.issuer.request_count() == 0 {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(fetch.as_mut().poll(cx)));
            assert!(polled.await.is_pending());
        }
    }
    assert_eq!(*store.kept.lock().unwrap(), "r0");
    bench.issuer.reply(token(None));
    fetch(&source).await.unwrap();
    assert_eq!(bench.sent(), ["r0", "r1"]);
    assert_eq!(*store.kept.lock().unwrap(), "r1");
}

#[tokio::test]
async fn fc_a42_an_answer_that_is_lost_makes_one_attempt_with_the_old_one() {
    let bench = bench();
    let source = bench.source(bench.file());
    bench.issuer.reply(Reply::reset());
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    bench.issuer.assert_done();
    // Within the issuer's grace it is still good; after it, somebody has to log in.
    bench.issuer.reply(refused());
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(bench.sent(), ["r0", "r0"]);
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("log in again"), "{error}");
}

#[tokio::test]
async fn o8_without_a_new_one_the_old_one_is_used_again() {
    let bench = bench();
    let source = bench.source(bench.file());
    for reply in [token(None), token(Some(" ")), token(Some("r0"))] {
        bench.issuer.reply(reply);
        fetch(&source).await.unwrap();
    }
    assert_eq!(bench.sent(), ["r0", "r0", "r0"]);
    assert_eq!(bench.stored(), "r0");
}

#[tokio::test]
async fn o9_a_refused_one_is_not_sent_again_for_a_minute() {
    let bench = bench();
    let store = RefreshTokenInMemory::new("r0");
    let source = bench.source(store.clone());
    bench.issuer.reply(refused());
    for _ in 0..3 {
        let error = fetch(&source).await.unwrap_err();
        assert_eq!(error.code(), Some("invalid_grant"));
        bench.clock.advance(Duration::from_secs(19));
    }
    bench.issuer.assert_done();
    bench.clock.advance(Duration::from_secs(4));
    bench.issuer.reply(refused());
    fetch(&source).await.unwrap_err();
    assert_eq!(bench.issuer.request_count(), 2);
    // Another one is tried at once.
    store.replace("new");
    bench.issuer.reply(token(None));
    fetch(&source).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn fc_a43_two_sources_take_turns_and_the_second_adopts_the_new_one() {
    let bench = bench();
    let store = bench.file();
    let other = RefreshTokenFile::new(PATH, &bench.world);
    let (one, two) = (bench.source(store), bench.source(other));
    let gate = Gate::new();
    bench.issuer.reply(token(Some("r1")).behind(&gate));
    bench.issuer.reply(token(Some("r2")));
    let open = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.issuer.request_count(), 1, "one at a time");
        gate.open();
    };
    let (first, second, ()) = tokio::join!(fetch(&one), fetch(&two), open);
    first.unwrap();
    second.unwrap();
    assert_eq!(bench.sent(), ["r0", "r1"]);
    assert_eq!(bench.stored(), "r2");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_says_what_is_at_stake() {
    let bench = bench();
    let source = bench.source(bench.file());
    bench.files.fail_writes(PATH, io::ErrorKind::StorageFull);
    bench.issuer.reply(token(Some("canary-r1")));
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(error.source_name(), Some("oauth refresh token"));
    let said = error.to_string();
    assert!(said.contains(PATH) && said.contains("writable"), "{said}");
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test]
async fn a_missing_file_is_not_configured() {
    let bench = bench();
    let source = bench.source(RefreshTokenFile::new(PATH, &bench.world));
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert!(error.to_string().contains(PATH), "{error}");
    assert!(source.describe().to_string().contains(PATH));
}

#[test]
fn debug_shows_no_refresh_token() {
    let bench = bench();
    let guard = LeakGuard::new();
    let canary = tower_auth_testing::Canary::new("refresh-token");
    guard.watch([&canary]);
    let store = RefreshTokenInMemory::new(canary.secret());
    guard.value("store", &store);
    guard.value("source", &bench.source(store));
    guard.value("lease", &RefreshTokenLease::new(canary.secret(), ()));
    guard.assert_clean();
}
