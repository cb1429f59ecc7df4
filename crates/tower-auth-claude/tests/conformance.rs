//! What every source has to do, for those of this crate.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::Request;
use tower_auth_claude::{ApiKey, ApiKeyHeader, AuthToken, Federation, Profile};
use tower_auth_core::{Credential as _, Expiry, Token};
use tower_auth_io::{MapEnv, MemoryFiles};
use tower_auth_testing::conformance::{Harness, RotationCheck, World};
use tower_auth_testing::{Canary, Reply, conformance};

/// An identity token in a file.
struct FromFile {
    files: MemoryFiles,
}

impl FromFile {
    fn new() -> Self {
        let identity = Canary::jwt("identity");
        Self {
            files: MemoryFiles::new().with(PATH, identity.text()),
        }
    }
}

impl Harness for FromFile {
    type Credential = Token;
    type Source = Federation<tower_auth_io::TokenFile>;

    fn source(&self, world: &World) -> Self::Source {
        let files = std::sync::Arc::new(self.files.clone());
        let identity = tower_auth_io::TokenFile::new(PATH)
            .unwrap()
            .with_files(files);
        let world = tower_auth_io::World::closed()
            .with_transport(world.transport())
            .with_clock(world.clock());
        Federation::new("fdrl_1", "an-organization", identity, &world)
            .unwrap()
            .with_service_account("svac_1")
            .unwrap()
    }

    fn answer(&self, _: &Request<Bytes>, nth: usize) -> Reply {
        let token = Canary::new(format!("access-token-{nth}"));
        Reply::json(format!(
            r#"{{"access_token":"{}","token_type":"Bearer","expires_in":3600,"scope":"workspace:developer"}}"#,
            token.text()
        ))
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![Canary::jwt("identity"), Canary::jwt("next-identity")]
    }

    fn refusals(&self) -> Vec<Reply> {
        vec![
            Reply::json(
                r#"{"type":"error","error":{"type":"authentication_error","message":"Authentication failed"},"request_id":"req_1"}"#,
            )
            .with_status(401),
            Reply::json(
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"federation_rule_id"}}"#,
            )
            .with_status(400),
            Reply::json(r#"{"error":"invalid_grant","error_description":"no"}"#).with_status(400),
            Reply::json(r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#)
                .with_status(403),
        ]
    }

    fn rotate(&self, _: &World) -> Option<RotationCheck> {
        let next = Canary::jwt("next-identity");
        self.files.write(PATH, next.text());
        Some(Box::new(move |requests| {
            assert!(requests.iter().any(|request| next.is_in_request(request)));
        }))
    }
}

conformance!(federation, FromFile::new());

/// A login whose access tokens end so soon that each fetch renews it.
struct Login {
    files: MemoryFiles,
}

impl Login {
    fn new() -> Self {
        let files = MemoryFiles::new().with(
            "/c/configs/p.json",
            r#"{"authentication":{"type":"user_oauth","client_id":"client-1"}}"#,
        );
        let login = Self { files };
        login.store("refresh");
        login
    }

    fn store(&self, refresh_token: &'static str) {
        let credentials = serde_json::json!({
            "access_token": Canary::new("ended").text(), "expires_at": 1,
            "refresh_token": Canary::new(refresh_token).text(),
        });
        self.files
            .write("/c/credentials/p.json", credentials.to_string());
    }
}

impl Harness for Login {
    type Credential = Token;
    type Source = Profile;

    fn source(&self, world: &World) -> Profile {
        let world = tower_auth_io::World::closed()
            .with_transport(world.transport())
            .with_clock(world.clock())
            .with_files(self.files.clone())
            .with_env(MapEnv::from([("ANTHROPIC_CONFIG_DIR", "/c")]));
        // Nothing in memory has to be waited for.
        let mut loading = pin!(Profile::load("p", &world));
        let mut cx = Context::from_waker(Waker::noop());
        match loading.as_mut().poll(&mut cx) {
            Poll::Ready(profile) => profile.unwrap(),
            Poll::Pending => panic!("loading a profile from memory waits"),
        }
    }

    fn answer(&self, _: &Request<Bytes>, nth: usize) -> Reply {
        let token = Canary::new(format!("access-token-{nth}"));
        Reply::json(format!(
            r#"{{"access_token":"{}","token_type":"Bearer","expires_in":20}}"#,
            token.text()
        ))
    }

    fn secrets(&self) -> Vec<Canary> {
        ["refresh", "next-refresh", "ended"]
            .map(Canary::new)
            .to_vec()
    }

    fn rotate(&self, _: &World) -> Option<RotationCheck> {
        self.store("next-refresh");
        Some(Box::new(|requests| {
            let next = Canary::new("next-refresh");
            assert!(requests.iter().any(|request| next.is_in_request(request)));
        }))
    }
}

conformance!(login, Login::new());

struct Key(ApiKeyHeader);

impl Harness for Key {
    type Credential = Token;
    type Source = ApiKey;

    fn source(&self, _: &World) -> ApiKey {
        ApiKey::new(Canary::new("key").secret())
            .unwrap()
            .with_header(self.0)
    }

    fn answer(&self, _: &Request<Bytes>, _: usize) -> Reply {
        Reply::refused()
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![Canary::new("key")]
    }

    fn requests(&self) -> usize {
        0
    }

    fn check(&self, token: &Token) {
        assert_eq!(token.expiry(), Expiry::Never);
    }
}

conformance!(local api_key, Key(ApiKeyHeader::XApiKey));
conformance!(local api_key_as_bearer, Key(ApiKeyHeader::Bearer));

struct Bearer;

impl Harness for Bearer {
    type Credential = Token;
    type Source = AuthToken;

    fn source(&self, _: &World) -> AuthToken {
        AuthToken::new(Canary::new("token").secret()).unwrap()
    }

    fn answer(&self, _: &Request<Bytes>, _: usize) -> Reply {
        Reply::refused()
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![Canary::new("token")]
    }

    fn requests(&self) -> usize {
        0
    }

    fn check(&self, token: &Token) {
        assert_eq!(token.expiry(), Expiry::Never);
    }
}

conformance!(local auth_token, Bearer);

const PATH: &str = "/run/token";
