//! How long a session lasts.
use std::sync::Arc;
use std::time::Duration;

use crate::bench::{Bench, auth, denied, fetch, refusal, refused, secret_id, token};
use tower_auth::TokenCache;
use tower_auth::policy::RefreshOptions;
use tower_auth_core::{Credential, ErrorKind, Expiry, Reason, RefreshHint, TokenSource};
use tower_auth_io::TokenFile;
use tower_auth_testing::{Expect, Reply};
use tower_auth_vault::{Login, Session};

const HOUR: Duration = Duration::from_secs(3600);

fn cached<P: TokenSource>(bench: &Bench, source: P, seed: u64) -> TokenCache<P> {
    TokenCache::builder(source)
        .clock(bench.clock.clone())
        .refresh(RefreshOptions::new().keep_warm())
        .seed(seed)
        .build()
}

#[tokio::test(start_paused = true)]
async fn v7_a_token_is_renewed_at_about_seventy_percent_of_its_life() {
    let bench = Bench::new();
    let session = bench.app_role();
    bench.endpoint.reply(auth("t", 3600, true));
    let first = fetch(&session, Reason::First).await.unwrap();
    let hint = Some(RefreshHint::In(Duration::from_secs(2520)));
    assert_eq!(first.refresh_hint(), hint);

    bench.endpoint.expect(
        Expect::post("/v1/auth/token/renew-self")
            .header("x-vault-token", token("t").text())
            .json("/increment", "3600s"),
        auth("t", 3600, true),
    );
    let next = fetch(&session, Reason::Scheduled).await.unwrap();
    assert_eq!(next.fingerprint(), first.fingerprint());
    assert_eq!(
        (next.expiry(), next.refresh_hint()),
        (Expiry::In(HOUR), hint)
    );
    bench.endpoint.assert_done();
}

#[tokio::test(start_paused = true)]
async fn v7_behind_a_cache_each_renewal_but_the_first_is_within_the_cache_s_spread_of_it() {
    let bench = Bench::new();
    let clock = bench.clock.clone();
    let renewals = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&renewals);
    bench.endpoint.always(move |request, _| {
        use tower_auth_core::Clock;
        if request.uri().path().ends_with("renew-self") {
            seen.lock().unwrap().push(clock.now());
        }
        auth("t", 3600, true)
    });
    let cache = cached(&bench, bench.app_role(), 1);
    for _ in 0..(10 * 3600) {
        assert!(cache.get().await.is_ok());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let renewals = renewals.lock().unwrap();
    assert!(renewals.len() >= 10, "{}", renewals.len());
    for pair in renewals.windows(2) {
        let gap = pair[1].duration_since(pair[0]).unwrap().as_secs();
        assert!((2260..=2780).contains(&gap), "{gap}");
    }
    assert_eq!(bench.requests_to("/login"), 1);
}

/// A server as it is: a token lives for so long after its last renewal, and never longer than its
/// maximum.
struct Clerk {
    ttl: f64,
    max: f64,
    tokens: Vec<(String, f64, f64)>,
}

impl Clerk {
    fn answer(&mut self, path: &str, token: Option<&str>, now: f64) -> Reply {
        let (ttl, max) = (self.ttl, self.max);
        if path.ends_with("/login") {
            let name = format!("t-{}", self.tokens.len());
            let text = crate::bench::token(&name).text().to_owned();
            self.tokens.push((text, now, now + ttl));
            return auth(&name, ttl as u64, true);
        }
        let held = token.and_then(|token| self.tokens.iter_mut().find(|held| held.0 == token));
        match held {
            Some((text, born, end)) if now < *end => {
                let left = ttl.min(*born + max - now);
                *end = now + left;
                Reply::json(format!(
                    r#"{{"auth":{{"client_token":"{text}","lease_duration":{},"renewable":true}}}}"#,
                    left as u64
                ))
            }
            _ => denied(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn v8_a_token_that_nears_its_maximum_is_replaced_before_it_ends() {
    let bench = Bench::new();
    let start = tokio::time::Instant::now();
    let clerk = Arc::new(std::sync::Mutex::new(Clerk {
        ttl: 600.0,
        max: 1500.0,
        tokens: Vec::new(),
    }));
    let server = Arc::clone(&clerk);
    bench.endpoint.always(move |request, _| {
        let token = request.headers().get("x-vault-token");
        let token = token.map(|token| token.to_str().unwrap());
        let now = start.elapsed().as_secs_f64();
        server
            .lock()
            .unwrap()
            .answer(request.uri().path(), token, now)
    });
    let cache = cached(&bench, bench.app_role(), 7);
    for _ in 0..20_000 {
        let used = cache.get().await.unwrap();
        let now = start.elapsed().as_secs_f64();
        let is_alive = clerk
            .lock()
            .unwrap()
            .tokens
            .iter()
            .any(|(text, _, end)| text == used.secret().expose() && now < *end);
        assert!(is_alive, "a dead token was given out after {now} s");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let logins = bench.requests_to("/login");
    assert!((10..=25).contains(&logins), "{logins}");
    assert!(bench.requests_to("renew-self") >= logins);
}

#[tokio::test]
async fn v9_a_renewal_that_is_refused_is_a_login_at_once() {
    for refusal in [denied(), refused(400, "lease is not renewable")] {
        let bench = Bench::new();
        let session = bench.logged_in().await;
        bench.endpoint.reply(refusal);
        bench.endpoint.expect(
            Expect::post("/v1/auth/approle/login"),
            auth("next", 60, true),
        );
        let stamped = fetch(&session, Reason::Scheduled).await.unwrap();
        assert_eq!(stamped.secret().expose(), token("next").text());
        bench.endpoint.assert_done();
    }
}

#[tokio::test(start_paused = true)]
async fn v9_a_server_that_cannot_renew_is_not_asked_in_a_loop() {
    let bench = Bench::new();
    bench.endpoint.always(|request, _| {
        if request.uri().path().ends_with("/login") {
            auth("t", 3600, true)
        } else {
            refused(500, "internal error")
        }
    });
    let cache = cached(&bench, bench.app_role(), 3);
    cache.get().await.unwrap();
    // The first renewal is due within 45 minutes, whatever is drawn.
    while bench.requests_to("renew-self") == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    let tries = bench.requests_to("renew-self");
    assert!((2..=10).contains(&tries), "{tries}");
    assert!(cache.get().await.is_ok());
}

#[tokio::test]
async fn v10_a_token_that_cannot_be_renewed_is_replaced_by_a_login() {
    let bench = Bench::new();
    let session = bench.app_role();
    bench.endpoint.reply(auth("t", 600, false));
    let first = fetch(&session, Reason::First).await.unwrap();
    let hint = Some(RefreshHint::In(Duration::from_secs(480)));
    assert_eq!(first.refresh_hint(), hint);
    bench.endpoint.reply(auth("t2", 600, false));
    fetch(&session, Reason::Scheduled).await.unwrap();
    assert_eq!(bench.requests_to("/login"), 2);
    assert_eq!(bench.endpoint.request_count(), 2);
}

#[tokio::test]
async fn v11_a_batch_token_is_never_renewed_whatever_it_says() {
    let bench = Bench::new();
    let session = bench.app_role();
    bench.endpoint.always(|_, _| {
        Reply::json(format!(
            r#"{{"auth":{{"client_token":"{}","lease_duration":60,"renewable":true,"token_type":"batch"}}}}"#,
            token("t").text()
        ))
    });
    for reason in [Reason::First, Reason::Scheduled] {
        fetch(&session, reason).await.unwrap();
    }
    assert_eq!(bench.requests_to("/login"), 2);
    assert_eq!(bench.endpoint.request_count(), 2);
}

fn looked_up(ttl: u64, more: &str) -> Reply {
    Reply::json(format!(
        r#"{{"data":{{"id":"x","ttl":{ttl},"creation_ttl":{ttl},"num_uses":0,"type":"service"{more}}}}}"#
    ))
}

const ENDS: &str = r#","expire_time":"2030-01-01T01:00:00Z","renewable":true"#;

#[tokio::test(start_paused = true)]
async fn v13_a_root_token_is_looked_up_once() {
    let bench = Bench::new();
    bench
        .endpoint
        .always(|_, _| looked_up(0, r#","expire_time":null,"renewable":false"#));
    let session = bench.session(Login::token(token("root").secret()));
    let cache = cached(&bench, session, 1);
    for _ in 0..1000 {
        assert_eq!(cache.get().await.unwrap().expiry(), Expiry::Never);
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(bench.endpoint.request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn v14_a_periodic_token_is_renewed_for_ever() {
    let bench = Bench::new();
    bench.endpoint.always(|request, _| {
        if request.uri().path().ends_with("lookup-self") {
            looked_up(
                600,
                r#","period":600,"renewable":true,"expire_time":"2030-01-01T00:10:00Z""#,
            )
        } else {
            auth("periodic", 600, true)
        }
    });
    let session = bench.session(Login::token(token("periodic").secret()));
    let cache = cached(&bench, session, 1);
    for _ in 0..1000 {
        assert!(cache.get().await.is_ok());
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert_eq!(bench.requests_to("lookup-self"), 1);
    assert!(bench.requests_to("renew-self") > 100);
}

#[tokio::test]
async fn a_token_that_was_given_and_has_died_cannot_be_replaced() {
    let bench = Bench::new();
    let session = bench.session(Login::token(token("given").secret()));
    bench.endpoint.reply(denied());
    let error = refusal(&session).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(
        bench.words(&error).contains("expired, was revoked"),
        "{error}"
    );

    bench
        .endpoint
        .reply(looked_up(0, r#","expire_time":"2030-01-01T00:00:00Z""#));
    let error = refusal(&session).await;
    assert!(bench.words(&error).contains("expired"), "{error}");
}

fn from_file(bench: &Bench) -> Session {
    let file = TokenFile::new("/sink")
        .unwrap()
        .with_files(Arc::new(bench.files.clone()));
    bench.session(Login::token_from(file))
}

#[tokio::test]
async fn v5_a_line_break_after_a_token_goes_and_one_within_it_is_named() {
    let bench = Bench::new();
    let session = from_file(&bench);
    bench
        .files
        .write("/sink", format!("{}\n", token("t").text()));
    bench.endpoint.expect(
        Expect::get("/v1/auth/token/lookup-self").header("x-vault-token", token("t").text()),
        looked_up(60, ENDS),
    );
    fetch(&session, Reason::First).await.unwrap();
    bench.endpoint.assert_done();

    bench
        .files
        .write("/sink", format!("{}\x01x", token("t").text()));
    let error = refusal(&session).await;
    let said = bench.words(&error);
    assert!(
        said.contains("/sink") && said.contains("control character"),
        "{said}"
    );

    // The same in a text is found before it is sent.
    let session = bench.session(Login::token("canary-5eC7eT\n"));
    let error = refusal(&session).await;
    assert!(bench.words(&error).contains("non-printable"), "{error}");
    assert_eq!(bench.endpoint.request_count(), 1);
}

#[tokio::test]
async fn v6_a_sink_is_read_anew_at_each_fetch_and_its_token_is_not_renewed() {
    let bench = Bench::new();
    bench.endpoint.always(|_, _| looked_up(60, ENDS));
    let session = from_file(&bench);
    for (reason, name) in [
        (Reason::First, "t-1"),
        (Reason::Scheduled, "t-2"),
        (Reason::Rejected, "t-3"),
    ] {
        bench.files.write("/sink", token(name).text());
        let stamped = fetch(&session, reason).await.unwrap();
        assert_eq!(stamped.secret().expose(), token(name).text());
    }
    assert_eq!(bench.requests_to("lookup-self"), 3);
    assert_eq!(bench.endpoint.request_count(), 3);
    session.revoke().await.unwrap();
    assert_eq!(
        bench.endpoint.request_count(),
        3,
        "it is not ours to revoke"
    );
}

#[tokio::test]
async fn v40_a_sink_that_is_wrapped_is_named() {
    let bench = Bench::new();
    let info = format!(r#"{{"token":"{}","ttl":300}}"#, token("wrapping").text());
    bench.files.write("/sink", info);
    let error = refusal(&from_file(&bench)).await;
    let said = bench.words(&error);
    assert!(said.contains("wrapped (wrap_ttl)"), "{said}");
    assert_eq!(bench.endpoint.request_count(), 0);
}

#[tokio::test]
async fn v39_behind_a_proxy_that_logs_in_by_itself_no_token_is_sent() {
    let bench = Bench::new();
    let session = bench.session(Login::proxy());
    let stamped = fetch(&session, Reason::First).await.unwrap();
    assert_eq!(stamped.placement().name(), "x-vault-request");
    assert_eq!(stamped.secret().expose(), "true");
    assert!(stamped.headers().is_empty());
    assert_eq!(bench.endpoint.request_count(), 0);

    bench.endpoint.expect(
        Expect::get("/v1/secret/data/a")
            .no_header("x-vault-token")
            .header("x-vault-request", "true"),
        Reply::json(r#"{"data":{"data":{"k":"v"}}}"#),
    );
    let kv = session.kv("secret", "a", "k").unwrap();
    fetch(&kv, Reason::First).await.unwrap();
    bench.endpoint.assert_done();
}

#[tokio::test]
async fn a_limited_token_that_was_given_is_looked_up_once() {
    let bench = Bench::new();
    bench.endpoint.always(|_, _| {
        Reply::json(
            r#"{"data":{"ttl":60,"num_uses":3,"renewable":true,"expire_time":"2030-01-01T00:01:00Z"}}"#,
        )
    });
    let session = bench.session(Login::token(token("given").secret()));
    for reason in [Reason::First, Reason::Scheduled] {
        fetch(&session, reason).await.unwrap();
    }
    assert_eq!(bench.endpoint.request_count(), 1);
}

#[tokio::test]
async fn fc_a25_a_lease_of_zero_or_of_ages_neither_spins_nor_overflows() {
    let bench = Bench::new();
    let session = bench.app_role();
    for (lease, expiry) in [
        ("0", Expiry::AskEvery(Duration::from_secs(300))),
        ("-5", Expiry::AskEvery(Duration::from_secs(300))),
        ("1e300", Expiry::In(Duration::from_secs(3_153_600_000))),
    ] {
        bench.endpoint.reply(Reply::json(format!(
            r#"{{"auth":{{"client_token":"{}","lease_duration":{lease},"renewable":true}}}}"#,
            token("t").text()
        )));
        let stamped = fetch(&session, Reason::Forced).await.unwrap();
        assert_eq!(stamped.expiry(), expiry, "{lease}");
    }
}

#[tokio::test(start_paused = true)]
async fn fc_b01_a_wrong_local_clock_does_not_shorten_a_lease() {
    let bench = Bench::new();
    bench
        .clock
        .step_back(Duration::from_secs(10 * 365 * 24 * 3600));
    bench.endpoint.reply(auth("t", 60, true));
    let stamped = fetch(&bench.app_role(), Reason::First).await.unwrap();
    assert_eq!(stamped.expiry(), Expiry::In(Duration::from_secs(60)));
}

#[tokio::test]
async fn what_is_left_is_used_when_there_is_no_other_token_to_be_had() {
    let bench = Bench::new();
    let session = bench.logged_in().await;
    bench.clock.suspend(Duration::from_secs(3000));
    bench.endpoint.reply(auth("login-token", 1000, true));
    bench
        .endpoint
        .reply(refused(400, "invalid role or secret ID"));
    // It dwindles, and it still ends later than before.
    let stamped = fetch(&session, Reason::Scheduled).await.unwrap();
    assert_eq!(stamped.expiry(), Expiry::In(Duration::from_secs(1000)));

    bench.clock.suspend(Duration::from_secs(900));
    bench.endpoint.reply(auth("login-token", 100, true));
    bench
        .endpoint
        .reply(refused(400, "invalid role or secret ID"));
    let error = fetch(&session, Reason::Scheduled).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn a_session_is_revoked_by_choice() {
    let bench = Bench::new();
    let session = bench.logged_in().await;
    bench.endpoint.expect(
        Expect::post("/v1/auth/token/revoke-self")
            .header("x-vault-token", token("login-token").text()),
        Reply::status(204),
    );
    session.revoke().await.unwrap();
    session.revoke().await.unwrap();
    bench.endpoint.assert_done();
    bench.endpoint.expect(
        Expect::post("/v1/auth/approle/login"),
        auth("next", 60, true),
    );
    fetch(&session, Reason::Scheduled).await.unwrap();
    bench.endpoint.assert_done();

    bench.endpoint.reply(refused(503, "Vault is sealed"));
    let error = session.revoke().await.unwrap_err();
    assert_eq!(error.source_name(), Some("vault approle"));
}

#[tokio::test]
async fn neither_a_session_nor_what_comes_of_it_shows_a_secret() {
    let bench = Bench::new();
    bench.guard.watch([&secret_id()]);
    let session = bench.logged_in().await;
    let kv = session.kv("secret", "a", "k").unwrap();
    bench.guard.value("the session", &session);
    bench.guard.value("the secret", &kv);
    bench.guard.value("the description", &session.describe());
    bench.guard.display("the description", &kv.describe());
    bench.guard.assert_clean();
}
