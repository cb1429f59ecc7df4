use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use tower_auth::{BoxError, Clock};
use tower_auth_io::SystemClock;

use crate::server::Server;

/// An issuer of identity tokens for workloads, as a Kubernetes cluster is one: each token is signed, lives
/// for ten minutes and has an id of its own.
pub struct WorkloadIssuer {
    key: EncodingKey,
    jwk: Value,
}

impl WorkloadIssuer {
    /// The `iss` of its tokens.
    pub const ISSUER: &'static str = "https://cluster.example";

    /// One with a new key.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate() -> Result<Self, BoxError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| "the system gave no randomness for a signing key")?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref())?;
        // An uncompressed point: a byte that says so, then the two coordinates.
        let point = pair.public_key().as_ref();
        let [x, y] = [point.get(1..33), point.get(33..65)]
            .map(|half| BASE64_URL_SAFE_NO_PAD.encode(half.unwrap_or_default()));
        Ok(Self {
            key: EncodingKey::from_ec_der(document.as_ref()),
            jwk: json!({
                "kty": "EC", "crv": "P-256", "x": x, "y": y,
                "kid": KEY_ID, "alg": "ES256", "use": "sig",
            }),
        })
    }

    /// A new token for this workload.
    ///
    /// # Errors
    /// If it could not be signed.
    pub fn token(&self, subject: &str) -> Result<String, BoxError> {
        let now = unix_now();
        let id: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(16)
            .collect();
        let claims = json!({
            "iss": Self::ISSUER, "sub": subject, "aud": [ClaudeStandIn::AUDIENCE],
            "iat": now, "exp": now + 600, "jti": id,
        });
        let header = Header {
            kid: Some(KEY_ID.to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }

    /// Its public keys (RFC 7517 section 5).
    #[must_use]
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.jwk] })
    }
}

impl fmt::Debug for WorkloadIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadIssuer").finish_non_exhaustive()
    }
}

/// The two endpoints of the Claude API that matter here, as strict as the real ones: `/v1/oauth/token`
/// exchanges an identity token, once, if its signature, issuer, audience and times are right and the
/// request is as the official clients send it; `/v1/messages` answers to tokens that live.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_auth::BoxError> {
/// use std::time::Duration;
/// use tower_auth_examples::{ClaudeStandIn, WorkloadIssuer};
///
/// let workloads = WorkloadIssuer::generate()?;
/// let claude = ClaudeStandIn::start(Duration::from_secs(3)).await?;
/// claude.trust(WorkloadIssuer::ISSUER, ClaudeStandIn::AUDIENCE, &workloads.jwks())?;
/// println!("ANTHROPIC_BASE_URL={}", claude.base_url());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ClaudeStandIn {
    state: Arc<Mutex<State>>,
    server: Server,
}

/// What a [`ClaudeStandIn`] has seen so far.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClaudeLedger {
    /// Tokens it has minted.
    pub minted: u64,
    /// Messages it has answered.
    pub answered: u64,
    /// Why it refused a request, the oldest first. A caller is told next to nothing of it.
    pub refusals: Vec<String>,
}

impl ClaudeStandIn {
    /// The only rule that it knows.
    pub const RULE: &'static str = "fdrl_standin";
    /// Its organization.
    pub const ORGANIZATION: &'static str = "00000000-0000-4000-8000-000000000000";
    /// The service account of the rule.
    pub const SERVICE_ACCOUNT: &'static str = "svac_standin";
    /// What an identity token is for, unless a rule says otherwise.
    pub const AUDIENCE: &'static str = "https://api.anthropic.com";

    /// Starts one on a free loopback port. It trusts nobody yet; its tokens live for `lifetime`, in whole
    /// seconds.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(lifetime: Duration) -> Result<Self, BoxError> {
        let state = Arc::new(Mutex::new(State {
            lifetime: lifetime.as_secs(),
            issuers: HashMap::new(),
            used: HashSet::new(),
            live: HashMap::new(),
            requests: 0,
            ledger: ClaudeLedger::default(),
        }));
        let service = {
            let state = Arc::clone(&state);
            service_fn(move |request| answer(Arc::clone(&state), request))
        };
        let server = Server::start(service).await?;
        Ok(Self { state, server })
    }

    /// Accepts identity tokens of this issuer that are for this audience and signed with one of these
    /// keys.
    ///
    /// # Errors
    /// If `jwks` is no set of keys.
    pub fn trust(&self, issuer: &str, audience: &str, jwks: &Value) -> Result<(), BoxError> {
        let trust = Trust {
            audience: audience.to_owned(),
            keys: serde_json::from_value(jwks.clone())?,
        };
        lock(&self.state).issuers.insert(issuer.to_owned(), trust);
        Ok(())
    }

    /// What to give a client as its base URL.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Refuses every token that it has minted so far.
    pub fn revoke_all(&self) {
        lock(&self.state).live.clear();
    }

    /// What it has seen so far.
    #[must_use]
    pub fn ledger(&self) -> ClaudeLedger {
        lock(&self.state).ledger.clone()
    }
}

struct State {
    lifetime: u64,
    issuers: HashMap<String, Trust>,
    /// The identity tokens that have been exchanged.
    used: HashSet<String>,
    /// Each token and its end.
    live: HashMap<String, SystemTime>,
    requests: u64,
    ledger: ClaudeLedger,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}

/// What is known of an issuer.
struct Trust {
    audience: String,
    keys: JwkSet,
}

/// Why a request is refused: what the caller is told, and what is written down.
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: &'static str,
    reason: String,
}

impl Refusal {
    fn bad_request(reason: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            message: "Invalid request",
            reason: reason.into(),
        }
    }

    /// The real one does not say why either: it would help an attacker.
    fn denied(reason: impl Into<String>) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            kind: "authentication_error",
            message: "Authentication failed",
            reason: reason.into(),
        }
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, BoxError> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, 1024 * 1024).collect().await?.to_bytes();
    let mut state = lock(&state);
    state.requests += 1;
    let id = format!("req_{:04}", state.requests);
    let outcome = match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/oauth/token") => state.exchange(&head.headers, &body),
        (&Method::POST, "/v1/messages") => state.message(&head.headers, &body),
        (_, path) => Err(Refusal {
            status: StatusCode::NOT_FOUND,
            kind: "not_found_error",
            message: "Not found",
            reason: format!("{} {path} is not served", head.method),
        }),
    };
    let (status, body) = match outcome {
        Ok(body) => (StatusCode::OK, body),
        Err(refusal) => {
            let body = json!({
                "type": "error",
                "error": {"type": refusal.kind, "message": refusal.message},
                "request_id": id,
            });
            state.ledger.refusals.push(refusal.reason);
            (refusal.status, body)
        }
    };
    Ok(Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json")
        .header("request-id", id)
        .body(Full::from(body.to_string()))?)
}

impl State {
    fn exchange(&mut self, headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
        for credential in ["authorization", "x-api-key"] {
            if headers.contains_key(credential) {
                return Err(Refusal::bad_request(format!(
                    "an exchange carries {credential}"
                )));
            }
        }
        if !is_json(headers) {
            return Err(Refusal::bad_request("an exchange is not JSON"));
        }
        for beta in ["oauth-2025-04-20", "oidc-federation-2026-04-01"] {
            if !has_beta(headers, beta) {
                return Err(Refusal::bad_request(format!(
                    "an exchange lacks the beta {beta}"
                )));
            }
        }
        let body: Value = serde_json::from_slice(body)
            .map_err(|_| Refusal::bad_request("the body of an exchange is not JSON"))?;
        let field = |name: &str| {
            body.get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .ok_or_else(|| Refusal::bad_request(format!("an exchange lacks {name}")))
        };
        if field("grant_type")? != GRANT {
            return Err(Refusal::bad_request("an exchange of another grant"));
        }
        if body.get("service_account_id").is_some() {
            field("service_account_id")?;
        }
        if field("federation_rule_id")? != ClaudeStandIn::RULE
            || field("organization_id")? != ClaudeStandIn::ORGANIZATION
        {
            return Err(Refusal::denied(
                "there is no such rule in this organization",
            ));
        }
        self.check(field("assertion")?).map_err(Refusal::denied)?;
        Ok(self.mint())
    }

    /// What the real one checks of an identity token.
    fn check(&mut self, assertion: &str) -> Result<(), String> {
        if assertion.len() > 16 * 1024 {
            return Err("the identity token is too long".to_owned());
        }
        let header = jsonwebtoken::decode_header(assertion)
            .map_err(|_| "the identity token is not a JWT".to_owned())?;
        let key_id = header.kid.ok_or("the identity token names no key")?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err("the identity token has another algorithm".to_owned());
        }
        // The issuer is read from what has not been checked, to find the keys to check it with.
        let issuer = unchecked_issuer(assertion).ok_or("the identity token names no issuer")?;
        let trust = self
            .issuers
            .get(&issuer)
            .ok_or("the issuer is not trusted")?;
        let key: &Jwk = trust
            .keys
            .find(&key_id)
            .ok_or("the issuer has no such key")?;
        let key = DecodingKey::from_jwk(key).map_err(|error| error.to_string())?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[&trust.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.leeway = 30;
        let claims = jsonwebtoken::decode::<Value>(assertion, &key, &validation)
            .map_err(|error| error.to_string())?
            .claims;
        if claims.get("iat").is_none() {
            return Err("the identity token does not say when it was issued".to_owned());
        }
        let is_single_use = claims.get("jti").is_some();
        if is_single_use && !self.used.insert(assertion.to_owned()) {
            return Err("the identity token has been exchanged already".to_owned());
        }
        Ok(())
    }

    fn mint(&mut self) -> Value {
        self.ledger.minted += 1;
        let noise: String = std::iter::repeat_with(fastrand::alphanumeric)
            .take(40)
            .collect();
        let token = format!("sk-ant-oat01-{noise}");
        let end = SystemClock.now() + Duration::from_secs(self.lifetime);
        self.live.insert(token.clone(), end);
        json!({
            "access_token": token, "token_type": "Bearer", "expires_in": self.lifetime,
            "scope": "workspace:developer",
        })
    }

    fn message(&mut self, headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
        if headers.contains_key("x-api-key") {
            return Err(Refusal::bad_request("a message carries an API key as well"));
        }
        let mut credentials = headers.get_all(AUTHORIZATION).iter();
        let (Some(credential), None) = (credentials.next(), credentials.next()) else {
            return Err(Refusal::denied("a message does not carry one credential"));
        };
        let end = credential
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("Bearer "))
            .and_then(|token| self.live.get(token));
        match end {
            None => return Err(Refusal::denied("a token is not ours, or revoked")),
            Some(end) if *end <= SystemClock.now() => {
                return Err(Refusal::denied("a token has expired"));
            }
            Some(_) => {}
        }
        if !has_beta(headers, "oauth-2025-04-20") {
            return Err(Refusal::denied("a message lacks the beta of its token"));
        }
        if !headers.contains_key("anthropic-version") {
            return Err(Refusal::bad_request("a message names no version"));
        }
        let request: Value = serde_json::from_slice(body)
            .map_err(|_| Refusal::bad_request("the body of a message is not JSON"))?;
        self.ledger.answered += 1;
        Ok(json!({
            "id": format!("msg_{:04}", self.ledger.answered), "type": "message", "role": "assistant",
            "model": request.get("model").cloned().unwrap_or_default(),
            "content": [{"type": "text", "text": "Hello."}],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

fn has_beta(headers: &HeaderMap, beta: &str) -> bool {
    headers
        .get_all("anthropic-beta")
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|member| member.trim() == beta)
}

fn unchecked_issuer(assertion: &str) -> Option<String> {
    let claims = BASE64_URL_SAFE_NO_PAD
        .decode(assertion.split('.').nth(1)?)
        .ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

fn unix_now() -> u64 {
    SystemClock
        .now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const KEY_ID: &str = "workload-key-1";
const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
