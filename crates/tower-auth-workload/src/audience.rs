use std::fmt;

use tower_auth_core::{Error, ErrorKind};

/// Whom an identity token must be for (`aud`, RFC 7519 section 4.1.3).
///
/// A token for one audience is refused by every other one, and a token for the wrong audience in the wrong
/// hands is an impersonation, so every source of this crate is told the audience. Most issuers can be asked
/// for it. Where it was fixed elsewhere (in a pod's specification, in a pipeline's), the source compares and
/// says what to change.
///
/// ```
/// use tower_auth_workload::Audience;
///
/// let audience = Audience::from("https://api.anthropic.com");
/// assert_eq!(audience.to_string(), "https://api.anthropic.com");
/// assert_ne!(audience, Audience::any());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(Option<String>);

impl Audience {
    /// Whatever audience the token has. For a recipient that does not look at it, or that knows better:
    /// the Kubernetes API takes tokens without naming its audience.
    #[must_use]
    pub fn any() -> Self {
        Self(None)
    }

    /// The audience that is expected; none if any is.
    pub(crate) fn expected(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is blank, as an unset variable makes it.
    pub(crate) fn checked(self) -> Result<Self, Error> {
        match &self.0 {
            Some(audience) if audience.trim().is_empty() => Err(Error::new(
                ErrorKind::InvalidConfig,
                "the audience is empty: write the one that the token's recipient expects",
            )),
            _ => Ok(self),
        }
    }
}

impl From<&str> for Audience {
    fn from(audience: &str) -> Self {
        Self(Some(audience.to_owned()))
    }
}

impl From<String> for Audience {
    fn from(audience: String) -> Self {
        Self(Some(audience))
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected().unwrap_or("any audience"))
    }
}
