use std::time::{Duration, SystemTime};

use tower_auth_core::{Error, ErrorKind, Expiry, HeaderMode, RefreshHint, Secret, Token};

use crate::Server;
use crate::answer::Answer;
use crate::server::{X_VAULT_NAMESPACE, X_VAULT_REQUEST, X_VAULT_TOKEN};

/// A Vault token and what the server said of it.
#[derive(Clone)]
pub(crate) struct Lease {
    /// `None` where a proxy on the way adds its own.
    pub(crate) token: Option<Secret>,
    pub(crate) life: Life,
    /// The life that it was given at first: what a renewal asks for, and what it is compared with.
    pub(crate) whole: Duration,
    pub(crate) is_renewable: bool,
    /// Each use brings it nearer to its end, looking at it included.
    pub(crate) is_limited: bool,
    /// When it was asked for.
    since: SystemTime,
}

/// How long a token lives from the moment it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Never,
    /// The server said zero, or nothing.
    Unsaid,
    For(Duration),
}

impl Lease {
    /// From the `auth` block of a login (or of a renewal, which leaves the token out at times).
    ///
    /// # Errors
    /// `Malformed` if there is none, or no token in it; `Denied` if a second factor is wanted.
    pub(crate) fn of_auth(answer: &mut Answer, since: SystemTime) -> Result<Self, Error> {
        if answer.at("/auth").is_none() {
            if answer.at("/wrap_info").is_some() {
                return Err(answer
                    .malformed("the server wrapped its answer to the login (wrap_info)".to_owned())
                    .with_hint(
                        "a login cannot be used wrapped: see what asks for a wrap TTL on it",
                    ));
            }
            return Err(answer.malformed("the answer to the login has no auth".to_owned()));
        }
        if answer.at("/auth/mfa_requirement").is_some() {
            return Err(Error::new(
                ErrorKind::Denied,
                "the login wants a second factor (MFA), which no program can give",
            )
            .with_hint("exempt this login from the MFA enforcement")
            .with_status(answer.status)
            .with_endpoint(&answer.endpoint));
        }
        let lease = answer.seconds("/auth/lease_duration")?.unwrap_or_default();
        let is_batch = answer.text("/auth/token_type") == Some("batch");
        let is_limited = answer
            .seconds("/auth/num_uses")?
            .is_some_and(|uses| !uses.is_zero());
        let is_renewable = answer.is_true("/auth/renewable") && !is_batch && !is_limited;
        let token = answer.secret("/auth/client_token")?;
        check_printable(&token).map_err(|what| answer.malformed(what))?;
        Ok(Self {
            token: Some(token),
            life: Life::of(lease),
            whole: lease,
            is_renewable: is_renewable && !lease.is_zero(),
            is_limited,
            since,
        })
    }

    /// From the `data` of a look-up of this token.
    ///
    /// # Errors
    /// `Malformed` if the answer is none; `Denied` if the token has expired.
    pub(crate) fn of_lookup(
        answer: &Answer,
        token: Secret,
        since: SystemTime,
    ) -> Result<Self, Error> {
        let Some(ttl) = answer.seconds("/data/ttl")? else {
            return Err(answer.malformed("data.ttl is missing in the answer".to_owned()));
        };
        let never_ends = ttl.is_zero() && answer.at("/data/expire_time").is_none();
        if ttl.is_zero() && !never_ends {
            return Err(Error::new(ErrorKind::Denied, "the token has expired")
                .with_status(answer.status)
                .with_endpoint(&answer.endpoint));
        }
        let is_batch = answer.text("/data/type") == Some("batch");
        let is_limited = answer
            .seconds("/data/num_uses")?
            .is_some_and(|uses| !uses.is_zero());
        let whole = answer
            .seconds("/data/creation_ttl")?
            .filter(|whole| !whole.is_zero())
            .unwrap_or(ttl);
        Ok(Self {
            token: Some(token),
            life: if never_ends {
                Life::Never
            } else {
                Life::For(ttl)
            },
            whole,
            is_renewable: answer.is_true("/data/renewable")
                && !is_batch
                && !is_limited
                && !never_ends,
            is_limited,
            since,
        })
    }

    /// What a proxy on the way takes care of.
    pub(crate) fn of_proxy(since: SystemTime) -> Self {
        Self {
            token: None,
            life: Life::Never,
            whole: Duration::ZERO,
            is_renewable: false,
            is_limited: false,
            since,
        }
    }

    /// The same token after a renewal, whose answer this is.
    pub(crate) fn renewed(&self, answer: &Answer, since: SystemTime) -> Result<Self, Error> {
        let Some(lease) = answer.seconds("/auth/lease_duration")? else {
            return Err(answer.malformed(
                "auth.lease_duration is missing in the answer to a renewal".to_owned(),
            ));
        };
        Ok(Self {
            life: Life::of(lease),
            is_renewable: answer.is_true("/auth/renewable") && !lease.is_zero(),
            since,
            ..self.clone()
        })
    }

    /// A renewal gave less than half of what it asked for: the token comes to the end that no renewal can
    /// move.
    pub(crate) fn is_dwindling(&self) -> bool {
        match self.life {
            Life::Never => false,
            Life::Unsaid => true,
            Life::For(life) => life < self.whole / 2,
        }
    }

    /// Whether two thirds of its life have passed.
    pub(crate) fn is_old(&self, now: SystemTime) -> bool {
        self.age_within(now, |life| life * 2 / 3)
    }

    /// Whether, by the local clock, it is over.
    pub(crate) fn is_over(&self, now: SystemTime) -> bool {
        self.age_within(now, |life| life)
    }

    /// How long it still lives; `None` if for ever or not known.
    pub(crate) fn remaining(&self, now: SystemTime) -> Option<Duration> {
        match self.life {
            Life::Never | Life::Unsaid => None,
            Life::For(life) => Some(life.saturating_sub(self.age(now))),
        }
    }

    /// Whether it ends noticeably later than the other.
    pub(crate) fn outlives(&self, other: &Self, now: SystemTime) -> bool {
        match (self.remaining(now), other.remaining(now)) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(mine), Some(its)) => mine > its.saturating_add(Duration::from_secs(1)),
        }
    }

    /// The token as a client of the server sends it.
    pub(crate) fn stamped(&self, server: &Server) -> Token {
        let token = match &self.token {
            Some(token) => Token::in_header(X_VAULT_TOKEN, token.clone()).with_header(
                X_VAULT_REQUEST,
                "true",
                HeaderMode::Replace,
            ),
            None => Token::in_header(X_VAULT_REQUEST, "true"),
        };
        let token = match server.namespace() {
            Some(namespace) => token.with_header(X_VAULT_NAMESPACE, namespace, HeaderMode::Replace),
            None => token,
        };
        match self.life {
            Life::Never => token.never_expires(),
            Life::Unsaid => token,
            Life::For(life) => {
                token
                    .expires_in(life)
                    .with_refresh_hint(RefreshHint::In(life.mul_f64(if self.is_renewable {
                        RENEW_AT
                    } else {
                        LOG_IN_AGAIN_AT
                    })))
            }
        }
    }

    fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.since).unwrap_or_default()
    }

    fn age_within(&self, now: SystemTime, limit: impl Fn(Duration) -> Duration) -> bool {
        let life = match self.life {
            Life::Never => return false,
            Life::Unsaid => Token::DEFAULT_LIFETIME,
            Life::For(life) => life,
        };
        self.age(now) >= limit(life)
    }
}

impl Life {
    pub(crate) fn of(lease: Duration) -> Self {
        if lease.is_zero() {
            Self::Unsaid
        } else {
            Self::For(lease)
        }
    }
}

impl From<Life> for Expiry {
    fn from(life: Life) -> Self {
        match life {
            Life::Never => Self::Never,
            Life::Unsaid => Self::AskEvery(Token::DEFAULT_LIFETIME),
            Life::For(life) => Self::In(life),
        }
    }
}

fn check_printable(token: &Secret) -> Result<(), String> {
    if token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("auth.client_token has a character that no header may have".to_owned())
    }
}

/// At which part of its life a token is renewed, as the servers' own agents do.
const RENEW_AT: f64 = 0.7;
/// A login costs the server more than a renewal, and there is still time for a second try.
const LOG_IN_AGAIN_AT: f64 = 0.8;
