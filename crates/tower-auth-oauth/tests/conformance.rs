//! What every source has to do, for the client credentials with each kind of client authentication.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use http::Request;
use tower_auth_core::{Error, Secret, Token};
use tower_auth_oauth::{BasicEncoding, ClientAuth, ClientCredentials, TokenEndpoint};
use tower_auth_testing::conformance::{Harness, World};
use tower_auth_testing::{Canary, Reply, conformance};

struct Client {
    auth: fn(Secret) -> Result<ClientAuth, Error>,
    has_secret: bool,
}

impl Harness for Client {
    type Credential = Token;
    type Source = ClientCredentials;

    fn source(&self, world: &World) -> ClientCredentials {
        let world = tower_auth_io::World::closed()
            .with_transport(world.transport())
            .with_clock(world.clock());
        let endpoint = TokenEndpoint::new("https://issuer.test/token", &world).unwrap();
        let auth = (self.auth)(Canary::new("client-secret").secret()).unwrap();
        ClientCredentials::new(endpoint, auth)
            .with_scope("read")
            .with_secret_parameter("pin", Canary::new("pin").secret())
            .unwrap()
    }

    fn answer(&self, _: &Request<Bytes>, nth: usize) -> Reply {
        let token = Canary::new(format!("access-token-{nth}"));
        Reply::json(format!(
            r#"{{"access_token":"{}","token_type":"Bearer","expires_in":3600}}"#,
            token.text()
        ))
    }

    fn secrets(&self) -> Vec<Canary> {
        let mut secrets = vec![Canary::new("pin")];
        if self.has_secret {
            secrets.push(Canary::new("client-secret"));
        }
        secrets
    }
}

conformance!(
    secret_basic,
    Client {
        auth: |secret| ClientAuth::secret_basic("id", secret),
        has_secret: true,
    }
);

conformance!(
    secret_basic_raw,
    Client {
        auth: |secret| ClientAuth::secret_basic_encoded("id", secret, BasicEncoding::Raw),
        has_secret: true,
    }
);

conformance!(
    secret_post,
    Client {
        auth: |secret| ClientAuth::secret_post("id", secret),
        has_secret: true,
    }
);

conformance!(
    public,
    Client {
        auth: |_| ClientAuth::none("id"),
        has_secret: false,
    }
);
