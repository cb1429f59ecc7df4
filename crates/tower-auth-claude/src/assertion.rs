use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use tower_auth_core::Secret;

/// What can be seen of an identity token without checking it: enough to guess why it was refused.
#[derive(Debug, Default)]
pub(crate) struct Assertion {
    is_jwt: bool,
    header: Header,
    claims: Claims,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    alg: Option<String>,
    kid: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    sub: Option<Value>,
    aud: Option<Value>,
    iat: Option<f64>,
    nbf: Option<f64>,
    exp: Option<f64>,
    jti: Option<Value>,
}

impl Assertion {
    pub(crate) fn look_at(token: &Secret) -> Self {
        let mut parts = token.expose().split('.');
        let (Some(header), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Self::default();
        };
        match (decode(header), decode(claims)) {
            (Some(header), Some(claims)) => Self {
                is_jwt: true,
                header,
                claims,
            },
            _ => Self::default(),
        }
    }

    /// Whether the issuer gave it an identity, so that it can be exchanged only once (RFC 7519 section
    /// 4.1.7).
    pub(crate) fn is_single_use(&self) -> bool {
        self.claims.jti.is_some()
    }

    /// The likeliest reason for a refusal, if one can be seen. Neither the subject nor any other claim is
    /// shown but times and algorithm.
    pub(crate) fn likely_flaw(&self, now: SystemTime) -> Option<String> {
        if !self.is_jwt {
            return Some("the identity token is not a signed JWT".to_owned());
        }
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let claims = &self.claims;
        if let Some(age) = claims.exp.map(|exp| now - exp).filter(|age| *age >= 0.0) {
            return Some(format!(
                "the identity token expired {} s ago by this machine's clock",
                age as u64
            ));
        }
        let starts = claims.nbf.or(claims.iat);
        if let Some(wait) = starts.map(|at| at - now).filter(|wait| *wait > LEEWAY) {
            return Some(format!(
                "the identity token is valid only in {} s by this machine's clock, so one of the clocks is wrong",
                wait as u64
            ));
        }
        match &self.header.alg {
            Some(alg) if ALGORITHMS.contains(&alg.as_str()) => {}
            Some(alg) if alg.len() <= 8 && alg.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                return Some(format!(
                    "the identity token is signed with {alg}, only ES, RS and PS algorithms are accepted"
                ));
            }
            _ => return Some("the identity token names no algorithm that is accepted".to_owned()),
        }
        if self.header.kid.is_none() {
            return Some("the identity token does not name its key (kid)".to_owned());
        }
        let missing = [
            ("sub", claims.sub.is_none()),
            ("iat", claims.iat.is_none()),
            ("exp", claims.exp.is_none()),
        ];
        if let Some((claim, _)) = missing.iter().find(|(_, is_missing)| *is_missing) {
            return Some(format!("the identity token has no {claim}"));
        }
        let lifetime = claims.exp.unwrap_or(0.0) - claims.iat.unwrap_or(0.0);
        if lifetime > USUAL_LIFETIME.as_secs_f64() {
            return Some(format!(
                "the identity token lives for {} s, more than the 3600 s that an issuer allows unless it says otherwise",
                lifetime as u64
            ));
        }
        if !self.has_usual_audience() {
            return Some(format!(
                "the identity token is not for the audience {USUAL_AUDIENCE}, which most rules ask for"
            ));
        }
        None
    }

    fn has_usual_audience(&self) -> bool {
        let is_it = |value: &Value| value.as_str() == Some(USUAL_AUDIENCE);
        match &self.claims.aud {
            Some(Value::Array(list)) => list.iter().any(is_it),
            Some(one) => is_it(one),
            None => false,
        }
    }
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims")
            .field("exp", &self.exp)
            .field("has_jti", &self.jti.is_some())
            .finish_non_exhaustive()
    }
}

fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    let bytes = zeroize::Zeroizing::new(URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?);
    serde_json::from_slice(&bytes).ok()
}

const ALGORITHMS: [&str; 9] = [
    "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
];
const USUAL_AUDIENCE: &str = "https://api.anthropic.com";
const USUAL_LIFETIME: Duration = Duration::from_secs(3600);
const LEEWAY: f64 = 30.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn assertion(header: &str, claims: &str) -> Assertion {
        let parts = [header, claims, "signature"].map(|part| URL_SAFE_NO_PAD.encode(part));
        Assertion::look_at(&Secret::new(parts.join(".")))
    }

    fn flaw(header: &str, claims: &str) -> Option<String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assertion(header, claims).likely_flaw(now)
    }

    const GOOD_HEADER: &str = r#"{"alg":"RS256","kid":"k"}"#;
    const GOOD_CLAIMS: &str =
        r#"{"sub":"s","iat":990,"exp":1500,"aud":["https://api.anthropic.com"]}"#;

    #[test]
    fn a_good_token_has_no_flaw() {
        assert_eq!(flaw(GOOD_HEADER, GOOD_CLAIMS), None);
    }

    #[test]
    fn what_the_server_would_refuse_is_seen() {
        for (header, claims, word) in [
            (r#"{"alg":"none"}"#, GOOD_CLAIMS, "signed with none"),
            (
                r#"{"alg":"HS256","kid":"k"}"#,
                GOOD_CLAIMS,
                "signed with HS256",
            ),
            (r#"{"alg":"RS256"}"#, GOOD_CLAIMS, "kid"),
            (GOOD_HEADER, r#"{"iat":990,"exp":1500}"#, "no sub"),
            (GOOD_HEADER, r#"{"sub":"s","exp":1500}"#, "no iat"),
            (
                GOOD_HEADER,
                r#"{"sub":"s","iat":990,"exp":999}"#,
                "expired 1 s ago",
            ),
            (
                GOOD_HEADER,
                r#"{"sub":"s","iat":1090,"exp":1500}"#,
                "valid only in 90 s",
            ),
            (
                GOOD_HEADER,
                r#"{"sub":"s","iat":990,"exp":9990}"#,
                "lives for 9000 s",
            ),
            (
                GOOD_HEADER,
                r#"{"sub":"s","iat":990,"exp":1500,"aud":"sts.amazonaws.com"}"#,
                "audience",
            ),
            ("1", GOOD_CLAIMS, "not a signed JWT"),
        ] {
            let flaw = flaw(header, claims).unwrap_or_default();
            assert!(flaw.contains(word), "{word}: {flaw}");
        }
    }

    #[test]
    fn a_token_is_single_use_if_it_has_an_id() {
        assert!(assertion(GOOD_HEADER, r#"{"jti":"1"}"#).is_single_use());
        assert!(!assertion(GOOD_HEADER, GOOD_CLAIMS).is_single_use());
        assert!(!Assertion::look_at(&Secret::from("opaque")).is_single_use());
    }
}
