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
    let claims = claims_unverified(text)?;
    Some(Claims {
        expires: numeric_date(claims.get("exp")?)?,
        issued: claims.get("iat").and_then(numeric_date),
    })
}

/// Reads the claims of what may be a JWT, without any proof that they are true.
pub(crate) fn claims_unverified(text: &str) -> Option<Value> {
    let mut parts = text.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || payload.len() > LONGEST_PAYLOAD {
        return None;
    }
    let json = BASE64.decode(payload).ok()?;
    // serde_json bounds the depth by itself.
    serde_json::from_slice(&json).ok()
}

/// Whole seconds; some issuers send fractions or text. What lies before the epoch is the epoch.
pub(crate) fn numeric_date(value: &Value) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: u64 = 1_800_000_000;
    const HOUR: Duration = Duration::from_secs(3600);
    const DEFAULT: Duration = Duration::from_secs(300);

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64.encode(claims))
    }

    fn total(expiry: Expiry, text: Option<&str>, wall: u64) -> Duration {
        let sent = Now::new(Duration::from_secs(50), Duration::from_secs(wall));
        match Lifetime::new(expiry, text, sent) {
            Lifetime::Finite {
                total,
                end_mono,
                end_wall,
            } => {
                assert_eq!(end_mono, sent.mono.saturating_add(total));
                assert_eq!(end_wall, sent.wall.saturating_add(total));
                total
            }
            Lifetime::Never => panic!("never"),
        }
    }

    /// The life of a JWT issued at `WALL` for an hour, where the local clock shows `wall`.
    fn hour_at(wall: u64) -> Duration {
        let text = jwt(&format!(r#"{{"iat":{WALL},"exp":{}}}"#, WALL + 3600));
        total(Expiry::AskEvery(DEFAULT), Some(&text), wall)
    }

    #[test]
    fn fc_b01_a_fast_clock_never_lengthens_a_life() {
        assert_eq!(hour_at(WALL), HOUR);
        assert_eq!(hour_at(WALL + 60), HOUR);
        assert_eq!(hour_at(WALL + 1800), HOUR / 2);
        assert_eq!(hour_at(WALL + 86_400), Duration::ZERO);
        assert_eq!(total(Expiry::In(HOUR), None, WALL + 86_400), HOUR);
    }

    #[test]
    fn fc_b02_a_slow_clock_does_not_lengthen_a_life_either() {
        assert_eq!(hour_at(WALL - 86_400), HOUR);
        assert_eq!(total(Expiry::In(HOUR), None, WALL - 86_400), HOUR);
    }

    #[test]
    fn fc_b03_an_absolute_end_is_counted_from_the_wall_clock_and_never_negative() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(WALL + 600);
        assert_eq!(total(Expiry::At(end), None, WALL).as_secs(), 600);
        assert_eq!(total(Expiry::At(end), None, WALL + 601), Duration::ZERO);
    }

    #[test]
    fn a_jwt_that_was_handed_out_before_lives_until_its_own_end() {
        assert_eq!(hour_at(WALL + 2400).as_secs(), 1200);
    }

    #[test]
    fn fc_b12_an_issue_in_the_future_is_a_slow_clock() {
        let text = jwt(&format!(
            r#"{{"iat":{},"nbf":{},"exp":{}}}"#,
            WALL + 30,
            WALL + 30,
            WALL + 3630
        ));
        assert_eq!(total(Expiry::AskEvery(DEFAULT), Some(&text), WALL), HOUR);
    }

    #[test]
    fn fc_b13_the_ends_of_time_do_not_panic() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        for wall in [0, WALL, u64::MAX] {
            for expiry in [
                Expiry::In(Duration::MAX),
                Expiry::At(far),
                Expiry::At(SystemTime::UNIX_EPOCH - HOUR),
                Expiry::AskEvery(Duration::MAX),
            ] {
                assert!(total(expiry, Some("no jwt"), wall) <= LONGEST);
            }
        }
    }

    #[test]
    fn fc_a22_an_unknown_end_is_never_eternal() {
        for text in [None, Some("opaque"), Some(jwt("{}").as_str())] {
            assert_eq!(total(Expiry::AskEvery(DEFAULT), text, WALL), DEFAULT);
        }
    }

    #[test]
    fn fc_a25_a_huge_life_is_cut_to_what_can_be_added_to_a_date() {
        assert_eq!(total(Expiry::In(Duration::MAX), None, WALL), LONGEST);
    }

    #[test]
    fn fc_h07_what_is_no_jwt_is_read_as_none() {
        let deep = jwt(&format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)));
        let large = jwt(&format!(
            r#"{{"exp":{WALL},"x":"{}"}}"#,
            "x".repeat(LONGEST_PAYLOAD)
        ));
        let nested = jwt(r#"{"exp":{"exp":1}}"#);
        let list = jwt("[1]");
        let encrypted = "e30.e30.e30.e30.e30";
        let dots = ".".repeat(100_000);
        for text in [
            "",
            ".",
            "..",
            "a.b",
            "e30.%%.c2ln",
            "e30.\u{e9}.x",
            encrypted,
            &deep,
            &large,
            &nested,
            &list,
            &dots,
        ] {
            assert!(peek_unverified(text).is_none(), "{:.40}", text);
        }
    }

    #[test]
    fn fc_h08_odd_forms_of_exp_are_read_or_ignored() {
        for (exp, expected) in [
            ("1800003600", Some(HOUR)),
            ("1800003600.9", Some(HOUR)),
            (r#"" 1800003600""#, Some(HOUR)),
            ("1e300", Some(LONGEST)),
            ("-1", Some(Duration::ZERO)),
            ("0", Some(Duration::ZERO)),
            (r#""soon""#, None),
            (r#""NaN""#, None),
            ("null", None),
            ("true", None),
            ("[1800003600]", None),
        ] {
            let text = jwt(&format!(r#"{{"exp":{exp}}}"#));
            let life = total(Expiry::AskEvery(DEFAULT), Some(&text), WALL);
            assert_eq!(life, expected.unwrap_or(DEFAULT), "{exp}");
        }
    }
}
