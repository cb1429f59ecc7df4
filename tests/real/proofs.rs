//! Every proof of who the client is, and every grant, before a server that others wrote.

use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tower_auth_core::{BoxError, ErrorKind, Fetch, Reason, Token, TokenSource};
use tower_auth_io::{Client, World};
use tower_auth_oauth::{
    Algorithm, Assertion, Certificates, ClientAuth, ClientCredentials, Discovery, Dpop, Grant,
    GrantSource, HmacAlgorithm, SigningKey, TokenEndpoint, TokenType,
};

use crate::harness::or_skip;
use crate::oidc_provider::OidcProvider;

const LIFETIME: Duration = Duration::from_secs(60);
const SECRET: &str = "a shared secret of sixty-four bytes, which is as many as HS512 wants";

#[tokio::test]
async fn o4_an_assertion_of_each_algorithm_is_taken() -> Result<(), BoxError> {
    let rsa = SigningKey::from_pem(include_str!(
        "../../crates/tower-auth-oauth/tests/keys/rsa.pem"
    ))?;
    let ed = SigningKey::from_pem(include_str!(
        "../../crates/tower-auth-oauth/tests/keys/ed25519.pem"
    ))?;
    let mut keys = Vec::new();
    for (key, algorithm) in [
        (&rsa, Algorithm::Rs256),
        (&rsa, Algorithm::Ps256),
        (&SigningKey::generate()?, Algorithm::Es256),
        (&ed, Algorithm::EdDsa),
        (&ed, Algorithm::Ed25519),
    ] {
        let key = key.clone().with_algorithm(algorithm)?;
        keys.push(key.with_key_id(algorithm.as_str()));
    }
    let jwks: Vec<_> = keys.iter().map(jwk).collect::<Result<_, _>>()?;
    let clients = json!([{
        "client_id": "signing", "token_endpoint_auth_method": "private_key_jwt",
        "jwks": { "keys": jwks },
    }]);
    let Some(provider) = or_skip(start(clients).await) else {
        return Ok(());
    };
    for key in &keys {
        let auth = ClientAuth::private_key_jwt("signing", key.clone())?;
        assert_served(&source(&provider, auth)?).await?;
        // The identifier of the issuer is an audience that it knows, too.
        let assertion = Assertion::new(key.clone(), "signing").with_audience(provider.issuer());
        let auth = ClientAuth::assertion("signing", assertion)?;
        assert_served(&source(&provider, auth)?).await?;
    }
    let stranger = SigningKey::generate()?.with_key_id("ES256");
    let auth = ClientAuth::private_key_jwt("signing", stranger)?;
    let source = source(&provider, auth)?;
    let error = source.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(error.code(), Some("invalid_client"));
    Ok(())
}

#[tokio::test]
async fn an_assertion_with_a_shared_secret_is_taken() -> Result<(), BoxError> {
    let algorithms = [
        HmacAlgorithm::Hs256,
        HmacAlgorithm::Hs384,
        HmacAlgorithm::Hs512,
    ];
    let clients: Vec<_> = algorithms
        .iter()
        .map(|algorithm| {
            json!({
                "client_id": algorithm.as_str(), "client_secret": SECRET,
                "token_endpoint_auth_method": "client_secret_jwt",
                "token_endpoint_auth_signing_alg": algorithm.as_str(),
            })
        })
        .collect();
    let Some(provider) = or_skip(start(Value::from(clients)).await) else {
        return Ok(());
    };
    for algorithm in algorithms {
        let auth = ClientAuth::secret_jwt(algorithm.as_str(), SECRET, algorithm)?;
        assert_served(&source(&provider, auth)?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn d2_a_token_is_bound_to_the_key_after_the_dance_for_a_nonce() -> Result<(), BoxError> {
    let key = SigningKey::generate()?.with_key_id("k1");
    let clients = json!([
        {
            "client_id": "bound", "token_endpoint_auth_method": "private_key_jwt",
            "dpop_bound_access_tokens": true, "jwks": { "keys": [jwk(&key)?] },
        },
    ]);
    let Some(provider) = or_skip(start(clients).await) else {
        return Ok(());
    };
    let world = World::system()?;
    for proofs in [
        SigningKey::generate()?,
        SigningKey::from_pem(include_str!(
            "../../crates/tower-auth-oauth/tests/keys/ed25519.pem"
        ))?,
    ] {
        let dpop = Dpop::new(proofs, &world);
        let endpoint =
            TokenEndpoint::new(&provider.token_endpoint(), &world)?.with_dpop(dpop.clone());
        let auth = ClientAuth::private_key_jwt("bound", key.clone())?;
        let source = ClientCredentials::new(endpoint, auth).with_scope(OidcProvider::SCOPE);
        // The first one learns the nonce on the way, the second one has it already.
        for _ in 0..2 {
            let token = source.fetch(&Fetch::new(Reason::First)).await?;
            assert_eq!(token.placement().scheme(), Some("DPoP"));
            assert_eq!(claims(&token)?["cnf"]["jkt"], dpop.thumbprint());
        }
    }
    Ok(())
}

#[tokio::test]
async fn o16_a_certificate_is_the_proof_and_the_token_is_bound_to_it() -> Result<(), BoxError> {
    let pki = Pki::new()?;
    let clients = json!([
        {
            "client_id": "issued", "token_endpoint_auth_method": "tls_client_auth",
            "tls_client_auth_subject_dn": "CN=reports",
            "tls_client_certificate_bound_access_tokens": true,
        },
        {
            "client_id": "self-signed",
            "token_endpoint_auth_method": "self_signed_tls_client_auth",
            "tls_client_certificate_bound_access_tokens": true,
            "jwks": { "keys": [pki.self_signed_jwk()?] },
        },
    ]);
    let mut variables = pki.variables();
    variables.push(("CLIENTS", clients.to_string()));
    let Some(provider) = or_skip(OidcProvider::start_with(LIFETIME, &variables).await) else {
        return Ok(());
    };
    for (identity, auth) in [
        (&pki.issued, ClientAuth::tls("issued")?),
        (
            &pki.self_signed,
            ClientAuth::self_signed_tls("self-signed")?,
        ),
    ] {
        let client = Client::new()
            .without_proxy()
            .without_system_roots()
            .with_ca_pem(pki.authority.pem())
            .with_certificate_pem(identity.certificate.pem(), identity.key.serialize_pem());
        let world = World::new(client.transport()?);
        let discovery = Discovery::new(&provider.issuer(), &world)?;
        let endpoint = TokenEndpoint::discovered(discovery.clone());
        let source = ClientCredentials::new(endpoint, auth.clone()).with_scope("read");
        let token = source.fetch(&Fetch::new(Reason::First)).await?;
        let certificates = Certificates::from_pem(identity.certificate.pem())?;
        assert_eq!(
            claims(&token)?["cnf"]["x5t#S256"],
            certificates.thumbprint()
        );

        // Without the certificate the id is worth nothing.
        let metadata = discovery.metadata().await?;
        let bare = Client::new()
            .without_proxy()
            .without_system_roots()
            .with_ca_pem(pki.authority.pem());
        let url = metadata.mtls_token_endpoint().ok_or("no alias")?.clone();
        let endpoint = TokenEndpoint::at(url, &World::new(bare.transport()?));
        let source = ClientCredentials::new(endpoint, auth);
        let error = source.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
        assert_eq!(error.code(), Some("invalid_client"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn o10_a_token_is_exchanged_and_is_a_grant() -> Result<(), BoxError> {
    let Some(provider) = or_skip(start(json!([])).await) else {
        return Ok(());
    };
    let client = OidcProvider::POST;
    let auth = ClientAuth::secret_post(client.id, client.secret)?;
    let basic = OidcProvider::BASIC;
    let subject = || source(&provider, ClientAuth::secret_basic(basic.id, basic.secret)?);
    for grant in [
        Grant::token_exchange(subject()?, TokenType::ACCESS_TOKEN),
        Grant::jwt_bearer(subject()?),
    ] {
        let endpoint = TokenEndpoint::new(&provider.token_endpoint(), &World::system()?)?;
        let source = GrantSource::new(endpoint, auth.clone(), grant);
        let token = source.fetch(&Fetch::new(Reason::First)).await?;
        let claims = claims(&token)?;
        assert_eq!(claims["client_id"], client.id);
        assert_eq!(claims["original"], basic.id);
    }
    let endpoint = TokenEndpoint::new(&provider.token_endpoint(), &World::system()?)?;
    let forged = Grant::token_exchange("eyJhbGciOiJub25lIn0.e30.", TokenType::ACCESS_TOKEN);
    let source = GrantSource::new(endpoint, auth, forged);
    let error = source.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
    assert_eq!(error.code(), Some("invalid_grant"));
    assert!(!error.to_string().contains("eyJ"), "{error}");
    Ok(())
}

async fn start(clients: Value) -> Result<OidcProvider, crate::harness::Unavailable> {
    let variables = [("CLIENTS", clients.to_string())];
    OidcProvider::start_with(LIFETIME, &variables).await
}

fn source(provider: &OidcProvider, auth: ClientAuth) -> Result<ClientCredentials, BoxError> {
    let endpoint = TokenEndpoint::new(&provider.token_endpoint(), &World::system()?)?;
    Ok(ClientCredentials::new(endpoint, auth).with_scope(OidcProvider::SCOPE))
}

async fn assert_served(source: &ClientCredentials) -> Result<(), BoxError> {
    let token = source.fetch(&Fetch::new(Reason::First)).await?;
    let claims = claims(&token)?;
    assert_eq!(claims.get("aud"), Some(&json!(OidcProvider::AUDIENCE)));
    Ok(())
}

fn claims(token: &Token) -> Result<Value, BoxError> {
    let claims = token.secret().expose().split('.').nth(1).ok_or("no JWT")?;
    Ok(serde_json::from_slice(
        &BASE64_URL_SAFE_NO_PAD.decode(claims)?,
    )?)
}

/// The public key as a client is registered with it.
fn jwk(key: &SigningKey) -> Result<Value, BoxError> {
    let mut jwk: Value = serde_json::from_str(&key.public_jwk())?;
    let members = jwk.as_object_mut().ok_or("no object")?;
    members.insert("kid".to_owned(), json!(key.key_id()));
    members.insert("alg".to_owned(), json!(key.algorithm().as_str()));
    Ok(jwk)
}

/// An authority, a server of its, and two clients.
struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    server: Identity,
    issued: Identity,
    self_signed: Identity,
}

struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Pki {
    fn new() -> Result<Self, BoxError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let issue = |params: CertificateParams| -> Result<Identity, BoxError> {
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &authority)?;
            Ok(Identity { certificate, key })
        };
        let server = issue(CertificateParams::new(["127.0.0.1".to_owned()])?)?;
        let issued = issue(named("reports"))?;
        let key = KeyPair::generate()?;
        let self_signed = Identity {
            certificate: named("self-signed").self_signed(&key)?,
            key,
        };
        Ok(Self {
            server,
            issued,
            self_signed,
            authority,
        })
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TLS_KEY", self.server.key.serialize_pem()),
            ("TLS_CERT", self.server.certificate.pem()),
            ("TLS_CA", self.authority.pem()),
        ]
    }

    fn self_signed_jwk(&self) -> Result<Value, BoxError> {
        let key = SigningKey::from_pem(self.self_signed.key.serialize_pem())?;
        let mut jwk: Value = serde_json::from_str(&key.public_jwk())?;
        let members = jwk.as_object_mut().ok_or("no object")?;
        let certificate = BASE64_STANDARD.encode(self.self_signed.certificate.der());
        members.insert("x5c".to_owned(), json!([certificate]));
        Ok(jwk)
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
