//! Any bytes whatever lead to a token or to an error, and never to a panic.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Response};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tower_auth_core::{Credential, Error, ErrorKind, Expiry, Secret, Token};
use tower_auth_oauth::ResponseReader;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const SECRET: &str = "canary-secret";

const HEADERS: [&str; 7] = [
    "content-type",
    "retry-after",
    "retry-after-ms",
    "date",
    "location",
    "x-ms-request-id",
    "x-request-id",
];

fn read(status: u16, headers: &[(usize, Vec<u8>)], body: &[u8]) -> Result<Token, Error> {
    let mut response = Response::new(Bytes::copy_from_slice(body));
    *response.status_mut() = status.try_into().expect("a status");
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            response
                .headers_mut()
                .append(HEADERS[name % HEADERS.len()], value);
        }
    }
    ResponseReader::new()
        .with_vendor_errors(|refusal, error| {
            for pointer in ["", "/error", "/error/code", "/a/0", "error", "/~2"] {
                let _ = refusal.text(pointer);
            }
            error
        })
        .read(response, &[&Secret::from(SECRET)], NOW)
        .and_then(|response| response.into_token(Duration::from_secs(300)))
}

/// Whatever an answer is, this holds for what comes of it.
fn check(outcome: &Result<Token, Error>, status: u16) {
    match outcome {
        Ok(token) => {
            assert!((200..300).contains(&status));
            assert!(!token.secret().is_blank());
            match token.expiry() {
                Expiry::In(lifetime) | Expiry::AskEvery(lifetime) => assert!(!lifetime.is_zero()),
                Expiry::At(end) => assert!(end > SystemTime::UNIX_EPOCH),
                other => panic!("the issuer cannot say {other:?}"),
            }
        }
        Err(error) => {
            assert!(matches!(
                error.kind(),
                ErrorKind::Denied | ErrorKind::Unavailable | ErrorKind::Malformed
            ));
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(SECRET), "{shown}");
            assert!(shown.chars().count() < 6000, "{shown}");
            assert!(error.retry_after().is_none_or(|wait| !wait.is_zero()));
        }
    }
}

fn status() -> impl Strategy<Value = u16> {
    prop_oneof![
        4 => Just(200_u16),
        1 => 100..1000_u16,
        2 => prop::sample::select(vec![201, 204, 302, 307, 400, 401, 403, 404, 408, 429, 500, 503]),
    ]
}

fn headers() -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec![
            "7",
            "-1",
            "99999999999999999999999",
            "Wed, 21 Oct 2026 07:28:00 GMT",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "https://evil.test/canary-secret",
            "canary-secret",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        any::<u64>().prop_map(|number| number.to_string().into_bytes()),
    ];
    prop::collection::vec((any::<usize>(), value), 0..4)
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-5..5_i64).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        any::<i64>().prop_map(|number| json!(format!(" {number} "))),
        prop::sample::select(vec![
            "Bearer",
            "bearer",
            "DPoP",
            "mac",
            "type canary-secret",
            "invalid_client",
            "slow_down",
            "canary-secret",
            "3600",
            "",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(".{0,3}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A good answer with some of its members changed, added or taken away.
fn mutated() -> impl Strategy<Value = Value> {
    let member = prop::sample::select(vec![
        "access_token",
        "token_type",
        "expires_in",
        "expires_on",
        "refresh_in",
        "error",
        "error_description",
        "scope",
        "refresh_token",
        "x",
    ]);
    prop::collection::vec((member, prop::option::of(json())), 0..4).prop_map(|changes| {
        let mut members = Map::new();
        members.insert("access_token".to_owned(), json!("t"));
        members.insert("token_type".to_owned(), json!("Bearer"));
        members.insert("expires_in".to_owned(), json!(3600));
        for (name, value) in changes {
            match value {
                Some(value) => members.insert(name.to_owned(), value),
                None => members.remove(name),
            };
        }
        Value::Object(members)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_read(
        status in status(),
        headers in headers(),
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        check(&read(status, &headers, &body), status);
    }

    #[test]
    fn any_json_is_read(status in status(), headers in headers(), body in json()) {
        check(&read(status, &headers, body.to_string().as_bytes()), status);
    }

    #[test]
    fn any_change_of_a_good_answer_is_read(
        status in status(),
        headers in headers(),
        body in mutated(),
    ) {
        check(&read(status, &headers, body.to_string().as_bytes()), status);
    }

    #[test]
    fn any_damage_to_a_good_answer_is_read(
        body in mutated(),
        place in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..4),
        cut in any::<bool>(),
    ) {
        let mut text = body.to_string().into_bytes();
        let place = place.index(text.len());
        if cut {
            text.truncate(place);
        } else {
            text.splice(place..place, bytes);
        }
        check(&read(200, &[], &text), 200);
    }

    #[test]
    fn fc_a20_a_field_is_understood_or_named(field in 0..4_usize, value in json()) {
        let name = ["access_token", "token_type", "expires_in", "expires_on"][field];
        let mut body = json!({"access_token": "t"});
        body[name] = value;
        if let Err(error) = read(200, &[], body.to_string().as_bytes()) {
            let text = error.to_string();
            prop_assert!(
                text.contains(name) || (name == "token_type" && text.contains("token of type")),
                "{}", text
            );
        }
    }

    #[test]
    fn fc_a25_any_number_is_a_lifetime_or_has_run_out(number in any::<f64>(), text in any::<bool>()) {
        let written = if text { format!("\"{number:.3}\"") } else { json!(number).to_string() };
        let body = format!(r#"{{"access_token":"t","expires_in":{written}}}"#);
        let outcome = read(200, &[], body.as_bytes());
        check(&outcome, 200);
        let Ok(number) = written.trim_matches('"').parse::<f64>() else { unreachable!() };
        prop_assert_eq!(outcome.is_ok(), number >= 1.0, "{}", written);
    }
}
