//! One client with the shipped rules in a world where clocks jump and issuers misbehave, and an oracle
//! that knows the true time.

#![expect(clippy::indexing_slicing, reason = "tables of choices")]

use std::time::Duration;

use proptest::prelude::*;
use tower_auth::policy::{
    Arrival, Failure, Lifetime, Machine, Now, Order, Patience, RefreshOptions, Step, Verdict, View,
};
use tower_auth::{ErrorKind, Expiry, Fingerprint, Reason};

proptest! {
    #![proptest_config(ProptestConfig { cases: 96,
 failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fc_b02_no_program_of_the_clocks_stamps_an_expired_credential(
        seed: u64,
        ttl in prop_oneof![1..120_u64, 120..7_200_u64, 7_200..31_536_000_u64],
        program in proptest::collection::vec(clock_event(), 0..24),
    ) {
        let mut world = World::new(seed, Duration::from_secs(ttl));
        world.program = program;
        world.run(Duration::from_secs(2 * 3600));
        world.check();
        world.recovers();
    }

    #[test]
    fn fc_a37_no_script_of_faults_fails_a_request_that_could_be_served(
        seed: u64,
        ttl in prop_oneof![1..120_u64, 120..7_200_u64, 7_200..31_536_000_u64],
    ) {
        let mut world = World::new(seed, Duration::from_secs(ttl));
        world.has_faults = true;
        world.run(Duration::from_secs(6 * 3600));
        world.check();
        world.recovers();
    }

    #[test]
    fn fc_b07_faults_and_clocks_together_lose_no_promise(
        seed: u64,
        ttl in 30..7_200_u64,
        program in proptest::collection::vec(clock_event(), 0..24),
    ) {
        let mut world = World::new(seed, Duration::from_secs(ttl));
        world.has_faults = true;
        world.program = program;
        world.run(Duration::from_secs(6 * 3600));
        world.check();
        world.recovers();
    }
}

#[test]
fn fc_a37_thirty_days_of_random_faults_fail_no_request_that_could_be_served() {
    let (mut faults, mut flights) = (0, 0);
    for seed in 0..4 {
        let mut world = World::new(seed, Duration::from_secs(3600));
        world.has_faults = true;
        world.has_jumps = true;
        world.pause = Duration::from_secs(60);
        world.run(Duration::from_secs(30 * 24 * 3600));
        world.check();
        world.recovers();
        faults += world.faults;
        flights += world.flights;
    }
    println!("4 x 30 days: {faults} faults, {flights} flights");
    assert!(faults > 4 * 1_000);
}

#[test]
fn fc_b10_every_lifetime_is_renewed_at_its_own_pace() {
    for ttl in [1, 2, 5, 10, 60, 3600, 24 * 3600, 365 * 24 * 3600_u64] {
        let mut world = World::new(ttl, Duration::from_secs(ttl));
        let span = (20 * ttl).clamp(600, 30 * 24 * 3600);
        world.pause = Duration::from_secs_f64((span as f64 / 20_000.0).max(0.3));
        world.run(Duration::from_secs(span));
        world.check();
        let pace = (ttl as f64).min(24.0 * 3600.0);
        let most = (span as f64 / (0.44 * pace)).min(span as f64) + 3.0;
        assert!(
            (world.flights as f64) <= most,
            "{ttl}: {} > {most}",
            world.flights
        );
        assert_eq!(world.failed, 0, "{ttl}");
    }
}

fn clock_event() -> impl Strategy<Value = Clock> {
    prop_oneof![
        (-86_400..86_400_i64).prop_map(Clock::Step),
        (-30..30_i64).prop_map(Clock::Step),
        (1..7 * 86_400_u64).prop_map(Clock::Suspend),
        (1..120_u64).prop_map(Clock::Suspend),
        (0.9..1.1_f64).prop_map(Clock::WallRate),
        (0.9..1.0_f64).prop_map(Clock::MonoRate),
    ]
}

/// What happens to the clocks. One of the two always shows at least the time that passed: if both are
/// slow no program can know.
#[derive(Clone, Copy, Debug)]
enum Clock {
    Step(i64),
    Suspend(u64),
    WallRate(f64),
    MonoRate(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Issuer {
    Good,
    Slow,
    Flaky,
    Fails(Failure),
    Hangs,
    SameAgain,
    EndsEarlier,
    Stillborn,
    KillsDriver,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Token {
        text: u64,
        end: Duration,
        ttl: Duration,
    },
    Failure(Failure),
    Abort,
}

struct World {
    machine: Machine,
    rng: fastrand::Rng,
    ttl: Duration,
    time: Duration,
    now: Now,
    rates: (f64, f64),
    program: Vec<Clock>,
    next_clock: Duration,
    last_clock: Duration,
    has_jumps: bool,
    has_faults: bool,
    issuer: Issuer,
    next_issuer: Duration,
    good_since: Duration,
    last_bad: Duration,
    faults: u64,
    pause: Duration,
    next_request: Duration,
    waiting: Vec<Duration>,
    seen: View,
    wake: Option<Duration>,
    /// The flight, what it brings, and when on the monotonic clock.
    flight: Option<(Order, Outcome, Duration)>,
    last_start: Option<Duration>,
    flights: u64,
    tokens: u64,
    /// The text that is held, and its true end.
    held: (u64, Duration),
    published: Duration,
    is_revoked: bool,
    failed: u64,
    complaints: Vec<String>,
}

impl World {
    fn new(seed: u64, ttl: Duration) -> Self {
        Self {
            machine: Machine::new(RefreshOptions::default(), seed),
            rng: fastrand::Rng::with_seed(seed ^ 0x5eed),
            ttl,
            time: Duration::ZERO,
            now: Now::new(
                Duration::from_secs(1_000),
                Duration::from_secs(1_800_000_000),
            ),
            rates: (1.0, 1.0),
            program: Vec::new(),
            next_clock: Duration::from_secs(100),
            last_clock: Duration::ZERO,
            has_jumps: false,
            has_faults: false,
            issuer: Issuer::Good,
            next_issuer: Duration::from_secs(60),
            good_since: Duration::ZERO,
            last_bad: Duration::ZERO,
            faults: 0,
            pause: Duration::from_secs(5),
            next_request: Duration::ZERO,
            waiting: Vec::new(),
            seen: View::Empty,
            wake: None,
            flight: None,
            last_start: None,
            flights: 0,
            tokens: 0,
            held: (0, Duration::ZERO),
            published: Duration::ZERO,
            is_revoked: false,
            failed: 0,
            complaints: Vec::new(),
        }
    }

    fn check(&self) {
        assert!(self.complaints.is_empty(), "{:#?}", &self.complaints[..1]);
    }

    /// Nothing is for ever: ten minutes after the issuer is well, so is the client.
    fn recovers(&mut self) {
        self.has_faults = false;
        self.has_jumps = false;
        self.program.clear();
        self.rates = (1.0, 1.0);
        self.issuer = Issuer::Good;
        self.good_since = self.time;
        self.last_bad = self.time;
        self.is_revoked = false;
        self.next_issuer = Duration::MAX;
        self.run(Duration::from_secs(600));
        let is_well = matches!(self.seen, View::Ready { .. } | View::Renewing { .. });
        assert!(
            is_well || self.ttl < Duration::from_secs(10),
            "{:?} {:?}",
            self.seen,
            self.machine.facts()
        );
        self.check();
    }

    fn run(&mut self, span: Duration) {
        let end = self.time + span;
        while self.time < end {
            let next = self.next_event().min(end);
            self.advance(next.saturating_sub(self.time));
            self.turn();
        }
    }

    fn next_event(&self) -> Duration {
        let mono = self
            .wake
            .into_iter()
            .chain(self.waiting.iter().copied())
            .chain(self.flight.map(|(.., at)| at))
            .min()
            .unwrap_or(Duration::MAX);
        let wait = mono
            .saturating_sub(self.now.mono)
            .min(Duration::from_secs(1 << 30));
        let by_mono = self.time + wait.div_f64(self.rates.0) + Duration::from_nanos(100);
        let mut next = by_mono.min(self.next_request);
        if !self.program.is_empty() || self.has_jumps {
            next = next.min(self.next_clock);
        }
        if self.has_faults {
            next = next.min(self.next_issuer);
        }
        next
    }

    fn advance(&mut self, by: Duration) {
        self.time += by;
        self.now.mono += by.mul_f64(self.rates.0);
        self.now.wall += by.mul_f64(self.rates.1);
    }

    fn turn(&mut self) {
        if self.time >= self.next_clock {
            self.change_clock();
        }
        if self.has_faults && self.time >= self.next_issuer {
            self.change_issuer();
        }
        if let Some((order, outcome, at)) = self.flight {
            if self.now.mono >= at {
                self.flight = None;
                self.land(order, outcome);
            }
        }
        if self.time >= self.next_request {
            self.next_request = self.time + self.pause.mul_f64(0.5 + self.rng.f64());
            self.request();
        }
        let is_due = self.wake.is_none_or(|wake| self.now.mono >= wake);
        if is_due {
            self.drive();
        }
        self.serve();
    }

    fn change_clock(&mut self) {
        self.next_clock = self.time + Duration::from_secs(60 + self.rng.u64(0..600));
        let mut event = self.program.pop();
        if event.is_none() && self.has_jumps && self.rng.u32(0..20) == 0 {
            event = Some(match self.rng.u32(0..3) {
                0 => Clock::Step(self.rng.i64(-86_400..86_400)),
                1 => Clock::Suspend(self.rng.u64(1..20_000)),
                _ => Clock::WallRate(0.99 + 0.02 * self.rng.f64()),
            });
        }
        let Some(event) = event else { return };
        self.faults += 1;
        self.last_clock = self.time;
        match event {
            Clock::Step(by) => {
                let by_seconds = Duration::from_secs(by.unsigned_abs());
                self.now.wall = if by < 0 {
                    self.now.wall - by_seconds
                } else {
                    self.now.wall + by_seconds
                };
            }
            Clock::Suspend(by) => {
                self.time += Duration::from_secs(by);
                self.now.wall += Duration::from_secs(by);
                self.last_clock = self.time;
            }
            Clock::WallRate(rate) => self.rates = (1.0, rate),
            Clock::MonoRate(rate) => self.rates = (rate, 1.0),
        }
    }

    fn change_issuer(&mut self) {
        let longest = [60, 600, 7_200][self.rng.usize(0..3)];
        self.next_issuer = self.time + Duration::from_secs(self.rng.u64(1..longest));
        let was_good = self.issuer == Issuer::Good;
        let mut failure = Failure::new(ErrorKind::Unavailable);
        self.issuer = match self.rng.u32(0..22) {
            0..=8 => Issuer::Good,
            9 => Issuer::Slow,
            10 => Issuer::Flaky,
            11 => Issuer::Fails(failure),
            12 => {
                failure.throttled = true;
                failure.retry_after = Some(Duration::from_secs(
                    [0, 5, 60, 300, 1_000_000_000][self.rng.usize(0..5)],
                ));
                Issuer::Fails(failure)
            }
            13 => Issuer::Fails(Failure::new(ErrorKind::Denied)),
            14 => Issuer::Fails(Failure::new(ErrorKind::Malformed)),
            15 => Issuer::Fails(Failure::new(ErrorKind::InvalidConfig)),
            16 => Issuer::Hangs,
            17 => Issuer::SameAgain,
            18 => Issuer::EndsEarlier,
            19 => Issuer::Stillborn,
            20 => Issuer::KillsDriver,
            _ => {
                self.is_revoked = true;
                Issuer::Good
            }
        };
        if self.issuer != Issuer::Good {
            self.faults += 1;
        }
        if !was_good {
            self.last_bad = self.time;
        }
        if self.issuer == Issuer::Good && !was_good {
            self.good_since = self.time;
        }
    }

    fn outcome(&mut self) -> (Outcome, Duration) {
        let quick = Duration::from_millis(50);
        let fails = Failure::new(ErrorKind::Unavailable);
        self.tokens += 1;
        let good = Outcome::Token {
            text: self.tokens,
            end: self.time + self.ttl,
            ttl: self.ttl,
        };
        match self.issuer {
            Issuer::Good => (good, quick),
            Issuer::Slow => (good, Duration::from_secs(self.rng.u64(1..26))),
            Issuer::Flaky if self.rng.u32(0..10) < 3 => (Outcome::Failure(fails), quick),
            Issuer::Flaky => (good, quick),
            Issuer::Fails(failure) => (Outcome::Failure(failure), quick),
            Issuer::Hangs => (
                Outcome::Failure(Failure::timeout()),
                Duration::from_secs(86_400),
            ),
            Issuer::SameAgain => {
                let (text, end) = self.held;
                (
                    Outcome::Token {
                        text,
                        end,
                        ttl: end.saturating_sub(self.time),
                    },
                    quick,
                )
            }
            Issuer::EndsEarlier => {
                let ttl = self.held.1.saturating_sub(self.time) / 2;
                (
                    Outcome::Token {
                        text: self.tokens,
                        end: self.time + ttl,
                        ttl,
                    },
                    quick,
                )
            }
            Issuer::Stillborn => (
                Outcome::Token {
                    text: self.tokens,
                    end: self.time,
                    ttl: Duration::ZERO,
                },
                quick,
            ),
            Issuer::KillsDriver => (Outcome::Abort, quick),
        }
    }

    fn drive(&mut self) {
        loop {
            match self.machine.step(self.now) {
                Step::Fetch(order) => {
                    if self.flight.is_some() {
                        self.complaints.push("two flights at once".to_owned());
                    }
                    if let Some(last) = self.last_start {
                        if self.now.mono - last < Duration::from_secs(1) {
                            self.complaints
                                .push(format!("flights {:?} apart", self.now.mono - last));
                        }
                    }
                    self.last_start = Some(self.now.mono);
                    self.flights += 1;
                    let (mut outcome, mut after) = self.outcome();
                    if after > order.timeout {
                        after = order.timeout;
                        outcome = Outcome::Failure(Failure::timeout());
                    }
                    self.flight = Some((order, outcome, self.now.mono + after));
                }
                Step::Abandon { id } => {
                    assert_eq!(self.flight.map(|(order, ..)| order.id), Some(id));
                    self.flight = None;
                }
                Step::Idle { until } => {
                    if until.is_some_and(|until| until <= self.now.mono) {
                        self.complaints.push("spinning".to_owned());
                    }
                    self.wake = Some(until.unwrap_or(Duration::MAX));
                    break;
                }
            }
        }
        self.seen = self.machine.view();
    }

    fn land(&mut self, order: Order, outcome: Outcome) {
        match outcome {
            Outcome::Token { text, end, ttl } => {
                let arrival = Arrival {
                    lifetime: Lifetime::new(Expiry::In(ttl), None, order.sent),
                    fingerprint: Fingerprint::of(&text.to_le_bytes()),
                    hint: None,
                };
                if let Verdict::Publish { .. } = self.machine.fetched(self.now, arrival) {
                    self.is_revoked &= text == self.held.0;
                    self.held = (text, end);
                    self.published = self.time;
                }
            }
            Outcome::Failure(failure) => self.machine.failed(self.now, failure),
            Outcome::Abort => self.machine.aborted(self.now),
        }
        self.drive();
    }

    fn request(&mut self) {
        if let View::Ready {
            safe_end_wall: Some(end),
            ..
        } = self.seen
        {
            if self.now.wall >= end {
                self.drive();
            }
        }
        match self.seen {
            View::Ready { generation, .. } => self.stamp(generation),
            View::Empty | View::Renewing { .. } | View::Expired { .. } => {
                self.machine.demand(self.now);
                self.waiting.push(self.now.mono + Duration::from_secs(10));
                self.drive();
            }
        }
    }

    fn stamp(&mut self, generation: u64) {
        if self.time >= self.held.1 {
            self.complaints.push(format!(
                "stamped {:?} after its end",
                self.time - self.held.1
            ));
        }
        self.machine.used(generation);
        if self.is_revoked {
            let _ = self.machine.rejected(self.now, generation);
        } else {
            self.machine.accepted(self.now, generation);
        }
        self.drive();
    }

    fn serve(&mut self) {
        for deadline in std::mem::take(&mut self.waiting) {
            match self.seen {
                View::Ready { safe_end_wall, .. }
                    if safe_end_wall.is_some_and(|end| self.now.wall >= end) =>
                {
                    self.drive();
                    self.waiting.push(deadline);
                }
                View::Ready { generation, .. } => self.stamp(generation),
                View::Renewing { generation } if self.now.mono >= deadline => {
                    self.stamp(generation)
                }
                View::Renewing { .. } => self.waiting.push(deadline),
                View::Empty | View::Expired { .. } => {
                    if self.now.mono >= deadline
                        || self.machine.patience(self.now, deadline) == Patience::GiveUp
                    {
                        self.fail();
                    } else {
                        self.waiting.push(deadline);
                    }
                }
            }
        }
    }

    /// A request may fail only where the issuer, or a clock, gave cause.
    fn fail(&mut self) {
        self.failed += 1;
        let cause = if self.issuer == Issuer::Good {
            self.good_since
        } else {
            self.time
        };
        let cause = cause.max(self.last_clock);
        let is_steady = self.rates == (1.0, 1.0);
        let complaint = if self.time.saturating_sub(cause) > Duration::from_secs(600) {
            "the issuer has been well for ten minutes"
        } else if cause <= self.published
            && self.last_bad <= self.published
            && self.tokens > 0
            && is_steady
            && self.issuer == Issuer::Good
        {
            "nothing has gone wrong since the last one was published"
        } else if is_steady
            && self.last_clock < self.published
            && self.tokens > 0
            && self.time + Duration::from_secs(11) + self.ttl / 20 < self.held.1
        {
            "what is held has not run out"
        } else {
            return;
        };
        self.complaints.push(format!(
            "failed at {:?}, {:?} after the publication, although {complaint}: {:?}",
            self.time,
            self.time - self.published,
            self.machine.facts()
        ));
    }
}

#[test]
fn fc_b06_a_suspend_past_the_end_is_noticed_by_the_first_request() {
    let mut world = World::new(1, Duration::from_secs(3600));
    world.run(Duration::from_secs(120));
    world.program = vec![Clock::Suspend(7_200)];
    world.next_clock = world.time;
    let before = world.flights;
    world.run(Duration::from_secs(60));
    world.check();
    assert_eq!(world.flights, before + 1);
    assert_eq!(world.failed, 0);
    assert_eq!(world.machine.facts().clock_jumps, 1);
    assert_ne!(world.machine.facts().in_flight, Some(Reason::Rejected));
}
