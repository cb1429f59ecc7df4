use std::fmt;
use std::time::Duration;

use tower_auth_core::{Error, ErrorKind, Token};

use crate::Gate;

/// What a [`ScriptedSource`](crate::ScriptedSource) does when it is asked.
#[derive(Clone, Debug)]
#[must_use = "an answer does nothing until it is in a script"]
pub struct Answer<T = Token> {
    pub(super) delay: Duration,
    pub(super) gate: Option<Gate>,
    pub(super) deed: Deed<T>,
}

#[derive(Clone)]
pub(super) enum Deed<T> {
    Give(T),
    Fail(Error),
    Hang,
    Panic(String),
}

impl<T> Answer<T> {
    /// Gives this credential.
    pub fn token(credential: T) -> Self {
        Self::of(Deed::Give(credential))
    }

    /// Fails with an error of this kind, in the name of the scripted source.
    pub fn error(kind: ErrorKind) -> Self {
        Self::failing(Error::new(kind, "the script says so"))
    }

    /// Fails with this error.
    pub fn failing(error: Error) -> Self {
        Self::of(Deed::Fail(error))
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self::of(Deed::Hang)
    }

    /// Panics with this text.
    pub fn panic(text: impl Into<String>) -> Self {
        Self::of(Deed::Panic(text.into()))
    }

    /// The same, this much of tokio's time later. Where there is a gate as well, the time starts when
    /// the gate has been passed.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, once the test has opened the gate.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    fn of(deed: Deed<T>) -> Self {
        Self {
            delay: Duration::ZERO,
            gate: None,
            deed,
        }
    }
}

/// Says what is done without showing what is given.
impl<T> fmt::Debug for Deed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Give(_) => f.write_str("Give(…)"),
            Self::Fail(error) => write!(f, "Fail({})", error.kind()),
            Self::Hang => f.write_str("Hang"),
            Self::Panic(_) => f.write_str("Panic(…)"),
        }
    }
}
