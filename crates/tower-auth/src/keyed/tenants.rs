use std::borrow::Borrow;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use papaya::{Guard, HashMap, LocalGuard, ResizeMode};
use tower_auth_core::{BoxTokenSource, Stamp};

use crate::clock::Clocks;
use crate::keyed::{Key, KeyId};
use crate::origins::Origins;
use crate::policy::RefreshOptions;
use crate::registry::Watched;
use crate::scheduler::{Keeper, Scheduler};
use crate::shape::Shape;
use crate::shared::{Settings, Shared};

/// The cache of one key.
pub(super) type TenantCache<S> = Shared<BoxTokenSource<<S as Stamp>::Credential>, Arc<S>>;

pub(super) type Make<K, S> =
    Box<dyn Fn(&K) -> BoxTokenSource<<S as Stamp>::Credential> + Send + Sync>;

/// The caches of all keys.
pub(super) struct Tenants<K: Key + ?Sized, S: Stamp> {
    map: HashMap<K::Owned, Tenant<S>>,
    tick: Tick,
    /// Whoever adds or removes a key comes through here, one at a time.
    door: Mutex<Marks>,
    pub(super) scheduler: Arc<Scheduler>,
    /// Stamps what belongs to no key.
    pub(super) blank: Arc<TenantCache<S>>,
    make: Make<K, S>,
    stamp: Arc<S>,
    clocks: Clocks,
    /// Not the map's own: what logs show must say nothing about where a key lies in it.
    ids: RandomState,
    limits: Limits,
    evictions: AtomicU64,
}

/// What a builder has settled.
pub(super) struct Limits {
    pub(super) max_keys: usize,
    pub(super) max_idle: Duration,
    pub(super) options: RefreshOptions,
    pub(super) check_clock: bool,
    pub(super) shape: Shape,
    pub(super) seed: Option<u64>,
}

/// One key, as the map holds it.
pub(super) struct Tenant<S: Stamp> {
    pub(super) cache: Arc<TenantCache<S>>,
    /// Where its source wants its credential to go.
    pub(super) origins: Origins,
    /// The tick of its last use.
    used: AtomicU64,
}

/// Counts the admissions and sweeps. Read for each request and written for next to none, so it stands on
/// cache lines of its own.
#[repr(align(128))]
struct Tick(AtomicU64);

/// The ticks of the last sweeps and their times: to tell which keys have been idle for how long without
/// reading a clock when they are used.
type Marks = VecDeque<(Duration, u64)>;

impl<S: Stamp> Tenant<S> {
    /// Writes only if something was admitted since, so that a key in heavy use is not written to.
    #[inline]
    fn touch(&self, tick: u64) {
        if self.used.load(Ordering::Relaxed) != tick {
            self.used.store(tick, Ordering::Relaxed);
        }
    }

    /// Whether someone waits for it, holds on to it, or it is being fetched for.
    fn is_busy(&self) -> bool {
        Arc::strong_count(&self.cache) > 1 || self.cache.is_fetching()
    }
}

impl<K: Key + ?Sized, S: Stamp> Tenants<K, S> {
    pub(super) fn new(
        make: Make<K, S>,
        stamp: S,
        clocks: Clocks,
        limits: Limits,
        places: usize,
    ) -> Arc<Self> {
        let stamp = Arc::new(stamp);
        let nothing = BoxTokenSource::new(nothing::Nothing);
        let settings = limits.settings(0);
        let tenants = Arc::new(Self {
            // Keys are few and come seldom: to look at two tables for each request until they are all
            // moved would cost more than to move them at once.
            map: HashMap::builder().resize_mode(ResizeMode::Blocking).build(),
            tick: Tick(AtomicU64::new(0)),
            door: Mutex::new(Marks::new()),
            scheduler: Scheduler::new(clocks.clone(), places),
            blank: Arc::new(Shared::new(
                nothing,
                Arc::clone(&stamp),
                clocks.clone(),
                settings,
            )),
            make,
            stamp,
            clocks,
            ids: RandomState::new(),
            limits,
            evictions: AtomicU64::new(0),
        });
        let itself = Arc::downgrade(&tenants);
        tenants.scheduler.set_keeper(itself);
        tenants
    }

    #[inline]
    pub(super) fn guard(&self) -> LocalGuard<'_> {
        self.map.guard()
    }

    /// The tenant of this key, which counts as used. Takes no lock.
    #[inline]
    pub(super) fn find<'g>(&self, key: &K, guard: &'g LocalGuard<'_>) -> Option<&'g Tenant<S>> {
        let tenant = self.map.get(key, guard)?;
        tenant.touch(self.tick.0.load(Ordering::Relaxed));
        Some(tenant)
    }

    /// The cache of this key, if it is there. Does not count as a use.
    pub(super) fn peek(&self, key: &K) -> Option<Arc<TenantCache<S>>> {
        let guard = self.map.guard();
        let tenant = self.map.get(key, &guard)?;
        Some(Arc::clone(&tenant.cache))
    }

    /// The cache of this key, made if need be.
    pub(super) fn find_or_admit(&self, key: &K) -> Arc<TenantCache<S>> {
        let found = {
            let guard = self.map.guard();
            self.find(key, &guard)
                .map(|tenant| Arc::clone(&tenant.cache))
        };
        found.unwrap_or_else(|| self.admit(key.to_owned()))
    }

    /// Makes the cache of a key that was not there a moment ago.
    pub(super) fn admit(&self, key: K::Owned) -> Arc<TenantCache<S>> {
        // Not at the door: this is the user's code.
        let made = self.tenant(key.borrow());
        let made_cache = Arc::clone(&made.cache);
        let guard = self.map.guard();
        let mut evicted = Evicted::default();
        {
            let mut door = self.door();
            if let Some(tenant) = self.find(key.borrow(), &guard) {
                return Arc::clone(&tenant.cache);
            }
            let tick = self.tick.0.fetch_add(1, Ordering::Relaxed) + 1;
            made.touch(tick);
            self.map.insert(key, made, &guard);
            if self.map.len() > self.limits.max_keys {
                evicted = self.make_room(&mut door, &guard);
            }
        }
        guard.flush();
        drop(guard);
        evicted.tell(self.limits.max_keys);
        made_cache
    }

    pub(super) fn remove(&self, key: &K) -> bool {
        let guard = self.map.guard();
        let door = self.door();
        let is_removed = self.map.remove(key, &guard).is_some();
        drop(door);
        guard.flush();
        is_removed
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    pub(super) fn key_id(&self, key: &K) -> KeyId {
        KeyId::new(self.ids.hash_one(key))
    }

    fn tenant(&self, key: &K) -> Tenant<S> {
        let source = (self.make)(key);
        let seat = self.scheduler.seat();
        let number = seat.id();
        let mut cache = Shared::new(
            source,
            Arc::clone(&self.stamp),
            self.clocks.clone(),
            self.limits.settings(number),
        );
        cache.seat = Some(seat);
        let id = self.key_id(key);
        cache.meters.label_key(id);
        cache.key = Some(id);
        cache.shape = self.limits.shape;
        if self.scheduler.is_closed() {
            cache.lock().closed = true;
        }
        let origins = Origins::of_source(cache.description.origins());
        let cache = Arc::new(cache);
        let member = Arc::downgrade(&cache);
        self.scheduler.enroll(number, member);
        Tenant {
            cache,
            origins,
            used: AtomicU64::new(0),
        }
    }

    /// Removes the least recently used keys, and a few more than there have to be, because to find them
    /// costs a look at all. Those that are busy go only if there are no others.
    fn make_room(&self, _: &mut Marks, guard: &LocalGuard<'_>) -> Evicted {
        let max = self.limits.max_keys;
        let mut surplus = self.map.len().saturating_sub(max - max / 16);
        let mut candidates: Vec<_> = self
            .map
            .iter(guard)
            .map(|(key, tenant)| (tenant.used.load(Ordering::Relaxed), key, tenant))
            .collect();
        candidates.sort_unstable_by_key(|(used, ..)| *used);
        let mut evicted = Evicted::default();
        let mut busy = Vec::new();
        for (_, key, tenant) in candidates {
            if surplus == 0 {
                break;
            }
            if tenant.is_busy() {
                busy.push(key);
                continue;
            }
            self.map.remove::<K>(key.borrow(), guard);
            evicted.idle += 1;
            surplus -= 1;
        }
        // Of these no more than there have to be.
        let surplus = self.map.len().saturating_sub(max);
        for key in busy.into_iter().take(surplus) {
            self.map.remove::<K>(key.borrow(), guard);
            evicted.busy += 1;
        }
        self.evictions
            .fetch_add(evicted.idle + evicted.busy, Ordering::Relaxed);
        evicted
    }

    fn door(&self) -> MutexGuard<'_, Marks> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Key + ?Sized, S: Stamp> Keeper for Tenants<K, S> {
    /// Removes the keys that nobody has used for too long.
    fn sweep(&self) -> Option<Duration> {
        let guard = self.map.guard();
        let mut marks = self.door();
        if self.map.is_empty() {
            marks.clear();
            return None;
        }
        let now = self.clocks.mono();
        let tick = self.tick.0.fetch_add(1, Ordering::Relaxed) + 1;
        marks.push_back((now, tick));
        let limit = now.checked_sub(self.limits.max_idle);
        let is_old = |mark: Option<&(Duration, u64)>| {
            mark.zip(limit).is_some_and(|((at, _), limit)| *at <= limit)
        };
        while is_old(marks.get(1)) {
            marks.pop_front();
        }
        let mut evicted = Evicted::default();
        if is_old(marks.front()) {
            let oldest = marks.front().map_or(0, |(_, tick)| *tick);
            for (key, tenant) in self.map.iter(&guard) {
                if tenant.used.load(Ordering::Relaxed) < oldest && !tenant.is_busy() {
                    self.map.remove::<K>(key.borrow(), &guard);
                    evicted.idle += 1;
                }
            }
            self.evictions.fetch_add(evicted.idle, Ordering::Relaxed);
        }
        drop(marks);
        guard.flush();
        drop(guard);
        evicted.tell(self.limits.max_keys);
        Some((self.limits.max_idle / SWEEPS_PER_LIFE).max(LEAST_PAUSE))
    }
}

/// Stands for all its tenants: a ticket tells which one it was.
impl<K: Key + ?Sized, S: Stamp> Watched for Tenants<K, S> {
    fn stamped_by(self: Arc<Self>, stamped: u64) -> Option<Arc<dyn Watched>> {
        let member = self.scheduler.member(stamped >> GENERATION_BITS)?;
        Some(member.watched())
    }

    fn source_name(&self) -> &str {
        self.blank.description.name()
    }

    fn refused(self: Arc<Self>, _: u64, _: Option<&str>) {}

    fn accepted(&self, _: u64) {}

    fn age(&self, _: u64) -> Option<Duration> {
        None
    }

    fn renewal(self: Arc<Self>, _: u64) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(std::future::ready(false))
    }
}

impl Limits {
    fn settings(&self, number: u64) -> Settings {
        Settings {
            options: self.options,
            seed: self
                .seed
                .map_or_else(|| fastrand::u64(..), |seed| seed.wrapping_add(number)),
            check_clock: self.check_clock,
            shards: 1,
        }
    }
}

#[derive(Default)]
struct Evicted {
    idle: u64,
    busy: u64,
}

impl Evicted {
    fn tell(&self, max_keys: usize) {
        if self.busy > 0 {
            tracing::warn!(
                max_keys,
                evicted = self.busy,
                "more keys are in use at once than are kept; the oldest had to go"
            );
        }
        if self.idle > 0 {
            tracing::debug!(
                max_keys,
                evicted = self.idle,
                "keys not in use were dropped"
            );
        }
    }
}

mod nothing {
    use tower_auth_core::{Credential, Description, Error, ErrorKind, Fetch, TokenSource};

    /// The source of no key. It is never asked.
    pub(super) struct Nothing;

    impl<T: Credential> TokenSource<T> for Nothing {
        async fn fetch(&self, _: &Fetch<T>) -> Result<T, Error> {
            Err(Error::new(
                ErrorKind::NotConfigured,
                "there is no credential without a key",
            ))
        }

        fn describe(&self) -> Description {
            Description::new("keyed credentials")
        }
    }
}

/// A ticket has 64 bits for a tenant's number and a generation. So many generations last for years at one
/// a second; the other 36 bits are a number for each of 68 billion tenants.
pub(super) const GENERATION_BITS: u32 = 28;
pub(super) const GENERATIONS: u64 = (1 << GENERATION_BITS) - 1;

const SWEEPS_PER_LIFE: u32 = 8;
const LEAST_PAUSE: Duration = Duration::from_secs(1);
