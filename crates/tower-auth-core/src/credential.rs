use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// What a cache needs to know of the thing it keeps, whatever it is: a [`Token`](crate::Token), a set
/// of signing keys, a certificate.
///
/// ```
/// use std::time::SystemTime;
/// use tower_auth_core::{Credential, Expiry, Fingerprint, Secret};
///
/// struct KeyPair { id: String, secret: Secret, expires: SystemTime }
///
/// impl Credential for KeyPair {
///     fn expiry(&self) -> Expiry { Expiry::At(self.expires) }
///     fn fingerprint(&self) -> Fingerprint { self.secret.fingerprint() }
/// }
/// ```
pub trait Credential: Send + Sync + 'static {
    /// How long the issuer lets it live.
    fn expiry(&self) -> Expiry;

    /// Tells this credential from its predecessor, so that "the issuer gave us the same one again"
    /// can be noticed.
    fn fingerprint(&self) -> Fingerprint;

    /// When the issuer would like to be asked again. A wish, taken only when it is plausible.
    fn refresh_hint(&self) -> Option<RefreshHint> {
        None
    }

    /// The text, where it may be a JWT whose `exp` can be read. Consulted only when
    /// [`expiry`](Self::expiry) is [`Expiry::AskEvery`].
    fn jwt(&self) -> Option<&str> {
        None
    }
}

/// How long a credential lives.
///
/// There is no "unknown" on purpose: a missing `expires_in` must never mean eternal. Who does not know
/// says [`AskEvery`](Self::AskEvery).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expiry {
    /// For this long, counted from the moment the fetch began.
    ///
    /// A lifetime is immune to a wrong local clock, so a source that is told both prefers this one.
    In(Duration),
    /// Until this moment of the wall clock.
    At(SystemTime),
    /// The issuer did not say. Where the text is a JWT its `exp` decides; otherwise the credential is
    /// taken to live for this long.
    AskEvery(Duration),
    /// It never expires and fetching again would give the same: a static key.
    Never,
}

/// When an issuer would like to be asked for the next credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefreshHint {
    /// This long after the fetch (`refresh_in` of Entra ID).
    In(Duration),
    /// The issuer serves the same credential again until this long before its end (metadata servers,
    /// local agents): asking earlier is of no use.
    BeforeEnd(Duration),
}

/// A short name of a secret, for logs and for noticing "the same one again".
///
/// It is keyed with a number drawn once per process: it cannot be compared across processes, and a
/// reader of the log cannot test guesses of a weak secret against it.
///
/// ```
/// use tower_auth_core::Fingerprint;
///
/// assert_eq!(Fingerprint::of(b"a"), Fingerprint::of(b"a"));
/// assert_ne!(Fingerprint::of(b"a"), Fingerprint::of(b"b"));
/// assert_eq!(Fingerprint::of(b"a").to_string().len(), 8);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        Self(KEY.get_or_init(RandomState::new).hash_one(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}
