//! What the reader makes of the answers that token endpoints are known to give.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use tower_auth_core::{
    Credential, Error, ErrorKind, Expiry, HeaderMode, Placement, RefreshHint, Secret,
};
use tower_auth_oauth::{ResponseReader, TokenResponse};

use ErrorKind::{Denied, Malformed, Unavailable};

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

fn read(body: impl Into<Bytes>) -> Result<TokenResponse, Error> {
    ResponseReader::new().read(answer(200, JSON, body), &[], NOW)
}

fn refused(status: u16, headers: &[(&str, &str)], body: &str) -> Error {
    ResponseReader::new()
        .read(answer(status, headers, body.to_owned()), &[], NOW)
        .expect_err(body)
}

fn expiry(body: &str) -> Option<Expiry> {
    read(body.to_owned()).expect(body).expiry()
}

#[track_caller]
fn assert_names(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json;charset=UTF-8")];
const HTML: &[(&str, &str)] = &[("content-type", "text/html; charset=utf-8")];
const NOW: SystemTime = SystemTime::UNIX_EPOCH;
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_plain_answer_is_a_bearer_token() {
    let token = read(r#"{"access_token":"t","token_type":"Bearer","expires_in":3600,"scope":"a"}"#)
        .unwrap()
        .into_token(Duration::from_secs(300))
        .unwrap();
    assert_eq!(token.secret().expose(), "t");
    assert_eq!(*token.placement(), Placement::authorization("Bearer"));
    assert_eq!(token.expiry(), Expiry::In(HOUR));
    assert_eq!(token.refresh_hint(), None);
    assert!(
        token
            .headers()
            .iter()
            .all(|header| header.mode() == HeaderMode::Replace)
    );
}

#[test]
fn x1_a_lifetime_in_a_string_is_a_lifetime() {
    assert_eq!(
        expiry(r#"{"access_token":"t","expires_in":"3599"}"#),
        Some(Expiry::In(Duration::from_secs(3599)))
    );
}

#[test]
fn x2_a_fraction_is_cut_off_and_words_are_refused() {
    assert_eq!(
        expiry(r#"{"access_token":"t","expires_in":3599.0}"#),
        Some(Expiry::In(Duration::from_secs(3599)))
    );
    let error = read(r#"{"access_token":"t","expires_in":"soon-canary"}"#).unwrap_err();
    assert_eq!(error.kind(), Malformed);
    assert_names(&error, &["expires_in"]);
    assert!(!format!("{error:?}").contains("canary"));
}

#[test]
fn fc_a26_a_lifetime_is_read_in_every_decimal_form() {
    for written in [
        "3600",
        "3600.0",
        "3600.7",
        "3.6e3",
        r#""3600""#,
        r#""3600.0""#,
        r#"" 3600""#,
        r#""3600\n""#,
    ] {
        let body = format!(r#"{{"access_token":"t","expires_in":{written}}}"#);
        assert_eq!(expiry(&body), Some(Expiry::In(HOUR)), "{written}");
    }
    for written in ["true", "[3600]", "{}", r#""1h""#, r#""""#, r#""3.6e3""#] {
        let body = format!(r#"{{"access_token":"t","expires_in":{written}}}"#);
        let error = read(body).expect_err(written);
        assert_eq!(error.kind(), Malformed, "{written}");
        assert_names(&error, &["expires_in"]);
    }
}

#[test]
fn x3_the_absolute_end_counts_more_than_the_lifetime() {
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    for written in ["1800000000", r#""1800000000""#, "1800000000.5"] {
        let body = format!(r#"{{"access_token":"t","expires_in":10,"expires_on":{written}}}"#);
        assert_eq!(expiry(&body), Some(Expiry::At(end)), "{written}");
    }
}

#[test]
fn an_absolute_end_counts_from_the_servers_own_date() {
    let ending = |seconds: u64| {
        let date = ("date", "Fri, 15 Jan 2027 08:00:00 GMT");
        let body = format!(r#"{{"access_token":"t","expires_in":10,"expires_on":{seconds}}}"#);
        ResponseReader::new().read(answer(200, &[date], body), &[], NOW)
    };
    assert_eq!(
        ending(1_800_003_600).unwrap().expiry(),
        Some(Expiry::In(HOUR))
    );
    for past in [1_800_000_000, 1_799_999_999] {
        assert_names(
            &ending(past).unwrap_err(),
            &["already expired", "expires_on"],
        );
    }
}

#[test]
fn x4_a_token_without_a_lifetime_takes_the_default() {
    let response = read(r#"{"access_token":"opaque"}"#).unwrap();
    assert_eq!(response.expiry(), None);
    let token = response.into_token(HOUR).unwrap();
    assert_eq!(token.expiry(), Expiry::AskEvery(HOUR));
}

#[test]
fn fc_a22_no_lifetime_is_not_eternal() {
    for body in [
        r#"{"access_token":"t"}"#,
        r#"{"access_token":"t","expires_in":null,"expires_on":null}"#,
    ] {
        let token = read(body).unwrap().into_token(Duration::from_secs(300));
        assert_eq!(
            token.unwrap().expiry(),
            Expiry::AskEvery(Duration::from_secs(300)),
            "{body}"
        );
    }
}

#[test]
fn x5_a_jwt_without_a_lifetime_offers_its_own_end() {
    let jwt = "eyJhbGciOiJub25lIn0.eyJleHAiOjE4MDAwMDAwMDB9.c2ln";
    let token = read(format!(r#"{{"access_token":"{jwt}"}}"#))
        .unwrap()
        .into_token(HOUR)
        .unwrap();
    assert!(matches!(token.expiry(), Expiry::AskEvery(_)));
    assert_eq!(token.jwt(), Some(jwt));
}

#[test]
fn x6_a_token_that_is_expired_on_arrival_is_an_error() {
    let error = read(r#"{"access_token":"t","expires_in":0}"#).unwrap_err();
    assert_names(&error, &["already expired", "expires_in", "status 200"]);
}

#[test]
fn fc_a23_a_lifetime_of_nothing_or_less_is_malformed() {
    for (field, written) in [
        ("expires_in", "0"),
        ("expires_in", "-1"),
        ("expires_in", "0.9"),
        ("expires_in", r#""-3600""#),
        ("expires_in", "-1e400"),
        ("expires_on", "0"),
        ("expires_on", "-1"),
    ] {
        let error = read(format!(r#"{{"access_token":"t","{field}":{written}}}"#)).unwrap_err();
        assert_eq!(error.kind(), Malformed, "{field} {written}");
        assert_names(&error, &["already expired", field]);
    }
}

#[test]
fn fc_a24_a_lifetime_of_seconds_is_taken_as_it_is() {
    for seconds in 1..=10 {
        assert_eq!(
            expiry(&format!(r#"{{"access_token":"t","expires_in":{seconds}}}"#)),
            Some(Expiry::In(Duration::from_secs(seconds)))
        );
    }
}

#[test]
fn fc_a25_a_huge_lifetime_ends_within_every_clock() {
    for written in [
        "9223372036854775808",
        "1e400",
        r#""99999999999999999999999""#,
    ] {
        let body = format!(r#"{{"access_token":"t","expires_in":{written}}}"#);
        let Some(Expiry::In(lifetime)) = expiry(&body) else {
            panic!("{written} is a lifetime")
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert!(lifetime > HOUR * 24 * 365, "{written}");
        assert!(now.checked_add(lifetime * 2).is_some(), "{written}");

        let body = format!(r#"{{"access_token":"t","expires_on":{written}}}"#);
        assert!(matches!(expiry(&body), Some(Expiry::At(_))), "{written}");
    }
}

#[test]
fn fc_a27_a_refresh_hint_is_passed_on_or_ignored() {
    let hint = |written: &str| {
        let body = format!(r#"{{"access_token":"t","expires_in":3600,"refresh_in":{written}}}"#);
        read(body).expect(written).refresh_hint()
    };
    for written in ["1800", r#""1800""#, "1800.0"] {
        assert_eq!(
            hint(written),
            Some(RefreshHint::In(Duration::from_secs(1800))),
            "{written}"
        );
    }
    for written in ["0", "-5", "null", r#""soon""#, "[]", "{}"] {
        assert_eq!(hint(written), None, "{written}");
    }
    // Whether a hint fits the lifetime is the schedule's business.
    assert_eq!(hint("7200"), Some(RefreshHint::In(HOUR * 2)));
}

#[test]
fn x7_a_gateways_page_is_named_by_status_and_type() {
    let error = refused(502, HTML, "<html><h1>canary</h1></html>");
    assert_eq!(error.kind(), Unavailable);
    assert_names(&error, &["502", "text/html"]);
    assert!(!format!("{error:?}").contains("canary"));
    assert!(error.source().is_none());
}

#[test]
fn x8_a_page_instead_of_a_token_is_malformed() {
    let error = refused(200, HTML, "<html>canary</html>");
    assert_eq!(error.kind(), Malformed);
    assert_names(&error, &["200", "text/html"]);
}

#[test]
fn fc_a16_what_is_no_json_is_named_and_not_shown() {
    for (headers, named) in [
        (HTML, "text/html"),
        (&[("content-type", "text/plain")][..], "text/plain"),
        (&[], "without a content type"),
        (
            &[("content-type", "canary canary/canary")],
            "without a content type",
        ),
    ] {
        for body in ["<html>canary</html>", "canary", "\"canary\"", "17", "null"] {
            let error = refused(200, headers, body);
            assert_eq!(error.kind(), Malformed, "{body}");
            assert_names(&error, &[named, "status 200"]);
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }
}

#[test]
fn json_is_read_whatever_its_content_type() {
    for headers in [HTML, &[("content-type", "text/plain")], &[]] {
        let body = answer(200, headers, r#"{"access_token":"t"}"#);
        assert!(ResponseReader::new().read(body, &[], NOW).is_ok());
    }
    assert!(read("\u{feff} {\"access_token\":\"t\"}\n").is_ok());
}

#[test]
fn any_status_of_success_will_do() {
    let created = answer(201, JSON, r#"{"access_token":"t"}"#);
    assert!(ResponseReader::new().read(created, &[], NOW).is_ok());
}

#[test]
fn x9_an_error_with_status_200_is_an_error() {
    let error = refused(200, JSON, r#"{"error":"invalid_grant"}"#);
    assert_eq!(
        (error.kind(), error.code()),
        (Denied, Some("invalid_grant"))
    );
}

#[test]
fn fc_a31_an_error_beside_a_token_is_an_error() {
    for (body, kind) in [
        (r#"{"error":"invalid_scope","access_token":"t"}"#, Denied),
        (
            r#"{"access_token":"t","error":"temporarily_unavailable"}"#,
            Unavailable,
        ),
        (r#"{"error":{"code":7},"access_token":"t"}"#, Denied),
        (r#"{"error":true}"#, Denied),
    ] {
        assert_eq!(refused(200, JSON, body).kind(), kind, "{body}");
    }
    for body in [
        r#"{"access_token":"t","error":null}"#,
        r#"{"access_token":"t","error":""}"#,
        r#"{"access_token":"t","error":false}"#,
    ] {
        assert!(read(body).is_ok(), "{body}");
    }
}

#[test]
fn x10_a_description_with_escapes_keeps_its_numbers() {
    let error = refused(
        401,
        JSON,
        r#"{"error":"invalid_client","error_description":"AADSTS7000215: \"bad\" secret.\r\nTrace ID: 7f"}"#,
    );
    assert_eq!(
        error.description(),
        Some("AADSTS7000215: \"bad\" secret.  Trace ID: 7f")
    );
}

#[test]
fn fc_a14_truncated_json_is_malformed() {
    let whole = r#"{"access_token":"canary","expires_in":3600}"#;
    for cut in 1..whole.len() {
        let error = read(&whole.as_bytes()[..cut]).expect_err("cut");
        assert_eq!(error.kind(), Malformed, "{cut}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    assert!(read(whole).is_ok());
}

#[test]
fn fc_a15_an_empty_answer_is_a_fault_of_the_moment() {
    for (status, body) in [(200, ""), (200, " \r\n"), (204, "")] {
        let error = refused(status, JSON, body);
        assert_eq!(error.kind(), Unavailable, "{status}");
        assert_names(&error, &["empty"]);
    }
}

#[test]
fn fc_a19_a_document_that_is_a_trap_is_an_error() {
    let deep = 100_000;
    for (trap, body) in [
        ("deep arrays", "[".repeat(deep)),
        ("deep objects", r#"{"a":"#.repeat(deep)),
        (
            "a deep field",
            format!(r#"{{"access_token":{}"#, "[".repeat(deep)),
        ),
        (
            "two tokens",
            r#"{"access_token":"a","access_token":"b"}"#.to_owned(),
        ),
        (
            "two tokens, one with an escape in its name",
            r#"{"access_token":"a","access\u005ftoken":"b"}"#.to_owned(),
        ),
        (
            "two lifetimes",
            r#"{"access_token":"a","expires_in":1,"expires_in":2}"#.to_owned(),
        ),
        ("an array in the order of the fields", r#"["t"]"#.to_owned()),
        (
            "not UTF-8 after all",
            "{\"access_token\":\"\\ud800\"}".to_owned(),
        ),
    ] {
        assert_eq!(read(body).expect_err(trap).kind(), Malformed, "{trap}");
    }
    let not_utf8 = read(&b"{\"access_token\":\"\xff\"}"[..]).unwrap_err();
    assert_eq!(not_utf8.kind(), Malformed);

    // What nobody reads does no harm.
    let nested = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let body = format!(r#"{{"x":{nested},"x":1e400,"access_token":"t"}}"#);
    assert!(read(body).is_ok());
}

#[test]
fn a_field_that_is_there_twice_is_named_in_the_cause() {
    let error = read(r#"{"access_token":"canary","access_token":"canary"}"#).unwrap_err();
    let cause = error.source().unwrap().to_string();
    assert!(
        cause.contains("access_token") && !cause.contains("canary"),
        "{cause}"
    );
}

#[test]
fn fc_a20_a_field_of_the_wrong_type_is_named() {
    for (field, body) in [
        ("access_token", r#"{"access_token":19470815}"#),
        ("access_token", r#"{"access_token":["19470815"]}"#),
        ("access_token", r#"{"access_token":{"t":"19470815"}}"#),
        ("access_token", r#"{"access_token":true}"#),
        (
            "token_type",
            r#"{"access_token":"t","token_type":19470815}"#,
        ),
        (
            "expires_in",
            r#"{"access_token":"t","expires_in":["19470815"]}"#,
        ),
        (
            "expires_on",
            r#"{"access_token":"t","expires_on":{"at":19470815}}"#,
        ),
    ] {
        let error = read(body).expect_err(body);
        assert_eq!(error.kind(), Malformed, "{body}");
        assert_names(&error, &[field]);
        assert!(!format!("{error:?}").contains("19470815"), "{error:?}");
    }
}

#[test]
fn fc_a21_a_token_that_is_missing_or_blank_is_malformed() {
    for body in [
        "{}",
        r#"{"token_type":"Bearer","expires_in":3600}"#,
        r#"{"access_token":null}"#,
        r#"{"access_token":""}"#,
        r#"{"access_token":" \t\n"}"#,
        r#"{"access_token":"\u00a0"}"#,
    ] {
        let error = read(body).expect_err(body);
        assert_eq!(error.kind(), Malformed, "{body}");
        assert_names(&error, &["access_token"]);
    }
}

#[test]
fn a_token_of_more_than_64_kib_is_malformed() {
    let body = |length: usize| format!(r#"{{"access_token":"{}"}}"#, "t".repeat(length));
    assert!(read(body(TokenResponse::MAX_TOKEN_LENGTH)).is_ok());
    let error = read(body(TokenResponse::MAX_TOKEN_LENGTH + 1)).unwrap_err();
    assert_eq!(error.kind(), Malformed);
    assert_names(&error, &["access_token", "64 KiB"]);
}

#[test]
fn x25_a_token_of_another_type_is_refused_by_name() {
    for written in ["bearer", "BEARER", "Bearer"] {
        let body = format!(r#"{{"access_token":"t","token_type":"{written}"}}"#);
        let token = read(body).unwrap().into_token(HOUR).unwrap();
        assert_eq!(token.placement().scheme(), Some("Bearer"));
    }
    let error = read(r#"{"access_token":"t","token_type":"mac"}"#)
        .unwrap()
        .into_token(HOUR)
        .unwrap_err();
    assert_eq!(error.kind(), Malformed);
    assert_names(&error, &["type mac"]);
}

#[test]
fn fc_a28_only_bearer_tokens_are_stamped_as_bearer() {
    let usable = |token_type: &str| {
        read(format!(
            r#"{{"access_token":"t0k3n","token_type":{token_type}}}"#
        ))
        .expect(token_type)
        .into_token(HOUR)
    };
    for token_type in ["null", r#""""#, r#"" bearer ""#] {
        assert!(usable(token_type).is_ok(), "{token_type}");
    }
    for (token_type, named) in [
        (r#""MAC""#, "MAC"),
        (r#""DPoP""#, "DPoP"),
        (r#""dpop""#, "DPoP"),
        (r#""N_A""#, "N_A"),
        (r#""Bearer t0k3n""#, "Bearer […]"),
    ] {
        let error = usable(token_type).expect_err(token_type);
        assert_eq!(error.kind(), Malformed, "{token_type}");
        assert_names(&error, &[named]);
    }
}

#[test]
fn fc_a06_a_failing_server_is_unavailable() {
    for status in [500, 501, 502, 503, 504, 599] {
        for body in ["", "oops", r#"{"error":"invalid_client"}"#, r#"{"x":1}"#] {
            let error = refused(status, JSON, body);
            assert_eq!(error.kind(), Unavailable, "{status} {body}");
            assert_eq!(error.status().map(|status| status.as_u16()), Some(status));
            assert_eq!(error.retry_after(), None);
        }
    }
}

#[test]
fn fc_a07_too_many_requests_is_unavailable() {
    let error = refused(429, HTML, "<html>");
    assert_eq!((error.kind(), error.retry_after()), (Unavailable, None));
    assert_names(&error, &["fewer requests"]);
}

#[test]
fn fc_a36_a_request_timeout_or_too_early_is_unavailable() {
    for status in [408, 425] {
        assert_eq!(refused(status, &[], "").kind(), Unavailable, "{status}");
    }
}

#[test]
fn fc_a08_the_wish_to_be_left_alone_is_passed_on() {
    for status in [429, 503, 400] {
        let error = refused(status, &[("retry-after", "7")], "");
        assert_eq!(
            error.retry_after(),
            Some(Duration::from_secs(7)),
            "{status}"
        );
    }
}

#[test]
fn x23_a_date_counts_from_the_servers_own_date() {
    let now = ("date", "Wed, 21 Oct 2026 07:27:00 GMT");
    let until = ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT");
    let error = refused(503, &[now, until], "");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
}

#[test]
fn fc_a09_a_delay_that_is_none_is_ignored() {
    for value in ["0", "-7", "soon", "", "Wed, 21 Oct 1999 07:28:00 GMT"] {
        let date = ("date", "Wed, 21 Oct 2026 07:27:00 GMT");
        let error = refused(429, &[date, ("retry-after", value)], "");
        assert_eq!(error.retry_after(), None, "{value:?}");
        let error = refused(429, &[date, ("retry-after-ms", value)], "");
        assert_eq!(error.retry_after(), None, "{value:?}");
    }
    let error = refused(429, &[("retry-after", "99999999999999999999999")], "");
    assert!(error.retry_after().is_some());
    assert!(!error.to_string().is_empty());
}

#[test]
fn milliseconds_are_finer_than_seconds() {
    for name in ["retry-after-ms", "x-ms-retry-after-ms"] {
        let error = refused(429, &[("retry-after", "2"), (name, "1500")], "");
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
        let error = refused(429, &[("retry-after", "2"), (name, "1.5")], "");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    }
}

#[test]
fn x22_a_rate_limit_names_its_status_and_delay() {
    let error = refused(429, &[("retry-after", "7")], "");
    assert_names(&error, &["429", "retry after 7 s"]);
}

#[test]
fn fc_a29_each_code_has_its_kind() {
    for (code, kind) in [
        ("invalid_client", Denied),
        ("invalid_grant", Denied),
        ("unauthorized_client", Denied),
        ("invalid_scope", Denied),
        ("unsupported_grant_type", Denied),
        ("invalid_request", Denied),
        ("invalid_target", Denied),
        ("access_denied", Denied),
        ("interaction_required", Denied),
        ("something_of_their_own", Denied),
        ("temporarily_unavailable", Unavailable),
        ("server_error", Unavailable),
        ("slow_down", Unavailable),
    ] {
        for status in [400, 401, 403, 404, 200] {
            let error = refused(status, JSON, &format!(r#"{{"error":"{code}"}}"#));
            assert_eq!(error.kind(), kind, "{status} {code}");
            assert_eq!(error.code(), Some(code));
            assert_names(&error, &[code]);
        }
    }
}

#[test]
fn a_secret_that_is_a_part_of_the_code_does_not_change_its_kind() {
    let error = ResponseReader::new()
        .read(
            answer(400, JSON, r#"{"error":"server_error"}"#),
            &[&Secret::from("server")],
            NOW,
        )
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Unavailable, Some("[…]_error"))
    );
}

#[test]
fn o19_temporarily_unavailable_is_worth_another_try() {
    let body = r#"{"error":"temporarily_unavailable"}"#;
    assert_eq!(refused(400, JSON, body).kind(), Unavailable);
}

#[test]
fn fc_a29_a_refusal_without_a_word_goes_by_its_status() {
    for (status, kind) in [
        (400, Denied),
        (401, Denied),
        (403, Denied),
        (404, Malformed),
        (405, Malformed),
        (415, Malformed),
    ] {
        for (body, named) in [("", "empty"), ("<html>", "text/html")] {
            let error = refused(status, HTML, body);
            assert_eq!(error.kind(), kind, "{status}");
            assert_names(&error, &[named, &status.to_string()]);
        }
    }
}

#[test]
fn x20_a_redirect_is_named_with_its_host() {
    let location = "https://user:canary@evil.test:8443/canary?canary=canary";
    for status in [301, 302, 303, 307, 308] {
        let error = refused(status, &[("location", location)], "canary");
        assert_eq!(error.kind(), Malformed);
        assert_names(&error, &["redirect", "evil.test", &status.to_string()]);
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[test]
fn fc_a32_a_redirect_to_nowhere_is_still_a_redirect() {
    for headers in [
        &[][..],
        &[("location", "/canary")],
        &[("location", "http://[canary")],
    ] {
        let error = refused(302, headers, r#"{"access_token":"t"}"#);
        assert_eq!(error.kind(), Malformed);
        assert_names(&error, &["redirect"]);
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[test]
fn the_id_of_the_request_is_passed_on() {
    for name in [
        "x-ms-request-id",
        "x-okta-request-id",
        "x-correlation-id",
        "x-request-id",
    ] {
        let error = refused(400, &[(name, "req-17")], r#"{"error":"invalid_scope"}"#);
        assert_eq!(error.correlation(), Some("req-17"), "{name}");
    }
    let both = [("x-request-id", "proxy"), ("x-okta-request-id", "issuer")];
    assert_eq!(refused(503, &both, "").correlation(), Some("issuer"));
}

#[test]
fn fc_g10_what_was_sent_does_not_come_back() {
    let (secret, jwt) = (
        "can4ry+&s3cret",
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.Y2FuYXJ5",
    );
    let body = format!(
        r#"{{"error":"bad {secret}","error_description":"secret '{secret}' and assertion {jwt}",
            "error_uri":"https://a.test/?{secret}"}}"#
    );
    let headers = [("x-request-id", secret)];
    let typed = [("content-type", "can4ry/s3cret")];
    let error = ResponseReader::new()
        .read(
            answer(502, &typed, "<"),
            &[&Secret::from("can4ry/s3cret")],
            NOW,
        )
        .unwrap_err();
    assert!(!error.to_string().contains("can4ry"), "{error}");

    let error = ResponseReader::new()
        .read(answer(400, &headers, body), &[&Secret::from(secret)], NOW)
        .unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(
        !shown.contains("can4ry") && !shown.contains("eyJ"),
        "{shown}"
    );
    assert_eq!(error.code(), Some("bad […]"));
}

#[test]
fn fc_g10_a_token_type_that_quotes_a_secret_is_not_shown() {
    let read = |token_type: &str, sent: &str| {
        let body = format!(r#"{{"access_token":"t0k3n","token_type":"{token_type}"}}"#);
        ResponseReader::new().read(answer(200, JSON, body), &[&Secret::from(sent)], NOW)
    };
    let response = read("mac canary t0k3n", "canary").unwrap();
    assert_eq!(response.token_type(), "mac […] […]");
    let error = response.into_token(HOUR).unwrap_err();
    assert_names(&error, &["type mac […] […],"]);

    // A client whose secret is this word still gets its token.
    assert!(read("bearer", "bearer").unwrap().into_token(HOUR).is_ok());
}

#[test]
fn an_integration_can_say_more() {
    let reader = ResponseReader::new().with_vendor_errors(|refusal, error| {
        assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
        let mut error = error;
        for place in ["/error_codes/0", "/error_codes/1"] {
            if let Some(code) = refusal.text(place) {
                error = error.with_sub_code(&code);
            }
        }
        match refusal.headers().get("x-limit") {
            Some(_) => error.with_kind(Unavailable),
            None => error,
        }
    });
    let body = r#"{"error":"invalid_request","error_codes":[90033,50196],"trace_id":"7f"}"#;
    let refused = |headers: &[(&str, &str)]| {
        reader
            .read(answer(400, headers, body), &[], NOW)
            .expect_err("refused")
    };
    assert_eq!(refused(&[]).kind(), Denied);
    assert_eq!(refused(&[("x-limit", "1")]).kind(), Unavailable);
    assert_eq!(
        refused(&[]).sub_codes().collect::<Vec<_>>(),
        ["90033", "50196"]
    );
}

#[test]
fn an_integration_is_given_no_secret() {
    let reader = ResponseReader::new().with_vendor_errors(|refusal, error| {
        let shown = format!("{refusal:?} {:?}", refusal.secrets());
        assert!(!shown.contains("8675309"), "{shown}");
        for place in ["/text", "/number"] {
            assert_eq!(refusal.text(place).as_deref(), Some("[…]"));
        }
        for place in ["", "/none", "/list", "/empty"] {
            assert_eq!(refusal.text(place), None, "{place}");
        }
        assert_eq!(refusal.text("/truth").as_deref(), Some("true"));
        error
    });
    let body =
        r#"{"text":"8675309","number":8675309,"truth":true,"list":[1],"empty":"","error":"x"}"#;
    let error = reader.read(answer(400, &[], body), &[&Secret::from("8675309")], NOW);
    assert_eq!(error.unwrap_err().code(), Some("x"));
}

#[test]
fn debug_shows_no_token() {
    let response = read(r#"{"access_token":"canary","token_type":"canary"}"#).unwrap();
    let shown = format!("{response:?} {:?}", ResponseReader::new());
    assert!(!shown.contains("canary"), "{shown}");
    assert_eq!(response.access_token().expose(), "canary");
}

#[test]
fn a_header_of_strange_bytes_is_ignored() {
    let mut response = answer(503, &[], "");
    let strange = http::HeaderValue::from_bytes(b"\xff\xfe").unwrap();
    let headers: &mut HeaderMap = response.headers_mut();
    for name in ["retry-after", "x-request-id", "content-type", "date"] {
        headers.insert(name, strange.clone());
    }
    let error = ResponseReader::new().read(response, &[], NOW).unwrap_err();
    assert_eq!((error.kind(), error.correlation()), (Unavailable, None));
}
