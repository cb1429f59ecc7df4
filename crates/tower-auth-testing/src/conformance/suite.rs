//! The tests behind [`conformance!`](crate::conformance!), one function each.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tower_auth_core::{Error, ErrorKind, Reason, TokenSource};

use super::bench::{Bench, run};
use super::fault::{OTHER_HOST, RETRY_AFTER};
use super::{Fault, Harness};
use crate::leaks::Needles;

pub fn a_success_gives_a_credential_with_an_expiry<H: Harness>(harness: H) {
    run(harness, async |bench: Bench<H>| {
        let source = bench.source();
        bench.fetch(&source, &bench.cx(), "at the start").await;
        let made = bench.requests();
        let said = bench.harness.requests();
        assert_eq!(
            made, said,
            "the first fetch made {made} requests, the harness says {said}"
        );
    });
}

pub fn every_reason_is_answered<H: Harness>(harness: H) {
    run(harness, async |bench: Bench<H>| {
        let source = bench.source();
        for reason in REASONS {
            let cx = bench.harness.fetch(reason);
            let when = format!("for the reason \"{reason}\"");
            bench.fetch(&source, &cx, &when).await;
        }
    });
}

pub fn every_fetch_asks_the_server<H: Harness>(harness: H) {
    run(harness, async |bench: Bench<H>| {
        let source = bench.source();
        for reason in REASONS {
            let before = bench.requests();
            let cx = bench.harness.fetch(reason);
            bench.fetch(&source, &cx, "once more").await;
            assert!(
                bench.requests() > before,
                "a fetch for the reason \"{reason}\" made no request: the source has a cache inside"
            );
        }
    });
}

pub fn fetches_at_the_same_time_do_not_disturb_each_other<H: Harness>(harness: H) {
    run(harness, async |bench: Bench<H>| {
        let source = bench.source();
        bench.slow_down(POLLS);
        let cx = bench.cx();
        let when = "beside another fetch";
        tokio::join!(
            bench.fetch(&source, &cx, when),
            bench.fetch(&source, &cx, when)
        );
    });
}

pub fn a_fetch_can_be_dropped_wherever_it_waits<H: Harness>(harness: H) {
    run(harness, async |bench: Bench<H>| {
        let source = bench.source();
        for polls in 0..MAX_POLLS {
            bench.slow_down(POLLS);
            let is_done = {
                let cx = bench.cx();
                let mut fetch = pin!(source.fetch(&cx));
                let mut is_done = false;
                for _ in 0..polls {
                    let polled =
                        std::future::poll_fn(|task| Poll::Ready(fetch.as_mut().poll(task)));
                    is_done = polled.await.is_ready();
                    if is_done {
                        break;
                    }
                    // Lets timers and other tasks of the source get on.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                is_done
            };
            if is_done {
                return;
            }
            bench.slow_down(0);
            let when = format!("after one that was dropped at poll {polls}");
            bench.fetch(&source, &bench.cx(), &when).await;
        }
        panic!("a fetch is still not done after {MAX_POLLS} polls");
    });
}

pub fn the_description_names_the_source_and_no_secret<H: Harness>(harness: H) {
    run(harness, async |bench: Bench<H>| {
        let description = bench.source().describe();
        assert!(
            !description.name().trim().is_empty(),
            "the source has no name"
        );
        for (setting, from) in description.settings() {
            assert!(
                !setting.trim().is_empty() && !from.trim().is_empty(),
                "the description of {} has a blank setting",
                description.name()
            );
        }
    });
}

pub fn secrets_travel_in_sensitive_headers_and_bodies_alone<H: Harness>(harness: H) {
    run(harness, async |bench: Bench<H>| {
        let secrets = bench.harness.secrets();
        let needles = Needles::new(&secrets);
        let source = bench.source();
        for reason in REASONS {
            let cx = bench.harness.fetch(reason);
            bench.fetch(&source, &cx, "once more").await;
        }
        for request in bench.world.endpoint().requests() {
            bench
                .guard
                .text("a request's URL", request.uri().to_string());
            for (name, value) in request.headers() {
                let text = String::from_utf8_lossy(value.as_bytes());
                assert!(
                    value.is_sensitive() || needles.find(&text).is_empty(),
                    "the header {name} has a secret and is not marked sensitive"
                );
            }
        }
    });
}

pub fn a_replaced_secret_is_used_by_the_next_fetch<H: Harness>(harness: H) {
    run(harness, async |bench: Bench<H>| {
        let source = bench.source();
        bench.fetch(&source, &bench.cx(), "at the start").await;
        let Some(check) = bench.harness.rotate(&bench.world) else {
            return;
        };
        let before = bench.requests();
        bench.fetch(&source, &bench.cx(), "after a rotation").await;
        let requests = bench.world.endpoint().requests();
        check(requests.get(before..).unwrap_or_default());
    });
}

pub fn a_refusal_is_denied<H: Harness>(harness: H) {
    run(harness, async |bench: Bench<H>| {
        for refusal in bench.harness.refusals() {
            let source = bench.source();
            // The last request of a fetch is the one that asks for the credential.
            let last = bench.harness.requests().saturating_sub(1);
            bench.answer_with(last, refusal.clone());
            let Ok(result) = bench.try_fetch(&source, &bench.cx()).await else {
                panic!("a fetch hung although it was refused with {refusal:?}");
            };
            let error = failure(result.map(drop), &format!("{refusal:?}"));
            bench.guard.assert_clean();
            expect_kind(&error, &[ErrorKind::Denied], &format!("{refusal:?}"));
            bench.fetch(&source, &bench.cx(), "after a refusal").await;
        }
    });
}

pub fn a_server_that_hangs_can_be_given_up<H: Harness>(harness: H) {
    run(harness, async |bench: Bench<H>| {
        for nth in 0..bench.harness.requests() {
            let source = bench.source();
            bench.inject(nth, Fault::Hang);
            if let Ok(result) = bench.try_fetch(&source, &bench.cx()).await {
                let error = failure(result.map(drop), "a server that hangs");
                expect_kind(
                    &error,
                    &bench.harness.kinds(Fault::Hang),
                    "a server that hangs",
                );
                assert!(
                    error.is_timeout(),
                    "the error does not say that time ran out: {error}"
                );
            }
            bench
                .fetch(&source, &bench.cx(), "after one that hung")
                .await;
        }
    });
}

macro_rules! faults {
    ($($test:ident: $fault:expr;)+) => {$(
        pub fn $test<H: Harness>(harness: H) {
            survives(harness, $fault);
        }
    )+};
}

faults! {
    a_connection_that_is_refused_is_unavailable: Fault::Refused;
    a_connection_that_is_reset_is_unavailable: Fault::Reset;
    an_answer_that_breaks_off_is_unavailable: Fault::BreaksOff;
    status_408_is_unavailable: Fault::Status(408);
    status_425_is_unavailable: Fault::Status(425);
    status_429_is_unavailable: Fault::Status(429);
    status_500_is_unavailable: Fault::Status(500);
    status_502_is_unavailable: Fault::Status(502);
    status_503_is_unavailable: Fault::Status(503);
    status_504_is_unavailable: Fault::Status(504);
    a_retry_after_in_seconds_is_passed_on: Fault::RetryAfterSeconds;
    a_retry_after_as_a_date_is_passed_on: Fault::RetryAfterDate;
    a_redirect_is_not_followed: Fault::Redirect;
    a_web_page_is_malformed: Fault::Html;
    a_truncated_answer_is_malformed: Fault::Truncated;
    an_empty_answer_is_malformed: Fault::Empty;
    an_answer_without_its_fields_is_malformed: Fault::NoFields;
    an_answer_that_is_null_is_malformed: Fault::Null;
    an_answer_of_wrong_types_is_malformed: Fault::WrongTypes;
    an_endless_answer_is_malformed: Fault::Oversize;
    a_secret_echoed_in_the_description_is_not_shown: Fault::EchoInDescription;
    a_secret_echoed_as_the_code_is_not_shown: Fault::EchoAsCode;
    a_secret_echoed_in_a_web_page_is_not_shown: Fault::EchoInHtml;
}

/// Meets each request of a fetch with the fault in turn.
fn survives<H: Harness>(harness: H, fault: Fault) {
    run(harness, async |bench: Bench<H>| {
        for nth in 0..bench.harness.requests() {
            let source = bench.source();
            let before = bench.requests();
            bench.inject(nth, fault);
            let Ok(result) = bench.try_fetch(&source, &bench.cx()).await else {
                panic!("the fetch hung at {fault:?}");
            };
            let kinds = bench.harness.kinds(fault);
            if kinds.is_empty() {
                assert!(
                    result.is_ok(),
                    "{fault:?} should go unnoticed, the harness says"
                );
            } else {
                let what = format!("{fault:?} at request {}", nth + 1);
                let error = failure(result.map(drop), &what);
                bench.guard.assert_clean();
                expect_kind(&error, &kinds, &what);
                expect_facts(&error, fault);
                let made = bench.requests() - before;
                assert_eq!(
                    made,
                    nth + 1,
                    "a source makes one attempt, without retries ({what})"
                );
            }
            let requests = bench.world.endpoint().requests();
            assert!(
                requests
                    .iter()
                    .all(|request| request.uri().host() != Some(OTHER_HOST)),
                "the source followed a redirect"
            );
            bench.fetch(&source, &bench.cx(), "after a fault").await;
        }
    });
}

#[track_caller]
fn failure(result: Result<(), Error>, what: &str) -> Error {
    match result {
        Ok(()) => panic!("a fetch succeeded in spite of {what}"),
        Err(error) => error,
    }
}

#[track_caller]
fn expect_kind(error: &Error, kinds: &[ErrorKind], what: &str) {
    assert!(
        kinds.contains(&error.kind()),
        "{what} should be one of {kinds:?} and is {:?}: {error}",
        error.kind()
    );
    assert!(
        error
            .source_name()
            .is_some_and(|name| !name.trim().is_empty()),
        "the error does not name its source: {error}"
    );
}

#[track_caller]
fn expect_facts(error: &Error, fault: Fault) {
    assert!(
        error.endpoint().is_some(),
        "the error does not say which endpoint was asked: {error}"
    );
    if let Some(status) = fault.status() {
        let found = error.status().map(|status| status.as_u16());
        assert_eq!(
            found,
            Some(status),
            "the error does not have the status: {error}"
        );
    }
    match fault {
        Fault::RetryAfterSeconds => {
            assert_eq!(error.retry_after(), Some(RETRY_AFTER), "{error}");
        }
        Fault::RetryAfterDate => {
            let delay = error.retry_after().unwrap_or_default();
            let is_near = delay.abs_diff(RETRY_AFTER) <= Duration::from_secs(1);
            assert!(is_near, "Retry-After as a date became {delay:?}: {error}");
        }
        Fault::Redirect => {
            let text = error.to_string();
            assert!(
                text.contains("redirect"),
                "the error does not say \"redirect\": {text}"
            );
        }
        _ => {}
    }
}

const REASONS: [Reason; 5] = [
    Reason::First,
    Reason::Scheduled,
    Reason::Expired,
    Reason::Rejected,
    Reason::Forced,
];
/// For how many polls a slow answer is pending.
const POLLS: usize = 3;
/// A fetch that takes more is not making progress.
const MAX_POLLS: usize = 1000;
