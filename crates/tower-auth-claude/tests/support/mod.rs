//! Identity tokens and a Claude API, for the tests.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tower_auth_core::Token;
use tower_auth_io::World;
use tower_auth_testing::{Answer, FakeEndpoint, Reply, ScriptedSource, TestClock};

/// An identity token with an id of its own, as most issuers make them.
pub(crate) fn identity_token(jti: &str) -> String {
    jwt(json!({
        "iss": "https://issuer.test", "sub": "canary-subject", "aud": "https://api.anthropic.com",
        "iat": 1_767_225_600, "exp": 1_767_229_200, "jti": jti,
    }))
}

pub(crate) fn jwt(claims: Value) -> String {
    let header = json!({"alg": "RS256", "kid": "k1"});
    [
        header.to_string(),
        claims.to_string(),
        "signature".to_owned(),
    ]
    .map(|part| URL_SAFE_NO_PAD.encode(part))
    .join(".")
}

/// A new identity token at each call.
pub(crate) fn issuer() -> ScriptedSource {
    ScriptedSource::from_rule(|nth| Answer::token(Token::bearer(identity_token(&nth.to_string()))))
}

/// The same identity token at each call.
pub(crate) fn stuck_issuer() -> ScriptedSource {
    ScriptedSource::from_rule(|_| Answer::token(Token::bearer(identity_token("same"))))
}

pub(crate) fn world(endpoint: &FakeEndpoint) -> World {
    World::closed()
        .with_transport(endpoint.transport())
        .with_clock(TestClock::new())
}

pub(crate) fn minted(token: &str, expires_in: u64) -> Reply {
    Reply::json(
        json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in})
            .to_string(),
    )
}

pub(crate) fn refused() -> Reply {
    Reply::json(
        r#"{"type":"error","error":{"type":"authentication_error","message":"Authentication failed"},"request_id":"req_7"}"#,
    )
    .with_status(401)
}

/// A Claude API: it mints tokens of this lifetime, each identity token once, and takes the tokens it has
/// minted until they are revoked.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) endpoint: FakeEndpoint,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    used: Vec<String>,
    live: Vec<String>,
    minted: usize,
    attempts: usize,
    outage: Option<Reply>,
}

impl Api {
    pub(crate) fn new(expires_in: u64) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let endpoint = FakeEndpoint::new();
        endpoint.always({
            let state = Arc::clone(&state);
            move |request, _| {
                let mut state = state.lock().unwrap();
                if request.uri().path() == "/v1/oauth/token" {
                    return state.exchange(request.body(), expires_in);
                }
                let authorization = request.headers().get("authorization");
                let is_live = authorization.is_some_and(|value| {
                    state
                        .live
                        .iter()
                        .any(|token| value.as_bytes() == format!("Bearer {token}").as_bytes())
                });
                let has_beta = request
                    .headers()
                    .get("anthropic-beta")
                    .is_some_and(|value| value.to_str().unwrap().contains("oauth-2025-04-20"));
                // Not at once, so that several requests can be under way.
                Reply::status(if is_live && has_beta { 200 } else { 401 })
                    .after(Duration::from_millis(50))
            }
        });
        Self { endpoint, state }
    }

    /// Refuses every token minted so far.
    pub(crate) fn revoke(&self) {
        self.state.lock().unwrap().live.clear();
    }

    /// Answers exchanges like this from here on.
    pub(crate) fn break_down(&self, reply: Reply) {
        self.state.lock().unwrap().outage = Some(reply);
    }

    pub(crate) fn recover(&self) {
        self.state.lock().unwrap().outage = None;
    }

    /// How many exchanges were asked for.
    pub(crate) fn attempts(&self) -> usize {
        self.state.lock().unwrap().attempts
    }

    /// How many tokens were minted.
    pub(crate) fn minted(&self) -> usize {
        self.state.lock().unwrap().minted
    }

    /// How many requests came to anything but the token endpoint.
    pub(crate) fn calls(&self) -> usize {
        self.endpoint
            .requests()
            .iter()
            .filter(|request| request.uri().path() != "/v1/oauth/token")
            .count()
    }
}

impl State {
    fn exchange(&mut self, body: &[u8], expires_in: u64) -> Reply {
        self.attempts += 1;
        if let Some(outage) = &self.outage {
            return outage.clone();
        }
        let body: Value = serde_json::from_slice(body).unwrap();
        let assertion = body
            .get("assertion")
            .and_then(Value::as_str)
            .unwrap()
            .to_owned();
        if self.used.contains(&assertion) {
            return refused();
        }
        self.used.push(assertion);
        self.minted += 1;
        let token = format!("sk-ant-oat01-{}", self.minted);
        self.live.push(token.clone());
        minted(&token, expires_in)
    }
}
