use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;

/// Reads a number of seconds as issuers write it: an integer, a fraction (cut off), or either of them in
/// a string with blanks around. What is too large is taken as the largest there is.
///
/// It looks at the text of the number, because a parser refuses the whole document for `1e400`.
pub(crate) fn whole_seconds(value: &RawValue) -> Option<i64> {
    let Some(text) = string(value) else {
        let number = value.get().trim();
        return number
            .starts_with(|c: char| c.is_ascii_digit() || c == '-')
            .then(|| saturating(number))?;
    };
    // In a string only what a person would call a decimal number: no exponent, no `inf`, no `nan`.
    let number = text.trim();
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_decimal = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    is_decimal.then(|| saturating(number))?
}

/// A lifetime of so many seconds, if it is one at all.
pub(crate) fn lifetime(seconds: i64) -> Option<Duration> {
    positive(seconds, LONGEST_LIFETIME)
}

/// The moment so many seconds after 1970-01-01T00:00:00Z, if it is after it at all.
pub(crate) fn moment(seconds: i64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(positive(seconds, LAST_MOMENT)?)
}

/// The text in a JSON string; `None` for any other value.
pub(crate) fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn saturating(number: &str) -> Option<i64> {
    match number.parse::<i64>() {
        Ok(whole) => Some(whole),
        // This cast cuts the fraction off and stops at both ends.
        Err(_) => number.parse::<f64>().ok().map(|number| number as i64),
    }
}

fn positive(seconds: i64, most: u64) -> Option<Duration> {
    let seconds = u64::try_from(seconds).ok().filter(|&seconds| seconds > 0)?;
    Some(Duration::from_secs(seconds.min(most)))
}

/// A century: for ever, as far as a program is concerned, and far from the end of any clock.
const LONGEST_LIFETIME: u64 = 100 * 365 * 24 * 60 * 60;

/// 9999-12-31T23:59:59Z.
const LAST_MOMENT: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<i64> {
        whole_seconds(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_number_is_read_in_every_form_that_issuers_use() {
        for (json, expected) in [
            ("3599", 3599),
            ("3599.0", 3599),
            ("3599.9", 3599),
            ("3.6e3", 3600),
            ("-1", -1),
            ("-0.5", 0),
            ("0", 0),
            (r#""3599""#, 3599),
            (r#"" 3599\t""#, 3599),
            (r#""3599.0""#, 3599),
            (r#""-7""#, -7),
            (r#""3\u0035""#, 35),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775808", i64::MAX),
            ("1e400", i64::MAX),
            ("-1e400", i64::MIN),
        ] {
            assert_eq!(read(json), Some(expected), "{json}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_read() {
        for json in [
            r#""soon""#,
            r#""""#,
            r#"" ""#,
            r#""-""#,
            r#"".""#,
            r#""1.2.3""#,
            r#""1e3""#,
            r#""inf""#,
            r#""nan""#,
            r#""0x10""#,
            r#""1 000""#,
            r#""3600s""#,
            "true",
            "null",
            "[3600]",
            r#"{"n":1}"#,
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn a_lifetime_is_positive_and_no_longer_than_a_century() {
        assert_eq!(lifetime(0), None);
        assert_eq!(lifetime(i64::MIN), None);
        assert_eq!(lifetime(1), Some(Duration::from_secs(1)));
        assert_eq!(
            lifetime(i64::MAX),
            Some(Duration::from_secs(LONGEST_LIFETIME))
        );
        assert!(moment(i64::MAX).is_some());
        assert_eq!(moment(0), None);
    }
}
