use std::any::Any;
use std::fmt;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde_json::Value;
use tower_auth_core::{Credential, Description, Placement, Prefix, Token};

use crate::lifetime::{claims_unverified, numeric_date};

/// What happens to a [`Token`] whose shape does not fit the header it is about to travel in.
///
/// Each is looked at once, when it arrives, and never shown. See [`ShapeFlaw`] for what is looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// It is used, and one warning is logged.
    #[default]
    Warn,
    /// It is not used: the fetch fails with [`Malformed`](crate::ErrorKind::Malformed), which says why.
    Deny,
    /// It is not looked at.
    Off,
}

/// What looks wrong about a credential. `Display` says it as the end of a sentence about the credential,
/// and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShapeFlaw {
    /// There is nothing in it.
    Empty,
    /// There is nothing but white space in it.
    Blank,
    /// It stands in quotation marks.
    Quoted,
    /// It begins with an authentication scheme, which is added anyway or does not belong here.
    SchemeTwice,
    /// It is the text that a documentation or a template has where the credential belongs.
    Placeholder,
    /// It is a key or a certificate in PEM.
    Pem,
    /// It is a JSON document.
    Json,
    /// By its first characters it is something that does not belong in this header.
    WrongPlace {
        /// What it is.
        what: String,
        /// Where it belongs; nothing if in no header.
        belongs_in: Vec<Placement>,
    },
    /// It is a JWT that had ended when it arrived.
    Expired {
        /// When it ended (`exp`).
        at: SystemTime,
        /// How long before it arrived.
        since: Duration,
    },
    /// It is a JWT for somebody else.
    ForeignAudience {
        /// The audience that the source expects.
        expected: String,
    },
}

impl ShapeFlaw {
    /// The word used in logs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Blank => "blank",
            Self::Quoted => "quoted",
            Self::SchemeTwice => "scheme twice",
            Self::Placeholder => "placeholder",
            Self::Pem => "PEM",
            Self::Json => "JSON",
            Self::WrongPlace { .. } => "wrong place",
            Self::Expired { .. } => "expired",
            Self::ForeignAudience { .. } => "foreign audience",
        }
    }
}

impl fmt::Display for ShapeFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::Blank => f.write_str("is blank"),
            Self::Quoted => f.write_str("stands in quotation marks: take them off"),
            Self::SchemeTwice => {
                f.write_str("begins with the name of an authentication scheme: take it off")
            }
            Self::Placeholder => {
                f.write_str("is a placeholder: put the credential itself in its place")
            }
            Self::Pem => f.write_str("is a key or certificate in PEM, where a token belongs"),
            Self::Json => f.write_str("is a JSON document, where one text of it belongs"),
            Self::WrongPlace { what, belongs_in } => {
                write!(f, "is {what}, which ")?;
                for (i, place) in belongs_in.iter().enumerate() {
                    let separator = if i == 0 { "belongs in " } else { " or " };
                    write!(f, "{separator}\"{place}\"")?;
                }
                if belongs_in.is_empty() {
                    f.write_str("belongs in no header")?;
                }
                Ok(())
            }
            Self::Expired { since, .. } => write!(
                f,
                "is a JWT that ended {} s before it arrived: ask its issuer for another, and check the clock",
                since.as_secs()
            ),
            Self::ForeignAudience { expected } => {
                write!(
                    f,
                    "is a JWT that is not for \"{expected}\": ask for that audience"
                )
            }
        }
    }
}

/// What a credential is measured against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure<'a> {
    pub(crate) prefixes: &'a [Prefix],
    pub(crate) audience: Option<&'a str>,
    pub(crate) now: SystemTime,
}

impl<'a> Measure<'a> {
    pub(crate) fn of(description: &'a Description, now: SystemTime) -> Self {
        Self {
            prefixes: description.prefixes(),
            audience: description.audience(),
            now,
        }
    }

    /// What looks wrong about this credential, which was stamped into these headers. Other credentials
    /// than a [`Token`] have no shape that is known here.
    pub(crate) fn flaws<C: Credential>(
        self,
        credential: &C,
        headers: &HeaderMap,
    ) -> Vec<ShapeFlaw> {
        match (credential as &dyn Any).downcast_ref::<Token>() {
            Some(token) => self.flaws_of(token.secret().expose(), &placement(token, headers)),
            None => Vec::new(),
        }
    }

    fn flaws_of(self, text: &str, place: &Placement) -> Vec<ShapeFlaw> {
        // What is wrong with the text as a whole makes every other question pointless.
        if let Some(flaw) = whole(text) {
            return vec![flaw];
        }
        let mut flaws = Vec::new();
        if let Some(prefix) = Prefix::longest(self.prefixes, text) {
            if !prefix.may_travel_in(place) {
                flaws.push(ShapeFlaw::WrongPlace {
                    what: prefix.what().to_owned(),
                    belongs_in: prefix.places().to_vec(),
                });
            }
        }
        if let Some(claims) = claims_unverified(text) {
            flaws.extend(self.expired(&claims));
            flaws.extend(self.foreign(&claims));
        }
        flaws
    }

    fn expired(self, claims: &Value) -> Option<ShapeFlaw> {
        let at = SystemTime::UNIX_EPOCH.checked_add(numeric_date(claims.get("exp")?)?)?;
        let since = self.now.duration_since(at).ok()?;
        (since >= LEEWAY).then_some(ShapeFlaw::Expired { at, since })
    }

    fn foreign(self, claims: &Value) -> Option<ShapeFlaw> {
        let expected = self.audience?;
        let is_for_it = match claims.get("aud")? {
            Value::String(one) => one == expected,
            Value::Array(several) => several.iter().any(|one| one.as_str() == Some(expected)),
            _ => false,
        };
        (!is_for_it).then(|| ShapeFlaw::ForeignAudience {
            expected: expected.to_owned(),
        })
    }
}

/// Where a token has been put, which may be elsewhere than it says itself.
pub(crate) fn placement(token: &Token, headers: &HeaderMap) -> Placement {
    let text = token.secret().expose().as_bytes();
    let found = headers.iter().find_map(|(name, value)| {
        let before = value.as_bytes().strip_suffix(text)?;
        let scheme = std::str::from_utf8(before).ok()?.trim_end();
        Some((name, scheme.to_owned()))
    });
    match found {
        _ if text.is_empty() => token.placement().clone(),
        Some((name, scheme)) if scheme.is_empty() => Placement::header(name.clone()),
        Some((name, scheme)) if *name == http::header::AUTHORIZATION => {
            Placement::authorization(scheme)
        }
        _ => token.placement().clone(),
    }
}

fn whole(text: &str) -> Option<ShapeFlaw> {
    if text.is_empty() {
        return Some(ShapeFlaw::Empty);
    }
    let text = text.trim();
    let (Some(first), Some(last)) = (text.chars().next(), text.chars().next_back()) else {
        return Some(ShapeFlaw::Blank);
    };
    if text.len() > 1 && first == last && matches!(first, '"' | '\'' | '`') {
        return Some(ShapeFlaw::Quoted);
    }
    if text.starts_with("-----BEGIN") {
        return Some(ShapeFlaw::Pem);
    }
    let begins_with_scheme = SCHEMES.iter().any(|scheme| {
        let rest = text
            .get(..scheme.len())
            .filter(|start| start.eq_ignore_ascii_case(scheme))
            .and_then(|_| text.get(scheme.len()..));
        rest.is_some_and(|rest| rest.starts_with([' ', ':']))
    });
    if begins_with_scheme {
        return Some(ShapeFlaw::SchemeTwice);
    }
    if is_placeholder(text) {
        return Some(ShapeFlaw::Placeholder);
    }
    (first == '{' && last == '}').then_some(ShapeFlaw::Json)
}

fn is_placeholder(text: &str) -> bool {
    let in_brackets = [
        ("<", ">"),
        ("${", "}"),
        ("{{", "}}"),
        ("$(", ")"),
        ("%", "%"),
    ]
    .iter()
    .any(|(open, close)| {
        text.len() > open.len() + close.len() && text.starts_with(open) && text.ends_with(close)
    });
    let is_one_character = text.len() > 2
        && text
            .chars()
            .all(|c| matches!(c, 'x' | 'X' | '*' | '.' | '…' | '-' | '_'));
    let word: String = text
        .chars()
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    in_brackets
        || is_one_character
        || text.ends_with("...")
        || text.ends_with('…')
        || PLACEHOLDERS.contains(&&*word)
}

/// Clocks differ by so much, and a source may hand on what it was given a moment ago.
const LEEWAY: Duration = Duration::from_secs(60);
const SCHEMES: [&str; 5] = ["Bearer", "Basic", "Token", "DPoP", "Authorization"];
/// In lower case, without `-`, `_` and blanks.
const PLACEHOLDERS: [&str; 20] = [
    "changeme",
    "changeit",
    "replaceme",
    "fixme",
    "todo",
    "placeholder",
    "none",
    "null",
    "nil",
    "undefined",
    "youraccesstoken",
    "yourapikey",
    "yourapikeyhere",
    "yourkey",
    "yoursecret",
    "yourtoken",
    "yourtokenhere",
    "insertapikeyhere",
    "inserttokenhere",
    "myapikey",
];

#[cfg(test)]
mod tests;
