//! The cost of the request path, measured and held to limits. See the README of this package.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program reports on its standard streams"
)]

mod allocations;
mod arguments;
mod instructions;
mod keyed;
mod report;
mod statistics;
mod threads;
mod wall;

use std::process::ExitCode;

use crate::arguments::{Command, USAGE};
use crate::report::{Report, Value};

fn main() -> ExitCode {
    match Command::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Command::Loop {
            variant,
            requests,
            token_bytes,
        }) => {
            variant.runner(token_bytes)(requests);
            ExitCode::SUCCESS
        }
        Ok(Command::Time) => {
            println!(
                "{}",
                wall::ratio().map_or_else(String::new, |ratio| ratio.to_string())
            );
            ExitCode::SUCCESS
        }
        Ok(Command::Measure { json, require_real }) => {
            if cfg!(debug_assertions) {
                eprintln!(
                    "error: nothing measured without optimization means anything: run with --release"
                );
                return ExitCode::from(2);
            }
            let report = measure();
            if json {
                println!("{}", report.to_json(require_real));
            } else {
                println!("{report}");
                for failure in report.failures(require_real) {
                    println!("FAILED {failure}");
                }
            }
            if report.failures(require_real).is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("error: {error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn measure() -> Report {
    let mut report = Report::default();
    allocations::measure(&mut report);
    report.limited(
        "future_bytes_added",
        Value::count(tower_auth_benches::future_bytes_added()),
        16.0,
    );
    report.limited(
        "service_bytes_added",
        Value::count(tower_auth_benches::service_bytes_added()),
        24.0,
    );
    instructions::measure(&mut report);
    keyed::measure(&mut report);
    wall::measure(&mut report);
    threads::measure(&mut report);
    report
}
