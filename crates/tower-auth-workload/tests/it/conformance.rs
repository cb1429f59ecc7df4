//! What every source has to do.
use bytes::Bytes;
use http::Request;
use tower_auth_core::{BoxTokenSource, Credential as _, Expiry, Token, TokenSource as _};
use tower_auth_io::{Command, MapEnv, MemoryFiles, Output, ScriptedRun, UnverifiedClaims};
use tower_auth_testing::conformance::{Harness, RotationCheck, World};
use tower_auth_testing::{Canary, Reply, conformance};
use tower_auth_workload::{
    Audience, Buildkite, CircleCi, CommandToken, EnvToken, GitHubActions, GitLab, HcpTerraform,
    IdentityFile, KubernetesApi, KubernetesFile, SpiffeHelperFile, TokenRequest,
};

use crate::identity::{AUDIENCE, canary, canary_for};

fn closed(world: &World) -> tower_auth_io::World {
    tower_auth_io::World::closed()
        .with_transport(world.transport())
        .with_clock(world.clock())
}

/// The text says when it ends, and the cache reads it.
fn check_token(token: &Token) {
    assert!(matches!(token.expiry(), Expiry::AskEvery(_)));
    let claims = UnverifiedClaims::of(token.secret().expose()).unwrap();
    assert!(claims.expires_at().is_some());
}

struct GitHub;

impl Harness for GitHub {
    type Credential = Token;
    type Source = GitHubActions;

    fn source(&self, world: &World) -> GitHubActions {
        let env = MapEnv::from([
            (
                "ACTIONS_ID_TOKEN_REQUEST_URL",
                "https://pipelines.test/idtoken?api-version=2.0",
            ),
            (
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
                Canary::new("request-token").text(),
            ),
        ]);
        GitHubActions::new(AUDIENCE, &closed(world).with_env(env)).unwrap()
    }

    fn answer(&self, _: &Request<Bytes>, nth: usize) -> Reply {
        let token = canary(&format!("id-token-{nth}"));
        Reply::json(format!(r#"{{"count":1,"value":"{}"}}"#, token.text()))
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![Canary::new("request-token")]
    }

    fn check(&self, token: &Token) {
        check_token(token);
    }
}

conformance!(github, GitHub);

struct Kubernetes {
    disk: MemoryFiles,
}

impl Kubernetes {
    fn new() -> Self {
        let disk = MemoryFiles::new()
            .with(
                KubernetesFile::DEFAULT_PATH,
                canary_for("pod-token-0", "https://kubernetes.default.svc").text(),
            )
            .with(
                "/var/run/secrets/kubernetes.io/serviceaccount/namespace",
                "default",
            );
        Self { disk }
    }
}

impl Harness for Kubernetes {
    type Credential = Token;
    type Source = TokenRequest;

    fn source(&self, world: &World) -> TokenRequest {
        let env = MapEnv::from([
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
        ]);
        let world = closed(world).with_env(env).with_files(self.disk.clone());
        let api = KubernetesApi::in_cluster(&world).unwrap();
        TokenRequest::new("reports", AUDIENCE, api).unwrap()
    }

    fn answer(&self, _: &Request<Bytes>, nth: usize) -> Reply {
        let token = canary(&format!("granted-{nth}"));
        Reply::json(format!(
            r#"{{"kind":"TokenRequest","status":{{"token":"{}","expirationTimestamp":"2100-01-01T00:00:00Z"}}}}"#,
            token.text()
        ))
        .with_status(201)
    }

    fn secrets(&self) -> Vec<Canary> {
        ["pod-token-0", "pod-token-1"]
            .map(|name| canary_for(name, "https://kubernetes.default.svc"))
            .to_vec()
    }

    fn refusals(&self) -> Vec<Reply> {
        [
            (401, "Unauthorized"),
            (403, "Forbidden"),
            (404, "NotFound"),
            (409, "Conflict"),
            (422, "Invalid"),
        ]
        .map(|(status, reason)| {
            Reply::json(format!(
                r#"{{"kind":"Status","status":"Failure","message":"no","reason":"{reason}","code":{status}}}"#
            ))
            .with_status(status)
        })
        .to_vec()
    }

    fn check(&self, token: &Token) {
        check_token(token);
    }

    fn rotate(&self, _: &World) -> Option<RotationCheck> {
        let next = canary_for("pod-token-1", "https://kubernetes.default.svc");
        self.disk.write(KubernetesFile::DEFAULT_PATH, next.text());
        Some(Box::new(move |requests| {
            assert!(requests.iter().all(|request| next.is_in_request(request)));
        }))
    }
}

conformance!(kubernetes_token_request, Kubernetes::new());

/// A source that asks no server.
struct Local(fn(&tower_auth_io::World) -> BoxTokenSource);

impl Harness for Local {
    type Credential = Token;
    type Source = BoxTokenSource;

    fn source(&self, world: &World) -> BoxTokenSource {
        let token = canary("token");
        let disk = MemoryFiles::new()
            .with(KubernetesFile::DEFAULT_PATH, token.text())
            .with("/t", token.text());
        let env = MapEnv::from([
            ("TOKEN", token.text()),
            ("TFC_WORKLOAD_IDENTITY_TOKEN_A", token.text()),
            ("CIRCLE_OIDC_TOKEN_V2", token.text()),
        ]);
        // More than any of the tests fetches.
        let run = (0..2000).fold(ScriptedRun::new(), |run, _| {
            run.answer(Output::new(0, format!("{}\n", token.text())))
        });
        let world = closed(world).with_files(disk).with_env(env).with_run(run);
        (self.0)(&world)
    }

    fn answer(&self, _: &Request<Bytes>, _: usize) -> Reply {
        Reply::refused()
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![canary("token")]
    }

    fn requests(&self) -> usize {
        0
    }

    fn check(&self, token: &Token) {
        if !matches!(token.expiry(), Expiry::In(_)) {
            check_token(token);
        }
    }
}

conformance!(
    local kubernetes_file,
    Local(|world| KubernetesFile::automounted(Audience::any(), world).unwrap().boxed())
);
conformance!(
    local spiffe_helper_file,
    Local(|world| SpiffeHelperFile::new("/t", AUDIENCE, world).unwrap().boxed())
);
conformance!(
    local identity_file,
    Local(|world| IdentityFile::new("/t", AUDIENCE, world).unwrap().boxed())
);
conformance!(
    local variable,
    Local(|world| EnvToken::new("TOKEN", AUDIENCE, world).unwrap().boxed())
);
conformance!(
    local gitlab,
    Local(|world| GitLab::new("TOKEN", AUDIENCE, world).unwrap().boxed())
);
conformance!(
    local hcp_terraform,
    Local(|world| HcpTerraform::tagged("A", AUDIENCE, world).unwrap().boxed())
);
conformance!(
    local circleci_variable,
    Local(|world| CircleCi::from_env(AUDIENCE, world).unwrap().boxed())
);
conformance!(
    local circleci,
    Local(|world| CircleCi::new(AUDIENCE, world).unwrap().boxed())
);
conformance!(
    local buildkite,
    Local(|world| Buildkite::new(AUDIENCE, world).unwrap().boxed())
);
conformance!(
    local command,
    Local(|world| CommandToken::new(Command::new("cli"), AUDIENCE, world).unwrap().boxed())
);

#[cfg(feature = "spiffe")]
mod workload_api {
    use super::*;
    use http::HeaderName;
    use http::header::CONTENT_TYPE;
    use tower_auth_workload::SpiffeWorkloadApi;

    pub(super) struct Spiffe;

    impl Harness for Spiffe {
        type Credential = Token;
        type Source = SpiffeWorkloadApi;

        fn source(&self, world: &World) -> SpiffeWorkloadApi {
            SpiffeWorkloadApi::over(world.transport(), AUDIENCE, &closed(world)).unwrap()
        }

        fn answer(&self, _: &Request<Bytes>, nth: usize) -> Reply {
            let token = canary(&format!("svid-{nth}"));
            status(0, &message(&svid(token.text())))
        }

        fn secrets(&self) -> Vec<Canary> {
            Vec::new()
        }

        fn refusals(&self) -> Vec<Reply> {
            vec![status(7, b""), status(16, b"")]
        }

        fn check(&self, token: &Token) {
            check_token(token);
        }
    }

    fn status(code: u32, body: &[u8]) -> Reply {
        Reply::json(body.to_vec())
            .with_header(CONTENT_TYPE, "application/grpc")
            .with_header(HeaderName::from_static("grpc-status"), &code.to_string())
    }

    fn svid(token: &str) -> Vec<u8> {
        field(
            1,
            &[field(1, b"spiffe://a/b"), field(2, token.as_bytes())].concat(),
        )
    }

    fn message(body: &[u8]) -> Vec<u8> {
        let mut message = vec![0];
        message.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        message.extend(body);
        message
    }

    /// A field of less than 16 KiB.
    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        let length = value.len();
        let mut field = vec![
            number << 3 | 2,
            (length & 0x7f) as u8 | 0x80,
            (length >> 7) as u8,
        ];
        field.extend(value);
        field
    }
}

#[cfg(feature = "spiffe")]
use workload_api::Spiffe;
#[cfg(feature = "spiffe")]
conformance!(spiffe_workload_api, Spiffe);
