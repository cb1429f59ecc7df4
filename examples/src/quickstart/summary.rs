use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::cost::Cost;
use super::options::Options;
use super::timeline::{Entry, Event, Timeline, as_millis};
use super::traffic::Tally;
use crate::{Ledger, Seen};

/// What a run has shown.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Requests that callers sent.
    requests: u64,
    /// Those answered with 200.
    accepted: u64,
    /// Tokens that the issuer handed out.
    fetches: u64,
    fetches_by_reason: BTreeMap<&'static str, u64>,
    /// Fetches without a token, as the issuer was down.
    failed_fetches: u64,
    /// The most fetches at the same time, by the issuer's account.
    max_inflight_fetches: u64,
    /// Requests that reached the API with an expired token, by its own account.
    expired_sent: u64,
    /// Requests that reached the API with the revoked token.
    revoked_sent: u64,
    /// Every 401 of the API.
    api_401: u64,
    /// Those that reached a caller.
    caller_401: u64,
    /// Requests without an answer, or with another one than 200 and 401.
    caller_errors: u64,
    first_caller_error: Option<String>,
    #[serde(rename = "cold_start_ms", serialize_with = "as_millis")]
    cold_start: Duration,
    #[serde(rename = "longest_wait_ms", serialize_with = "as_millis")]
    longest_wait: Duration,
    #[serde(rename = "duration_ms", serialize_with = "as_millis")]
    duration: Duration,
    concurrency: u32,
    token_lifetime_seconds: u64,
    /// What the run did not get to.
    unfinished: Option<String>,
    cost: Option<Cost>,
    timeline: Vec<Entry>,
}

impl Summary {
    pub(crate) fn new(
        options: Options,
        timeline: &Timeline,
        tally: &Tally,
        seen: Seen,
        ledger: &Ledger,
    ) -> Self {
        let entries = timeline.entries();
        let mut fetches_by_reason = BTreeMap::new();
        let mut failed_fetches = 0;
        for entry in &entries {
            match &entry.event {
                Event::Fetched { reason, .. } => {
                    *fetches_by_reason.entry(reason.as_str()).or_default() += 1;
                }
                Event::FetchFailed { .. } => failed_fetches += 1,
                _ => {}
            }
        }
        Self {
            requests: tally.requests(),
            accepted: tally.accepted(),
            fetches: ledger.issued,
            fetches_by_reason,
            failed_fetches,
            max_inflight_fetches: ledger.max_in_flight,
            expired_sent: seen.expired,
            revoked_sent: seen.revoked,
            api_401: seen.refused(),
            caller_401: tally.unauthorized(),
            caller_errors: tally.errors(),
            first_caller_error: tally.first_error().map(str::to_owned),
            cold_start: tally.cold_start(),
            longest_wait: tally.longest(),
            duration: entries.last().map_or(Duration::ZERO, |entry| entry.at),
            concurrency: options.concurrency,
            token_lifetime_seconds: options.token_lifetime().as_secs(),
            unfinished: None,
            cost: None,
            timeline: entries,
        }
    }

    pub(crate) fn with_cost(mut self, cost: Cost) -> Self {
        self.cost = Some(cost);
        self
    }

    pub(crate) fn with_unfinished(mut self, what: String) -> Self {
        self.unfinished = Some(what);
        self
    }

    /// One sentence for each promise that was not kept.
    pub(crate) fn broken_promises(&self) -> Vec<String> {
        let mut broken: Vec<_> = self.unfinished.iter().cloned().collect();
        if self.expired_sent > 0 {
            let count = self.expired_sent;
            broken.push(format!(
                "{count} requests reached the API with an expired token"
            ));
        }
        if self.caller_401 > 0 {
            let count = self.caller_401;
            broken.push(format!("{count} answers with status 401 reached a caller"));
        }
        if self.caller_errors > 0 {
            let (count, first) = (self.caller_errors, self.first_caller_error.as_deref());
            broken.push(format!(
                "{count} requests failed, the first one with: {}",
                first.unwrap_or("no reason given")
            ));
        }
        if self.max_inflight_fetches > 1 {
            let count = self.max_inflight_fetches;
            broken.push(format!("{count} fetches ran at the same time"));
        }
        broken
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "timeline")?;
        for entry in &self.timeline {
            writeln!(f, "{entry}")?;
        }
        writeln!(f, "\nsummary")?;
        let mut row = |name: &str, value: &dyn fmt::Display| writeln!(f, "  {name:<42} {value}");
        let seconds = self.duration.as_secs_f64();
        row(
            "requests sent",
            &format_args!(
                "{} in {seconds:.1} s, {:.0} per second",
                self.requests,
                self.requests as f64 / seconds.max(0.001)
            ),
        )?;
        let reasons: Vec<_> = self
            .fetches_by_reason
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        row(
            "tokens fetched",
            &format_args!("{}: {}", self.fetches, reasons.join(", ")),
        )?;
        row("  attempts that got none", &self.failed_fetches)?;
        row(
            "  attempts at the same time, at most",
            &self.max_inflight_fetches,
        )?;
        row("seen by the API with an expired token", &self.expired_sent)?;
        row("seen by the API with the revoked token", &self.revoked_sent)?;
        row("401s that the API sent", &self.api_401)?;
        row("401s that reached a caller", &self.caller_401)?;
        row("errors that reached a caller", &self.caller_errors)?;
        row(
            "cold start, until every worker is served",
            &millis(self.cold_start),
        )?;
        row("longest wait after that", &millis(self.longest_wait))?;
        if let Some(cost) = &self.cost {
            cost.fmt(f)?;
        }
        Ok(())
    }
}

fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_promise_is_named() {
        let kept = Summary {
            requests: 10,
            revoked_sent: 2,
            api_401: 2,
            failed_fetches: 1,
            max_inflight_fetches: 1,
            ..Summary::default()
        };
        assert_eq!(kept.broken_promises(), Vec::<String>::new());

        let broken = Summary {
            expired_sent: 1,
            caller_401: 2,
            caller_errors: 3,
            first_caller_error: Some("no route".to_owned()),
            max_inflight_fetches: 4,
            ..kept
        }
        .with_unfinished("it was not done".to_owned());
        assert_eq!(
            broken.broken_promises(),
            [
                "it was not done",
                "1 requests reached the API with an expired token",
                "2 answers with status 401 reached a caller",
                "3 requests failed, the first one with: no route",
                "4 fetches ran at the same time",
            ]
        );
    }
}
