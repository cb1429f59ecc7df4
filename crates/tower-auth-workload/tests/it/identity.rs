//! Identity tokens for the tests, and the worlds that they are in.
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tower_auth_core::{Error, Fetch, Reason, Token, TokenSource};
use tower_auth_io::{ManualClock, World};
use tower_auth_testing::Canary;

pub(crate) const AUDIENCE: &str = "https://api.anthropic.com";
/// What `ManualClock` shows at first.
pub(crate) const NOW: u64 = 1_893_456_000;

pub(crate) fn jwt_of(claims: Value) -> String {
    let [header, claims] = [
        r#"{"alg":"RS256","kid":"k1"}"#.to_owned(),
        claims.to_string(),
    ]
    .map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}.c2lnbmF0dXJl")
}

/// A token for `AUDIENCE` that ends in five minutes.
pub(crate) fn jwt(id: &str) -> String {
    jwt_of(json!({
        "iss": "https://issuer.test",
        "sub": "workload",
        "aud": AUDIENCE,
        "iat": NOW,
        "exp": NOW + 300,
        "jti": id,
    }))
}

/// A token for this audience that never ends, as a canary.
pub(crate) fn canary_for(name: &str, audience: &str) -> Canary {
    let text = jwt_of(json!({
        "aud": [audience],
        "exp": 4_102_444_800_u64,
        "jti": Canary::new(name.to_owned()).text(),
    }));
    Canary::of(name.to_owned(), text)
}

pub(crate) fn canary(name: &str) -> Canary {
    canary_for(name, AUDIENCE)
}

/// An empty world and its clock.
pub(crate) fn world() -> (World, ManualClock) {
    let clock = ManualClock::default();
    (World::closed().with_clock(clock.clone()), clock)
}

pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(crate) async fn fetch(source: &impl TokenSource) -> Result<Token, Error> {
    source.fetch(&Fetch::new(Reason::First)).await
}

/// The text of the token that the source gives.
pub(crate) async fn text(source: &impl TokenSource) -> String {
    match fetch(source).await {
        Ok(token) => token.secret().expose().to_owned(),
        Err(error) => panic!("{error:?}"),
    }
}

pub(crate) async fn error(source: &impl TokenSource) -> Error {
    match fetch(source).await {
        Ok(_) => panic!("there is a token"),
        Err(error) => error,
    }
}
