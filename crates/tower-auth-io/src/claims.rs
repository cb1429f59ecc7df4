use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use tower_auth_core::{Error, ErrorKind};

/// What a JWT (RFC 7519) says about itself, without any proof that it is true.
///
/// For diagnosis: which issuer, subject and audience a token names, and when it ends, before it is sent to
/// someone who will verify it. Never decide on these values whether to trust somebody.
///
/// ```
/// use tower_auth_io::UnverifiedClaims;
///
/// let jwt = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2kudGVzdCIsImF1ZCI6ImEiLCJleHAiOjYwfQ.";
/// let claims = UnverifiedClaims::of(jwt)?;
/// assert_eq!(claims.issuer(), Some("https://i.test"));
/// assert!(claims.is_for("a"));
///
/// let error = UnverifiedClaims::of("s3cr3t").unwrap_err();
/// assert_eq!(error.to_string(), "the text is not a JWT: it does not have three parts");
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnverifiedClaims {
    issuer: Option<String>,
    subject: Option<String>,
    audiences: Vec<String>,
    expires_at: Option<SystemTime>,
    issued_at: Option<SystemTime>,
    not_before: Option<SystemTime>,
    id: Option<String>,
}

impl UnverifiedClaims {
    /// How many bytes of a payload, in base64url, are looked at: 16 KiB.
    pub const PAYLOAD_LIMIT: usize = 16 * 1024;

    /// Reads the claims of a signed JWT in its compact form (RFC 7515 section 3.1). A claim of a type that
    /// it cannot have counts as absent.
    ///
    /// # Errors
    /// [`Malformed`](ErrorKind::Malformed) if the text is no such JWT, or its payload is larger than
    /// [`PAYLOAD_LIMIT`](Self::PAYLOAD_LIMIT). Nothing of the text is shown.
    pub fn of(jwt: &str) -> Result<Self, Error> {
        let mut parts = jwt.split('.');
        let (Some(header), Some(payload), Some(_signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("it does not have three parts"));
        };
        if payload.len() > Self::PAYLOAD_LIMIT || header.len() > Self::PAYLOAD_LIMIT {
            return Err(malformed("it is larger than any real one"));
        }
        // A text with two dots, such as a host name, is told from a JWT by its header.
        if !object(header).is_some_and(|header| header.get("alg").is_some_and(Value::is_string)) {
            return Err(malformed("its first part is no header"));
        }
        let Some(claims) = object(payload) else {
            return Err(malformed("its second part is no set of claims"));
        };
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let date = |name: &str| claims.get(name).and_then(numeric_date);
        Ok(Self {
            issuer: text("iss"),
            subject: text("sub"),
            audiences: audiences(claims.get("aud")),
            expires_at: date("exp"),
            issued_at: date("iat"),
            not_before: date("nbf"),
            id: text("jti"),
        })
    }

    /// Who is said to have issued it (`iss`).
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Whom it is said to speak of (`sub`).
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// Whom it is said to be for (`aud`); empty if it does not say.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Whether this is one of its audiences, letter by letter (RFC 7519 section 4.1.3).
    #[must_use]
    pub fn is_for(&self, audience: &str) -> bool {
        self.audiences.iter().any(|listed| listed == audience)
    }

    /// When it is said to end (`exp`).
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// When it is said to have been issued (`iat`).
    #[must_use]
    pub fn issued_at(&self) -> Option<SystemTime> {
        self.issued_at
    }

    /// When it is said to begin (`nbf`).
    #[must_use]
    pub fn not_before(&self) -> Option<SystemTime> {
        self.not_before
    }

    /// What it is called (`jti`).
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// From its issue to its end, where it says both.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.expires_at?.duration_since(self.issued_at?).ok()
    }
}

fn object(part: &str) -> Option<Value> {
    let json = BASE64.decode(part).ok()?;
    // serde_json bounds the depth by itself.
    let value: Value = serde_json::from_slice(&json).ok()?;
    value.is_object().then_some(value)
}

/// One text or a list of them (RFC 7519 section 4.1.3).
fn audiences(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// Whole seconds since the epoch; some issuers send fractions or text. What lies before the epoch is the
/// epoch, and what lies behind the year 9999 is its end.
fn numeric_date(value: &Value) -> Option<SystemTime> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    if seconds.is_nan() {
        return None;
    }
    // The cast saturates.
    let seconds = (seconds as u64).min(END_OF_YEAR_9999);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn malformed(why: &str) -> Error {
    Error::new(
        ErrorKind::Malformed,
        format!("the text is not a JWT: {why}"),
    )
}

/// Padding is forbidden in a JWT (RFC 7515 section 2) and sent by some all the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
const END_OF_YEAR_9999: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn jwt(claims: &str) -> String {
        let [header, claims] = [r#"{"alg":"none"}"#, claims].map(|part| BASE64.encode(part));
        format!("{header}.{claims}.c2ln")
    }

    fn claims(claims: &str) -> UnverifiedClaims {
        UnverifiedClaims::of(&jwt(claims)).unwrap()
    }

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn every_claim_is_read() {
        let claims =
            claims(r#"{"iss":"i","sub":"s","aud":["a","b"],"exp":90,"iat":30,"nbf":20,"jti":"j"}"#);
        assert_eq!(claims.issuer(), Some("i"));
        assert_eq!(claims.subject(), Some("s"));
        assert_eq!(claims.audiences(), ["a", "b"]);
        assert_eq!(claims.expires_at(), at(90));
        assert_eq!(claims.issued_at(), at(30));
        assert_eq!(claims.not_before(), at(20));
        assert_eq!(claims.id(), Some("j"));
        assert_eq!(claims.lifetime(), Some(Duration::from_secs(60)));
    }

    #[test]
    fn an_audience_is_one_text_or_a_list_and_is_compared_whole() {
        assert!(claims(r#"{"aud":"a"}"#).is_for("a"));
        assert!(claims(r#"{"aud":["b",7,"a"]}"#).is_for("a"));
        for other in [r#"{"aud":"A"}"#, r#"{"aud":"a/"}"#, r#"{"aud":7}"#, "{}"] {
            assert!(!claims(other).is_for("a"), "{other}");
        }
    }

    #[test]
    fn dates_are_read_in_every_form_and_never_overflow() {
        for (exp, expected) in [
            ("60", at(60)),
            ("60.9", at(60)),
            ("\" 60 \"", at(60)),
            ("-1", at(0)),
            ("1e300", at(END_OF_YEAR_9999)),
            ("\"inf\"", at(END_OF_YEAR_9999)),
            ("\"nan\"", None),
            ("\"soon\"", None),
            ("[60]", None),
            ("null", None),
        ] {
            let claims = claims(&format!(r#"{{"exp":{exp}}}"#));
            assert_eq!(claims.expires_at(), expected, "{exp}");
        }
    }

    #[test]
    fn what_is_no_jwt_is_named_without_its_text() {
        let large = format!("e30.{}.c", "a".repeat(UnverifiedClaims::PAYLOAD_LIMIT + 1));
        for text in [
            "",
            "canary",
            "canary.canary",
            "login.canary.test",
            "a.b.c.d",
            "e30.e30.canary",
            "eyJhbGciOiJub25lIn0.W10.canary",
            "eyJhbGciOiJub25lIn0.canary.",
            &large,
        ] {
            let error = UnverifiedClaims::of(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
            assert!(error.to_string().contains("not a JWT"), "{error}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(text in ".{0,200}") {
            let _ = UnverifiedClaims::of(&text);
        }

        #[test]
        fn reading_is_total_for_any_payload(header in ".{0,40}", payload in ".{0,120}") {
            let [header, payload] = [header, payload].map(|part| BASE64.encode(part));
            let _ = UnverifiedClaims::of(&format!("{header}.{payload}.x"));
            let _ = UnverifiedClaims::of(&jwt(&payload));
        }
    }
}
