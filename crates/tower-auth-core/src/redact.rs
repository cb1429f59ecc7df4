use crate::Secret;

/// Makes text that a server sent fit for an error message: no secret, no control character, not long.
///
/// Every occurrence of one of `secrets` goes, and so does everything that looks like a JWT, whoever it
/// belongs to: identity providers like to quote the assertion they refuse. Control characters become
/// spaces, so that a message cannot rewrite a terminal. What remains is cut to 256 characters.
///
/// ```
/// use tower_auth_core::{Secret, redact};
///
/// let secret = Secret::from("s3cr3t");
/// assert_eq!(redact("bad secret s3cr3t\r\n", &[&secret]), "bad secret […]");
/// assert_eq!(redact("got eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2ln", &[]), "got […]");
/// ```
#[must_use]
pub fn redact(text: &str, secrets: &[&Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        // A secret of one or two characters would turn the message into holes and protect nothing.
        if secret.expose().len() > 2 {
            text = text.replace(secret.expose(), HOLE);
        }
    }
    let text = without_jwts(&text);
    let mut shown: String = text
        .chars()
        .map(|c| {
            if c.is_control() || is_bidi_override(c) {
                ' '
            } else {
                c
            }
        })
        .take(LIMIT + 1)
        .collect();
    if shown.chars().count() > LIMIT {
        shown = shown.chars().take(LIMIT - 1).collect();
        shown.push('…');
    }
    shown.trim().to_owned()
}

/// Replaces each run of base64url characters and dots that has a JWT's three parts.
fn without_jwts(text: &str) -> String {
    let is_jwt_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let plain = rest.find(is_jwt_char).unwrap_or(rest.len());
        let (before, run) = rest.split_at(plain);
        out.push_str(before);
        let end = run.find(|c| !is_jwt_char(c)).unwrap_or(run.len());
        let (run, after) = run.split_at(end);
        let is_jwt = run.starts_with("eyJ") && run.len() > 20 && run.contains('.');
        out.push_str(if is_jwt { HOLE } else { run });
        rest = after;
    }
    out
}

fn is_bidi_override(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

const HOLE: &str = "[…]";
const LIMIT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fc_g10_a_quoted_assertion_does_not_survive() {
        let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.AAAA-BBB_B";
        let said = redact(&format!("assertion '{jwt}' is (not) valid; see {jwt}"), &[]);
        assert_eq!(said, "assertion '[…]' is (not) valid; see […]");
    }

    #[test]
    fn long_and_multi_byte_text_is_cut_between_characters() {
        let said = redact(&"ä".repeat(1000), &[]);
        assert_eq!(said.chars().count(), 256);
        assert!(said.ends_with('…'));
        assert_eq!(redact(&"ä".repeat(256), &[]).chars().count(), 256);
    }

    #[test]
    fn control_characters_become_spaces() {
        assert_eq!(redact("a\u{1b}[31mb\r\nc\u{202e}d", &[]), "a [31mb  c d");
    }

    #[test]
    fn an_ordinary_sentence_is_left_alone() {
        let said = "AADSTS7000215: Invalid client secret provided. See v1.0/docs.";
        assert_eq!(redact(said, &[]), said);
    }
}
