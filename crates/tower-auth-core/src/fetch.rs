use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Token;

/// Why a source is asked, and what it may want to know. New hints are added here without breaking
/// any source.
///
/// ```
/// use std::time::Duration;
/// use tower_auth_core::{Fetch, Reason, Token};
///
/// let cx = Fetch::<Token>::new(Reason::First).with_timeout(Duration::from_secs(30));
/// assert_eq!(cx.reason(), Reason::First);
/// assert!(!cx.must_be_new());
/// ```
pub struct Fetch<T = Token> {
    reason: Reason,
    previous: Option<Arc<T>>,
    min_remaining: Duration,
    timeout: Duration,
    challenge: Option<Arc<str>>,
    claims: Option<Arc<str>>,
}

/// Why a credential is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There has been none so far.
    First,
    /// The current one is still good, its renewal is due.
    Scheduled,
    /// The current one has run out.
    Expired,
    /// The API refused the current one. A source that keeps a session of its own (a login, a disk
    /// cache) must go around it; [`Fetch::challenge`] has what the API said.
    Rejected,
    /// Somebody asked for a new one.
    Forced,
}

impl Reason {
    /// The word used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Scheduled => "scheduled",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Forced => "forced",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<T> Fetch<T> {
    /// A request for a credential, with nothing but its reason.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            previous: None,
            min_remaining: Duration::ZERO,
            timeout: Duration::from_secs(30),
            challenge: None,
            claims: None,
        }
    }

    /// Why it is wanted.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The credential that is to be replaced, as a refresh grant needs it.
    #[must_use]
    pub fn previous(&self) -> Option<&T> {
        self.previous.as_deref()
    }

    /// How long the answer must still live at least. Matters to a source that hands on something it
    /// was given earlier (a file, an agent).
    #[must_use]
    pub fn min_remaining(&self) -> Duration {
        self.min_remaining
    }

    /// How long this attempt may take, from now, before it is dropped.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The `WWW-Authenticate` value of the answer that refused the previous credential
    /// (RFC 9110 section 11.6.1).
    #[must_use]
    pub fn challenge(&self) -> Option<&str> {
        self.challenge.as_deref()
    }

    /// Further claims that the credential must satisfy, as an API demanded them (continuous access
    /// evaluation).
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        self.claims.as_deref()
    }

    /// Whether something remembered will not do: the previous credential was refused, or a new one was
    /// asked for by name.
    #[must_use]
    pub fn must_be_new(&self) -> bool {
        matches!(self.reason, Reason::Rejected | Reason::Forced)
    }

    /// Sets [`previous`](Self::previous).
    #[must_use]
    pub fn with_previous(mut self, previous: Arc<T>) -> Self {
        self.previous = Some(previous);
        self
    }

    /// Sets [`min_remaining`](Self::min_remaining).
    #[must_use]
    pub fn with_min_remaining(mut self, min_remaining: Duration) -> Self {
        self.min_remaining = min_remaining;
        self
    }

    /// Sets [`timeout`](Self::timeout); 30 s where it is not called.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets [`challenge`](Self::challenge).
    #[must_use]
    pub fn with_challenge(mut self, challenge: impl Into<Arc<str>>) -> Self {
        self.challenge = Some(challenge.into());
        self
    }

    /// Sets [`claims`](Self::claims).
    #[must_use]
    pub fn with_claims(mut self, claims: impl Into<Arc<str>>) -> Self {
        self.claims = Some(claims.into());
        self
    }

    /// The same request for another kind of credential: what an exchanging source hands to the source
    /// of its subject. The previous credential stays behind, it is of the wrong kind.
    ///
    /// ```
    /// use tower_auth_core::{Fetch, Reason, Token};
    ///
    /// let cx = Fetch::<Token>::new(Reason::Rejected);
    /// let subject = cx.for_subject::<Token>();
    /// assert_eq!(subject.reason(), Reason::Rejected);
    /// assert!(subject.previous().is_none());
    /// ```
    #[must_use]
    pub fn for_subject<U>(&self) -> Fetch<U> {
        Fetch {
            reason: self.reason,
            previous: None,
            min_remaining: self.min_remaining,
            timeout: self.timeout,
            challenge: self.challenge.clone(),
            claims: None,
        }
    }
}

impl<T> Clone for Fetch<T> {
    fn clone(&self) -> Self {
        Self {
            reason: self.reason,
            previous: self.previous.clone(),
            min_remaining: self.min_remaining,
            timeout: self.timeout,
            challenge: self.challenge.clone(),
            claims: self.claims.clone(),
        }
    }
}

impl<T> fmt::Debug for Fetch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A challenge or a claims string comes from a server and may echo what it was sent.
        f.debug_struct("Fetch")
            .field("reason", &self.reason)
            .field("has_previous", &self.previous.is_some())
            .field("min_remaining", &self.min_remaining)
            .field("timeout", &self.timeout)
            .field("has_challenge", &self.challenge.is_some())
            .field("has_claims", &self.claims.is_some())
            .finish()
    }
}
