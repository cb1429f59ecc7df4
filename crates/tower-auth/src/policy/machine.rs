mod arrival;
mod flight;

use std::time::Duration;

use fastrand::Rng;
use tower_auth_core::{ErrorKind, Fingerprint, Reason};

use super::backoff::{Standing, Trouble};
use super::force::{Forcing, Pending};
use super::timeline::Timeline;
use super::{
    Arrival, Facts, Failure, KeepReason, Now, Patience, RefreshOptions, Rejection, Step, Verdict,
    View,
};

/// The rules of one cache. See the [module](super) for how to drive it.
///
/// It never blocks, reads no clock, and draws its chances from a generator with a given seed: the same
/// events at the same times lead to the same decisions.
#[derive(Debug)]
pub struct Machine {
    options: RefreshOptions,
    rng: Rng,
    timeline: Timeline,
    held: Option<Held>,
    generations: u64,
    flight: Option<Flight>,
    flights: u64,
    /// On the monotonic clock: a wall clock that is set forward must not shorten the spacing.
    last_start: Option<Duration>,
    /// The last moment at which a caller found nothing, while that calls for a flight.
    demanded: Option<Duration>,
    trouble: Trouble,
    forcing: Forcing,
    aborts: u32,
    no_progress: u32,
    clock_jumps: u64,
}

/// The credential that callers have. Times are on the timeline.
#[derive(Clone, Copy, Debug)]
struct Held {
    generation: u64,
    fingerprint: Fingerprint,
    life: Option<Life>,
    is_used: bool,
    rejected: Option<Duration>,
    is_accepted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Life {
    end: Duration,
    safe_end: Duration,
    refresh_at: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    id: u64,
    reason: Reason,
    start: Duration,
    timeout: Duration,
}

impl Machine {
    /// A machine that holds nothing. `seed` should differ between the processes of a fleet.
    #[must_use]
    pub fn new(options: RefreshOptions, seed: u64) -> Self {
        Self {
            options,
            rng: Rng::with_seed(seed),
            timeline: Timeline::default(),
            held: None,
            generations: 0,
            flight: None,
            flights: 0,
            last_start: None,
            demanded: None,
            trouble: Trouble::default(),
            forcing: Forcing::default(),
            aborts: 0,
            no_progress: 0,
            clock_jumps: 0,
        }
    }

    /// A caller found nothing usable and waits, or would like to. Each caller says so when it begins; a
    /// flight is started, and tried again for as long as a caller may wait.
    pub fn demand(&mut self, now: Now) {
        let time = self.observe(now);
        if !self.is_usable(time) {
            self.demanded = Some(time);
        }
    }

    /// The generation was stamped at least once. One that never was is not renewed.
    pub fn used(&mut self, generation: u64) {
        if let Some(held) = &mut self.held {
            held.is_used |= held.generation == generation;
        }
    }

    /// The flight brought a credential.
    pub fn fetched(&mut self, now: Now, arrival: Arrival) -> Verdict {
        let time = self.observe(now);
        let flight = self.flight.take();
        self.aborts = 0;
        let life = self.life(now, time, arrival.lifetime, flight);
        if life.is_some_and(|(life, _)| time >= life.safe_end) {
            self.record(time, Failure::new(ErrorKind::Unavailable));
            return Verdict::Keep(KeepReason::ExpiredOnArrival);
        }
        if let Some(reason) = self.objection(time, &arrival, life, flight) {
            self.trouble.clear();
            self.postpone(time, reason, life.map(|(_, total)| total));
            return Verdict::Keep(reason);
        }
        Verdict::Publish {
            generation: self.publish(time, arrival, life, flight),
        }
    }

    /// The flight failed. Nothing that is held is lost by it, and no failure is the last word.
    pub fn failed(&mut self, now: Now, failure: Failure) {
        let time = self.observe(now);
        if self.flight.take().is_some() {
            self.aborts = 0;
            self.record(time, failure);
        }
    }

    /// The driver died with a flight in the air. Nobody is to blame the first time, so it is tried again
    /// at once; from the second time in a row it counts as a failure.
    pub fn aborted(&mut self, now: Now) {
        let time = self.observe(now);
        let Some(flight) = self.flight.take() else {
            return;
        };
        self.aborts = self.aborts.saturating_add(1);
        if self.aborts > 1 {
            self.record(time, Failure::new(ErrorKind::Unavailable));
        } else if matches!(flight.reason, Reason::First | Reason::Expired) {
            self.demanded = Some(time);
        }
    }

    /// The API refused this generation.
    pub fn rejected(&mut self, now: Now, generation: u64) -> Rejection {
        let time = self.observe(now);
        let is_usable = self.is_usable(time);
        let Some(held) = &mut self.held else {
            return Rejection::Stale;
        };
        if held.generation != generation {
            return Rejection::Stale;
        }
        if held.life.is_none() {
            return Rejection::NotRenewable;
        }
        held.rejected.get_or_insert(time);
        let is_trusted = held.is_accepted;
        self.forcing.refuse(held.fingerprint);
        if self.is_forced() {
            return Rejection::Renewing;
        }
        let next_try = self.trouble.next_try(is_usable);
        let delay = self.options.force_delay();
        if next_try > time.saturating_add(delay) && self.flight.is_none() {
            return self.cooling(next_try);
        }
        let pending = Pending {
            at: time.saturating_add(delay.mul_f64(self.rng.f64())),
            reason: Reason::Rejected,
        };
        match self.forcing.request(time, pending, is_trusted) {
            Ok(()) => Rejection::Renewing,
            Err(until) => self.cooling(until),
        }
    }

    /// The API took this generation: what was suspected of it is forgotten. It is enough to call this for
    /// the first answer after each [`View::Ready`] that is `suspected`.
    pub fn accepted(&mut self, now: Now, generation: u64) {
        self.observe(now);
        if let Some(held) = &mut self.held {
            if held.generation == generation {
                held.is_accepted = true;
                held.rejected = None;
                self.forcing.absolve(held.fingerprint);
                if self.forcing.pending().is_some_and(is_for_rejection) {
                    self.forcing.withdraw();
                }
            }
        }
    }

    /// Somebody asked for a new credential. Backoff does not hold it up; the cool-downs between forced
    /// renewals do, and then the request is dropped.
    pub fn force(&mut self, now: Now) {
        let time = self.observe(now);
        let pending = Pending {
            at: time,
            reason: Reason::Forced,
        };
        // A refusal is the answer: whoever asks in a loop is not to be heard.
        let _ = self.forcing.request(time, pending, true);
    }

    /// What to do now. Also takes notice of time: an end that has come, a clock that has jumped.
    pub fn step(&mut self, now: Now) -> Step {
        let time = self.observe(now);
        if let Some(flight) = self.flight {
            let overdue = flight.start.saturating_add(flight.timeout);
            if time < overdue.saturating_add(ABANDON_AFTER) {
                return self.idle(now, time, Some(overdue.saturating_add(ABANDON_AFTER)));
            }
            self.flight = None;
            self.record(time, Failure::timeout());
            return Step::Abandon { id: flight.id };
        }
        match self.next_flight(now, time) {
            Some((at, reason)) if at <= time => Step::Fetch(self.launch(now, time, reason)),
            Some((at, _)) => self.idle(now, time, Some(at)),
            None => self.idle(now, time, None),
        }
    }

    /// What callers may see, as of the last event or step.
    #[must_use]
    pub fn view(&self) -> View {
        let time = self.timeline.last();
        let Some(held) = &self.held else {
            return View::Empty;
        };
        let generation = held.generation;
        if !self.is_usable(time) {
            return View::Expired { generation };
        }
        if held.rejected.is_some() && self.is_renewing_rejected() {
            return View::Renewing { generation };
        }
        View::Ready {
            generation,
            safe_end_wall: self
                .last_moment()
                .map(|last_moment| self.timeline.wall_at(last_moment)),
            suspected: held.rejected.is_some() || (self.forcing.streak() > 0 && !held.is_accepted),
        }
    }

    /// Whether a caller that waits until `deadline` of the monotonic clock has a chance.
    #[must_use]
    pub fn patience(&self, now: Now, deadline: Duration) -> Patience {
        let time = self.timeline.time(now);
        if self.flight.is_some() || self.is_usable(time) {
            return Patience::Wait;
        }
        let deadline = time.saturating_add(deadline.saturating_sub(now.mono));
        match self.next_flight(now, time) {
            Some((at, _)) if at > time && self.trouble.is_settled() => Patience::GiveUp,
            Some((at, _)) if at < deadline => Patience::Wait,
            _ => Patience::GiveUp,
        }
    }

    /// Whether the renewal is late by more than 5 s and no flight is in the air: the driver is starved, and
    /// whoever notices should drive.
    #[must_use]
    pub fn is_late(&self, now: Now) -> bool {
        let time = self.timeline.time(now);
        self.flight.is_none()
            && self
                .next_flight(now, time)
                .is_some_and(|(at, _)| time >= at.saturating_add(LATE))
    }

    /// How it stands.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let time = self.timeline.last();
        let life = self.held.and_then(|held| held.life);
        let next_try = self.trouble.next_try(self.is_usable(time));
        Facts {
            generation: self.held.map(|held| held.generation),
            ends_wall: life.map(|life| self.timeline.wall_at(life.end)),
            refresh_at: life.map(|life| self.timeline.mono_at(life.refresh_at)),
            failures: self.trouble.failures(),
            failing_since: self.trouble.since().map(|at| self.timeline.mono_at(at)),
            last_failure: self.trouble.last(),
            next_try: (next_try > time).then(|| self.timeline.mono_at(next_try)),
            in_flight: self.flight.map(|flight| flight.reason),
            flights: self.flights,
            force_streak: self.forcing.streak(),
            cooling_until: self
                .forcing
                .cooling_until()
                .filter(|until| *until > time)
                .map(|until| self.timeline.mono_at(until)),
            no_progress: self.no_progress,
            clock_jumps: self.clock_jumps,
        }
    }

    /// The options it was made with.
    pub fn options(&self) -> &RefreshOptions {
        &self.options
    }

    fn observe(&mut self, now: Now) -> Duration {
        let seen = self.timeline.observe(now);
        if seen.gained > self.options.heartbeat() {
            self.clock_jumps = self.clock_jumps.saturating_add(1);
            self.spread_after_jump(seen.time, seen.gained);
        }
        seen.time
    }

    /// A fleet whose clocks are set at the same moment must not ask at the same moment.
    fn spread_after_jump(&mut self, time: Duration, gained: Duration) {
        let Some(life) = self.held.as_mut().and_then(|held| held.life.as_mut()) else {
            return;
        };
        let was_due = life.refresh_at <= time.saturating_sub(gained);
        if !was_due && life.refresh_at <= time && time < life.safe_end {
            let room = (life.safe_end.saturating_sub(time) / 4).min(JUMP_SPREAD);
            life.refresh_at = time.saturating_add(room.mul_f64(self.rng.f64()));
        }
    }

    fn record(&mut self, time: Duration, failure: Failure) {
        let standing = match self.last_moment() {
            _ if !self.is_usable(time) => Standing::Unusable,
            Some(end) => Standing::Usable(end.saturating_sub(time)),
            None => Standing::Usable(Duration::MAX),
        };
        self.trouble
            .add(time, failure, standing, &self.options, &mut self.rng);
        // Callers are not held up by a renewal that does not come off; the next refusal may ask again.
        if self.forcing.pending().is_some_and(is_for_rejection) {
            self.forcing.withdraw();
        }
        // Whoever asked longer ago than anybody waits is gone.
        let budget = self.options.wait_budget();
        self.demanded = self
            .demanded
            .filter(|demanded| time < demanded.saturating_add(budget));
    }

    fn cooling(&self, until: Duration) -> Rejection {
        Rejection::CoolingDown {
            until: self.timeline.mono_at(until),
        }
    }

    /// Whether a renewal out of turn is asked for or in the air.
    fn is_forced(&self) -> bool {
        self.forcing.pending().is_some()
            || self.flight.is_some_and(|flight| is_forced(flight.reason))
    }

    fn is_renewing_rejected(&self) -> bool {
        self.forcing.pending().is_some_and(is_for_rejection)
            || self
                .flight
                .is_some_and(|flight| flight.reason == Reason::Rejected)
    }

    /// Whether what is held is within its safe life.
    fn is_fresh(&self, time: Duration) -> bool {
        self.held
            .is_some_and(|held| held.life.is_none_or(|life| time < life.safe_end))
    }

    /// Whether what is held may be stamped.
    fn is_usable(&self, time: Duration) -> bool {
        self.held.is_some() && self.last_moment().is_none_or(|end| time < end)
    }

    /// When what is held stops being usable, as things are.
    fn last_moment(&self) -> Option<Duration> {
        let life = self.held?.life?;
        if self.trouble.failures() > 0 {
            Some(life.safe_end.saturating_add(self.options.serve_stale()))
        } else {
            Some(life.safe_end)
        }
    }
}

fn is_forced(reason: Reason) -> bool {
    matches!(reason, Reason::Rejected | Reason::Forced)
}

fn is_for_rejection(pending: Pending) -> bool {
    pending.reason == Reason::Rejected
}

/// The driver keeps the timeout; the machine steps in where the driver's clock stood still.
const ABANDON_AFTER: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_secs(5);
const JUMP_SPREAD: Duration = Duration::from_secs(30);
