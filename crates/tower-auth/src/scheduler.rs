//! One background task for many caches.

mod agenda;
mod places;
mod work;

use std::collections::HashMap;
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, TryCurrentError};
use tokio::sync::Notify;
use tower_auth_core::{Stamp, TokenSource};

use crate::clock::Clocks;
use crate::driver::{Woken, Worker};
use crate::registry::Watched;
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

    fn numbers(&self) -> Vec<u64> {
        self.lock().members.keys().copied().collect()
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
        // Not under the lock, as for the driver of a single cache.
        drop(runtime.spawn(work::run(Arc::downgrade(scheduler), number, wake)));
        Ok(None)
    }
}

/// Members' numbers go round after this one.
const NUMBERS: u64 = (1 << 36) - 1;
