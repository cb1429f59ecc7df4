//! The grants that rest on another token, and what comes back for them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use tower_auth_core::{Error, ErrorKind, Fetch, Reason, Token, TokenSource};
use tower_auth_io::{ManualClock, World};
use tower_auth_oauth::{
    Assertion, ClientAuth, Grant, GrantSource, SigningKey, TokenEndpoint, TokenType,
};
use tower_auth_testing::{Answer, Expect, FakeEndpoint, LeakGuard, Reply, ScriptedSource};

const EXCHANGED: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":60,
    "issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#;
const TOKEN: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#;

fn endpoint(issuer: &FakeEndpoint) -> TokenEndpoint {
    let world = World::closed()
        .with_transport(issuer.transport())
        .with_clock(ManualClock::default());
    TokenEndpoint::new("https://issuer.test/token", &world).unwrap()
}

async fn fetch(issuer: &FakeEndpoint, auth: ClientAuth, grant: Grant) -> Result<Token, Error> {
    let source = GrantSource::new(endpoint(issuer), auth, grant);
    source.fetch(&Fetch::new(Reason::First)).await
}

fn answer(text: &str) -> Answer {
    Answer::token(Token::bearer(text).expires_in(Duration::from_secs(3600)))
}

#[tokio::test]
async fn o10_an_exchange_has_the_fields_of_the_rfc() {
    let issuer = FakeEndpoint::new();
    issuer.reply(Reply::json(EXCHANGED));
    let grant = Grant::token_exchange("subject", TokenType::JWT)
        .with_actor("actor", TokenType::ACCESS_TOKEN)
        .unwrap()
        .with_requested_token_type(TokenType::ACCESS_TOKEN)
        .unwrap()
        .with_scope("read")
        .with_resource("https://a.test/")
        .with_resource("https://b.test/")
        .with_audience("c")
        .with_audience("d");
    let auth = ClientAuth::secret_basic("id", "secret").unwrap();
    let token = fetch(&issuer, auth, grant).await.unwrap();
    assert_eq!(token.secret().expose(), "t");
    let form: Vec<_> = form_urlencoded::parse(issuer.last_request().body())
        .into_owned()
        .collect();
    let urn = |name: &str| format!("urn:ietf:params:oauth:{name}");
    let expected = [
        ("grant_type", urn("grant-type:token-exchange")),
        ("scope", "read".to_owned()),
        ("resource", "https://a.test/".to_owned()),
        ("resource", "https://b.test/".to_owned()),
        ("audience", "c".to_owned()),
        ("audience", "d".to_owned()),
        ("subject_token", "subject".to_owned()),
        ("subject_token_type", urn("token-type:jwt")),
        ("actor_token", "actor".to_owned()),
        ("actor_token_type", urn("token-type:access_token")),
        ("requested_token_type", urn("token-type:access_token")),
    ];
    assert_eq!(
        form,
        expected
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec()
    );
}

#[tokio::test]
async fn o10_an_answer_that_does_not_say_what_it_is_is_taken_with_a_warning() {
    for (body, lines) in [(TOKEN, 1), (EXCHANGED, 0)] {
        let issuer = FakeEndpoint::new();
        issuer.reply(Reply::json(body));
        let guard = LeakGuard::new();
        let recording = guard.record_logs();
        let grant = Grant::token_exchange("subject", TokenType::JWT);
        fetch(&issuer, ClientAuth::anonymous(), grant)
            .await
            .unwrap();
        drop(recording);
        let logs = guard.logs();
        assert_eq!(logs.len(), lines, "{logs:?}");
        assert!(logs.iter().all(|line| line.contains("issued_token_type")));
    }
}

#[tokio::test]
async fn o10_a_token_that_is_no_access_token_is_named() {
    let issuer = FakeEndpoint::new();
    issuer.reply(Reply::json(
        r#"{"access_token":"t","token_type":"N_A","issued_token_type":"urn:x:id","expires_in":60}"#,
    ));
    let grant = Grant::token_exchange("subject", TokenType::JWT);
    let error = fetch(&issuer, ClientAuth::anonymous(), grant)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("N_A"), "{error}");
}

#[test]
fn o11_an_actor_has_a_type_and_is_for_an_exchange_only() {
    let error = TokenType::new("").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("actor_token_type"), "{error}");
    let error = Grant::client_credentials()
        .with_actor("a", TokenType::JWT)
        .unwrap_err();
    assert!(error.to_string().contains("actor_token"), "{error}");
    Grant::jwt_bearer("a")
        .with_requested_token_type(TokenType::JWT)
        .unwrap_err();
}

#[tokio::test]
async fn o17_a_subject_that_is_about_to_run_out_is_asked_for_again() {
    let issuer = FakeEndpoint::new();
    issuer.expect(
        Expect::post("/token").form("subject_token", "long"),
        Reply::json(EXCHANGED),
    );
    let short = Answer::token(Token::bearer("short").expires_in(Duration::from_secs(5)));
    let source = Arc::new(ScriptedSource::new([short, answer("long")]));
    let grant = Grant::token_exchange(source.clone(), TokenType::JWT);
    fetch(&issuer, ClientAuth::anonymous(), grant)
        .await
        .unwrap();
    issuer.assert_done();
    assert_eq!(source.call_count(), 2);
}

#[tokio::test]
async fn a_subject_that_stays_short_is_sent_all_the_same() {
    let issuer = FakeEndpoint::new();
    issuer.reply(Reply::json(EXCHANGED));
    let short = Token::bearer("short").expires_in(Duration::from_secs(5));
    let grant = Grant::token_exchange(short, TokenType::JWT);
    fetch(&issuer, ClientAuth::anonymous(), grant)
        .await
        .unwrap();
    issuer.assert_done();
}

#[tokio::test]
async fn a_jwt_of_another_source_is_a_grant_without_a_client() {
    let issuer = FakeEndpoint::new();
    issuer.expect(
        Expect::post("/token")
            .form("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
            .form("assertion", "eyJ.a.b")
            .no_form("client_id")
            .no_header("authorization"),
        Reply::json(TOKEN),
    );
    let grant = Grant::jwt_bearer("eyJ.a.b");
    fetch(&issuer, ClientAuth::anonymous(), grant)
        .await
        .unwrap();
    issuer.assert_done();
}

#[tokio::test]
async fn a_jwt_that_is_signed_here_speaks_for_its_subject() {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    let issuer = FakeEndpoint::new();
    issuer.reply(Reply::json(TOKEN));
    let key = SigningKey::generate().unwrap();
    let assertion = Assertion::new(key, "service@a.test")
        .with_subject("user@a.test")
        .with_claim("scope", "read")
        .unwrap();
    let grant = Grant::signed_jwt_bearer(assertion);
    fetch(&issuer, ClientAuth::anonymous(), grant)
        .await
        .unwrap();
    let request = issuer.last_request();
    let (_, jwt) = form_urlencoded::parse(request.body())
        .find(|(name, _)| name == "assertion")
        .unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(jwt.split('.').nth(1).unwrap())
        .unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    let claim = |name: &str| claims.get(name).cloned().unwrap_or_default();
    assert_eq!(claim("iss"), "service@a.test");
    assert_eq!(claim("sub"), "user@a.test");
    assert_eq!(claim("aud"), "https://issuer.test/token");
    assert_eq!(claim("scope"), "read");
}

#[tokio::test]
async fn fc_a30_a_refused_subject_is_read_again_and_tried_once_if_it_has_changed() {
    let issuer = FakeEndpoint::new();
    issuer.reply(Reply::json(r#"{"error":"invalid_grant"}"#).with_status(400));
    issuer.expect(
        Expect::post("/token").form("assertion", "new"),
        Reply::json(TOKEN),
    );
    let source = ScriptedSource::new(["old", "new"].map(answer));
    let grant = Grant::jwt_bearer(source);
    fetch(&issuer, ClientAuth::anonymous(), grant)
        .await
        .unwrap();
    issuer.assert_done();
}

#[tokio::test]
async fn the_error_of_a_subject_names_the_subject() {
    let issuer = FakeEndpoint::new();
    let error = Error::new(ErrorKind::NotConfigured, "there is no file").with_source_name("a file");
    let grant = Grant::jwt_bearer(ScriptedSource::new([Answer::failing(error)]));
    let error = fetch(&issuer, ClientAuth::anonymous(), grant)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert_eq!(error.source_name(), Some("a file"));
    issuer.assert_done();
}
