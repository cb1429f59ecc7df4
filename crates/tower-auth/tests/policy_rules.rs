//! The rules of renewal, one by one.

use std::time::Duration;

use tower_auth::policy::{
    Arrival, Failure, KeepReason, Lifetime, Machine, Now, Order, Patience, Profile, RefreshOptions,
    Rejection, Step, Verdict, View,
};
use tower_auth::{ErrorKind, Expiry, Fingerprint, Reason, RefreshHint};

const UNAVAILABLE: Failure = Failure::new(ErrorKind::Unavailable);

/// A machine, and clocks that only move when told.
struct Bench {
    machine: Machine,
    now: Now,
}

impl Bench {
    fn new(seed: u64) -> Self {
        Self::with(RefreshOptions::default(), seed)
    }

    fn with(options: RefreshOptions, seed: u64) -> Self {
        Self {
            machine: Machine::new(options, seed),
            now: Now::new(secs(100.0), secs(1_800_000_000.0)),
        }
    }

    /// One that holds `text` for `ttl` seconds and has used it.
    fn holding(text: &str, ttl: f64, seed: u64) -> Self {
        let mut bench = Self::new(seed);
        bench.machine.demand(bench.now);
        let order = bench.fetch();
        assert_eq!(
            bench.land(order, text, ttl),
            Verdict::Publish { generation: 1 }
        );
        bench.machine.used(1);
        bench
    }

    fn wait(&mut self, seconds: f64) {
        self.now.mono += secs(seconds);
        self.now.wall += secs(seconds);
    }

    fn fetch(&mut self) -> Order {
        match self.machine.step(self.now) {
            Step::Fetch(order) => order,
            other => panic!("{other:?}"),
        }
    }

    fn land(&mut self, order: Order, text: &str, ttl: f64) -> Verdict {
        self.machine
            .fetched(self.now, arrival(order.sent, text, ttl))
    }

    /// Seconds until the next flight, waking up as told.
    fn next_fetch(&mut self, within: f64) -> Option<(f64, Order)> {
        let start = self.now.mono;
        loop {
            match self.machine.step(self.now) {
                Step::Fetch(order) => return Some(((self.now.mono - start).as_secs_f64(), order)),
                Step::Idle { until: Some(until) } => {
                    assert!(until > self.now.mono, "spinning");
                    assert!(
                        until - self.now.mono <= secs(30.0),
                        "longer than a heartbeat"
                    );
                    let by = until - self.now.mono;
                    self.wait(by.as_secs_f64());
                    if (self.now.mono - start).as_secs_f64() > within {
                        return None;
                    }
                }
                Step::Idle { until: None } => return None,
                other => panic!("{other:?}"),
            }
        }
    }

    fn view_is_ready(&self) -> bool {
        matches!(self.machine.view(), View::Ready { .. })
    }
}

fn arrival(sent: Now, text: &str, ttl: f64) -> Arrival {
    Arrival {
        lifetime: Lifetime::new(Expiry::In(secs(ttl)), None, sent),
        fingerprint: Fingerprint::of(text.as_bytes()),
        hint: None,
    }
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn assert_within(value: f64, low: f64, high: f64) {
    assert!(
        low - 1e-6 <= value && value <= high + 1e-6,
        "{value} is not in {low}..{high}"
    );
}

#[test]
fn nothing_happens_until_somebody_asks() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.machine.step(bench.now), Step::Idle { until: None });
    assert_eq!(bench.machine.view(), View::Empty);
    let mut warm = Bench::with(RefreshOptions::default().keep_warm(), 1);
    assert_eq!(warm.fetch().reason, Reason::First);
}

#[test]
fn the_second_generation_is_renewed_at_half_life_and_the_first_at_any_phase() {
    let mut firsts = Vec::new();
    for seed in 0..200 {
        let mut bench = Bench::holding("a", 3600.0, seed);
        let (first, order) = bench.next_fetch(3600.0).unwrap();
        assert_eq!(order.reason, Reason::Scheduled);
        assert_within(first, 180.0, 1980.0);
        firsts.push(first);
        bench.land(order, "b", 3600.0);
        bench.machine.used(2);
        let (second, _) = bench.next_fetch(3600.0).unwrap();
        assert_within(second, 1620.0, 1980.0);
    }
    assert!(firsts.iter().any(|first| *first < 400.0));
    assert!(firsts.iter().any(|first| *first > 1500.0));
}

#[test]
fn fc_a04_ten_minutes_without_an_endpoint_cost_few_calls() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed);
        let mut calls = 0;
        let end = bench.now.mono + secs(600.0);
        while bench.now.mono < end {
            bench.machine.demand(bench.now);
            if let Step::Fetch(_) = bench.machine.step(bench.now) {
                calls += 1;
                bench.machine.failed(bench.now, UNAVAILABLE);
                if calls == 1 {
                    let next = bench.machine.facts().next_try.unwrap() - bench.now.mono;
                    assert_within(next.as_secs_f64(), 1.0, 2.0);
                }
            }
            bench.wait(0.5);
        }
        assert!((10..=30).contains(&calls), "{calls}");
    }
    for seed in 0..20 {
        let mut bench = Bench::holding("a", 3600.0, seed);
        let _ = bench.next_fetch(3600.0).unwrap();
        bench.machine.failed(bench.now, UNAVAILABLE);
        let end = bench.now.mono + secs(600.0);
        let mut calls = 1;
        while bench.now.mono < end && bench.next_fetch(600.0).is_some() {
            bench.machine.failed(bench.now, UNAVAILABLE);
            calls += 1;
        }
        assert!(calls <= 25, "{calls}");
        assert!(bench.view_is_ready());
    }
}

#[test]
fn fc_a07_a_throttled_client_waits_five_seconds_at_least() {
    for seed in 0..50 {
        let mut bench = Bench::new(seed);
        bench.machine.demand(bench.now);
        bench.fetch();
        bench.machine.failed(
            bench.now,
            Failure {
                throttled: true,
                ..UNAVAILABLE
            },
        );
        let (after, _) = bench.next_fetch(60.0).unwrap();
        assert_within(after, 5.0, 10.0);
    }
}

#[test]
fn fc_a08_a_wish_to_be_left_alone_is_obeyed_and_spread() {
    for (asked, low, high) in [(20.0, 20.0, 40.0), (100.0, 100.0, 130.0)] {
        let mut seen = Vec::new();
        for seed in 0..50 {
            seen.push(retry_after(asked, seed));
        }
        assert!(
            seen.iter().all(|after| (low..=high).contains(after)),
            "{seen:?}"
        );
        assert!(seen.iter().any(|after| *after > (low + high) / 2.0));
    }
}

#[test]
fn fc_a10_a_wish_for_thirty_years_is_cut_to_five_minutes() {
    assert_within(retry_after(1e9, 1), 300.0, 330.0);
}

/// When a client that holds something good for hours asks again.
fn retry_after(asked: f64, seed: u64) -> f64 {
    let mut bench = Bench::holding("a", 36_000.0, seed);
    assert!(bench.next_fetch(36_000.0).is_some());
    bench.machine.failed(
        bench.now,
        Failure {
            retry_after: Some(secs(asked)),
            ..UNAVAILABLE
        },
    );
    assert!(bench.view_is_ready());
    bench
        .next_fetch(3600.0)
        .map_or(f64::MAX, |(after, _)| after)
}

#[test]
fn fc_a11_with_nothing_to_stamp_the_issuer_is_asked_about_every_minute() {
    let mut bench = Bench::new(1);
    bench.machine.demand(bench.now);
    bench.fetch();
    bench.machine.failed(
        bench.now,
        Failure {
            retry_after: Some(secs(300.0)),
            ..UNAVAILABLE
        },
    );
    bench.machine.demand(bench.now);
    assert_within(bench.next_fetch(600.0).unwrap().0, 60.0, 90.0);
}

#[test]
fn fc_a29_a_refusal_is_told_at_once_and_tried_again_all_the_same() {
    let mut bench = Bench::new(1);
    bench.machine.demand(bench.now);
    bench.fetch();
    bench
        .machine
        .failed(bench.now, Failure::new(ErrorKind::Denied));
    let deadline = bench.now.mono + secs(10.0);
    assert_eq!(
        bench.machine.patience(bench.now, deadline),
        Patience::GiveUp
    );
    let mut last = 0.0;
    for round in 0..80 {
        bench.machine.demand(bench.now);
        let (after, order) = bench.next_fetch(400.0).unwrap();
        if round == 0 {
            assert_within(after, 1.0, 5.0);
        } else {
            assert_within(after, 15.0, 300.0);
        }
        last = after;
        bench.machine.demand(bench.now);
        if round == 79 {
            bench.land(order, "mended", 60.0);
        } else {
            bench
                .machine
                .failed(bench.now, Failure::new(ErrorKind::Denied));
        }
    }
    assert!(last >= 150.0, "{last}");
    assert!(bench.view_is_ready());
}

#[test]
fn fc_a23_a_credential_that_has_run_out_on_arrival_counts_as_a_failure() {
    let mut bench = Bench::new(1);
    bench.machine.demand(bench.now);
    let order = bench.fetch();
    let verdict = bench.land(order, "dead", 0.0);
    assert_eq!(verdict, Verdict::Keep(KeepReason::ExpiredOnArrival));
    assert_eq!(bench.machine.facts().failures, 1);
    assert!(bench.next_fetch(60.0).unwrap().0 >= 1.0);
}

#[test]
fn fc_b09_an_issuer_of_dead_credentials_is_not_asked_in_a_loop() {
    let mut bench = Bench::new(1);
    let mut flights = 0;
    for _ in 0..6000 {
        bench.machine.demand(bench.now);
        if let Step::Fetch(order) = bench.machine.step(bench.now) {
            flights += 1;
            bench.land(order, "dead", 0.0);
        }
        bench.wait(0.1);
    }
    assert!(flights <= 30, "{flights}");
}

#[test]
fn fc_a27_the_issuers_wish_counts_where_it_is_plausible() {
    for (wish, low, high) in [
        (1800.0, 1620.0, 1980.0),
        (720.0, 648.0, 792.0),
        (0.0, 1620.0, 1980.0),
        (9000.0, 1620.0, 1980.0),
    ] {
        let mut bench = Bench::holding("a", 3600.0, 1);
        let (_, order) = bench.next_fetch(3600.0).unwrap();
        let hint = Some(RefreshHint::In(secs(wish)));
        bench.machine.fetched(
            bench.now,
            Arrival {
                hint,
                ..arrival(order.sent, "b", 3600.0)
            },
        );
        bench.machine.used(2);
        assert_within(bench.next_fetch(3600.0).unwrap().0, low, high);
    }
}

#[test]
fn fc_a39_the_same_again_is_no_error_and_no_loop() {
    let mut bench = Bench::holding("a", 3600.0, 1);
    let (first, order) = bench.next_fetch(3600.0).unwrap();
    let verdict = bench.land(order, "a", 3600.0 - first);
    assert_eq!(verdict, Verdict::Keep(KeepReason::SameAgain));
    assert_eq!(bench.machine.facts().failures, 0);
    assert_within(bench.next_fetch(3600.0).unwrap().0, 10.0, 60.0);
    let hint = Some(RefreshHint::BeforeEnd(secs(300.0)));
    let mut hinted = Bench::new(1);
    hinted.machine.demand(hinted.now);
    let order = hinted.fetch();
    hinted.machine.fetched(
        hinted.now,
        Arrival {
            hint,
            ..arrival(order.sent, "a", 3600.0)
        },
    );
    hinted.machine.used(1);
    assert_within(
        hinted.next_fetch(3600.0).unwrap().0,
        3600.0 - 285.0,
        3600.0 - 180.0,
    );
}

#[test]
fn the_same_text_with_a_longer_life_keeps_its_number() {
    let mut bench = Bench::holding("a", 300.0, 1);
    let (_, order) = bench.next_fetch(300.0).unwrap();
    assert_eq!(
        bench.land(order, "a", 300.0),
        Verdict::Publish { generation: 1 }
    );
    let left = bench.machine.facts().ends_wall.unwrap() - bench.now.wall;
    assert_within(left.as_secs_f64(), 299.9, 300.1);
}

#[test]
fn fc_a40_a_credential_that_ends_sooner_does_not_displace_a_better_one() {
    let mut bench = Bench::holding("a", 36_000.0, 1);
    let ends = bench.machine.facts().ends_wall;
    let (_, order) = bench.next_fetch(36_000.0).unwrap();
    assert_eq!(
        bench.land(order, "b", 600.0),
        Verdict::Keep(KeepReason::EndsEarlier)
    );
    assert_eq!(bench.machine.facts().ends_wall, ends);
    let mut asked = 0;
    while bench.view_is_ready() {
        let Some((_, order)) = bench.next_fetch(36_000.0) else {
            break;
        };
        asked += 1;
        if let Verdict::Publish { .. } = bench.land(order, &format!("c{asked}"), 600.0) {
            break;
        }
    }
    assert!(asked <= 12, "{asked}");
    assert!(bench.view_is_ready());
}

#[test]
fn fc_b04_a_wall_clock_that_is_set_back_extends_nothing() {
    let mut bench = Bench::holding("a", 3600.0, 1);
    bench.now.wall -= secs(3600.0);
    bench.machine.step(bench.now);
    let View::Ready {
        safe_end_wall: Some(end),
        ..
    } = bench.machine.view()
    else {
        panic!()
    };
    assert_within((end - bench.now.wall).as_secs_f64(), 3589.0, 3591.0);
    bench.wait(3591.0);
    let _ = bench.machine.step(bench.now);
    assert_eq!(bench.machine.view(), View::Expired { generation: 1 });
}

#[test]
fn fc_b05_a_wall_clock_that_is_set_forward_costs_one_early_flight_at_most() {
    let mut delays = Vec::new();
    for seed in 0..50 {
        let mut bench = Bench::holding("a", 36_000.0, seed);
        let (_, order) = bench.next_fetch(36_000.0).unwrap();
        bench.land(order, "b", 36_000.0);
        bench.machine.used(2);
        bench.now.wall += secs(20_000.0);
        let (delay, order) = bench.next_fetch(36_000.0).unwrap();
        assert_within(delay, 0.0, 30.0);
        delays.push(delay);
        bench.land(order, "c", 36_000.0);
        bench.machine.used(3);
        assert!(bench.next_fetch(36_000.0).unwrap().0 > 16_000.0);
    }
    assert!(delays.iter().any(|delay| *delay > 15.0));
}

#[test]
fn fc_b07_a_flight_that_slept_is_abandoned_and_made_again() {
    let mut bench = Bench::new(1);
    bench.machine.demand(bench.now);
    let order = bench.fetch();
    bench.now.wall += secs(7_200.0);
    assert_eq!(
        bench.machine.step(bench.now),
        Step::Abandon { id: order.id }
    );
    bench.machine.demand(bench.now);
    assert!(bench.next_fetch(10.0).is_some());
}

#[test]
fn fc_b11_the_latency_of_the_exchange_counts_into_the_life() {
    let mut bench = Bench::new(1);
    bench.machine.demand(bench.now);
    let order = bench.fetch();
    bench.wait(25.0);
    bench.land(order, "a", 60.0);
    let left = bench.machine.facts().ends_wall.unwrap() - bench.now.wall;
    assert_within(left.as_secs_f64(), 35.0, 35.0);
}

#[test]
fn fc_c02_a_caller_whose_deadline_lies_before_the_next_try_is_not_kept() {
    let mut bench = Bench::new(3);
    for _ in 0..8 {
        bench.machine.demand(bench.now);
        bench.next_fetch(400.0).unwrap();
        bench.machine.demand(bench.now);
        bench.machine.failed(bench.now, UNAVAILABLE);
    }
    let next = bench.machine.facts().next_try.unwrap();
    let now = bench.now;
    assert_eq!(
        bench.machine.patience(now, next - secs(0.1)),
        Patience::GiveUp
    );
    assert_eq!(
        bench.machine.patience(now, next + secs(0.1)),
        Patience::Wait
    );
}

#[test]
fn fc_c05_when_all_callers_have_gone_nobody_is_asked_again() {
    let mut bench = Bench::new(1);
    bench.machine.demand(bench.now);
    bench.fetch();
    bench.wait(29.0);
    bench.machine.failed(bench.now, UNAVAILABLE);
    assert_eq!(bench.next_fetch(3600.0).map(|(after, _)| after), None);
    bench.machine.demand(bench.now);
    assert!(bench.next_fetch(60.0).is_some());
}

#[test]
fn fc_c15_a_storm_of_refusals_leads_to_one_flight() {
    let mut bench = Bench::holding("a", 3600.0, 1);
    bench.wait(60.0);
    for _ in 0..1000 {
        assert_eq!(bench.machine.rejected(bench.now, 1), Rejection::Renewing);
    }
    assert_eq!(bench.machine.view(), View::Renewing { generation: 1 });
    let (after, order) = bench.next_fetch(60.0).unwrap();
    assert_within(after, 0.0, 2.0);
    assert_eq!(order.reason, Reason::Rejected);
    assert_eq!(bench.machine.rejected(bench.now, 1), Rejection::Renewing);
    assert_eq!(
        bench.land(order, "b", 3600.0),
        Verdict::Publish { generation: 2 }
    );
    assert_eq!(bench.machine.facts().flights, 2);
}

#[test]
fn fc_c16_late_refusals_of_an_old_generation_do_nothing() {
    let mut bench = Bench::holding("a", 3600.0, 1);
    let (_, order) = bench.next_fetch(3600.0).unwrap();
    bench.land(order, "b", 3600.0);
    for _ in 0..1000 {
        assert_eq!(bench.machine.rejected(bench.now, 1), Rejection::Stale);
    }
    assert!(matches!(
        bench.machine.view(),
        View::Ready {
            generation: 2,
            suspected: false,
            ..
        }
    ));
    assert_eq!(bench.next_fetch(60.0).map(|(after, _)| after), None);
}

#[test]
fn fc_c17_a_flight_from_before_the_refusal_counts_only_with_another_secret() {
    let mut bench = Bench::holding("a", 3600.0, 1);
    let (first, order) = bench.next_fetch(3600.0).unwrap();
    bench.wait(0.5);
    assert_eq!(bench.machine.rejected(bench.now, 1), Rejection::Renewing);
    let verdict = bench.land(order, "a", 3600.0 - first);
    assert_eq!(verdict, Verdict::Keep(KeepReason::Predates));
    let (_, order) = bench.next_fetch(10.0).unwrap();
    assert_eq!(order.reason, Reason::Rejected);
    let verdict = bench.land(order, "a", 3600.0);
    assert_eq!(verdict, Verdict::Keep(KeepReason::Refused));
    assert!(matches!(
        bench.machine.view(),
        View::Ready {
            suspected: true,
            ..
        }
    ));

    let mut other = Bench::holding("a", 3600.0, 1);
    let (_, order) = other.next_fetch(3600.0).unwrap();
    other.wait(0.5);
    other.machine.rejected(other.now, 1);
    assert_eq!(
        other.land(order, "b", 3600.0),
        Verdict::Publish { generation: 2 }
    );
    assert_eq!(other.next_fetch(60.0).map(|(after, _)| after), None);
}

#[test]
fn fc_c18_the_cool_downs_grow_to_five_minutes() {
    let mut bench = Bench::holding("a", 86_400.0, 1);
    let mut gaps = Vec::new();
    let mut last = bench.now.mono;
    for _ in 0..40_000 {
        let generation = bench.machine.facts().generation.unwrap();
        bench.machine.rejected(bench.now, generation);
        if let Step::Fetch(order) = bench.machine.step(bench.now) {
            gaps.push((bench.now.mono - last).as_secs_f64());
            last = bench.now.mono;
            bench.land(order, &format!("{generation}"), 86_400.0);
        }
        bench.wait(0.09);
    }
    for (gap, cool) in gaps
        .iter()
        .skip(1)
        .zip([5.0, 15.0, 45.0, 135.0, 300.0, 300.0, 300.0])
    {
        assert_within(*gap, cool, cool * 1.25 + 2.2);
    }
    assert!((12..=20).contains(&gaps.len()), "{gaps:?}");
}

#[test]
fn fc_c19_one_path_that_refuses_what_the_others_take_harms_nobody() {
    let mut bench = Bench::holding("a", 86_400.0, 1);
    let mut flights = 0;
    for round in 0..36_000 {
        let generation = bench.machine.facts().generation.unwrap();
        bench.machine.accepted(bench.now, generation);
        assert!(matches!(
            bench.machine.view(),
            View::Ready {
                suspected: false,
                ..
            }
        ));
        bench.machine.rejected(bench.now, generation);
        if let Step::Fetch(order) = bench.machine.step(bench.now) {
            flights += 1;
            bench.land(order, &format!("{round}"), 86_400.0);
        }
        bench.wait(0.1);
    }
    assert!(flights <= 20, "{flights}");
}

#[test]
fn fc_c22_an_issuer_that_alternates_between_two_secrets_does_not_shorten_anything() {
    let mut bench = Bench::holding("a", 3600.0, 1);
    bench.machine.rejected(bench.now, 1);
    let (_, order) = bench.next_fetch(10.0).unwrap();
    assert_eq!(
        bench.land(order, "b", 3600.0),
        Verdict::Publish { generation: 2 }
    );
    bench.machine.accepted(bench.now, 2);
    bench.machine.used(2);
    let ends = bench.machine.facts().ends_wall;
    let (_, order) = bench.next_fetch(3600.0).unwrap();
    assert_eq!(
        bench.land(order, "a", 3600.0),
        Verdict::Keep(KeepReason::Refused)
    );
    assert_eq!(bench.machine.facts().ends_wall, ends);
    assert!(bench.next_fetch(3600.0).unwrap().0 >= 10.0);
}

#[test]
fn fc_c24_somebody_who_asks_for_a_new_one_all_the_time_gets_twenty_an_hour() {
    let mut bench = Bench::holding("a", 86_400.0, 1);
    let mut flights = 0;
    for round in 0..36_000 {
        bench.machine.force(bench.now);
        if let Step::Fetch(order) = bench.machine.step(bench.now) {
            assert_eq!(order.reason, Reason::Forced);
            flights += 1;
            let Verdict::Publish { generation } = bench.land(order, &format!("{round}"), 86_400.0)
            else {
                panic!("a forced one is taken")
            };
            bench.machine.accepted(bench.now, generation);
        }
        bench.wait(0.1);
    }
    assert!((5..=20).contains(&flights), "{flights}");
}

#[test]
fn a_static_credential_is_never_fetched_again() {
    let mut bench = Bench::new(1);
    bench.machine.demand(bench.now);
    let order = bench.fetch();
    let lifetime = Lifetime::new(Expiry::Never, None, order.sent);
    bench.machine.fetched(
        bench.now,
        Arrival {
            lifetime,
            ..arrival(order.sent, "key", 1.0)
        },
    );
    bench.machine.used(1);
    assert_eq!(
        bench.machine.rejected(bench.now, 1),
        Rejection::NotRenewable
    );
    bench.wait(1e8);
    assert_eq!(bench.machine.step(bench.now), Step::Idle { until: None });
    assert!(matches!(
        bench.machine.view(),
        View::Ready {
            safe_end_wall: None,
            ..
        }
    ));
}

#[test]
fn fc_c29_what_was_never_stamped_is_not_renewed() {
    let mut bench = Bench::holding("a", 3600.0, 1);
    let (_, order) = bench.next_fetch(3600.0).unwrap();
    bench.land(order, "b", 3600.0);
    assert_eq!(bench.next_fetch(86_400.0).map(|(after, _)| after), None);
    assert_eq!(bench.machine.view(), View::Expired { generation: 2 });
    bench.machine.demand(bench.now);
    assert_eq!(bench.fetch().reason, Reason::Expired);
}

#[test]
fn fc_c31_a_renewal_that_is_late_can_be_noticed_and_made_up_for() {
    let mut bench = Bench::holding("a", 3600.0, 1);
    let _ = bench.machine.step(bench.now);
    assert!(!bench.machine.is_late(bench.now));
    bench.wait(2_000.0);
    assert!(bench.machine.is_late(bench.now));
    assert_eq!(bench.fetch().reason, Reason::Scheduled);
    assert!(!bench.machine.is_late(bench.now));
}

#[test]
fn stale_service_is_an_option_and_ends_with_the_outage() {
    let options = RefreshOptions::default().with_serve_stale(secs(600.0));
    for (options, is_ready) in [(options, true), (RefreshOptions::default(), false)] {
        let mut bench = Bench::with(options, 1);
        bench.machine.demand(bench.now);
        let order = bench.fetch();
        bench.land(order, "a", 60.0);
        bench.machine.used(1);
        while bench.now.mono < secs(260.0) {
            bench.machine.demand(bench.now);
            if bench.next_fetch(5.0).is_some() {
                bench.machine.failed(bench.now, UNAVAILABLE);
            }
        }
        assert_eq!(bench.view_is_ready(), is_ready);
    }
}

#[test]
fn a_driver_that_dies_is_forgiven_once() {
    let mut bench = Bench::new(1);
    bench.machine.demand(bench.now);
    bench.fetch();
    bench.machine.aborted(bench.now);
    assert_eq!(bench.machine.facts().failures, 0);
    let (after, _) = bench.next_fetch(60.0).unwrap();
    assert_within(after, 1.0, 1.0);
    bench.machine.aborted(bench.now);
    assert_eq!(bench.machine.facts().failures, 1);
}

#[test]
fn after_a_timeout_the_next_flight_gets_twice_the_time() {
    let mut bench = Bench::new(1);
    bench.machine.demand(bench.now);
    assert_eq!(bench.fetch().timeout, secs(30.0));
    bench.machine.failed(bench.now, Failure::timeout());
    let (_, order) = bench.next_fetch(60.0).unwrap();
    assert_eq!(order.timeout, secs(60.0));
}

#[test]
fn fc_e11_absurd_options_neither_spin_nor_stop() {
    let (zero, max) = (Duration::ZERO, Duration::MAX);
    for extreme in [zero, max] {
        for (from, to) in [(f64::NAN, f64::NAN), (-1.0, 9.0), (9.0, -1.0), (0.0, 0.0)] {
            let options = RefreshOptions::default()
                .with_profile(Profile::Custom { from, to })
                .with_min_spacing(extreme)
                .with_fetch_timeout(extreme)
                .with_wait_budget(extreme)
                .with_max_lifetime(extreme)
                .with_retry_after_limit(extreme)
                .with_force_delay(extreme)
                .with_heartbeat(Duration::ZERO)
                .with_waiter_limit(0);
            assert_eq!(options.waiter_limit(), 1);
            for ttl in [1.0, 60.0, 1e6] {
                let mut bench = Bench::with(options, 1);
                bench.machine.demand(bench.now);
                let order = bench.fetch();
                bench.land(order, "a", ttl);
                bench.machine.used(1);
                bench.machine.demand(bench.now);
                if let Some((after, _)) = bench.next_fetch(1e6) {
                    assert!(after >= 0.025 * ttl.min(60.0) - 0.01, "{after}");
                }
            }
        }
    }
}

#[test]
fn fc_b02_a_nap_during_the_flight_counts_even_after_the_clock_is_set_back() {
    let mut bench = Bench::new(1);
    bench.machine.demand(bench.now);
    let order = bench.fetch();
    for step in [20.0, -20.0] {
        bench.now.wall = secs(bench.now.wall.as_secs_f64() + step);
        assert!(matches!(bench.machine.step(bench.now), Step::Idle { .. }));
    }
    let verdict = bench.land(order, "a", 15.0);
    assert_eq!(verdict, Verdict::Keep(KeepReason::ExpiredOnArrival));
}

#[test]
fn fc_c18_time_alone_does_not_end_a_streak_of_refusals() {
    let mut bench = Bench::holding("a", 86_400.0, 1);
    for generation in 1..=5 {
        bench.wait(700.0);
        assert_eq!(
            bench.machine.rejected(bench.now, generation),
            Rejection::Renewing
        );
        let (_, order) = bench.next_fetch(10.0).unwrap();
        bench.land(order, &format!("{generation}"), 86_400.0);
    }
    assert_eq!(bench.machine.facts().force_streak, 5);
    bench.wait(20.0);
    let rejection = bench.machine.rejected(bench.now, 6);
    assert!(
        matches!(rejection, Rejection::CoolingDown { .. }),
        "{rejection:?}"
    );
}

#[test]
fn fc_c18_a_renewal_that_worked_ends_the_streak_after_a_while() {
    let mut bench = Bench::holding("a", 86_400.0, 1);
    for generation in 1..=5 {
        bench.wait(700.0);
        bench.machine.accepted(bench.now, generation);
        assert_eq!(
            bench.machine.rejected(bench.now, generation),
            Rejection::Renewing
        );
        let (_, order) = bench.next_fetch(10.0).unwrap();
        bench.land(order, &format!("{generation}"), 86_400.0);
        assert_eq!(bench.machine.facts().force_streak, 1);
    }
}
