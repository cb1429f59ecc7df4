use tower_auth_benches::{TOKEN_BYTES, Variant};

pub(crate) const USAGE: &str = "\
Measures what the authentication layer costs per request and exits with 1 if a limit is passed.

usage: cargo run --release -p tower-auth-benches --bin cost -- [--json] [--require-real]

  --json          print one JSON object instead of a table
  --require-real  a tool that is missing is a failure, not a skip
  --help          print this";

/// What the program was asked to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Measure {
        json: bool,
        require_real: bool,
    },
    /// Only times requests, in a process of its own, and prints the ratio.
    Time,
    /// Only sends requests: this is what runs under callgrind.
    Loop {
        variant: Variant,
        requests: usize,
        token_bytes: usize,
    },
}

impl Command {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments.into_iter();
        let (mut json, mut require_real) = (false, false);
        let (mut variant, mut requests, mut token_bytes) = (None, None, TOKEN_BYTES);
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--json" => json = true,
                "--require-real" => require_real = true,
                "--time" => return Ok(Self::Time),
                "--loop" => variant = Some(value()?.parse()?),
                "--requests" => requests = Some(number(&value()?)?),
                "--token-bytes" => token_bytes = number(&value()?)?,
                _ => return Err(format!("unknown argument {argument:?}")),
            }
        }
        match (variant, requests) {
            (None, None) => Ok(Self::Measure { json, require_real }),
            (Some(variant), Some(requests)) => Ok(Self::Loop {
                variant,
                requests,
                token_bytes,
            }),
            _ => Err("--loop and --requests go together".to_owned()),
        }
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        Command::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_default_is_a_table() {
        let measure = |json, require_real| Ok(Command::Measure { json, require_real });
        assert_eq!(parse(""), measure(false, false));
        assert_eq!(parse("--json"), measure(true, false));
        assert_eq!(parse("--require-real --json"), measure(true, true));
        assert_eq!(parse("--json --help"), Ok(Command::Help));
    }

    #[test]
    fn a_loop_needs_a_variant_and_a_number() {
        assert_eq!(
            parse("--loop ours-boxed --requests 7"),
            Ok(Command::Loop {
                variant: "ours-boxed".parse().unwrap(),
                requests: 7,
                token_bytes: TOKEN_BYTES,
            })
        );
        for line in [
            "--loop",
            "--loop x --requests 1",
            "--loop ours-boxed",
            "--requests 1",
            "--loop ours-boxed --requests many",
            "--jsno",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
