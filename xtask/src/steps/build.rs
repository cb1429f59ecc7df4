//! The steps that are calls of cargo.

use serde_json::Value;

use crate::command::Cargo;
use crate::report::Outcome;
use crate::steps::Context;
use crate::workspace::Package;

pub(crate) fn format(_: &Context) -> Outcome {
    Cargo::new("fmt --all --check").run()
}

pub(crate) fn clippy(context: &Context) -> Outcome {
    let outcome = Cargo::new("clippy --workspace --all-targets --locked -- -D warnings").run();
    let outcome = if context.workspace.has("tower-auth-examples") {
        // Those of one client are behind a feature, so that the quickstart need not wait for it.
        outcome.and(
            Cargo::new("clippy -p tower-auth-examples --all-targets --all-features --locked -- -D warnings")
                .run(),
        )
    } else {
        outcome
    };
    if !context.workspace.has("tower-auth-tests") {
        return outcome;
    }
    // Not run by a plain `cargo test`, hence not among `--all-targets`.
    outcome.and(Cargo::new("clippy -p tower-auth-tests --test real --locked -- -D warnings").run())
}

/// Unit, integration and documentation tests.
pub(crate) fn tests(_: &Context) -> Outcome {
    Cargo::new("test --workspace --locked").run()
}

pub(crate) fn documentation(context: &Context) -> Outcome {
    let cargo = Cargo::new("doc --no-deps --locked").env("RUSTDOCFLAGS", "-D warnings");
    context
        .workspace
        .published()
        .fold(cargo, |cargo, package| {
            let cargo = cargo.arg("-p").arg(&package.name);
            package.buildable_features().fold(cargo, |cargo, feature| {
                cargo
                    .arg("--features")
                    .arg(format!("{}/{feature}", package.name))
            })
        })
        .run()
}

/// Each published crate by itself: nothing, then each feature alone. In a call for the whole workspace
/// the features of one crate would be switched on by another.
pub(crate) fn feature_sets(context: &Context) -> Outcome {
    context
        .workspace
        .published()
        .flat_map(feature_sets_of)
        .map(|set| Cargo::new(&format!("clippy --quiet --locked {set} -- --deny warnings")).run())
        .fold(Outcome::passed(), Outcome::and)
}

fn feature_sets_of(package: &Package) -> Vec<String> {
    let bare = format!("-p {} --no-default-features", package.name);
    let single = package
        .buildable_features()
        .map(|feature| format!("{bare} --features {feature}"));
    std::iter::once(bare.clone()).chain(single).collect()
}

/// Instructions and allocations per request against their limits.
pub(crate) fn cost_limits(context: &Context) -> Outcome {
    if !context.workspace.has("tower-auth-benches") {
        return Outcome::skipped("there is no package tower-auth-benches");
    }
    let cargo =
        Cargo::new("run --quiet --release --locked -p tower-auth-benches --bin cost -- --json");
    let cargo = if context.require_real {
        cargo.arg("--require-real")
    } else {
        cargo
    };
    let mut told = Outcome::passed();
    let outcome = cargo.run_watched(|line| {
        if let Some(report) = cost_report(line) {
            told = report;
        }
    });
    // What it tells says more than that it failed.
    if told.failures.is_empty() {
        told.and(outcome)
    } else {
        told
    }
}

/// What failed and what was not measured, in the object that the program prints.
fn cost_report(line: &str) -> Option<Outcome> {
    let report: Value = serde_json::from_str(line).ok()?;
    let failed = report.get("failed")?.as_array()?.iter();
    let skipped = report.get("skipped")?.as_object()?.iter();
    Some(Outcome {
        failures: failed
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        skipped: skipped
            .map(|(what, why)| format!("{what}: {}", why.as_str().unwrap_or_default()))
            .collect(),
    })
}

/// Every interleaving of the cache's lock-free parts, under loom.
pub(crate) fn model_checks(_: &Context) -> Outcome {
    let mut ran = 0;
    // A folder of its own: the flag would make the other steps build everything anew.
    let outcome =
        Cargo::new("test -p tower-auth --release --locked --lib --target-dir target/model model")
            .env("RUSTFLAGS", "--cfg tower_auth_model")
            .run_watched(|line| ran += passed_tests(line).unwrap_or(0));
    if ran == 0 {
        // The filter would otherwise hide that the module was renamed.
        return outcome.and(Outcome::failed("no model was checked"));
    }
    outcome
}

/// Reads `test result: ok. 3 passed; …`.
fn passed_tests(line: &str) -> Option<u32> {
    let (count, _) = line
        .strip_prefix("test result: ok. ")?
        .split_once(" passed")?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_checked_alone() {
        let package = Package {
            name: "a".to_owned(),
            folder: "/r/a".into(),
            published: true,
            features: vec!["fips".to_owned(), "x".to_owned(), "y".to_owned()],
        };
        assert_eq!(
            feature_sets_of(&package),
            [
                "-p a --no-default-features",
                "-p a --no-default-features --features x",
                "-p a --no-default-features --features y",
            ]
        );
    }

    #[test]
    fn the_number_of_tests_that_passed_is_read() {
        let line = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out";
        assert_eq!(passed_tests(line), Some(3));
        assert_eq!(passed_tests("test a ... ok"), None);
    }

    #[test]
    fn what_a_cost_report_failed_and_skipped_is_told() {
        let line = r#"{"failed":["a: 2 is over 1"],"skipped":{"b":"no valgrind"},"a":2}"#;
        let outcome = cost_report(line).unwrap();
        assert_eq!(outcome.failures, ["a: 2 is over 1"]);
        assert_eq!(outcome.skipped, ["b: no valgrind"]);
        assert_eq!(cost_report("warming up"), None);
    }
}
