use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::diagnosis::Diagnosis;
use crate::registry::Watched;

/// Which credential a request was stamped with, without the credential. It is in the extensions of a
/// response that refuses it, for retry policies and audits, and of every response if the layer is told so
/// ([`Receipts::Always`](crate::Receipts::Always)).
///
/// ```
/// # use http::Response;
/// use tower_auth::Receipt;
///
/// # fn audit(response: &Response<()>) {
/// if let Some(receipt) = response.extensions().get::<Receipt>() {
///     println!("{} #{}: refused {}", receipt.source_name(), receipt.generation(), receipt.is_refused());
/// }
/// # }
/// ```
///
/// A request that was sent without a credential of the cache's has no receipt.
#[derive(Clone)]
pub struct Receipt {
    source: Arc<str>,
    generation: u64,
    age: Option<Duration>,
    refused: bool,
    cache: Weak<dyn Watched>,
}

impl Receipt {
    pub(crate) fn new(
        source: Arc<str>,
        generation: u64,
        age: Option<Duration>,
        refused: bool,
        cache: Weak<dyn Watched>,
    ) -> Self {
        Self {
            source,
            generation,
            age,
            refused,
            cache,
        }
    }

    /// The name of the source that the credential came from.
    #[must_use]
    pub fn source_name(&self) -> &str {
        &self.source
    }

    /// Which of the cache's credentials it was, counted from 1; 0 for one that was fetched for this
    /// request alone.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How long before the response the fetch of the credential had begun. Not known if a newer
    /// credential had taken its place by then.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// Whether the response refuses the credential.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// Everything that is known about the credential and why it may have been refused; `None` if the cache
    /// is gone. It is put together here and not before, as things stand now.
    #[must_use]
    pub fn diagnose(&self) -> Option<Diagnosis> {
        self.cache.upgrade()?.diagnosis()
    }

    /// Waits until the cache has a newer credential than this one, so that another attempt makes sense.
    ///
    /// `false` as soon as it is clear that there will be none within the time that the cache lets its
    /// callers wait, or if the cache is gone.
    pub fn renewed(&self) -> impl Future<Output = bool> + Send + 'static {
        let renewal = self
            .cache
            .upgrade()
            .map(|cache| cache.renewal(self.generation));
        async move {
            match renewal {
                Some(renewal) => renewal.await,
                None => false,
            }
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("source_name", &self.source)
            .field("generation", &self.generation)
            .field("age", &self.age)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}
