//! Small rules about the tree.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::report::Outcome;
use crate::steps::Context;
use crate::steps::rust_tests::{calls_of, tests_in};
use crate::workspace::root;

pub(crate) fn check(context: &Context) -> Outcome {
    let mut outcome = files();
    outcome.failures.extend(documents(context));
    outcome
}

/// Each file that git tracks.
fn files() -> Outcome {
    // A source archive has no list of what belongs to it.
    if !root().join(".git").exists() {
        return Outcome::skipped("tracked files: this is not a git checkout");
    }
    match tracked_files() {
        Ok(files) => {
            Outcome::of_failures(files.iter().flat_map(|file| file_problems(file)).collect())
        }
        Err(error) => Outcome::failed(error),
    }
}

/// What every crate and the workspace must say about themselves.
fn documents(context: &Context) -> Vec<String> {
    let mut failures = Vec::new();
    for package in context.workspace.crates() {
        if !package.folder.join("README.md").exists() {
            failures.push(format!("{}: there is no README.md", package.name));
        }
    }
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap_or_default();
    if !changelog.contains("\n## [Unreleased]\n") {
        failures.push("CHANGELOG.md: there is no heading \"## [Unreleased]\"".to_owned());
    }
    failures
}

fn tracked_files() -> Result<Vec<String>, String> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()
        .map_err(|error| format!("git ls-files: cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "git ls-files: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names
        .split('\0')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}

fn file_problems(name: &str) -> Vec<String> {
    // One that was deleted and not committed yet has nothing to check.
    let Ok(content) = fs::read(root().join(name)) else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    if content.len() > LARGEST_FILE {
        problems.push(format!(
            "{name}: {} bytes, more than {LARGEST_FILE}",
            content.len()
        ));
    }
    if Path::new(name).extension().is_some_and(|e| e == "rs") {
        let found = source_problems(&String::from_utf8_lossy(&content));
        problems.extend(
            found
                .into_iter()
                .map(|problem| format!("{name}: {problem}")),
        );
    }
    problems
}

fn source_problems(source: &str) -> Vec<String> {
    let mut problems = Vec::new();
    match (tests_in(source), calls_of(UNFINISHED, source)) {
        (Ok(tests), Ok(calls)) => {
            problems.extend(
                tests
                    .into_iter()
                    .filter(|test| test.ignored)
                    .map(|test| format!("test {} is ignored", test.name)),
            );
            problems.extend(calls.into_iter().map(|call| format!("{call}! is called")));
        }
        (Err(error), _) | (_, Err(error)) => problems.push(error),
    }
    let ignored_example = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("//") && line.contains("```") && line.contains("ignore")
    };
    if source.lines().any(|line| ignored_example(&line)) {
        problems.push("an example in the documentation is not compiled".to_owned());
    }
    problems
}

const LARGEST_FILE: usize = 1 << 20;
const UNFINISHED: &[&str] = &["todo", "unimplemented"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unfinished_or_not_run_is_found() {
        let source = "#[test] #[ignore] fn a() { todo!() }\n/// ```rust,ignore\nfn b() {}";
        assert_eq!(
            source_problems(source),
            [
                "test a is ignored",
                "todo! is called",
                "an example in the documentation is not compiled",
            ]
        );
    }

    #[test]
    fn a_clean_source_has_no_problems() {
        assert_eq!(
            source_problems("/// ```\n/// 1;\n/// ```\nfn a() {}"),
            [""; 0]
        );
    }
}
