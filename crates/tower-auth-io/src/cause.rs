use std::error::Error as StdError;
use std::fmt;

use tower_auth_core::{BoxError, redact};

/// Makes the error of a foreign client fit for a chain of causes.
///
/// Some clients put the URL of the request into their errors, its query included. A chain that shows
/// nothing of the kind is kept, so that its links can still be examined; any other is replaced by a copy
/// of its text without those parts.
pub(crate) fn presentable(error: BoxError) -> BoxError {
    let mut link: Option<&(dyn StdError + 'static)> = Some(&*error);
    while let Some(current) = link {
        if is_revealing(&current.to_string()) || is_revealing(&format!("{current:?}")) {
            return Box::new(Text::copy(&*error));
        }
        link = current.source();
    }
    error
}

#[derive(Debug)]
struct Text {
    text: String,
    source: Option<Box<Self>>,
}

impl Text {
    fn copy(error: &(dyn StdError + 'static)) -> Self {
        Self {
            text: redact(&without_url_secrets(&error.to_string()), &[]),
            source: error.source().map(|source| Box::new(Self::copy(source))),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Text {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

fn is_revealing(text: &str) -> bool {
    text.contains("eyJ") || text.contains("query: Some") || without_url_secrets(text) != text
}

/// Cuts user name, password, query and fragment out of every URL in a text.
fn without_url_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, url) = rest.split_at(start + "://".len());
        out.push_str(before);
        let end = url.find(ends_a_url).unwrap_or(url.len());
        let (url, after) = url.split_at(end);
        let shown = url.find(['?', '#']).unwrap_or(url.len());
        let (shown, _) = url.split_at(shown);
        let authority = shown.find('/').unwrap_or(shown.len());
        let (authority, path) = shown.split_at(authority);
        out.push_str(authority.rsplit('@').next().unwrap_or(authority));
        out.push_str(path);
        rest = after;
    }
    out.push_str(rest);
    out
}

fn ends_a_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '(' | ')' | ',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fc_g08_queries_and_passwords_of_urls_are_cut_out() {
        assert_eq!(
            without_url_secrets("for url (https://u:p@a.test:1/t?k=v#f): reset; http://b?x, end"),
            "for url (https://a.test:1/t): reset; http://b, end"
        );
    }

    #[test]
    fn a_harmless_chain_is_kept() {
        let error: BoxError = std::io::Error::from(std::io::ErrorKind::ConnectionReset).into();
        assert!(presentable(error).is::<std::io::Error>());
    }

    #[test]
    fn fc_g08_every_link_of_a_revealing_chain_is_cleaned() {
        let inner = std::io::Error::other("at https://a.test/?k=canary");
        let error = tower_auth_core::Error::new(
            tower_auth_core::ErrorKind::Unavailable,
            "https://canary@b.test",
        )
        .with_cause(inner);
        let error = presentable(error.into());
        let shown = format!("{error} {error:?} {}", error.source().unwrap());
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("at https://a.test/"), "{shown}");
    }
}
