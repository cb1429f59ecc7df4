mod build;
mod cases;
mod hygiene;
mod promises;
mod rust_tests;
mod servers;

use crate::report::Outcome;
use crate::workspace::Workspace;

/// What every step is given.
pub(crate) struct Context {
    pub(crate) workspace: Workspace,
    /// A real server that cannot be started is a failure.
    pub(crate) require_real: bool,
}

/// One check.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// Left out by `--fast`.
    pub(crate) slow: bool,
    pub(crate) run: fn(&Context) -> Outcome,
}

/// The cheap ones first, so that a slip shows early.
pub(crate) const STEPS: &[Step] = &[
    quick("format", build::format),
    quick("hygiene", hygiene::check),
    quick("case lists", cases::check),
    quick("dependencies", promises::check),
    quick("clippy", build::clippy),
    quick("tests", build::tests),
    slow("documentation", build::documentation),
    slow("feature sets", build::feature_sets),
    slow("cost limits", build::cost_limits),
    slow("model checks", build::model_checks),
    slow("real servers", servers::check),
];

const fn quick(name: &'static str, run: fn(&Context) -> Outcome) -> Step {
    Step {
        name,
        slow: false,
        run,
    }
}

const fn slow(name: &'static str, run: fn(&Context) -> Outcome) -> Step {
    Step {
        name,
        slow: true,
        run,
    }
}
