use std::time::Duration;

/// Both clocks at one moment.
///
/// Neither is enough alone: a monotonic clock may stand still while the machine is suspended, and the
/// wall clock may be set to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since any fixed moment. It never runs backwards and may stop in suspend.
    pub mono: Duration,
    /// Time since the Unix epoch, zero before it. It may jump in both directions.
    pub wall: Duration,
}

impl Now {
    /// Both clocks at one moment.
    #[must_use]
    pub const fn new(mono: Duration, wall: Duration) -> Self {
        Self { mono, wall }
    }
}

/// The two clocks made into one that never runs backwards and does not stop in suspend.
///
/// It advances with the monotonic clock, and by whatever the wall clock gained on it: that was a suspend,
/// or a step that cannot be told from one. What the wall clock loses is ignored. So an end counted on
/// this clock is reached as soon as either clock says so, and no step back extends a life.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timeline {
    seen: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    mono: Duration,
    /// What the monotonic clock missed so far.
    slept: Duration,
    /// Wall minus monotonic, in nanoseconds, when the two last agreed.
    offset: i128,
    time: Duration,
}

/// What an observation brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    /// The moment on the timeline.
    pub(super) time: Duration,
    /// How far the wall clock gained on the monotonic one since the last look.
    pub(super) gained: Duration,
}

impl Timeline {
    /// Takes notice of the clocks.
    pub(super) fn observe(&mut self, now: Now) -> Observation {
        let (seen, gained) = self.after(now);
        self.seen = Some(seen);
        Observation {
            time: seen.time,
            gained,
        }
    }

    /// Where `now` lies on the timeline.
    pub(super) fn time(&self, now: Now) -> Duration {
        self.after(now).0.time
    }

    /// The last moment observed.
    pub(super) fn last(&self) -> Duration {
        self.seen.map_or(Duration::ZERO, |seen| seen.time)
    }

    /// When the monotonic clock will show `time`, if nothing jumps.
    pub(super) fn mono_at(&self, time: Duration) -> Duration {
        self.seen
            .map_or(time, |seen| time.saturating_sub(seen.slept))
    }

    /// When the wall clock will show `time`, if nothing jumps.
    pub(super) fn wall_at(&self, time: Duration) -> Duration {
        let Some(seen) = self.seen else {
            return time;
        };
        let wall = nanos(time.saturating_sub(seen.slept)).saturating_add(seen.offset);
        from_nanos(wall)
    }

    fn after(&self, now: Now) -> (Seen, Duration) {
        let Some(mut seen) = self.seen else {
            let seen = Seen {
                mono: now.mono,
                slept: Duration::ZERO,
                offset: nanos(now.wall).saturating_sub(nanos(now.mono)),
                time: now.mono,
            };
            return (seen, Duration::ZERO);
        };
        seen.mono = seen.mono.max(now.mono);
        let offset = nanos(now.wall).saturating_sub(nanos(seen.mono));
        let change = offset.saturating_sub(seen.offset);
        let tolerance = nanos(TOLERANCE);
        let mut gained = from_nanos(change);
        let mut unsettled = gained;
        if change > tolerance {
            seen.slept = seen.slept.saturating_add(gained);
            seen.offset = offset;
            unsettled = Duration::ZERO;
        } else if change < -tolerance {
            seen.offset = offset;
            gained = Duration::ZERO;
        }
        let time = seen
            .mono
            .saturating_add(seen.slept)
            .saturating_add(unsettled);
        seen.time = seen.time.max(time);
        (seen, gained)
    }
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

fn from_nanos(nanos: i128) -> Duration {
    let nanos = u128::try_from(nanos).unwrap_or(0);
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    let rest = u32::try_from(nanos % 1_000_000_000).unwrap_or(0);
    Duration::new(seconds, rest)
}

/// The clocks are read one after the other and may be coarse: a smaller change is noise, and noise must
/// not add up.
const TOLERANCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono: u64, wall: u64) -> Now {
        Now::new(Duration::from_secs(mono), Duration::from_secs(wall))
    }

    #[test]
    fn a_step_back_is_ignored_and_a_suspend_after_it_is_counted() {
        let mut line = Timeline::default();
        line.observe(at(0, 10_000));
        assert_eq!(line.observe(at(10, 6_410)).time, Duration::from_secs(10));
        let resumed = line.observe(at(11, 6_411 + 3_600));
        assert_eq!(resumed.time, Duration::from_secs(3_611));
        assert_eq!(resumed.gained, Duration::from_secs(3_600));
        assert_eq!(
            line.mono_at(Duration::from_secs(3_621)),
            Duration::from_secs(21)
        );
        assert_eq!(
            line.wall_at(Duration::from_secs(3_621)),
            Duration::from_secs(10_021)
        );
    }

    #[test]
    fn fc_b15_noise_of_coarse_clocks_does_not_add_up() {
        let mut line = Timeline::default();
        for tick in 0..100_000_u64 {
            let mono = Duration::from_millis(tick);
            let wall = Duration::from_secs(1_000) + mono + Duration::from_millis((tick % 2) * 50);
            line.observe(Now::new(mono, wall));
        }
        let end = Duration::from_millis(99_999);
        assert!(line.last() >= end);
        assert!(line.last() <= end + TOLERANCE);
    }

    #[test]
    fn fc_b13_the_ends_of_time_do_not_panic() {
        let mut line = Timeline::default();
        for (mono, wall) in [
            (Duration::ZERO, Duration::MAX),
            (Duration::MAX, Duration::ZERO),
            (Duration::MAX, Duration::MAX),
            (Duration::ZERO, Duration::ZERO),
        ] {
            let seen = line.observe(Now::new(mono, wall));
            let _ = line.mono_at(seen.time);
            let _ = line.wall_at(Duration::MAX);
        }
        assert_eq!(line.last(), Duration::MAX);
    }
}
