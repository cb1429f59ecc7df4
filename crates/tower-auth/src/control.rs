use std::any::Any;
use std::fmt;
use std::sync::Arc;

use tower_auth_core::{Credential, Token};

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

    pub(crate) fn kind(&self) -> Override<'_> {
        match &self.0 {
            Wish::Skip => Override::Skip,
            Wish::Fresh => Override::Fresh,
            Wish::Credential(credential) => Override::Credential(&**credential),
        }
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
}

/// Names the wish and shows no credential.
impl fmt::Debug for AuthOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Wish::Skip => "AuthOverride(skip)",
            Wish::Fresh => "AuthOverride(fresh)",
            Wish::Credential(_) => "AuthOverride(credential)",
        })
    }
}
