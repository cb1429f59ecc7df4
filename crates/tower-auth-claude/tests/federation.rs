//! The exchange of an identity token, request by request.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde_json::{Value, json};
use support::{identity_token, issuer, jwt, minted, refused, stuck_issuer, world};
use tower_auth_claude::{ApiKey, ApiKeyHeader, AuthToken, Federation};
use tower_auth_core::{
    Credential as _, Error, ErrorKind, Expiry, Fetch, HeaderMode, Reason, Token, TokenSource,
};
use tower_auth_io::{MapEnv, MemoryFiles, TokenFile, World};
use tower_auth_testing::{Answer, Canary, Expect, FakeEndpoint, LeakGuard, Reply, ScriptedSource};

async fn fetch(source: &impl TokenSource) -> Result<Token, Error> {
    source.fetch(&Fetch::new(Reason::First)).await
}

fn federation<S: TokenSource>(subject: S, endpoint: &FakeEndpoint) -> Federation<S> {
    Federation::new("fdrl_1", "org-uuid", subject, &world(endpoint)).unwrap()
}

/// What becomes of one exchange that is answered like this.
async fn answered(reply: Reply) -> Result<Token, Error> {
    let endpoint = FakeEndpoint::new();
    endpoint.reply(reply);
    let result = fetch(&federation(issuer(), &endpoint)).await;
    assert_eq!(endpoint.request_count(), 1, "one attempt");
    if let Err(error) = &result {
        assert_eq!(
            error.endpoint(),
            Some("api.anthropic.com/v1/oauth/token"),
            "{error}"
        );
        assert_eq!(error.source_name(), Some("claude federation"));
        let guard = LeakGuard::new();
        guard.error("the error", error);
        guard.assert_clean();
    }
    result
}

fn env(variables: &[(&str, &str)]) -> MapEnv {
    variables.iter().copied().collect()
}

const FED: [(&str, &str); 3] = [
    ("ANTHROPIC_FEDERATION_RULE_ID", "fdrl_1"),
    ("ANTHROPIC_ORGANIZATION_ID", "org-uuid"),
    ("ANTHROPIC_IDENTITY_TOKEN", "ey.lit.jwt"),
];

/// The body of the one exchange that the environment leads to.
async fn exchanged(variables: &[(&str, &str)], files: MemoryFiles) -> Result<Value, Error> {
    let endpoint = FakeEndpoint::new();
    endpoint.always(|_, _| minted("sk-ant-oat01-MINTED", 600));
    let world = world(&endpoint).with_env(env(variables)).with_files(files);
    fetch(&Federation::from_env(&world)?).await?;
    Ok(serde_json::from_slice(endpoint.last_request().body()).unwrap())
}

async fn exchanged_with(extra: &[(&str, &str)]) -> Value {
    exchanged(&[&FED, extra].concat(), MemoryFiles::new())
        .await
        .unwrap()
}

#[tokio::test]
async fn c2_a_key_is_one_header() {
    let key = fetch(&ApiKey::new("k").unwrap()).await.unwrap();
    assert_eq!(key.placement().name(), "x-api-key");
    assert!(key.headers().is_empty());
    assert_eq!(key.expiry(), Expiry::Never);
    let bearer = ApiKey::new("k").unwrap().with_header(ApiKeyHeader::Bearer);
    let bearer = fetch(&bearer).await.unwrap();
    assert_eq!(bearer.placement().to_string(), "authorization: Bearer …");
    assert!(bearer.headers().is_empty());
}

#[tokio::test]
async fn c3_a_token_of_others_is_a_bearer_without_a_beta() {
    let token = fetch(&AuthToken::new("t").unwrap()).await.unwrap();
    assert_eq!(token.placement().to_string(), "authorization: Bearer …");
    assert!(token.headers().is_empty(), "no beta for a token of others");
}

#[test]
fn c3_a_token_of_others_goes_to_its_base_url_alone() {
    let world = World::closed().with_env(MapEnv::from([
        ("ANTHROPIC_AUTH_TOKEN", "t"),
        ("ANTHROPIC_BASE_URL", "https://gw.test/claude"),
    ]));
    let origins = AuthToken::from_env(&world).unwrap().describe();
    assert_eq!(origins.origins()[0].to_string(), "https://gw.test");
}

#[test]
fn c10_a_key_that_no_header_can_carry_is_named_by_its_variable() {
    let world =
        |value: &str| World::closed().with_env(MapEnv::from([("ANTHROPIC_API_KEY", value)]));
    let canary = Canary::new("key");
    for (value, what) in [
        (format!("{}\nx", canary.text()), "a line break at character"),
        (
            format!("é{}", canary.text()),
            "outside of ASCII at character 1",
        ),
        (format!("\"{}\"", canary.text()), "quotation marks"),
        (
            format!("sk-ant-oat01-{}", canary.text()),
            "OAuth access token",
        ),
        (format!("sk-ant-ort01-{}", canary.text()), "refresh token"),
        (identity_token("1"), "JWT"),
    ] {
        let error = ApiKey::from_env(&world(&value)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let text = error.to_string();
        assert!(text.contains("ANTHROPIC_API_KEY"), "{text}");
        assert!(text.contains(what), "{text}");
        let guard = LeakGuard::new();
        guard.error("the error", &error);
        guard.assert_clean();
    }
    let error = ApiKey::from_env(&world("")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert!(error.to_string().contains("set but empty"), "{error}");
}

#[tokio::test]
async fn c16_an_exchange_is_what_the_official_clients_send() {
    let endpoint = FakeEndpoint::new();
    endpoint.expect(
        Expect::post("/v1/oauth/token")
            .header(
                "anthropic-beta",
                "oauth-2025-04-20,oidc-federation-2026-04-01",
            )
            .header("content-type", "application/json")
            .has_header("user-agent")
            .no_header("authorization")
            .no_header("x-api-key")
            .no_header("anthropic-version")
            .that("it goes to the API", |request| {
                request.uri().host() == Some("api.anthropic.com")
            }),
        minted("sk-ant-oat01-MINTED", 600),
    );
    let world = world(&endpoint).with_env(env(&FED));
    let source = Federation::from_env(&world).unwrap();
    let token = fetch(&source).await.unwrap();
    endpoint.assert_done();
    let body: Value = serde_json::from_slice(endpoint.last_request().body()).unwrap();
    assert_eq!(
        body,
        json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": "ey.lit.jwt",
            "federation_rule_id": "fdrl_1",
            "organization_id": "org-uuid",
        })
    );
    assert_eq!(token.secret().expose(), "sk-ant-oat01-MINTED");
    assert_eq!(token.placement().to_string(), "authorization: Bearer …");
    assert_eq!(token.expiry(), Expiry::In(Duration::from_secs(600)));
    let beta = &token.headers()[0];
    assert_eq!(beta.name(), HeaderName::from_static("anthropic-beta"));
    assert_eq!(beta.value().expose(), "oauth-2025-04-20");
    assert_eq!(beta.mode(), HeaderMode::MergeList);
    assert_eq!(
        source.describe().origins()[0].to_string(),
        "https://api.anthropic.com"
    );
}

#[tokio::test]
async fn c17_account_and_workspace_are_sent_and_a_scope_is_not() {
    let body = exchanged_with(&[
        ("ANTHROPIC_SERVICE_ACCOUNT_ID", "svac_1"),
        ("ANTHROPIC_WORKSPACE_ID", "wrkspc_1"),
        ("ANTHROPIC_SCOPE", "workspace:developer"),
    ])
    .await;
    assert_eq!(body["service_account_id"], "svac_1");
    assert_eq!(body["workspace_id"], "wrkspc_1");
    assert_eq!(body.as_object().unwrap().len(), 6);
}

#[tokio::test]
async fn c104_a_federated_token_has_no_workspace_header() {
    let endpoint = FakeEndpoint::new();
    endpoint.reply(minted("t", 600));
    let source = federation(issuer(), &endpoint)
        .with_workspace("wrkspc_1")
        .unwrap();
    let token = fetch(&source).await.unwrap();
    let names: Vec<&str> = token.headers().iter().map(|h| h.name().as_str()).collect();
    assert_eq!(names, ["anthropic-beta"]);
}

#[tokio::test]
async fn c18_an_empty_account_or_workspace_is_left_out() {
    let body = exchanged_with(&[
        ("ANTHROPIC_SERVICE_ACCOUNT_ID", ""),
        ("ANTHROPIC_WORKSPACE_ID", " "),
    ])
    .await;
    assert_eq!(body.as_object().unwrap().len(), 4);
}

#[tokio::test]
async fn c20_an_identity_token_in_a_variable_is_trimmed() {
    let body = exchanged_with(&[("ANTHROPIC_IDENTITY_TOKEN", " ey.lit.jwt\n")]).await;
    assert_eq!(body["assertion"], "ey.lit.jwt");
}

#[tokio::test]
async fn c19_an_identity_token_in_a_file_is_trimmed() {
    let files = MemoryFiles::new().with("/t", "\n ey.file.jwt \r\n");
    let variables = [&FED[..2], &[("ANTHROPIC_IDENTITY_TOKEN_FILE", "/t")]].concat();
    let body = exchanged(&variables, files).await.unwrap();
    assert_eq!(body["assertion"], "ey.file.jwt");
}

#[tokio::test]
async fn c21_a_file_counts_more_than_a_text() {
    let files = MemoryFiles::new().with("/t", "ey.file.jwt");
    let variables = [&FED[..], &[("ANTHROPIC_IDENTITY_TOKEN_FILE", "/t")]].concat();
    let body = exchanged(&variables, files).await.unwrap();
    assert_eq!(body["assertion"], "ey.file.jwt");
}

#[tokio::test]
async fn c22_a_missing_file_is_an_error_and_the_text_is_not_used() {
    let variables = [&FED[..], &[("ANTHROPIC_IDENTITY_TOKEN_FILE", "/nowhere/t")]].concat();
    let error = exchanged(&variables, MemoryFiles::new()).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/t"), "{error}");
}

#[tokio::test]
async fn c23_what_is_wrong_with_a_file_is_told_apart() {
    let unreadable = MemoryFiles::new();
    unreadable.fail("/t", io::ErrorKind::PermissionDenied);
    let variables = [&FED[..2], &[("ANTHROPIC_IDENTITY_TOKEN_FILE", "/t")]].concat();
    for (files, word) in [
        (MemoryFiles::new().with("/t", "\n"), "is empty"),
        (MemoryFiles::new().with("/t", b"\xffcanary"), "not UTF-8"),
        (MemoryFiles::new().with("/t", "a b"), "white space"),
        (unreadable, "cannot be read"),
    ] {
        let error = exchanged(&variables, files).await.unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert!(error.to_string().contains("/t"), "{error}");
    }
    let directory = [&FED[..2], &[("ANTHROPIC_IDENTITY_TOKEN_FILE", "/")]].concat();
    let endpoint = FakeEndpoint::new();
    let world = world(&endpoint)
        .with_env(env(&directory))
        .with_files(tower_auth_io::SystemFiles::new());
    let error = fetch(&Federation::from_env(&world).unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is a directory"), "{error}");
}

#[tokio::test]
async fn c24_a_file_is_read_for_every_exchange() {
    let endpoint = FakeEndpoint::new();
    endpoint.always(|_, _| minted("t", 600));
    let files = MemoryFiles::new().with("/t", identity_token("1"));
    let file = TokenFile::new("/t")
        .unwrap()
        .with_files(Arc::new(files.clone()));
    let source = federation(file, &endpoint);
    fetch(&source).await.unwrap();
    files.write("/t", identity_token("2"));
    fetch(&source).await.unwrap();
    let body: Value = serde_json::from_slice(endpoint.last_request().body()).unwrap();
    assert_eq!(body["assertion"], identity_token("2"));
}

#[test]
fn c25_a_part_of_the_variables_is_an_error_that_names_the_others() {
    let read = |variables: &[(&str, &str)]| {
        Federation::from_env(&World::closed().with_env(env(variables))).unwrap_err()
    };
    let error = read(&FED[..1]);
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(
        error.to_string(),
        "claude federation: not set: ANTHROPIC_ORGANIZATION_ID, \
         ANTHROPIC_IDENTITY_TOKEN_FILE or ANTHROPIC_IDENTITY_TOKEN"
    );
    assert_eq!(read(&[]).kind(), ErrorKind::NotConfigured);
}

#[test]
fn an_id_of_something_else_is_named() {
    let world = World::closed();
    let make = |rule, organization| Federation::new(rule, organization, "t", &world);
    for (result, word) in [
        (
            make("svac_1", "o"),
            "rule id is the id of a service account",
        ),
        (
            make("fdrl_1", "fdrl_1"),
            "organization id is the id of a federation rule",
        ),
        (make(" ", "o"), "rule id is blank"),
        (make("fdrl_1", "o o"), "character that no identifier has"),
        (
            make("fdrl_1", "o").unwrap().with_workspace("svac_1"),
            "workspace id is the id of a service account",
        ),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// Where an exchange goes with this value of `ANTHROPIC_BASE_URL`.
async fn exchange_url(base: &str) -> String {
    let endpoint = FakeEndpoint::new();
    endpoint.reply(minted("t", 600));
    let variables = [&FED[..], &[("ANTHROPIC_BASE_URL", base)]].concat();
    let world = world(&endpoint).with_env(env(&variables));
    fetch(&Federation::from_env(&world).unwrap()).await.unwrap();
    endpoint.last_request().uri().to_string()
}

#[tokio::test]
async fn c68_the_base_url_keeps_its_path() {
    assert_eq!(
        exchange_url("https://gw.test/claude/").await,
        "https://gw.test/claude/v1/oauth/token"
    );
}

#[tokio::test]
async fn c69_an_empty_base_url_is_the_default() {
    assert_eq!(
        exchange_url("").await,
        "https://api.anthropic.com/v1/oauth/token"
    );
}

#[test]
fn c67_a_base_url_in_clear_is_refused() {
    for base in ["http://evil.example", "http://localhost.evil.example"] {
        let variables = [&FED[..], &[("ANTHROPIC_BASE_URL", base)]].concat();
        let world = World::closed().with_env(env(&variables));
        let error = Federation::from_env(&world).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("ANTHROPIC_BASE_URL"), "{error}");
    }
}

#[tokio::test]
async fn c70_an_assertion_has_16_kib_at_most() {
    let endpoint = FakeEndpoint::new();
    endpoint.always(|_, _| minted("t", 600));
    fetch(&federation("a".repeat(16_384), &endpoint))
        .await
        .unwrap();
    let error = fetch(&federation("a".repeat(16_385), &endpoint))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("16385 bytes"), "{error}");
    assert_eq!(endpoint.request_count(), 1, "nothing was sent");
}

#[tokio::test]
async fn c71_a_refusal_names_what_was_asked_and_the_likely_cause() {
    let error = answered(refused()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(error.code(), Some("authentication_error"));
    assert_eq!(error.description(), Some("Authentication failed"));
    assert_eq!(error.correlation(), Some("req_7"));
    let hint = error.hint().unwrap();
    for word in ["fdrl_1", "org-uuid", "ANTHROPIC_WORKSPACE_ID", "Console"] {
        assert!(hint.contains(word), "{hint}");
    }
    let expired = jwt(json!({"sub": "s", "iat": 1, "exp": 2}));
    let endpoint = FakeEndpoint::new();
    endpoint.reply(refused());
    let error = fetch(&federation(expired, &endpoint)).await.unwrap_err();
    assert!(
        error
            .hint()
            .unwrap()
            .starts_with("the identity token expired"),
        "{error}"
    );
}

#[tokio::test]
async fn c72_a_refusal_names_the_workspace_that_was_asked_for() {
    let endpoint = FakeEndpoint::new();
    endpoint.reply(refused());
    let source = federation(issuer(), &endpoint)
        .with_workspace("wrkspc_9")
        .unwrap();
    let error = fetch(&source).await.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains("wrkspc_9"), "{hint}");
    assert!(!hint.contains("ANTHROPIC_WORKSPACE_ID"), "{hint}");
}

#[tokio::test]
async fn c73_other_refusals_have_no_advice_of_ours() {
    for status in [400, 403] {
        let reply = Reply::json(
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"bad rule"}}"#,
        )
        .with_status(status);
        let error = answered(reply).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.description(), Some("bad rule"));
        assert_eq!(error.hint(), None);
    }
}

#[tokio::test]
async fn c75_a_wish_to_be_left_alone_is_passed_on() {
    let reply = Reply::status(429).with_retry_after(Duration::from_secs(9));
    let error = answered(reply).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
}

#[tokio::test]
async fn c76_a_redirect_is_not_followed() {
    let error = answered(Reply::redirect("https://evil.test/"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("redirect"), "{error}");
}

#[tokio::test]
async fn c77_what_is_no_answer_of_a_token_endpoint_is_malformed() {
    for reply in [
        Reply::json("[]"),
        Reply::html("<p>canary</p>"),
        Reply::oversize(1024 * 1024 + 1),
    ] {
        let error = answered(reply).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(!format!("{error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn c77_an_answer_is_bounded_whatever_the_transport_reads() {
    let transport = tower_auth_io::Transport::new(tower::service_fn(|_| async {
        Ok::<_, io::Error>(http::Response::new(bytes::Bytes::from(vec![
            b' ';
            1_048_577
        ])))
    }));
    let world = World::closed().with_transport(transport);
    let source = Federation::new("fdrl_1", "o", issuer(), &world).unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("1 MiB"), "{error}");
}

#[tokio::test]
async fn c78_a_token_that_no_header_can_carry_is_refused_unseen() {
    let canary = Canary::new("minted");
    for token in [
        "null".to_owned(),
        r#""""#.to_owned(),
        "7".to_owned(),
        format!(r#""{}\r\nx-evil: 1""#, canary.text()),
        format!(r#""{} x""#, canary.text()),
    ] {
        let reply = Reply::json(format!(r#"{{"access_token":{token},"expires_in":600}}"#));
        let error = answered(reply).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.to_string().contains("access_token"), "{error}");
    }
}

#[tokio::test]
async fn c79_only_a_bearer_token_is_taken() {
    let reply = |kind: &str| {
        Reply::json(json!({"access_token": "t", "expires_in": 600, "token_type": kind}).to_string())
    };
    answered(reply("bearer")).await.unwrap();
    let error = answered(reply("mac")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("mac"), "{error}");
}

async fn living(expires_in: &str) -> Result<Token, Error> {
    let body = format!(r#"{{"access_token":"t","expires_in":{expires_in}}}"#);
    answered(Reply::json(body)).await
}

#[tokio::test]
async fn c80_a_lifetime_is_needed() {
    for bad in ["NaN", "Infinity", r#""soon""#, "null"] {
        let error = living(bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{bad}");
    }
    let error = answered(Reply::json(r#"{"access_token":"t"}"#))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("expires_in"), "{error}");
}

#[tokio::test]
async fn c81_a_lifetime_is_a_number_of_seconds_that_can_be_meant() {
    for good in [r#""3600""#, "3600", "3600.7"] {
        let token = living(good).await.unwrap();
        assert_eq!(token.expiry(), Expiry::In(Duration::from_secs(3600)));
    }
    for bad in ["-5", "0", "1e18"] {
        let error = living(bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{bad}");
    }
}

#[tokio::test]
async fn c96_an_accepted_identity_token_is_not_sent_again() {
    let endpoint = FakeEndpoint::new();
    endpoint.always(|_, _| minted("t", 600));
    let source = federation(stuck_issuer(), &endpoint);
    fetch(&source).await.unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.code(), Some("assertion_reused"));
    assert!(error.to_string().contains("scripted source"), "{error}");
    assert!(error.hint().unwrap().contains("check_jti"), "{error}");
    assert_eq!(endpoint.request_count(), 1);

    let without_id = jwt(json!({"sub": "s"}));
    let source = federation(without_id, &endpoint);
    fetch(&source).await.unwrap();
    fetch(&source).await.unwrap();
    assert_eq!(endpoint.request_count(), 3, "one without an id may be");
}

#[tokio::test]
async fn c96_an_identity_token_without_an_answer_is_sent_again_and_its_refusal_explained() {
    let endpoint = FakeEndpoint::new();
    endpoint.reply(Reply::reset());
    endpoint.reply(refused());
    let source = federation(stuck_issuer(), &endpoint);
    assert_eq!(
        fetch(&source).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    let error = fetch(&source).await.unwrap_err();
    assert!(
        error.hint().unwrap().contains("may count as used"),
        "{error}"
    );
}

#[tokio::test]
async fn c107_the_error_of_the_identity_source_stays_what_it_is() {
    let failing = Error::new(ErrorKind::NotConfigured, "no identity here").with_code("mine");
    let endpoint = FakeEndpoint::new();
    let source = federation(ScriptedSource::new([Answer::failing(failing)]), &endpoint);
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert_eq!(error.code(), Some("mine"));
    assert_eq!(endpoint.request_count(), 0);
}

#[tokio::test]
async fn the_reason_of_a_fetch_reaches_the_identity_source() {
    let endpoint = FakeEndpoint::new();
    endpoint.always(|_, _| minted("t", 600));
    let subject = issuer();
    let source = federation(subject.clone(), &endpoint);
    source.fetch(&Fetch::new(Reason::Rejected)).await.unwrap();
    assert_eq!(subject.last_call().reason(), Reason::Rejected);
}
