use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};
use tower_auth_core::Stamp;

use super::*;
use crate::Headers;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000)
}

fn api_key() -> Placement {
    Placement::header(HeaderName::from_static("x-api-key"))
}

fn bearer() -> Placement {
    Placement::authorization("Bearer")
}

fn prefixes() -> Vec<Prefix> {
    vec![
        Prefix::new("ex-key-", "an API key").belongs_in(api_key()),
        Prefix::new("ex-oat-", "an OAuth token").belongs_in(bearer()),
        Prefix::new("ex-ort-", "a refresh token"),
    ]
}

fn flaws(text: &str, place: &Placement, audience: Option<&str>) -> Vec<ShapeFlaw> {
    let prefixes = prefixes();
    let measure = Measure {
        prefixes: &prefixes,
        audience,
        now: now(),
    };
    measure.flaws_of(text, place)
}

fn words(text: &str, place: &Placement) -> Vec<&'static str> {
    flaws(text, place, None)
        .iter()
        .map(ShapeFlaw::as_str)
        .collect()
}

fn jwt(claims: &str) -> String {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    format!("{}.{}.c2ln", part(r#"{"alg":"none"}"#), part(claims))
}

#[test]
fn fc_e05_a_credential_in_the_header_of_another_kind_is_named_with_its_place() {
    assert_eq!(words("ex-key-1", &api_key()), [""; 0]);
    assert_eq!(words("ex-oat-1", &bearer()), [""; 0]);
    assert_eq!(
        words("ex-oat-1", &Placement::authorization("bearer")),
        [""; 0]
    );
    let said = |text: &str, place: &Placement| flaws(text, place, None)[0].to_string();
    assert_eq!(
        said("ex-oat-1", &api_key()),
        "is an OAuth token, which belongs in \"authorization: Bearer …\""
    );
    assert_eq!(
        said("ex-key-1", &bearer()),
        "is an API key, which belongs in \"x-api-key: …\""
    );
    assert_eq!(
        said("ex-ort-1", &bearer()),
        "is a refresh token, which belongs in no header"
    );
    assert_eq!(words("something else", &api_key()), [""; 0]);
}

#[test]
fn fc_e06_what_was_pasted_round_a_value_is_named() {
    for (text, word) in [
        ("\"t\"", "quoted"),
        ("'t'", "quoted"),
        (" \"t\"\n", "quoted"),
        ("Bearer t", "scheme twice"),
        ("bearer  t", "scheme twice"),
        ("Authorization: Bearer t", "scheme twice"),
        ("-----BEGIN PRIVATE KEY-----\nMII\n", "PEM"),
        (r#"{"access_token":"t"}"#, "JSON"),
    ] {
        assert_eq!(words(text, &api_key()), [word], "{text}");
    }
    for text in ["t", "bearer", "bearer-1", "a\"b", "--", "{t", "\""] {
        assert_eq!(words(text, &api_key()), [""; 0], "{text}");
    }
}

#[test]
fn fc_e01_nothing_and_blanks_are_no_credential() {
    assert_eq!(words("", &api_key()), ["empty"]);
    assert_eq!(words(" \n", &api_key()), ["blank"]);
}

#[test]
fn a_placeholder_is_told_from_a_credential() {
    for text in [
        "changeme",
        "CHANGE_ME",
        "your-api-key",
        "YOUR_API_KEY_HERE",
        "<token>",
        "${TOKEN}",
        "{{ token }}",
        "$(cat token)",
        "%TOKEN%",
        "xxx",
        "XXXX-XXXX",
        "****",
        "ex-key-...",
        "…",
        "null",
    ] {
        assert_eq!(words(text, &api_key()), ["placeholder"], "{text}");
    }
    for text in ["t", "xx", "xxy", "exchangeme", "nullify", "<>", "a%b%"] {
        assert_eq!(words(text, &api_key()), [""; 0], "{text}");
    }
}

#[test]
fn a_jwt_that_has_ended_is_noticed_beyond_the_leeway() {
    assert_eq!(words(&jwt(r#"{"exp":1899999941}"#), &bearer()), [""; 0]);
    assert_eq!(
        flaws(&jwt(r#"{"exp":1899999900}"#), &bearer(), None),
        [ShapeFlaw::Expired {
            at: now() - Duration::from_secs(100),
            since: Duration::from_secs(100),
        }]
    );
    assert_eq!(words(&jwt(r#"{"exp":"soon"}"#), &bearer()), [""; 0]);
}

#[test]
fn a_jwt_for_somebody_else_is_noticed_where_the_audience_is_known() {
    let check = |aud: &str, is_foreign: bool| {
        let text = jwt(&format!(r#"{{"aud":{aud}}}"#));
        assert_eq!(flaws(&text, &bearer(), None), []);
        let found = flaws(&text, &bearer(), Some("api"));
        assert_eq!(!found.is_empty(), is_foreign, "{aud}");
    };
    check(r#""api""#, false);
    check(r#"["other","api"]"#, false);
    check(r#""other""#, true);
    check("[]", true);
    check("7", true);
    assert_eq!(flaws("no JWT", &bearer(), Some("api")), []);
}

#[test]
fn the_header_is_the_one_that_was_stamped() {
    let token = Token::bearer("ex-key-1");
    let stamp = Headers::new().named(api_key());
    let prepared = stamp.prepare(&token).unwrap();
    let mut request = http::Request::new(());
    let clock = crate::clock::Clocks::coarse();
    stamp
        .stamp(
            &prepared,
            &mut request,
            &tower_auth_core::StampContext::new(&clock),
        )
        .unwrap();
    assert_eq!(placement(&token, request.headers()), api_key());
    let mut headers = HeaderMap::new();
    assert_eq!(placement(&token, &headers), bearer());
    headers.insert("authorization", HeaderValue::from_static("Token ex-key-1"));
    assert_eq!(
        placement(&token, &headers),
        Placement::authorization("Token")
    );
}
