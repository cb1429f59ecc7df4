use tower_auth_core::{Error, ErrorKind};

/// A path below `/v1/`, fit for a URL: slashes at its ends go, every segment is percent-encoded.
///
/// # Errors
/// `InvalidConfig`, naming the setting, if nothing is left or a segment would leave the path.
pub(crate) fn encode(setting: &str, path: &str) -> Result<String, Error> {
    let path = path.trim_matches('/');
    if path.trim().is_empty() {
        return Err(invalid(setting, "must not be empty"));
    }
    let mut encoded = String::with_capacity(path.len());
    for part in path.split('/') {
        if matches!(part, "" | "." | "..") {
            return Err(invalid(
                setting,
                "must not have an empty segment, \".\" or \"..\"",
            ));
        }
        if !encoded.is_empty() {
            encoded.push('/');
        }
        encoded.push_str(&segment(part));
    }
    Ok(encoded)
}

/// One segment of a path: a slash in it does not make two.
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// A path as the user wrote it, without slashes at its ends.
pub(crate) fn name(setting: &str, text: &str) -> Result<String, Error> {
    let text = text.trim().trim_matches('/');
    if text.is_empty() {
        return Err(invalid(setting, "must not be empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(setting, "has a control character in it"));
    }
    Ok(text.to_owned())
}

/// A role or a field, as it is.
pub(crate) fn text(setting: &str, text: &str) -> Result<String, Error> {
    if text.trim().is_empty() {
        return Err(invalid(setting, "must not be blank"));
    }
    if text.chars().any(char::is_control) {
        return Err(invalid(setting, "has a control character in it"));
    }
    Ok(text.to_owned())
}

fn invalid(setting: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, format!("{setting} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_slashes_and_loses_what_a_url_cannot_hold() {
        assert_eq!(
            encode("p", "/secret/data/a b/").unwrap(),
            "secret/data/a%20b"
        );
        assert_eq!(segment("a/b?c"), "a%2Fb%3Fc");
        assert_eq!(segment("é"), "%C3%A9");
    }

    #[test]
    fn a_path_that_leaves_its_place_is_refused() {
        for path in ["", "/", " ", "a//b", "a/../b", "./a"] {
            let error = encode("the path", path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{path}");
            assert!(error.to_string().starts_with("the path must"), "{error}");
        }
    }
}
