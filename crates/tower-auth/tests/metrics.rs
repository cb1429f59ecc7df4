//! What a cache counts with the feature `metrics`.
#![cfg(feature = "metrics")]
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a function of the tests fails the test"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::{AuthLayer, BoxError, ErrorKind, Token, TokenCache};
use tower_auth_testing::{Answer, Canary, Gate, LeakGuard, ScriptedSource, TestClock};

fn hour(text: &str) -> Answer {
    Answer::token(Token::bearer(text).expires_in(Duration::from_secs(3600)))
}

fn cache(source: &ScriptedSource, clock: &TestClock) -> TokenCache<ScriptedSource> {
    TokenCache::builder(source.clone())
        .clock(clock.clone())
        .seed(7)
        .build()
}

/// The metrics that are not zero: the name with its labels, and the value.
fn seen(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let all = snapshotter.snapshot().into_vec().into_iter();
    let values = all.map(|(key, _, _, value)| {
        let key = key.key();
        let labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => panic!("there are no histograms"),
        };
        (format!("{} {}", key.name(), labels.join(",")), value)
    });
    values.filter(|(_, value)| *value != 0.0).collect()
}

async fn refuse(cache: &TokenCache<ScriptedSource>) {
    let api = service_fn(|_: Request<()>| async {
        let refusal = Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .body(());
        Ok::<_, BoxError>(refusal.unwrap())
    });
    let request = Request::get("https://api.example.com/").body(()).unwrap();
    let service = AuthLayer::from_cache(cache.clone()).layer(api);
    service.oneshot(request).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn fetches_are_counted_by_reason_and_outcome() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let source = ScriptedSource::new([
        Answer::error(ErrorKind::Unavailable),
        hour("t1"),
        hour("t2"),
        hour("t3"),
    ]);
    let cache = cache(&source, &TestClock::new());
    cache.ready().await.unwrap();
    refuse(&cache).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    cache.refresh().await.unwrap();
    let seen = seen(&recorder.snapshotter());
    let count = |labels: &str| {
        let name = format!("tower_auth_fetches_total source=scripted source,{labels}");
        seen.get(&name).copied()
    };
    assert_eq!(count("reason=first,outcome=failed"), Some(1.0), "{seen:#?}");
    assert_eq!(
        count("reason=first,outcome=published"),
        Some(1.0),
        "{seen:#?}"
    );
    assert_eq!(
        count("reason=forced,outcome=published"),
        Some(1.0),
        "{seen:#?}"
    );
    assert_eq!(
        seen.keys()
            .filter(|name| name.contains("fetches_total"))
            .count(),
        4,
        "{seen:#?}"
    );
    assert_eq!(
        seen.get("tower_auth_refusals_total source=scripted source,outcome=renewing"),
        Some(&1.0),
        "{seen:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetch_without_progress_is_counted_as_such() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let source = ScriptedSource::new([hour("t1"), hour("t1")]);
    let cache = cache(&source, &TestClock::new());
    cache.ready().await.unwrap();
    cache.refresh().await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let seen = seen(&recorder.snapshotter());
    for name in [
        "tower_auth_fetches_total source=scripted source,reason=forced,outcome=kept",
        "tower_auth_no_progress source=scripted source",
    ] {
        assert_eq!(seen.get(name), Some(&1.0), "{seen:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_seconds_that_are_left_go_down_and_those_who_wait_are_counted() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let snapshotter = recorder.snapshotter();
    let gate = Gate::new();
    let source = ScriptedSource::new([hour("t1").behind(&gate)]);
    let cache = cache(&source, &TestClock::new());
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.ready().await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let now = seen(&snapshotter);
    assert_eq!(
        now.get("tower_auth_waiters source=scripted source"),
        Some(&1.0),
        "{now:#?}"
    );
    gate.open();
    waiting.await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let now = seen(&snapshotter);
    let left = now["tower_auth_usable_seconds source=scripted source"];
    assert!((3580.0..=3590.0).contains(&left), "{now:#?}");
    let lifetime = now["tower_auth_lifetime_seconds source=scripted source"];
    assert!((3580.0..=3590.0).contains(&lifetime), "{now:#?}");
    assert!(
        !now.contains_key("tower_auth_waiters source=scripted source"),
        "{now:#?}"
    );
    tokio::time::sleep(Duration::from_secs(600)).await;
    let later = seen(&snapshotter)["tower_auth_usable_seconds source=scripted source"];
    assert!((2980.0..=3030.0).contains(&later), "{later}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_ran_ahead_is_counted() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let clock = TestClock::new();
    let cache = cache(&ScriptedSource::new([hour("t1")]), &clock);
    cache.ready().await.unwrap();
    clock.step_forward(Duration::from_secs(300));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let seen = seen(&recorder.snapshotter());
    assert_eq!(
        seen.get("tower_auth_clock_jumps_total source=scripted source"),
        Some(&1.0),
        "{seen:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn fc_g12_labels_are_names_and_words_and_no_secret() {
    let recorder = DebuggingRecorder::new();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let canary = Canary::new("token");
    let source = ScriptedSource::new([hour(canary.text()), hour(canary.text())]);
    let cache = cache(&source, &TestClock::new());
    cache.ready().await.unwrap();
    refuse(&cache).await;
    cache.refresh().await.unwrap_err();
    let guard = LeakGuard::new();
    for (key, _, _, _) in recorder.snapshotter().snapshot().into_vec() {
        let key = key.key();
        guard.value("a metric", key);
        for label in key.labels() {
            let known = ["source", "key", "reason", "outcome"];
            assert!(known.contains(&label.key()), "{label:?}");
        }
    }
    assert!(!guard.is_empty());
    guard.assert_clean();
}
