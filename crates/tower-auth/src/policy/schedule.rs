use std::time::Duration;

use fastrand::Rng;
use tower_auth_core::RefreshHint;

use super::RefreshOptions;

/// How the moment of a renewal is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draw {
    /// From the interval.
    Regular,
    /// From what is left of an interval that one happens to be in: the law of a renewal process in
    /// equilibrium. Clients that started together then ask at a steady rate from the first renewal on.
    Residual,
}

/// How long after its issue a credential that lives for `total` is due for renewal.
pub(super) fn refresh_after(
    total: Duration,
    hint: Option<RefreshHint>,
    draw: Draw,
    options: &RefreshOptions,
    rng: &mut Rng,
) -> Duration {
    let capped = total.min(options.max_lifetime());
    match hint {
        Some(RefreshHint::In(wish)) if is_plausible(wish, total) => {
            let center = wish.min(options.max_lifetime());
            drawn(center.mul_f64(0.9), center.mul_f64(1.1), capped, draw, rng)
        }
        // Before this point the issuer would only give the same again, whatever the phase.
        Some(RefreshHint::BeforeEnd(window)) if !window.is_zero() && window <= total => {
            let before = window.mul_f64(between(0.6, 0.95, rng));
            total
                .saturating_sub(before.max(safety_margin(total)))
                .min(options.max_lifetime())
        }
        _ => {
            let (from, to) = options.parts();
            drawn(capped.mul_f64(from), capped.mul_f64(to), capped, draw, rng)
        }
    }
}

/// How long before its end a credential is no longer stamped: time for the request to arrive, and for
/// clocks that differ.
pub(super) fn safety_margin(total: Duration) -> Duration {
    (total / 20).min(Duration::from_secs(10))
}

/// When to ask again after the issuer had nothing better than what is held: while that is still good.
pub(super) fn no_progress_delay(remaining: Duration) -> Duration {
    let pace = (remaining / 10).clamp(Duration::from_secs(10), Duration::from_secs(60));
    pace.min(remaining / 2)
}

/// When to ask again after the issuer gave something that ends before what is held, and lives for
/// `total`: there is no use in asking before a new one would end later.
pub(super) fn shorter_delay(remaining: Duration, total: Duration) -> Duration {
    remaining
        .saturating_sub(total)
        .min(remaining / 2)
        .max(no_progress_delay(remaining))
}

/// A number in `low..high`.
pub(super) fn between(low: f64, high: f64, rng: &mut Rng) -> f64 {
    low + (high - low) * rng.f64()
}

fn is_plausible(wish: Duration, total: Duration) -> bool {
    wish >= total.mul_f64(0.1) && wish <= total.mul_f64(0.9)
}

fn drawn(low: Duration, high: Duration, total: Duration, draw: Draw, rng: &mut Rng) -> Duration {
    let (low, high) = (low.as_secs_f64(), high.as_secs_f64());
    let seconds = match draw {
        Draw::Regular => between(low, high, rng),
        Draw::Residual => {
            // Asking again at once would waste the exchange, so the first twentieth is left out.
            let floor = (total.as_secs_f64() / 20.0).min(low / 2.0);
            let mut seconds = floor;
            for _ in 0..REDRAWS {
                // One happens to be in a long interval more often than in a short one.
                let length = between(low * low, high * high, rng).sqrt();
                seconds = length * rng.f64();
                if seconds >= floor {
                    break;
                }
            }
            seconds.max(floor)
        }
    };
    Duration::try_from_secs_f64(seconds).unwrap_or(total)
}

const REDRAWS: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::Profile;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn draws(total: Duration, hint: Option<RefreshHint>, draw: Draw, profile: Profile) -> Vec<f64> {
        let options = RefreshOptions::new().with_profile(profile);
        let mut rng = Rng::with_seed(1);
        (0..10_000)
            .map(|_| {
                let after = refresh_after(total, hint, draw, &options, &mut rng);
                after.as_secs_f64() / total.as_secs_f64()
            })
            .collect()
    }

    #[test]
    fn regular_draws_fill_the_interval_of_the_profile() {
        let custom = Profile::Custom { from: 0.3, to: 0.4 };
        for (profile, from, to) in [
            (Profile::Resilient, 0.45, 0.55),
            (Profile::Frugal, 0.75, 0.85),
            (custom, 0.3, 0.4),
        ] {
            let draws = draws(HOUR, None, Draw::Regular, profile);
            let within = |part: f64| from - 1e-9 <= part && part <= to + 1e-9;
            assert!(draws.iter().all(|part| within(*part)));
            assert!(draws.iter().any(|part| *part < from + 0.01));
            assert!(draws.iter().any(|part| *part > to - 0.01));
        }
    }

    #[test]
    fn residual_draws_are_spread_evenly_from_a_twentieth_on() {
        let draws = draws(HOUR, None, Draw::Residual, Profile::Resilient);
        assert!(draws.iter().all(|part| (0.05..=0.55).contains(part)));
        let early = draws.iter().filter(|part| **part < 0.25).count();
        // 0.2 of the 0.45 or so over which the law is flat.
        assert!((4_200..4_800).contains(&early), "{early}");
    }

    #[test]
    fn fc_a25_a_life_beyond_the_limit_is_renewed_within_a_day() {
        let year = Duration::from_secs(365 * 24 * 3600);
        for hint in [
            None,
            Some(RefreshHint::In(year / 2)),
            Some(RefreshHint::BeforeEnd(HOUR)),
        ] {
            let draws = draws(year, hint, Draw::Regular, Profile::Resilient);
            assert!(draws.iter().all(|part| part * 365.0 < 1.11), "{hint:?}");
        }
    }

    #[test]
    fn the_margin_is_a_twentieth_and_ten_seconds_at_most() {
        for (total, margin) in [(0, 0), (20, 1_000), (200, 10_000), (86_400, 10_000)] {
            let seen = safety_margin(Duration::from_secs(total));
            assert_eq!(seen, Duration::from_millis(margin), "{total}");
        }
    }

    #[test]
    fn the_pace_without_progress_is_a_tenth_of_what_is_left_within_bounds() {
        for (remaining, delay) in [(0, 0), (4, 2), (20, 10), (50, 10), (300, 30), (36_000, 60)] {
            let seen = no_progress_delay(Duration::from_secs(remaining));
            assert_eq!(seen, Duration::from_secs(delay), "{remaining}");
        }
        for (remaining, total, delay) in [(36_000, 600, 18_000), (1_000, 900, 100), (30, 60, 10)] {
            let seen = shorter_delay(Duration::from_secs(remaining), Duration::from_secs(total));
            assert_eq!(seen, Duration::from_secs(delay), "{remaining} {total}");
        }
    }
}
