//! What a token looks like on a request, and which tokens do not get that far.
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a function of the tests fails the test"
)]

use http::Request;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use tower_auth::{
    Clock, Error, ErrorKind, HeaderMode, Headers, Placement, Stamp, StampContext, Stamped, Token,
};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

struct Epoch;

impl Clock for Epoch {
    fn now(&self) -> std::time::SystemTime {
        std::time::SystemTime::UNIX_EPOCH
    }
}

/// The headers of a request that had these before it was stamped.
fn stamped(stamp: &Headers, token: &Token, before: HeaderMap) -> (Stamped, HeaderMap) {
    let prepared = stamp.prepare(token).unwrap();
    let mut request = Request::new(());
    *request.headers_mut() = before;
    let outcome = stamp
        .stamp(&prepared, &mut request, &StampContext::new(&Epoch))
        .unwrap();
    (outcome, request.into_parts().0.headers)
}

fn stamp_bare(stamp: &Headers, token: &Token) -> HeaderMap {
    let (outcome, headers) = stamped(stamp, token, HeaderMap::new());
    assert_eq!(outcome, Stamped::Done);
    headers
}

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, value.parse().unwrap());
    }
    headers
}

fn refusal(token: &Token) -> Error {
    Headers::new().prepare(token).unwrap_err()
}

#[test]
fn fc_f11_the_scheme_is_written_as_the_standard_writes_it() {
    let headers = stamp_bare(&Headers::new(), &Token::bearer("abc"));
    assert_eq!(headers[AUTHORIZATION], "Bearer abc");
    assert!(
        Headers::new()
            .prepare(&Token::with_scheme("bearer", "a b"))
            .is_err(),
        "the rule for bearer tokens holds however the scheme is written"
    );
}

#[test]
fn a_secret_without_a_scheme_stands_alone_in_its_header() {
    let headers = stamp_bare(&Headers::new(), &Token::in_header(API_KEY, "k-1"));
    assert_eq!(headers[API_KEY], "k-1");
    assert_eq!(headers.len(), 1);
}

#[test]
fn a_placement_of_the_stamp_outranks_the_tokens() {
    let stamp = Headers::new().named(Placement::header(API_KEY));
    let headers = stamp_bare(&stamp, &Token::bearer("abc"));
    assert_eq!(headers[API_KEY], "abc");
    assert!(!headers.contains_key(AUTHORIZATION));
}

#[test]
fn fc_f06_every_value_is_marked_sensitive_and_its_clones_are() {
    let token = Token::bearer("abc").with_header(BETA, "b", HeaderMode::Replace);
    let headers = stamp_bare(&Headers::new(), &token);
    assert!(headers.values().all(HeaderValue::is_sensitive));
    assert!(headers.values().all(|value| value.clone().is_sensitive()));

    let merged = stamped(
        &Headers::new(),
        &Token::bearer("abc").with_header(BETA, "b", HeaderMode::MergeList),
        self::headers(&[(BETA, "a")]),
    )
    .1;
    assert!(merged[BETA].is_sensitive());

    let headers = stamp_bare(&Headers::new().not_sensitive(), &token);
    assert!(!headers.values().any(HeaderValue::is_sensitive));
}

#[test]
fn fc_f10_a_stamped_request_shows_no_token_when_it_is_printed() {
    let headers = stamp_bare(&Headers::new(), &Token::bearer("canary-1"));
    assert!(!format!("{headers:?}").contains("canary"), "{headers:?}");
}

#[test]
fn fc_f01_line_breaks_and_nul_are_refused_when_the_token_arrives() {
    for (text, flaw) in [
        ("abc\n", "holds a line break"),
        ("ab\rc", "holds a line break"),
        ("a\r\nx-evil: 1", "holds a line break"),
        ("a\0b", "holds a NUL byte"),
        ("a\x1bb", "holds a control character"),
        ("a\x7fb", "holds a control character"),
    ] {
        for token in [Token::bearer(text), Token::in_header(API_KEY, text)] {
            let error = refusal(&token);
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.to_string().ends_with(flaw), "{error}");
        }
    }
}

#[test]
fn fc_f02_what_a_header_could_hold_but_a_token_does_not_is_refused() {
    for text in ["a b", "a,b", "a\"b", "a;b", "=", "a=b", "a==b", "a\\b"] {
        let error = refusal(&Token::bearer(text));
        assert!(
            error.to_string().contains("no bearer token has"),
            "{text}: {error}"
        );
        assert!(!error.to_string().contains(text), "{error}");
    }
    for text in ["a\tb", "ä", "a\u{a0}", "日本"] {
        assert_eq!(refusal(&Token::bearer(text)).kind(), ErrorKind::Malformed);
        assert_eq!(
            refusal(&Token::in_header(API_KEY, text)).kind(),
            ErrorKind::Malformed
        );
    }
    for text in ["abc", "a-._~+/b", "a==", "AZaz09"] {
        assert!(
            Headers::new().prepare(&Token::bearer(text)).is_ok(),
            "{text}"
        );
    }
    // An API key may be anything that is visible.
    for text in ["a b", "a,b", "a=b", "{\"k\":1}"] {
        assert!(
            Headers::new()
                .prepare(&Token::in_header(API_KEY, text))
                .is_ok(),
            "{text}"
        );
    }
}

#[test]
fn fc_e06_what_was_pasted_round_a_token_is_named() {
    for (text, flaw) in [
        ("", "is empty"),
        (" \t", "is blank"),
        (" abc", "starts or ends with a space"),
        ("abc ", "starts or ends with a space"),
        ("\"abc\"", "stands in quotes"),
        ("'abc'", "stands in quotes"),
        ("Bearer abc", "starts with the word Bearer"),
    ] {
        let error = refusal(&Token::bearer(text));
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.to_string().contains(flaw), "{text:?}: {error}");
        assert!(
            error.to_string().contains("authorization header"),
            "{error}"
        );
    }
}

#[test]
fn fc_f03_a_token_longer_than_a_server_takes_is_refused() {
    let long = |len: usize| Token::bearer("x".repeat(len));
    assert!(Headers::new().prepare(&long(16 * 1024)).is_ok());
    assert_eq!(
        refusal(&long(100 * 1024)).to_string(),
        "the token for the authorization header is 102400 bytes long, at most 16384 fit"
    );
    let roomy = Headers::new().with_max_len(usize::MAX);
    assert!(roomy.prepare(&long(64 * 1024)).is_ok());
    assert!(roomy.prepare(&long(64 * 1024 + 1)).is_err());
}

#[test]
fn a_scheme_is_one_word() {
    for scheme in ["", "Two Words", "a\nb", "a:b"] {
        assert_eq!(
            refusal(&Token::with_scheme(scheme, "abc")).kind(),
            ErrorKind::Malformed,
            "{scheme:?}"
        );
    }
    let headers = stamp_bare(&Headers::new(), &Token::with_scheme("GenieKey", "a b"));
    assert_eq!(headers[AUTHORIZATION], "GenieKey a b");
}

#[test]
fn an_occupied_place_is_reported_and_nothing_is_touched() {
    let token = Token::bearer("abc").with_header(BETA, "b", HeaderMode::Replace);
    let before = headers(&[
        (AUTHORIZATION, "Basic x"),
        (AUTHORIZATION, "Basic y"),
        (BETA, "a"),
    ]);
    let (outcome, after) = stamped(&Headers::new(), &token, before.clone());
    assert_eq!(outcome, Stamped::Occupied);
    assert_eq!(after, before);
}

#[test]
fn fc_f05_clearing_removes_every_value_in_the_credentials_place() {
    let stamp = Headers::new();
    let prepared = stamp.prepare(&Token::bearer("abc")).unwrap();
    let mut headers = headers(&[
        (AUTHORIZATION, "Basic x"),
        (AUTHORIZATION, "Basic y"),
        (BETA, "a"),
    ]);
    assert_eq!(stamp.present(&prepared, &headers).unwrap(), "Basic x");
    stamp.clear(&prepared, &mut headers);
    assert!(stamp.present(&prepared, &headers).is_none());
    assert_eq!(headers.len(), 1);
}

#[test]
fn an_extra_header_replaces_what_was_there() {
    let token = Token::bearer("abc").with_header(BETA, "ours", HeaderMode::Replace);
    let (_, after) = stamped(
        &Headers::new(),
        &token,
        headers(&[(BETA, "a"), (BETA, "b")]),
    );
    let values: Vec<_> = after.get_all(BETA).iter().collect();
    assert_eq!(values, ["ours"]);
}

#[test]
fn a_list_member_is_added_once_and_in_one_line() {
    let token = Token::bearer("abc").with_header(BETA, "ours", HeaderMode::MergeList);
    let after = |before: &[&str]| {
        let before: Vec<_> = before.iter().map(|value| (BETA, *value)).collect();
        let (_, after) = stamped(&Headers::new(), &token, headers(&before));
        let values: Vec<_> = after
            .get_all(BETA)
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect();
        values
    };
    assert_eq!(after(&[]), ["ours"]);
    assert_eq!(after(&["a"]), ["a, ours"]);
    assert_eq!(after(&["a", "b,c"]), ["a, b,c, ours"]);
    assert_eq!(after(&[""]), ["ours"]);
    assert_eq!(after(&["a , ours"]), ["a , ours"]);
    assert_eq!(after(&["ours", "b"]), ["ours", "b"]);
    assert_eq!(
        after(&["OURS"]),
        ["OURS, ours"],
        "list members differ by case"
    );
    assert_eq!(
        after(&["yours"]),
        ["yours, ours"],
        "a part of a member is not the member"
    );
}

#[test]
fn a_token_may_not_name_its_own_header_twice() {
    let token = Token::bearer("abc").with_header(AUTHORIZATION, "x", HeaderMode::Replace);
    assert_eq!(
        refusal(&token).to_string(),
        "the token names the authorization header twice"
    );
}

#[test]
fn an_extra_header_is_checked_like_a_token() {
    let token = Token::bearer("abc").with_header(BETA, "canary\n", HeaderMode::Replace);
    assert_eq!(
        refusal(&token).to_string(),
        "the token for the anthropic-beta header holds a line break"
    );
}

#[test]
fn each_preparation_owns_its_bytes_and_clones_share_them() {
    let stamp = Headers::new();
    let token = Token::bearer("abc");
    let first = stamp_bare(&stamp, &token)[AUTHORIZATION].clone();
    let second = stamp_bare(&stamp, &token)[AUTHORIZATION].clone();
    assert_ne!(first.as_bytes().as_ptr(), second.as_bytes().as_ptr());
    assert_eq!(first.as_bytes().as_ptr(), first.clone().as_bytes().as_ptr());
}

proptest! {
    #[test]
    fn fc_f01_whatever_is_accepted_arrives_as_it_is_and_nothing_refused_is_shown(text in "\\PC{0,40}|[ -~\t\n\r\0]{0,40}") {
        for token in [Token::bearer(text.clone()), Token::in_header(API_KEY, text.clone())] {
            match Headers::new().prepare(&token) {
                Ok(_) => {
                    let headers = stamp_bare(&Headers::new(), &token);
                    let value = headers.values().next().unwrap().to_str().unwrap();
                    prop_assert_eq!(value.trim_start_matches("Bearer "), text.as_str());
                }
                Err(error) if text.len() > 8 => {
                    let shown = format!("{error} {error:?}");
                    prop_assert!(!shown.contains(&text));
                }
                Err(_) => {}
            }
        }
    }
}

#[test]
fn a_default_that_goes_with_a_token_yields_to_the_requests_own_value() {
    let workspace = HeaderName::from_static("anthropic-workspace-id");
    let token = Token::bearer("abc").with_header(workspace.clone(), "ours", HeaderMode::IfAbsent);
    let stamp = Headers::new();
    let (_, filled) = stamped(&stamp, &token, HeaderMap::new());
    assert_eq!(filled[&workspace], "ours");
    let own = headers(&[(workspace.clone(), "theirs")]);
    let (_, kept) = stamped(&stamp, &token, own.clone());
    assert_eq!(kept[&workspace], "theirs");

    let prepared = stamp.prepare(&token).unwrap();
    let mut cleared = filled;
    stamp.clear(&prepared, &mut cleared);
    assert!(cleared.is_empty(), "ours goes");
    let mut cleared = kept;
    stamp.clear(&prepared, &mut cleared);
    assert_eq!(cleared, own, "theirs stays");
}
