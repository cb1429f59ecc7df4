use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, Response, StatusCode};
use tower_auth_core::{Caching, Stamp, TokenSource};

use crate::diagnosis::Diagnosis;
use crate::receipt::Receipt;
use crate::shared::Shared;

/// What a request under way remembers of its stamp.
///
/// Sixteen bytes and no reference: if each request counted a reference to its cache, all threads would
/// write to that one cache line, and this would cost more than the stamp itself. The number leads to the
/// cache through a map that is looked at only when an answer is of interest, which is next to never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    /// The number of a [`Registration`], shifted left, and the flags. Never zero, so that a future can
    /// use the zero to tell its states apart.
    watch: NonZeroU64,
    /// The generation; of a keyed layer, which cache's as well.
    stamped: u64,
}

impl Ticket {
    /// Of a request that carries nothing of ours.
    pub(crate) const NONE: Self = Self {
        watch: NOBODY,
        stamped: 0,
    };

    /// Whether [`observe`](Self::observe) may have something to do.
    #[inline]
    pub(crate) fn concerns(self, status: StatusCode) -> bool {
        status == StatusCode::UNAUTHORIZED || self.watch.get() & (LOOK | SUSPECTED) != 0
    }

    /// Tells the cache how its credential was received, and adds the receipt.
    #[cold]
    #[inline(never)]
    pub(crate) fn observe<R>(self, response: &mut Response<R>) {
        let Some(entry) = registry().entry(self.watch) else {
            return;
        };
        let refused = match &entry.refused {
            Some(refused) => refused(response.status(), response.headers()),
            None => response.status() == StatusCode::UNAUTHORIZED,
        };
        let generation = self.stamped & entry.generations;
        let cache = entry
            .cache
            .upgrade()
            .and_then(|cache| cache.stamped_by(self.stamped));
        // A receipt tells the age that the credential had, so it comes before the cache learns of it.
        if refused || entry.receipts_always {
            response.extensions_mut().insert(Receipt::new(
                entry.source_name(cache.as_deref()),
                generation,
                cache.as_ref().and_then(|cache| cache.age(generation)),
                refused,
                cache
                    .as_ref()
                    .map_or_else(|| Weak::clone(&entry.cache), Arc::downgrade),
            ));
        }
        let Some(cache) = cache else { return };
        if refused {
            cache.note(generation, response.headers());
            let challenge = response
                .headers()
                .get(WWW_AUTHENTICATE)
                .and_then(|value| value.to_str().ok());
            cache.refused(generation, challenge);
        } else if self.watch.get() & SUSPECTED != 0 {
            cache.accepted(generation);
        }
    }
}

/// A cache, as an answer sees it.
pub(crate) trait Watched: Send + Sync {
    /// The one whose credential it was, where this stands for many. `None` if it is gone.
    fn stamped_by(self: Arc<Self>, stamped: u64) -> Option<Arc<dyn Watched>>;
    fn source_name(&self) -> &str;
    fn refused(self: Arc<Self>, generation: u64, challenge: Option<&str>);
    fn accepted(&self, generation: u64);
    /// Notes what the headers of a refusal tell, before it is acted on.
    fn note(&self, _generation: u64, _headers: &HeaderMap) {}
    fn diagnosis(&self) -> Option<Diagnosis> {
        None
    }
    /// How long ago the fetch of this generation began, if it is the current one.
    fn age(&self, generation: u64) -> Option<Duration>;
    fn renewal(self: Arc<Self>, generation: u64) -> Pin<Box<dyn Future<Output = bool> + Send>>;
}

impl<P, S> Watched for Shared<P, S>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    fn stamped_by(self: Arc<Self>, _: u64) -> Option<Arc<dyn Watched>> {
        Some(self)
    }

    fn source_name(&self) -> &str {
        self.description.name()
    }

    fn refused(self: Arc<Self>, generation: u64, challenge: Option<&str>) {
        self.reject(generation, challenge);
    }

    fn accepted(&self, generation: u64) {
        self.accept(generation);
    }

    fn note(&self, generation: u64, headers: &HeaderMap) {
        self.note_refusal(generation, headers);
    }

    fn diagnosis(&self) -> Option<Diagnosis> {
        Some(self.diagnose(false))
    }

    fn age(&self, generation: u64) -> Option<Duration> {
        let fetched = self.cell.with(|snapshot| {
            let held = snapshot.held.as_ref()?;
            (snapshot.generation == generation).then_some(held.fetched)
        })?;
        Some(self.clocks.mono().saturating_sub(fetched))
    }

    fn renewal(self: Arc<Self>, generation: u64) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(async move {
            // A source that is asked for each request gives the next attempt another credential anyway.
            self.caching == Caching::PerRequest || self.renewed(generation).await
        })
    }
}

/// Whether an answer refuses the credential.
pub(crate) type Refused = Arc<dyn Fn(StatusCode, &HeaderMap) -> bool + Send + Sync>;

/// What the answers to the requests of one layer have to do with.
pub(crate) struct Entry {
    pub(crate) cache: Weak<dyn Watched>,
    /// What receipts call the source. `None` where each cache has its own.
    pub(crate) source: Option<Arc<str>>,
    /// Which bits of what a ticket holds are the generation.
    pub(crate) generations: u64,
    pub(crate) refused: Option<Refused>,
    pub(crate) receipts_always: bool,
}

impl Entry {
    fn source_name(&self, cache: Option<&dyn Watched>) -> Arc<str> {
        match (&self.source, cache) {
            (Some(source), _) => Arc::clone(source),
            (None, Some(cache)) => cache.source_name().into(),
            (None, None) => "a key that is not held any more".into(),
        }
    }
}

/// The place of an [`Entry`] in the registry. Dropping it gives the place up, some time later.
#[derive(Debug)]
pub(crate) struct Registration(NonZeroU64);

impl Registration {
    pub(crate) fn new(entry: Entry) -> Self {
        let look = entry.refused.is_some() || entry.receipts_always;
        let number = registry().add(entry);
        let watch = number << NUMBER_SHIFT | if look { LOOK } else { 0 };
        Self(NonZeroU64::new(watch).unwrap_or(NOBODY))
    }

    /// For the requests that are stamped from the only cache of the layer.
    #[inline]
    pub(crate) fn watch(&self) -> Watch {
        Watch {
            number: self.0,
            cache: 0,
            generations: u64::MAX,
        }
    }

    /// For those stamped from one of many, whose number stands in the bits that are not the generation's.
    #[inline]
    pub(crate) fn watch_for(&self, cache: u64, generations: u64) -> Watch {
        Watch {
            number: self.0,
            cache,
            generations,
        }
    }
}

/// What the tickets of one cache and layer have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    number: NonZeroU64,
    cache: u64,
    generations: u64,
}

impl Watch {
    #[inline]
    pub(crate) fn ticket(self, generation: u64, suspected: bool) -> Ticket {
        let watch = if suspected {
            self.number | SUSPECTED
        } else {
            self.number
        };
        Ticket {
            watch,
            stamped: self.cache | (generation & self.generations),
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let forgotten = registry().depart(self.0);
        // Outside of the lock: it may hold a closure of the user's with anything in it.
        drop(forgotten);
    }
}

/// The layers of this process whose requests may be under way.
struct Registry {
    next: u64,
    entries: BTreeMap<u64, Arc<Entry>>,
    /// Those whose last service is gone. A service that is made for one request is dropped before its
    /// answer arrives, so they stay until this many others have gone after them. They keep nothing alive:
    /// an entry holds its cache weakly.
    departed: VecDeque<u64>,
}

fn registry() -> MutexGuard<'static, Registry> {
    static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
        next: FIRST_NUMBER,
        entries: BTreeMap::new(),
        departed: VecDeque::new(),
    });
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    fn add(&mut self, entry: Entry) -> u64 {
        let number = self.next;
        // Never used twice: at one per nanosecond this lasts for a hundred years.
        self.next += 1;
        self.entries.insert(number, Arc::new(entry));
        number
    }

    fn entry(&self, watch: NonZeroU64) -> Option<Arc<Entry>> {
        self.entries.get(&(watch.get() >> NUMBER_SHIFT)).cloned()
    }

    fn depart(&mut self, watch: NonZeroU64) -> Option<Arc<Entry>> {
        self.departed.push_back(watch.get() >> NUMBER_SHIFT);
        if self.departed.len() <= REMEMBERED_DEPARTURES {
            return None;
        }
        let oldest = self.departed.pop_front()?;
        self.entries.remove(&oldest)
    }
}

/// The answer is of interest whatever its status.
const LOOK: u64 = 1;
/// The credential was refused before; an answer that takes it clears it.
const SUSPECTED: u64 = 2;
const NUMBER_SHIFT: u32 = 2;
const FIRST_NUMBER: u64 = 2;
/// A number that no entry ever has, and no flags.
const NOBODY: NonZeroU64 = match NonZeroU64::new(1 << NUMBER_SHIFT) {
    Some(watch) => watch,
    None => NonZeroU64::MAX,
};
const REMEMBERED_DEPARTURES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Registry {
        Registry {
            next: FIRST_NUMBER,
            entries: BTreeMap::new(),
            departed: VecDeque::new(),
        }
    }

    fn entry() -> Entry {
        let cache: Weak<Shared<&'static str, crate::Headers>> = Weak::new();
        Entry {
            cache,
            source: Some("test".into()),
            generations: u64::MAX,
            refused: None,
            receipts_always: false,
        }
    }

    fn watch(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number << NUMBER_SHIFT).unwrap()
    }

    #[test]
    fn an_entry_outlives_its_departure_by_a_few_others_and_no_more() {
        let mut registry = empty();
        let first = registry.add(entry());
        registry.depart(watch(first));
        for _ in 1..REMEMBERED_DEPARTURES {
            let number = registry.add(entry());
            assert!(registry.depart(watch(number)).is_none());
        }
        assert!(registry.entry(watch(first)).is_some());
        let last = registry.add(entry());
        assert!(registry.depart(watch(last)).is_some());
        assert!(registry.entry(watch(first)).is_none());
        assert_eq!(registry.entries.len(), REMEMBERED_DEPARTURES);
    }

    #[test]
    fn no_entry_has_the_number_of_a_request_without_a_stamp() {
        let mut registry = empty();
        let first = registry.add(entry());
        assert_ne!(watch(first), NOBODY);
        assert!(registry.entry(NOBODY).is_none());
        assert!(!Ticket::NONE.concerns(StatusCode::OK));
    }

    #[test]
    fn a_ticket_is_sixteen_bytes_and_leaves_a_niche() {
        assert_eq!(size_of::<Ticket>(), 16);
        assert_eq!(size_of::<Option<Ticket>>(), 16);
    }
}
