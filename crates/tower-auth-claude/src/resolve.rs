use std::fmt;

use tower_auth_core::{BoxTokenSource, Error, ErrorKind, TokenSource as _};
use tower_auth_io::World;

use crate::api_key::ApiKey;
use crate::auth_token::AuthToken;
use crate::claude_login::ClaudeLogin;
use crate::federation::Federation;
use crate::profile::Profile;
use crate::profile::place::Roots;
use crate::report::{Candidate, Mechanism, Note, Report, State};
use crate::text::Shape;
use crate::vars::{self, Var};

/// Finds the credential that the official clients of the Claude API would use here, and says why it is this
/// one.
///
/// The first of these that is there is used, and no other after it: once chosen it stays, also when it
/// fails.
///
/// 1. `ANTHROPIC_API_KEY`
/// 2. `ANTHROPIC_AUTH_TOKEN`
/// 3. the profile that `ANTHROPIC_PROFILE` names
/// 4. the federation that `ANTHROPIC_FEDERATION_RULE_ID`, `ANTHROPIC_ORGANIZATION_ID` and
///    `ANTHROPIC_IDENTITY_TOKEN_FILE` or `ANTHROPIC_IDENTITY_TOKEN` describe
/// 5. the profile that `active_config` names, or `default`
///
/// A variable that is empty or blank counts as not set. Something that is there and wrong is an error: the
/// next one is not tried. Who has a credential in hand uses [`ApiKey`], [`AuthToken`], [`Federation`] or
/// [`Profile`] instead, which read nothing of this.
///
/// ```
/// use tower_auth_claude::{Mechanism, resolve};
/// use tower_auth_io::{MapEnv, World};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_auth_core::Error> {
/// let world = World::closed().with_env(MapEnv::from([
///     ("ANTHROPIC_API_KEY", ""),
///     ("ANTHROPIC_AUTH_TOKEN", "gateway-token"),
/// ]));
/// let resolution = resolve(&world).await;
/// println!("{}", resolution.report());
/// assert_eq!(resolution.report().winner().unwrap().mechanism(), Mechanism::AuthToken);
/// let source = resolution.into_source()?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
pub async fn resolve(world: &World) -> Resolution {
    let mut search = Search {
        world,
        candidates: Vec::new(),
        outcome: None,
    };
    let key = search.api_key();
    search.take(Mechanism::ApiKey, key);
    let token = search.auth_token();
    search.take(Mechanism::AuthToken, token);
    let profile = search.named_profile().await;
    search.take(Mechanism::NamedProfile, profile);
    let federation = search.federation();
    search.take(Mechanism::Federation, federation);
    let active = search.active_profile().await;
    search.take(Mechanism::ActiveProfile, active);

    let claude_login = ClaudeLogin::detect(world).await;
    let report = Report {
        notes: notes(world, &search.candidates),
        candidates: search.candidates,
        claude_login,
    };
    warn(&report);
    let outcome = search.outcome.unwrap_or_else(|| Err(nothing(&report)));
    Resolution { report, outcome }
}

/// What [`resolve`] found.
#[derive(Clone)]
pub struct Resolution {
    report: Report,
    outcome: Result<BoxTokenSource, Error>,
}

impl Resolution {
    /// What was found and why.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The credential.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured), listing every way, if there is none;
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the first that is there is wrong, or if one is there in
    /// part and no other.
    pub fn into_source(self) -> Result<BoxTokenSource, Error> {
        self.outcome
    }

    /// Why there is no credential.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.outcome.as_ref().err()
    }
}

impl fmt::Debug for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolution")
            .field("report", &self.report)
            .field("outcome", &self.outcome)
            .finish()
    }
}

struct Search<'w> {
    world: &'w World,
    candidates: Vec<Candidate>,
    outcome: Option<Result<BoxTokenSource, Error>>,
}

/// What is on one way.
enum Found {
    Nothing(State),
    /// It is there, and another one has been chosen.
    Present,
    Source(Result<BoxTokenSource, Error>),
}

type OnWay = (Found, Option<String>);

impl Search<'_> {
    fn take(&mut self, mechanism: Mechanism, (found, detail): OnWay) {
        let state = match found {
            Found::Nothing(state) => state,
            Found::Present => State::Shadowed,
            Found::Source(_) if self.outcome.is_some() => State::Shadowed,
            Found::Source(outcome) => {
                let state = match &outcome {
                    Ok(_) => State::Used,
                    Err(error) if mechanism == Mechanism::ApiKey && self.has_wrong_shape() => {
                        State::WrongSlot(error.clone())
                    }
                    Err(error) => State::Invalid(error.clone()),
                };
                self.outcome = Some(outcome);
                state
            }
        };
        self.candidates.push(Candidate {
            mechanism,
            state,
            detail,
        });
    }

    fn api_key(&self) -> OnWay {
        let world = self.world;
        variable(world, vars::API_KEY, || {
            ApiKey::from_env(world).map(ApiKey::boxed)
        })
    }

    fn auth_token(&self) -> OnWay {
        let world = self.world;
        variable(world, vars::AUTH_TOKEN, || {
            AuthToken::from_env(world).map(AuthToken::boxed)
        })
    }

    async fn named_profile(&self) -> OnWay {
        let name = match Var::read(&**self.world.env(), vars::PROFILE) {
            Ok(Var::Set(name)) => name,
            Ok(nothing) => return (Found::Nothing(unset(&nothing)), None),
            Err(error) => return (Found::Source(Err(error)), None),
        };
        let detail = Some(format!("profile {name:?}"));
        if self.outcome.is_some() {
            return (Found::Present, detail);
        }
        let loaded = Profile::load(&name, self.world).await;
        (
            Found::Source(loaded.map(Profile::boxed).map_err(must_be)),
            detail,
        )
    }

    fn federation(&self) -> OnWay {
        match Federation::from_env(self.world) {
            Ok(source) => (Found::Source(Ok(source.boxed())), None),
            Err(error) if error.kind() == ErrorKind::NotConfigured => {
                (Found::Nothing(State::Absent), None)
            }
            Err(error) => match missing(self.world) {
                missing if missing.is_empty() => (Found::Source(Err(error)), None),
                missing => (Found::Nothing(State::Partial(missing)), None),
            },
        }
    }

    async fn active_profile(&self) -> OnWay {
        match self.find_active().await {
            Ok(found) => found,
            Err(error) => (Found::Source(Err(must_be(error))), None),
        }
    }

    async fn find_active(&self) -> Result<OnWay, Error> {
        let world = self.world;
        let roots = Roots::of(world)?;
        let pointer = roots.pointer(world).await?;
        let is_asked_for = roots.is_named || pointer.is_some();
        let (name, detail) = match pointer {
            Some((name, path)) => {
                let detail = format!("profile {name:?}, from {}", path.display());
                (name, detail)
            }
            None => (
                "default".to_owned(),
                format!("profile \"default\", in {}", roots.shown()),
            ),
        };
        let detail = Some(detail);
        if roots.find(&name, world).await?.is_none() && !is_asked_for {
            return Ok((Found::Nothing(State::Absent), detail));
        }
        if self.outcome.is_some() {
            return Ok((Found::Present, detail));
        }
        let loaded = Profile::load_from(&roots, &name, world).await;
        Ok((
            Found::Source(loaded.map(Profile::boxed).map_err(must_be)),
            detail,
        ))
    }

    fn has_wrong_shape(&self) -> bool {
        matches!(
            shape(self.world, vars::API_KEY),
            Some(Shape::AccessToken | Shape::RefreshToken | Shape::Jwt)
        )
    }
}

fn variable(
    world: &World,
    name: &str,
    make: impl FnOnce() -> Result<BoxTokenSource, Error>,
) -> OnWay {
    let found = match Var::read(&**world.env(), name) {
        Ok(Var::Set(_)) => Found::Source(make()),
        Ok(nothing) => Found::Nothing(unset(&nothing)),
        Err(error) => Found::Source(Err(error)),
    };
    (found, None)
}

fn unset(nothing: &Var) -> State {
    match nothing {
        Var::Empty => State::SetButEmpty,
        Var::Blank => State::Blank,
        Var::Absent | Var::Set(_) => State::Absent,
    }
}

/// What was asked for by name must be there.
fn must_be(error: Error) -> Error {
    if error.kind() == ErrorKind::NotConfigured {
        error.with_kind(ErrorKind::InvalidConfig)
    } else {
        error
    }
}

fn missing(world: &World) -> Vec<&'static str> {
    let is_set = |name: &str| !matches!(vars::get(world, name), Ok(None));
    [
        (vars::FEDERATION_RULE_ID, is_set(vars::FEDERATION_RULE_ID)),
        (vars::ORGANIZATION_ID, is_set(vars::ORGANIZATION_ID)),
        (
            "ANTHROPIC_IDENTITY_TOKEN_FILE or ANTHROPIC_IDENTITY_TOKEN",
            is_set(vars::IDENTITY_TOKEN_FILE) || is_set(vars::IDENTITY_TOKEN),
        ),
    ]
    .into_iter()
    .filter(|(_, is_set)| !is_set)
    .map(|(name, _)| name)
    .collect()
}

fn shape(world: &World, name: &str) -> Option<Shape> {
    let text = vars::get(world, name).ok()??;
    Some(Shape::of(&text))
}

fn notes(world: &World, candidates: &[Candidate]) -> Vec<Note> {
    let mut notes = Vec::new();
    match shape(world, vars::AUTH_TOKEN) {
        Some(Shape::Key) => notes.push(Note::KeyInTokenVariable),
        Some(Shape::AccessToken) => notes.push(Note::AccessTokenInVariable),
        _ => {}
    }
    let is_set = |name: &str| world.env().raw(name).is_some_and(|value| !value.is_empty());
    if is_set("ANTHROPIC_CUSTOM_HEADERS") {
        notes.push(Note::CustomHeaders);
    }
    let is_there = |mechanism: Mechanism| {
        candidates.iter().any(|candidate| {
            candidate.mechanism == mechanism
                && !matches!(
                    candidate.state,
                    State::Absent | State::SetButEmpty | State::Blank | State::Partial(_)
                )
        })
    };
    let (key, token) = (is_there(Mechanism::ApiKey), is_there(Mechanism::AuthToken));
    if key && token {
        notes.push(Note::ClaudeDiffers(vars::AUTH_TOKEN));
    } else if !key && !token && is_set(CLAUDE_TOKEN) {
        notes.push(Note::ClaudeDiffers(CLAUDE_TOKEN));
    }
    notes
}

/// Once per resolution, so that a leftover variable does not go unnoticed.
fn warn(report: &Report) {
    let shadowed: Vec<String> = report
        .shadowed()
        .map(|candidate| candidate.mechanism().to_string())
        .collect();
    if let (Some(winner), false) = (report.winner(), shadowed.is_empty()) {
        tracing::warn!(
            used = %winner.mechanism(),
            not_used = shadowed.join(", "),
            "several credentials for the Claude API are set"
        );
    }
}

fn nothing(report: &Report) -> Error {
    let is_partial = report
        .candidates()
        .any(|candidate| matches!(candidate.state(), State::Partial(_)));
    let kind = if is_partial {
        ErrorKind::InvalidConfig
    } else {
        ErrorKind::NotConfigured
    };
    let error = Error::new(
        kind,
        format!("no credential was found: {}", report.summary()),
    )
    .with_source_name("claude");
    match report.claude_login() {
        Some(login) => error.with_hint(login.to_string()),
        None => error,
    }
}

const CLAUDE_TOKEN: &str = "CLAUDE_CODE_OAUTH_TOKEN";
