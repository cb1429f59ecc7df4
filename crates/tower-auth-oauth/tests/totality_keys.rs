//! Any bytes whatever lead to a key, to metadata or to an error, and never to a panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use http::HeaderName;
use proptest::prelude::*;
use tower_auth_core::{Error, Fetch, Reason, Token, TokenSource};
use tower_auth_io::World;
use tower_auth_oauth::{
    Certificates, ClientAuth, ClientCredentials, Discovery, Dpop, ServerMetadata, SigningKey,
    TokenEndpoint,
};
use tower_auth_testing::{FakeEndpoint, Reply};

/// No PKCS #12: a damaged one may ask for as many rounds of hashing as it likes.
const FILES: [&[u8]; 4] = [
    include_bytes!("keys/rsa.pem"),
    include_bytes!("keys/p256-sec1.pem"),
    include_bytes!("keys/ed25519.pem"),
    include_bytes!("keys/p256-cert.pem"),
];

/// A good file with some of its bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (prop::sample::select(&FILES[..]), changes, any::<bool>()).prop_map(|(file, changes, cut)| {
        let mut file = file.to_vec();
        for (place, byte) in changes {
            if cut {
                file.truncate(place.index(file.len() + 1));
            }
            let length = file.len();
            if let Some(found) = file.get_mut(place.index(length + 1)) {
                *found = byte;
            }
        }
        file
    })
}

fn read_all(bytes: &[u8]) {
    let _ = SigningKey::from_pem(bytes);
    let _ = SigningKey::from_der(bytes);
    let _ = SigningKey::from_jwk(bytes);
    let _ = Certificates::from_pem(bytes);
    #[cfg(feature = "pkcs12")]
    let _ = SigningKey::from_pkcs12(bytes, "changeit");
}

fn metadata(reply: Reply) -> Result<ServerMetadata, Error> {
    let server = FakeEndpoint::new();
    server.always(move |_, _| reply.clone());
    let world = World::closed().with_transport(server.transport());
    let discovery = Discovery::new("https://issuer.test/a", &world).unwrap();
    run(discovery.metadata())
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

/// What becomes of a token request with a proof, where every answer has this nonce.
fn with_nonce(nonce: &str, status: u16) -> (Result<Token, Error>, usize) {
    let server = FakeEndpoint::new();
    let reply = Reply::json(r#"{"error":"use_dpop_nonce"}"#).with_status(status);
    let reply = reply.with_header(HeaderName::from_static("dpop-nonce"), nonce);
    server.always(move |_, _| reply.clone());
    let world = World::closed().with_transport(server.transport());
    let key = SigningKey::from_pem(include_str!("keys/p256.pem")).unwrap();
    let endpoint = TokenEndpoint::new("https://issuer.test/t", &world).unwrap();
    let endpoint = endpoint.with_dpop(Dpop::new(key, &world));
    let source = ClientCredentials::new(endpoint, ClientAuth::none("id").unwrap());
    let token = run(source.fetch(&Fetch::new(Reason::First)));
    (token, server.request_count())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_read_or_refused(file in damaged()) {
        read_all(&file);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn any_metadata_is_believed_or_refused(
        status in 100_u16..600,
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = metadata(Reply::json(body).with_status(status.max(200)));
    }

    /// What is believed is on the issuer's host and not in clear, whatever the document says.
    #[test]
    fn believed_metadata_is_of_the_issuer(
        scheme in "https?|HTTPS|ftp",
        host in "issuer\\.test|ISSUER\\.test|issuer\\.test\\.|[a-z]{1,6}\\.test|\\[::1\\]|u@issuer\\.test",
        rest in "(:[0-9]{1,5})?(/[a-z]{0,5})?(\\?[a-z]{0,3})?(#x)?",
    ) {
        let document = serde_json::json!({
            "issuer": "https://issuer.test/a",
            "token_endpoint": format!("{scheme}://{host}{rest}"),
        });
        if let Ok(metadata) = metadata(Reply::json(document.to_string())) {
            let origin = metadata.token_endpoint().origin().unwrap();
            prop_assert!(origin.is_https());
            prop_assert_eq!(origin.host(), "issuer.test");
        }
    }

    #[test]
    fn any_nonce_ends_after_a_few_requests(nonce in "[ -~]{0,40}", status in 400_u16..402) {
        let (token, requests) = with_nonce(&nonce, status);
        prop_assert!(token.is_err());
        prop_assert!(requests <= 2);
    }
}
