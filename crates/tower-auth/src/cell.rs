use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower_auth_core::Stamp;

use crate::sync::{AtomicBool, AtomicU64, Ordering, Slot};

/// What the request path reads: the current [`Snapshot`] and a number that changes with it.
///
/// The writer stores the snapshot first and then moves the epoch on. A reader that has seen an epoch
/// therefore never holds a snapshot older than it, and a service that keeps its snapshot needs to look
/// at nothing but the epoch. Both stand on cache lines of their own, so that reading them shares
/// nothing with those who count references.
pub(crate) struct Cell<S: Stamp> {
    epoch: Padded<AtomicU64>,
    snapshot: Padded<Slot<Snapshot<S>>>,
}

/// One published state of a cache, complete in itself: a reader never mixes two.
pub(crate) struct Snapshot<S: Stamp> {
    pub(crate) phase: Phase,
    /// Counts the credentials that the cache accepted, from 1; 0 where there has been none.
    pub(crate) generation: u64,
    /// Wall clock in nanoseconds since the Unix epoch, from which on the credential is not stamped.
    pub(crate) safe_end: u64,
    /// Whether the answer to each request is of interest: the API refused this credential once, and the
    /// first answer that is not a refusal clears it.
    pub(crate) suspected: bool,
    pub(crate) held: Option<Held<S>>,
}

/// Whether a request may be stamped at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Stamp it.
    Ready,
    /// Wait: there is nothing usable, or what there is was refused and its successor is on the way.
    Wait,
}

/// A credential, ready to be stamped. Cloning it shares everything.
pub(crate) struct Held<S: Stamp> {
    pub(crate) credential: Arc<S::Credential>,
    /// One copy per shard, so that threads do not count references on the same line.
    shards: Arc<[Arc<Padded<S::Prepared>>]>,
    /// Whether it was ever stamped. One that never was is not renewed.
    used: Arc<AtomicBool>,
    /// Its number; 0 for one that was fetched for a single request.
    pub(crate) generation: u64,
    /// When the fetch that brought it began, on the runtime's clock.
    pub(crate) fetched: Duration,
}

impl<S: Stamp> Cell<S> {
    pub(crate) fn new() -> Self {
        Self {
            epoch: Padded(AtomicU64::new(1)),
            snapshot: Padded(Slot::new(Snapshot::empty())),
        }
    }

    /// The number of the current publication. Never 0.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.0.load(Ordering::Acquire)
    }

    /// Runs `read` on the current snapshot without counting a reference to it.
    #[inline]
    pub(crate) fn with<R>(&self, read: impl FnOnce(&Snapshot<S>) -> R) -> R {
        self.snapshot.0.with(read)
    }

    /// The current snapshot, to be kept.
    pub(crate) fn load(&self) -> Arc<Snapshot<S>> {
        self.snapshot.0.load()
    }

    /// Replaces the snapshot. Calls must not overlap; the cache's mutex sees to that.
    pub(crate) fn publish(&self, snapshot: Snapshot<S>) {
        self.snapshot.0.store(snapshot);
        self.epoch.0.fetch_add(1, Ordering::Release);
    }
}

impl<S: Stamp> Snapshot<S> {
    pub(crate) fn empty() -> Self {
        Self {
            phase: Phase::Wait,
            generation: 0,
            safe_end: 0,
            suspected: false,
            held: None,
        }
    }
}

impl<S: Stamp> Held<S> {
    pub(crate) fn new(
        credential: Arc<S::Credential>,
        prepared: Vec<S::Prepared>,
        fetched: Duration,
    ) -> Self {
        Self {
            credential,
            shards: prepared.into_iter().map(Padded).map(Arc::new).collect(),
            used: Arc::new(AtomicBool::new(false)),
            generation: 0,
            fetched,
        }
    }

    pub(crate) fn numbered(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// The copy for the calling thread.
    #[inline]
    pub(crate) fn prepared(&self) -> Option<&S::Prepared> {
        self.shard().map(|shard| &shard.0)
    }

    /// The copy for the calling thread, to be kept.
    #[inline]
    pub(crate) fn shard(&self) -> Option<&Arc<Padded<S::Prepared>>> {
        // The number of shards is a power of two.
        let mask = self.shards.len().wrapping_sub(1);
        self.shards.get(thread_shard() & mask)
    }

    /// Notes that it was stamped. Written once, read from then on.
    #[inline]
    pub(crate) fn mark_used(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }
}

impl<S: Stamp> Clone for Held<S> {
    fn clone(&self) -> Self {
        Self {
            credential: Arc::clone(&self.credential),
            shards: Arc::clone(&self.shards),
            used: Arc::clone(&self.used),
            generation: self.generation,
            fetched: self.fetched,
        }
    }
}

impl<S: Stamp> fmt::Debug for Snapshot<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("phase", &self.phase)
            .field("generation", &self.generation)
            .field("suspected", &self.suspected)
            .finish_non_exhaustive()
    }
}

/// How many copies of a prepared credential are kept where nobody says otherwise: one per core, as a
/// power of two.
pub(crate) fn default_shards() -> usize {
    std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .next_power_of_two()
        .min(MAX_SHARDS)
}

pub(crate) const MAX_SHARDS: usize = 64;

/// A number for this thread, handed out in turn.
#[inline]
fn thread_shard() -> usize {
    use std::sync::atomic::AtomicUsize;

    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: std::cell::Cell<usize> = const { std::cell::Cell::new(usize::MAX) };
    }
    SHARD.with(|shard| match shard.get() {
        usize::MAX => {
            let number = NEXT.fetch_add(1, Ordering::Relaxed) & (MAX_SHARDS - 1);
            shard.set(number);
            number
        }
        number => number,
    })
}

/// A value on cache lines of its own. Two lines, because processors fetch them in pairs.
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

#[cfg(all(test, tower_auth_model))]
mod model;
