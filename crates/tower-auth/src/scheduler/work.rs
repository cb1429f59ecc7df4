use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Scheduler;
use super::agenda::{Agenda, nanos};
use crate::driver::sleep_until;
use crate::shared::Next;

/// The background task of a scheduler. Its end is noted however it goes, also if it is dropped before it
/// was polled.
pub(super) fn run(
    scheduler: Weak<Scheduler>,
    number: u64,
    wake: Arc<Notify>,
) -> impl Future<Output = ()> + Send {
    let end = NoteEnd { scheduler, number };
    work_off(end, wake)
}

async fn work_off(end: NoteEnd, wake: Arc<Notify>) {
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
        for id in scheduler.numbers() {
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
