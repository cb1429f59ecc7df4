//! What the tests of this crate stand on: a server that is not there, and answers as both servers give
//! them.

use tower_auth_core::{Error, Fetch, Reason, Token, TokenSource};
use tower_auth_io::{MemoryFiles, World};
use tower_auth_testing::{Canary, FakeEndpoint, LeakGuard, Reply, TestClock};
use tower_auth_vault::{Login, Server, Session};

#[derive(Default)]
pub(crate) struct Bench {
    pub(crate) endpoint: FakeEndpoint,
    pub(crate) clock: TestClock,
    pub(crate) files: MemoryFiles,
    pub(crate) guard: LeakGuard,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn world(&self) -> World {
        World::closed()
            .with_transport(self.endpoint.transport())
            .with_clock(self.clock.clone())
            .with_files(self.files.clone())
    }

    pub(crate) fn server(&self) -> Server {
        Server::new("https://vault.test:8200", &self.world()).unwrap()
    }

    pub(crate) fn session(&self, login: Login) -> Session {
        Session::new(self.server(), login)
    }

    /// A session by AppRole, whose secret id is a canary.
    pub(crate) fn app_role(&self) -> Session {
        self.session(Login::app_role("role-id", secret_id().secret()).unwrap())
    }

    /// A session by AppRole that has logged in.
    pub(crate) async fn logged_in(&self) -> Session {
        let session = self.app_role();
        self.endpoint.reply(auth("login-token", 3600, true));
        fetch(&session, Reason::First).await.unwrap();
        session
    }

    /// Looks for secrets in an error, and gives it in words.
    pub(crate) fn words(&self, error: &Error) -> String {
        self.guard.error("an error", error);
        self.guard.assert_clean();
        error.to_string()
    }

    /// How many requests went to a path that ends so.
    pub(crate) fn requests_to(&self, end: &str) -> usize {
        let requests = self.endpoint.requests();
        let to = requests
            .iter()
            .filter(|request| request.uri().path().ends_with(end));
        to.count()
    }
}

pub(crate) async fn fetch(source: &impl TokenSource, reason: Reason) -> Result<Token, Error> {
    source.fetch(&Fetch::new(reason)).await
}

/// The error of a first fetch.
pub(crate) async fn refusal(source: &impl TokenSource) -> Error {
    fetch(source, Reason::First).await.unwrap_err()
}

pub(crate) fn secret_id() -> Canary {
    Canary::new("secret-id")
}

/// A token of this name.
pub(crate) fn token(name: &str) -> Canary {
    Canary::new(name.to_owned())
}

/// The answer to a login or a renewal.
pub(crate) fn auth(name: &str, lease: u64, renewable: bool) -> Reply {
    Reply::json(format!(
        r#"{{"request_id":"5f0c","auth":{{"client_token":"{}","accessor":"a","policies":["default"],"metadata":{{}},"lease_duration":{lease},"renewable":{renewable},"entity_id":"e","token_type":"service","orphan":true,"num_uses":0}}}}"#,
        token(name).text()
    ))
}

/// An error with this text, in the form of both servers.
pub(crate) fn refused(status: u16, text: &str) -> Reply {
    Reply::json(format!(r#"{{"errors":["{text}"]}}"#)).with_status(status)
}

pub(crate) fn denied() -> Reply {
    refused(403, r"1 error occurred:\n\t* permission denied\n\n")
}
