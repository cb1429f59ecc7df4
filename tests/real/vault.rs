use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep};
use tower::{Layer, Service, ServiceExt};
use tower_auth::{
    AuthLayer, BoxError, Credential, ErrorKind, Expiry, Fetch, Reason, TokenCache, TokenSource,
};
use tower_auth_io::{Transport, World};
use tower_auth_vault::{Login, Server, Session, refuses};

use crate::harness::{or_skip, post_form};
use crate::kubernetes::Cluster;
use crate::oidc_provider::OidcProvider;
use crate::openbao::{OpenBao, text};

/// Reads one secret, mints identity tokens.
pub(crate) const RULES: &str = r#"
path "secret/data/*" { capabilities = ["read"] }
path "identity/oidc/token/*" { capabilities = ["read"] }
"#;

#[tokio::test]
async fn v8_no_request_is_refused_over_renewals_maximum_lives_and_logins() -> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let session = app_role(&bao, json!({ "token_ttl": "4s", "token_max_ttl": "10s" })).await?;
    let cache = TokenCache::new(session.clone());
    let service = AuthLayer::from_cache(cache.clone()).layer(http_client());

    // Two maximum lives and a half.
    let end = Instant::now() + Duration::from_secs(25);
    let mut pace = interval(Duration::from_millis(20));
    let mut tokens = BTreeSet::new();
    while Instant::now() < end {
        pace.tick().await;
        let (status, answer) = read(&service, &bao).await?;
        assert_eq!(status, StatusCode::OK, "{answer}");
        if let Some(current) = cache.current() {
            tokens.insert(current.fingerprint().to_string());
        }
    }
    let health = cache.health();
    assert_eq!(health.failures(), 0, "{health:?}");
    assert!((3..=8).contains(&tokens.len()), "{} tokens", tokens.len());
    let fetches = usize::try_from(health.fetches())?;
    assert!(
        fetches > tokens.len(),
        "{fetches} fetches: none was a renewal"
    );

    let last = cache.current().ok_or("no token")?;
    session.revoke().await?;
    let (status, _) = bao
        .ask(
            Method::GET,
            "secret/data/weather",
            last.secret().expose(),
            json!({}),
        )
        .await?;
    assert_eq!(status, StatusCode::FORBIDDEN);
    Ok(())
}

#[tokio::test]
async fn v17_a_server_that_is_sealed_under_traffic_serves_again_when_it_is_unsealed()
-> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let session = app_role(&bao, json!({ "token_ttl": "4s", "token_max_ttl": "60s" })).await?;
    let cache = TokenCache::new(session);
    let service = AuthLayer::from_cache(cache.clone()).layer(http_client());
    assert_eq!(read(&service, &bao).await?.0, StatusCode::OK);

    bao.seal().await?;
    let until = Instant::now() + Duration::from_secs(6);
    let mut last_error = None;
    while Instant::now() < until {
        match read(&service, &bao).await {
            Ok((status, _)) => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
            Err(error) => last_error = Some(error),
        }
        sleep(Duration::from_millis(50)).await;
    }
    // The token has run out in the meantime, and the reason is told.
    let error = last_error.ok_or("the token should have run out")?;
    let error = tower_auth::Error::find(&*error).ok_or("not an error of ours")?;
    let mut told = format!("{error}");
    let mut cause = std::error::Error::source(error);
    while let Some(link) = cause {
        told = format!("{told}: {link}");
        cause = link.source();
    }
    assert!(told.contains("sealed"), "{told}");

    bao.unseal().await?;
    let within = Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok((StatusCode::OK, _)) = read(&service, &bao).await {
            return Ok(());
        }
        assert!(Instant::now() < within, "{:?}", cache.health());
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn v16_a_token_that_is_revoked_under_traffic_is_replaced() -> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let session = app_role(&bao, json!({ "token_ttl": "60s" })).await?;
    let kv = session.kv("secret", "weather", "key")?;
    let cache = TokenCache::new(session);
    let layer = AuthLayer::from_cache(cache.clone()).refused(refuses);
    let service = layer.replay_once().layer(http_client());
    for _ in 0..2 {
        assert_eq!(read(&service, &bao).await?.0, StatusCode::OK);
        let token = cache.current().ok_or("no token")?;
        let document = json!({ "token": token.secret().expose() });
        bao.write("auth/token/revoke", document).await?;
        // The layer replaces its own; the source finds out by itself that the token is dead.
        let read_by_source = kv.fetch(&Fetch::new(Reason::Scheduled)).await?;
        assert_eq!(read_by_source.secret().expose(), "sunny");
        assert_eq!(read(&service, &bao).await?.0, StatusCode::OK);
        // The cool-down between two refusals is 6.25 s at most.
        sleep(Duration::from_secs(7)).await;
    }
    Ok(())
}

#[tokio::test]
async fn v15_a_policy_that_is_missing_is_told_from_a_dead_token() -> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let session = app_role(&bao, json!({ "token_ttl": "60s" })).await?;
    let forbidden = session.kv_v1("sys", "raw", "key")?;
    let error = failure(&forbidden).await;
    assert!(
        error.contains("its policies do not allow this path"),
        "{error}"
    );

    let without_data = session.kv_v1("secret", "data/missing", "key")?;
    assert!(failure(&without_data).await.contains("status 404"));
    let wrong_field = session.kv("secret", "weather", "kay")?;
    let error = failure(&wrong_field).await;
    assert!(
        error.contains("no field kay") && error.contains("it has: key"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn v4_a_secret_id_that_is_used_up_is_refused_like_a_wrong_one() -> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let session = app_role(&bao, json!({ "token_ttl": "60s", "secret_id_num_uses": 1 })).await?;
    session.fetch(&Fetch::new(Reason::First)).await?;
    // A renewal needs no secret id.
    session.fetch(&Fetch::new(Reason::Scheduled)).await?;
    let error = session
        .fetch(&Fetch::new(Reason::Rejected))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(
        error.to_string().contains("invalid role or secret ID"),
        "{error}"
    );
    assert!(error.to_string().contains("used up"), "{error}");

    let login = Login::app_role("no-such-role", "no-such-secret-id")?;
    let error = failure(&Session::new(server(&bao)?, login)).await;
    assert!(error.contains("auth/approle/login"), "{error}");
    Ok(())
}

#[tokio::test]
async fn v46_a_mount_that_does_not_exist_is_suspected() -> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let login = || Login::app_role("r", "s");
    let error = failure(&Session::new(
        server(&bao)?,
        login()?.with_mount("nowhere")?,
    ))
    .await;
    assert!(error.contains("mounted at auth/nowhere"), "{error}");
    let in_namespace = server(&bao)?.with_namespace("no/such")?;
    let error = failure(&Session::new(in_namespace, login()?)).await;
    assert!(error.contains("namespace no/such"), "{error}");
    Ok(())
}

#[tokio::test]
async fn v29_a_wrapped_secret_id_is_good_once_and_only_from_its_own_path() -> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let role_id = bao.app_role(json!({ "token_ttl": "60s" })).await?;
    let path = "auth/approle/role/reports/secret-id";
    let wrapping = bao.wrapped(path).await?;
    let session = |wrapping: &str| -> Result<Session, BoxError> {
        let login = Login::app_role_wrapped(role_id.as_str(), wrapping.to_owned(), path)?;
        Ok(Session::new(server(&bao)?, login))
    };
    let first = session(&wrapping)?;
    for reason in [Reason::First, Reason::Forced] {
        first.fetch(&Fetch::new(reason)).await?;
    }
    let replayed = failure(&session(&wrapping)?).await;
    assert!(replayed.contains("used already"), "{replayed}");

    let other = bao.wrapped("sys/wrapping/wrap").await?;
    let replaced = failure(&session(&other)?).await;
    assert!(replaced.contains("made at sys/wrapping/wrap"), "{replaced}");
    // It was not opened.
    let (status, _) = bao
        .ask(Method::POST, "sys/wrapping/unwrap", &other, json!({}))
        .await?;
    assert_eq!(status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn v31_a_service_account_logs_in_by_token_review() -> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let cluster = Cluster::start().await?;
    bao.write("sys/auth/kubernetes", json!({ "type": "kubernetes" }))
        .await?;
    let config = json!({
        "kubernetes_host": cluster.url(),
        "kubernetes_ca_cert": cluster.certificate()?,
        "token_reviewer_jwt": cluster.token()?,
        "disable_local_ca_jwt": true,
    });
    bao.write("auth/kubernetes/config", config).await?;
    let role = json!({
        "bound_service_account_names": ["reports"],
        "bound_service_account_namespaces": ["default"],
        "token_ttl": "60s",
    });
    bao.write("auth/kubernetes/role/reports", role).await?;

    let token = cluster.token()?;
    let session = Session::new(
        server(&bao)?,
        Login::kubernetes_with("reports", token.clone())?,
    );
    session.fetch(&Fetch::new(Reason::First)).await?;

    let (signed, _) = token.rsplit_once('.').ok_or("not a JWT")?;
    let forged = format!("{signed}.AAAA");
    for (role, jwt) in [("reports", forged), ("nobody", token)] {
        let session = Session::new(server(&bao)?, Login::kubernetes_with(role, jwt)?);
        let error = session.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn v33_a_token_of_another_issuer_logs_in() -> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let Some(provider) = or_skip(OidcProvider::start(Duration::from_secs(60)).await) else {
        return Ok(());
    };
    bao.write("sys/auth/jwt", json!({ "type": "jwt" })).await?;
    let config = json!({ "jwks_url": provider.jwks_uri(), "bound_issuer": provider.issuer() });
    bao.write("auth/jwt/config", config).await?;
    let role = json!({
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": [OidcProvider::AUDIENCE],
        "token_ttl": "60s",
    });
    bao.write("auth/jwt/role/reports", role).await?;

    let client = OidcProvider::POST;
    let form = [
        ("client_id", client.id),
        ("client_secret", client.secret),
        ("grant_type", "client_credentials"),
        ("scope", OidcProvider::SCOPE),
    ];
    let answer = post_form(&provider.token_endpoint(), None, &form).await?;
    let token = text(&serde_json::from_slice(&answer.body)?, "/access_token")?;
    let session = Session::new(server(&bao)?, Login::jwt("reports", token.clone())?);
    session.fetch(&Fetch::new(Reason::First)).await?;

    let (signed, signature) = token.rsplit_once('.').ok_or("not a JWT")?;
    let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    let error = failure(&Session::new(
        server(&bao)?,
        Login::jwt("reports", forged.clone())?,
    ))
    .await;
    assert!(
        error.contains("error validating token") && !error.contains(&forged),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn v25_a_secret_that_is_rotated_is_picked_up() -> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let session = app_role(&bao, json!({ "token_ttl": "60s" })).await?;
    let key = session
        .kv("secret", "weather", "key")?
        .read_every(Duration::from_secs(2))
        .in_header(HeaderName::from_static("x-api-key"));
    let cache = TokenCache::builder(key)
        .refresh(tower_auth::policy::RefreshOptions::new().keep_warm())
        .build();
    assert_eq!(cache.get().await?.secret().expose(), "sunny");
    bao.keep("cloudy").await?;
    let within = Instant::now() + Duration::from_secs(10);
    while cache.get().await?.secret().expose() != "cloudy" {
        assert!(Instant::now() < within, "{:?}", cache.health());
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn v26_whoever_logs_in_with_a_password_gets_an_identity_token() -> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    bao.policy("p", RULES).await?;
    bao.user("me.too-1", "s3cr:t%+").await?;
    let audience = "https://api.example.com";
    bao.identity_role(audience).await?;

    let session = Session::new(server(&bao)?, Login::userpass("me.too-1", "s3cr:t%+")?);
    let minted = session
        .identity_token("reports")?
        .fetch(&Fetch::new(Reason::First))
        .await?;
    assert_eq!(minted.expiry(), Expiry::In(Duration::from_secs(300)));
    let claims = tower_auth_io::UnverifiedClaims::of(minted.secret().expose())?;
    assert!(claims.is_for(audience), "{claims:?}");

    let root = Session::new(server(&bao)?, Login::token("root"));
    let error = failure(&root.identity_token("reports")?).await;
    assert!(error.contains("root token"), "{error}");
    let wrong = Session::new(server(&bao)?, Login::userpass("me.too-1", "canary-pw")?);
    let error = failure(&wrong).await;
    assert!(!error.contains("canary"), "{error}");
    Ok(())
}

#[tokio::test]
async fn v13_a_root_token_never_ends_and_one_with_a_period_does_not_come_to_a_maximum()
-> Result<(), BoxError> {
    let Some(bao) = or_skip(OpenBao::start().await) else {
        return Ok(());
    };
    let root = Session::new(server(&bao)?, Login::token("root"));
    let token = root.fetch(&Fetch::new(Reason::First)).await?;
    assert_eq!(token.expiry(), Expiry::Never);

    let answer = bao
        .write(
            "auth/token/create",
            json!({ "period": "30s", "policies": ["default"] }),
        )
        .await?;
    let given = text(&answer, "/auth/client_token")?;
    let session = Session::new(server(&bao)?, Login::token(given));
    for reason in [Reason::First, Reason::Scheduled] {
        let token = session.fetch(&Fetch::new(reason)).await?;
        // A look-up rounds down what is left.
        let is_whole = |life: Duration| (28..=30).contains(&life.as_secs());
        assert!(
            matches!(token.expiry(), Expiry::In(life) if is_whole(life)),
            "{:?}",
            token.expiry()
        );
    }
    Ok(())
}

/// A session by AppRole, for a role with these settings, that may read `secret/weather`.
async fn app_role(bao: &OpenBao, mut settings: Value) -> Result<Session, BoxError> {
    bao.policy("p", RULES).await?;
    bao.keep("sunny").await?;
    if let Some(settings) = settings.as_object_mut() {
        settings.insert("token_policies".to_owned(), json!("p"));
    }
    let role_id = bao.app_role(settings).await?;
    let login = Login::app_role(role_id, bao.secret_id().await?)?;
    Ok(Session::new(server(bao)?, login))
}

pub(crate) fn server(bao: &OpenBao) -> Result<Server, BoxError> {
    let world = World::new(Transport::from_http(http_client()));
    Ok(Server::new(&bao.url(""), &world)?)
}

/// Reads a secret through the stack.
async fn read<S>(service: &S, bao: &OpenBao) -> Result<(StatusCode, Value), BoxError>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error = BoxError>
        + Clone
        + Send
        + Sync,
    S::Future: Send,
{
    let request = Request::get(bao.url("/v1/secret/data/weather")).body(Full::default())?;
    let (head, body) = service.clone().oneshot(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    let document = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok((head.status, document))
}

/// The error of a first fetch, in words.
async fn failure(source: &impl TokenSource) -> String {
    match source.fetch(&Fetch::new(Reason::First)).await {
        Ok(token) => format!("no error but {token:?}"),
        Err(error) => error.to_string(),
    }
}

pub(crate) fn http_client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}
