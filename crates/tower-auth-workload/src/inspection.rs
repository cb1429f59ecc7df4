use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower_auth_core::{Clock, Description, Error, ErrorKind, Expiry, Secret, Token, redact};
use tower_auth_io::{UnverifiedClaims, World};

use crate::Audience;

/// What every identity token goes through before it is handed on: is it a JWT, for the right audience, and
/// not over. Its signature is the recipient's business.
#[derive(Clone)]
pub(crate) struct Inspection {
    name: &'static str,
    audience: Audience,
    clock: Arc<dyn Clock>,
    /// What to do about another audience.
    audience_hint: Cow<'static, str>,
    /// What to do about a token that has run out.
    expiry_hint: Cow<'static, str>,
}

impl Inspection {
    pub(crate) fn new(
        name: &'static str,
        audience: impl Into<Audience>,
        world: &World,
    ) -> Result<Self, Error> {
        Ok(Self {
            name,
            audience: audience
                .into()
                .checked()
                .map_err(|error| error.with_source_name(name))?,
            clock: Arc::clone(world.clock()),
            audience_hint: Cow::Borrowed("ask its issuer for the audience that is expected"),
            expiry_hint: Cow::Borrowed("see to it that it is renewed"),
        })
    }

    /// For tokens that come straight from whoever issues them.
    pub(crate) fn of_issuer(self) -> Self {
        self.with_audience_hint("it was asked for another one: is this the right endpoint?")
            .with_expiry_hint("it was issued just now, so this machine's clock is probably fast")
    }

    pub(crate) fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    pub(crate) fn with_audience_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.audience_hint = hint.into();
        self
    }

    pub(crate) fn with_expiry_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.expiry_hint = hint.into();
        self
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn audience(&self) -> &Audience {
        &self.audience
    }

    #[cfg(feature = "spiffe")]
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The source's name and its audience.
    pub(crate) fn describe(&self) -> Description {
        Description::new(self.name).with_setting("audience", self.audience.to_string())
    }

    /// The token and what it says about itself. `place` is where it was found, in words.
    ///
    /// # Errors
    /// [`Malformed`](ErrorKind::Malformed) if the text is no JWT, [`InvalidConfig`](ErrorKind::InvalidConfig)
    /// if it is for another audience, [`Expired`](ErrorKind::Expired) if it has run out.
    pub(crate) fn inspect(
        &self,
        text: Secret,
        place: &str,
    ) -> Result<(Token, UnverifiedClaims), Error> {
        let text = trimmed(text);
        let claims = self
            .check(&text, place)
            .map_err(|error| error.with_source_name(self.name))?;
        // The cache reads `exp` and `iat` itself, with regard to a clock that is wrong.
        let token = Token::bearer(text).with_expiry(Expiry::AskEvery(ASK_EVERY));
        Ok((token, claims))
    }

    fn check(&self, text: &Secret, place: &str) -> Result<UnverifiedClaims, Error> {
        let claims = UnverifiedClaims::of(text.expose()).map_err(|cause| {
            Error::new(
                ErrorKind::Malformed,
                format!("there is no identity token in {place}"),
            )
            .with_cause(cause)
        })?;
        if let Some(expected) = self.audience.expected() {
            if !claims.is_for(expected) {
                let message = match claims.audiences() {
                    [] => format!("the token in {place} names no audience, expected {expected}"),
                    audiences => format!(
                        "the token in {place} is for the audience {}, not for {expected}",
                        redact(&audiences.join(", "), &[text])
                    ),
                };
                return Err(Error::new(ErrorKind::InvalidConfig, message)
                    .with_hint(self.audience_hint.clone()));
            }
        }
        let over = claims
            .expires_at()
            .and_then(|end| self.clock.now().duration_since(end).ok());
        match over {
            Some(ago) => Err(Error::new(
                ErrorKind::Expired,
                format!("the token in {place} expired {} s ago", ago.as_secs()),
            )
            .with_hint(self.expiry_hint.clone())),
            None => Ok(claims),
        }
    }
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspection")
            .field("name", &self.name)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// Commands and metadata services end what they say with a line break.
fn trimmed(text: Secret) -> Secret {
    let inner = text.expose().trim();
    if inner.len() == text.expose().len() {
        text
    } else {
        Secret::from(inner)
    }
}

/// How long a token is used that does not say when it ends.
const ASK_EVERY: Duration = Duration::from_secs(60);
