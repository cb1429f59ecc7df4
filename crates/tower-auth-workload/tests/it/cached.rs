//! The sources behind the cache of `tower-auth`, as a program that sends such a token itself has them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::time::sleep;
use tower_auth::TokenCache;
use tower_auth_core::{Clock, Error, ErrorKind, TokenSource};
use tower_auth_io::{MapEnv, MemoryFiles, UnverifiedClaims, World};
use tower_auth_testing::{FakeEndpoint, Reply, TestClock};
use tower_auth_workload::{GitHubActions, KubernetesFile, SpiffeHelperFile};

use crate::identity::{AUDIENCE, jwt_of};

/// A token that is issued at this moment and lives for this many seconds.
fn issued(clock: &TestClock, lifetime: u64, id: &str) -> String {
    let now = clock
        .now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    jwt_of(json!({ "aud": AUDIENCE, "iat": now, "exp": now + lifetime, "jti": id }))
}

fn cached<P: TokenSource>(source: P, clock: &TestClock) -> TokenCache<P> {
    TokenCache::builder(source)
        .clock(clock.clone())
        .seed(1)
        .build()
}

async fn text<P: TokenSource>(cache: &TokenCache<P>) -> Result<String, Error> {
    let token = cache.get().await?;
    Ok(token.secret().expose().to_owned())
}

fn a_file(clock: &TestClock) -> (World, MemoryFiles) {
    let disk = MemoryFiles::new();
    let world = World::closed()
        .with_clock(clock.clone())
        .with_files(disk.clone());
    (world, disk)
}

#[tokio::test(start_paused = true)]
async fn w79_a_token_of_five_minutes_is_never_used_in_its_last_one() {
    let clock = TestClock::new();
    let server = Arc::new(FakeEndpoint::new());
    server.always({
        let clock = clock.clone();
        move |_, nth| {
            let token = issued(&clock, 300, &nth.to_string());
            Reply::json(json!({ "value": token }).to_string())
        }
    });
    let env = MapEnv::from([
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://pipelines.test/t"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"),
    ]);
    let world = World::closed()
        .with_clock(clock.clone())
        .with_transport(server.transport())
        .with_env(env);
    let cache = cached(GitHubActions::new(AUDIENCE, &world).unwrap(), &clock);
    for _ in 0..120 {
        let claims = UnverifiedClaims::of(&text(&cache).await.unwrap()).unwrap();
        let left = claims
            .expires_at()
            .unwrap()
            .duration_since(clock.now())
            .unwrap();
        assert!(left >= Duration::from_secs(60), "{left:?}");
        sleep(Duration::from_secs(10)).await;
    }
    let requests = server.request_count();
    assert!((5..=20).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn w83_a_token_whose_file_is_gone_serves_until_its_end() {
    let clock = TestClock::new();
    let (world, disk) = a_file(&clock);
    let first = issued(&clock, 3600, "1");
    disk.write("/t", first.clone());
    let cache = cached(KubernetesFile::new("/t", AUDIENCE, &world).unwrap(), &clock);
    assert_eq!(text(&cache).await.unwrap(), first);
    disk.remove("/t");
    for _ in 0..58 {
        sleep(Duration::from_secs(60)).await;
        assert_eq!(text(&cache).await.unwrap(), first);
    }
    sleep(Duration::from_secs(180)).await;
    let over = text(&cache).await.unwrap_err();
    assert_eq!(over.kind(), ErrorKind::Expired);
    let cause = std::error::Error::source(&over)
        .and_then(Error::find)
        .unwrap();
    assert_eq!(cause.kind(), ErrorKind::NotConfigured);

    let second = issued(&clock, 3600, "2");
    disk.write("/t", second.clone());
    sleep(Duration::from_secs(600)).await;
    assert_eq!(text(&cache).await.unwrap(), second);
}

#[tokio::test(start_paused = true)]
async fn w84_a_token_of_a_year_is_replaced_within_a_minute_of_its_file() {
    let clock = TestClock::new();
    let (world, disk) = a_file(&clock);
    let year = 365 * 24 * 3600;
    disk.write("/t", issued(&clock, year, "1"));
    let cache = cached(KubernetesFile::new("/t", AUDIENCE, &world).unwrap(), &clock);
    for minute in 0..10 {
        assert!(text(&cache).await.is_ok());
        sleep(Duration::from_secs(minute)).await;
    }
    let second = issued(&clock, year, "2");
    disk.write("/t", second.clone());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(text(&cache).await.unwrap(), second);
}

#[tokio::test(start_paused = true)]
async fn w94_what_spiffe_helper_has_half_written_is_never_served() {
    let clock = TestClock::new();
    let (world, disk) = a_file(&clock);
    let first = issued(&clock, 300, "1");
    disk.write("/t", first.clone());
    let cache = cached(
        SpiffeHelperFile::new("/t", AUDIENCE, &world).unwrap(),
        &clock,
    );
    assert_eq!(text(&cache).await.unwrap(), first);
    sleep(Duration::from_secs(120)).await;
    let second = issued(&clock, 300, "2");
    for partial in ["", &second[..20], &second[..second.len() / 2]] {
        disk.write("/t", partial);
        assert_eq!(text(&cache).await.unwrap(), first);
        sleep(Duration::from_secs(20)).await;
    }
    disk.write("/t", second.clone());
    sleep(Duration::from_secs(90)).await;
    assert_eq!(text(&cache).await.unwrap(), second);
}
