use std::time::{Duration, Instant};

/// What became of a step: what failed and what could not be checked. Passed where both are empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) failures: Vec<String>,
    pub(crate) skipped: Vec<String>,
}

impl Outcome {
    pub(crate) fn passed() -> Self {
        Self::default()
    }

    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self::of_failures(vec![why.into()])
    }

    pub(crate) fn skipped(why: impl Into<String>) -> Self {
        Self {
            skipped: vec![why.into()],
            ..Self::default()
        }
    }

    /// Passed where the list is empty.
    pub(crate) fn of_failures(failures: Vec<String>) -> Self {
        Self {
            failures,
            ..Self::default()
        }
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.failures.extend(other.failures);
        self.skipped.extend(other.skipped);
        self
    }
}

/// Runs steps under a heading each and remembers how they went.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<(&'static str, Duration, Outcome)>,
}

impl Report {
    pub(crate) fn run(&mut self, name: &'static str, step: impl FnOnce() -> Outcome) {
        println!("\n=== {name}");
        let start = Instant::now();
        let outcome = step();
        let took = start.elapsed();
        for failure in &outcome.failures {
            println!("failed: {failure}");
        }
        println!("--- {name}: {:.1} s", took.as_secs_f64());
        self.lines.push((name, took, outcome));
    }

    pub(crate) fn passed(&self) -> bool {
        self.lines
            .iter()
            .all(|(_, _, outcome)| outcome.failures.is_empty())
    }

    pub(crate) fn summary(&self) {
        println!("\n=== summary");
        for (name, took, outcome) in &self.lines {
            let word = match (outcome.failures.len(), outcome.skipped.len()) {
                (0, 0) => "passed".to_owned(),
                (0, skipped) => format!("passed, {skipped} skipped"),
                (failed, _) => format!("FAILED ({failed})"),
            };
            println!("{name:<20} {:>7.1} s  {word}", took.as_secs_f64());
            for why in &outcome.skipped {
                println!("    skipped: {why}");
            }
            for why in outcome.failures.iter().take(SHOWN_AGAIN) {
                println!("    failed: {why}");
            }
            if let Some(more @ 1..) = outcome.failures.len().checked_sub(SHOWN_AGAIN) {
                println!("    and {more} more, see above");
            }
        }
        let skipped: usize = self.lines.iter().map(|(_, _, o)| o.skipped.len()).sum();
        let failed = self
            .lines
            .iter()
            .filter(|(_, _, o)| !o.failures.is_empty())
            .count();
        println!(
            "{} steps, {failed} failed, {skipped} parts skipped",
            self.lines.len()
        );
    }
}

/// All failures of a step are listed under it; the summary has the first few.
const SHOWN_AGAIN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_part_is_no_failure() {
        let mut report = Report::default();
        report.run("a", || Outcome::skipped("no such program"));
        assert!(report.passed());
    }

    #[test]
    fn the_steps_after_a_failure_still_run() {
        let mut report = Report::default();
        report.run("a", || Outcome::failed("no"));
        report.run("b", Outcome::passed);
        assert_eq!(report.lines.len(), 2);
        assert!(!report.passed());
    }
}
