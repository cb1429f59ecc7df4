//! The suite passes a source that is right and fails one for each way to be wrong.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod toy;

use bytes::Bytes;
use http::Request;
use tower_auth_core::Token;
use tower_auth_testing::conformance::{Harness, World, suite};
use tower_auth_testing::{Canary, Reply, conformance};

use toy::{Flaw, ToyHarness};

conformance!(toy_client_credentials, ToyHarness::new(None));
conformance!(local fixed_token, FixedToken);

struct FixedToken;

impl Harness for FixedToken {
    type Credential = Token;
    type Source = Token;

    fn source(&self, _: &World) -> Token {
        Token::bearer(&Canary::new("key")).never_expires()
    }

    fn answer(&self, _: &Request<Bytes>, _: usize) -> Reply {
        Reply::refused()
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![Canary::new("key")]
    }

    fn requests(&self) -> usize {
        0
    }

    fn check(&self, _: &Token) {}
}

/// What the test of the suite says about a source with this flaw.
#[track_caller]
fn complaint(flaw: Flaw, test: fn(ToyHarness)) -> String {
    let run = std::panic::AssertUnwindSafe(|| test(ToyHarness::new(Some(flaw))));
    let Err(panic) = std::panic::catch_unwind(run) else {
        panic!("the suite does not notice {flaw:?}")
    };
    let text = panic.downcast_ref::<String>().cloned();
    text.unwrap_or_else(|| (*panic.downcast_ref::<&str>().unwrap()).to_owned())
}

#[track_caller]
fn notices(flaw: Flaw, test: fn(ToyHarness), expected: &str) {
    let said = complaint(flaw, test);
    assert!(said.contains(expected), "{said}");
    assert!(
        !said.contains(Canary::MARKER),
        "the complaint leaks: {said}"
    );
}

#[test]
fn a_cache_inside_is_noticed() {
    notices(
        Flaw::CachesInside,
        suite::every_fetch_asks_the_server,
        "has a cache inside",
    );
}

#[test]
fn a_retry_inside_is_noticed() {
    notices(
        Flaw::RetriesInside,
        suite::status_503_is_unavailable,
        "in spite of Status(503)",
    );
}

#[test]
fn a_followed_redirect_is_noticed() {
    notices(
        Flaw::FollowsRedirects,
        suite::a_redirect_is_not_followed,
        "makes one attempt",
    );
}

#[test]
fn fc_g06_a_secret_in_debug_is_noticed() {
    notices(
        Flaw::ShowsItsSecretInDebug,
        suite::a_success_gives_a_credential_with_an_expiry,
        "canary client-secret (plain) in Debug of the source",
    );
}

#[test]
fn fc_g10_an_echoed_secret_in_the_error_is_noticed() {
    notices(
        Flaw::ShowsTheBodyInErrors,
        suite::a_secret_echoed_in_the_description_is_not_shown,
        "(base64) in Debug of",
    );
}

#[test]
fn fc_g07_a_logged_secret_is_noticed() {
    notices(
        Flaw::LogsTheRequest,
        suite::every_reason_is_answered,
        "event (TRACE",
    );
}

#[test]
fn fc_g07_a_header_that_is_not_sensitive_is_noticed() {
    notices(
        Flaw::SendsThePlainHeader,
        suite::secrets_travel_in_sensitive_headers_and_bodies_alone,
        "authorization has a secret",
    );
}

#[test]
fn fc_g08_a_secret_in_the_url_is_noticed() {
    notices(
        Flaw::SendsTheSecretInTheUrl,
        suite::secrets_travel_in_sensitive_headers_and_bodies_alone,
        "(plain) in a request's URL",
    );
}

#[test]
fn a_fetch_that_cannot_be_dropped_is_noticed() {
    notices(
        Flaw::LosesItsPlaceWhenDropped,
        suite::a_fetch_can_be_dropped_wherever_it_waits,
        "after one that was dropped at poll 1",
    );
}

#[test]
fn a_secret_that_is_kept_is_noticed() {
    notices(
        Flaw::KeepsTheFirstSecret,
        suite::a_replaced_secret_is_used_by_the_next_fetch,
        "assertion failed",
    );
}

#[test]
fn a_wrong_kind_is_noticed() {
    notices(
        Flaw::TakesServerErrorsForRefusals,
        suite::status_500_is_unavailable,
        "should be one of [Unavailable] and is Denied",
    );
}

#[test]
fn a_refusal_taken_for_an_outage_is_noticed() {
    notices(
        Flaw::TakesRefusalsForOutages,
        suite::a_refusal_is_denied,
        "should be one of [Denied] and is Unavailable",
    );
}

#[test]
fn a_lost_retry_after_is_noticed() {
    notices(
        Flaw::DropsRetryAfter,
        suite::a_retry_after_as_a_date_is_passed_on,
        "Retry-After as a date became 0ns",
    );
}

#[test]
fn a_panic_is_noticed() {
    notices(
        Flaw::PanicsOnGarbage,
        suite::a_web_page_is_malformed,
        "not JSON",
    );
}

#[test]
fn a_missing_expiry_is_noticed() {
    notices(
        Flaw::SaysNothingOfExpiry,
        suite::a_success_gives_a_credential_with_an_expiry,
        "does not say when it ends",
    );
}

#[test]
fn a_source_without_a_name_is_noticed() {
    notices(
        Flaw::HasNoName,
        suite::the_description_names_the_source_and_no_secret,
        "has no name",
    );
}

#[test]
fn an_error_without_a_name_is_noticed() {
    notices(
        Flaw::HasNoName,
        suite::status_500_is_unavailable,
        "does not name its source",
    );
}
