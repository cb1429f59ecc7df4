use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::{
    BoxTokenSource, Caching, Credential, Description, Error, ErrorKind, Fetch, Origin, Presence,
    Token, TokenSource,
};

mod report;

pub use report::{ChainReport, ChainStep, StepStatus};

/// Several sources in order of rank, of which the first that is configured is used.
///
/// At the first fetch they are asked in order. One that is
/// [`NotConfigured`](ErrorKind::NotConfigured) is skipped; one that is there but wrong
/// ([`InvalidConfig`](ErrorKind::InvalidConfig)) ends the search with its error, because to go past it
/// would be to use an identity that nobody asked for. Any other answer, a failure included, shows that
/// the source is configured, and settles the choice **for good**: what fails later is a failure of that
/// source, and a chain never changes who the program is. To choose anew, make a new chain.
///
/// What became of each source is kept as a [`ChainReport`]: in [`report`](Self::report), in the
/// [description](Description::chain) and in the [error](Error::chain).
///
/// ```
/// use tower_auth_core::{Chain, Error, ErrorKind, Fetch, Reason, Token, TokenSource, source_fn};
///
/// # fn main() {
/// # let mut task = std::task::Context::from_waker(std::task::Waker::noop());
/// let from_file = source_fn(|_cx: Fetch| async {
///     Err::<Token, _>(Error::new(ErrorKind::NotConfigured, "there is no file /run/token"))
/// })
/// .named("token file");
/// let from_env: Result<Token, Error> =
///     Err(Error::new(ErrorKind::NotConfigured, "API_KEY is not set").with_source_name("API key"));
///
/// let chain: Chain = Chain::new("my API").or(from_file).or_if_configured(from_env);
/// # let error = match std::pin::pin!(chain.fetch(&Fetch::new(Reason::First))).poll(&mut task) {
/// #     std::task::Poll::Ready(result) => result.unwrap_err(),
/// #     std::task::Poll::Pending => unreachable!(),
/// # };
/// # /*
/// let error = chain.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
/// # */
/// assert_eq!(
///     error.to_string(),
///     "my API: nothing is configured: token file (there is no file /run/token), API key (API_KEY is not set)",
/// );
/// # }
/// ```
#[must_use = "a chain does nothing until it is asked"]
pub struct Chain<T: Credential = Token> {
    name: Cow<'static, str>,
    links: Vec<Link<T>>,
    strict: bool,
    chosen: OnceLock<usize>,
    report: Mutex<Option<Arc<ChainReport>>>,
}

enum Link<T: Credential> {
    Source {
        source: BoxTokenSource<T>,
        /// Its constructor has read its settings, so they are there.
        is_configured: bool,
    },
    /// Its constructor failed.
    Failed(Error),
}

impl<T: Credential> Chain<T> {
    /// A chain without sources. `name` is what errors and logs call it, in lower case.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            links: Vec::new(),
            strict: false,
            chosen: OnceLock::new(),
            report: Mutex::new(None),
        }
    }

    /// Adds a source, of lower rank than those before.
    pub fn or(self, source: impl TokenSource<T>) -> Self {
        self.with(Link::Source {
            source: source.boxed(),
            is_configured: false,
        })
    }

    /// Adds a source that reads its settings when it is made, as it came out of its constructor. If the
    /// constructor failed, its error is the source's answer: the chain goes on if nothing is configured,
    /// and stops there if something is wrong.
    pub fn or_if_configured(self, made: Result<impl TokenSource<T>, Error>) -> Self {
        self.with(match made {
            Ok(source) => Link::Source {
                source: source.boxed(),
                is_configured: true,
            },
            Err(error) => Link::Failed(error),
        })
    }

    /// Refuses to choose between two sources that are both known to be configured
    /// ([`Presence::Configured`]), instead of taking the first.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// What became of each source; `None` before the first fetch.
    #[must_use]
    pub fn report(&self) -> Option<Arc<ChainReport>> {
        self.report
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn with(mut self, link: Link<T>) -> Self {
        self.links.push(link);
        self
    }

    fn chosen(&self) -> Option<&Link<T>> {
        self.links.get(*self.chosen.get()?)
    }

    /// How the sources before `place` answered, what the one there is, and what can be told of those
    /// after it without asking them.
    fn survey(
        &self,
        skipped: &[Error],
        place: usize,
        here: Option<StepStatus>,
    ) -> Arc<ChainReport> {
        let before = skipped.iter().cloned().map(StepStatus::Skipped);
        let after = self.links.iter().skip(place + 1).map(Link::status_unasked);
        let steps = self
            .links
            .iter()
            .zip(before.chain(here).chain(after))
            .map(|(link, status)| ChainStep::new(&link.describe(), status))
            .collect();
        Arc::new(ChainReport::new(steps))
    }

    fn note(&self, report: &Arc<ChainReport>) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(report));
    }

    async fn search(&self, cx: &Fetch<T>) -> Result<T, Error> {
        let mut skipped = Vec::new();
        for (place, link) in self.links.iter().enumerate() {
            let answer = link.fetch(cx).await;
            match &answer {
                Err(error) if error.kind() == ErrorKind::NotConfigured => {
                    skipped.push(error.clone());
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::InvalidConfig => {
                    let broken = StepStatus::Broken(error.clone());
                    let report = self.survey(&skipped, place, Some(broken));
                    self.note(&report);
                    return Err(error
                        .clone()
                        .or_source(link.describe().name().to_owned())
                        .with_chain(report));
                }
                _ => {}
            }
            if self.strict {
                self.refuse_two(&skipped, place)?;
            }
            let chosen = *self.chosen.get_or_init(|| place);
            if chosen != place {
                // Another fetch ran at the same time and found another source configured. It was first.
                break;
            }
            self.note(&self.survey(&skipped, place, Some(StepStatus::Chosen)));
            return answer;
        }
        match self.chosen() {
            Some(link) => link.fetch(cx).await,
            None => {
                let report = self.survey(&skipped, self.links.len(), None);
                self.note(&report);
                Err(self.nothing_configured(report))
            }
        }
    }

    fn refuse_two(&self, skipped: &[Error], place: usize) -> Result<(), Error> {
        let name_of = |link: &Link<T>| link.describe().name().to_owned();
        let rival = self
            .links
            .iter()
            .skip(place + 1)
            .find(|link| matches!(link.presence(), Presence::Configured));
        let (Some(here), Some(rival)) = (self.links.get(place), rival) else {
            return Ok(());
        };
        let what = format!(
            "both {} and {} are configured, and only one may be",
            name_of(here),
            name_of(rival)
        );
        let error = Error::new(ErrorKind::InvalidConfig, what).with_source_name(self.name.clone());
        let report = self.survey(skipped, place, Some(StepStatus::Broken(error.clone())));
        self.note(&report);
        Err(error.with_chain(report))
    }

    fn nothing_configured(&self, report: Arc<ChainReport>) -> Error {
        let what = if self.links.is_empty() {
            "the chain has no sources".to_owned()
        } else {
            format!("nothing is configured: {}", report.reasons())
        };
        Error::new(ErrorKind::NotConfigured, what)
            .with_source_name(self.name.clone())
            .with_chain(report)
    }

    /// The origins that every source names, of those that name any. If they agree on none, those of the
    /// highest rank: a source of lower rank is then not stamped where it might be, which shows, while the
    /// other way round a credential would go where it must not, which does not.
    fn origins(&self) -> Vec<Origin> {
        let mut named = self
            .links
            .iter()
            .map(|link| link.describe().origins().to_vec())
            .filter(|origins| !origins.is_empty());
        let first = named.next().unwrap_or_default();
        let shared = named.fold(first.clone(), |mut shared, origins| {
            shared.retain(|origin| origins.contains(origin));
            shared
        });
        if shared.is_empty() { first } else { shared }
    }
}

impl<T: Credential> TokenSource<T> for Chain<T> {
    async fn fetch(&self, cx: &Fetch<T>) -> Result<T, Error> {
        match self.chosen() {
            Some(link) => link.fetch(cx).await,
            None => self.search(cx).await,
        }
    }

    /// That of the source that was chosen; before, the chain's name, and the origins on which all agree.
    fn describe(&self) -> Description {
        let description = match self.chosen() {
            Some(link) => link.describe(),
            None => {
                let description = Description::new(self.name.clone());
                self.origins()
                    .into_iter()
                    .fold(description, Description::with_origin)
            }
        };
        match self.report() {
            Some(report) => description.with_chain(report),
            None => description,
        }
    }

    /// [`PerRequest`](Caching::PerRequest) if that holds for one of the sources: an answer that is good
    /// for one request only must not serve another.
    fn caching(&self) -> Caching {
        let per_request = self.links.iter().any(|link| match link {
            Link::Source { source, .. } => source.caching() == Caching::PerRequest,
            Link::Failed(_) => false,
        });
        if per_request {
            Caching::PerRequest
        } else {
            Caching::Shared
        }
    }

    fn presence(&self) -> Presence {
        let mut missing = Vec::new();
        for link in &self.links {
            match link.presence() {
                Presence::Missing(error) if error.kind() == ErrorKind::NotConfigured => {
                    missing.push(error);
                }
                other => return other,
            }
        }
        Presence::Missing(self.nothing_configured(self.survey(&missing, self.links.len(), None)))
    }
}

impl<T: Credential> Link<T> {
    async fn fetch(&self, cx: &Fetch<T>) -> Result<T, Error> {
        match self {
            Self::Source { source, .. } => source.fetch(cx).await,
            Self::Failed(error) => Err(error.clone()),
        }
    }

    fn describe(&self) -> Description {
        match self {
            Self::Source { source, .. } => source.describe(),
            Self::Failed(error) => {
                Description::new(error.source_name().unwrap_or("a source").to_owned())
            }
        }
    }

    fn presence(&self) -> Presence {
        match self {
            Self::Failed(error) => Presence::Missing(error.clone()),
            Self::Source {
                source,
                is_configured,
            } => match source.presence() {
                Presence::Unknown if *is_configured => Presence::Configured,
                presence => presence,
            },
        }
    }

    fn status_unasked(&self) -> StepStatus {
        match self.presence() {
            Presence::Unknown => StepStatus::NotAsked,
            Presence::Configured => StepStatus::Shadowed,
            Presence::Missing(error) if error.kind() == ErrorKind::NotConfigured => {
                StepStatus::Skipped(error)
            }
            Presence::Missing(error) => StepStatus::Broken(error),
        }
    }
}

impl<T: Credential> fmt::Debug for Chain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self
            .links
            .iter()
            .map(|link| link.describe().name().to_owned())
            .collect();
        f.debug_struct("Chain")
            .field("name", &self.name)
            .field("sources", &names)
            .field("chosen", &self.chosen.get())
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
