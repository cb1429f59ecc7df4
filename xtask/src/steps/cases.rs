//! Every case that a crate's `tests/CASES.md` lists has a test, and every `fc_` test has a case.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::report::Outcome;
use crate::steps::Context;
use crate::steps::rust_tests::{rust_files, tests_in};
use crate::workspace::root;

pub(crate) fn check(context: &Context) -> Outcome {
    let mut failures = Vec::new();
    let top_level = test_names(&root().join("tests"), &mut failures);
    let mut lists = Vec::new();
    for package in context.workspace.crates() {
        let path = package.folder.join("tests/CASES.md");
        let mut tests = test_names(&package.folder.join("src"), &mut failures);
        tests.extend(test_names(&package.folder.join("tests"), &mut failures));
        let cases = match fs::read_to_string(&path) {
            Ok(text) => parse(&text, &mut failures, &package.name),
            Err(_) => BTreeMap::new(),
        };
        lists.push(Listed {
            package: package.name.clone(),
            cases,
            tests,
        });
    }
    failures.extend(mismatches(&lists, &top_level));
    for list in lists.iter().filter(|list| !list.cases.is_empty()) {
        println!("{}: {} cases", list.package, list.cases.len());
    }
    Outcome::of_failures(failures)
}

/// A crate's cases with the line of each, and its tests.
struct Listed {
    package: String,
    cases: BTreeMap<String, usize>,
    tests: Vec<String>,
}

fn mismatches(lists: &[Listed], top_level: &[String]) -> Vec<String> {
    let mut failures = Vec::new();
    for list in lists {
        for (case, line) in &list.cases {
            let mut tests = list.tests.iter().chain(top_level);
            if !tests.any(|test| covers(test, case)) {
                failures.push(format!(
                    "{} CASES.md line {line}: no test's name starts with {case}_",
                    list.package
                ));
            }
        }
    }
    let listed = |test: &String| {
        lists
            .iter()
            .flat_map(|list| list.cases.keys())
            .any(|case| covers(test, case))
    };
    let tests = lists
        .iter()
        .flat_map(|list| list.tests.iter().map(move |test| (&*list.package, test)))
        .chain(top_level.iter().map(|test| ("tests", test)));
    for (place, test) in tests {
        if test.starts_with("fc_") && !listed(test) {
            failures.push(format!("{place}: no CASES.md has the case of test {test}"));
        }
    }
    failures
}

/// The cases of a list. Every list item must be one: a slip in the form must not hide a case.
fn parse(text: &str, failures: &mut Vec<String>, package: &str) -> BTreeMap<String, usize> {
    let mut cases = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some(item) = line.strip_prefix("- ") else {
            continue;
        };
        let id = item.split_once(": ").map(|(id, _)| id).filter(|id| {
            !id.is_empty()
                && id
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        });
        let Some(id) = id else {
            failures.push(format!(
                "{package} CASES.md line {number}: expected \"- <id>: <situation> -> <expectation>\""
            ));
            continue;
        };
        let id = id.to_ascii_lowercase().replace('-', "_");
        if let Some(first) = cases.insert(id.clone(), number) {
            failures.push(format!(
                "{package} CASES.md line {number}: {id} is on line {first} already"
            ));
        }
    }
    cases
}

fn covers(test: &str, case: &str) -> bool {
    test.strip_prefix(case)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// The names, in lower case, of the tests under a folder that are run.
fn test_names(folder: &Path, failures: &mut Vec<String>) -> Vec<String> {
    let mut names = Vec::new();
    for path in rust_files(folder) {
        let tests = fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|source| tests_in(&source));
        match tests {
            Ok(tests) => names.extend(
                tests
                    .into_iter()
                    .filter(|test| !test.ignored)
                    .map(|test| test.name.to_ascii_lowercase()),
            ),
            Err(error) => failures.push(format!("{}: {error}", path.display())),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(cases: &str, tests: &[&str]) -> Listed {
        let mut failures = Vec::new();
        let cases = parse(cases, &mut failures, "a");
        assert_eq!(failures, [""; 0]);
        Listed {
            package: "a".to_owned(),
            cases,
            tests: tests.iter().map(|&test| test.to_owned()).collect(),
        }
    }

    #[test]
    fn a_case_is_covered_by_a_test_named_after_it() {
        let list = listed(
            "# Cases\n\n- FC-A14: cut JSON -> malformed\n- x7: b -> c\n",
            &["fc_a14_truncated_json_is_malformed", "x7"],
        );
        assert_eq!(mismatches(&[list], &[]), [""; 0]);
    }

    #[test]
    fn a_test_of_the_top_level_covers_too() {
        let list = listed("- x7: a -> b", &[]);
        assert_eq!(mismatches(&[list], &["x7_holds".to_owned()]), [""; 0]);
    }

    #[test]
    fn a_longer_id_does_not_cover_a_shorter_one() {
        let list = listed("- fc_a1: a -> b", &["x", "fc_a14_holds"]);
        let failures = mismatches(&[list], &[]);
        assert_eq!(
            failures,
            [
                "a CASES.md line 1: no test's name starts with fc_a1_",
                "a: no CASES.md has the case of test fc_a14_holds",
            ]
        );
    }

    #[test]
    fn a_doubled_id_and_a_malformed_item_are_told() {
        let mut failures = Vec::new();
        parse(
            "- a1: x\n- A1: y\n- a2 z\n  - not a case",
            &mut failures,
            "c",
        );
        assert_eq!(
            failures,
            [
                "c CASES.md line 2: a1 is on line 1 already",
                "c CASES.md line 3: expected \"- <id>: <situation> -> <expectation>\"",
            ]
        );
    }
}
