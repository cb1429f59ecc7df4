use std::fmt::Debug;

use tower_auth_core::TokenSource;
use tower_auth_io::{Command, MapEnv, World};
use tower_auth_testing::Canary;
use tower_auth_workload::{
    Audience, Buildkite, CircleCi, CommandToken, EnvToken, GitHubActions, GitLab, HcpTerraform,
    IdentityFile, KubernetesApi, KubernetesFile, SpiffeHelperFile, TokenRequest,
};

use crate::identity::AUDIENCE;

/// What each source says of itself. Everything secret around it is a canary.
fn shown() -> Vec<(String, String)> {
    let canary = Canary::new("s");
    let env = MapEnv::from([
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://a.test/t?k=canary"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", canary.text()),
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("T", canary.text()),
        ("SPIFFE_ENDPOINT_SOCKET", "unix:///run/agent.sock"),
    ]);
    let world = World::closed().with_env(env);
    let api = KubernetesApi::in_cluster(&world).unwrap();
    let fixed = KubernetesApi::new("https://k.test", canary.secret(), "n", &world).unwrap();
    let command = Command::new("cli").args([canary.text()]);
    fn show(source: &(impl TokenSource + Debug)) -> (String, String) {
        (
            source.describe().to_string(),
            format!("{source:?} {source:#?}"),
        )
    }
    vec![
        show(&GitHubActions::new(AUDIENCE, &world).unwrap()),
        show(&KubernetesFile::new("/t", AUDIENCE, &world).unwrap()),
        show(&KubernetesFile::automounted(Audience::any(), &world).unwrap()),
        show(&TokenRequest::new("a", AUDIENCE, api).unwrap()),
        show(&TokenRequest::new("a", AUDIENCE, fixed).unwrap()),
        show(&IdentityFile::new("/t", AUDIENCE, &world).unwrap()),
        show(&SpiffeHelperFile::new("/t", AUDIENCE, &world).unwrap()),
        show(&EnvToken::new("T", AUDIENCE, &world).unwrap()),
        show(&GitLab::new("T", AUDIENCE, &world).unwrap()),
        show(&HcpTerraform::new(AUDIENCE, &world).unwrap()),
        show(&CircleCi::new(AUDIENCE, &world).unwrap()),
        show(&CircleCi::from_env("org", &world).unwrap()),
        show(&Buildkite::new(AUDIENCE, &world).unwrap()),
        show(&CommandToken::new(command, AUDIENCE, &world).unwrap()),
        #[cfg(all(unix, feature = "spiffe"))]
        show(&tower_auth_workload::SpiffeWorkloadApi::new(AUDIENCE, &world).unwrap()),
    ]
}

#[test]
fn w97_sources_are_made_without_a_runtime() {
    assert!(!shown().is_empty());
}

#[test]
fn w100_no_source_shows_a_secret() {
    for (description, debug) in shown() {
        for text in [description, debug] {
            assert!(!text.contains("canary"), "{text}");
        }
    }
}

#[test]
fn w101_every_source_says_where_its_token_comes_from_and_for_whom() {
    let descriptions: Vec<String> = shown().into_iter().map(|(text, _)| text).collect();
    for text in &descriptions {
        assert!(text.contains("audience from "), "{text}");
    }
    assert_eq!(
        descriptions[..4],
        [
            "github actions id token (audience from https://api.anthropic.com, endpoint from \
             ACTIONS_ID_TOKEN_REQUEST_URL, request token from ACTIONS_ID_TOKEN_REQUEST_TOKEN)",
            "kubernetes token file (audience from https://api.anthropic.com, token from /t)",
            "kubernetes token file (audience from any audience, token from \
             /var/run/secrets/kubernetes.io/serviceaccount/token)",
            "kubernetes token request (audience from https://api.anthropic.com, service account from a, \
             namespace from /var/run/secrets/kubernetes.io/serviceaccount/namespace, endpoint from \
             https://10.0.0.1:443/, bearer from kubernetes token file (audience from any audience, token from \
             /var/run/secrets/kubernetes.io/serviceaccount/token))",
        ]
    );
}
