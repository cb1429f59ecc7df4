use std::io::ErrorKind;
use std::process::{self, Stdio};

use tower_auth_benches::{LayerKind, MEASURED_LOOP, TOKEN_BYTES, TransportKind, Variant};

use crate::report::{Report, Value};
use crate::statistics::net_ratio;

/// Counts instructions by running this program under callgrind.
///
/// The counts are exact and repeat to the digit, but they are blind to what a locked instruction or a
/// cache miss costs, and a clock read in the vDSO becomes a system call of a few instructions. The
/// measurements of time cover those.
pub(crate) fn measure(report: &mut Report) {
    let boxed = against_yardstick(LayerKind::Ours, TransportKind::Boxed, false);
    let ready = against_yardstick(LayerKind::Ours, TransportKind::Ready, false);
    let clone = against_yardstick(LayerKind::Ours, TransportKind::Boxed, true);
    report.limited("instructions_ratio_boxed", boxed.ratio(), 1.0);
    report.limited("instructions_token_length_delta", token_length_delta(), 0.0);
    report.detail("instructions_yardstick_boxed", boxed.yardstick());
    report.detail("instructions_ours_boxed", boxed.ours());
    report.detail("instructions_ratio_ready", ready.ratio());
    report.detail("instructions_yardstick_ready", ready.yardstick());
    report.detail("instructions_ours_ready", ready.ours());
    report.detail("instructions_ratio_boxed_clone_per_call", clone.ratio());
}

/// Instructions per request of the same load without a layer, behind the yardstick and behind ours.
pub(crate) struct Counts(Result<[f64; 3], Value>);

impl Counts {
    pub(crate) fn ratio(&self) -> Value {
        self.of(|[bare, yardstick, ours]| net_ratio(bare, yardstick, ours))
    }

    fn yardstick(&self) -> Value {
        self.of(|[bare, yardstick, _]| Some(yardstick - bare))
    }

    pub(crate) fn ours(&self) -> Value {
        self.of(|[bare, _, ours]| Some(ours - bare))
    }

    fn of(&self, compute: impl FnOnce([f64; 3]) -> Option<f64>) -> Value {
        match &self.0 {
            Ok(counts) => Value::Measured(compute(*counts).unwrap_or(f64::NAN)),
            Err(why) => why.clone(),
        }
    }
}

pub(crate) fn against_yardstick(
    ours: LayerKind,
    transport: TransportKind,
    clone_per_call: bool,
) -> Counts {
    let count = |layer| {
        let mut variant = Variant::new(layer, transport);
        if clone_per_call {
            variant = variant.clone_per_call();
        }
        per_request(variant, TOKEN_BYTES)
    };
    let counts = || {
        Ok([
            count(LayerKind::Bare)?,
            count(LayerKind::Yardstick)?,
            count(ours)?,
        ])
    };
    Counts(counts())
}

fn token_length_delta() -> Value {
    let count = |token_bytes| {
        per_request(
            Variant::new(LayerKind::Ours, TransportKind::Boxed),
            token_bytes,
        )
    };
    match (count(40), count(4000)) {
        (Ok(short), Ok(long)) => Value::Measured((long - short).abs()),
        (Err(why), _) | (_, Err(why)) => why,
    }
}

/// The difference of two runs leaves out all that happens once.
fn per_request(variant: Variant, token_bytes: usize) -> Result<f64, Value> {
    let few = callgrind(variant, FEW, token_bytes)?;
    let many = callgrind(variant, MANY, token_bytes)?;
    Ok((many as f64 - few as f64) / (MANY - FEW) as f64)
}

fn callgrind(variant: Variant, requests: usize, token_bytes: usize) -> Result<u64, Value> {
    let program = std::env::current_exe()
        .map_err(|error| Value::Missing(format!("this program's path is unknown: {error}")))?;
    #[expect(
        clippy::disallowed_methods,
        reason = "valgrind is waited for, its arguments are fixed and its output is small"
    )]
    let output = process::Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            &format!("--toggle-collect={MEASURED_LOOP}"),
        ])
        .arg(program)
        .args(["--loop", &variant.to_string()])
        .args(["--requests", &requests.to_string()])
        .args(["--token-bytes", &token_bytes.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => Value::Missing("valgrind not found".to_owned()),
            _ => Value::Missing(format!("valgrind cannot be started: {error}")),
        })?;
    let log = String::from_utf8_lossy(&output.stderr);
    match collected(&log) {
        Some(count) if output.status.success() && count > 0 => Ok(count),
        _ => Err(Value::Missing(format!(
            "callgrind counted nothing in {variant} ({}); its last line was: {}",
            output.status,
            log.lines().last().unwrap_or("")
        ))),
    }
}

/// Reads the line `==1== Collected : 1234`.
fn collected(log: &str) -> Option<u64> {
    log.lines()
        .find_map(|line| line.split_once("Collected : "))?
        .1
        .trim()
        .parse()
        .ok()
}

const FEW: usize = 100;
const MANY: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_the_log() {
        let log =
            "==7== Callgrind\n==7== \n==7== Events    : Ir\n==7== Collected : 919600\n==7== \n";
        assert_eq!(collected(log), Some(919_600));
        assert_eq!(collected("==7== Events    : Ir\n"), None);
        assert_eq!(collected("==7== Collected : many\n"), None);
    }

    #[test]
    fn the_ratio_is_net_of_the_load() {
        let counts = Counts(Ok([2000.0, 2300.0, 2285.0]));
        assert_eq!(counts.ratio(), Value::Measured(0.95));
        assert_eq!(counts.yardstick(), Value::Measured(300.0));
        assert_eq!(counts.ours(), Value::Measured(285.0));
    }

    #[test]
    fn a_missing_tool_is_passed_on() {
        let missing = Value::Missing("valgrind not found".to_owned());
        assert_eq!(Counts(Err(missing.clone())).ratio(), missing);
    }
}
