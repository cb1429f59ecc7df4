//! What every source has to do, for each kind of client authentication and each grant.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use http::Request;
use tower_auth_core::{Error, Secret, Token};
use tower_auth_oauth::{
    Assertion, BasicEncoding, ClientAuth, ClientCredentials, Discovery, Dpop, Grant, GrantSource,
    HmacAlgorithm, RefreshToken, RefreshTokenInMemory, SigningKey, TokenEndpoint, TokenType,
};
use tower_auth_testing::conformance::{Harness, RotationCheck, World};
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

conformance!(
    secret_jwt,
    Client {
        auth: |secret| ClientAuth::secret_jwt(
            "id",
            format!("{}-and-thirty-two-bytes", secret.expose()),
            HmacAlgorithm::Hs256
        ),
        has_secret: true,
    }
);

conformance!(
    private_key_jwt,
    Client {
        auth: |_| ClientAuth::private_key_jwt("id", key()),
        has_secret: false,
    }
);

conformance!(
    assertion_from,
    Client {
        auth: |secret| ClientAuth::assertion_from("id", secret),
        has_secret: true,
    }
);

conformance!(
    tls,
    Client {
        auth: |_| ClientAuth::tls("id"),
        has_secret: false,
    }
);

fn key() -> SigningKey {
    SigningKey::from_pem(include_str!("keys/p256.pem")).unwrap()
}

struct Granted {
    grant: fn(Secret, Secret) -> Grant,
    secrets: &'static [&'static str],
}

impl Harness for Granted {
    type Credential = Token;
    type Source = GrantSource;

    fn source(&self, world: &World) -> GrantSource {
        let world = tower_auth_io::World::closed()
            .with_transport(world.transport())
            .with_clock(world.clock());
        let endpoint = TokenEndpoint::new("https://issuer.test/token", &world).unwrap();
        let auth = ClientAuth::secret_post("id", Canary::new("client-secret").secret()).unwrap();
        let [subject, actor] = ["subject", "actor"].map(|name| Canary::jwt(name).secret());
        GrantSource::new(endpoint, auth, (self.grant)(subject, actor))
    }

    fn answer(&self, _: &Request<Bytes>, nth: usize) -> Reply {
        let token = Canary::new(format!("access-token-{nth}"));
        Reply::json(format!(
            r#"{{"access_token":"{}","issued_token_type":"urn:x","token_type":"Bearer","expires_in":3600}}"#,
            token.text()
        ))
    }

    fn secrets(&self) -> Vec<Canary> {
        let subjects = self.secrets.iter().map(|name| Canary::jwt(*name));
        subjects.chain([Canary::new("client-secret")]).collect()
    }
}

conformance!(
    jwt_bearer,
    Granted {
        grant: |subject, _| Grant::jwt_bearer(subject),
        secrets: &["subject"],
    }
);

conformance!(
    signed_jwt_bearer,
    Granted {
        grant: |_, _| Grant::signed_jwt_bearer(Assertion::new(key(), "id")),
        secrets: &[],
    }
);

conformance!(
    token_exchange,
    Granted {
        grant: |subject, actor| Grant::token_exchange(subject, TokenType::JWT)
            .with_actor(actor, TokenType::JWT)
            .unwrap(),
        secrets: &["subject", "actor"],
    }
);

conformance!(
    refresh_token,
    Granted {
        grant: |subject, _| Grant::refresh_token(subject),
        secrets: &["subject"],
    }
);

/// With what is asked for before the token, and with a proof.
struct Found;

impl Harness for Found {
    type Credential = Token;
    type Source = ClientCredentials;

    fn source(&self, world: &World) -> ClientCredentials {
        let world = tower_auth_io::World::closed()
            .with_transport(world.transport())
            .with_clock(world.clock());
        let discovery = Discovery::new("https://issuer.test", &world).unwrap();
        let endpoint = TokenEndpoint::discovered(discovery).with_dpop(Dpop::new(key(), &world));
        let secret = Canary::new("client-secret").secret();
        ClientCredentials::new(endpoint, ClientAuth::secret_basic("id", secret).unwrap())
    }

    fn answer(&self, request: &Request<Bytes>, nth: usize) -> Reply {
        if request.method() == http::Method::GET {
            return Reply::json(
                r#"{"issuer":"https://issuer.test","token_endpoint":"https://issuer.test/token"}"#,
            );
        }
        let token = Canary::new(format!("access-token-{nth}"));
        Reply::json(format!(
            r#"{{"access_token":"{}","token_type":"DPoP","expires_in":3600}}"#,
            token.text()
        ))
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![Canary::new("client-secret")]
    }

    fn requests(&self) -> usize {
        2
    }
}

conformance!(discovered_with_dpop, Found);

/// With a refresh token that changes with each answer.
#[derive(Default)]
struct Rotating {
    store: std::sync::OnceLock<RefreshTokenInMemory>,
}

impl Harness for Rotating {
    type Credential = Token;
    type Source = RefreshToken;

    fn source(&self, world: &World) -> RefreshToken {
        let world = tower_auth_io::World::closed()
            .with_transport(world.transport())
            .with_clock(world.clock());
        let endpoint = TokenEndpoint::new("https://issuer.test/token", &world).unwrap();
        let auth = ClientAuth::secret_basic("id", Canary::new("client-secret").secret()).unwrap();
        let store = self
            .store
            .get_or_init(|| RefreshTokenInMemory::new(Canary::new("refresh-token").secret()));
        store.replace(Canary::new("refresh-token").secret());
        RefreshToken::new(endpoint, auth, store.clone())
    }

    fn answer(&self, _: &Request<Bytes>, nth: usize) -> Reply {
        let [access, refresh] =
            ["access", "refresh"].map(|name| Canary::new(format!("{name}-token-{nth}")));
        Reply::json(format!(
            r#"{{"access_token":"{}","refresh_token":"{}","token_type":"Bearer","expires_in":3600}}"#,
            access.text(),
            refresh.text()
        ))
    }

    fn secrets(&self) -> Vec<Canary> {
        vec![Canary::new("client-secret"), Canary::new("refresh-token")]
    }

    /// One that is refused itself is not sent again for a while.
    fn refusals(&self) -> Vec<Reply> {
        vec![Reply::json(r#"{"error":"invalid_client"}"#).with_status(401)]
    }

    fn rotate(&self, _: &World) -> Option<RotationCheck> {
        let canary = Canary::new("another-refresh-token");
        self.store.get()?.replace(canary.secret());
        Some(Box::new(move |requests| {
            assert!(requests.iter().all(|request| canary.is_in_request(request)));
        }))
    }
}

conformance!(rotating_refresh_token, Rotating::default());
