//! Chores of the workspace. `cargo xtask test` runs every check that the project relies on.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the developer's terminal: it starts programs, reads the tree and prints"
)]

mod command;
mod report;
mod steps;
mod workspace;

use std::process::ExitCode;

use lexopt::prelude::*;

use crate::report::Report;
use crate::steps::{Context, STEPS};
use crate::workspace::Workspace;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether everything passed.
fn run() -> Result<bool, String> {
    let Some(options) = Options::parse(lexopt::Parser::from_env())
        .map_err(|error| format!("{error}\n\n{}", usage()))?
    else {
        println!("{}", usage());
        return Ok(true);
    };
    let context = Context {
        workspace: Workspace::read()?,
        require_real: options.require_real,
    };
    let mut report = Report::default();
    for step in STEPS {
        let wanted = if options.only.is_empty() {
            !(options.fast && step.slow)
        } else {
            options.only.iter().any(|name| name == step.name)
        };
        if wanted {
            report.run(step.name, || (step.run)(&context));
        }
    }
    report.summary();
    Ok(report.passed())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    fast: bool,
    require_real: bool,
    only: Vec<String>,
}

impl Options {
    /// `None` where only the usage is asked for.
    fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut options = Self::default();
        let mut command = None;
        while let Some(argument) = parser.next()? {
            match argument {
                Long("fast") => options.fast = true,
                Long("require-real") => options.require_real = true,
                Long("only") => {
                    let name = parser.value()?.string()?;
                    if !STEPS.iter().any(|step| step.name == name) {
                        return Err(format!("there is no step named {name:?}").into());
                    }
                    options.only.push(name);
                }
                Short('h') | Long("help") => return Ok(None),
                Value(name) if command.is_none() => command = Some(name.string()?),
                other => return Err(other.unexpected()),
            }
        }
        match command.as_deref() {
            Some("test") => Ok(Some(options)),
            Some(other) => Err(format!("there is no command named {other:?}").into()),
            None => Ok(None),
        }
    }
}

fn usage() -> String {
    let mut text = String::from(
        "cargo xtask test [--fast] [--require-real] [--only STEP]...\n\n\
         --fast          leave out the steps marked slow\n\
         --require-real  a real server that cannot be started is a failure\n\
         --only STEP     run this step; may be given several times\n\nsteps:",
    );
    for step in STEPS {
        let slow = if step.slow { "  (slow)" } else { "" };
        text.push_str(&format!("\n  {}{slow}", step.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        let arguments = std::iter::once("xtask").chain(line.split_whitespace());
        Options::parse(lexopt::Parser::from_iter(arguments)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_options_may_stand_before_or_after_the_command() {
        let expected = Options {
            fast: true,
            require_real: true,
            only: vec!["clippy".to_owned()],
        };
        for line in [
            "test --fast --require-real --only clippy",
            "--only=clippy --require-real --fast test",
        ] {
            assert_eq!(parse(line).unwrap().as_ref(), Some(&expected));
        }
    }

    #[test]
    fn what_is_not_known_is_an_error_that_names_it() {
        for (line, named) in [
            ("test --quick", "--quick"),
            ("test again", "again"),
            ("test --only nothing", "\"nothing\""),
            ("check", "\"check\""),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn without_a_command_the_usage_is_shown() {
        assert_eq!(parse("--help"), Ok(None));
        assert_eq!(parse(""), Ok(None));
    }
}
