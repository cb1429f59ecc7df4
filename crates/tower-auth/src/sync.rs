//! The primitives of the concurrent core, so that a model checker can put its own in their place.

#[cfg(not(all(test, tower_auth_model)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[cfg(all(test, tower_auth_model))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};

pub(crate) use slot::Slot;

#[cfg(not(all(test, tower_auth_model)))]
mod slot {
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    /// A place for one shared value that is replaced as a whole.
    pub(crate) struct Slot<T>(ArcSwap<T>);

    impl<T> Slot<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(ArcSwap::from_pointee(value))
        }

        #[inline]
        pub(crate) fn with<R>(&self, read: impl FnOnce(&T) -> R) -> R {
            read(&self.0.load())
        }

        pub(crate) fn load(&self) -> Arc<T> {
            self.0.load_full()
        }

        pub(crate) fn store(&self, value: T) {
            self.0.store(Arc::new(value));
        }
    }
}

#[cfg(all(test, tower_auth_model))]
mod slot {
    use std::sync::Arc;

    /// `ArcSwap` promises that a load sees one whole value, and the latest that happened before it.
    /// A mutex promises the same and loom can see into it.
    pub(crate) struct Slot<T>(loom::sync::Mutex<Arc<T>>);

    impl<T> Slot<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(Arc::new(value)))
        }

        pub(crate) fn with<R>(&self, read: impl FnOnce(&T) -> R) -> R {
            read(&self.load())
        }

        pub(crate) fn load(&self) -> Arc<T> {
            Arc::clone(
                &self
                    .0
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner),
            )
        }

        pub(crate) fn store(&self, value: T) {
            *self
                .0
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(value);
        }
    }
}
