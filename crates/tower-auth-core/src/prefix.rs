use std::borrow::Cow;

use crate::Placement;

/// What a credential that begins like this is, and where it belongs.
///
/// Issuers mark their secrets so that a wrong one can be told before it is sent: an OAuth token in the
/// place of an API key, a refresh token, the name of a key instead of the key. A source lists those of its
/// issuer in its [`Description`](crate::Description::with_prefix); there is no list for all.
///
/// ```
/// use http::HeaderName;
/// use tower_auth_core::{Placement, Prefix};
///
/// const KEY: &str = "an API key of Example";
/// let key = Prefix::new("ex-key-", KEY).belongs_in(Placement::header(HeaderName::from_static("x-api-key")));
/// assert!(key.fits("ex-key-123"));
/// assert!(!key.may_travel_in(&Placement::authorization("Bearer")));
///
/// let prefixes = [Prefix::new("ex-", "something of Example"), key];
/// assert_eq!(Prefix::longest(&prefixes, "ex-key-123").unwrap().what(), KEY);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    text: Cow<'static, str>,
    what: Cow<'static, str>,
    places: Vec<Placement>,
}

impl Prefix {
    /// Credentials that begin with `text` are `what`, with its article: `an API key of Example`. Unless
    /// [`belongs_in`](Self::belongs_in) is called, they belong in no header at all.
    pub fn new(text: impl Into<Cow<'static, str>>, what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            text: text.into(),
            what: what.into(),
            places: Vec::new(),
        }
    }

    /// They may travel here. To be called for each place.
    #[must_use]
    pub fn belongs_in(mut self, place: Placement) -> Self {
        self.places.push(place);
        self
    }

    /// How they begin.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What they are.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Where they may travel.
    #[must_use]
    pub fn places(&self) -> &[Placement] {
        &self.places
    }

    /// Whether this credential begins so and goes on.
    #[must_use]
    pub fn fits(&self, credential: &str) -> bool {
        credential.len() > self.text.len() && credential.starts_with(&*self.text)
    }

    /// Whether they may travel here. The case of a scheme does not count (RFC 9110 section 11.1).
    #[must_use]
    pub fn may_travel_in(&self, place: &Placement) -> bool {
        self.places.iter().any(|known| {
            known.name() == place.name()
                && match (known.scheme(), place.scheme()) {
                    (Some(known), Some(scheme)) => known.eq_ignore_ascii_case(scheme),
                    (None, None) => true,
                    _ => false,
                }
        })
    }

    /// The longest of these prefixes that the credential begins with.
    #[must_use]
    pub fn longest<'a>(prefixes: &'a [Self], credential: &str) -> Option<&'a Self> {
        prefixes
            .iter()
            .filter(|prefix| prefix.fits(credential))
            .max_by_key(|prefix| prefix.text.len())
    }
}
