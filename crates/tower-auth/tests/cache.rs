//! The token cache and its background task, on paused time.
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a function of the tests fails the test"
)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tower_auth::policy::RefreshOptions;
use tower_auth::{
    Credential, ErrorKind, FetchOutcome, HealthState, Reason, Token, TokenCache, TokenSource,
    bearer_fn,
};
use tower_auth_testing::{Answer, Gate, Outcome, ScriptedSource, TestClock, fresh_tokens};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn token(text: &str, lifetime: Duration) -> Answer {
    Answer::token(Token::bearer(text).expires_in(lifetime))
}

fn cache<P: TokenSource>(source: P) -> (TokenCache<P>, TestClock) {
    let clock = TestClock::new();
    let cache = TokenCache::builder(source)
        .clock(clock.clone())
        .seed(7)
        .build();
    (cache, clock)
}

/// Lets every other task run until nothing moves, without letting time pass.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Time passes in steps, as it does for a program, with somebody using the credential.
async fn pass<P: TokenSource>(cache: &TokenCache<P>, time: Duration) {
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end {
        let _ = cache.current();
        tokio::time::sleep(time / 64).await;
    }
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_before_the_first_use() {
    let source = fresh_tokens(seconds(60));
    let (cache, _clock) = cache(source.clone());
    tokio::time::sleep(seconds(600)).await;
    assert_eq!(source.call_count(), 0);
    assert!(cache.current().is_none());
    assert_eq!(cache.health().state(), HealthState::Empty);
}

#[tokio::test(start_paused = true)]
async fn it_renews_in_the_background_before_the_end() {
    let source = fresh_tokens(seconds(100));
    let (cache, _clock) = cache(source.clone());
    cache.ready().await.unwrap();
    for _ in 0..1000 {
        tokio::time::sleep(seconds(1)).await;
        assert!(cache.current().is_some(), "never without a credential");
    }
    let calls = source.call_count();
    assert!(
        (15..=40).contains(&calls),
        "{calls} fetches in ten lifetimes"
    );
    assert_eq!(source.calls()[1].reason(), Reason::Scheduled);
    assert!(source.calls()[1].has_previous());
    assert_eq!(source.max_in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_credential_in_use_is_renewed_in_time_however_short_its_life() {
    for lifetime in 3..60 {
        let source = fresh_tokens(seconds(lifetime));
        let (cache, _clock) = cache(source.clone());
        cache.ready().await.unwrap();
        for _ in 0..1000 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(cache.current().is_some(), "TTL {lifetime} s");
        }
        let renewals = &source.calls()[1..];
        assert!(
            renewals
                .iter()
                .all(|call| call.reason() == Reason::Scheduled)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_of_seconds_that_is_renewed_under_the_same_name_never_runs_out() {
    for seed in 0..50 {
        let source = ScriptedSource::from_rule(|_| token("the-session", seconds(4)));
        let cache = TokenCache::builder(source.clone())
            .clock(TestClock::new())
            .seed(seed)
            .build();
        cache.ready().await.unwrap();
        for _ in 0..400 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(cache.current().is_some(), "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_comes_into_use_late_is_renewed_all_the_same() {
    let source = fresh_tokens(seconds(600));
    let (cache, driver) = TokenCache::builder(source.clone())
        .clock(TestClock::new())
        .seed(7)
        .pair();
    tokio::spawn(driver);
    cache.ready().await.unwrap();
    source.called(2).await;
    // The second generation lies idle until well after its renewal would have been due.
    tokio::time::sleep(seconds(400)).await;
    assert_eq!(source.call_count(), 2);
    for _ in 0..180 {
        tokio::time::sleep(seconds(1)).await;
        assert!(cache.current().is_some());
    }
    assert_eq!(source.call_count(), 3);
}

#[tokio::test(start_paused = true)]
async fn fc_c01_ten_thousand_cold_callers_share_one_fetch() {
    let source = ScriptedSource::new([token("t", seconds(3600)).after(seconds(1))]);
    let cache = TokenCache::builder(source.clone())
        .clock(TestClock::new())
        .refresh(RefreshOptions::default().with_waiter_limit(10_000))
        .build();
    let callers: Vec<_> = (0..10_000)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get().await.map(drop) })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(source.call_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn fc_c02_cold_callers_share_the_failure_of_one_fetch() {
    let source = ScriptedSource::from_rule(|_| {
        Answer::error(ErrorKind::Unavailable).after(Duration::from_millis(50))
    });
    let (cache, _clock) = cache(source.clone());
    let start = tokio::time::Instant::now();
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get().await })
        })
        .collect();
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.source_name(), Some("scripted source"));
    }
    let waited = start.elapsed();
    assert!(
        waited <= seconds(10) + Duration::from_millis(50),
        "{waited:?}"
    );
    let calls = source.call_count();
    assert!(
        (1..=5).contains(&calls),
        "{calls} fetches for one backoff each"
    );
    assert_eq!(source.max_in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn fc_c03_one_caller_too_many_is_told_at_once() {
    let source = ScriptedSource::new([Answer::hang()]).then_repeat_last();
    let (cache, _clock) = cache(source);
    let mut waiting: Vec<_> = (0..1024)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get().await })
        })
        .collect();
    settle().await;
    let start = tokio::time::Instant::now();
    assert_eq!(cache.get().await.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(start.elapsed(), Duration::ZERO);
    // A place is free as soon as its caller goes.
    waiting.pop().unwrap().abort();
    settle().await;
    assert_eq!(
        cache.get().await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test(start_paused = true)]
async fn fc_c04_a_cancelled_caller_cancels_nothing_else() {
    // Drop the caller after each possible number of polls; the fetch goes on and serves the next one.
    for polls in 0..6 {
        let gate = Gate::new();
        let source = ScriptedSource::new([token("t", seconds(3600)).behind(&gate)]);
        let (cache, _clock) = cache(source.clone());
        {
            let mut caller = pin!(cache.get());
            for _ in 0..polls {
                let mut cx = Context::from_waker(Waker::noop());
                let _ = caller.as_mut().poll(&mut cx);
                settle().await;
            }
        }
        let other = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get().await }
        });
        settle().await;
        gate.open();
        other.await.unwrap().unwrap();
        assert_eq!(source.call_count(), 1, "after {polls} polls");
        assert_eq!(source.last_call().outcome(), Outcome::Answered);
    }
}

#[tokio::test(start_paused = true)]
async fn fc_c05_a_fetch_that_all_callers_left_is_kept() {
    let gate = Gate::new();
    let source = ScriptedSource::new([token("t", seconds(3600)).behind(&gate)]);
    let (cache, _clock) = cache(source.clone());
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get().await })
        })
        .collect();
    settle().await;
    for caller in &callers {
        caller.abort();
    }
    settle().await;
    gate.open();
    settle().await;
    assert!(cache.current().is_some());
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(source.call_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn fc_c06_a_panic_in_a_source_is_a_failed_attempt() {
    let source = ScriptedSource::new([Answer::panic("canary"), token("t", seconds(3600))]);
    let (cache, _clock) = cache(source.clone());
    cache
        .get()
        .await
        .expect("the second attempt succeeds within the wait budget");
    assert_eq!(source.call_count(), 2);

    let source = ScriptedSource::from_rule(|_| Answer::panic("canary"));
    let (cache, _clock) = self::cache(source);
    let error = cache.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!format!("{error:?} {error}").contains("canary"));
}

#[tokio::test(start_paused = true)]
async fn fc_c07_a_source_that_hangs_is_dropped_and_asked_anew() {
    let source = ScriptedSource::new([Answer::hang(), token("t", seconds(3600))]);
    let (cache, _clock) = cache(source.clone());
    let start = tokio::time::Instant::now();
    let error = cache.get().await.unwrap_err();
    assert_eq!(
        start.elapsed(),
        seconds(10),
        "a caller waits its own budget"
    );
    assert!(error.is_timeout());
    tokio::time::sleep(seconds(21)).await;
    assert_eq!(source.calls()[0].outcome(), Outcome::Dropped);
    cache.get().await.unwrap();
    assert_eq!(source.max_in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn fc_a01_a_slow_answer_comes_too_late_for_its_caller_and_in_time_for_the_next() {
    let source = ScriptedSource::new([token("t", seconds(3600)).after(seconds(25))]);
    let (cache, _clock) = cache(source.clone());
    assert!(cache.get().await.unwrap_err().is_timeout());
    tokio::time::sleep(seconds(16)).await;
    assert!(cache.current().is_some());
    assert_eq!(source.call_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn fc_a02_a_hanging_issuer_does_not_disturb_those_who_hold_a_credential() {
    let source =
        ScriptedSource::new([token("t", seconds(3600)), Answer::hang()]).then_repeat_last();
    let (cache, _clock) = cache(source.clone());
    cache.ready().await.unwrap();
    // Up to ten seconds before the end, the margin of a credential this long.
    for _ in 0..3580 {
        tokio::time::sleep(seconds(1)).await;
        assert!(cache.current().is_some());
    }
    assert!(source.call_count() > 2, "it is tried again");
    assert_eq!(source.max_in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn fc_a06_a_failed_renewal_keeps_the_good_credential() {
    let source = ScriptedSource::new([token("t", seconds(1000))])
        .then_rule(|_| Answer::error(ErrorKind::Denied));
    let (cache, _clock) = cache(source.clone());
    cache.ready().await.unwrap();
    for _ in 0..985 {
        tokio::time::sleep(seconds(1)).await;
        assert!(cache.get().await.is_ok());
    }
    assert!(cache.health().failures() > 0);
    tokio::time::sleep(seconds(10)).await;
    let error = cache.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Expired);
    let cause = std::error::Error::source(&error).expect("the reason is the cause");
    assert!(cause.to_string().contains("the script says so"), "{cause}");
    assert_eq!(cache.health().state(), HealthState::Expired);
}

#[tokio::test(start_paused = true)]
async fn fc_a29_no_error_is_for_ever() {
    let source = ScriptedSource::from_rule(|call| {
        if call < 40 {
            Answer::error(ErrorKind::InvalidConfig)
        } else {
            token("t", seconds(3600))
        }
    });
    let (cache, _clock) = cache(source.clone());
    for _ in 0..10_000 {
        if cache.get().await.is_ok() {
            break;
        }
        tokio::time::sleep(seconds(60)).await;
    }
    assert!(
        cache.get().await.is_ok(),
        "after {} calls",
        source.call_count()
    );
}

#[tokio::test(start_paused = true)]
async fn fc_a37_random_failures_are_not_seen_while_a_credential_is_usable() {
    let source = ScriptedSource::from_rule(|call| {
        if call > 0 && call % 3 == 0 {
            Answer::error(ErrorKind::Unavailable)
        } else {
            token(&format!("t{call}"), seconds(300))
        }
    });
    let (cache, _clock) = cache(source.clone());
    cache.ready().await.unwrap();
    for _ in 0..20_000 {
        tokio::time::sleep(seconds(1)).await;
        assert!(cache.current().is_some());
    }
}

#[test]
fn fc_c09_a_runtime_that_ends_mid_flight_wakes_those_on_another() {
    let gate = Gate::new();
    let source = ScriptedSource::new([
        token("t1", seconds(60)).behind(&gate),
        token("t2", seconds(60)),
    ]);
    let (cache, _clock) = cache(source.clone());
    let first = paused_runtime();
    first.block_on(async {
        let waiting = cache.get();
        assert!(
            tokio::time::timeout(Duration::from_millis(1), waiting)
                .await
                .is_err()
        );
    });
    assert_eq!(source.in_flight(), 1);
    drop(first);
    assert_eq!(source.in_flight(), 0, "the fetch went with its runtime");
    paused_runtime().block_on(cache.get()).unwrap();
    assert_eq!(source.call_count(), 2);
}

#[test]
fn fc_c10_a_cache_outlives_the_runtime_it_was_used_on() {
    let source = fresh_tokens(seconds(60));
    let (cache, clock) = cache(source.clone());
    paused_runtime().block_on(cache.ready()).unwrap();
    clock.suspend(seconds(120));
    paused_runtime().block_on(cache.ready()).unwrap();
    assert_eq!(source.call_count(), 2);
}

#[test]
fn fc_c10_a_runtime_that_nobody_polls_does_not_hold_up_another() {
    let source = fresh_tokens(seconds(60));
    let (cache, clock) = cache(source.clone());
    let idle = paused_runtime();
    idle.block_on(cache.ready()).unwrap();
    clock.suspend(seconds(120));
    // The worker is alive on a runtime that does not move.
    paused_runtime().block_on(cache.ready()).unwrap();
    assert_eq!(source.call_count(), 2);
    // The replaced worker finds out and goes without harm.
    idle.block_on(settle());
    assert_eq!(source.max_in_flight(), 1);
    drop(idle);
    assert!(cache.current().is_some());
}

#[test]
fn fc_c11_a_cache_can_be_built_outside_a_runtime() {
    let (cache, _clock) = cache(fresh_tokens(seconds(60)));
    assert!(cache.current().is_none());
    // Used outside of one, it says so instead of panicking.
    let mut caller = pin!(cache.get());
    let Poll::Ready(Err(error)) = caller
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("no runtime, no fetch")
    };
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("tokio runtime"), "{error}");
    paused_runtime().block_on(cache.ready()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn fc_c12_the_worker_ends_with_the_last_handle() {
    let (cache, driver) = TokenCache::pair(fresh_tokens(seconds(3600)));
    let driver = tokio::spawn(driver);
    let other = cache.clone();
    cache.ready().await.unwrap();
    drop(cache);
    settle().await;
    assert!(!driver.is_finished());
    drop(other);
    settle().await;
    assert!(driver.is_finished(), "at once, not at the next timer");
}

#[tokio::test(start_paused = true)]
async fn fc_c13_the_last_handle_takes_the_fetch_with_it() {
    let source = ScriptedSource::new([Answer::hang()]);
    let (cache, _clock) = cache(source.clone());
    let caller = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get().await }
    });
    source.called(1).await;
    caller.abort();
    drop(cache);
    settle().await;
    assert_eq!(source.last_call().outcome(), Outcome::Dropped);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_was_dropped_is_replaced() {
    let source = fresh_tokens(seconds(60));
    let (cache, driver) = TokenCache::builder(source.clone())
        .clock(TestClock::new())
        .pair();
    drop(driver);
    cache.ready().await.unwrap();
    assert_eq!(source.call_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_nobody_spawned_is_replaced_after_a_second() {
    let source = fresh_tokens(seconds(60));
    let (cache, _driver) = TokenCache::builder(source.clone())
        .clock(TestClock::new())
        .pair();
    let start = tokio::time::Instant::now();
    cache.ready().await.unwrap();
    assert!(start.elapsed() >= seconds(1) && start.elapsed() < seconds(2));
}

#[tokio::test(start_paused = true)]
async fn fc_c23_a_renewal_that_ends_after_the_end_serves_those_who_wait() {
    let source = ScriptedSource::new([
        token("t1", seconds(20)),
        token("t2", seconds(3600)).after(seconds(15)),
    ]);
    let (cache, _clock) = cache(source.clone());
    cache.ready().await.unwrap();
    let mut last = 0;
    for _ in 0..40 {
        let _ = cache.get().await;
        last = cache.health().generation();
        tokio::time::sleep(seconds(1)).await;
    }
    assert_eq!(last, 2);
    assert_eq!(source.call_count(), 2, "no second fetch for the gap");
}

#[tokio::test(start_paused = true)]
async fn fc_a24_a_lifetime_of_a_second_makes_no_hot_loop() {
    for lifetime in [1, 2, 3, 10] {
        let source = fresh_tokens(seconds(lifetime));
        let (cache, _clock) = cache(source.clone());
        for _ in 0..600 {
            let _ = cache.get().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let calls = source.calls();
        for pair in calls.windows(2) {
            assert!(
                pair[1].at() - pair[0].at() >= seconds(1),
                "TTL {lifetime} s"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fc_b04_a_step_back_of_the_wall_clock_extends_nothing() {
    let source = ScriptedSource::new([token("t", seconds(600))])
        .then_rule(|_| Answer::error(ErrorKind::Unavailable));
    let (cache, clock) = cache(source);
    cache.ready().await.unwrap();
    pass(&cache, seconds(100)).await;
    clock.step_back(seconds(3600));
    pass(&cache, seconds(480)).await;
    assert!(cache.current().is_some());
    pass(&cache, seconds(30)).await;
    assert!(
        cache.current().is_none(),
        "600 s are over, whatever the wall clock says"
    );
}

#[tokio::test(start_paused = true)]
async fn fc_b05_a_step_forward_costs_one_fetch() {
    let source = fresh_tokens(seconds(600));
    let (cache, clock) = cache(source.clone());
    cache.ready().await.unwrap();
    clock.step_forward(seconds(3600));
    pass(&cache, seconds(60)).await;
    cache.ready().await.unwrap();
    assert_eq!(source.call_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn fc_b06_after_a_suspend_nothing_expired_is_used() {
    let source = fresh_tokens(seconds(600));
    let (cache, clock) = cache(source.clone());
    cache.ready().await.unwrap();
    clock.suspend(seconds(7200));
    // No timer has fired yet: the first use looks at the clock by itself.
    assert!(cache.current().is_none());
    cache.ready().await.unwrap();
    assert_eq!(source.call_count(), 2);
    assert_eq!(source.last_call().reason(), Reason::Expired);
}

#[tokio::test(start_paused = true)]
async fn fc_b07_a_fetch_that_slept_through_a_suspend_is_dropped() {
    let source = ScriptedSource::new([Answer::hang(), token("t", seconds(600))]);
    let (cache, clock) = cache(source.clone());
    let caller = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get().await }
    });
    source.called(1).await;
    clock.suspend(seconds(7200));
    tokio::time::sleep(seconds(31)).await;
    assert_eq!(source.calls()[0].outcome(), Outcome::Dropped);
    let _ = caller.await;
    cache.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unused_generation_is_not_renewed() {
    let source = fresh_tokens(seconds(100));
    let (cache, _clock) = cache(source.clone());
    cache.ready().await.unwrap();
    tokio::time::sleep(seconds(10_000)).await;
    let calls = source.call_count();
    assert!(calls <= 2, "{calls} fetches for one use");
    cache.get().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_static_credential_is_fetched_once() {
    let (cache, clock) = cache("a-fixed-token");
    cache.ready().await.unwrap();
    clock.suspend(seconds(365 * 24 * 3600));
    tokio::time::sleep(seconds(1_000_000)).await;
    assert!(cache.current().is_some());
    assert_eq!(cache.health().fetches(), 1);
    assert_eq!(cache.health().usable_until(), None);
}

#[tokio::test(start_paused = true)]
async fn a_per_request_source_is_asked_for_each_request_at_the_same_time() {
    let source =
        ScriptedSource::from_rule(|call| token(&format!("t{call}"), seconds(60)).after(seconds(1)))
            .per_request();
    let (cache, _clock) = cache(source.clone());
    let start = tokio::time::Instant::now();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get().await.unwrap().fingerprint() })
        })
        .collect();
    let mut seen = std::collections::HashSet::new();
    for caller in callers {
        seen.insert(caller.await.unwrap());
    }
    assert_eq!(seen.len(), 50);
    assert_eq!(start.elapsed(), seconds(1));
    assert!(cache.current().is_none(), "nothing is kept");
}

#[tokio::test(start_paused = true)]
async fn refresh_fetches_and_reports() {
    let source = ScriptedSource::new([
        token("t1", seconds(86_400)),
        token("t2", seconds(86_400)),
        Answer::error(ErrorKind::Denied),
    ]);
    let (cache, _clock) = cache(source.clone());
    cache.ready().await.unwrap();
    cache.refresh().await.unwrap();
    assert_eq!(cache.health().generation(), 2);
    assert_eq!(source.last_call().reason(), Reason::Forced);
    pass(&cache, seconds(301)).await;
    assert_eq!(cache.refresh().await.unwrap_err().kind(), ErrorKind::Denied);
    assert!(cache.current().is_some(), "the good one stays");
}

#[tokio::test(start_paused = true)]
async fn fc_c24_refresh_in_a_loop_is_rate_limited() {
    let source = fresh_tokens(seconds(3600));
    let (cache, _clock) = cache(source.clone());
    let end = tokio::time::Instant::now() + seconds(3600);
    while tokio::time::Instant::now() < end {
        let _ = cache.refresh().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let calls = source.call_count();
    assert!(calls <= 25, "{calls} fetches in an hour");
}

#[tokio::test(start_paused = true)]
async fn shutdown_drops_the_fetch_and_ends_the_worker() {
    let source = ScriptedSource::new([token("t", seconds(100)), Answer::hang()]);
    let (cache, _clock) = cache(source.clone());
    cache.ready().await.unwrap();
    source.called(2).await;
    assert_eq!(source.in_flight(), 1);
    cache.shutdown().await;
    assert_eq!(source.in_flight(), 0);
    assert!(cache.get().await.is_ok(), "it serves until its end");
    tokio::time::sleep(seconds(100)).await;
    let error = cache.get().await.unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
    assert_eq!(source.call_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_sees_what_happens_and_ends_with_the_cache() {
    let source = ScriptedSource::new([
        Answer::error(ErrorKind::Unavailable),
        token("t1", seconds(3600)),
    ]);
    let (cache, _clock) = cache(source);
    let mut health = cache.subscribe();
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(health) = health.changed().await {
            if let Some(fetch) = health.last_fetch() {
                seen.push((
                    fetch.reason(),
                    matches!(fetch.outcome(), FetchOutcome::Published { .. }),
                ));
            }
        }
        seen
    });
    cache.ready().await.unwrap();
    settle().await;
    drop(cache);
    let seen = seen.await.unwrap();
    assert!(seen.contains(&(Reason::First, false)), "{seen:?}");
    assert!(seen.contains(&(Reason::First, true)), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_travel_is_an_error_that_names_the_source() {
    for text in [
        "",
        " ",
        "a\nb",
        "a\0b",
        "ä",
        "a b",
        "\"quoted\"",
        &"x".repeat(100_000),
    ] {
        let text = text.to_owned();
        let source = bearer_fn(move || std::future::ready(Ok(text.clone()))).named("my broker");
        let (cache, _clock) = cache(source);
        let error = cache.get().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.to_string().starts_with("my broker: "), "{error}");
        assert!(error.to_string().len() < 300, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn fc_g14_old_generations_are_not_kept() {
    let source = fresh_tokens(seconds(100));
    let (cache, _clock) = cache(source);
    let mut generations = Vec::new();
    for _ in 0..10 {
        generations.push(Arc::downgrade(&cache.get().await.unwrap()));
        pass(&cache, seconds(60)).await;
    }
    let alive = generations
        .iter()
        .filter(|old| old.upgrade().is_some())
        .count();
    assert!(alive <= 2, "{alive} generations alive");
}

#[test]
fn debug_of_a_cache_shows_no_secret() {
    let (cache, _clock) = cache("canary-secret");
    paused_runtime().block_on(cache.ready()).unwrap();
    let shown = format!("{cache:?} {:?} {:?}", cache.health(), cache.subscribe());
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("fixed bearer token"), "{shown}");
}

fn paused_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}
