use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::{
    BoxTokenSource, ChainReport, Credential, Error, Expiry, Fetch, Origin, Prefix, Secret, Token,
};

/// One attempt to obtain a credential. Calling it again is the refresh.
///
/// An implementation makes **one** attempt and classifies what went wrong. It does not cache, retry,
/// sleep or start tasks: the cache in front of it does, once, for all sources. A source that exchanges
/// another credential asks the source of its subject at every call and never puts a token cache before
/// it, because an assertion may be accepted only once and files rotate.
///
/// ```
/// use std::time::Duration;
/// use tower_auth_core::{Description, Error, ErrorKind, Fetch, Token, TokenSource};
///
/// struct Broker;
///
/// impl TokenSource for Broker {
///     async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
///         let text = ask_the_broker().await.map_err(|cause| {
///             Error::new(ErrorKind::Unavailable, "the broker did not answer").with_cause(cause)
///         })?;
///         Ok(Token::bearer(text).expires_in(Duration::from_secs(300)))
///     }
///
///     fn describe(&self) -> Description {
///         Description::new("my broker")
///     }
/// }
/// # async fn ask_the_broker() -> Result<String, std::io::Error> { Ok("t".into()) }
/// ```
pub trait TokenSource<T: Credential = Token>: Send + Sync + 'static {
    /// Obtains one credential.
    ///
    /// # Errors
    /// An [`Error`] whose [`kind`](Error::kind) says what its reader should do.
    fn fetch(&self, cx: &Fetch<T>) -> impl Future<Output = Result<T, Error>> + Send;

    /// What this is and where its settings came from. Never a secret.
    fn describe(&self) -> Description;

    /// Whether the answer may be kept for other requests.
    fn caching(&self) -> Caching {
        Caching::Shared
    }

    /// Whether what it needs to be configured is there, as far as that is known without a request, a
    /// program or a wait. Explains a choice between several sources; decides nothing.
    ///
    /// A source that was made of its settings has them, and may say so.
    fn presence(&self) -> Presence {
        Presence::Unknown
    }

    /// This source behind a pointer, for a list or a field that holds any of them.
    fn boxed(self) -> BoxTokenSource<T>
    where
        Self: Sized,
    {
        BoxTokenSource::new(self)
    }
}

/// Whether one answer of a source serves many requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caching {
    /// One answer serves every request until it has to be renewed.
    Shared,
    /// The source is asked for each request, and for several at the same time: it caches by itself, or
    /// its answers are good for one request only.
    PerRequest,
}

/// Whether a source is configured. See [`TokenSource::presence`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Presence {
    /// It would take a fetch to know.
    Unknown,
    /// What it needs is there. Whether it works is another question.
    Configured,
    /// Something is missing or wrong: the error that a fetch would give. Its kind tells the one
    /// ([`NotConfigured`](crate::ErrorKind::NotConfigured)) from the other.
    Missing(Error),
}

/// What a source is, in words: its name, where its settings came from, and which API it is meant for.
///
/// ```
/// use tower_auth_core::Description;
///
/// let d = Description::new("entra client secret")
///     .with_setting("tenant", "AZURE_TENANT_ID")
///     .with_setting("secret", "AZURE_CLIENT_SECRET");
/// assert_eq!(d.to_string(), "entra client secret (tenant from AZURE_TENANT_ID, secret from AZURE_CLIENT_SECRET)");
/// ```
#[derive(Clone, Debug)]
pub struct Description {
    name: Cow<'static, str>,
    settings: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    origins: Vec<Origin>,
    prefixes: Vec<Prefix>,
    audience: Option<Cow<'static, str>>,
    chain: Option<Arc<ChainReport>>,
}

impl Description {
    /// A source of this name, in lower case: `entra client secret`.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            settings: Vec::new(),
            origins: Vec::new(),
            prefixes: Vec::new(),
            audience: None,
            chain: None,
        }
    }

    /// Adds that `setting` came `from` a variable, a file, a command or an argument.
    /// Never pass the setting's value if it is a secret.
    #[must_use]
    pub fn with_setting(
        mut self,
        setting: impl Into<Cow<'static, str>>,
        from: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.settings.push((setting.into(), from.into()));
        self
    }

    /// Adds an origin that the credential is meant for. A layer that is given no origins of its own
    /// stamps these and no others.
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.origins.push(origin);
        self
    }

    /// Adds how a kind of credential of this issuer begins, so that one in the wrong place is noticed.
    #[must_use]
    pub fn with_prefix(mut self, prefix: Prefix) -> Self {
        self.prefixes.push(prefix);
        self
    }

    /// Adds the audience that the credential must name if it is a JWT (RFC 7519 section 4.1.3).
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<Cow<'static, str>>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Adds what other sources there were to choose from.
    #[must_use]
    pub fn with_chain(mut self, report: Arc<ChainReport>) -> Self {
        self.chain = Some(report);
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Each setting and where it came from.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings
            .iter()
            .map(|(setting, from)| (&**setting, &**from))
    }

    /// The origins the credential is meant for; empty where the source does not know.
    #[must_use]
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// How the kinds of credentials of this issuer begin, as far as the source says.
    #[must_use]
    pub fn prefixes(&self) -> &[Prefix] {
        &self.prefixes
    }

    /// The audience that the credential must name if it is a JWT, where the source knows.
    #[must_use]
    pub fn audience(&self) -> Option<&str> {
        self.audience.as_deref()
    }

    /// What other sources there were to choose from, if a [`Chain`](crate::Chain) made a choice.
    #[must_use]
    pub fn chain(&self) -> Option<&ChainReport> {
        self.chain.as_deref()
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (i, (setting, from)) in self.settings().enumerate() {
            write!(
                f,
                "{}{setting} from {from}",
                if i == 0 { " (" } else { ", " }
            )?;
        }
        if !self.settings.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

macro_rules! forward_to_pointee {
    ($($pointer:ty),*) => {$(
        impl<T: Credential, S: TokenSource<T>> TokenSource<T> for $pointer {
            fn fetch(&self, cx: &Fetch<T>) -> impl Future<Output = Result<T, Error>> + Send {
                (**self).fetch(cx)
            }

            fn describe(&self) -> Description {
                (**self).describe()
            }

            fn caching(&self) -> Caching {
                (**self).caching()
            }

            fn presence(&self) -> Presence {
                (**self).presence()
            }
        }
    )*};
}
forward_to_pointee!(Arc<S>, Box<S>);

macro_rules! static_text {
    ($($text:ty),*) => {$(
        /// A fixed bearer token. It is never fetched again: there is nothing newer to be had.
        impl TokenSource for $text {
            async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
                Ok(Token::bearer(Secret::from(self.clone())).with_expiry(Expiry::Never))
            }

            fn describe(&self) -> Description {
                Description::new("fixed bearer token")
            }

            fn presence(&self) -> Presence {
                Presence::Configured
            }
        }
    )*};
}
static_text!(&'static str, String, Secret);

/// A fixed token, stamped as it says itself.
impl TokenSource for Token {
    async fn fetch(&self, _cx: &Fetch) -> Result<Self, Error> {
        Ok(self.clone())
    }

    fn describe(&self) -> Description {
        Description::new("fixed token")
    }

    fn presence(&self) -> Presence {
        Presence::Configured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_without_settings_is_its_name() {
        assert_eq!(Description::new("a file").to_string(), "a file");
    }

    #[test]
    fn a_fixed_token_is_never_fetched_again() {
        let cx = Fetch::new(crate::Reason::First);
        let mut fetch = std::pin::pin!("k".fetch(&cx));
        let mut task = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(Ok(token)) = fetch.as_mut().poll(&mut task) else {
            panic!("a fixed token is there at once")
        };
        assert_eq!(token.expiry(), Expiry::Never);
    }
}
