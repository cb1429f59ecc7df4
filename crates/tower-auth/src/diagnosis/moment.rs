use std::fmt;
use std::time::SystemTime;

/// A time for people to read (RFC 3339, to the second).
#[derive(Clone, Copy)]
pub(super) struct Moment(pub(super) SystemTime);

impl Moment {
    /// With how far from `now` it is.
    pub(super) fn seen_from(self, now: SystemTime) -> String {
        match self.0.duration_since(now) {
            Ok(ahead) if ahead.as_secs() > 0 => format!("{self} (in {})", Span(ahead.as_secs())),
            _ => {
                let ago = now.duration_since(self.0).unwrap_or_default();
                format!("{self} ({} ago)", Span(ago.as_secs()))
            }
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self
            .0
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let (days, second) = (since / DAY, since % DAY);
        let (year, month, day) = date(days);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        let second = second % 60;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

/// The Gregorian date so many days after 1970-01-01. Counts from a first of March, so that the day which
/// a leap year adds is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    // Days from 0000-03-01 to 1970-01-01.
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    let month = if is_next_year { month - 9 } else { month + 3 };
    (era * 400 + year + u64::from(is_next_year), month, day)
}

/// A length of time, given in seconds, in the two units that matter.
pub(super) struct Span(pub(super) u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0;
        match seconds {
            0..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            3600..DAY => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{} d {} h", seconds / DAY, seconds / 3600 % 24),
        }
    }
}

const DAY: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_893_456_000, "2030-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Moment(at(seconds)).to_string(), text);
        }
        assert_eq!(
            Moment(SystemTime::UNIX_EPOCH - Duration::from_secs(1)).to_string(),
            "1970-01-01T00:00:00Z"
        );
    }

    #[test]
    fn a_moment_is_seen_from_another() {
        let seen = |seconds| Moment(at(seconds)).seen_from(at(100_000));
        assert!(seen(100_012).ends_with("(in 12 s)"));
        assert!(seen(100_000).ends_with("(0 s ago)"));
        assert!(seen(99_900).ends_with("(1 min 40 s ago)"));
        assert!(seen(107_320).ends_with("(in 2 h 2 min)"));
        assert!(seen(100_000 + 49 * 3600).ends_with("(in 2 d 1 h)"));
    }
}
