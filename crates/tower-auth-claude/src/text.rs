use http::HeaderName;
use tower_auth_core::{Description, Error, ErrorKind, Placement, Prefix, Secret};

/// A credential as it will stand in a header: white space at its ends is gone, and what cannot be meant is
/// an error that names `setting` and the place, never the text.
pub(crate) fn credential(setting: &str, text: &Secret) -> Result<Secret, Error> {
    let invalid = |what: String| Error::new(ErrorKind::InvalidConfig, format!("{setting} {what}"));
    let trimmed = text.expose().trim();
    if trimmed.is_empty() {
        return Err(invalid(
            "is blank: set it to a value or unset it".to_owned(),
        ));
    }
    if is_quoted(trimmed) {
        return Err(invalid(
            "is in quotation marks, which are part of its value: remove them".to_owned(),
        ));
    }
    if has_prefix(trimmed, "bearer ") {
        return Err(invalid(
            "begins with \"Bearer\", which is added when it is sent: remove it".to_owned(),
        ));
    }
    if let Some((position, what)) = first_flaw(trimmed) {
        return Err(invalid(format!(
            "has {what} at character {position}: it was probably pasted with something else"
        )));
    }
    Ok(if trimmed.len() == text.expose().len() {
        text.clone()
    } else {
        Secret::from(trimmed)
    })
}

/// An identifier that goes into a request: not blank, no white space within.
pub(crate) fn identifier(setting: &str, text: &str) -> Result<String, Error> {
    let invalid = |what: &str| Error::new(ErrorKind::InvalidConfig, format!("{setting} {what}"));
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(invalid("is blank: set it to a value or leave it out"));
    }
    if is_quoted(trimmed) {
        return Err(invalid("is in quotation marks: remove them"));
    }
    if trimmed.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(invalid("has a character that no identifier has"));
    }
    Ok(trimmed.to_owned())
}

/// Where the first character is, counted from 1, that a header value must not have within a credential.
pub(crate) fn first_flaw(text: &str) -> Option<(usize, &'static str)> {
    text.chars().enumerate().find_map(|(index, c)| {
        let what = match c {
            '\r' | '\n' => "a line break",
            ' ' | '\t' => "white space",
            c if c.is_control() => "a control character",
            c if !c.is_ascii() => "a character outside of ASCII",
            _ => return None,
        };
        Some((index + 1, what))
    })
}

/// Adds how the credentials of this API begin, and where each belongs.
pub(crate) fn with_prefixes(description: Description) -> Description {
    let bearer = || Placement::authorization("Bearer");
    let key = || Placement::header(HeaderName::from_static("x-api-key"));
    description
        .with_prefix(
            Prefix::new("sk-ant-", "a credential of the Claude API")
                .belongs_in(key())
                .belongs_in(bearer()),
        )
        .with_prefix(
            Prefix::new("sk-ant-oat", "an OAuth access token of the Claude API")
                .belongs_in(bearer()),
        )
        .with_prefix(Prefix::new(
            "sk-ant-ort",
            "an OAuth refresh token of the Claude API",
        ))
}

/// What kind of Claude credential a text is, by its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `sk-ant-oat…`: an OAuth access token.
    AccessToken,
    /// `sk-ant-ort…`: an OAuth refresh token.
    RefreshToken,
    /// Any other `sk-ant-…`: a key.
    Key,
    /// Three parts with dots: an identity token.
    Jwt,
    Other,
}

impl Shape {
    pub(crate) fn of(text: &str) -> Self {
        if has_prefix(text, "sk-ant-oat") {
            Self::AccessToken
        } else if has_prefix(text, "sk-ant-ort") {
            Self::RefreshToken
        } else if has_prefix(text, "sk-ant-") {
            Self::Key
        } else if text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2
        {
            Self::Jwt
        } else {
            Self::Other
        }
    }
}

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_quoted(text: &str) -> bool {
    ['"', '\''].into_iter().any(|quote| {
        text.strip_prefix(quote)
            .is_some_and(|rest| rest.ends_with(quote))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c10_a_flaw_within_a_credential_is_named_with_its_place() {
        for (text, what) in [
            ("ab\ncd", "a line break at character 3"),
            ("abc\u{e9}", "a character outside of ASCII at character 4"),
            ("a\u{200b}b", "a character outside of ASCII at character 2"),
            ("a\0", "a control character at character 2"),
            ("a b", "white space at character 2"),
        ] {
            let error = credential("THE_KEY", &Secret::from(text)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("THE_KEY has {what}")),
                "{error}"
            );
        }
    }

    #[test]
    fn c9_white_space_at_the_ends_goes() {
        let key = credential("THE_KEY", &Secret::from(" k\r\n")).unwrap();
        assert_eq!(key.expose(), "k");
    }

    #[test]
    fn a_pasted_scheme_and_pasted_quotes_are_named() {
        for (text, word) in [
            ("Bearer x", "Bearer"),
            ("'x'", "quotation"),
            (" \n", "blank"),
        ] {
            let error = credential("THE_KEY", &Secret::from(text)).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_shape_is_told_by_its_prefix() {
        assert_eq!(Shape::of("sk-ant-oat01-x"), Shape::AccessToken);
        assert_eq!(Shape::of("sk-ant-ort01-x"), Shape::RefreshToken);
        assert_eq!(Shape::of("sk-ant-api03-x"), Shape::Key);
        assert_eq!(Shape::of("eyJh.eyJi.c"), Shape::Jwt);
        assert_eq!(Shape::of("sk-än"), Shape::Other);
    }
}
