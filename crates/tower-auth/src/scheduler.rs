//! One background task for many caches.

mod agenda;
mod places;

use std::collections::HashMap;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Handle, TryCurrentError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tower_auth_core::{Stamp, TokenSource};

use crate::clock::Clocks;
use crate::driver::{Woken, Worker, sleep_until};
use crate::registry::Watched;
use crate::scheduler::agenda::{Agenda, nanos};
use crate::shared::{Next, Shared};

/// Drives the caches of many keys with one task: a cache that waits for its time costs an entry in an
/// ordered set, not a task with a timer.
///
/// As the driver of a single cache, the task is spawned when it is first needed, on the runtime of that
/// use, holds nothing alive, and is replaced when its runtime is gone or does not poll it. Each fetch is a
/// task of its own for as long as it runs, so that one key's source cannot hold up another's.
pub(crate) struct Scheduler {
    clocks: Clocks,
    /// How many fetches may run at once.
    places: usize,
    keeper: OnceLock<Weak<dyn Keeper>>,
    roster: Mutex<Roster>,
    /// Woken when a worker ends.
    ended: Notify,
}

/// A cache, as the scheduler sees it.
pub(crate) trait Member: Send + Sync {
    /// What is to be done, for the worker of this number, which takes over from any before it.
    fn next(self: Arc<Self>, worker: u64) -> Next;
    /// Allows no further fetch.
    fn close(&self);
    /// The worker, or a fetch of its, has ended without saying so.
    fn ended(&self, worker: u64);
    fn watched(self: Arc<Self>) -> Arc<dyn Watched>;
}

impl<P, S> Member for Shared<P, S>
where
    P: TokenSource<S::Credential>,
    S: Stamp,
{
    fn next(self: Arc<Self>, worker: u64) -> Next {
        if let Some(seat) = &self.seat {
            let mut state = self.lock();
            if state.worker.adopt(worker, seat) {
                state.abandon_flight(self.clocks.now());
            }
        }
        self.advance(worker)
    }

    fn close(&self) {
        self.lock().closed = true;
    }

    fn ended(&self, worker: u64) {
        self.worker_ended(worker);
    }

    fn watched(self: Arc<Self>) -> Arc<dyn Watched> {
        self
    }
}

/// Whoever keeps the members, and looks now and then which to let go.
pub(crate) trait Keeper: Send + Sync {
    /// Lets go whom it wants to, and says how long until the next look; `None` if there is nobody left.
    fn sweep(&self) -> Option<Duration>;
}

struct Roster {
    worker: Worker,
    closed: bool,
    next: u64,
    members: HashMap<u64, Enrolled>,
    /// Those that the worker is to look at.
    woken: Vec<u64>,
}

struct Enrolled {
    member: Weak<dyn Member>,
    is_woken: bool,
}

impl Scheduler {
    pub(crate) fn new(clocks: Clocks, places: usize) -> Arc<Self> {
        Arc::new(Self {
            clocks,
            places: places.max(1),
            keeper: OnceLock::new(),
            roster: Mutex::new(Roster {
                worker: Worker::default(),
                closed: false,
                next: 1,
                members: HashMap::new(),
                woken: Vec::new(),
            }),
            ended: Notify::new(),
        })
    }

    /// Names the keeper, once.
    pub(crate) fn set_keeper(&self, keeper: Weak<dyn Keeper>) {
        let _ = self.keeper.set(keeper);
    }

    /// A seat for a member that is about to be made.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        let mut roster = self.lock();
        let id = roster.next_number();
        Seat {
            scheduler: Arc::clone(self),
            id,
        }
    }

    pub(crate) fn enroll(&self, id: u64, member: Weak<dyn Member>) {
        let enrolled = Enrolled {
            member,
            is_woken: false,
        };
        self.lock().members.insert(id, enrolled);
    }

    pub(crate) fn member(&self, id: u64) -> Option<Arc<dyn Member>> {
        self.lock()
            .members
            .get(&id)
            .and_then(|enrolled| enrolled.member.upgrade())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Ends the worker and allows no other. Returns when it has ended.
    pub(crate) async fn shutdown(&self) {
        self.lock().closed = true;
        for member in self.members() {
            member.close();
        }
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            {
                let roster = self.lock();
                if !roster.worker.is_running() {
                    break;
                }
                roster.worker.wake();
            }
            ended.await;
        }
        self.ended.notify_waiters();
    }

    /// Out of the lock: the last reference to a member must not be dropped under it.
    fn members(&self) -> Vec<Arc<dyn Member>> {
        self.lock()
            .members
            .values()
            .filter_map(|enrolled| enrolled.member.upgrade())
            .collect()
    }

    /// A sign of life of the worker of this number, which gets those who are to be looked at. `None` if
    /// it has to go.
    fn beat(&self, worker: u64) -> Option<Vec<u64>> {
        let mut roster = self.lock();
        if roster.closed || !roster.worker.beat(worker) {
            return None;
        }
        let woken = mem::take(&mut roster.woken);
        for id in &woken {
            if let Some(enrolled) = roster.members.get_mut(id) {
                enrolled.is_woken = false;
            }
        }
        Some(woken)
    }

    fn worker_ended(&self, worker: u64) {
        let was_current = self.lock().worker.end(worker);
        if was_current {
            for member in self.members() {
                member.ended(worker);
            }
            self.ended.notify_waiters();
        }
    }

    fn sweep(&self) -> Option<Duration> {
        self.keeper.get()?.upgrade()?.sweep()
    }

    fn lock(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Roster {
    /// A number that no member has.
    fn next_number(&mut self) -> u64 {
        loop {
            let number = self.next;
            self.next = (self.next + 1) & NUMBERS;
            if !self.members.contains_key(&number) {
                return number;
            }
        }
    }

    fn wake(&mut self, id: u64) {
        let news = match self.members.get_mut(&id) {
            Some(enrolled) => !mem::replace(&mut enrolled.is_woken, true),
            None => true,
        };
        if news {
            self.woken.push(id);
        }
        self.worker.wake();
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.roster
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .worker
            .wake();
    }
}

/// A member's place with its scheduler.
#[derive(Clone)]
pub(crate) struct Seat {
    scheduler: Arc<Scheduler>,
    id: u64,
}

impl Seat {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Has the worker look at this member.
    pub(crate) fn wake(&self) {
        self.scheduler.lock().wake(self.id);
    }

    /// The member is gone.
    pub(crate) fn leave(&self) {
        let mut roster = self.scheduler.lock();
        let gone = roster.members.remove(&self.id);
        // Without a worker there is nobody to tell, and no reason to remember it.
        if roster.worker.is_running() {
            roster.wake(self.id);
        }
        drop(roster);
        drop(gone);
    }

    /// As [`engage`](crate::driver::engage) does for a cache with a worker of its own.
    pub(crate) fn engage(&self, before: Option<Woken>) -> Result<Option<Woken>, TryCurrentError> {
        let scheduler = &self.scheduler;
        let (number, wake, runtime) = {
            let mut roster = scheduler.lock();
            roster.wake(self.id);
            if let Some(woken) = roster.worker.look(before, scheduler.clocks.mono()) {
                return Ok(Some(woken));
            }
            let runtime = Handle::try_current()?;
            let (number, wake) = roster.worker.install();
            (number, wake, runtime)
        };
        let end = NoteEnd {
            scheduler: Arc::downgrade(scheduler),
            number,
        };
        // Not under the lock, as for the driver of a single cache.
        drop(runtime.spawn(run(end, wake)));
        Ok(None)
    }
}

async fn run(end: NoteEnd, wake: Arc<Notify>) {
    let mut work = None;
    loop {
        let pause = {
            let Some(scheduler) = end.scheduler.upgrade() else {
                return;
            };
            let Some(woken) = scheduler.beat(end.number) else {
                return;
            };
            let work = work.get_or_insert_with(|| Work::take_over(&scheduler, end.number));
            work.turn(&scheduler, woken)
        };
        let Some(work) = &mut work else { return };
        match pause {
            // Others have their turn, and a sign of life is given.
            Pause::Short => tokio::task::yield_now().await,
            Pause::Until(moment) => work.wait(moment, &wake).await,
        }
    }
}

enum Pause {
    Short,
    Until(Option<tokio::time::Instant>),
}

/// What the worker has before it.
struct Work {
    number: u64,
    agenda: Agenda,
    flights: JoinSet<()>,
    /// Whose fetch has ended without a word: what handled its result panicked.
    lost: Vec<u64>,
    /// On the runtime's clock, in nanoseconds.
    next_sweep: Option<u64>,
}

impl Work {
    /// Looks at every member there is: a worker before this one may have left things undone.
    fn take_over(scheduler: &Scheduler, number: u64) -> Self {
        let mut agenda = Agenda::new(scheduler.places);
        let members: Vec<u64> = scheduler.lock().members.keys().copied().collect();
        for id in members {
            agenda.is_due(id);
        }
        Self {
            number,
            agenda,
            flights: JoinSet::new(),
            lost: Vec::new(),
            next_sweep: None,
        }
    }

    fn turn(&mut self, scheduler: &Arc<Scheduler>, woken: Vec<u64>) -> Pause {
        let now = nanos(scheduler.clocks.mono());
        for id in woken {
            self.agenda.is_wanted(id);
        }
        for id in mem::take(&mut self.lost) {
            if let Some(member) = scheduler.member(id) {
                member.ended(self.number);
            }
        }
        self.agenda.come_to(now);
        if self.next_sweep.is_none_or(|at| at <= now) {
            self.next_sweep = scheduler
                .sweep()
                .map(|pause| now.saturating_add(nanos(pause)));
        }
        for _ in 0..MEMBERS_PER_TURN {
            let Some(id) = self.agenda.next() else {
                let moment = self.agenda.next_moment().into_iter().chain(self.next_sweep);
                return Pause::Until(
                    moment
                        .min()
                        .map(|at| scheduler.clocks.instant(Duration::from_nanos(at))),
                );
            };
            self.look_at(scheduler, id, now);
        }
        Pause::Short
    }

    fn look_at(&mut self, scheduler: &Scheduler, id: u64, now: u64) {
        let Some(member) = scheduler.member(id) else {
            // Its fetch, if there is one, ends by itself: what it did at the issuer is done.
            return self.agenda.forget(id);
        };
        if !self.agenda.may_be_asked(id) {
            return self.agenda.is_due(id);
        }
        match Arc::clone(&member).next(self.number) {
            Next::Fetch(flight) => {
                let handle = self.flights.spawn(flight);
                self.agenda.has_started(id, handle, now);
                // It has more to say: when to look at it again.
                self.agenda.is_due(id);
            }
            Next::Abandon => {
                self.agenda.abandon(id);
                self.agenda.is_due(id);
            }
            Next::Sleep(until) => self.agenda.sleeps(id, until.map(nanos)),
            Next::End => {
                self.agenda.abandon(id);
                self.agenda.forget(id);
                member.ended(self.number);
            }
        }
        // The last reference may go with this one; its seat is left then.
        drop(member);
    }

    /// Waits for the moment, a wake-up, or the end of a fetch.
    async fn wait(&mut self, moment: Option<tokio::time::Instant>, wake: &Notify) {
        let mut timer = pin!(sleep_until(moment));
        let mut woken = pin!(wake.notified());
        let (agenda, flights, lost) = (&mut self.agenda, &mut self.flights, &mut self.lost);
        poll_fn(|cx| {
            let mut has_news = false;
            while let Poll::Ready(Some(landed)) = flights.poll_join_next_with_id(cx) {
                has_news = true;
                match landed {
                    Ok((fetch, ())) => {
                        agenda.has_landed(fetch);
                    }
                    Err(cause) => lost.extend(agenda.has_landed(cause.id())),
                }
            }
            if has_news || timer.as_mut().poll(cx).is_ready() || woken.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Tells the scheduler when its worker is gone, however it went.
struct NoteEnd {
    scheduler: Weak<Scheduler>,
    number: u64,
}

impl Drop for NoteEnd {
    fn drop(&mut self) {
        if let Some(scheduler) = self.scheduler.upgrade() {
            scheduler.worker_ended(self.number);
        }
    }
}

/// After so many the worker lets other tasks of its thread have a turn.
const MEMBERS_PER_TURN: usize = 128;

/// Members' numbers go round after this one.
pub(crate) const NUMBERS: u64 = (1 << 36) - 1;
