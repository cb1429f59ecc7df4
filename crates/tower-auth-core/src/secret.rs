use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::Fingerprint;

/// Text that must not be seen: a token, a client secret, an assertion.
///
/// It is wiped when the last clone is dropped, it has no `Display` and no serialisation, and its
/// `Debug` is always the same word. [`expose`](Self::expose) is the only way out, so that one search
/// finds every place where a secret leaves.
///
/// What it cannot do: copies that other libraries make (a TLS buffer, a header in flight) are not wiped.
///
/// ```
/// use tower_auth_core::Secret;
///
/// let secret = Secret::from("hunter2");
/// assert_eq!(format!("{secret:?}"), "Secret(…)");
/// assert_eq!(secret.expose(), "hunter2");
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes the text over without copying it.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// The text itself. Do not store, log or format what this returns.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing but white space inside.
    ///
    /// ```
    /// assert!(tower_auth_core::Secret::from(" \n").is_blank());
    /// ```
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// A short name for this text that is safe in a log line. See [`Fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.to_owned())
    }
}
