//! What is asked for with a session.
use std::time::Duration;

use crate::bench::{Bench, auth, denied, fetch, refused, token};
use http::HeaderName;
use tower_auth::TokenCache;
use tower_auth::policy::RefreshOptions;
use tower_auth_core::{Credential, Error, ErrorKind, Expiry, Reason, TokenSource};
use tower_auth_testing::{Expect, Reply};
use tower_auth_vault::KvSecret;

async fn kv(bench: &Bench) -> KvSecret {
    let session = bench.logged_in().await;
    session.kv("secret", "apis/weather", "key").unwrap()
}

/// The error of a fetch that is not the first of its session.
async fn error(source: &impl TokenSource) -> Error {
    fetch(source, Reason::Scheduled).await.unwrap_err()
}

fn version(number: u64, value: &str) -> Reply {
    Reply::json(format!(
        r#"{{"data":{{"data":{{"key":"{value}","user":"u"}},"metadata":{{"version":{number},"destroyed":false,"deletion_time":""}}}}}}"#
    ))
}

fn alive() -> Reply {
    Reply::json(r#"{"data":{"ttl":60}}"#)
}

#[tokio::test]
async fn v15_a_token_that_lives_lacks_a_policy() {
    let bench = Bench::new();
    let kv = kv(&bench).await;
    bench.endpoint.reply(denied());
    bench
        .endpoint
        .expect(Expect::get("/v1/auth/token/lookup-self"), alive());
    let error = error(&kv).await;
    let said = bench.words(&error);
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(said.starts_with("vault kv: "), "{said}");
    assert!(said.contains("policies do not allow this path"), "{said}");
    assert!(said.contains("/v1/secret/data/apis/weather"), "{said}");
    assert_eq!(bench.requests_to("/login"), 1);
}

#[tokio::test]
async fn v16_a_token_that_is_dead_is_replaced_and_the_read_tried_once_more() {
    let bench = Bench::new();
    let kv = kv(&bench).await;
    bench.endpoint.reply(denied());
    bench
        .endpoint
        .expect(Expect::get("/v1/auth/token/lookup-self"), denied());
    bench.endpoint.expect(
        Expect::post("/v1/auth/approle/login"),
        auth("next", 60, true),
    );
    bench.endpoint.expect(
        Expect::get("/v1/secret/data/apis/weather").header("x-vault-token", token("next").text()),
        version(1, "v"),
    );
    fetch(&kv, Reason::Scheduled).await.unwrap();
    bench.endpoint.assert_done();

    for reply in [denied(), denied(), auth("again", 60, true), denied()] {
        bench.endpoint.reply(reply);
    }
    let error = error(&kv).await;
    assert!(bench.words(&error).contains("policies"), "{error}");
    bench.endpoint.assert_done();
}

#[tokio::test]
async fn v21_a_refusal_without_words_names_path_and_status() {
    let bench = Bench::new();
    let kv = kv(&bench).await;
    bench
        .endpoint
        .reply(Reply::json(r#"{"errors":[]}"#).with_status(404));
    let error = error(&kv).await;
    let said = bench.words(&error);
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(said.contains("/v1/secret/data/apis/weather"), "{said}");
    assert!(
        said.contains("404") && said.contains("mounted at secret"),
        "{said}"
    );
}

#[tokio::test]
async fn v22_a_path_of_version_two_without_data_is_explained() {
    let bench = Bench::new();
    let session = bench.logged_in().await;
    let kv = session.kv_v1("secret", "apis/weather", "key").unwrap();
    bench.endpoint.expect(
        Expect::get("/v1/secret/apis/weather"),
        Reply::json(
            r#"{"data":null,"warnings":["Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use."]}"#,
        )
        .with_status(404),
    );
    let error = error(&kv).await;
    let said = bench.words(&error);
    assert!(said.contains("versioned K/V"), "{said}");
    assert!(
        said.contains("data/") && said.contains("Session::kv"),
        "{said}"
    );
}

#[tokio::test]
async fn v23_a_version_that_is_deleted_or_destroyed_says_so() {
    let bench = Bench::new();
    let kv = kv(&bench).await;
    for (destroyed, word) in [(false, "deletion_time 2030-01-02T"), (true, "destroyed")] {
        bench.endpoint.reply(
            Reply::json(format!(
                r#"{{"data":{{"data":null,"metadata":{{"version":3,"deletion_time":"2030-01-02T03:04:05Z","destroyed":{destroyed}}}}}}}"#
            ))
            .with_status(404),
        );
        let error = error(&kv).await;
        assert!(bench.words(&error).contains(word), "{error}");
    }
}

#[tokio::test]
async fn v24_a_field_that_is_missing_is_named_with_those_that_are_there() {
    let bench = Bench::new();
    let kv = kv(&bench).await;
    let value = token("another-value");
    bench.endpoint.reply(Reply::json(format!(
        r#"{{"data":{{"data":{{"user":"{}","pin":"{}"}}}}}}"#,
        value.text(),
        value.text()
    )));
    let missing = error(&kv).await;
    let said = bench.words(&missing);
    assert_eq!(missing.kind(), ErrorKind::InvalidConfig);
    assert!(
        said.contains("no field key") && said.contains("pin, user"),
        "{said}"
    );

    for (json, word) in [
        ("17", "a number"),
        ("true", "a truth value"),
        ("{}", "an object"),
    ] {
        bench.endpoint.reply(Reply::json(format!(
            r#"{{"data":{{"data":{{"key":{json}}}}}}}"#
        )));
        let error = error(&kv).await;
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(bench.words(&error).contains(word), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn v25_a_new_version_takes_the_place_of_the_old_one_at_the_next_read() {
    let bench = Bench::new();
    let kv = kv(&bench)
        .await
        .read_every(Duration::from_secs(60))
        .in_header(HeaderName::from_static("x-api-key"));
    let current = std::sync::Arc::new(std::sync::Mutex::new("one"));
    let served = std::sync::Arc::clone(&current);
    bench.endpoint.always(move |request, _| {
        if request.uri().path().contains("/secret/data/") {
            version(1, *served.lock().unwrap())
        } else {
            auth("t", 3600, true)
        }
    });
    let cache = TokenCache::builder(kv)
        .clock(bench.clock.clone())
        .refresh(RefreshOptions::new().keep_warm())
        .seed(1)
        .build();
    let first = cache.get().await.unwrap();
    assert_eq!(first.secret().expose(), "one");
    assert_eq!(first.placement().name(), "x-api-key");
    tokio::time::sleep(Duration::from_secs(600)).await;
    let reads = bench.requests_to("weather");
    assert!((9..=14).contains(&reads), "{reads}");
    *current.lock().unwrap() = "two";
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert_eq!(cache.get().await.unwrap().secret().expose(), "two");
}

#[tokio::test]
async fn a_version_can_be_pinned_and_an_engine_of_version_one_be_read() {
    let bench = Bench::new();
    let session = bench.logged_in().await;
    bench.endpoint.expect(
        Expect::get("/v1/team/kv/data/a%20b").query("version", "2"),
        version(2, "v"),
    );
    let kv = session
        .kv("team/kv/", "/a b", "key")
        .unwrap()
        .with_version(2);
    fetch(&kv, Reason::First).await.unwrap();
    bench.endpoint.expect(
        Expect::get("/v1/kv/a"),
        Reply::json(r#"{"lease_duration":60,"data":{"a/b":"v"}}"#),
    );
    let kv = session.kv_v1("kv", "a", "a/b").unwrap();
    let read = fetch(&kv, Reason::First).await.unwrap();
    assert_eq!(read.expiry(), Expiry::AskEvery(Duration::from_secs(480)));
    bench.endpoint.assert_done();
}

fn jwt(life: u64) -> String {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    let claims = format!(r#"{{"iat":1000,"exp":{}}}"#, 1000 + life);
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", encode(r#"{"alg":"ES256"}"#), encode(&claims))
}

#[tokio::test]
async fn v26_an_identity_token_ends_when_it_says_itself() {
    let bench = Bench::new();
    let session = bench.logged_in().await;
    let identity = session.identity_token("claude").unwrap();
    for (ttl, life) in [(86_400, 600), (300, 300)] {
        bench.endpoint.expect(
            Expect::get("/v1/identity/oidc/token/claude"),
            Reply::json(format!(
                r#"{{"data":{{"client_id":"https://api.anthropic.com","token":"{}","ttl":{ttl}}},"warnings":["ttl was capped"]}}"#,
                jwt(600)
            )),
        );
        let minted = fetch(&identity, Reason::Scheduled).await.unwrap();
        assert_eq!(minted.expiry(), Expiry::In(Duration::from_secs(life)));
        assert_eq!(minted.placement().scheme(), Some("Bearer"));
    }
    bench.endpoint.assert_done();
}

#[tokio::test]
async fn v27_a_token_without_an_entity_is_explained() {
    let bench = Bench::new();
    let session = bench.logged_in().await;
    let identity = session.identity_token("claude").unwrap();
    bench.endpoint.reply(refused(
        400,
        "no entity associated with the request's token",
    ));
    let error = error(&identity).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(bench.words(&error).contains("root token"), "{error}");
}

#[tokio::test]
async fn v41_a_credential_without_a_lease_ends_when_its_fields_say() {
    use tower_auth_core::Clock;

    let bench = Bench::new();
    let session = bench.logged_in().await;
    let source = session.secret("gcp/roleset/r/token", "token").unwrap();
    let end = bench
        .clock
        .now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 900;
    for (fields, expiry) in [
        (
            format!(r#","expires_at_seconds":{end}"#),
            Expiry::In(Duration::from_secs(900)),
        ),
        (
            r#","token_ttl":1200"#.to_owned(),
            Expiry::In(Duration::from_secs(1200)),
        ),
        (String::new(), Expiry::AskEvery(Duration::from_secs(300))),
    ] {
        bench.endpoint.reply(Reply::json(format!(
            r#"{{"data":{{"token":"ya29"{fields}}}}}"#
        )));
        let token = fetch(&source, Reason::Forced).await.unwrap();
        let close = match (token.expiry(), expiry) {
            (Expiry::In(is), Expiry::In(wanted)) => is.abs_diff(wanted) < Duration::from_secs(2),
            (is, wanted) => is == wanted,
        };
        assert!(close, "{:?}", token.expiry());
    }
    bench.endpoint.reply(Reply::json(
        r#"{"data":{"token":"ya29","expires_at_seconds":1000}}"#,
    ));
    let error = error(&source).await;
    assert!(bench.words(&error).contains("expired already"), "{error}");
}

fn credential(name: &str, lease: u64) -> Reply {
    Reply::json(format!(
        r#"{{"lease_id":"azure/creds/r/1","lease_duration":{lease},"renewable":true,"data":{{"client_id":"c","client_secret":"{}"}}}}"#,
        token(name).text()
    ))
}

#[tokio::test(start_paused = true)]
async fn v42_a_credential_is_made_anew_once_after_a_login_and_not_in_a_loop() {
    let bench = Bench::new();
    let session = bench.logged_in().await;
    let source = session.secret("azure/creds/r", "client_secret").unwrap();
    bench.endpoint.reply(credential("c-1", 600));
    fetch(&source, Reason::First).await.unwrap();

    // The token it was made with is replaced, so its lease is as good as gone.
    bench.endpoint.reply(auth("other", 3600, true));
    fetch(&session, Reason::Forced).await.unwrap();
    bench
        .endpoint
        .expect(Expect::get("/v1/azure/creds/r"), refused(500, "upstream"));
    let error = error(&source).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    bench
        .endpoint
        .expect(Expect::get("/v1/azure/creds/r"), credential("c-2", 600));
    let made = fetch(&source, Reason::Scheduled).await.unwrap();
    assert_eq!(made.secret().expose(), token("c-2").text());
    bench.endpoint.assert_done();
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_and_its_credential_stays() {
    let bench = Bench::new();
    let session = bench.logged_in().await;
    let source = session.secret("azure/creds/r", "client_secret").unwrap();
    bench.endpoint.reply(credential("c-1", 600));
    let first = fetch(&source, Reason::First).await.unwrap();
    let renewal = || {
        Expect::post("/v1/sys/leases/renew")
            .json("/lease_id", "azure/creds/r/1")
            .json("/increment", "600")
    };
    bench.endpoint.expect(
        renewal(),
        Reply::json(r#"{"lease_id":"azure/creds/r/1","lease_duration":600,"renewable":true}"#),
    );
    let next = fetch(&source, Reason::Scheduled).await.unwrap();
    assert_eq!(next.fingerprint(), first.fingerprint());

    // It dwindles, or is gone: another one.
    for answer in [
        Reply::json(r#"{"lease_id":"azure/creds/r/1","lease_duration":30,"renewable":true}"#),
        refused(400, "lease not found"),
    ] {
        bench.endpoint.expect(renewal(), answer);
        bench
            .endpoint
            .expect(Expect::get("/v1/azure/creds/r"), credential("c-2", 600));
        let other = fetch(&source, Reason::Scheduled).await.unwrap();
        assert_eq!(other.secret().expose(), token("c-2").text());
    }
    bench
        .endpoint
        .expect(Expect::get("/v1/azure/creds/r"), credential("c-3", 600));
    fetch(&source, Reason::Rejected).await.unwrap();
    bench.endpoint.assert_done();
}

#[tokio::test(start_paused = true)]
async fn a_credential_does_not_outlive_the_token_it_was_made_with() {
    let bench = Bench::new();
    let session = bench.app_role();
    bench.endpoint.reply(auth("t", 120, true));
    bench.endpoint.reply(credential("c", 600));
    let source = session.secret("azure/creds/r", "client_secret").unwrap();
    let made = fetch(&source, Reason::First).await.unwrap();
    assert_eq!(made.expiry(), Expiry::In(Duration::from_secs(120)));
}

#[tokio::test]
async fn parameters_make_it_a_post() {
    let bench = Bench::new();
    let session = bench.logged_in().await;
    bench.endpoint.expect(
        Expect::post("/v1/kubernetes/creds/r").json("/kubernetes_namespace", "default"),
        Reply::json(r#"{"lease_id":"l","lease_duration":60,"data":{"service_account_token":"t"}}"#),
    );
    let source = session
        .secret("kubernetes/creds/r", "service_account_token")
        .unwrap()
        .with_parameter("kubernetes_namespace", "default");
    fetch(&source, Reason::First).await.unwrap();
    bench.endpoint.assert_done();
}

#[tokio::test(start_paused = true)]
async fn reading_renews_an_old_token_and_uses_it_on_where_that_fails() {
    let bench = Bench::new();
    let kv = kv(&bench).await;
    bench.endpoint.reply(version(1, "v"));
    fetch(&kv, Reason::First).await.unwrap();
    bench.clock.suspend(Duration::from_secs(2500));
    bench.endpoint.expect(
        Expect::post("/v1/auth/token/renew-self"),
        refused(503, "busy"),
    );
    bench
        .endpoint
        .expect(Expect::get("/v1/secret/data/apis/weather"), version(1, "v"));
    fetch(&kv, Reason::Scheduled).await.unwrap();
    bench.endpoint.expect(
        Expect::post("/v1/auth/token/renew-self"),
        auth("login-token", 3600, true),
    );
    bench
        .endpoint
        .expect(Expect::get("/v1/secret/data/apis/weather"), version(1, "v"));
    fetch(&kv, Reason::Rejected).await.unwrap();
    bench.endpoint.assert_done();
}

#[tokio::test]
async fn a_mount_a_path_or_a_field_that_is_none_is_refused_at_once() {
    let session = Bench::new().app_role();
    for (mount, path, field) in [("", "a", "b"), ("m", "../sys", "b"), ("m", "a", " ")] {
        let error = session.kv(mount, path, field).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
    assert!(session.secret("a//b", "f").is_err());
    assert!(session.identity_token(" ").is_err());
}

#[tokio::test]
async fn sources_of_one_session_that_begin_together_share_one_login() {
    let bench = Bench::new();
    let session = bench.app_role();
    bench.endpoint.always(|request, _| {
        let path = request.uri().path();
        if path.starts_with("/v1/auth/") {
            auth("t", 3600, true).after_polls(3)
        } else if path.starts_with("/v1/identity/") {
            Reply::json(format!(r#"{{"data":{{"token":"{}","ttl":60}}}}"#, jwt(60)))
        } else {
            version(1, "v")
        }
    });
    let kv = session.kv("secret", "apis/weather", "key").unwrap();
    let identity = session.identity_token("claude").unwrap();
    let (read, minted) = tokio::join!(fetch(&kv, Reason::First), fetch(&identity, Reason::First));
    read.unwrap();
    minted.unwrap();
    assert_eq!(bench.requests_to("/login"), 1);
}

#[tokio::test]
async fn a_login_that_fails_below_a_read_is_named_as_the_login() {
    let bench = Bench::new();
    let session = bench.app_role();
    bench
        .endpoint
        .reply(refused(400, "invalid role or secret ID"));
    let kv = session.kv("secret", "apis/weather", "key").unwrap();
    let error = fetch(&kv, Reason::First).await.unwrap_err();
    assert_eq!(error.source_name(), Some("vault approle"));
}
