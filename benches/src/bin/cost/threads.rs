//! Two threads that do not share a request, a connection or a service should not slow each other down.

use crate::report::{Report, Value};

/// Compares what a second thread adds to the time of a request.
pub(crate) fn measure(report: &mut Report) {
    match pinned::added() {
        Ok(added) => {
            let ratio = if added.yardstick < PARALLELISM_NANOS {
                Value::Inconclusive(format!(
                    "the second thread cost the yardstick {:.0} ns, less than the {PARALLELISM_NANOS} ns that real parallelism costs it",
                    added.yardstick
                ))
            } else {
                Value::Measured(added.ours / added.yardstick)
            };
            report.limited(KEY, ratio, LIMIT);
            report.detail("two_thread_added_ns_bare", Value::Measured(added.bare));
            report.detail(
                "two_thread_added_ns_yardstick",
                Value::Measured(added.yardstick),
            );
            report.detail("two_thread_added_ns_ours", Value::Measured(added.ours));
            report.detail(
                "two_thread_added_ns_keyed_hit",
                Value::Measured(added.keyed),
            );
        }
        Err(why) => report.limited(KEY, Value::Inconclusive(why), LIMIT),
    }
}

/// Nanoseconds that a request takes longer while another thread does the same.
struct Added {
    bare: f64,
    yardstick: f64,
    ours: f64,
    keyed: f64,
}

const KEY: &str = "two_thread_added_ratio";
const LIMIT: f64 = 0.3;
const PARALLELISM_NANOS: f64 = 40.0;

#[cfg(not(target_os = "linux"))]
mod pinned {
    use super::Added;

    pub(super) fn added() -> Result<Added, String> {
        Err("threads are pinned to processors on Linux only".to_owned())
    }
}

#[cfg(target_os = "linux")]
mod pinned {
    #![expect(
        clippy::disallowed_types,
        clippy::disallowed_methods,
        reason = "real time is what is measured"
    )]

    use std::hint::spin_loop;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    use rustix::time::{ClockId, clock_gettime};
    use tower_auth_benches::{LayerKind, Runner, TOKEN_BYTES, TransportKind, Variant};

    use super::Added;
    use crate::statistics::median;

    pub(super) fn added() -> Result<Added, String> {
        let processors = two_processors()?;
        let [(a0, b0), (a1, b1), (a2, b2), (a3, b3)] = VARIANTS.map(|layer| {
            let [a, b] = Variant::new(layer, TransportKind::Ready).runners(TOKEN_BYTES);
            (a, b)
        });
        let shared = Shared::default();
        let kept = thread::scope(|scope| {
            let shared = &shared;
            let [first, second] = processors;
            scope.spawn(move || follow(shared, second, [b0, b1, b2, b3]));
            scope
                .spawn(move || lead(shared, first, [a0, a1, a2, a3]))
                .join()
        })
        .map_err(|_| "a measuring thread panicked".to_owned())??;
        let [bare, yardstick, ours, keyed] = kept.map(|cell| cell.added());
        Ok(Added {
            bare: bare?,
            yardstick: yardstick?,
            ours: ours?,
            keyed: keyed?,
        })
    }

    const VARIANTS: [LayerKind; 4] = [
        LayerKind::Bare,
        LayerKind::Yardstick,
        LayerKind::Ours,
        LayerKind::Keyed,
    ];

    /// One thread's stretch of requests.
    #[derive(Clone, Copy, Debug)]
    struct Stretch {
        start: Instant,
        end: Instant,
        on_cpu: Duration,
    }

    /// Nanoseconds per request of the stretches that were not disturbed.
    #[derive(Debug, Default)]
    struct Cell {
        alone: Vec<f64>,
        together: Vec<f64>,
        discarded: usize,
    }

    #[derive(Default)]
    struct Shared {
        arrived: AtomicUsize,
        round: AtomicUsize,
        stop: AtomicBool,
        follower: Mutex<Option<Stretch>>,
    }

    impl Shared {
        /// Waits for the other thread without giving up the processor, so that both leave at once.
        fn meet(&self) {
            let round = self.round.load(Ordering::Acquire);
            if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == 2 {
                self.arrived.store(0, Ordering::Relaxed);
                self.round.store(round + 1, Ordering::Release);
            } else {
                while self.round.load(Ordering::Acquire) == round {
                    spin_loop();
                }
            }
        }
    }

    /// Both threads walk the same rounds; the leader alone decides what counts and when to stop.
    fn lead(
        shared: &Shared,
        processor: usize,
        mut runners: [Runner; 4],
    ) -> Result<[Cell; 4], String> {
        let pinned = pin(processor);
        let mut cells: [Cell; 4] = Default::default();
        let deadline = Instant::now() + LONGEST;
        loop {
            let enough = cells.iter().all(|cell| cell.together.len() >= ROUNDS);
            let stop = pinned.is_err() || enough || Instant::now() > deadline;
            shared.stop.store(stop, Ordering::Relaxed);
            shared.meet();
            if stop {
                return pinned.map(|()| cells);
            }
            for (run, cell) in runners.iter_mut().zip(&mut cells) {
                shared.meet();
                let alone = stretch(run);
                shared.meet();
                shared.meet();
                let mine = stretch(run);
                shared.meet();
                let theirs = *shared
                    .follower
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                cell.take(alone, mine, theirs);
            }
        }
    }

    fn follow(shared: &Shared, processor: usize, mut runners: [Runner; 4]) {
        // Without its own processor the rounds are discarded, because they do not overlap.
        let _ = pin(processor);
        loop {
            shared.meet();
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            for run in &mut runners {
                shared.meet();
                shared.meet();
                shared.meet();
                let mine = stretch(run);
                *shared
                    .follower
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(mine);
                shared.meet();
            }
        }
    }

    impl Cell {
        fn take(&mut self, alone: Stretch, mine: Stretch, theirs: Option<Stretch>) {
            match theirs {
                Some(theirs)
                    if alone.kept_cpu()
                        && mine.kept_cpu()
                        && theirs.kept_cpu()
                        && mine.overlap(&theirs) >= LEAST_OVERLAP =>
                {
                    self.alone.push(alone.nanos());
                    self.together.push((mine.nanos() + theirs.nanos()) / 2.0);
                }
                _ => self.discarded += 1,
            }
        }

        fn added(mut self) -> Result<f64, String> {
            if self.together.len() < FEWEST_ROUNDS {
                return Err(format!(
                    "the machine is too busy: {} of {} rounds lost a processor",
                    self.discarded,
                    self.discarded + self.together.len()
                ));
            }
            let together = median(&mut self.together).unwrap_or(f64::NAN);
            Ok(together - median(&mut self.alone).unwrap_or(f64::NAN))
        }
    }

    impl Stretch {
        fn wall(&self) -> Duration {
            self.end.saturating_duration_since(self.start)
        }

        fn kept_cpu(&self) -> bool {
            self.on_cpu.as_secs_f64() >= LEAST_ON_CPU * self.wall().as_secs_f64()
        }

        /// The part of the time from the first start to the last end in which both ran.
        fn overlap(&self, other: &Self) -> f64 {
            let both = self
                .end
                .min(other.end)
                .saturating_duration_since(self.start.max(other.start));
            let either = self
                .end
                .max(other.end)
                .saturating_duration_since(self.start.min(other.start));
            both.as_secs_f64() / either.as_secs_f64()
        }

        /// Per request.
        fn nanos(&self) -> f64 {
            self.wall().as_nanos() as f64 / REQUESTS as f64
        }
    }

    fn stretch(run: &mut Runner) -> Stretch {
        let cpu = thread_time();
        let start = Instant::now();
        run(REQUESTS);
        let end = Instant::now();
        Stretch {
            start,
            end,
            on_cpu: thread_time().saturating_sub(cpu),
        }
    }

    fn thread_time() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(
            time.tv_sec.try_into().unwrap_or_default(),
            time.tv_nsec.try_into().unwrap_or_default(),
        )
    }

    fn two_processors() -> Result<[usize; 2], String> {
        let allowed = sched_getaffinity(None)
            .map_err(|error| format!("the processors cannot be listed: {error}"))?;
        let mut processors = (0..CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor));
        match (processors.next(), processors.next()) {
            (Some(first), Some(second)) => Ok([first, second]),
            _ => Err("the process has one processor only".to_owned()),
        }
    }

    fn pin(processor: usize) -> Result<(), String> {
        let mut set = CpuSet::new();
        set.set(processor);
        sched_setaffinity(None, &set)
            .map_err(|error| format!("a thread cannot be pinned to processor {processor}: {error}"))
    }

    /// About 0.2 ms: long enough to time, short enough to be left alone.
    const REQUESTS: usize = 1000;
    const ROUNDS: usize = 600;
    const FEWEST_ROUNDS: usize = 100;
    const LONGEST: Duration = Duration::from_secs(20);
    const LEAST_ON_CPU: f64 = 0.93;
    const LEAST_OVERLAP: f64 = 0.85;

    #[cfg(test)]
    mod tests {
        use super::*;

        fn stretch(epoch: Instant, start: u64, end: u64, on_cpu: u64) -> Stretch {
            Stretch {
                start: epoch + Duration::from_micros(start),
                end: epoch + Duration::from_micros(end),
                on_cpu: Duration::from_micros(on_cpu),
            }
        }

        #[test]
        fn overlap_is_what_both_share() {
            let epoch = Instant::now();
            let a = stretch(epoch, 0, 100, 100);
            assert_eq!(a.overlap(&a), 1.0);
            assert_eq!(a.overlap(&stretch(epoch, 25, 125, 100)), 0.6);
            assert_eq!(a.overlap(&stretch(epoch, 100, 200, 100)), 0.0);
            assert_eq!(a.overlap(&stretch(epoch, 150, 200, 50)), 0.0);
        }

        #[test]
        fn a_round_that_lost_a_processor_is_discarded() {
            let epoch = Instant::now();
            let good = stretch(epoch, 0, 200, 199);
            let preempted = stretch(epoch, 0, 200, 180);
            let late = stretch(epoch, 40, 240, 200);
            let mut cell = Cell::default();
            cell.take(preempted, good, Some(good));
            cell.take(good, preempted, Some(good));
            cell.take(good, good, Some(preempted));
            cell.take(good, good, Some(late));
            cell.take(good, good, None);
            assert_eq!((cell.together.len(), cell.discarded), (0, 5));
            cell.take(good, good, Some(good));
            assert_eq!((cell.together.len(), cell.discarded), (1, 5));
        }

        #[test]
        fn what_is_added_is_a_difference_of_medians() {
            let cell = Cell {
                alone: vec![180.0; FEWEST_ROUNDS],
                together: vec![230.0; FEWEST_ROUNDS],
                discarded: 7,
            };
            assert_eq!(cell.added(), Ok(50.0));
            let busy = Cell {
                alone: vec![180.0; FEWEST_ROUNDS - 1],
                together: vec![230.0; FEWEST_ROUNDS - 1],
                discarded: 7,
            };
            let why = busy.added().unwrap_err();
            assert!(why.contains("7 of 106 rounds"), "{why}");
        }
    }
}
