use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::task::Id;

/// How many fetches may run at once, with a way round those that hang.
///
/// A fetch that takes longer than a healthy issuer needs gives its place to the next one and goes on
/// without. Otherwise as many hanging keys as there are places would hold up all others for as long as a
/// fetch may take. What runs stays bounded: at most as many can begin as there are places, in each of
/// these intervals.
pub(super) struct Places {
    limit: usize,
    taken: HashSet<Id>,
    /// When those in a place lose it, earliest first; also those who have left it since.
    lapses: VecDeque<(u64, Id)>,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: HashSet::new(),
            lapses: VecDeque::new(),
        }
    }

    pub(super) fn is_one_free(&self) -> bool {
        self.taken.len() < self.limit
    }

    pub(super) fn take(&mut self, fetch: Id, now: u64) {
        let held = u64::try_from(HELD_FOR.as_nanos()).unwrap_or(u64::MAX);
        self.taken.insert(fetch);
        self.lapses.push_back((now.saturating_add(held), fetch));
    }

    pub(super) fn give_back(&mut self, fetch: Id) {
        self.taken.remove(&fetch);
        while let Some((_, first)) = self.lapses.front() {
            if self.taken.contains(first) {
                break;
            }
            self.lapses.pop_front();
        }
    }

    pub(super) fn come_to(&mut self, now: u64) {
        while let Some((at, fetch)) = self.lapses.front().copied() {
            if at > now {
                break;
            }
            self.lapses.pop_front();
            self.taken.remove(&fetch);
        }
    }

    pub(super) fn next_lapse(&self) -> Option<u64> {
        self.lapses.front().map(|(at, _)| *at)
    }
}

/// Well above what a healthy issuer takes, well below what a caller waits.
const HELD_FOR: Duration = Duration::from_secs(3);
