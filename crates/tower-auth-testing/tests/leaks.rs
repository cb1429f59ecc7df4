//! The guard finds what it is there to find, and says nothing about anything else.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request};
use tower_auth_core::{Error, ErrorKind, Secret, Token};
use tower_auth_testing::{Canary, LeakGuard};

/// The one leak that `show` causes, as (canary, form, place).
fn leak(show: impl FnOnce(&LeakGuard, &Canary)) -> (String, String, String) {
    let canary = Canary::new("key");
    let guard = LeakGuard::new();
    guard.watch([&canary]);
    show(&guard, &canary);
    let leaks = guard.leaks();
    for leak in &leaks {
        let said = leak.to_string();
        assert!(!canary.is_in(&said), "the report itself leaks: {said}");
        assert!(!said.contains(Canary::MARKER), "the report leaks: {said}");
        let (before, after) = leak.excerpt().split_once("[canary key]").unwrap();
        assert!(before.chars().count() <= 20 && after.chars().count() <= 20);
    }
    let report = guard.catch("assert_clean", || guard.assert_clean());
    assert!(report.is_none(), "the guard did not fail");
    let first = leaks.first().expect("no leak was found");
    (
        first.canary().to_owned(),
        first.form().to_owned(),
        first.place().to_owned(),
    )
}

fn found(form: &str, place: &str) -> (String, String, String) {
    ("key".to_owned(), form.to_owned(), place.to_owned())
}

#[test]
fn fc_g06_a_derived_debug_over_a_secret_is_found() {
    #[derive(Debug)]
    struct Careless {
        _key: String,
    }
    let got = leak(|guard, canary| {
        let _key = canary.text().to_owned();
        guard.value("the config", &Careless { _key });
    });
    assert_eq!(got, found("plain", "Debug of the config"));
}

#[test]
fn fc_g06_a_secret_shown_as_bytes_is_found_in_both_layouts() {
    let got = leak(|guard, canary| guard.value("the bytes", &canary.text().as_bytes()));
    assert_eq!(got, found("byte list", "Debug of the bytes"));
    let got = leak(|guard, canary| {
        guard.text("the bytes", format!("{:#?}", canary.text().as_bytes()));
    });
    assert_eq!(got, found("byte list", "the bytes"));
}

#[test]
fn fc_g06_the_familys_own_types_are_clean() {
    let canary = Canary::new("key");
    let guard = LeakGuard::new();
    guard.value("a token", &Token::bearer(&canary));
    guard.value("a secret", &Secret::from(&canary));
    guard.value("a canary", &canary);
    assert_eq!(guard.len(), 6);
    guard.assert_clean();
}

#[test]
fn fc_g07_a_traced_secret_is_found_in_events_and_spans() {
    let got = leak(|guard, canary| {
        let _recording = guard.record_logs();
        tracing::trace!(target: "wire", key = canary.text(), "sending");
    });
    assert_eq!(got, found("plain", "event (TRACE wire)"));

    let got = leak(|guard, canary| {
        let _recording = guard.record_logs();
        let _span = tracing::debug_span!(target: "wire", "send", key = ?canary.text());
    });
    assert_eq!(got, found("plain", "span (DEBUG wire)"));

    let got = leak(|guard, canary| {
        let _recording = guard.record_logs();
        let span = tracing::info_span!("send", key = tracing::field::Empty);
        span.record("key", canary.text());
    });
    assert_eq!(got, found("plain", "a span's record"));

    let got = leak(|guard, canary| {
        let _recording = guard.record_logs();
        tracing::error!(target: "wire", "the key is {}", canary.text());
    });
    assert_eq!(got, found("plain", "event (ERROR wire)"));
}

#[test]
fn fc_g07_a_logged_error_counts_with_all_its_causes() {
    let got = leak(|guard, canary| {
        let _recording = guard.record_logs();
        let cause = std::io::Error::other(canary.text().to_owned());
        let error = Error::new(ErrorKind::Unavailable, "no answer").with_cause(cause);
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::warn!(target: "wire", error);
    });
    assert_eq!(got, found("plain", "event (WARN wire)"));
}

#[test]
fn what_is_logged_after_the_recording_is_not_taken_in() {
    let guard = LeakGuard::new();
    let recording = guard.record_logs();
    tracing::info!(answer = 42, "first");
    drop(recording);
    tracing::info!("second");
    let logs = guard.logs();
    assert_eq!(logs.len(), 1, "{logs:?}");
    assert!(logs[0].contains("answer=42"), "{logs:?}");
}

#[test]
fn fc_g08_a_secret_deep_in_the_chain_of_causes_is_found() {
    let got = leak(|guard, canary| {
        let inner = std::io::Error::other(format!("https://a.test/?key={}", canary.text()));
        let middle = std::io::Error::other(Error::new(ErrorKind::Malformed, "x").with_cause(inner));
        let error = Error::new(ErrorKind::Unavailable, "no answer").with_cause(middle);
        // What `Debug` shows is not the point here: each link has to be walked.
        struct Quiet(Error);
        impl std::fmt::Debug for Quiet {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("Quiet")
            }
        }
        impl std::fmt::Display for Quiet {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("quiet")
            }
        }
        impl std::error::Error for Quiet {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        guard.error("the failure", &Quiet(error));
    });
    assert_eq!(got, found("plain", "Debug of cause 1 of the failure"));
}

#[test]
fn fc_g09_a_secret_in_a_panic_is_found() {
    let got = leak(|guard, canary| {
        let caught = guard.catch("the parser", || panic!("bad key {}", canary.text()));
        assert!(caught.is_none());
    });
    assert_eq!(got, found("plain", "panic of the parser"));
}

#[tokio::test]
async fn fc_g09_a_secret_in_a_futures_panic_is_found() {
    let canary = Canary::new("key");
    let guard = LeakGuard::new();
    let future = async {
        tokio::task::yield_now().await;
        std::panic::panic_any(canary.text().to_owned());
    };
    assert!(guard.catch_async("the fetch", future).await.is_none());
    let leaks = guard.leaks();
    assert_eq!(leaks[0].place(), "panic of the fetch");
    assert_eq!(leaks[0].canary(), "unnamed");
    assert_eq!(guard.catch_async("fine", async { 1 }).await, Some(1));
}

#[test]
fn fc_g11_a_secret_at_a_foreign_server_is_found_wherever_it_stands_in_the_request() {
    let request = || {
        Request::get("https://evil.test/a")
            .body(Bytes::new())
            .unwrap()
    };

    let got = leak(|guard, canary| {
        let mut request = request();
        let mut value = HeaderValue::from_str(canary.text()).unwrap();
        value.set_sensitive(true);
        request.headers_mut().insert("x-api-key", value);
        guard.request("evil.test", &request);
    });
    assert_eq!(got, found("plain", "request at evil.test"));

    let got = leak(|guard, canary| {
        let basic = STANDARD.encode(format!("client:{}", canary.text()));
        let mut request = request();
        let value = HeaderValue::from_str(&format!("Basic {basic}")).unwrap();
        request.headers_mut().insert("authorization", value);
        guard.request("evil.test", &request);
    });
    assert_eq!(got, found("base64", "request at evil.test"));

    let got = leak(|guard, canary| {
        let encoded: String = canary.text().bytes().map(|b| format!("%{b:02X}")).collect();
        let mut request = request();
        *request.uri_mut() = format!("https://evil.test/?k={encoded}").parse().unwrap();
        guard.request("evil.test", &request);
    });
    assert_eq!(got, found("percent-encoded", "request at evil.test"));

    let got = leak(|guard, canary| {
        let body = Bytes::from(format!("secret={}", canary.text()));
        guard.request("evil.test", &request().map(|_| body));
    });
    assert_eq!(got, found("plain", "request at evil.test"));
}

#[test]
fn every_form_is_found() {
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02X}")).collect::<String>();
    let got = leak(|guard, canary| guard.text("a dump", hex(canary.text())));
    assert_eq!(got, found("hexadecimal", "a dump"));
    let got = leak(|guard, canary| guard.text("a host", canary.text().to_ascii_lowercase()));
    assert_eq!(got, found("plain", "a host"));
    let got = leak(|guard, canary| {
        let twice: String = canary
            .text()
            .bytes()
            .map(|b| format!("%25{b:02x}"))
            .collect();
        guard.text("a URL in a URL", twice);
    });
    assert_eq!(got, found("percent-encoded", "a URL in a URL"));
}

#[test]
fn a_canary_that_was_cut_short_or_not_announced_is_found_by_its_marker() {
    let canary = Canary::new("key");
    let guard = LeakGuard::new();
    guard.text("a log line", &canary.text()[..16]);
    guard.text("another", Canary::jwt("assertion").text());
    let leaks = guard.leaks();
    assert_eq!(leaks.len(), 2);
    assert!(leaks.iter().all(|leak| leak.canary() == "unnamed"));
    assert_eq!(leaks[0].excerpt(), "[canary unnamed]");
    assert!(!leaks[1].excerpt().contains(&canary.text()[..16]));
}

#[test]
fn a_jwt_is_found_whole_and_by_its_subject() {
    let jwt = Canary::jwt("assertion");
    assert_eq!(jwt.text().split('.').count(), 3);
    assert!(jwt.is_in(&format!("got {}", jwt.text())));
    assert!(jwt.is_in(jwt.text().split('.').nth(1).unwrap()));
    assert!(jwt.is_in(Canary::new("assertion").text()));
    assert!(!jwt.is_in(Canary::new("other").text()));
}

#[test]
fn a_secret_from_elsewhere_can_be_watched() {
    let generated = Canary::of("generated", "hunter2hunter2");
    let guard = LeakGuard::new();
    guard.watch([&generated]);
    guard.text("a line", "logging in with hunter2hunter2 as bob");
    assert_eq!(
        guard.leaks()[0].to_string(),
        "canary generated (plain) in a line: logging in with [canary generated] as bob"
    );
}

#[test]
fn ordinary_text_is_no_leak() {
    let guard = LeakGuard::new();
    guard.watch([&Canary::new("key")]);
    guard.text(
        "prose",
        "100 % of canaries, 5% of %41 and a canary-yellow ümlaut",
    );
    guard.text("nothing", "");
    guard.assert_clean();
}
