use std::any::Any;
use std::fmt;
use std::sync::Arc;

use tower_auth_core::{Credential, Token};

#[cfg(doc)]
use crate::AuthLayer;

/// What one request wants done differently. Put it into the extensions of the request.
///
/// ```
/// use http::Request;
/// use tower_auth::AuthOverride;
///
/// let mut health_check = Request::get("https://api.example.com/health").body(()).unwrap();
/// health_check.extensions_mut().insert(AuthOverride::skip());
/// ```
///
/// It holds for each layer on the request's way, and for each attempt of a retry layer. The origin of the
/// request is checked all the same: a token given here does not follow a redirect to another host either.
#[derive(Clone)]
pub struct AuthOverride(Wish);

#[derive(Clone)]
enum Wish {
    Skip,
    Fresh,
    Credential(Arc<dyn Any + Send + Sync>),
    Key(Arc<dyn Any + Send + Sync>),
}

impl AuthOverride {
    /// Sends the request as it is.
    #[must_use]
    pub fn skip() -> Self {
        Self(Wish::Skip)
    }

    /// Fetches a new credential before the request is sent, for all users of the cache. Fetches are
    /// rate-limited, so this is for the rare request after a permission was granted, not for each.
    #[must_use]
    pub fn fresh() -> Self {
        Self(Wish::Fresh)
    }

    /// Stamps this token instead of the cache's.
    ///
    /// The cache is not asked, and is not told if the token is refused.
    #[must_use]
    pub fn token(token: Token) -> Self {
        Self::credential(token)
    }

    /// As [`token`](Self::token), for a layer whose stamp takes another kind of credential. A layer that
    /// stamps a different kind answers with an error.
    #[must_use]
    pub fn credential(credential: impl Credential) -> Self {
        Self(Wish::Credential(Arc::new(credential)))
    }

    /// Stamps the credential of this key, whatever key the request itself shows to a
    /// [keyed layer](AuthLayer::keyed). Other layers do as they do without it.
    ///
    /// The type is that of the keys that the layer holds: `String` where its selector gives a `str`. A
    /// keyed layer with keys of another type answers with an error.
    #[must_use]
    pub fn key<K: Send + Sync + 'static>(key: K) -> Self {
        Self(Wish::Key(Arc::new(key)))
    }

    pub(crate) fn kind(&self) -> Override<'_> {
        match &self.0 {
            Wish::Skip => Override::Skip,
            Wish::Fresh => Override::Fresh,
            Wish::Credential(credential) => Override::Credential(&**credential),
            Wish::Key(key) => Override::Key(&**key),
        }
    }

    /// Whether a layer without keys takes no notice of it.
    pub(crate) fn is_for_keyed_layers(&self) -> bool {
        matches!(self.0, Wish::Key(_))
    }

    /// Whether a second attempt has to be sent without it: the renewal that it asks for has taken place.
    pub(crate) fn is_done_after_one_attempt(&self) -> bool {
        matches!(self.0, Wish::Fresh)
    }
}

/// An [`AuthOverride`], read.
pub(crate) enum Override<'a> {
    Skip,
    Fresh,
    Credential(&'a (dyn Any + Send + Sync)),
    Key(&'a (dyn Any + Send + Sync)),
}

/// Names the wish and shows neither credential nor key.
impl fmt::Debug for AuthOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Wish::Skip => "AuthOverride(skip)",
            Wish::Fresh => "AuthOverride(fresh)",
            Wish::Credential(_) => "AuthOverride(credential)",
            Wish::Key(_) => "AuthOverride(key)",
        })
    }
}
