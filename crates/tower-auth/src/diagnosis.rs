use std::fmt;
use std::time::SystemTime;

use serde_json::{Value, json};
use tower_auth_core::{ChainReport, Description, Fingerprint, Placement};

use crate::health::{FetchOutcome, Health, HealthState};
use crate::shape::ShapeFlaw;

mod facts;
mod gather;
mod moment;

pub use facts::{Refusal, Skew, TokenClaims};
pub(crate) use gather::{Look, Notes};
use moment::Moment;

/// Everything that is known about the credential of a cache and why it is, or is not, the right one: what
/// to read when an API answers 401. Made by [`TokenCache::diagnose`](crate::TokenCache::diagnose), and by
/// [`Receipt::diagnose`](crate::Receipt::diagnose) for a response that refuses a credential.
///
/// It is a copy, taken at one moment. It holds no secret, in none of its forms: `Display` has a line for
/// each fact, [`to_json`](Self::to_json) is for programs.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// use tower_auth::TokenCache;
///
/// let cache = TokenCache::new("changeme");
/// cache.ready().await?;
/// let report = cache.diagnose().to_string();
/// assert!(report.contains("header       authorization: Bearer …"), "{report}");
/// assert!(report.contains("shape        is a placeholder"), "{report}");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Diagnosis {
    now: SystemTime,
    source: Description,
    health: Health,
    fetched_at: Option<SystemTime>,
    placement: Option<Placement>,
    fingerprint: Option<Fingerprint>,
    flaws: Vec<ShapeFlaw>,
    refusal: Option<Refusal>,
    skew: Option<Skew>,
    claims: Option<TokenClaims>,
}

impl Diagnosis {
    /// When it was made, by the wall clock of the cache.
    #[must_use]
    pub fn made_at(&self) -> SystemTime {
        self.now
    }

    /// The source and where its settings come from.
    #[must_use]
    pub fn source(&self) -> &Description {
        &self.source
    }

    /// What other sources there were to choose from.
    #[must_use]
    pub fn chain(&self) -> Option<&ChainReport> {
        self.source.chain()
    }

    /// How the cache is doing: until when the credential is used, how the last fetch went, what went
    /// wrong last.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// When the credential was asked for.
    #[must_use]
    pub fn fetched_at(&self) -> Option<SystemTime> {
        self.fetched_at
    }

    /// The header it travels in.
    #[must_use]
    pub fn placement(&self) -> Option<&Placement> {
        self.placement.as_ref()
    }

    /// What the logs of this process call it.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    /// What looks wrong about the last credential that was fetched.
    #[must_use]
    pub fn flaws(&self) -> &[ShapeFlaw] {
        &self.flaws
    }

    /// What the API said when it last refused a credential.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// How the clock of this machine stood to the API's when it last refused a credential.
    #[must_use]
    pub fn skew(&self) -> Option<Skew> {
        self.skew
    }

    /// What the credential says about itself if it is a JWT; only in a diagnosis
    /// [with claims](crate::TokenCache::diagnose_with_claims).
    #[must_use]
    pub fn claims(&self) -> Option<&TokenClaims> {
        self.claims.as_ref()
    }

    /// The same as a JSON object. Times are in seconds since the Unix epoch, what is not known is `null`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let error = self.health.last_error().map(|error| {
            json!({
                "kind": error.kind().as_str(),
                "text": error.to_string(),
                "causes": causes(error),
            })
        });
        let fetch = self.health.last_fetch().map(|fetch| {
            json!({
                "reason": fetch.reason().as_str(),
                "outcome": outcome(fetch.outcome()),
            })
        });
        let settings = self.source.settings();
        let json = json!({
            "made_at": seconds(Some(self.now)),
            "source": self.source.name(),
            "settings": settings.map(|(setting, from)| json!({"setting": setting, "from": from})).collect::<Value>(),
            "state": state(self.health.state()),
            "generation": self.health.generation(),
            "fetched_at": seconds(self.fetched_at),
            "usable_until": seconds(self.health.usable_until()),
            "header": self.placement.as_ref().map(|place| place.name().as_str()),
            "scheme": self.placement.as_ref().and_then(Placement::scheme),
            "fingerprint": self.fingerprint.map(|print| print.to_string()),
            "flaws": self.flaws.iter().map(|flaw| json!({"kind": flaw.as_str(), "text": flaw.to_string()})).collect::<Value>(),
            "chain": self.chain().map(|chain| chain.steps().iter().map(|step| json!({
                "source": step.name(),
                "status": step.status().as_str(),
                "details": step.to_string(),
            })).collect::<Value>()),
            "fetches": self.health.fetches(),
            "failures": self.health.failures(),
            "in_flight": self.health.in_flight().map(|reason| reason.as_str()),
            "last_fetch": fetch,
            "last_error": error,
            "refusal": self.refusal.as_ref().map(|refusal| json!({
                "generation": refusal.generation(),
                "at": seconds(Some(refusal.at())),
                "challenge": refusal.challenge(),
            })),
            "clock_ahead_by": self.skew.map(Skew::seconds_ahead),
            "unverified_claims": self.claims.as_ref().map(|claims| json!({
                "iss": claims.issuer(),
                "sub": claims.subject(),
                "aud": claims.audiences(),
                "exp": seconds(claims.expires_at()),
            })),
        });
        json.to_string()
    }

    /// The lines of the report: a word, and what there is to say under it.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let at = |time| Moment(time).seen_from(self.now);
        let mut lines = vec![("source", self.source.name().to_owned())];
        for (setting, from) in self.source.settings() {
            lines.push(("", format!("{setting} from {from}")));
        }
        let health = &self.health;
        lines.push(("state", self.state_line()));
        lines.extend(self.fetched_at.map(|time| ("fetched", at(time))));
        lines.extend(health.usable_until().map(|time| ("usable until", at(time))));
        lines.extend(
            self.placement
                .as_ref()
                .map(|place| ("header", place.to_string())),
        );
        lines.extend(
            self.fingerprint
                .map(|print| ("fingerprint", print.to_string())),
        );
        lines.extend(self.flaws.iter().map(|flaw| ("shape", flaw.to_string())));
        if let Some(fetch) = health.last_fetch() {
            let outcome = outcome(fetch.outcome());
            lines.push(("last fetch", format!("{}: {outcome}", fetch.reason())));
        }
        if let Some(error) = health.last_error() {
            lines.push(("last error", format!("{}: {error}", error.kind())));
            let causes = causes(error).into_iter();
            lines.extend(causes.map(|cause| ("", format!("because {cause}"))));
        }
        if let Some(refusal) = &self.refusal {
            lines.push(("refused", refusal.line(self.now)));
        }
        lines.extend(self.skew.map(|skew| ("clock", skew.to_string())));
        if let Some(claims) = &self.claims {
            lines.extend(claims.lines(self.now));
        }
        if let Some(chain) = self.chain() {
            let chain = chain.to_string();
            let steps = chain.lines().enumerate();
            lines.extend(steps.map(|(i, step)| {
                let word = if i == 0 { "chain" } else { "" };
                (word, step.to_owned())
            }));
        }
        lines
    }

    fn state_line(&self) -> String {
        let health = &self.health;
        let mut line = state(health.state()).to_owned();
        if health.generation() > 0 {
            line.push_str(&format!(", credential {}", health.generation()));
        }
        if health.failures() > 0 {
            line.push_str(&format!(", failed fetches in a row: {}", health.failures()));
        }
        if let Some(reason) = health.in_flight() {
            line.push_str(&format!(", a fetch is under way ({reason})"));
        }
        line
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (word, text)) in self.lines().iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{word:WORD_WIDTH$} {text}")?;
        }
        Ok(())
    }
}

fn state(state: HealthState) -> &'static str {
    match state {
        HealthState::Empty => "empty",
        HealthState::Ready => "ready",
        HealthState::Renewing => "renewing",
        HealthState::Expired => "expired",
    }
}

fn outcome(outcome: &FetchOutcome) -> &'static str {
    match outcome {
        FetchOutcome::Published { .. } => "published",
        FetchOutcome::Kept => "kept",
        FetchOutcome::Failed(_) => "failed",
    }
}

fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut link = error.source();
    while let Some(cause) = link.filter(|_| causes.len() < MAX_CAUSES) {
        causes.push(cause.to_string());
        link = cause.source();
    }
    causes
}

fn seconds(time: Option<SystemTime>) -> Option<u64> {
    let since = time?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since.as_secs())
}

const WORD_WIDTH: usize = 12;
const MAX_CAUSES: usize = 16;
