use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

use lexopt::Arg::{Long, Short};
use lexopt::ValueExt;

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) seconds: u32,
    pub(crate) concurrency: u32,
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Run(Options),
    Help,
}

impl Command {
    /// `arguments` come without the program's name.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Options {
            seconds: 12,
            concurrency: 16,
            json: false,
        };
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                Long("seconds") => options.seconds = number(&mut parser, "--seconds", SECONDS)?,
                Long("concurrency") => {
                    options.concurrency = number(&mut parser, "--concurrency", CONCURRENCY)?;
                }
                Long("json") => options.json = true,
                Long("help") | Short('h') => return Ok(Self::Help),
                other => return Err(other.unexpected().to_string()),
            }
        }
        Ok(Self::Run(options))
    }
}

impl Options {
    /// How long a token lives: half of the run, so that at half of its life it is renewed some four
    /// times, in whole seconds as `expires_in` is.
    ///
    /// With less than six seconds it would not outlive a failed renewal and the pause after it, and the
    /// run would show callers who wait.
    pub(crate) fn token_lifetime(&self) -> Duration {
        Duration::from_secs((self.seconds / 2).clamp(6, 300).into())
    }

    /// How much faster than by default tokens are renewed, as a part of 1: a run that is too short for
    /// its tokens' lifetime hurries.
    pub(crate) fn pace(&self) -> f64 {
        (self.run_time().as_secs_f64() / (2.0 * self.token_lifetime().as_secs_f64())).min(1.0)
    }

    /// How long something lasts that is to be seen.
    pub(crate) fn beat(&self) -> Duration {
        (self.run_time() / 20).min(Duration::from_secs(1))
    }

    pub(crate) fn run_time(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

fn number(
    parser: &mut lexopt::Parser,
    option: &str,
    range: RangeInclusive<u32>,
) -> Result<u32, String> {
    let (least, most) = (range.start(), range.end());
    let expected = format!("{option} needs a whole number from {least} to {most}");
    let value = parser.value().map_err(|_| expected.clone())?;
    match value.parse::<u32>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("{expected}, not {value:?}")),
    }
}

pub(crate) const USAGE: &str = "\
Drives an API through tower-auth while tokens expire, the token endpoint fails and a token is revoked.
Everything runs in this process; nothing to install or configure.

Usage: cargo run --release --example quickstart -- [OPTIONS]

Options:
      --seconds <N>      How long traffic runs, 1 to 3600 (default 12). It goes on for a little
                         longer if the outage and the revocation are not through by then.
      --concurrency <N>  Workers that send requests at the same time, 1 to 1000 (default 16)
      --json             Print the summary as one line of JSON instead of text
  -h, --help             Print this

Exit code: 0 every promise was kept, 1 one was broken, 2 bad arguments.
";

const SECONDS: RangeInclusive<u32> = 1..=3600;
const CONCURRENCY: RangeInclusive<u32> = 1..=1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, String> {
        Command::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn options_have_defaults() {
        let Ok(Command::Run(options)) = parse(&[]) else {
            panic!("nothing is required")
        };
        assert_eq!((options.seconds, options.concurrency), (12, 16));
        assert!(!options.json);
    }

    #[test]
    fn options_are_read_in_both_spellings() {
        let expected = Options {
            seconds: 3,
            concurrency: 4,
            json: true,
        };
        assert_eq!(
            parse(&["--seconds=3", "--concurrency", "4", "--json"]),
            Ok(Command::Run(expected))
        );
    }

    #[test]
    fn a_bad_number_is_named_with_what_was_expected() {
        for (arguments, message) in [
            (
                vec!["--seconds", "0"],
                r#"--seconds needs a whole number from 1 to 3600, not "0""#,
            ),
            (
                vec!["--concurrency", "x"],
                r#"--concurrency needs a whole number from 1 to 1000, not "x""#,
            ),
            (
                vec!["--seconds"],
                "--seconds needs a whole number from 1 to 3600",
            ),
            (
                vec!["--seconds=-1"],
                r#"--seconds needs a whole number from 1 to 3600, not "-1""#,
            ),
        ] {
            assert_eq!(parse(&arguments), Err(message.to_owned()));
        }
    }

    #[test]
    fn an_unknown_argument_is_named() {
        assert_eq!(
            parse(&["--secnods", "3"]),
            Err("invalid option '--secnods'".to_owned())
        );
        assert_eq!(
            parse(&["fast"]),
            Err("unexpected argument \"fast\"".to_owned())
        );
    }
}
