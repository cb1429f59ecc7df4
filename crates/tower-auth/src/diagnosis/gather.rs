use std::any::Any;
use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderMap, WWW_AUTHENTICATE};
use serde_json::Value;
use tower_auth_core::{
    Caching, ChainReport, Credential, Error, ErrorKind, Placement, Secret, Stamp, StepStatus,
    Token, TokenSource, redact,
};

use super::{Diagnosis, Refusal, Skew, TokenClaims};
use crate::lifetime::{claims_unverified, numeric_date};
use crate::shape::{Measure, Shape, ShapeFlaw, placement};
use crate::shared::{Shared, State};

/// What a cache remembers for a diagnosis. All of it is written off the request path.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// What was found of the last credential that was published.
    look: Look,
    /// The generation that it was of.
    generation: u64,
    refusal: Option<Refusal>,
    refused_at: Option<Duration>,
    skew: Option<Skew>,
}

/// What was seen of a credential before its first use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    placement: Option<Placement>,
    flaws: Vec<ShapeFlaw>,
    choice: Option<ChainReport>,
}

impl<P, S: Stamp> Shared<P, S>
where
    P: TokenSource<S::Credential>,
{
    /// Looks at a credential that was stamped into these headers.
    ///
    /// # Errors
    /// [`Malformed`](ErrorKind::Malformed) if it looks wrong and such are not to be used.
    pub(crate) fn look_at(
        &self,
        credential: &S::Credential,
        headers: &HeaderMap,
    ) -> Result<Look, Error> {
        let mut look = Look {
            placement: token(credential).map(|token| placement(token, headers)),
            ..Look::default()
        };
        // A source that is asked for each request would be warned of at each request.
        let is_silent = self.caching == Caching::PerRequest && self.shape != Shape::Deny;
        if is_silent {
            return Ok(look);
        }
        let description = self.source.describe();
        if self.shape != Shape::Off {
            look.flaws = Measure::of(&description, self.wall()).flaws(credential, headers);
        }
        look.choice = description.chain().cloned();
        match look.flaws.first() {
            Some(flaw) if self.shape == Shape::Deny => {
                Err(self.error(ErrorKind::Malformed, format!("the credential {flaw}")))
            }
            _ => Ok(look),
        }
    }

    /// Notes what was seen of a credential that is published under this number, and tells about it once.
    pub(crate) fn note_publication(&self, state: &mut State<S>, generation: u64, look: Look) {
        let is_first = state.notes.generation == 0;
        let is_new = state.notes.generation != generation;
        state.notes.generation = generation;
        state.notes.look = look;
        if is_new && !state.notes.look.flaws.is_empty() {
            let flaws: Vec<_> = state
                .notes
                .look
                .flaws
                .iter()
                .map(ToString::to_string)
                .collect();
            tracing::warn!(
                source = self.description.name(),
                key = self.key_field(),
                generation,
                "the credential {}",
                flaws.join(", and ")
            );
        }
        if let Some(chain) = state.notes.look.choice.take().filter(|_| is_first) {
            self.tell_about_choice(&chain);
        }
    }

    fn tell_about_choice(&self, chain: &ChainReport) {
        let others = chain.steps().iter().filter(|step| match step.status() {
            StepStatus::Shadowed | StepStatus::Broken(_) => true,
            StepStatus::Skipped(error) => error.is_set_but_empty(),
            _ => false,
        });
        let others: Vec<_> = others
            .map(|step| format!("{} ({})", step.name(), step.status().as_str()))
            .collect();
        let chosen = chain.chosen().map_or("none", |step| step.name());
        if others.is_empty() {
            tracing::info!(source = self.description.name(), chosen, "source chosen");
        } else {
            tracing::warn!(
                source = self.description.name(),
                key = self.key_field(),
                chosen,
                "source chosen, and not used: {}",
                others.join(", ")
            );
        }
    }

    /// Notes what the headers of an answer that refuses the credential tell. In a storm of them, one a
    /// second is looked at.
    pub(crate) fn note_refusal(&self, generation: u64, headers: &HeaderMap) {
        let now = self.clocks.now();
        let held = self.cell.load().held.clone();
        let mut state = self.lock();
        let notes = &mut state.notes;
        let is_known = notes
            .refusal
            .as_ref()
            .is_some_and(|refusal| refusal.generation == generation);
        let is_recent = notes
            .refused_at
            .is_some_and(|at| now.mono.saturating_sub(at) < Duration::from_secs(1));
        if is_known && is_recent {
            return;
        }
        let at = SystemTime::UNIX_EPOCH + now.wall;
        // Only what was sent can be cut out of what comes back.
        let sent = held.as_ref().filter(|held| held.generation == generation);
        let secret = sent.and_then(|held| secret(&*held.credential));
        let challenge = headers
            .get(WWW_AUTHENTICATE)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| match &secret {
                Some(secret) => Some(redact(text, &[secret])),
                None => scheme(text).map(str::to_owned),
            });
        notes.refused_at = Some(now.mono);
        notes.refusal = Some(Refusal {
            generation,
            at,
            challenge,
        });
        notes.skew = headers
            .get(DATE)
            .and_then(|date| skew(date.to_str().ok()?, at))
            .or(notes.skew);
    }

    pub(crate) fn diagnose(&self, with_claims: bool) -> Diagnosis {
        let source = self.source.describe();
        let snapshot = self.cell.load();
        let held = snapshot.held.as_ref();
        let now = self.clocks.now();
        let state = self.lock();
        let notes = &state.notes;
        Diagnosis {
            now: SystemTime::UNIX_EPOCH + now.wall,
            source,
            health: self.health(),
            fetched_at: held.map(|held| {
                let age = now.mono.saturating_sub(held.fetched);
                SystemTime::UNIX_EPOCH + now.wall.saturating_sub(age)
            }),
            placement: held.and(notes.look.placement.clone()),
            fingerprint: held.map(|held| held.credential.fingerprint()),
            flaws: notes.look.flaws.clone(),
            refusal: notes.refusal.clone(),
            skew: notes.skew,
            claims: held
                .filter(|_| with_claims)
                .and_then(|held| claims(held.credential.jwt()?)),
        }
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.clocks.now().wall
    }
}

impl Notes {
    /// What may be the reason that credentials are refused, for an error that has no better one.
    pub(crate) fn suspicion(&self) -> Option<String> {
        let flaw = self
            .look
            .flaws
            .first()
            .map(|flaw| format!("the credential {flaw}"));
        let said = self.refusal.as_ref().and_then(|refusal| {
            let challenge = refusal.challenge.as_deref()?;
            Some(format!("the API said: {challenge}"))
        });
        let skew = self
            .skew
            .filter(|skew| skew.matters())
            .map(|skew| format!("this machine's clock is {skew}"));
        let reasons: Vec<_> = [flaw, said, skew].into_iter().flatten().collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

fn token<C: Credential>(credential: &C) -> Option<&Token> {
    (credential as &dyn Any).downcast_ref()
}

/// The text that a credential sends, as far as it is known here.
fn secret<C: Credential>(credential: &C) -> Option<Secret> {
    let own = token(credential).map(|token| token.secret().clone());
    own.or_else(|| credential.jwt().map(Secret::from))
}

/// The authentication scheme of a challenge, if it is one that is registered: any other word may be what
/// must not be seen.
fn scheme(challenge: &str) -> Option<&'static str> {
    let word = challenge.split([' ', ',']).next()?;
    SCHEMES
        .into_iter()
        .find(|scheme| scheme.eq_ignore_ascii_case(word))
}

fn skew(date: &str, now: SystemTime) -> Option<Skew> {
    let date = httpdate::parse_http_date(date).ok()?;
    Some(match now.duration_since(date) {
        Ok(ahead) => Skew::Ahead(ahead.as_secs()),
        Err(behind) => Skew::Behind(behind.duration().as_secs()),
    })
}

fn claims(jwt: &str) -> Option<TokenClaims> {
    let claims = claims_unverified(jwt)?;
    let clean = |value: &Value| value.as_str().map(|text| redact(text, &[]));
    let text = |name: &str| claims.get(name).and_then(clean);
    let audiences = match claims.get("aud") {
        Some(Value::Array(several)) => several.iter().filter_map(clean).collect(),
        one => one.and_then(clean).into_iter().collect(),
    };
    Some(TokenClaims {
        issuer: text("iss"),
        subject: text("sub"),
        audiences,
        expires_at: claims
            .get("exp")
            .and_then(numeric_date)
            .and_then(|end| SystemTime::UNIX_EPOCH.checked_add(end)),
    })
}

/// The registry of HTTP authentication schemes (RFC 9110 section 16.4.1).
const SCHEMES: [&str; 12] = [
    "Basic",
    "Bearer",
    "Concealed",
    "Digest",
    "DPoP",
    "GNAP",
    "HOBA",
    "Mutual",
    "Negotiate",
    "PrivateToken",
    "SCRAM-SHA-256",
    "vapid",
];
