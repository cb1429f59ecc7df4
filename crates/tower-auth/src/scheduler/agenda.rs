use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::task::{AbortHandle, Id};

use super::places::Places;

/// Whom the worker has to look at, and when. Moments are on the runtime's clock, in nanoseconds.
pub(super) struct Agenda {
    due: BTreeSet<(u64, u64)>,
    /// Those with a moment or a fetch.
    members: HashMap<u64, Member>,
    fetches: HashMap<Id, u64>,
    places: Places,
    /// These are looked at in any case: they have a fetch under way and start no other.
    flying: Queue,
    /// Somebody waits for these, so they come before those whose time has come.
    wanted: Queue,
    regular: Queue,
}

#[derive(Default)]
struct Member {
    due: Option<u64>,
    fetch: Option<AbortHandle>,
}

impl Agenda {
    pub(super) fn new(places: usize) -> Self {
        Self {
            due: BTreeSet::new(),
            members: HashMap::new(),
            fetches: HashMap::new(),
            places: Places::new(places),
            flying: Queue::default(),
            wanted: Queue::default(),
            regular: Queue::default(),
        }
    }

    /// Somebody wants something from this member.
    pub(super) fn is_wanted(&mut self, id: u64) {
        if self.is_flying(id) {
            self.flying.push(id);
        } else {
            self.wanted.push(id);
        }
    }

    /// It is time for this member.
    pub(super) fn is_due(&mut self, id: u64) {
        if self.is_flying(id) {
            self.flying.push(id);
        } else {
            self.regular.push(id);
        }
    }

    pub(super) fn come_to(&mut self, now: u64) {
        self.places.come_to(now);
        while let Some((at, id)) = self.due.pop_first() {
            if at > now {
                self.due.insert((at, id));
                break;
            }
            if let Some(member) = self.members.get_mut(&id) {
                member.due = None;
            }
            self.is_due(id);
        }
    }

    /// Who is to be looked at next, if anybody can be now.
    pub(super) fn next(&mut self) -> Option<u64> {
        if let Some(id) = self.flying.pop() {
            return Some(id);
        }
        if !self.places.is_one_free() {
            return None;
        }
        self.wanted.pop().or_else(|| self.regular.pop())
    }

    /// Whether this member may be asked what it wants, which may be a fetch.
    pub(super) fn may_be_asked(&self, id: u64) -> bool {
        self.is_flying(id) || self.places.is_one_free()
    }

    /// When there will be somebody to look at. Asked when there is nobody now.
    pub(super) fn next_moment(&self) -> Option<u64> {
        let due = self.due.first().map(|(at, _)| *at);
        let someone_waits = !(self.wanted.is_empty() && self.regular.is_empty());
        let place = self.places.next_lapse().filter(|_| someone_waits);
        due.into_iter().chain(place).min()
    }

    pub(super) fn has_started(&mut self, id: u64, fetch: AbortHandle, now: u64) {
        self.places.take(fetch.id(), now);
        self.fetches.insert(fetch.id(), id);
        self.members.entry(id).or_default().fetch = Some(fetch);
    }

    /// The fetch has ended. Returns whose it was.
    pub(super) fn has_landed(&mut self, fetch: Id) -> Option<u64> {
        self.places.give_back(fetch);
        let id = self.fetches.remove(&fetch)?;
        if let Some(member) = self.members.get_mut(&id) {
            if member.fetch.as_ref().is_some_and(|own| own.id() == fetch) {
                member.fetch = None;
            }
        }
        self.is_wanted(id);
        Some(id)
    }

    /// Drops the member's fetch.
    pub(super) fn abandon(&mut self, id: u64) {
        let member = self.members.get_mut(&id);
        if let Some(fetch) = member.and_then(|member| member.fetch.take()) {
            self.places.give_back(fetch.id());
            self.fetches.remove(&fetch.id());
            fetch.abort();
        }
    }

    /// There is nothing to do for this member before the moment; without one, until it is wanted.
    pub(super) fn sleeps(&mut self, id: u64, until: Option<u64>) {
        let member = self.members.entry(id).or_default();
        if let Some(before) = member.due.take() {
            self.due.remove(&(before, id));
        }
        member.due = until;
        if let Some(at) = until {
            self.due.insert((at, id));
        } else if member.fetch.is_none() {
            self.members.remove(&id);
        }
    }

    pub(super) fn forget(&mut self, id: u64) {
        if let Some(Member { due: Some(at), .. }) = self.members.remove(&id) {
            self.due.remove(&(at, id));
        }
    }

    fn is_flying(&self, id: u64) -> bool {
        self.members
            .get(&id)
            .is_some_and(|member| member.fetch.is_some())
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// First in, first out, each once.
#[derive(Default)]
struct Queue {
    order: VecDeque<u64>,
    there: HashSet<u64>,
}

impl Queue {
    fn push(&mut self, id: u64) {
        if self.there.insert(id) {
            self.order.push_back(id);
        }
    }

    fn pop(&mut self) -> Option<u64> {
        let id = self.order.pop_front()?;
        self.there.remove(&id);
        Some(id)
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
