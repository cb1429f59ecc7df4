//! How a session begins, and how it does not.
use std::sync::Arc;
use std::time::Duration;

use crate::bench::{Bench, auth, denied, fetch, refusal, refused, secret_id, token};
use http::{HeaderMap, HeaderValue, header};
use tower_auth::TokenCache;
use tower_auth_core::{Credential, ErrorKind, Expiry, Fetch, HeaderMode, Reason, source_fn};
use tower_auth_io::TokenFile;
use tower_auth_testing::{Canary, Expect, Reply};
use tower_auth_vault::{Login, Server, Session, SignedCallerIdentity};

#[tokio::test]
async fn v1_a_login_carries_no_token_and_says_who_it_is_for() {
    let bench = Bench::new();
    let server = bench.server().with_namespace("team").unwrap();
    let login = Login::app_role("role-id", secret_id().secret()).unwrap();
    bench.endpoint.expect(
        Expect::post("/v1/auth/approle/login")
            .no_header("x-vault-token")
            .no_header("authorization")
            .header("x-vault-request", "true")
            .header("x-vault-namespace", "team")
            .json("/role_id", "role-id")
            .json("/secret_id", secret_id().text()),
        auth("t", 3600, true),
    );
    let stamped = fetch(&Session::new(server, login), Reason::First)
        .await
        .unwrap();
    assert_eq!(stamped.placement().name(), "x-vault-token");
    assert_eq!(stamped.secret().expose(), token("t").text());
    assert_eq!(stamped.expiry(), Expiry::In(Duration::from_secs(3600)));
    let headers: Vec<_> = stamped
        .headers()
        .iter()
        .map(|header| {
            (
                header.name().as_str(),
                header.value().expose(),
                header.mode(),
            )
        })
        .collect();
    assert_eq!(
        headers,
        [
            ("x-vault-request", "true", HeaderMode::Replace),
            ("x-vault-namespace", "team", HeaderMode::Replace)
        ]
    );
    bench.endpoint.assert_done();
}

#[tokio::test]
async fn v2_slashes_around_a_namespace_go_and_an_empty_one_is_not_sent() {
    for (namespace, sent) in [("/a/b/", Some("a/b")), ("", None), ("/", None)] {
        let bench = Bench::new();
        let server = bench.server().with_namespace(namespace).unwrap();
        let expected = Expect::post("/v1/auth/approle/login");
        let expected = match sent {
            Some(sent) => expected.header("x-vault-namespace", sent),
            None => expected.no_header("x-vault-namespace"),
        };
        bench.endpoint.expect(expected, auth("t", 60, true));
        let login = Login::app_role("r", secret_id().secret()).unwrap();
        fetch(&Session::new(server, login), Reason::First)
            .await
            .unwrap();
        bench.endpoint.assert_done();
    }
    let error = Bench::new().server().with_namespace("a\nb").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn v3_an_answer_without_the_optional_members_is_a_login() {
    let bench = Bench::new();
    let session = bench.app_role();
    for (body, lease) in [
        (r#""lease_duration":60"#, Some(60)),
        (
            r#""lease_duration":"60","metadata":null,"entity_id":"""#,
            Some(60),
        ),
        (
            r#""lease_duration":60.9,"policies":null,"num_uses":null"#,
            Some(60),
        ),
        (r#""renewable":false"#, None),
    ] {
        let token = token("t");
        bench.endpoint.reply(Reply::json(format!(
            r#"{{"auth":{{"client_token":"{}",{body}}}}}"#,
            token.text()
        )));
        let stamped = fetch(&session, Reason::Forced).await.unwrap();
        let expiry = match lease {
            Some(lease) => Expiry::In(Duration::from_secs(lease)),
            None => Expiry::AskEvery(Duration::from_secs(300)),
        };
        assert_eq!(stamped.expiry(), expiry, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn v4_a_refused_secret_id_is_named_and_not_tried_again_within_a_minute() {
    let bench = Bench::new();
    bench
        .endpoint
        .always(|_, _| refused(400, "invalid role or secret ID"));
    let session = bench.app_role();
    let error = refusal(&session).await;
    let said = bench.words(&error);
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(said.starts_with("vault approle: "), "{said}");
    assert!(said.contains("auth/approle/login"), "{said}");
    assert!(said.contains("invalid role or secret ID"), "{said}");
    assert!(said.contains("used up"), "{said}");

    let cache = TokenCache::builder(session)
        .clock(bench.clock.clone())
        .build();
    let before = bench.endpoint.request_count();
    let end = tokio::time::Instant::now() + Duration::from_secs(59);
    while tokio::time::Instant::now() < end {
        assert!(cache.get().await.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(bench.endpoint.request_count() - before, 1);
}

#[tokio::test]
async fn v12_a_token_of_limited_use_is_neither_renewed_nor_looked_up() {
    let bench = Bench::new();
    let limited = || {
        Reply::json(format!(
            r#"{{"auth":{{"client_token":"{}","lease_duration":60,"renewable":true,"num_uses":3}}}}"#,
            token("t").text()
        ))
    };
    bench.endpoint.always(move |_, _| limited());
    let recording = bench.guard.record_logs();
    let session = bench.app_role();
    for reason in [Reason::First, Reason::Scheduled, Reason::Rejected] {
        fetch(&session, reason).await.unwrap();
    }
    drop(recording);
    assert_eq!(bench.requests_to("/login"), 3);
    assert_eq!(bench.endpoint.request_count(), 3);
    assert!(
        bench
            .guard
            .logs()
            .iter()
            .any(|line| line.contains("limited use")),
        "{:?}",
        bench.guard.logs()
    );

    let login = Login::app_role("r", secret_id().secret()).unwrap();
    let strict = Session::refusing_limited_use(bench.server(), login);
    let error = refusal(&strict).await;
    assert!(bench.words(&error).contains("num_uses"), "{error}");
}

#[tokio::test]
async fn v17_a_sealed_server_is_named() {
    let bench = Bench::new();
    let session = bench.app_role();
    for (status, text, word) in [
        (503, "Vault is sealed", "sealed"),
        (
            503,
            "local node not active but active cluster node not found",
            "no active node",
        ),
        (412, "required index state not present", "caught up"),
        (472, "", "disaster recovery"),
        (473, "", "standby"),
        (501, "", "not initialized"),
        (502, "upstream rate limited", "could not answer"),
    ] {
        bench.endpoint.reply(refused(status, text));
        let error = refusal(&session).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(bench.words(&error).contains(word), "{error}");
    }
}

#[tokio::test]
async fn v18_a_server_that_wants_to_be_left_alone_says_for_how_long() {
    let bench = Bench::new();
    bench
        .endpoint
        .reply(refused(429, "rate limit quota exceeded").with_retry_after(Duration::from_secs(3)));
    let error = refusal(&bench.app_role()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
}

#[tokio::test]
async fn v19_a_redirect_to_another_host_or_out_of_tls_is_not_followed() {
    for (status, location, word) in [
        (307, "https://other.test:8200/v1/x", "other.test"),
        (
            307,
            "http://vault.test:8200/v1/auth/approle/login",
            "downgrade",
        ),
        (302, "https://vault.test:8200/v1/x", "redirect"),
        (307, "/v1/x", "redirect"),
    ] {
        let bench = Bench::new();
        bench
            .endpoint
            .reply(Reply::redirect(location).with_status(status));
        let error = refusal(&bench.app_role()).await;
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(bench.words(&error).contains(word), "{error}");
        assert_eq!(bench.endpoint.request_count(), 1);
    }
    let bench = Bench::new();
    bench
        .endpoint
        .reply(Reply::redirect("https://vault.test:8210/v1/x").with_status(307));
    let login = Login::app_role("r", secret_id().secret()).unwrap();
    refusal(&Session::new(bench.server().without_redirects(), login)).await;
    assert_eq!(bench.endpoint.request_count(), 1);
}

#[tokio::test]
async fn v20_a_redirect_to_another_port_of_the_host_is_followed_once() {
    let to_active =
        || Reply::redirect("https://vault.test:8210/v1/auth/approle/login").with_status(307);
    let bench = Bench::new();
    bench.endpoint.reply(to_active());
    bench.endpoint.expect(
        Expect::post("/v1/auth/approle/login")
            .json("/secret_id", secret_id().text())
            .that("it goes to the other port", |request| {
                request.uri().port_u16() == Some(8210)
            }),
        auth("t", 60, true),
    );
    fetch(&bench.app_role(), Reason::First).await.unwrap();
    bench.endpoint.assert_done();

    let bench = Bench::new();
    bench.endpoint.always(move |_, _| to_active());
    let error = refusal(&bench.app_role()).await;
    assert!(bench.words(&error).contains("redirect"), "{error}");
    assert_eq!(bench.endpoint.request_count(), 2);
}

fn wrapped(bench: &Bench, file: &str) -> Session {
    let file = TokenFile::new(file)
        .unwrap()
        .with_files(Arc::new(bench.files.clone()));
    let path = "/auth/approle/role/reports/secret-id";
    bench.session(Login::app_role_wrapped("role-id", file, path).unwrap())
}

fn made_at(path: &str) -> Reply {
    Reply::json(format!(
        r#"{{"data":{{"creation_path":"{path}","creation_ttl":60}}}}"#
    ))
}

const MADE: &str = "auth/approle/role/reports/secret-id";

fn unwrapped() -> Reply {
    Reply::json(format!(
        r#"{{"data":{{"secret_id":"{}","secret_id_num_uses":1,"secret_id_ttl":60}}}}"#,
        secret_id().text()
    ))
}

#[tokio::test]
async fn v28_a_wrapping_token_that_was_made_elsewhere_is_not_used() {
    let bench = Bench::new();
    bench.files.write("/w", token("wrapping").text());
    let session = wrapped(&bench, "/w");
    bench.endpoint.expect(
        Expect::post("/v1/sys/wrapping/lookup")
            .no_header("x-vault-token")
            .json("/token", token("wrapping").text()),
        made_at("sys/wrapping/wrap"),
    );
    let error = refusal(&session).await;
    let said = bench.words(&error);
    assert!(said.contains("sys/wrapping/wrap"), "{said}");
    assert!(said.contains(MADE), "{said}");
    assert!(said.contains("security incident"), "{said}");
    refusal(&session).await;
    bench.endpoint.assert_done();
    assert_eq!(bench.endpoint.request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn v29_a_wrapping_token_is_never_tried_twice() {
    for answer in [
        refused(400, "wrapping token is not valid or does not exist"),
        Reply::timed_out(),
        Reply::reset(),
        Reply::json("{}"),
        Reply::status(502),
        Reply::hang(),
    ] {
        let bench = Bench::new();
        bench.files.write("/w", token("wrapping").text());
        let session = wrapped(&bench, "/w");
        bench.endpoint.reply(made_at(MADE));
        bench.endpoint.reply(answer.clone());
        let first =
            tokio::time::timeout(Duration::from_secs(60), fetch(&session, Reason::First)).await;
        if let Ok(first) = first {
            let error = first.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        }
        let error = refusal(&session).await;
        let said = bench.words(&error);
        assert_eq!(error.kind(), ErrorKind::Denied, "{said}");
        assert!(said.contains("new"), "{said}");
        assert_eq!(bench.endpoint.request_count(), 2, "{answer:?}");

        // Another envelope is another chance.
        bench.files.write("/w", token("next-wrapping").text());
        bench.endpoint.reply(made_at(MADE));
        bench.endpoint.reply(unwrapped());
        bench.endpoint.reply(auth("t", 60, true));
        fetch(&session, Reason::First).await.unwrap();
    }
}

#[tokio::test]
async fn v30_the_wrapping_token_is_in_the_header_and_not_in_the_body_too() {
    let bench = Bench::new();
    bench.files.write("/w", token("wrapping").text());
    let session = wrapped(&bench, "/w");
    bench.endpoint.reply(made_at(MADE));
    bench.endpoint.expect(
        Expect::post("/v1/sys/wrapping/unwrap")
            .header("x-vault-token", token("wrapping").text())
            .that("the body is empty", |request| request.body().is_empty()),
        unwrapped(),
    );
    let login = || Expect::post("/v1/auth/approle/login").json("/secret_id", secret_id().text());
    bench.endpoint.expect(login(), auth("t", 60, true));
    fetch(&session, Reason::First).await.unwrap();
    // The envelope is gone; what was in it is not.
    bench.files.remove("/w");
    bench.endpoint.expect(login(), auth("t2", 60, true));
    fetch(&session, Reason::Rejected).await.unwrap();
    bench.endpoint.assert_done();
}

#[tokio::test]
async fn v31_the_service_account_token_is_read_at_each_login() {
    let bench = Bench::new();
    let session = bench.session(Login::kubernetes("reports", &bench.world()).unwrap());
    let error = refusal(&session).await;
    assert!(
        error.to_string().contains(Login::KUBERNETES_TOKEN),
        "{error}"
    );
    for name in ["jwt-1", "jwt-2"] {
        bench
            .files
            .write(Login::KUBERNETES_TOKEN, token(name).text());
        bench.endpoint.expect(
            Expect::post("/v1/auth/kubernetes/login")
                .json("/role", "reports")
                .json("/jwt", token(name).text()),
            auth("t", 60, true),
        );
        fetch(&session, Reason::Forced).await.unwrap();
    }
    bench.endpoint.assert_done();
    bench.endpoint.reply(denied());
    let error = fetch(&session, Reason::Forced).await.unwrap_err();
    assert!(bench.words(&error).contains("TokenReview"), "{error}");
}

fn signed(region: &str, signature: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        "x-vault-aws-iam-server-id",
        HeaderValue::from_static("vault.test"),
    );
    headers.insert(
        header::AUTHORIZATION,
        HeaderValue::try_from(format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20300101/{region}/sts/aws4_request, \
             SignedHeaders=host;x-amz-date;x-vault-aws-iam-server-id, Signature={signature}"
        ))
        .unwrap(),
    );
    headers
}

#[tokio::test]
async fn v32_a_signed_request_is_made_for_each_login_and_for_its_region() {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let identity = source_fn(move |_: Fetch<SignedCallerIdentity>| {
        let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            let headers = signed("eu-west-1", &format!("{nth:064}"));
            SignedCallerIdentity::new("https://sts.eu-west-1.amazonaws.com/", headers)
        }
    });
    let bench = Bench::new();
    let session = bench.session(
        Login::aws("reports", identity)
            .unwrap()
            .requiring_server_id(),
    );
    bench.endpoint.always(|_, _| auth("t", 60, true));
    for _ in 0..2 {
        fetch(&session, Reason::Forced).await.unwrap();
    }
    let bodies: Vec<serde_json::Value> = bench
        .endpoint
        .requests()
        .iter()
        .map(|request| serde_json::from_slice(request.body()).unwrap())
        .collect();
    let decoded = |body: &serde_json::Value, field: &str| {
        let text = BASE64_STANDARD
            .decode(body[field].as_str().unwrap())
            .unwrap();
        String::from_utf8(text).unwrap()
    };
    assert_eq!(
        decoded(&bodies[0], "iam_request_body"),
        SignedCallerIdentity::BODY
    );
    assert_eq!(
        decoded(&bodies[0], "iam_request_url"),
        "https://sts.eu-west-1.amazonaws.com/"
    );
    assert!(decoded(&bodies[0], "iam_request_headers").contains("x-vault-aws-iam-server-id"));
    assert_ne!(
        bodies[0]["iam_request_headers"],
        bodies[1]["iam_request_headers"]
    );

    for (url, region) in [
        ("https://sts.amazonaws.com/", "eu-west-1"),
        ("https://sts.us-east-2.amazonaws.com/", "eu-west-1"),
        ("http://sts.eu-west-1.amazonaws.com/", "eu-west-1"),
    ] {
        let error = SignedCallerIdentity::new(url, signed(region, "0")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
    }
    let unsigned = source_fn(|_: Fetch<SignedCallerIdentity>| async {
        SignedCallerIdentity::new("https://sts.amazonaws.com/", HeaderMap::new())
    });
    let session = bench.session(Login::aws("r", unsigned).unwrap().requiring_server_id());
    let error = refusal(&session).await;
    assert!(error.to_string().contains("server-id"), "{error}");
}

#[tokio::test]
async fn v33_cloud_logins_send_the_jwt_of_their_source_and_their_fields() {
    let bench = Bench::new();
    let jwt = Canary::jwt("cloud");
    bench.endpoint.expect(
        Expect::post("/v1/auth/gcp/login")
            .json("/role", "reports")
            .json("/jwt", jwt.text()),
        auth("t", 60, true),
    );
    bench.endpoint.expect(
        Expect::post("/v1/auth/people/azure/login")
            .json("/jwt", jwt.text())
            .json("/subscription_id", "s-1"),
        auth("t", 60, true),
    );
    bench.endpoint.expect(
        Expect::post("/v1/auth/jwt/login")
            .no_json("/role")
            .json("/jwt", jwt.text()),
        auth("t", 60, true),
    );
    for login in [
        Login::gcp("reports", jwt.secret()).unwrap(),
        Login::azure("reports", jwt.secret())
            .unwrap()
            .with_field("subscription_id", "s-1")
            .with_mount("auth/people/azure/")
            .unwrap(),
        Login::jwt_with_default_role(jwt.secret()).unwrap(),
    ] {
        fetch(&bench.session(login), Reason::First).await.unwrap();
    }
    bench.endpoint.assert_done();
}

#[tokio::test]
async fn v34_a_user_name_is_one_segment_of_the_path() {
    let bench = Bench::new();
    for (login, path) in [
        (
            Login::userpass("a/b ö", secret_id().secret()),
            "/v1/auth/userpass/login/a%2Fb%20%C3%B6",
        ),
        (
            Login::ldap("a", secret_id().secret()),
            "/v1/auth/ldap/login/a",
        ),
    ] {
        bench.endpoint.expect(
            Expect::post(path).json("/password", secret_id().text()),
            auth("t", 60, true),
        );
        fetch(&bench.session(login.unwrap()), Reason::First)
            .await
            .unwrap();
    }
    bench.endpoint.assert_done();
}

#[tokio::test]
async fn v35_a_second_factor_cannot_be_given() {
    let bench = Bench::new();
    bench.endpoint.reply(Reply::json(
        r#"{"auth":{"client_token":"","mfa_requirement":{"mfa_request_id":"1","mfa_constraints":{}}}}"#,
    ));
    let error = refusal(&bench.app_role()).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(bench.words(&error).contains("MFA"), "{error}");
}

#[tokio::test]
async fn v43_a_page_of_a_load_balancer_is_told_by_its_status() {
    let bench = Bench::new();
    bench
        .endpoint
        .reply(Reply::html("<html>canary</html>").with_status(502));
    let error = refusal(&bench.app_role()).await;
    let said = bench.words(&error);
    assert!(said.contains("502") && said.contains("text/html"), "{said}");

    bench.endpoint.reply(Reply::html("<html>Sign in</html>"));
    let error = refusal(&bench.app_role()).await;
    let said = bench.words(&error);
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(
        said.contains("not that of Vault") && said.contains("/ui"),
        "{said}"
    );
}

#[tokio::test]
async fn v45_a_warning_is_told_and_the_token_is_used() {
    let bench = Bench::new();
    bench.endpoint.reply(Reply::json(format!(
        r#"{{"warnings":["TTL of \"999h\" exceeded the effective max_ttl; TTL value is capped accordingly"],"auth":{{"client_token":"{}","lease_duration":60,"renewable":true}}}}"#,
        token("t").text()
    )));
    let recording = bench.guard.record_logs();
    fetch(&bench.app_role(), Reason::First).await.unwrap();
    drop(recording);
    let logs = bench.guard.logs();
    assert!(logs.iter().any(|line| line.contains("capped")), "{logs:?}");
    bench.guard.assert_clean();
}

#[tokio::test]
async fn v46_a_method_that_is_not_mounted_is_suspected_by_name() {
    for answer in [
        denied(),
        refused(400, "missing client token"),
        refused(
            404,
            r#"no handler for route \"auth/gcp/login\". route entry not found."#,
        ),
    ] {
        let bench = Bench::new();
        bench.endpoint.always(move |_, _| answer.clone());
        let server = bench.server().with_namespace("team").unwrap();
        let login = Login::gcp("r", secret_id().secret()).unwrap();
        let error = refusal(&Session::new(server, login)).await;
        let said = bench.words(&error);
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(
            said.contains("mounted at auth/gcp in namespace team"),
            "{said}"
        );
        assert!(said.contains("OpenBao"), "{said}");
        let error = refusal(&bench.app_role()).await;
        let said = bench.words(&error);
        assert!(
            said.contains("auth/approle in the root namespace"),
            "{said}"
        );
        assert!(!said.contains("OpenBao"), "{said}");
    }
}

#[tokio::test]
async fn v47_a_login_that_comes_back_wrapped_is_named() {
    let bench = Bench::new();
    bench.endpoint.reply(Reply::json(format!(
        r#"{{"auth":null,"data":null,"wrap_info":{{"token":"{}","ttl":60}}}}"#,
        token("wrapping").text()
    )));
    let error = refusal(&bench.app_role()).await;
    assert!(bench.words(&error).contains("wrap_info"), "{error}");
}

#[tokio::test]
async fn a_token_that_cannot_be_in_a_header_names_the_source_and_not_the_token() {
    let bench = Bench::new();
    bench.endpoint.reply(Reply::json(format!(
        r#"{{"auth":{{"client_token":"{}\n","lease_duration":60}}}}"#,
        token("t").text()
    )));
    let error = refusal(&bench.app_role()).await;
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(bench.words(&error).contains("auth.client_token"), "{error}");
}

#[test]
fn an_address_has_tls_or_is_on_this_machine() {
    let world = Bench::new().world();
    for address in [
        "https://v.test",
        "https://v.test/prefix/",
        "http://127.0.0.1:8200",
    ] {
        assert!(Server::new(address, &world).is_ok(), "{address}");
    }
    for address in ["http://vault:8200", "vault:8200", "ftp://v.test", ""] {
        let error = Server::new(address, &world).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{address}");
    }
}

#[tokio::test]
async fn a_prefix_of_the_address_is_kept() {
    let bench = Bench::new();
    let server = Server::new("https://proxy.test/vault/", &bench.world()).unwrap();
    bench.endpoint.expect(
        Expect::post("/vault/v1/auth/cert/login"),
        auth("t", 60, true),
    );
    fetch(&Session::new(server, Login::certificate()), Reason::First)
        .await
        .unwrap();
    bench.endpoint.assert_done();
}

#[tokio::test]
async fn tokens_of_either_server_are_taken_as_they_are() {
    let bench = Bench::new();
    let session = bench.app_role();
    for token in [
        "hvs.CAESIJ-x_y",
        "hvb.AAAA",
        "s.iyNUhq8Ov4hIAx6snw5mB2nL",
        "b.AAAA.nsid1",
        "hvr.A",
    ] {
        bench.endpoint.reply(Reply::json(format!(
            r#"{{"auth":{{"client_token":"{token}","lease_duration":60,"renewable":true}}}}"#
        )));
        let stamped = fetch(&session, Reason::Forced).await.unwrap();
        assert_eq!(stamped.secret().expose(), token);
    }
}
