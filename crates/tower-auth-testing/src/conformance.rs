//! One set of tests for every source. See [`conformance!`](crate::conformance!).

use std::fmt;

use bytes::Bytes;
use http::Request;
use tower_auth_core::{Credential, ErrorKind, Expiry, Fetch, Reason, TokenSource};
use tower_auth_io::Transport;

use crate::{Canary, FakeEndpoint, Reply, TestClock};

mod bench;
mod fault;
#[doc(hidden)]
pub mod suite;

pub use fault::Fault;

/// What the conformance suite has to know of a source. See [`conformance!`](crate::conformance!).
pub trait Harness: Send + Sync + 'static {
    /// What the source gives.
    type Credential: Credential + fmt::Debug;
    /// The source.
    type Source: TokenSource<Self::Credential> + fmt::Debug;

    /// Makes the source around these doubles, as a program would at its start.
    fn source(&self, world: &World) -> Self::Source;

    /// How a healthy server answers this request; `nth` counts the requests of the test from 0. Put a
    /// different [`Canary`] into each answer.
    fn answer(&self, request: &Request<Bytes>, nth: usize) -> Reply;

    /// What the source holds that must not be seen. Use [`Canary`]s where the source is set up, and
    /// name them here.
    fn secrets(&self) -> Vec<Canary>;

    /// How many requests a new source's first fetch makes: 2 with a discovery or a log-in before it, 0
    /// for a source that asks no server. Each of them is met with each fault.
    fn requests(&self) -> usize {
        1
    }

    /// What the source is asked with. A refresh grant wants a previous credential in it.
    fn fetch(&self, reason: Reason) -> Fetch<Self::Credential> {
        Fetch::new(reason)
    }

    /// Checks a credential that was obtained, by panicking. Without it, the credential has to say when
    /// it ends.
    fn check(&self, credential: &Self::Credential) {
        assert!(
            matches!(credential.expiry(), Expiry::In(_) | Expiry::At(_)),
            "the credential does not say when it ends: {:?}",
            credential.expiry()
        );
    }

    /// How a server says no for good; the default is that of a token endpoint (RFC 6749 section 5.2).
    /// Each has to become [`ErrorKind::Denied`].
    fn refusals(&self) -> Vec<Reply> {
        vec![
            Reply::json(r#"{"error":"invalid_grant"}"#).with_status(400),
            Reply::json(r#"{"error":"invalid_client"}"#).with_status(401),
        ]
    }

    /// What may become of this fault, where the source documents something else than
    /// [`Fault::kinds`]. With no kind at all, the source does not notice the fault and succeeds.
    fn kinds(&self, fault: Fault) -> Vec<ErrorKind> {
        fault.kinds().to_vec()
    }

    /// Replaces the secret from which the source obtains credentials, while the source lives, and says
    /// how the requests of the next fetch show it. `None` if it cannot be replaced.
    fn rotate(&self, _world: &World) -> Option<RotationCheck> {
        None
    }
}

/// Panics unless these requests were made with the new secret. For a secret that is sent,
/// [`Canary::is_in_request`] finds it.
pub type RotationCheck = Box<dyn FnOnce(&[Request<Bytes>])>;

/// The doubles that a source is made around.
#[derive(Clone, Debug, Default)]
pub struct World {
    endpoint: FakeEndpoint,
    clock: TestClock,
}

impl World {
    /// The way to the server that [`Harness::answer`] speaks for. It takes requests for every host.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.endpoint.transport()
    }

    /// That server.
    #[must_use]
    pub fn endpoint(&self) -> &FakeEndpoint {
        &self.endpoint
    }

    /// The wall clock.
    #[must_use]
    pub fn clock(&self) -> TestClock {
        self.clock.clone()
    }
}

/// Makes a module of tests out of a [`Harness`](crate::conformance::Harness).
///
/// The tests check, for a source that asks a server: a success gives a credential with an expiry; a
/// fetch can be dropped wherever it waits, and the next one works; each
/// [`Fault`](crate::conformance::Fault), at each of its requests, becomes the right kind of error,
/// which names the source; nothing is cached inside; redirects are not followed; a replaced secret is
/// used; and in all of this no canary is in a `Debug`, a `Display`, a chain of causes, a description, a
/// log line at any level, a URL, or a header that is not marked sensitive.
///
/// Time is tokio's and paused. Each test has a harness, a source and doubles of its own.
///
/// ```
/// # use bytes::Bytes;
/// # use http::Request;
/// use tower_auth_core::Token;
/// use tower_auth_testing::conformance::{Harness, World};
/// use tower_auth_testing::{Canary, Reply, conformance};
///
/// struct FixedKey;
///
/// impl Harness for FixedKey {
///     type Credential = Token;
///     type Source = Token;
///
///     fn source(&self, _: &World) -> Token {
///         Token::bearer(&Canary::new("key")).never_expires()
///     }
///     fn answer(&self, _: &Request<Bytes>, _: usize) -> Reply {
///         Reply::refused()
///     }
///     fn secrets(&self) -> Vec<Canary> {
///         vec![Canary::new("key")]
///     }
///     fn requests(&self) -> usize {
///         0
///     }
///     fn check(&self, _: &Token) {}
/// }
///
/// // A source that asks no server is `local`; write `conformance!(name, harness)` for all others.
/// conformance!(local fixed_key, FixedKey);
/// ```
#[macro_export]
macro_rules! conformance {
    (local $name:ident, $harness:expr) => {
        $crate::conformance! { @module $name, $harness,
            a_success_gives_a_credential_with_an_expiry
            every_reason_is_answered
            fetches_at_the_same_time_do_not_disturb_each_other
            a_fetch_can_be_dropped_wherever_it_waits
            the_description_names_the_source_and_no_secret
        }
    };
    ($name:ident, $harness:expr) => {
        $crate::conformance! { @module $name, $harness,
            a_success_gives_a_credential_with_an_expiry
            every_reason_is_answered
            fetches_at_the_same_time_do_not_disturb_each_other
            a_fetch_can_be_dropped_wherever_it_waits
            the_description_names_the_source_and_no_secret
            every_fetch_asks_the_server
            secrets_travel_in_sensitive_headers_and_bodies_alone
            a_replaced_secret_is_used_by_the_next_fetch
            a_refusal_is_denied
            a_server_that_hangs_can_be_given_up
            a_connection_that_is_refused_is_unavailable
            a_connection_that_is_reset_is_unavailable
            an_answer_that_breaks_off_is_unavailable
            status_408_is_unavailable
            status_425_is_unavailable
            status_429_is_unavailable
            status_500_is_unavailable
            status_502_is_unavailable
            status_503_is_unavailable
            status_504_is_unavailable
            a_retry_after_in_seconds_is_passed_on
            a_retry_after_as_a_date_is_passed_on
            a_redirect_is_not_followed
            a_web_page_is_malformed
            a_truncated_answer_is_malformed
            an_empty_answer_is_malformed
            an_answer_without_its_fields_is_malformed
            an_answer_that_is_null_is_malformed
            an_answer_of_wrong_types_is_malformed
            an_endless_answer_is_malformed
            a_secret_echoed_in_the_description_is_not_shown
            a_secret_echoed_as_the_code_is_not_shown
            a_secret_echoed_in_a_web_page_is_not_shown
        }
    };
    (@module $name:ident, $harness:expr, $($test:ident)+) => {
        mod $name {
            #[allow(unused_imports, reason = "the harness may be named by a full path")]
            use super::*;

            $(
                #[test]
                fn $test() {
                    $crate::conformance::suite::$test($harness);
                }
            )+
        }
    };
}
