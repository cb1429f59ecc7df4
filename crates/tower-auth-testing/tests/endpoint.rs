//! The fake endpoint answers as it was told and does not let a wrong request pass.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Request, Response};
use tokio::time::{Instant, timeout};
use tower_auth_core::{Error, ErrorKind};
use tower_auth_io::Transport;
use tower_auth_testing::{Canary, Expect, FakeEndpoint, Gate, LeakGuard, Reply};

const SECOND: Duration = Duration::from_secs(1);

fn form(body: &str) -> Request<Bytes> {
    Request::post("https://issuer.test/token?tenant=a%20b&x=1")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("accept", "application/json")
        .body(Bytes::from(body.to_owned()))
        .unwrap()
}

fn json(body: &str) -> Request<Bytes> {
    let mut request = form(body);
    let value = HeaderValue::from_static("application/json");
    request.headers_mut().insert(CONTENT_TYPE, value);
    request
}

async fn answer(reply: Reply) -> Result<Response<Bytes>, Error> {
    let endpoint = FakeEndpoint::new();
    endpoint.reply(reply);
    let answer = endpoint.transport().send(form("a=b")).await;
    endpoint.assert_done();
    answer
}

/// What the endpoint says is wrong with this request.
async fn complaint(expected: Expect, request: Request<Bytes>) -> String {
    let endpoint = FakeEndpoint::new();
    endpoint.expect(expected, Reply::json("{}"));
    let error = endpoint.transport().send(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    complaint_of(&endpoint)
}

fn complaint_of(endpoint: &FakeEndpoint) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| endpoint.assert_done()));
    let panic = panic.expect_err("nothing was wrong");
    panic.downcast_ref::<String>().unwrap().clone()
}

#[tokio::test]
async fn a_request_as_expected_passes() {
    let endpoint = FakeEndpoint::new();
    endpoint.expect(
        Expect::post("/token")
            .query("tenant", "a b")
            .no_query("y")
            .header("accept", "application/json")
            .has_header("content-type")
            .no_header("authorization")
            .form("scope", "a b")
            .has_form("grant_type")
            .no_form("client_secret")
            .that("the host is the issuer's", |r| {
                r.uri().host() == Some("issuer.test")
            }),
        Reply::json("{}"),
    );
    endpoint.expect(
        Expect::post("/token")
            .json("/role", "reader")
            .has_json("/list/1")
            .no_json("/none"),
        Reply::json("[]"),
    );
    let transport = endpoint.transport();
    let first = transport
        .send(form("grant_type=x&scope=a+b"))
        .await
        .unwrap();
    assert_eq!(first.body(), "{}");
    let second = transport
        .send(json(r#"{"role":"reader","list":[1,2]}"#))
        .await
        .unwrap();
    assert_eq!(second.body(), "[]");
    assert_eq!(second.headers()[CONTENT_TYPE], "application/json");
    endpoint.assert_done();
    assert_eq!(endpoint.requests()[0].body(), "grant_type=x&scope=a+b");
    assert_eq!(endpoint.last_request().uri().path(), "/token");
}

#[tokio::test]
async fn a_request_that_differs_is_described() {
    for (expected, request, wanted) in [
        (Expect::get("/token"), form(""), "the method should be GET"),
        (
            Expect::post("/other"),
            form(""),
            "the path should be /other",
        ),
        (
            Expect::any().header("accept", "text/html"),
            form(""),
            r#"header accept should be "text/html" and is ["application/json"]"#,
        ),
        (
            Expect::any().has_header("x-a"),
            form(""),
            "header x-a is missing",
        ),
        (
            Expect::any().no_header("accept"),
            form(""),
            "header accept should not be there",
        ),
        (
            Expect::any().no_query("x"),
            form(""),
            "query field x should not be there",
        ),
        (
            Expect::any().form("a", "1"),
            form("a=1&a=2"),
            r#"form field a should be "1" and is ["1","2"]"#,
        ),
        (
            Expect::any().no_form("a"),
            json("{}"),
            "the content-type should be that of a form",
        ),
        (
            Expect::any().json("/a", 1),
            json(r#"{"a":"1"}"#),
            r#"JSON value /a should be 1 and is ["1"]"#,
        ),
        (
            Expect::any().has_json("/a"),
            form("a=1"),
            "the body should be JSON",
        ),
        (
            Expect::any().that("a is b", |_| false),
            form(""),
            "it should hold that a is b",
        ),
    ] {
        assert_eq!(
            complaint(expected, request).await,
            format!("request 1 (POST /token) is not as expected: {wanted}")
        );
    }
}

#[tokio::test]
async fn fc_g09_a_complaint_does_not_show_a_canary() {
    let canary = Canary::new("client-secret");
    let expected = Expect::any().form("client_secret", "something else");
    let said = complaint(expected, form(&format!("client_secret={}", canary.text()))).await;
    let guard = LeakGuard::new();
    guard.text("the complaint", &said);
    guard.assert_clean();
    assert!(said.contains("[canary unnamed]"), "{said}");
}

#[tokio::test]
async fn a_request_that_nobody_expects_and_one_that_does_not_come_are_failures() {
    let endpoint = FakeEndpoint::new();
    assert!(endpoint.transport().send(form("")).await.is_err());
    assert_eq!(
        complaint_of(&endpoint),
        "request 1 (POST /token) was not expected"
    );
    endpoint.reply(Reply::json("{}"));
    assert_eq!(
        complaint_of(&endpoint),
        "the fake endpoint still expects 1 requests"
    );
}

#[tokio::test]
async fn a_wrong_request_cannot_be_overlooked() {
    let endpoint = FakeEndpoint::new();
    let transport = endpoint.transport();
    assert!(transport.send(form("")).await.is_err());
    let drop = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(endpoint)));
    assert!(drop.is_err());
}

#[tokio::test]
async fn the_rule_answers_when_the_script_is_through() {
    let endpoint = FakeEndpoint::new();
    endpoint.always(|_, nth| Reply::json(nth.to_string()));
    endpoint.reply(Reply::json("scripted"));
    let transport: Transport = endpoint.transport();
    for wanted in ["scripted", "1", "2"] {
        assert_eq!(transport.send(form("")).await.unwrap().body(), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_answer_never_comes_and_a_late_one_comes_in_time() {
    assert!(
        timeout(SECOND * 86_400, answer(Reply::hang()))
            .await
            .is_err()
    );
    let began = Instant::now();
    answer(Reply::json("{}").after(SECOND * 9)).await.unwrap();
    assert_eq!(began.elapsed(), SECOND * 9);
}

#[tokio::test]
async fn broken_connections_are_errors_of_the_transport() {
    for reply in [
        Reply::reset(),
        Reply::refused(),
        Reply::timed_out(),
        Reply::json("{\"a\":1}").breaking_off(3),
        Reply::json("{\"a\":1}").breaking_off(0),
    ] {
        let error = answer(reply.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{reply:?}");
    }
    assert!(answer(Reply::timed_out()).await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn an_oversize_answer_is_cut_off_by_the_transport() {
    let fits = answer(Reply::oversize(Transport::DEFAULT_BODY_LIMIT)).await;
    assert_eq!(fits.unwrap().body().len(), Transport::DEFAULT_BODY_LIMIT);
    let error = answer(Reply::oversize(10 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn answers_carry_what_they_were_given() {
    let cut = answer(Reply::json("{\"a\":1}").truncated(3)).await.unwrap();
    assert_eq!(cut.body(), "{\"a");
    let moved = answer(Reply::redirect("https://evil.test/")).await.unwrap();
    assert_eq!(moved.status(), 302);
    assert_eq!(moved.headers()[LOCATION], "https://evil.test/");
    let busy = answer(Reply::status(429).with_retry_after(SECOND * 7))
        .await
        .unwrap();
    assert_eq!(busy.headers()[RETRY_AFTER], "7");
    let epoch = SystemTime::UNIX_EPOCH;
    let busy = answer(
        Reply::status(429)
            .with_date(epoch)
            .with_retry_after_date(epoch + SECOND),
    );
    let busy = busy.await.unwrap();
    assert_eq!(busy.headers()[RETRY_AFTER], "Thu, 01 Jan 1970 00:00:01 GMT");
    assert_eq!(busy.headers()["date"], "Thu, 01 Jan 1970 00:00:00 GMT");
    let page = answer(Reply::html("<html>").with_status(503))
        .await
        .unwrap();
    assert_eq!(page.status(), 503);
}

#[tokio::test]
async fn a_test_can_wait_for_a_request_and_hold_its_answer() {
    let endpoint = FakeEndpoint::new();
    let gate = Gate::new();
    endpoint.reply(Reply::json("{}").behind(&gate));
    let transport = endpoint.transport();
    let asked = transport.send(form(""));
    let watching = async {
        endpoint.requested(1).await;
        gate.reached().await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(asked, watching);
    assert!(answer.is_ok());
    assert_eq!(endpoint.request_count(), 1);
}
