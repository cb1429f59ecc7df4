//! What every source has to do, for those of this crate.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use http::Request;
use tower_auth_claude::{ApiKey, ApiKeyHeader, AuthToken, Federation};
use tower_auth_core::{Credential as _, Expiry, Token};
use tower_auth_io::MemoryFiles;
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
