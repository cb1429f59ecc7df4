//! The quickstart, as its command line runs it.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics when its premises do not hold"
)]

use std::ffi::OsString;

use indicatif::ProgressBar;
use serde_json::Value;
use tower_auth_examples::quickstart::{Outcome, run};

struct Ran {
    outcome: Outcome,
    out: String,
    err: String,
}

async fn quickstart(arguments: &[&str]) -> Ran {
    let arguments = arguments.iter().map(OsString::from).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let outcome = run(arguments, &ProgressBar::hidden(), &mut out, &mut err)
        .await
        .unwrap();
    Ran {
        outcome,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_run_keeps_every_promise() {
    let ran = quickstart(&["--seconds", "3", "--concurrency", "8", "--json"]).await;
    assert_eq!(ran.outcome, Outcome::Kept, "{}{}", ran.out, ran.err);
    let summary: Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    let number = |key: &str| {
        summary[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key} is not a number in {summary}"))
    };
    assert_eq!(number("expired_sent"), 0);
    assert_eq!(number("caller_401"), 0);
    assert_eq!(number("caller_errors"), 0);
    assert_eq!(number("max_inflight_fetches"), 1);
    assert_eq!(number("accepted"), number("requests"));
    // The first one, one renewal in peace, one after the outage, one after the revocation.
    assert!(number("fetches") >= 4, "{summary}");
    assert!(number("failed_fetches") >= 1, "{summary}");
    assert!(number("revoked_sent") >= 1, "{summary}");
    let by_reason = &summary["fetches_by_reason"];
    for reason in ["first", "scheduled", "rejected"] {
        assert!(by_reason[reason].as_u64() >= Some(1), "{reason}: {summary}");
    }
}

#[tokio::test]
async fn bad_arguments_are_told_apart_from_broken_promises() {
    for arguments in [
        &["--seconds", "0"][..],
        &["--concurrency", "x"],
        &["--fast"],
        &["12"],
    ] {
        let ran = quickstart(arguments).await;
        assert_eq!(ran.outcome, Outcome::BadArguments, "{arguments:?}");
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
        assert!(ran.out.is_empty(), "{}", ran.out);
    }
    assert_eq!(Outcome::BadArguments as u8, 2);
}

#[tokio::test]
async fn help_says_which_options_there_are() {
    let ran = quickstart(&["--help"]).await;
    assert_eq!(ran.outcome, Outcome::Kept);
    for option in ["--seconds", "--concurrency", "--json"] {
        assert!(ran.out.contains(option), "{}", ran.out);
    }
}
