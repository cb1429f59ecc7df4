//! What goes over the wire, and what a source says when it fails.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderName};
use tower_auth_core::{
    Credential, Description, Error, ErrorKind, Expiry, Fetch, Reason, Secret, Token, TokenSource,
};
use tower_auth_io::{EndpointUrl, World};
use tower_auth_oauth::{
    BasicEncoding, ClientAuth, ClientCredentials, ResponseReader, TokenEndpoint,
};
use tower_auth_testing::{Canary, Expect, FakeEndpoint, LeakGuard, Reply};

const TOKEN: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#;

fn endpoint(issuer: &FakeEndpoint) -> TokenEndpoint {
    let world = World::closed().with_transport(issuer.transport());
    TokenEndpoint::new("https://issuer.test/t1/token?api=1", &world).unwrap()
}

fn basic() -> ClientAuth {
    ClientAuth::secret_basic("id", "s3cret-0").unwrap()
}

async fn fetch(source: &ClientCredentials) -> Result<Token, Error> {
    source.fetch(&Fetch::new(Reason::First)).await
}

/// What a source says of one answer.
async fn fails(auth: ClientAuth, reply: Reply) -> Error {
    let issuer = FakeEndpoint::new();
    issuer.reply(reply);
    let source = ClientCredentials::new(endpoint(&issuer), auth);
    let error = fetch(&source).await.unwrap_err();
    issuer.assert_done();
    error
}

fn header(issuer: &FakeEndpoint, name: HeaderName) -> String {
    let request = issuer.last_request();
    let values: Vec<_> = request.headers().get_all(&name).iter().collect();
    assert_eq!(values.len(), 1, "{name}");
    values[0].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_request_is_a_form_and_the_answer_a_token() {
    let issuer = FakeEndpoint::new();
    issuer.expect(
        Expect::post("/t1/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .query("api", "1"),
        Reply::json(TOKEN),
    );
    let source = ClientCredentials::new(endpoint(&issuer), basic())
        .with_scope("write read")
        .with_resource("https://a.test/")
        .with_resource("https://b.test/")
        .with_audience("c")
        .with_parameter("organization", "o 1")
        .unwrap()
        .with_secret_parameter("pin", "7&7")
        .unwrap();
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.secret().expose(), "t");
    assert_eq!(token.expiry(), Expiry::In(Duration::from_secs(3600)));
    assert_eq!(
        issuer.last_request().body(),
        "grant_type=client_credentials&scope=write+read&resource=https%3A%2F%2Fa.test%2F\
         &resource=https%3A%2F%2Fb.test%2F&audience=c&organization=o+1&pin=7%267"
    );
    issuer.assert_done();
}

#[tokio::test]
async fn o1_basic_authentication_is_encoded_as_asked() {
    let (id, secret) = ("a b:c", "p+q/é");
    for (encoding, credentials) in [
        (BasicEncoding::Rfc6749, "a+b%3Ac:p%2Bq%2F%C3%A9"),
        (BasicEncoding::Raw, "a b:c:p+q/é"),
    ] {
        let issuer = FakeEndpoint::new();
        issuer.reply(Reply::json(TOKEN));
        let auth = ClientAuth::secret_basic_encoded(id, secret, encoding).unwrap();
        fetch(&ClientCredentials::new(endpoint(&issuer), auth))
            .await
            .unwrap();
        assert_eq!(
            header(&issuer, AUTHORIZATION),
            format!("Basic {}", BASE64_STANDARD.encode(credentials))
        );
        assert_eq!(
            issuer.last_request().body(),
            "grant_type=client_credentials",
            "one proof of who the client is, and no more"
        );
    }
    assert_eq!(BasicEncoding::default(), BasicEncoding::Rfc6749);
}

/// As another client was recorded sending it to a server that decodes both halves.
#[tokio::test]
async fn basic_authentication_agrees_with_a_recording() {
    let issuer = FakeEndpoint::new();
    issuer.reply(Reply::json(TOKEN));
    let auth = ClientAuth::secret_basic("basic", "s3cr%t+&~").unwrap();
    fetch(&ClientCredentials::new(endpoint(&issuer), auth))
        .await
        .unwrap();
    let sent = header(&issuer, AUTHORIZATION);
    let sent = BASE64_STANDARD.decode(&sent["Basic ".len()..]).unwrap();
    assert_eq!(sent, b"basic:s3cr%25t%2B%26%7E");
}

#[tokio::test]
async fn o2_post_authentication_is_in_the_form_alone() {
    let issuer = FakeEndpoint::new();
    issuer.expect(
        Expect::post("/t1/token")
            .no_header("authorization")
            .form("client_id", "id")
            .form("client_secret", "s+c&ret"),
        Reply::json(TOKEN),
    );
    let auth = ClientAuth::secret_post("id", "s+c&ret").unwrap();
    fetch(&ClientCredentials::new(endpoint(&issuer), auth))
        .await
        .unwrap();
    issuer.assert_done();
}

#[tokio::test]
async fn a_public_client_sends_its_id_and_no_proof() {
    let issuer = FakeEndpoint::new();
    issuer.expect(
        Expect::post("/t1/token")
            .no_header("authorization")
            .form("client_id", "id")
            .no_form("client_secret"),
        Reply::json(TOKEN),
    );
    let auth = ClientAuth::none("id").unwrap();
    fetch(&ClientCredentials::new(endpoint(&issuer), auth))
        .await
        .unwrap();
    issuer.assert_done();
}

#[tokio::test]
async fn the_header_with_the_secret_is_sensitive() {
    let issuer = FakeEndpoint::new();
    issuer.reply(Reply::json(TOKEN));
    fetch(&ClientCredentials::new(endpoint(&issuer), basic()))
        .await
        .unwrap();
    assert!(issuer.last_request().headers()[AUTHORIZATION].is_sensitive());
}

#[tokio::test]
async fn each_fetch_is_one_request() {
    let issuer = FakeEndpoint::new();
    issuer.always(|_, _| Reply::status(500));
    let source = ClientCredentials::new(endpoint(&issuer), basic());
    for fetches in 1..=3 {
        assert_eq!(
            fetch(&source).await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        assert_eq!(issuer.request_count(), fetches);
    }
}

#[tokio::test]
async fn fc_a22_an_opaque_token_without_a_lifetime_takes_the_default() {
    for (lifetime, expected) in [(None, 300), (Some(60), 60), (Some(0), 1)] {
        let issuer = FakeEndpoint::new();
        issuer.reply(Reply::json(r#"{"access_token":"t"}"#));
        let mut source = ClientCredentials::new(endpoint(&issuer), basic());
        if let Some(seconds) = lifetime {
            source = source.with_default_lifetime(Duration::from_secs(seconds));
        }
        assert_eq!(
            fetch(&source).await.unwrap().expiry(),
            Expiry::AskEvery(Duration::from_secs(expected))
        );
    }
}

#[tokio::test]
async fn fc_a13_an_answer_that_breaks_off_is_unavailable() {
    for reply in [
        Reply::json(TOKEN).breaking_off(20),
        Reply::reset(),
        Reply::refused(),
    ] {
        let error = fails(basic(), reply).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.source_name(), Some("oauth client credentials"));
    }
}

#[tokio::test]
async fn fc_a17_an_endless_answer_is_malformed() {
    let error = fails(basic(), Reply::oversize(1 << 20)).await;
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn x28_an_answer_of_ten_mebibytes_names_the_limit() {
    let body = format!(r#"{{"access_token":"{}"}}"#, "t".repeat(10 << 20));
    let error = fails(basic(), Reply::json(body)).await;
    assert!(error.to_string().contains("larger than"), "{error}");
}

#[tokio::test]
async fn fc_a32_a_redirect_is_not_followed() {
    let reply = Reply::redirect("https://evil.test/token?canary");
    let error = fails(basic(), reply).await;
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert_eq!(
        error.to_string(),
        "oauth client credentials: the endpoint answered with a redirect to host evil.test, which \
         is not followed (issuer.test/t1/token, status 302)"
    );
}

#[tokio::test]
async fn o18_a_refused_client_is_named_with_its_endpoint() {
    let reply = Reply::json(r#"{"error":"invalid_client"}"#)
        .with_status(401)
        .with_header(HeaderName::from_static("www-authenticate"), "Basic");
    let auth = ClientAuth::secret_basic("id", "letters-and-1234").unwrap();
    let error = fails(auth, reply).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(
        error.to_string(),
        "oauth client credentials: the issuer did not accept the client or its secret \
         (issuer.test/t1/token, status 401, invalid_client)"
    );
}

#[tokio::test]
async fn a_secret_that_can_be_encoded_in_two_ways_is_mentioned() {
    let (id, secret) = ("id", "p+q");
    let refused = || Reply::json(r#"{"error":"invalid_client"}"#).with_status(401);
    for (auth, mentioned) in [
        (
            ClientAuth::secret_basic(id, secret),
            Some("BasicEncoding::Raw"),
        ),
        (
            ClientAuth::secret_basic_encoded(id, secret, BasicEncoding::Raw),
            Some("BasicEncoding::Rfc6749"),
        ),
        (
            ClientAuth::secret_basic("i d", "plain"),
            Some("BasicEncoding::Raw"),
        ),
        (ClientAuth::secret_basic(id, "plain-._*9"), None),
        (ClientAuth::secret_post(id, secret), None),
        (ClientAuth::none(id), None),
    ] {
        let auth = auth.unwrap();
        for reply in [refused(), Reply::status(401)] {
            let text = fails(auth.clone(), reply).await.to_string();
            match mentioned {
                Some(option) => assert!(text.contains(option), "{text}"),
                None => assert!(!text.contains("BasicEncoding"), "{text}"),
            }
        }
        let other = Reply::json(r#"{"error":"invalid_scope"}"#).with_status(400);
        let text = fails(auth, other).await.to_string();
        assert!(!text.contains("BasicEncoding"), "{text}");
    }
}

#[tokio::test]
async fn an_unusable_token_names_source_and_endpoint() {
    let reply = Reply::json(r#"{"access_token":"t","token_type":"DPoP"}"#);
    let error = fails(basic(), reply).await;
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let text = error.to_string();
    assert!(
        text.contains("DPoP") && text.contains("issuer.test"),
        "{text}"
    );
}

#[tokio::test]
async fn the_clock_stands_in_for_a_missing_date() {
    // The closed world's clock shows this moment.
    let reply = |seconds: &str| {
        Reply::status(503).with_header(
            HeaderName::from_static("retry-after"),
            &format!("Tue, 01 Jan 2030 00:00:{seconds} GMT"),
        )
    };
    let error = fails(basic(), reply("09")).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
    let error = fails(
        basic(),
        reply("09").with_header(DATE, "Tue, 01 Jan 2030 00:00:04 GMT"),
    )
    .await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(5)));
}

#[test]
fn x21_a_token_url_is_https_or_on_this_machine() {
    let world = World::closed();
    let error = TokenEndpoint::new("http://example.com/token", &world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("https"), "{error}");
    assert!(TokenEndpoint::new("http://127.0.0.1:8080/token", &world).is_ok());
}

#[test]
fn fc_h01_a_token_url_must_be_fit_for_a_secret() {
    let world = World::closed();
    for url in [
        "http://169.254.169.254/token",
        "file:///etc/passwd",
        "gopher://issuer.test/",
        "https://user:canary@issuer.test/token",
        "https://issuer.test/token#canary",
        "",
    ] {
        let error = TokenEndpoint::new(url, &world).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[test]
fn a_client_without_an_id_or_secret_is_refused_by_name() {
    for (auth, setting) in [
        (ClientAuth::secret_basic("", "canary"), "client_id"),
        (ClientAuth::secret_post(" ", "canary"), "client_id"),
        (ClientAuth::none("can\nary"), "client_id"),
        (ClientAuth::secret_basic("id", " "), "client_secret"),
        (ClientAuth::secret_basic("id", "canary\n"), "client_secret"),
        (ClientAuth::secret_post("id", "\0canary"), "client_secret"),
    ] {
        let error = auth.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let text = error.to_string();
        assert!(
            text.starts_with(setting) && !text.contains("canary"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_preset_gives_the_source_its_own_name_and_errors() {
    let issuer = FakeEndpoint::new();
    issuer.reply(Reply::json(r#"{"errorCode":"E17"}"#).with_status(403));
    let reader = ResponseReader::new().with_vendor_errors(|refusal, error| {
        match refusal.text("/errorCode") {
            Some(code) => error.with_code(&code),
            None => error,
        }
    });
    let url = EndpointUrl::parse("ACME_URL", "https://issuer.test/t").unwrap();
    let world = World::closed().with_transport(issuer.transport());
    let endpoint = TokenEndpoint::at(url, &world).with_reader(reader);
    let source = ClientCredentials::new(endpoint, basic())
        .with_description(Description::new("acme").with_setting("token URL", "ACME_URL"));
    assert_eq!(
        source.describe().to_string(),
        "acme (token URL from ACME_URL)"
    );
    assert_eq!(
        fetch(&source).await.unwrap_err().to_string(),
        "acme: the issuer refused (issuer.test/t, status 403, E17)"
    );
}

/// The issuer quotes everything it was sent, in each form it may have seen it.
#[tokio::test]
async fn fc_g10_an_issuer_that_quotes_the_request_gives_nothing_away() {
    let canary = Canary::new("client-secret");
    let awkward = format!("{}+/ é&=", canary.text());
    let pin = Canary::new("pin");
    let echo = |request: &http::Request<bytes::Bytes>| {
        let header = request
            .headers()
            .get(AUTHORIZATION)
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default();
        let form = String::from_utf8(request.body().to_vec()).unwrap();
        let fields: Vec<_> = form_urlencoded::parse(form.as_bytes())
            .into_owned()
            .collect();
        let bare = header.trim_start_matches("Basic ").to_owned();
        let decoded = String::from_utf8(BASE64_STANDARD.decode(&bare).unwrap()).unwrap();
        // One at a time: a long description would be cut before the interesting part.
        [header, decoded, form]
            .into_iter()
            .chain(
                fields
                    .into_iter()
                    .map(|(name, value)| format!("{name}={value}")),
            )
            .collect::<Vec<_>>()
    };
    for encoding in [BasicEncoding::Rfc6749, BasicEncoding::Raw] {
        for auth in [
            ClientAuth::secret_basic_encoded("id", awkward.as_str(), encoding).unwrap(),
            ClientAuth::secret_post("id", awkward.as_str()).unwrap(),
        ] {
            for nth in 0..8 {
                let issuer = FakeEndpoint::new();
                issuer.always(move |request, _| {
                    let said = echo(request);
                    let said = &said[nth % said.len()];
                    let body = serde_json::json!({"error": said, "error_description": said});
                    let reply = Reply::json(body.to_string()).with_status(400);
                    // As a header, where it can be one.
                    match said.is_ascii() {
                        true => reply.with_header(HeaderName::from_static("x-request-id"), said),
                        false => reply,
                    }
                });
                let source = ClientCredentials::new(endpoint(&issuer), auth.clone())
                    .with_secret_parameter("pin", pin.secret())
                    .unwrap();
                let error = fetch(&source).await.unwrap_err();
                let guard = LeakGuard::new();
                guard.error("the refusal", &error);
                guard.assert_clean();
            }
        }
    }
}

#[tokio::test]
async fn x19_no_type_shows_a_secret() {
    let guard = LeakGuard::new();
    let _recording = guard.record_logs();
    let (secret, token) = (Canary::new("client-secret"), Canary::new("access-token"));
    let issuer = FakeEndpoint::new();
    let body = format!(
        r#"{{"access_token":"{}","refresh_token":"{}"}}"#,
        token.text(),
        Canary::new("refresh-token").text()
    );
    issuer.reply(Reply::json(body));
    issuer.reply(
        Reply::html(format!("<html>{}", secret.text())).with_header(CONTENT_TYPE, token.text()),
    );
    let endpoint = endpoint(&issuer);
    for auth in [
        ClientAuth::secret_basic("id", secret.secret()).unwrap(),
        ClientAuth::secret_post("id", secret.secret()).unwrap(),
    ] {
        let source = ClientCredentials::new(endpoint.clone(), auth.clone())
            .with_secret_parameter("pin", Secret::from(Canary::new("pin").text()))
            .unwrap();
        guard.value("the authentication", &auth);
        guard.value("the source", &source);
        guard.value("the endpoint", &endpoint);
        guard.display("the description", &source.describe());
        match fetch(&source).await {
            Ok(token) => guard.value("the token", &token),
            Err(error) => guard.error("the error", &error),
        }
    }
    guard.assert_clean();
    issuer.assert_done();
}

#[tokio::test]
async fn a_client_with_a_certificate_that_is_refused_is_asked_for_it() {
    let refusal = Reply::json(r#"{"error":"invalid_client"}"#).with_status(401);
    let error = fails(ClientAuth::tls("id").unwrap(), refusal).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("certificate"), "{error}");
}
