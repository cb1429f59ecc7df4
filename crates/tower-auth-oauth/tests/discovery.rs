//! How the token endpoint is found, and what is not believed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use http::HeaderName;
use serde_json::{Value, json};
use tower_auth_core::{Error, ErrorKind, Fetch, Reason, Token, TokenSource};
use tower_auth_io::{ManualClock, World};
use tower_auth_oauth::{ClientAuth, ClientCredentials, Discovery, TokenEndpoint};
use tower_auth_testing::{Expect, FakeEndpoint, LeakGuard, Reply};

const TOKEN: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#;
const ISSUER: &str = "https://issuer.test";

struct Bench {
    server: FakeEndpoint,
    clock: ManualClock,
    world: World,
}

fn bench() -> Bench {
    let server = FakeEndpoint::new();
    let clock = ManualClock::default();
    let world = World::closed()
        .with_transport(server.transport())
        .with_clock(clock.clone());
    Bench {
        server,
        clock,
        world,
    }
}

impl Bench {
    fn discovery(&self, issuer: &str) -> Discovery {
        Discovery::new(issuer, &self.world).unwrap()
    }

    fn paths(&self) -> Vec<String> {
        let requests = self.server.requests();
        let paths = requests.iter().map(|request| request.uri().path());
        paths.map(str::to_owned).collect()
    }
}

fn source(discovery: Discovery) -> ClientCredentials {
    let endpoint = TokenEndpoint::discovered(discovery);
    ClientCredentials::new(endpoint, ClientAuth::none("id").unwrap())
}

async fn fetch(source: &ClientCredentials) -> Result<Token, Error> {
    source.fetch(&Fetch::new(Reason::First)).await
}

fn document(issuer: &str, token_endpoint: &str) -> Reply {
    Reply::json(json!({"issuer": issuer, "token_endpoint": token_endpoint}).to_string())
}

/// What the source says of this document.
async fn refuses(document: Value) -> String {
    let bench = bench();
    bench.server.reply(Reply::json(document.to_string()));
    let error = fetch(&source(bench.discovery(ISSUER))).await.unwrap_err();
    bench.server.assert_done();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(error.endpoint().unwrap().contains("/.well-known/"));
    error.to_string()
}

#[tokio::test]
async fn the_endpoint_is_asked_for_once_and_used_from_then_on() {
    let bench = bench();
    bench.server.expect(
        Expect::get("/.well-known/openid-configuration").header("accept", "application/json"),
        document(ISSUER, "https://issuer.test/oauth/token"),
    );
    bench.server.always(|_, _| Reply::json(TOKEN));
    let source = source(bench.discovery(ISSUER));
    assert_eq!(
        source.describe().to_string(),
        "oauth client credentials (token from https://issuer.test/)"
    );
    for _ in 0..3 {
        fetch(&source).await.unwrap();
    }
    assert_eq!(
        bench.paths(),
        [
            "/.well-known/openid-configuration",
            "/oauth/token",
            "/oauth/token",
            "/oauth/token"
        ]
    );
}

#[tokio::test]
async fn o12_a_document_of_another_issuer_is_not_believed() {
    for issuer in [
        "https://evil.test",
        "https://issuer.test/",
        "https://ISSUER.test",
        "http://issuer.test",
        "",
    ] {
        let said = refuses(json!({
            "issuer": issuer, "token_endpoint": "https://issuer.test/token",
        }))
        .await;
        assert!(said.contains(ISSUER) && said.contains(issuer), "{said}");
    }
}

#[tokio::test]
async fn an_issuer_that_calls_itself_otherwise_can_be_expected() {
    let bench = bench();
    bench
        .server
        .reply(document("https://sts.test/1/", "https://issuer.test/token"));
    bench.server.reply(Reply::json(TOKEN));
    let discovery = bench
        .discovery(ISSUER)
        .expecting_issuer("https://sts.test/1/");
    fetch(&source(discovery)).await.unwrap();
}

#[tokio::test]
async fn o13_an_issuer_with_a_path_is_looked_for_in_three_places() {
    let bench = bench();
    let issuer = "https://issuer.test/a/b/";
    bench.server.reply(Reply::status(404));
    bench.server.reply(Reply::status(404));
    bench
        .server
        .reply(document(issuer, "https://issuer.test/a/b/token"));
    bench.server.reply(Reply::json(TOKEN));
    fetch(&source(bench.discovery(issuer))).await.unwrap();
    assert_eq!(
        bench.paths(),
        [
            "/a/b/.well-known/openid-configuration",
            "/.well-known/oauth-authorization-server/a/b",
            "/a/b/.well-known/oauth-authorization-server",
            "/a/b/token",
        ]
    );
}

#[tokio::test]
async fn an_issuer_without_a_document_says_what_to_configure() {
    let bench = bench();
    bench.server.always(|_, _| Reply::status(404));
    let error = fetch(&source(bench.discovery(ISSUER))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("configure"), "{error}");
    assert_eq!(bench.server.request_count(), 2);
}

#[tokio::test]
async fn o14_an_endpoint_in_clear_is_not_believed() {
    for url in [
        "http://issuer.test/token",
        "http://127.0.0.1/token",
        "token",
        "https://u:p@issuer.test/token",
    ] {
        let said = refuses(json!({"issuer": ISSUER, "token_endpoint": url})).await;
        assert!(said.contains("token_endpoint"), "{said}");
    }
}

#[tokio::test]
async fn fc_h02_an_endpoint_on_another_host_is_not_believed() {
    for host in ["evil.test", "issuer.test.evil.test", "login.issuer.test"] {
        let said = refuses(json!({
            "issuer": ISSUER, "token_endpoint": format!("https://{host}/token"),
        }))
        .await;
        assert!(
            said.contains("token_endpoint") && said.contains(host),
            "{said}"
        );
    }
    let said = refuses(json!({
        "issuer": ISSUER, "token_endpoint": "https://issuer.test/token",
        "mtls_endpoint_aliases": {"token_endpoint": "https://evil.test/token"},
    }))
    .await;
    assert!(said.contains("mtls_endpoint_aliases"), "{said}");
}

#[tokio::test]
async fn fc_h02_an_endpoint_on_a_host_that_was_allowed_is_used() {
    let bench = bench();
    bench
        .server
        .reply(document(ISSUER, "https://login.test:8443/token"));
    bench.server.reply(Reply::json(TOKEN));
    let discovery = bench.discovery(ISSUER).allowing_host("LOGIN.test");
    fetch(&source(discovery)).await.unwrap();
    assert_eq!(bench.server.last_request().uri().host(), Some("login.test"));
}

#[tokio::test]
async fn o15_an_old_document_is_used_while_there_is_no_new_one() {
    let bench = bench();
    bench
        .server
        .reply(document(ISSUER, "https://issuer.test/token"));
    bench.server.reply(Reply::json(TOKEN));
    let source = source(bench.discovery(ISSUER));
    fetch(&source).await.unwrap();
    for down in [
        Reply::status(503),
        Reply::refused(),
        Reply::html("x"),
        document("https://evil.test", "https://evil.test/token"),
    ] {
        bench.clock.advance(Duration::from_secs(25 * 3600));
        bench.server.reply(down);
        bench.server.reply(Reply::json(TOKEN));
        let guard = LeakGuard::new();
        let recording = guard.record_logs();
        fetch(&source).await.unwrap();
        drop(recording);
        assert_eq!(guard.logs().len(), 1);
        assert_eq!(
            bench.server.last_request().uri().to_string(),
            "https://issuer.test/token"
        );
    }
    bench.server.reply(Reply::json(TOKEN));
    fetch(&source).await.unwrap();
    bench.clock.advance(Duration::from_secs(301));
    bench
        .server
        .reply(document(ISSUER, "https://issuer.test/moved"));
    bench.server.reply(Reply::json(TOKEN));
    fetch(&source).await.unwrap();
    bench.server.assert_done();
    assert_eq!(bench.server.last_request().uri().path(), "/moved");
}

#[tokio::test(start_paused = true)]
async fn o15_a_document_that_never_comes_costs_one_fetch() {
    let bench = bench();
    bench
        .server
        .reply(document(ISSUER, "https://issuer.test/token"));
    bench.server.reply(Reply::json(TOKEN));
    let source = source(bench.discovery(ISSUER));
    fetch(&source).await.unwrap();
    bench.clock.advance(Duration::from_secs(25 * 3600));
    bench.server.reply(Reply::hang());
    let in_vain = tokio::time::timeout(Duration::from_secs(30), fetch(&source)).await;
    assert!(in_vain.is_err());
    bench.server.reply(Reply::json(TOKEN));
    fetch(&source).await.unwrap();
    bench.server.assert_done();
}

#[tokio::test]
async fn o16_a_client_with_a_certificate_uses_the_endpoint_for_such() {
    for (client, host, form) in [
        (ClientAuth::tls("id"), "mtls.issuer.test", true),
        (ClientAuth::self_signed_tls("id"), "mtls.issuer.test", true),
        (ClientAuth::secret_post("id", "s"), "issuer.test", false),
    ] {
        let bench = bench();
        let document = json!({
            "issuer": ISSUER, "token_endpoint": "https://issuer.test/token",
            "mtls_endpoint_aliases": {"token_endpoint": "https://mtls.issuer.test/token"},
        });
        bench.server.reply(Reply::json(document.to_string()));
        let expected = Expect::post("/token")
            .form("client_id", "id")
            .no_header("authorization");
        let expected = if form {
            expected
                .no_form("client_secret")
                .no_form("client_assertion")
        } else {
            expected
        };
        bench.server.expect(expected, Reply::json(TOKEN));
        let discovery = bench.discovery(ISSUER).allowing_host("mtls.issuer.test");
        let source = ClientCredentials::new(TokenEndpoint::discovered(discovery), client.unwrap());
        fetch(&source).await.unwrap();
        bench.server.assert_done();
        assert_eq!(bench.server.last_request().uri().host(), Some(host));
    }
}

#[tokio::test]
async fn an_outage_passes_on_how_long_to_wait() {
    let bench = bench();
    bench
        .server
        .reply(Reply::status(429).with_retry_after(Duration::from_secs(7)));
    let error = fetch(&source(bench.discovery(ISSUER))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn a_document_at_a_place_of_its_own_is_asked_for_there_alone() {
    let bench = bench();
    bench.server.reply(Reply::status(404));
    let discovery = bench
        .discovery(ISSUER)
        .with_document("https://issuer.test/meta?v=2")
        .unwrap();
    fetch(&source(discovery)).await.unwrap_err();
    bench.server.assert_done();
    assert_eq!(bench.paths(), ["/meta"]);
}

#[test]
fn an_issuer_is_an_https_url_without_a_query() {
    for issuer in [
        "http://issuer.test",
        "issuer.test",
        "https://issuer.test/?x=1",
    ] {
        let error = Discovery::new(issuer, &World::closed()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{issuer}");
        assert!(error.to_string().contains("the issuer"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let bench = bench();
    let location = HeaderName::from_static("location");
    bench
        .server
        .reply(Reply::status(302).with_header(location, "https://evil.test/x?y=canary"));
    let error = fetch(&source(bench.discovery(ISSUER))).await.unwrap_err();
    bench.server.assert_done();
    let said = error.to_string();
    assert!(
        said.contains("evil.test") && !said.contains("canary"),
        "{said}"
    );
}
