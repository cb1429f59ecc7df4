use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::{Caching, Credential, Description, Error, Fetch, Presence, Token, TokenSource};

/// Any [`TokenSource`], behind a pointer. Made by [`TokenSource::boxed`].
///
/// ```
/// use tower_auth_core::{BoxTokenSource, TokenSource, bearer_fn};
///
/// let sources: Vec<BoxTokenSource> = vec![
///     "a fixed token".boxed(),
///     bearer_fn(|| async { Ok("a callable's") }).boxed(),
/// ];
/// # let _ = sources;
/// ```
pub struct BoxTokenSource<T: Credential = Token>(Arc<dyn DynTokenSource<T>>);

type BoxFuture<'a, O> = Pin<Box<dyn Future<Output = O> + Send + 'a>>;

/// The twin of [`TokenSource`] that can be a trait object: its future is boxed, which is nothing next
/// to a fetch.
trait DynTokenSource<T: Credential>: Send + Sync {
    fn fetch_boxed<'a>(&'a self, cx: &'a Fetch<T>) -> BoxFuture<'a, Result<T, Error>>;
    fn describe_dyn(&self) -> Description;
    fn caching_dyn(&self) -> Caching;
    fn presence_dyn(&self) -> Presence;
}

impl<T: Credential, S: TokenSource<T>> DynTokenSource<T> for S {
    fn fetch_boxed<'a>(&'a self, cx: &'a Fetch<T>) -> BoxFuture<'a, Result<T, Error>> {
        Box::pin(self.fetch(cx))
    }

    fn describe_dyn(&self) -> Description {
        self.describe()
    }

    fn caching_dyn(&self) -> Caching {
        self.caching()
    }

    fn presence_dyn(&self) -> Presence {
        self.presence()
    }
}

impl<T: Credential> BoxTokenSource<T> {
    /// Puts the source behind a pointer.
    pub fn new(source: impl TokenSource<T>) -> Self {
        Self(Arc::new(source))
    }
}

impl<T: Credential> TokenSource<T> for BoxTokenSource<T> {
    async fn fetch(&self, cx: &Fetch<T>) -> Result<T, Error> {
        self.0.fetch_boxed(cx).await
    }

    fn describe(&self) -> Description {
        self.0.describe_dyn()
    }

    fn caching(&self) -> Caching {
        self.0.caching_dyn()
    }

    fn presence(&self) -> Presence {
        self.0.presence_dyn()
    }

    fn boxed(self) -> Self {
        self
    }
}

impl<T: Credential> Clone for BoxTokenSource<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Credential> fmt::Debug for BoxTokenSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxTokenSource")
            .field(&self.0.describe_dyn().name())
            .finish()
    }
}
