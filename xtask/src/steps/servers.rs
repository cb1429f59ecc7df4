//! The suites against real servers.

use std::collections::BTreeSet;

use crate::command::Cargo;
use crate::report::Outcome;
use crate::steps::Context;

/// A part that could not be started says so in a line `skipped: <part>: <reason>`.
pub(crate) fn check(context: &Context) -> Outcome {
    if !context.workspace.has("tower-auth-tests") {
        return Outcome::skipped("there is no package tower-auth-tests");
    }
    let cargo = Cargo::new("test -p tower-auth-tests --test real --locked -- --nocapture");
    let cargo = if context.require_real {
        cargo.env("REQUIRE_REAL", "1")
    } else {
        cargo
    };
    let mut skipped = BTreeSet::new();
    let mut outcome = cargo.run_watched(|line| skipped.extend(skipped_part(line)));
    outcome.skipped.extend(skipped);
    outcome
}

/// The test runner may have begun the line with the name of a test.
fn skipped_part(line: &str) -> Option<String> {
    let (_, part) = line.split_once("skipped: ")?;
    Some(part.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_part_is_found_behind_the_name_of_a_test() {
        let line = "test client_credentials::renews ... skipped: oidc-provider: no node";
        assert_eq!(
            skipped_part(line).as_deref(),
            Some("oidc-provider: no node")
        );
        assert_eq!(skipped_part("test a ... ok"), None);
    }
}
