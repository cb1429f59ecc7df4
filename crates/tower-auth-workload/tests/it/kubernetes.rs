use std::time::Duration;

use serde_json::json;
use tower_auth_core::{Credential as _, Error, ErrorKind, Expiry, RefreshHint};
use tower_auth_io::{MapEnv, MemoryFiles};
use tower_auth_testing::{Expect, FakeEndpoint, Reply};
use tower_auth_workload::{Audience, KubernetesApi, KubernetesFile, TokenRequest};

use crate::identity::{AUDIENCE, NOW, error, fetch, jwt, jwt_of, text, world};

const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// A pod of the namespace `team-a`.
struct Pod {
    disk: MemoryFiles,
    server: FakeEndpoint,
    host: &'static str,
}

impl Pod {
    fn new() -> Self {
        let disk = MemoryFiles::new()
            .with(KubernetesFile::DEFAULT_PATH, jwt_for_api("1"))
            .with(NAMESPACE, "team-a\n");
        Self {
            disk,
            server: FakeEndpoint::new(),
            host: "10.0.0.1",
        }
    }

    fn source(&self) -> TokenRequest {
        let env = MapEnv::from([
            ("KUBERNETES_SERVICE_HOST", self.host),
            ("KUBERNETES_SERVICE_PORT", "6443"),
        ]);
        let (world, _) = world();
        let world = world
            .with_env(env)
            .with_files(self.disk.clone())
            .with_transport(self.server.transport());
        TokenRequest::new(
            "reports",
            AUDIENCE,
            KubernetesApi::in_cluster(&world).unwrap(),
        )
        .unwrap()
    }

    async fn refused(&self, reply: Reply) -> Error {
        self.server.reply(reply);
        error(&self.source()).await
    }
}

fn jwt_for_api(id: &str) -> String {
    jwt_of(json!({ "aud": ["https://kubernetes.default.svc"], "exp": NOW + 3000, "jti": id }))
}

fn granted(token: &str) -> Reply {
    let answer = json!({
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": { "name": "reports", "namespace": "team-a" },
        "spec": { "audiences": [AUDIENCE], "expirationSeconds": 3600 },
        "status": { "token": token, "expirationTimestamp": "2030-01-01T00:05:00Z" },
    });
    Reply::json(answer.to_string()).with_status(201)
}

fn status(code: u16, reason: &str, message: &str) -> Reply {
    let answer = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    });
    Reply::json(answer.to_string()).with_status(code)
}

#[tokio::test]
async fn w87_a_token_request_names_audience_and_lifetime() {
    let pod = Pod::new();
    pod.server.expect(
        Expect::post("/api/v1/namespaces/team-a/serviceaccounts/reports/token")
            .header("authorization", format!("Bearer {}", jwt_for_api("1")))
            .header("content-type", "application/json")
            .json("/apiVersion", "authentication.k8s.io/v1")
            .json("/kind", "TokenRequest")
            .json("/spec/audiences", json!([AUDIENCE]))
            .json("/spec/expirationSeconds", 3600)
            .no_json("/spec/boundObjectRef"),
        granted(&jwt("1")),
    );
    assert_eq!(text(&pod.source()).await, jwt("1"));
    let uri = pod.server.last_request().uri().to_string();
    assert!(uri.starts_with("https://10.0.0.1:6443/api/v1/"), "{uri}");
    pod.server.assert_done();
}

#[tokio::test]
async fn w87_a_token_may_be_bound_to_a_pod_and_live_shorter() {
    let pod = Pod::new();
    pod.server.expect(
        Expect::any()
            .json("/spec/expirationSeconds", 600)
            .json("/spec/boundObjectRef/kind", "Pod")
            .json("/spec/boundObjectRef/apiVersion", "v1")
            .json("/spec/boundObjectRef/name", "reports-1")
            .json("/spec/boundObjectRef/uid", "u-1"),
        granted(&jwt("1")),
    );
    let source = pod
        .source()
        .with_expiration(TokenRequest::SHORTEST)
        .unwrap()
        .bound_to_pod("reports-1", "u-1");
    fetch(&source).await.unwrap();
    pod.server.assert_done();

    for wrong in [599, u64::from(u32::MAX) + 1] {
        let wrong = Duration::from_secs(wrong);
        let error = pod.source().with_expiration(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
}

#[tokio::test]
async fn w87_each_refusal_says_what_is_missing() {
    let pod = Pod::new();
    for (code, reason, word) in [
        (401, "Unauthorized", "token that asked"),
        (
            403,
            "Forbidden",
            "resources [\"serviceaccounts/token\"], resourceNames [\"reports\"], verbs [\"create\"]",
        ),
        (
            404,
            "NotFound",
            "a service account reports in namespace team-a",
        ),
        (409, "Conflict", "another one by now"),
    ] {
        let error = pod.refused(status(code, reason, "because")).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert_eq!(error.code(), Some(reason));
        assert_eq!(error.description(), Some("because"));
        assert_eq!(error.source_name(), Some("kubernetes token request"));
        assert!(error.hint().unwrap().contains(word), "{error}");
    }
    let error = pod
        .refused(status(422, "Invalid", "spec.expirationSeconds"))
        .await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    // A 404 that is not the API's: something else listens there.
    let error = pod.refused(Reply::html("not here").with_status(404)).await;
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn w87_a_busy_api_says_how_long_to_wait() {
    let pod = Pod::new();
    let reply = status(429, "TooManyRequests", "").with_retry_after(Duration::from_secs(3));
    let error = pod.refused(reply).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
}

#[tokio::test]
async fn w87_after_a_refusal_the_pods_token_is_read_again() {
    let pod = Pod::new();
    let source = pod.source();
    pod.server
        .reply(status(401, "Unauthorized", "Unauthorized"));
    error(&source).await;
    pod.disk
        .write(KubernetesFile::DEFAULT_PATH, jwt_for_api("2"));
    pod.server.expect(
        Expect::any().header("authorization", format!("Bearer {}", jwt_for_api("2"))),
        granted(&jwt("1")),
    );
    fetch(&source).await.unwrap();
    pod.server.assert_done();
}

#[tokio::test]
async fn w87_an_address_of_ipv6_gets_its_brackets() {
    let pod = Pod {
        host: "fd00::1",
        ..Pod::new()
    };
    pod.server.reply(granted(&jwt("1")));
    fetch(&pod.source()).await.unwrap();
    let uri = pod.server.last_request().uri().to_string();
    assert!(uri.starts_with("https://[fd00::1]:6443/"), "{uri}");
}

#[tokio::test]
async fn what_the_pod_lacks_is_named_by_its_file() {
    let pod = Pod::new();
    pod.disk.remove(NAMESPACE);
    let missing = error(&pod.source()).await;
    assert_eq!(missing.kind(), ErrorKind::NotConfigured);
    assert!(missing.to_string().contains(NAMESPACE), "{missing}");

    pod.disk.write(NAMESPACE, "../kube-system");
    let odd = error(&pod.source()).await;
    assert_eq!(odd.kind(), ErrorKind::InvalidConfig, "{odd}");

    pod.disk.remove(KubernetesFile::DEFAULT_PATH);
    let missing = error(&pod.source()).await;
    assert_eq!(missing.source_name(), Some("kubernetes token file"));
    assert!(
        missing
            .hint()
            .unwrap()
            .contains("automountServiceAccountToken"),
        "{missing}"
    );
    assert_eq!(pod.server.request_count(), 0);
}

#[test]
fn outside_of_a_cluster_it_is_not_configured() {
    let (world, _) = world();
    let error = KubernetesApi::in_cluster(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert_eq!(error.source_name(), Some("kubernetes api"));
    assert!(
        error.to_string().contains("KUBERNETES_SERVICE_HOST"),
        "{error}"
    );
}

#[test]
fn names_that_would_change_the_path_are_refused() {
    let (world, _) = world();
    let api = || KubernetesApi::new("https://api.test/k8s", "t", "team-a", &world).unwrap();
    for bad in ["", "a/b", "..", "A", "a?b", "-a"] {
        let error = TokenRequest::new(bad, AUDIENCE, api()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{bad}");
        assert!(api().with_namespace(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn an_api_behind_a_path_is_asked_below_it() {
    let server = FakeEndpoint::new();
    let (world, _) = world();
    let world = world.with_transport(server.transport());
    let api = KubernetesApi::new("https://api.test/k8s/c-1/", "t", "team-a", &world).unwrap();
    server.expect(
        Expect::post("/k8s/c-1/api/v1/namespaces/team-a/serviceaccounts/reports/token")
            .header("authorization", "Bearer t"),
        granted(&jwt("1")),
    );
    let source = TokenRequest::new("reports", AUDIENCE, api).unwrap();
    fetch(&source).await.unwrap();
    server.assert_done();
}

fn file(contents: &str) -> KubernetesFile {
    let (world, _) = world();
    let world = world.with_files(MemoryFiles::new().with("/t", contents));
    KubernetesFile::new("/t", AUDIENCE, &world).unwrap()
}

#[tokio::test]
async fn w84_a_token_that_was_stretched_to_a_year_is_read_again_within_a_minute() {
    let year = 365 * 24 * 3600;
    let token = jwt_of(json!({ "aud": AUDIENCE, "iat": NOW, "exp": NOW + year }));
    let token = fetch(&file(&token)).await.unwrap();
    assert_eq!(token.expiry(), Expiry::In(Duration::from_secs(300)));
    assert_eq!(
        token.refresh_hint(),
        Some(RefreshHint::In(Duration::from_secs(50)))
    );

    let token = fetch(&file(&jwt("1"))).await.unwrap();
    assert!(matches!(token.expiry(), Expiry::AskEvery(_)));
}

#[tokio::test]
async fn w86_a_token_for_the_cluster_goes_to_nobody_else() {
    let error = error(&file(&jwt_for_api("1"))).await;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let said = error.to_string();
    assert!(
        said.contains(
            "for the audience https://kubernetes.default.svc, not for https://api.anthropic.com"
        ),
        "{said}"
    );
    assert!(
        said.contains("write `audience: https://api.anthropic.com` under `serviceAccountToken`"),
        "{said}"
    );
}

#[tokio::test]
async fn w86_any_audience_is_taken_where_that_is_said() {
    let (world, _) = world();
    let disk = MemoryFiles::new().with(KubernetesFile::DEFAULT_PATH, jwt_for_api("1"));
    let source = KubernetesFile::automounted(Audience::any(), &world.with_files(disk)).unwrap();
    assert_eq!(text(&source).await, jwt_for_api("1"));
}

#[tokio::test]
async fn a_missing_file_says_how_it_comes_to_be() {
    let (world, _) = world();
    let source = KubernetesFile::new("/t", AUDIENCE, &world).unwrap();
    let error = error(&source).await;
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert!(
        error.hint().unwrap().contains("projected volume"),
        "{error}"
    );
}
