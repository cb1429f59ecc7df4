use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use tower_auth_core::Secret;

use crate::leaks::{Needles, render_request};

/// A secret made for a test: it looks random, is the same in every run, and is found wherever it turns
/// up.
///
/// Every canary begins with [`MARKER`](Self::MARKER), so a [`LeakGuard`](crate::LeakGuard) notices one
/// that it was not told about, and one that was cut short.
///
/// ```
/// use tower_auth_testing::Canary;
///
/// let canary = Canary::new("client-secret");
/// assert_eq!(canary.text(), Canary::new("client-secret").text());
/// assert_ne!(canary.text(), Canary::new("other").text());
/// assert_eq!(format!("{canary:?}"), "Canary(client-secret)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Canary {
    name: Cow<'static, str>,
    text: String,
    /// What is looked for; the text itself unless that is an encoding of something.
    needle: String,
}

impl Canary {
    /// What every canary begins with. It is nobody's real secret, and a scanner can be told so.
    pub const MARKER: &'static str = "canary-5eC7eT";

    /// The canary of this name. It consists of letters, digits and `-`, so that every place which
    /// takes a secret takes it.
    ///
    /// # Panics
    /// If the name has another character than ASCII letters, digits and `-`.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        assert!(
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
            "a canary's name consists of ASCII letters, digits and '-', which \"{name}\" does not"
        );
        let text = format!("{}-{name}-{:016x}", Self::MARKER, fnv1a(name.as_bytes()));
        Self {
            needle: text.clone(),
            name,
            text,
        }
    }

    /// A JWT (RFC 7519 section 3) whose subject is the canary of this name and whose `exp` is in the
    /// year 2100. Its signature is not valid.
    #[must_use]
    pub fn jwt(name: impl Into<Cow<'static, str>>) -> Self {
        let canary = Self::new(name);
        let header = r#"{"alg":"RS256","typ":"JWT"}"#;
        let claims = format!(
            r#"{{"iss":"https://issuer.test","sub":"{}","exp":4102444800}}"#,
            canary.text
        );
        let signature = format!("{}-signature", canary.text);
        let parts = [header, &claims, &signature].map(|part| URL_SAFE_NO_PAD.encode(part));
        Self {
            text: parts.join("."),
            ..canary
        }
    }

    /// Takes a text that the test has from elsewhere for a canary: a key that was generated, a token
    /// that a real server gave.
    ///
    /// # Panics
    /// If it is shorter than 8 bytes: it would be found in innocent text.
    #[must_use]
    pub fn of(name: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        let (name, text) = (name.into(), text.into());
        assert!(
            text.len() >= 8,
            "the canary \"{name}\" is too short to be told from innocent text"
        );
        Self {
            needle: text.clone(),
            name,
            text,
        }
    }

    /// What reports call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The secret text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The secret text, as the family takes it.
    #[must_use]
    pub fn secret(&self) -> Secret {
        Secret::from(self.text.as_str())
    }

    /// Whether it occurs in this text: plain, percent-encoded, in base64 at any offset, in hexadecimal
    /// or as a list of byte values.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        !Needles::without_marker([self]).find(text).is_empty()
    }

    /// Whether it occurs in the request line, the headers or the body.
    #[must_use]
    pub fn is_in_request<B: AsRef<[u8]>>(&self, request: &Request<B>) -> bool {
        self.is_in(&render_request(request))
    }

    pub(crate) fn needle(&self) -> &str {
        &self.needle
    }
}

impl From<&Canary> for Secret {
    fn from(canary: &Canary) -> Self {
        canary.secret()
    }
}

/// Shows its name alone, so that a test double that holds one does not look like a leak.
impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Canary({})", self.name)
    }
}

/// The 64-bit FNV-1a hash: the same in every run and version, which the standard library's is not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
