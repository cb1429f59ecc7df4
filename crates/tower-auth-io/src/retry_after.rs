use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

/// How long a server asks to be left alone (`Retry-After`, RFC 9110 section 10.2.3).
///
/// A date is taken relative to the server's own `Date`, so that a wrong local clock does not change the
/// wait; `now` stands in where there is none. Zero, the past, a negative number and anything unreadable
/// are no wish at all. A number that no clock can hold is the longest wait there is: the limit is the
/// caller's.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
/// use tower_auth_io::retry_after;
///
/// let mut headers = HeaderMap::new();
/// headers.insert(RETRY_AFTER, HeaderValue::from_static("120"));
/// assert_eq!(retry_after(&headers, SystemTime::UNIX_EPOCH), Some(Duration::from_secs(120)));
/// ```
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let until = httpdate::parse_http_date(value).ok()?;
        let server_now = headers
            .get(DATE)
            .and_then(|date| date.to_str().ok())
            .and_then(|date| httpdate::parse_http_date(date).ok())
            .unwrap_or(now);
        until.duration_since(server_now).ok()?
    };
    (!wait.is_zero()).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        // 1994-11-06T08:49:07Z, half a minute before the date of the examples.
        retry_after(
            &headers,
            SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_747),
        )
    }

    const DATE_30_S_AHEAD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn fc_a09_a_date_counts_from_the_servers_own_date() {
        assert_eq!(
            parsed(DATE_30_S_AHEAD, Some("Sun, 06 Nov 1994 08:48:37 GMT")),
            Some(Duration::from_secs(60))
        );
        assert_eq!(parsed(DATE_30_S_AHEAD, None), Some(Duration::from_secs(30)));
        assert_eq!(
            parsed(DATE_30_S_AHEAD, Some("yesterday")),
            Some(Duration::from_secs(30))
        );
    }

    #[test]
    fn fc_a09_obsolete_date_forms_are_read() {
        for date in ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parsed(date, None), Some(Duration::from_secs(30)), "{date}");
        }
    }

    #[test]
    fn fc_a09_zero_the_past_and_garbage_are_no_wish() {
        for value in [
            "0",
            "-5",
            "",
            "  ",
            "1.5",
            "+3",
            "soon",
            "0x10",
            "12 s",
            "Sun, 06 Nov 1994 08:49:00 GMT",
            "Sun, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parsed(value, None), None, "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), SystemTime::UNIX_EPOCH), None);
        let mut binary = HeaderMap::new();
        binary.insert(RETRY_AFTER, http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(retry_after(&binary, SystemTime::UNIX_EPOCH), None);
    }

    #[test]
    fn fc_a10_a_number_beyond_every_clock_saturates() {
        assert_eq!(
            parsed("99999999999999999999999999", None),
            Some(Duration::from_secs(u64::MAX))
        );
    }
}
