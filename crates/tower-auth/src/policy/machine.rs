use std::time::Duration;

use fastrand::Rng;
use tower_auth_core::{ErrorKind, Fingerprint, Reason};

use super::backoff::{Standing, Trouble};
use super::force::{Forcing, Pending};
use super::schedule::{Draw, no_progress_delay, refresh_after, safety_margin, shorter_delay};
use super::timeline::Timeline;
use super::{
    Arrival, Facts, Failure, KeepReason, Lifetime, Now, Order, Patience, RefreshOptions, Rejection,
    Step, Verdict, View,
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
        match self.next_flight(time) {
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
        match self.next_flight(time) {
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
                .next_flight(time)
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

    /// When the next flight starts, and why.
    fn next_flight(&self, time: Duration) -> Option<(Duration, Reason)> {
        let is_usable = self.is_usable(time);
        let next_try = self.trouble.next_try(is_usable);
        let forced = self.forcing.pending().map(|pending| {
            let at = match pending.reason {
                Reason::Rejected => pending.at.max(next_try),
                _ => pending.at,
            };
            (at, pending.reason)
        });
        let regular = match self.held {
            Some(held) if self.is_fresh(time) => held
                .life
                .filter(|_| held.is_used || self.options.keeps_warm())
                .map(|life| (life.refresh_at.max(next_try), Reason::Scheduled)),
            // Stale service ends with the outage, so the outage has to be watched.
            _ if self.demanded.is_some() || self.options.keeps_warm() || is_usable => {
                let reason = match self.held {
                    Some(_) => Reason::Expired,
                    None => Reason::First,
                };
                Some((next_try, reason))
            }
            _ => None,
        };
        let (at, reason) = match (forced, regular) {
            (Some(forced), Some(regular)) if regular.0 < forced.0 => regular,
            (forced, regular) => forced.or(regular)?,
        };
        Some((at.max(self.spaced(time)), reason))
    }

    /// The first moment at which the spacing allows a flight.
    fn spaced(&self, time: Duration) -> Duration {
        self.last_start.map_or(Duration::ZERO, |start| {
            let allowed = start.saturating_add(self.options.min_spacing());
            match self.timeline.until_mono(allowed) {
                Duration::ZERO => Duration::ZERO,
                wait => time.saturating_add(wait),
            }
        })
    }

    fn launch(&mut self, now: Now, time: Duration, reason: Reason) -> Order {
        // A renewal for another reason serves whoever asked out of turn just as well.
        let reason = self.forcing.pending().map_or(reason, |pending| {
            self.forcing.start(time, &mut self.rng);
            pending.reason
        });
        self.flights = self.flights.saturating_add(1);
        self.last_start = Some(now.mono);
        let timeout = match self.trouble.last() {
            Some(last) if last.timed_out => self.options.fetch_timeout().saturating_mul(2),
            _ => self.options.fetch_timeout(),
        };
        self.flight = Some(Flight {
            id: self.flights,
            reason,
            start: time,
            timeout,
        });
        let remaining = self.held.and_then(|held| held.life).map(|life| life.end);
        Order {
            id: self.flights,
            reason,
            timeout,
            sent: now,
            min_remaining: remaining.map_or(Duration::ZERO, |end| end.saturating_sub(time)),
        }
    }

    fn idle(&self, now: Now, time: Duration, wake: Option<Duration>) -> Step {
        let end = self.last_moment().filter(|end| *end > time);
        let moments = [wake, end, self.look_for_use(time)];
        let Some(next) = moments.into_iter().flatten().min() else {
            return Step::Idle { until: None };
        };
        let wait = next.saturating_sub(time).min(self.options.heartbeat());
        Step::Idle {
            until: Some(now.mono.saturating_add(wait)),
        }
    }

    /// When to look whether a credential that nobody had used is in use by now: at the time of its renewal,
    /// then each time a quarter of what is left has gone. Stamping tells nobody; it is asked for.
    fn look_for_use(&self, time: Duration) -> Option<Duration> {
        let held = self.held.filter(|held| !held.is_used)?;
        let life = held.life.filter(|life| time < life.safe_end)?;
        let quarter = (life.safe_end.saturating_sub(time) / 4).max(LOOK);
        Some(life.refresh_at.max(time.saturating_add(quarter)))
    }

    /// The life of an arrival on the timeline, and its whole length. It ends when the first of the clocks
    /// says so, counted from the order.
    fn life(
        &self,
        now: Now,
        time: Duration,
        lifetime: Lifetime,
        flight: Option<Flight>,
    ) -> Option<(Life, Duration)> {
        let Lifetime::Finite {
            total,
            end_mono,
            end_wall,
        } = lifetime
        else {
            return None;
        };
        let age = flight.map_or(Duration::ZERO, |flight| time.saturating_sub(flight.start));
        let left = end_mono
            .saturating_sub(now.mono)
            .min(end_wall.saturating_sub(now.wall))
            .min(total.saturating_sub(age));
        let end = time.saturating_add(left);
        let life = Life {
            end,
            safe_end: end.saturating_sub(safety_margin(total)).max(time),
            refresh_at: end,
        };
        // What is left of nothing is not usable, whatever the margin.
        let life = if left.is_zero() {
            Life {
                safe_end: time,
                ..life
            }
        } else {
            life
        };
        Some((life, total))
    }

    /// Why an arrival that has not run out should not take the place of what is held.
    fn objection(
        &self,
        time: Duration,
        arrival: &Arrival,
        life: Option<(Life, Duration)>,
        flight: Option<Flight>,
    ) -> Option<KeepReason> {
        // With nothing to lose the API decides, not its past.
        let held = self.held.filter(|_| self.is_fresh(time))?;
        let end = |life: Option<Life>| life.map_or(Duration::MAX, |life| life.end);
        let (held_end, new_end) = (end(held.life), end(life.map(|(life, _)| life)));
        let is_same = arrival.fingerprint == held.fingerprint;
        if let Some(rejected) = held.rejected.filter(|_| is_same) {
            return Some(match flight {
                Some(flight) if flight.start < rejected => KeepReason::Predates,
                _ => KeepReason::Refused,
            });
        }
        if self.forcing.is_refused(arrival.fingerprint) {
            return Some(KeepReason::Refused);
        }
        if is_same {
            let is_longer = new_end > held_end.saturating_add(PROGRESS);
            return (!is_longer).then_some(KeepReason::SameAgain);
        }
        let is_wanted =
            held.rejected.is_some() || flight.is_some_and(|flight| flight.reason == Reason::Forced);
        (new_end < held_end && !is_wanted).then_some(KeepReason::EndsEarlier)
    }

    /// What is held stays: asks again later, and not in a loop.
    fn postpone(&mut self, time: Duration, reason: KeepReason, total: Option<Duration>) {
        self.no_progress = self.no_progress.saturating_add(1);
        self.demanded = None;
        let Some(life) = self.held.as_mut().and_then(|held| held.life.as_mut()) else {
            return;
        };
        let remaining = life.safe_end.saturating_sub(time);
        let delay = match (reason, total) {
            (KeepReason::EndsEarlier, Some(total)) => shorter_delay(remaining, total),
            _ => no_progress_delay(remaining),
        };
        life.refresh_at = life.refresh_at.max(time.saturating_add(delay));
    }

    fn publish(
        &mut self,
        time: Duration,
        arrival: Arrival,
        life: Option<(Life, Duration)>,
        flight: Option<Flight>,
    ) -> u64 {
        let is_forced = flight.is_some_and(|flight| is_forced(flight.reason));
        let is_after_outage = self
            .trouble
            .since()
            .is_some_and(|since| time.saturating_sub(since) >= LONG_STREAK);
        let draw = if self.held.is_none() || is_forced || is_after_outage {
            Draw::Residual
        } else {
            Draw::Regular
        };
        let life = life.map(|(life, total)| {
            let after = refresh_after(total, arrival.hint, draw, &self.options, &mut self.rng);
            let issued = life.end.saturating_sub(total);
            Life {
                refresh_at: issued.saturating_add(after),
                ..life
            }
        });
        let same = self
            .held
            .filter(|held| held.fingerprint == arrival.fingerprint);
        let held = match same {
            Some(held) => Held {
                life,
                is_used: false,
                ..held
            },
            None => {
                self.generations = self.generations.saturating_add(1);
                Held {
                    generation: self.generations,
                    fingerprint: arrival.fingerprint,
                    life,
                    is_used: false,
                    rejected: None,
                    is_accepted: false,
                }
            }
        };
        self.held = Some(held);
        self.trouble.clear();
        self.forcing.withdraw();
        self.demanded = None;
        self.no_progress = 0;
        held.generation
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

/// The least time between two looks whether a credential is in use.
const LOOK: Duration = Duration::from_millis(100);

/// The driver keeps the timeout; the machine steps in where the driver's clock stood still.
const ABANDON_AFTER: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_secs(5);
const JUMP_SPREAD: Duration = Duration::from_secs(30);
const LONG_STREAK: Duration = Duration::from_secs(60);
/// Ends that differ by less are the same end, rounded.
const PROGRESS: Duration = Duration::from_secs(1);
