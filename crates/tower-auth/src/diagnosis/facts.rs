use std::fmt;
use std::time::SystemTime;

use super::moment::{Moment, Span};

/// What an API said when it refused a credential.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub(super) generation: u64,
    pub(super) at: SystemTime,
    pub(super) challenge: Option<String>,
}

/// How the clock of this machine stands to that of the API, by the `Date` of an answer (RFC 9110 section
/// 6.6.1). Exact to a second or so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skew {
    /// This machine is ahead by so many seconds.
    Ahead(u64),
    /// This machine is behind by so many seconds.
    Behind(u64),
}

/// What a JWT says about itself, without any proof that it is true.
#[derive(Clone, Debug)]
pub struct TokenClaims {
    pub(super) issuer: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) audiences: Vec<String>,
    pub(super) expires_at: Option<SystemTime>,
}

impl Refusal {
    /// The number of the credential that was refused.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// The `WWW-Authenticate` of the answer (RFC 9110 section 11.6.1), shortened and with the credential
    /// removed should it be quoted. No more than the scheme if the credential is not held any more, because
    /// then it cannot be told from the rest.
    #[must_use]
    pub fn challenge(&self) -> Option<&str> {
        self.challenge.as_deref()
    }

    pub(super) fn line(&self, now: SystemTime) -> String {
        let when = Moment(self.at).seen_from(now);
        match &self.challenge {
            Some(challenge) => format!("credential {}, {when}: {challenge}", self.generation),
            None => format!(
                "credential {}, {when}, without a challenge",
                self.generation
            ),
        }
    }
}

impl Skew {
    /// The seconds by which this machine is ahead; negative if it is behind.
    #[must_use]
    pub fn seconds_ahead(self) -> i64 {
        match self {
            Self::Ahead(seconds) => i64::try_from(seconds).unwrap_or(i64::MAX),
            Self::Behind(seconds) => i64::try_from(seconds).map_or(i64::MIN, |seconds| -seconds),
        }
    }

    /// Whether it is so large that tokens are refused for it.
    pub(super) fn matters(self) -> bool {
        let (Self::Ahead(seconds) | Self::Behind(seconds)) = self;
        seconds >= TOLERABLE_SKEW
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ahead(0..=1) | Self::Behind(0..=1) => f.write_str("as the API's"),
            Self::Ahead(seconds) => write!(f, "{} ahead of the API's", Span(*seconds)),
            Self::Behind(seconds) => write!(f, "{} behind the API's", Span(*seconds)),
        }
    }
}

impl TokenClaims {
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

    /// Whom it is said to be for (`aud`).
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// When it is said to end (`exp`).
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    pub(super) fn lines(&self, now: SystemTime) -> Vec<(&'static str, String)> {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "not said".to_owned());
        let ends = self.expires_at.map(|time| Moment(time).seen_from(now));
        vec![
            (
                "claims",
                format!("iss {} (none of them verified)", text(&self.issuer)),
            ),
            ("", format!("sub {}", text(&self.subject))),
            ("", format!("aud {}", self.audiences.join(", "))),
            ("", format!("exp {}", text(&ends))),
        ]
    }
}

/// Issuers and APIs commonly allow for a minute or more.
const TOLERABLE_SKEW: u64 = 60;
