//! A fleet of clients, each with the shipped rules, against one token endpoint.
#![expect(
    clippy::indexing_slicing,
    reason = "clients are named by their place in the fleet"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tower_auth::policy::{
    Arrival, Failure, Lifetime, Machine, Now, Order, Patience, RefreshOptions, Rejection, Step,
    Verdict, View,
};
use tower_auth::{ErrorKind, Expiry, Fingerprint, Reason};

#[test]
fn fc_c32_a_fleet_that_starts_together_does_not_renew_together() {
    let hour = Duration::from_secs(3600);
    for (ttl, limit) in [(hour, 1.35), (hour / 6, 1.20)] {
        let mut fleet = Fleet::start(10_000, Setup::new(ttl), 1);
        fleet.run_until(6 * ttl);
        let ratio = fleet.peak_to_mean(120, 6 * ttl.as_secs() as usize);
        println!("mass start, {ttl:?}: peak60/mean {ratio:.2}");
        assert!(ratio <= limit, "{ttl:?}: {ratio}");
        assert_eq!(fleet.failed, 0);
    }
}

#[test]
fn fc_c32_the_end_of_an_outage_leaves_no_echo() {
    let hour = Duration::from_secs(3600);
    let mut setup = Setup::new(hour);
    setup.outages = vec![(4 * hour, 4 * hour + hour / 2)];
    let mut fleet = Fleet::start(5_000, setup, 2);
    fleet.run_until(8 * hour);
    let ratio = fleet.peak_to_mean(4 * 3600 + 1800 + 600, 4 * 3600 + 1800 + 7200);
    println!("echo: peak60/mean {ratio:.2}");
    assert!(ratio <= 1.5, "{ratio}");
}

#[test]
fn fc_a06_outages_of_25_minutes_fail_no_request() {
    let hour = Duration::from_secs(3600);
    let mut setup = Setup::new(hour);
    setup.outages = [5, 11, 17]
        .map(|at| (at * hour, at * hour + Duration::from_secs(1500)))
        .to_vec();
    let mut fleet = Fleet::start(2_000, setup, 3);
    fleet.run_until(24 * hour);
    assert_eq!(fleet.failed, 0);
    let during = fleet.starts_between(5 * 3600, 5 * 3600 + 1500) as f64 / 1500.0;
    println!("25 min outages: {during:.1} calls/s on the dead endpoint");
    assert!(during < 25.0, "{during}");
}

#[test]
fn fc_a02_an_endpoint_that_hung_for_an_hour_gets_to_drain() {
    let minute = Duration::from_secs(60);
    for (name, per_second, hang, limit) in [
        ("C100", 10.0, 30, 120),
        ("C50", 5.0, 60, 450),
        ("C25", 2.5, 60, 900),
    ] {
        let start = Duration::from_secs(3 * 3600);
        let end = start + hang * minute;
        let mut setup = Setup::new(Duration::from_secs(3600));
        setup.hang = Some((start, end));
        setup.capacity = Some(per_second);
        let mut fleet = Fleet::start(1_000, setup, 4);
        fleet.run_until(end + 60 * minute);
        let recovery = fleet.recovery_after(end);
        println!(
            "hang {name}: recovered after {recovery} s, {} failed",
            fleet.failed
        );
        assert!(recovery <= limit, "{name}: {recovery} s");
    }
}

#[test]
fn fc_c21_a_fleet_whose_tokens_are_revoked_recovers_as_fast_as_the_endpoint_allows() {
    let at = Duration::from_secs(2 * 3600);
    let mut setup = Setup::new(Duration::from_secs(3600));
    setup.revocation = Some(at);
    setup.capacity = Some(40.0);
    setup.watched = Some((at, at + Duration::from_secs(900)));
    let mut fleet = Fleet::start(2_000, setup, 5);
    fleet.run_until(at + Duration::from_secs(1200));
    let recovery = fleet.recovery_after(at);
    println!(
        "revocation: recovered after {recovery} s, {} refused",
        fleet.refused
    );
    // The endpoint needs 50 s for all of them.
    assert!(recovery <= 60, "{recovery} s");
    // Whoever waits in vain is refused once more.
    assert!(fleet.refused < 5 * 2_000, "{}", fleet.refused);
}

#[test]
fn fc_c18_an_api_that_refuses_everything_for_an_hour_costs_at_most_twenty_renewals() {
    let at = Duration::from_secs(2 * 3600);
    let mut setup = Setup::new(Duration::from_secs(24 * 3600));
    setup.refuses_all = Some((at, at + Duration::from_secs(3600)));
    setup.watched = setup.refuses_all;
    setup.rate = 0.5;
    let clients = 100;
    let mut fleet = Fleet::start(clients, setup, 6);
    fleet.run_until(at + Duration::from_secs(3600));
    let most = fleet
        .clients
        .iter()
        .map(|client| client.forced)
        .max()
        .unwrap();
    println!("perma-401: at most {most} forced renewals per client");
    assert!(most <= 20, "{most}");
    assert!(most >= 10, "{most}");
    // Requests keep flowing: the API decides.
    assert!(fleet.refused > 1_000 * clients as u64);
    assert_eq!(fleet.failed, 0);
}

#[derive(Clone)]
struct Setup {
    ttl: Duration,
    rate: f64,
    latency: Duration,
    outages: Vec<(Duration, Duration)>,
    hang: Option<(Duration, Duration)>,
    /// Exchanges per second, from the hang on; what callers gave up on is worked off all the same.
    capacity: Option<f64>,
    revocation: Option<Duration>,
    refuses_all: Option<(Duration, Duration)>,
    /// When requests are made one by one even where they cannot fail.
    watched: Option<(Duration, Duration)>,
}

impl Setup {
    fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            rate: 0.2,
            latency: Duration::from_millis(100),
            outages: Vec::new(),
            hang: None,
            capacity: None,
            revocation: None,
            refuses_all: None,
            watched: None,
        }
    }
}

struct Fleet {
    setup: Setup,
    rng: fastrand::Rng,
    clients: Vec<Client>,
    queue: BinaryHeap<Reverse<(Duration, u64, usize, Event)>>,
    events: u64,
    endpoint_free: Duration,
    tokens: u64,
    starts: Vec<u32>,
    asked: Vec<u32>,
    bad: Vec<u32>,
    failed: u64,
    refused: u64,
}

struct Client {
    machine: Machine,
    wake: Option<Duration>,
    issued: Duration,
    last_start: Option<Duration>,
    is_asking: bool,
    waiting: Vec<Duration>,
    forced: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake,
    Answer {
        sent: Duration,
        is_good: bool,
        timed_out: bool,
    },
    Request,
    Deadline,
}

impl Fleet {
    fn start(clients: usize, setup: Setup, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // Nothing jumps here, so nothing has to be looked at in between.
        let options = RefreshOptions::default().with_heartbeat(Duration::from_secs(3600));
        let mut fleet = Self {
            setup,
            clients: (0..clients)
                .map(|_| Client {
                    machine: Machine::new(options, rng.u64(..)),
                    wake: None,
                    issued: Duration::ZERO,
                    last_start: None,
                    is_asking: false,
                    waiting: Vec::new(),
                    forced: 0,
                })
                .collect(),
            rng,
            queue: BinaryHeap::new(),
            events: 0,
            endpoint_free: Duration::ZERO,
            tokens: 0,
            starts: Vec::new(),
            asked: Vec::new(),
            bad: Vec::new(),
            failed: 0,
            refused: 0,
        };
        for index in 0..clients {
            let at = Duration::from_secs_f64(fleet.rng.f64() * 30.0);
            fleet.clients[index].is_asking = true;
            fleet.push(at, index, Event::Request);
            if let Some((from, _)) = fleet.setup.watched {
                let at = from + fleet.pause();
                fleet.push(at, index, Event::Request);
            }
        }
        fleet
    }

    fn run_until(&mut self, end: Duration) {
        while self
            .queue
            .peek()
            .is_some_and(|Reverse((time, ..))| *time <= end)
        {
            let Some(Reverse((time, _, index, event))) = self.queue.pop() else {
                return;
            };
            self.handle(time, index, event);
        }
    }

    fn handle(&mut self, time: Duration, index: usize, event: Event) {
        let now = now(time);
        match event {
            Event::Wake if self.clients[index].wake != Some(time) => return,
            Event::Wake | Event::Deadline => {}
            Event::Request => self.request(time, index),
            Event::Answer {
                sent,
                is_good,
                timed_out,
            } => {
                let client = &mut self.clients[index];
                if is_good {
                    self.tokens += 1;
                    let arrival = Arrival {
                        lifetime: Lifetime::new(
                            Expiry::In(self.setup.ttl),
                            None,
                            Now::new(sent, now_wall(sent)),
                        ),
                        fingerprint: Fingerprint::of(&self.tokens.to_le_bytes()),
                        hint: None,
                    };
                    let verdict = client.machine.fetched(now, arrival);
                    assert!(matches!(verdict, Verdict::Publish { .. }), "{verdict:?}");
                    client.issued = time;
                    let Verdict::Publish { generation } = verdict else {
                        return;
                    };
                    client.machine.used(generation);
                } else {
                    client.machine.failed(
                        now,
                        if timed_out {
                            Failure::timeout()
                        } else {
                            Failure::new(ErrorKind::Unavailable)
                        },
                    );
                }
            }
        }
        self.drive(time, index);
    }

    fn request(&mut self, time: Duration, index: usize) {
        let watched = self
            .setup
            .watched
            .is_some_and(|(from, to)| from <= time && time < to);
        self.clients[index].is_asking = false;
        let client = &mut self.clients[index];
        match client.machine.view() {
            View::Ready { .. } if !watched => return,
            View::Ready { generation, .. } => self.answer_of_api(time, index, generation),
            View::Renewing { .. } | View::Empty | View::Expired { .. } => {
                client.machine.demand(now(time));
                let deadline = time + Duration::from_secs(10);
                client.waiting.push(deadline);
                self.push(deadline, index, Event::Deadline);
            }
        }
        self.ask_again(time, index);
    }

    fn answer_of_api(&mut self, time: Duration, index: usize, generation: u64) {
        let within = |range: Option<(Duration, Duration)>| {
            range.is_some_and(|(from, to)| from <= time && time < to)
        };
        let client = &mut self.clients[index];
        let is_revoked = self
            .setup
            .revocation
            .is_some_and(|at| at <= time && client.issued < at);
        let is_bad = is_revoked || within(self.setup.refuses_all);
        if is_bad {
            let rejection = client.machine.rejected(now(time), generation);
            assert_ne!(rejection, Rejection::NotRenewable);
            self.refused += 1;
        } else {
            client.machine.accepted(now(time), generation);
        }
        self.count(time, is_bad);
    }

    fn count(&mut self, time: Duration, is_bad: bool) {
        add(&mut self.asked, time);
        if is_bad {
            add(&mut self.bad, time);
        }
    }

    fn ask_again(&mut self, time: Duration, index: usize) {
        if !self.clients[index].is_asking {
            self.clients[index].is_asking = true;
            let at = time + self.pause();
            self.push(at, index, Event::Request);
        }
    }

    fn pause(&mut self) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.rng.f64()).ln() / self.setup.rate)
    }

    fn drive(&mut self, time: Duration, index: usize) {
        loop {
            match self.clients[index].machine.step(now(time)) {
                Step::Fetch(order) => self.launch(time, index, order),
                Step::Abandon { .. } => panic!("the driver keeps the timeout"),
                Step::Idle { until } => {
                    self.clients[index].wake = until;
                    if let Some(until) = until {
                        assert!(until > time, "no spinning");
                        self.push(until, index, Event::Wake);
                    }
                    break;
                }
            }
        }
        self.serve_waiting(time, index);
        if !matches!(self.clients[index].machine.view(), View::Ready { .. }) {
            self.ask_again(time, index);
        }
    }

    fn serve_waiting(&mut self, time: Duration, index: usize) {
        let mut waiting = std::mem::take(&mut self.clients[index].waiting);
        waiting.retain(|deadline| {
            let machine = &self.clients[index].machine;
            match machine.view() {
                View::Ready { generation, .. } => {
                    self.answer_of_api(time, index, generation);
                    false
                }
                View::Renewing { generation } if *deadline <= time => {
                    self.answer_of_api(time, index, generation);
                    false
                }
                View::Renewing { .. } => true,
                View::Empty | View::Expired { .. } => {
                    let is_lost = *deadline <= time
                        || machine.patience(now(time), *deadline) == Patience::GiveUp;
                    if is_lost {
                        self.failed += 1;
                        self.count(time, true);
                    }
                    !is_lost
                }
            }
        });
        waiting.append(&mut self.clients[index].waiting);
        self.clients[index].waiting = waiting;
    }

    fn launch(&mut self, time: Duration, index: usize, order: Order) {
        add(&mut self.starts, time);
        let client = &mut self.clients[index];
        if let Some(last) = client.last_start {
            assert!(time - last >= Duration::from_secs(1), "spacing");
        }
        client.last_start = Some(time);
        client.forced += u32::from(order.reason == Reason::Rejected);
        let is_out = self
            .setup
            .outages
            .iter()
            .any(|(from, to)| *from <= time && time < *to);
        let mut done = time + self.setup.latency;
        let is_limited = self.setup.hang.is_none_or(|(from, _)| from <= time);
        let is_hanging = self
            .setup
            .hang
            .is_some_and(|(from, to)| from <= time && time < to);
        if is_hanging {
            done = Duration::MAX;
        } else if let Some(per_second) = self.setup.capacity.filter(|_| is_limited) {
            let begin = self.endpoint_free.max(time);
            self.endpoint_free = begin + Duration::from_secs_f64(1.0 / per_second);
            done = self.endpoint_free + self.setup.latency;
        }
        let timed_out = done > time + order.timeout;
        let at = done.min(time + order.timeout);
        let is_good = !is_out && !timed_out;
        self.push(
            at,
            index,
            Event::Answer {
                sent: order.sent.mono,
                is_good,
                timed_out,
            },
        );
    }

    fn push(&mut self, time: Duration, index: usize, event: Event) {
        self.events += 1;
        self.queue.push(Reverse((time, self.events, index, event)));
    }

    /// The most flights that started within 60 s, over the mean.
    fn peak_to_mean(&self, from: usize, to: usize) -> f64 {
        let starts: Vec<u64> = (from..to)
            .map(|second| u64::from(self.starts.get(second).copied().unwrap_or(0)))
            .collect();
        let mean = starts.iter().sum::<u64>() as f64 / starts.len() as f64;
        let peak = starts.windows(60).map(|w| w.iter().sum::<u64>()).max();
        peak.unwrap_or(0) as f64 / 60.0 / mean
    }

    fn starts_between(&self, from: usize, to: usize) -> u64 {
        self.starts[from..to]
            .iter()
            .map(|count| u64::from(*count))
            .sum()
    }

    /// Seconds until less than 5 % of the requests of ten seconds fail, for good. Requests that are not
    /// made one by one are counted as good.
    fn recovery_after(&self, time: Duration) -> u64 {
        let from = time.as_secs() as usize;
        let expected = self.clients.len() as f64 * self.setup.rate * 10.0;
        let last_bad = (from..self.bad.len()).step_by(10).rfind(|second| {
            let end = (second + 10).min(self.bad.len());
            let bad: u32 = self.bad[*second..end].iter().sum();
            f64::from(bad) >= 0.05 * expected
        });
        last_bad.map_or(0, |second| (second + 10 - from) as u64)
    }
}

fn add(counts: &mut Vec<u32>, time: Duration) {
    let second = time.as_secs() as usize;
    if counts.len() <= second {
        counts.resize(second + 1, 0);
    }
    counts[second] += 1;
}

fn now(time: Duration) -> Now {
    Now::new(time, now_wall(time))
}

fn now_wall(time: Duration) -> Duration {
    Duration::from_secs(1_800_000_000) + time
}
