use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::report::Outcome;
use crate::workspace::root;

/// A call of cargo in the root of the workspace.
pub(crate) struct Cargo {
    command: Command,
    shown: String,
}

impl Cargo {
    /// `arguments` are separated by spaces.
    pub(crate) fn new(arguments: &str) -> Self {
        let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(program);
        command.current_dir(root());
        // `cargo run` describes this package to us. Handed on, the description would look like a
        // changed environment to build scripts that watch these variables, and cause rebuilds.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        let cargo = Self {
            command,
            shown: "cargo".to_owned(),
        };
        arguments.split_whitespace().fold(cargo, Self::arg)
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<str>) -> Self {
        let argument = argument.as_ref();
        self.command.arg(argument);
        self.shown.push(' ');
        self.shown.push_str(argument);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self.shown = format!("{name}={value:?} {}", self.shown);
        self
    }

    /// Runs it with its output on the terminal.
    pub(crate) fn run(mut self) -> Outcome {
        println!("$ {}", self.shown);
        match self.command.status() {
            Ok(status) if status.success() => Outcome::passed(),
            Ok(status) => Outcome::failed(format!("{} ({status})", self.shown)),
            Err(error) => Outcome::failed(format!("{}: cannot be started: {error}", self.shown)),
        }
    }

    /// Runs it with its output on the terminal, and shows each line of its standard output to `watch`
    /// as well.
    pub(crate) fn run_watched(mut self, mut watch: impl FnMut(&str)) -> Outcome {
        println!("$ {}", self.shown);
        let mut child = match self.command.stdout(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => {
                return Outcome::failed(format!("{}: cannot be started: {error}", self.shown));
            }
        };
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                println!("{line}");
                watch(&line);
            }
        }
        match child.wait() {
            Ok(status) if status.success() => Outcome::passed(),
            Ok(status) => Outcome::failed(format!("{} ({status})", self.shown)),
            Err(error) => Outcome::failed(format!("{}: {error}", self.shown)),
        }
    }

    /// What it prints.
    pub(crate) fn output(mut self) -> Result<String, String> {
        let output = self
            .command
            .output()
            .map_err(|error| format!("{}: cannot be started: {error}", self.shown))?;
        if !output.status.success() {
            return Err(format!(
                "{} ({}): {}",
                self.shown,
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
        String::from_utf8(output.stdout).map_err(|error| format!("{}: {error}", self.shown))
    }
}
