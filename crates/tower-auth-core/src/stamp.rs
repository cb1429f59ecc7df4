use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Request};

use crate::{Clock, Credential, Error};

/// How a credential gets onto a request, in two halves.
///
/// [`prepare`](Self::prepare) runs once per credential and does everything that can be done then:
/// formatting, validating, marking sensitive, deriving a key. [`stamp`](Self::stamp) runs once per
/// request and does as little as the scheme allows; for a plain header that is one insertion.
///
/// A cache prepares a credential once for each of a few shards, so that requests on different threads
/// do not count references on the same cache line. What is prepared must therefore own what it holds.
///
/// ```
/// use http::{HeaderMap, HeaderValue, Request, header::AUTHORIZATION};
/// use tower_auth_core::{Error, ErrorKind, Stamp, StampContext, Stamped, Token};
///
/// struct Basic;
///
/// impl Stamp for Basic {
///     type Credential = Token;
///     type Prepared = HeaderValue;
///
///     fn prepare(&self, token: &Token) -> Result<HeaderValue, Error> {
///         let mut value = HeaderValue::try_from(format!("Basic {}", token.secret().expose()))
///             .map_err(|_| Error::new(ErrorKind::Malformed, "the token has a byte that no header may have"))?;
///         value.set_sensitive(true);
///         Ok(value)
///     }
///
///     fn stamp<B>(&self, value: &HeaderValue, request: &mut Request<B>, _: &StampContext<'_>) -> Result<Stamped, Error> {
///         if request.headers().contains_key(AUTHORIZATION) {
///             return Ok(Stamped::Occupied);
///         }
///         request.headers_mut().insert(AUTHORIZATION, value.clone());
///         Ok(Stamped::Done)
///     }
///
///     fn present<'r>(&self, _: &HeaderValue, headers: &'r HeaderMap) -> Option<&'r HeaderValue> {
///         headers.get(AUTHORIZATION)
///     }
///
///     fn clear(&self, _: &HeaderValue, headers: &mut HeaderMap) {
///         headers.remove(AUTHORIZATION);
///     }
/// }
/// ```
pub trait Stamp: Send + Sync + 'static {
    /// What is stamped.
    type Credential: Credential;
    /// What is made of it once.
    type Prepared: Send + Sync + 'static;

    /// Makes the credential ready. Called when it arrives, never on the request path.
    ///
    /// # Errors
    /// [`Malformed`](crate::ErrorKind::Malformed) if it cannot travel in its header. The error must not
    /// show the credential.
    fn prepare(&self, credential: &Self::Credential) -> Result<Self::Prepared, Error>;

    /// Puts it onto a request, or leaves the request untouched and says that the place is
    /// [`Occupied`](Stamped::Occupied).
    ///
    /// # Errors
    /// Whatever can go wrong per request, for schemes that compute something; a plain header has nothing.
    fn stamp<B>(
        &self,
        prepared: &Self::Prepared,
        request: &mut Request<B>,
        cx: &StampContext<'_>,
    ) -> Result<Stamped, Error>;

    /// The value that occupies the credential's place in these headers.
    fn present<'r>(
        &self,
        prepared: &Self::Prepared,
        headers: &'r HeaderMap,
    ) -> Option<&'r HeaderValue>;

    /// Removes every value that occupies the credential's place, so that a stamp will take.
    fn clear(&self, prepared: &Self::Prepared, headers: &mut HeaderMap);
}

/// A stamp that several caches share.
impl<S: Stamp> Stamp for Arc<S> {
    type Credential = S::Credential;
    type Prepared = S::Prepared;

    fn prepare(&self, credential: &Self::Credential) -> Result<Self::Prepared, Error> {
        (**self).prepare(credential)
    }

    #[inline]
    fn stamp<B>(
        &self,
        prepared: &Self::Prepared,
        request: &mut Request<B>,
        cx: &StampContext<'_>,
    ) -> Result<Stamped, Error> {
        (**self).stamp(prepared, request, cx)
    }

    fn present<'r>(
        &self,
        prepared: &Self::Prepared,
        headers: &'r HeaderMap,
    ) -> Option<&'r HeaderValue> {
        (**self).present(prepared, headers)
    }

    fn clear(&self, prepared: &Self::Prepared, headers: &mut HeaderMap) {
        (**self).clear(prepared, headers);
    }
}

/// What a [`Stamp`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stamped {
    /// The request carries the credential.
    Done,
    /// The request carries something in that place already and was left as it was.
    Occupied,
}

/// What a [`Stamp`] may need to know beyond the request.
pub struct StampContext<'a> {
    clock: &'a dyn Clock,
}

impl<'a> StampContext<'a> {
    /// With this clock.
    #[must_use]
    pub fn new(clock: &'a dyn Clock) -> Self {
        Self { clock }
    }

    /// The wall clock, for a scheme that signs the time. It is read when this is called, so a scheme
    /// that does not need it does not pay for it.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }
}

impl fmt::Debug for StampContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StampContext").finish_non_exhaustive()
    }
}
