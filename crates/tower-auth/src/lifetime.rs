use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use tower_auth_core::{Credential, Expiry};

use crate::policy::Now;

/// How long a credential lives, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a life has an end or it has none; a third case would change every rule"
)]
pub enum Lifetime {
    /// It does not end.
    Never,
    /// It ends.
    Finite {
        /// From the moment it was asked for to its end. Zero where it has run out already.
        total: Duration,
        /// When the monotonic clock shows its end.
        end_mono: Duration,
        /// When the wall clock shows its end.
        end_wall: Duration,
    },
}

impl Lifetime {
    /// The lifetime of a credential that was asked for at `sent`.
    pub fn of<C: Credential + ?Sized>(credential: &C, sent: Now) -> Self {
        let expiry = credential.expiry();
        let text = match expiry {
            Expiry::AskEvery(_) => credential.jwt(),
            _ => None,
        };
        Self::new(expiry, text, sent)
    }

    /// The same from its parts. `text` is looked at only for [`Expiry::AskEvery`], and need not be a JWT.
    ///
    /// A JWT (RFC 7519) that was issued within the last minute, or after what the local clock shows, lives
    /// for `exp - iat` from the moment it was asked for, so that a slow clock does no harm. An older one
    /// was handed out before: it lives until `exp`. Its signature is not looked at; whoever could forge the
    /// text could forge the lifetime just as well.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_auth::Expiry;
    /// use tower_auth::policy::{Lifetime, Now};
    ///
    /// let sent = Now { mono: Duration::from_secs(5), wall: Duration::from_secs(1_000) };
    /// let hour = Duration::from_secs(3600);
    /// assert_eq!(
    ///     Lifetime::new(Expiry::In(hour), None, sent),
    ///     Lifetime::Finite { total: hour, end_mono: sent.mono + hour, end_wall: sent.wall + hour },
    /// );
    /// ```
    #[must_use]
    pub fn new(expiry: Expiry, text: Option<&str>, sent: Now) -> Self {
        let total = match expiry {
            Expiry::In(total) => total,
            Expiry::At(end) => since_epoch(end).saturating_sub(sent.wall),
            Expiry::AskEvery(default) => text
                .and_then(peek_unverified)
                .map_or(default, |claims| claims.remaining(sent.wall)),
            Expiry::Never => return Self::Never,
            // A kind of expiry that is not known here must not mean eternal.
            _ => UNKNOWN,
        };
        let total = total.min(LONGEST);
        Self::Finite {
            total,
            end_mono: sent.mono.saturating_add(total),
            end_wall: sent.wall.saturating_add(total),
        }
    }
}

/// The times in a JWT, in seconds since the epoch (RFC 7519 section 2, `NumericDate`).
#[derive(Clone, Copy, Debug)]
struct Claims {
    expires: Duration,
    issued: Option<Duration>,
}

impl Claims {
    fn remaining(self, wall: Duration) -> Duration {
        let by_wall = self.expires.saturating_sub(wall);
        let Some(issued) = self.issued else {
            return by_wall;
        };
        let full = self.expires.saturating_sub(issued);
        if wall <= issued.saturating_add(FRESH) {
            full
        } else {
            full.min(by_wall)
        }
    }
}

/// Reads the times of what may be a JWT, without any proof that they are true.
fn peek_unverified(text: &str) -> Option<Claims> {
    let mut parts = text.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || payload.len() > LONGEST_PAYLOAD {
        return None;
    }
    let json = BASE64.decode(payload).ok()?;
    // serde_json bounds the depth by itself.
    let claims: Value = serde_json::from_slice(&json).ok()?;
    Some(Claims {
        expires: numeric_date(claims.get("exp")?)?,
        issued: claims.get("iat").and_then(numeric_date),
    })
}

/// Whole seconds; some issuers send fractions or text. What lies before the epoch is the epoch.
fn numeric_date(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    if seconds.is_nan() {
        return None;
    }
    // The cast saturates, and no date that matters is beyond what a double holds exactly.
    Some(Duration::from_secs(seconds as u64))
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

/// Padding is forbidden in a JWT (RFC 7515 section 2) and sent by some all the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
const LONGEST_PAYLOAD: usize = 16 * 1024;
const FRESH: Duration = Duration::from_secs(60);
const UNKNOWN: Duration = Duration::from_secs(300);
/// Ten years: far enough to mean nothing, near enough that it can be added to any date.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
