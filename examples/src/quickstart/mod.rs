//! The main job, from cold start to shutdown: traffic through renewals, an outage of the token endpoint
//! and a revoked token.

mod client;
mod cost;
mod options;
mod scenario;
mod summary;
mod timeline;
mod traffic;

use std::ffi::OsString;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tower_auth::{AuthLayer, BoxError, TokenCache};

use self::options::{Command, Options, USAGE};
use self::summary::Summary;
use self::timeline::{Event, Noted, Timeline};
use self::traffic::{Tally, Traffic};
use crate::{Api, Issuer};

/// How a run ended. As a number it is the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Outcome {
    /// Every promise was kept, or only help was asked for.
    Kept = 0,
    /// A promise was broken, or the run could not be finished.
    Broken = 1,
    /// The arguments were not understood.
    BadArguments = 2,
}

/// Runs the quickstart with these command-line arguments, without the program's name.
///
/// The bar shows progress; [`ProgressBar::hidden`] keeps it quiet.
///
/// # Errors
/// If `out` or `err` cannot be written.
pub async fn run<O, E>(
    arguments: Vec<OsString>,
    bar: &ProgressBar,
    out: &mut O,
    err: &mut E,
) -> std::io::Result<Outcome>
where
    O: Write + Send,
    E: Write + Send,
{
    let options = match Command::parse(arguments) {
        Ok(Command::Run(options)) => options,
        Ok(Command::Help) => {
            out.write_all(USAGE.as_bytes())?;
            return Ok(Outcome::Kept);
        }
        Err(message) => {
            writeln!(err, "error: {message}\n`--help` lists the options")?;
            return Ok(Outcome::BadArguments);
        }
    };
    let outcome = drive(options, bar).await;
    bar.finish_and_clear();
    let summary = match outcome {
        Ok(summary) => summary,
        Err(error) => {
            writeln!(err, "error: the run could not be finished: {error}")?;
            return Ok(Outcome::Broken);
        }
    };
    if options.json {
        writeln!(out, "{}", serde_json::to_string(&summary)?)?;
    } else {
        write!(out, "{summary}")?;
    }
    let broken = summary.broken_promises();
    for promise in &broken {
        writeln!(err, "error: {promise}")?;
    }
    Ok(if broken.is_empty() {
        Outcome::Kept
    } else {
        Outcome::Broken
    })
}

async fn drive(options: Options, bar: &ProgressBar) -> Result<Summary, BoxError> {
    let issuer = Issuer::start(options.token_lifetime()).await?;
    let api = Api::start(issuer.verifier()).await?;
    let url = api.url().parse()?;
    let timeline = Arc::new(Timeline::start());
    let source = Noted::new(client::source(&issuer)?, Arc::clone(&timeline));
    let cache = TokenCache::builder(source)
        .refresh(client::refresh_rules(options.pace()))
        .build();
    let layer = AuthLayer::from_cache(cache);
    let hyper = client::hyper();
    let client = client::with_tokens(layer.clone(), hyper.clone());

    timeline.record(Event::TrafficStarted {
        workers: options.concurrency,
    });
    let traffic = Traffic::start(&client, &url, options.concurrency);
    let played = async {
        let limit = options.run_time() + GRACE;
        let all = async {
            tokio::join!(
                scenario::play(&issuer, &timeline, options.beat()),
                tokio::time::sleep(options.run_time()),
            )
        };
        tokio::time::timeout(limit, all).await
    };
    let played = tokio::select! {
        played = played => played,
        never = show_progress(bar, options, &timeline, traffic.tally()) => match never {},
    };
    let tally = traffic.stop().await?;
    timeline.record(Event::TrafficStopped);
    // The accounts are closed here: what the measurement sends and fetches is not part of them.
    let summary = Summary::new(options, &timeline, &tally, api.seen(), &issuer.ledger());
    if played.is_err() {
        let limit = (options.run_time() + GRACE).as_secs();
        return Ok(summary.with_unfinished(format!(
            "the run was not through within {limit} s, the timeline shows how far it came"
        )));
    }
    bar.set_message("measuring the cost of a request");
    Ok(match cost::measure(&layer, &hyper, &url).await {
        Ok(cost) => summary.with_cost(cost),
        Err(error) => summary.with_unfinished(format!("the cost could not be measured: {error}")),
    })
}

/// Keeps the bar up to date until it is dropped.
async fn show_progress(
    bar: &ProgressBar,
    options: Options,
    timeline: &Timeline,
    tally: &Tally,
) -> std::convert::Infallible {
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.set_length(u64::from(options.seconds) * 10);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let tenths = timeline.elapsed().as_millis() / 100;
        bar.set_position(u64::try_from(tenths).unwrap_or(u64::MAX));
        bar.set_message(format!(
            "{} requests, {} answered 401; {}",
            tally.requests(),
            tally.unauthorized(),
            timeline.latest()
        ));
    }
}

/// How much longer than asked for a run may take until it is given up.
const GRACE: Duration = Duration::from_secs(30);
