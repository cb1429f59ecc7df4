use std::fmt;

use tower_auth_core::Error;

use crate::claude_login::ClaudeLogin;
use crate::vars;

/// Which credential is used, which others there are, and why they are not used. It is data, it prints as
/// a few lines, and it holds no secret.
#[derive(Clone, Debug)]
pub struct Report {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) notes: Vec<Note>,
    pub(crate) claude_login: Option<ClaudeLogin>,
}

/// One way to a credential, and what was found on it.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub(crate) mechanism: Mechanism,
    pub(crate) state: State,
    pub(crate) detail: Option<String>,
}

/// The ways to a credential, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// `ANTHROPIC_API_KEY`.
    ApiKey,
    /// `ANTHROPIC_AUTH_TOKEN`.
    AuthToken,
    /// The profile that `ANTHROPIC_PROFILE` names.
    NamedProfile,
    /// `ANTHROPIC_FEDERATION_RULE_ID`, `ANTHROPIC_ORGANIZATION_ID` and an identity token.
    Federation,
    /// The profile that `active_config` names, or else `default`.
    ActiveProfile,
}

/// What was found on a way to a credential.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum State {
    /// It is the credential.
    Used,
    /// It is there, and another one comes before it.
    Shadowed,
    /// It is not there.
    Absent,
    /// A variable is set to nothing, which counts as not set.
    SetButEmpty,
    /// A variable is set to white space, which counts as not set.
    Blank,
    /// Some of the settings are there; these are not.
    Partial(Vec<&'static str>),
    /// A variable holds a credential that belongs into another one. Nothing that comes later is tried.
    WrongSlot(Error),
    /// It is there and wrong. Nothing that comes later is tried.
    Invalid(Error),
}

/// What else the reader of a report should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// `ANTHROPIC_AUTH_TOKEN` holds an API key. It is sent as a bearer token.
    KeyInTokenVariable,
    /// `ANTHROPIC_AUTH_TOKEN` holds an OAuth access token. It is sent as it is and never renewed.
    AccessTokenInVariable,
    /// `ANTHROPIC_CUSTOM_HEADERS` is set, which the official clients send and which is not read here.
    CustomHeaders,
    /// The `claude` program would use this one.
    ClaudeDiffers(&'static str),
}

impl Report {
    /// Every way, in the order in which they are tried.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter()
    }

    /// The one that is used.
    #[must_use]
    pub fn winner(&self) -> Option<&Candidate> {
        self.candidates
            .iter()
            .find(|candidate| matches!(candidate.state, State::Used))
    }

    /// Those that would be used if it were not there.
    pub fn shadowed(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates
            .iter()
            .filter(|candidate| matches!(candidate.state, State::Shadowed))
    }

    /// What was found on this way.
    #[must_use]
    pub fn state(&self, mechanism: Mechanism) -> Option<&State> {
        self.candidates
            .iter()
            .find(|candidate| candidate.mechanism == mechanism)
            .map(|candidate| &candidate.state)
    }

    /// What else is worth knowing.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Whether somebody is logged in to Claude Code here, as far as can be seen without reading a token.
    #[must_use]
    pub fn claude_login(&self) -> Option<ClaudeLogin> {
        self.claude_login
    }

    /// One line that says why there is no credential.
    pub(crate) fn summary(&self) -> String {
        let parts: Vec<String> = self
            .candidates
            .iter()
            .map(|candidate| {
                let detail = match &candidate.detail {
                    Some(detail) => format!(" ({detail})"),
                    None => String::new(),
                };
                format!("{} {}{detail}", candidate.mechanism, candidate.state)
            })
            .collect();
        parts.join(", ")
    }
}

/// A line for each way, the one that is used marked, then the notes.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, candidate) in self.candidates.iter().enumerate() {
            let mark = match candidate.state {
                State::Used => "->",
                State::WrongSlot(_) | State::Invalid(_) => "!!",
                _ => "  ",
            };
            let name = candidate.mechanism.to_string();
            write!(f, "{mark} {}. {name:<29} {}", index + 1, candidate.state)?;
            if let Some(detail) = &candidate.detail {
                write!(f, " ({detail})")?;
            }
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        match &self.claude_login {
            Some(login) => writeln!(f, "note: {login}"),
            None => Ok(()),
        }
    }
}

impl Candidate {
    /// Which way it is.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// What was found.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where it is or where it was looked for: names and paths, no values.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ApiKey => vars::API_KEY,
            Self::AuthToken => vars::AUTH_TOKEN,
            Self::NamedProfile => vars::PROFILE,
            Self::Federation => "workload identity federation",
            Self::ActiveProfile => "active profile",
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Used => f.write_str("is used"),
            Self::Shadowed => f.write_str("is there and not used"),
            Self::Absent => f.write_str("is not set"),
            Self::SetButEmpty => f.write_str("is set but empty"),
            Self::Blank => f.write_str("is set but blank"),
            Self::Partial(missing) => {
                write!(f, "is set in part, missing: {}", missing.join(", "))
            }
            Self::WrongSlot(error) => write!(f, "holds another kind of credential: {error}"),
            Self::Invalid(error) => write!(f, "is wrong: {error}"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyInTokenVariable => f.write_str(
                "ANTHROPIC_AUTH_TOKEN holds an API key, which is sent as a bearer token; ANTHROPIC_API_KEY is the place for it",
            ),
            Self::AccessTokenInVariable => f.write_str(
                "ANTHROPIC_AUTH_TOKEN holds an OAuth access token, which is sent as it is and ends within hours; a profile or a federation renews it",
            ),
            Self::CustomHeaders => f.write_str(
                "ANTHROPIC_CUSTOM_HEADERS is set, which the official clients send with each request and which is not read here",
            ),
            Self::ClaudeDiffers(theirs) => write!(
                f,
                "the claude program would use {theirs}: its order is ANTHROPIC_AUTH_TOKEN, ANTHROPIC_API_KEY, apiKeyHelper, \
                 CLAUDE_CODE_OAUTH_TOKEN, profile or federation, its login; the order here is that of the API clients: \
                 ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, ANTHROPIC_PROFILE, federation, active profile"
            ),
        }
    }
}
