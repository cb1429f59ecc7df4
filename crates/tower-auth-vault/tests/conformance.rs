//! What every source has to do, for each kind of session and for what is read with one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use http::Request;
use tower_auth_core::{Token, TokenSource};
use tower_auth_io::{MemoryFiles, TokenFile};
use tower_auth_testing::conformance::{Harness, RotationCheck, World};
use tower_auth_testing::{Canary, Reply, conformance};
use tower_auth_vault::{IdentityToken, KvSecret, LeasedSecret, Login, Server, Session};

fn session(world: &World, login: Login) -> Session {
    let world = tower_auth_io::World::closed()
        .with_transport(world.transport())
        .with_clock(world.clock());
    let server = Server::new("https://vault.test:8200", &world)
        .unwrap()
        .with_namespace("team")
        .unwrap();
    Session::new(server, login)
}

fn auth(nth: usize) -> Reply {
    let token = Canary::new(format!("vault-token-{nth}"));
    Reply::json(format!(
        r#"{{"request_id":"r-{nth}","auth":{{"client_token":"{}","accessor":"a","lease_duration":3600,"renewable":true,"token_type":"service","num_uses":0}}}}"#,
        token.text()
    ))
}

fn refusals() -> Vec<Reply> {
    vec![
        Reply::json(r#"{"errors":["invalid role or secret ID"]}"#).with_status(400),
        Reply::json(r#"{"errors":["permission denied"]}"#).with_status(403),
    ]
}

/// A session whose secret is in a file that can be replaced.
struct InFile {
    login: fn(TokenFile) -> Login,
    disk: MemoryFiles,
}

impl InFile {
    fn new(login: fn(TokenFile) -> Login) -> Self {
        let disk = MemoryFiles::new().with("/secret", Canary::new("secret").text());
        Self { login, disk }
    }
}

impl Harness for InFile {
    type Credential = Token;
    type Source = Session;

    fn source(&self, world: &World) -> Session {
        let file = TokenFile::new("/secret")
            .unwrap()
            .with_files(std::sync::Arc::new(self.disk.clone()));
        session(world, (self.login)(file))
    }

    fn answer(&self, request: &Request<Bytes>, nth: usize) -> Reply {
        if request.uri().path().ends_with("lookup-self") {
            return Reply::json(
                r#"{"data":{"ttl":3600,"creation_ttl":3600,"expire_time":"2030-01-01T01:00:00Z","renewable":true,"num_uses":0,"type":"service"}}"#,
            );
        }
        auth(nth)
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![Canary::new("secret"), Canary::new("next-secret")]
    }

    fn refusals(&self) -> Vec<Reply> {
        refusals()
    }

    fn fetch(&self, reason: tower_auth_core::Reason) -> tower_auth_core::Fetch {
        // A session that was just made may be renewed instead of logging in; a rotation is about logins.
        tower_auth_core::Fetch::new(match reason {
            tower_auth_core::Reason::First => tower_auth_core::Reason::Forced,
            other => other,
        })
    }

    fn rotate(&self, _: &World) -> Option<RotationCheck> {
        self.disk
            .write("/secret", Canary::new("next-secret").text());
        Some(Box::new(|requests| {
            let next = Canary::new("next-secret");
            assert!(requests.iter().any(|request| next.is_in_request(request)));
        }))
    }
}

conformance!(
    app_role,
    InFile::new(|file| Login::app_role("role-id", file).unwrap())
);
conformance!(
    kubernetes,
    InFile::new(|file| Login::kubernetes_with("reports", file).unwrap())
);
conformance!(
    jwt,
    InFile::new(|file| Login::jwt("reports", file).unwrap())
);
conformance!(
    userpass,
    InFile::new(|file| Login::userpass("me", file).unwrap())
);
conformance!(token_file, InFile::new(Login::token_from));

/// A session that is renewed where it can be.
struct Renewing;

impl Harness for Renewing {
    type Credential = Token;
    type Source = Session;

    fn source(&self, world: &World) -> Session {
        let secret_id = Canary::new("secret-id").secret();
        session(world, Login::app_role("role-id", secret_id).unwrap())
    }

    fn answer(&self, _: &Request<Bytes>, nth: usize) -> Reply {
        auth(nth)
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![Canary::new("secret-id")]
    }

    fn refusals(&self) -> Vec<Reply> {
        refusals()
    }
}

conformance!(renewing, Renewing);

/// What is read with a session: a login and a read.
struct Reading<S> {
    source: fn(Session) -> S,
    body: fn(&Canary) -> String,
    expires: bool,
}

impl<S: TokenSource + std::fmt::Debug> Harness for Reading<S> {
    type Credential = Token;
    type Source = S;

    fn source(&self, world: &World) -> S {
        let secret_id = Canary::new("secret-id").secret();
        (self.source)(session(
            world,
            Login::app_role("role-id", secret_id).unwrap(),
        ))
    }

    fn answer(&self, request: &Request<Bytes>, nth: usize) -> Reply {
        let path = request.uri().path();
        if path.starts_with("/v1/auth/") {
            return auth(nth);
        }
        Reply::json((self.body)(&Canary::new(format!("secret-{nth}"))))
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![Canary::new("secret-id")]
    }

    fn requests(&self) -> usize {
        2
    }

    fn check(&self, token: &Token) {
        use tower_auth_core::{Credential, Expiry};
        let says = matches!(token.expiry(), Expiry::In(_) | Expiry::At(_));
        assert_eq!(says, self.expires);
    }

    fn refusals(&self) -> Vec<Reply> {
        vec![Reply::json(r#"{"errors":["no"]}"#).with_status(400)]
    }
}

conformance!(
    identity_token,
    Reading::<IdentityToken> {
        source: |session| session.identity_token("claude").unwrap(),
        body: |canary| format!(
            r#"{{"data":{{"client_id":"c","token":"{}","ttl":300}}}}"#,
            canary.text()
        ),
        expires: true,
    }
);
conformance!(
    kv,
    Reading::<KvSecret> {
        source: |session| session.kv("secret", "apis/weather", "key").unwrap(),
        body: |canary| format!(
            r#"{{"data":{{"data":{{"key":"{}"}},"metadata":{{"version":1}}}}}}"#,
            canary.text()
        ),
        expires: false,
    }
);
conformance!(
    leased,
    Reading::<LeasedSecret> {
        source: |session| session.secret("aws/creds/r", "secret_key").unwrap(),
        body: |canary| format!(
            r#"{{"lease_id":"l","lease_duration":600,"renewable":false,"data":{{"secret_key":"{}"}}}}"#,
            canary.text()
        ),
        expires: true,
    }
);
