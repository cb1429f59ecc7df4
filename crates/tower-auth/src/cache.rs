use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tower_auth_core::{
    Caching, Clock, Credential, Error, ErrorKind, Expiry, Fetch, Reason, Stamp, TokenSource,
};

use crate::Headers;
use crate::cell::{Phase, Snapshot, default_shards};
use crate::clock::Clocks;
use crate::diagnosis::Diagnosis;
use crate::driver::{self, Driver};
use crate::health::{Health, HealthSubscription};
use crate::policy::{Patience, RefreshOptions, View};
use crate::receipt::Receipt;
use crate::shape::Shape;
use crate::shared::{Settings, Shared};

/// A credential that is always ready: fetched once for everybody, renewed in the background before it
/// expires, replaced when the API refuses it.
///
/// This is a handle; clones share one cache. [`AuthLayer::new`](crate::AuthLayer::new) makes one by
/// itself, so it is needed by name only to share it between layers, to wait for it at start-up, to watch
/// it, or to use a credential where there is no tower service.
///
/// Nothing happens before the first use: the first caller starts the fetch, on the tokio runtime it runs
/// on. The background task ends with the last handle.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// use std::time::Duration;
/// use tower_auth::{Fetch, Token, TokenCache, source_fn};
///
/// let cache = TokenCache::new(source_fn(|_cx: Fetch| async {
///     Ok(Token::bearer("an-access-token").expires_in(Duration::from_secs(600)))
/// }));
/// cache.ready().await?;
/// assert_eq!(cache.health().generation(), 1);
/// # Ok(()) }
/// ```
pub struct TokenCache<P, S: Stamp = Headers> {
    pub(crate) shared: Arc<Shared<P, S>>,
}

impl<P> TokenCache<P>
where
    P: TokenSource,
{
    /// A cache in front of this source, with the default refresh rules.
    pub fn new(source: P) -> Self {
        Self::builder(source).build()
    }

    /// A cache, and the future that keeps it fresh, for those who spawn their tasks themselves.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let (cache, driver) = tower_auth::TokenCache::pair("a-fixed-token");
    /// let task = tokio::spawn(driver);
    /// cache.ready().await?;
    /// drop(cache);
    /// task.await.expect("the driver ends with the last handle");
    /// # Ok(()) }
    /// ```
    pub fn pair(source: P) -> (Self, Driver) {
        Self::builder(source).pair()
    }
}

impl<P> TokenCache<P> {
    /// A cache with other than the default settings.
    pub fn builder(source: P) -> TokenCacheBuilder<P> {
        TokenCacheBuilder {
            source,
            stamp: Headers::new(),
            options: RefreshOptions::default(),
            clock: None,
            check_clock: true,
            shards: None,
            shape: Shape::default(),
            seed: None,
        }
    }
}

impl<P, S> TokenCache<P, S>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    /// The credential, if there is one that may be used now. Never waits and starts nothing.
    #[must_use]
    pub fn current(&self) -> Option<Arc<S::Credential>> {
        self.shared
            .usable()
            .and_then(|snapshot| credential(&snapshot))
    }

    /// The credential, fetched if need be. However many callers wait, one fetch runs.
    ///
    /// # Errors
    /// Why there is none: the source's own error, [`Expired`](ErrorKind::Expired) if there was one and
    /// its renewal fails, [`Overloaded`](ErrorKind::Overloaded) if too many callers wait already.
    pub async fn get(&self) -> Result<Arc<S::Credential>, Error> {
        let snapshot = self.shared.obtain().await?;
        credential(&snapshot).ok_or_else(|| self.shared.nothing_usable(None))
    }

    /// Waits until there is a credential: for start-up, so that a wrong configuration shows at once.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn ready(&self) -> Result<(), Error> {
        self.get().await.map(drop)
    }

    /// Fetches a new credential, whatever the state of the present one, and waits for it. Calls are
    /// rate-limited: in quick succession they share fetches or wait.
    ///
    /// # Errors
    /// Why the fetch failed. The present credential stays in use as long as it is valid.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.shared.refresh().await
    }

    /// Says that an API refused the credential of this receipt. The layer does this by itself.
    ///
    /// Only the generation that was refused is replaced: a receipt older than the present credential
    /// changes nothing.
    pub fn reject(&self, receipt: &Receipt) {
        self.shared.reject(receipt.generation(), None);
    }

    /// How it is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Everything that is known about the credential and why it is, or is not, the right one. Asks nobody
    /// and changes nothing; to see a first attempt in it, call [`ready`](Self::ready) before.
    #[must_use]
    pub fn diagnose(&self) -> Diagnosis {
        self.shared.diagnose(false)
    }

    /// As [`diagnose`](Self::diagnose), with what the credential says about itself if it is a JWT: issuer,
    /// subject, audience and end. A subject may be a person's name, so this does not belong in every log.
    #[must_use]
    pub fn diagnose_with_claims(&self) -> Diagnosis {
        self.shared.diagnose(true)
    }

    /// Follows how it is doing.
    #[must_use]
    pub fn subscribe(&self) -> HealthSubscription {
        HealthSubscription::new(self.shared.subscribe())
    }

    /// Ends the background task and waits for its end. A fetch under way is dropped. The credential that
    /// is there serves until its end; after that, callers get an error.
    pub async fn shutdown(&self) {
        let wake = |shared: &Shared<P, S>| {
            let mut state = shared.lock();
            state.closed = true;
            state.worker.wake();
            state.worker.is_running()
        };
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if !wake(&self.shared) {
                self.shared.changed.notify_waiters();
                return;
            }
            changed.await;
        }
    }
}

fn credential<S: Stamp>(snapshot: &Snapshot<S>) -> Option<Arc<S::Credential>> {
    snapshot.held.as_ref().map(|held| {
        held.mark_used();
        Arc::clone(&held.credential)
    })
}

impl<P, S> Shared<P, S>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    /// Waits for a credential that may be stamped, at most for the wait budget. On success the snapshot
    /// holds one.
    pub(crate) async fn obtain(self: &Arc<Self>) -> Result<Arc<Snapshot<S>>, Error> {
        if self.caching == Caching::PerRequest {
            return self.fetch_for_one_request().await;
        }
        if let Some(snapshot) = self.usable() {
            return Ok(snapshot);
        }
        let _place = Place::take(self)?;
        let deadline = self.clocks.mono() + self.wait_budget;
        let mut woken = None;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(snapshot) = self.usable() {
                return Ok(snapshot);
            }
            if !self.worth_waiting(deadline) {
                return self.second_best();
            }
            woken = driver::engage(self, woken)?;
            self.wait(changed, deadline).await;
        }
    }

    /// Waits until there is a usable credential newer than this generation. `false` as soon as it is
    /// clear that there will be none within the wait budget.
    pub(crate) async fn renewed(self: &Arc<Self>, generation: u64) -> bool {
        let deadline = self.clocks.mono() + self.wait_budget;
        let mut woken = None;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let snapshot = self.cell.load();
            if snapshot.generation > generation && snapshot.phase == Phase::Ready {
                return true;
            }
            // A refused credential that is in use again means that its renewal has failed.
            if snapshot.phase == Phase::Ready || !self.worth_waiting(deadline) {
                return false;
            }
            let Ok(seen) = driver::engage(self, woken) else {
                return false;
            };
            woken = seen;
            self.wait(changed, deadline).await;
        }
    }

    /// Has a new credential fetched and waits for the outcome.
    pub(crate) async fn refresh(self: &Arc<Self>) -> Result<(), Error> {
        let deadline = self.clocks.mono() + self.wait_budget;
        let mut woken = None;
        let landings = {
            let mut state = self.lock();
            state.machine.force(self.clocks.now());
            state.landings
        };
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.lock();
                if state.landings > landings {
                    return match &state.last_error {
                        Some(error) => Err(error.clone()),
                        None => Ok(()),
                    };
                }
            }
            if self.clocks.mono() >= deadline {
                return Err(self.no_answer_in_time());
            }
            woken = driver::engage(self, woken)?;
            self.wait(changed, deadline).await;
        }
    }

    /// Whether a caller that can wait until `deadline` has a chance. Tells the policy that somebody
    /// waits.
    fn worth_waiting(&self, deadline: Duration) -> bool {
        let now = self.clocks.now();
        let mut state = self.lock();
        state.machine.demand(now);
        let patience = state.machine.patience(now, deadline);
        self.publish(&mut state);
        now.mono < deadline && patience == Patience::Wait
    }

    /// What a caller gets that has waited in vain: the refused credential, if it has not ended (the API
    /// decides), or else the reason.
    fn second_best(&self) -> Result<Arc<Snapshot<S>>, Error> {
        let (view, error) = {
            let state = self.lock();
            (state.machine.view(), state.last_error.clone())
        };
        let snapshot = self.cell.load();
        if snapshot.held.is_some() && matches!(view, View::Renewing { .. }) {
            return Ok(snapshot);
        }
        // It may have been published just now.
        self.usable().ok_or_else(|| self.nothing_usable(error))
    }

    pub(crate) fn nothing_usable(&self, cause: Option<Error>) -> Error {
        let had_one = self.cell.load().generation > 0;
        match cause {
            Some(error) if !had_one => error,
            Some(error) => {
                let expired = Error::new(
                    ErrorKind::Expired,
                    "the credential has run out and its renewal fails",
                )
                .with_source_name(self.description.name().to_owned());
                match self.lock().notes.suspicion() {
                    Some(hint) => expired.with_hint(hint),
                    None => expired,
                }
                .with_cause(error)
            }
            None => self.no_answer_in_time(),
        }
    }

    /// Sleeps until something changes, the deadline comes, or it is time to look whether the worker is
    /// alive.
    async fn wait(&self, changed: impl Future<Output = ()>, deadline: Duration) {
        let look = self.clocks.mono() + driver::PATIENCE_WITH_WORKER;
        let until = self.clocks.instant(look.min(deadline));
        let _ = tokio::time::timeout_at(until, changed).await;
    }

    async fn fetch_for_one_request(self: &Arc<Self>) -> Result<Arc<Snapshot<S>>, Error> {
        let named = |error: Error| error.or_source(self.description.name().to_owned());
        let cx = Fetch::new(Reason::First).with_timeout(self.wait_budget);
        let sent = self.clocks.now();
        let fetched = driver::fetch(Arc::clone(&self.source), cx)
            .await
            .map_err(named)?;
        if fetched.expiry() == Expiry::In(Duration::ZERO) {
            return Err(named(Error::new(
                ErrorKind::Malformed,
                "the credential had expired on arrival",
            )));
        }
        let (held, _, _) = self.prepare(&Arc::new(fetched), sent.mono)?;
        Ok(Arc::new(Snapshot {
            safe_end: u64::MAX,
            held: Some(held),
            ..Snapshot::empty()
        }))
    }
}

/// One of the limited places in the queue of those who wait.
struct Place<'a, P, S: Stamp>(&'a Shared<P, S>);

impl<'a, P, S: Stamp> Place<'a, P, S> {
    fn take(shared: &'a Shared<P, S>) -> Result<Self, Error> {
        let limit = shared.waiter_limit;
        let mut state = shared.lock();
        if state.waiters >= limit {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!("{limit} callers already wait for a credential"),
            )
            .with_source_name(shared.description.name().to_owned()));
        }
        state.waiters += 1;
        shared.meters.waiting(state.waiters);
        drop(state);
        Ok(Self(shared))
    }
}

impl<P, S: Stamp> Drop for Place<'_, P, S> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiters -= 1;
        self.0.meters.waiting(state.waiters);
    }
}

/// Settings of a [`TokenCache`]. Made by [`TokenCache::builder`].
///
/// ```
/// use tower_auth::{TokenCache, policy::{Profile, RefreshOptions}};
///
/// let cache = TokenCache::builder("a-fixed-token")
///     .refresh(RefreshOptions::default().with_profile(Profile::Frugal))
///     .build();
/// # let _ = cache;
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct TokenCacheBuilder<P, S = Headers> {
    source: P,
    stamp: S,
    options: RefreshOptions,
    clock: Option<Arc<dyn Clock>>,
    check_clock: bool,
    shards: Option<usize>,
    shape: Shape,
    seed: Option<u64>,
}

impl<P, S> TokenCacheBuilder<P, S> {
    /// Stamps in another way than as a plain header.
    pub fn stamp<Z: Stamp>(self, stamp: Z) -> TokenCacheBuilder<P, Z> {
        TokenCacheBuilder {
            source: self.source,
            stamp,
            options: self.options,
            clock: self.clock,
            check_clock: self.check_clock,
            shards: self.shards,
            shape: self.shape,
            seed: self.seed,
        }
    }

    /// When to refresh, how long to wait, how to back off.
    pub fn refresh(mut self, options: RefreshOptions) -> Self {
        self.options = options;
        self
    }

    /// Another wall clock than the system's. It is read for each request.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Does not compare the wall clock with the credential's end for each request, which saves about
    /// two nanoseconds. The background task still takes an expired credential away; what is lost is the
    /// protection of a process that was suspended or starved.
    pub fn without_clock_check(mut self) -> Self {
        self.check_clock = false;
        self
    }

    /// How many copies of a credential are kept, so that threads do not count references on the same
    /// cache line: rounded up to a power of two, at most 64. One per core where this is not called.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// What happens to a token whose shape does not fit its header: a placeholder, an OAuth token in the
    /// place of an API key. [`Shape::Warn`] where this is not called.
    pub fn shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// Draws all randomness of the refresh times from this seed, for tests and simulations.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The cache. It spawns its background task when it is first used, on the runtime of that use.
    pub fn build(self) -> TokenCache<P, S>
    where
        P: TokenSource<S::Credential>,
        S: Stamp,
    {
        let mut clocks = self.clock.map_or_else(Clocks::coarse, Clocks::with_wall);
        if !self.check_clock {
            clocks = clocks.not_per_request();
        }
        let shards = self.shards.map_or_else(default_shards, |shards| {
            shards.clamp(1, crate::cell::MAX_SHARDS).next_power_of_two()
        });
        let mut shared = Shared::new(
            self.source,
            self.stamp,
            clocks,
            Settings {
                options: self.options,
                seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
                check_clock: self.check_clock,
                shards,
            },
        );
        shared.shape = self.shape;
        TokenCache {
            shared: Arc::new(shared),
        }
    }

    /// The cache and its background task, to be spawned by the caller.
    pub fn pair(self) -> (TokenCache<P, S>, Driver)
    where
        P: TokenSource<S::Credential>,
        S: Stamp,
    {
        let cache = self.build();
        let driver = driver::pair(&cache.shared);
        (cache, driver)
    }
}

impl<P, S: Stamp> Clone for TokenCache<P, S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<P, S: Stamp> fmt::Debug for TokenCache<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenCache").field(&self.shared).finish()
    }
}

impl<P, S> fmt::Debug for TokenCacheBuilder<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCacheBuilder")
            .field("options", &self.options)
            .field("check_clock", &self.check_clock)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}
