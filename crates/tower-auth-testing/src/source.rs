use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tower_auth_core::{
    Caching, Credential, Description, Error, ErrorKind, Fetch, Token, TokenSource,
};

use crate::Canary;

mod answer;
mod call;

pub use answer::Answer;
use answer::Deed;
pub use call::{Call, Outcome, ScriptRanOut};

/// A source that answers as the test says, and remembers how it was asked.
///
/// A clone is a handle to the same script: give one to the code under test and keep the other to
/// watch, to add answers and to wait. When the script has run out the source answers with an error of
/// kind [`InvalidConfig`](ErrorKind::InvalidConfig) whose cause is [`ScriptRanOut`], unless a rule for
/// the rest was given.
///
/// ```
/// use std::time::Duration;
/// use tower_auth_core::{ErrorKind, Fetch, Reason, Token, TokenSource};
/// use tower_auth_testing::{Answer, ScriptedSource};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let source = ScriptedSource::new([
///     Answer::error(ErrorKind::Unavailable),
///     Answer::token(Token::bearer("t")).after(Duration::from_secs(5)),
/// ])
/// .then_repeat_last();
///
/// let cx = Fetch::new(Reason::First);
/// assert_eq!(source.fetch(&cx).await.unwrap_err().kind(), ErrorKind::Unavailable);
/// assert_eq!(source.fetch(&cx).await.unwrap().secret().expose(), "t");
/// assert_eq!(source.fetch(&cx).await.unwrap().secret().expose(), "t");
/// assert_eq!(source.call_count(), 3);
/// # });
/// ```
pub struct ScriptedSource<T: Credential = Token>(Arc<Shared<T>>);

struct Shared<T> {
    name: &'static str,
    state: Mutex<State<T>>,
    /// How many calls have begun, for those who wait for one.
    begun: watch::Sender<usize>,
}

struct State<T> {
    script: VecDeque<Answer<T>>,
    rest: Rest<T>,
    calls: Vec<Call>,
    in_flight: usize,
    max_in_flight: usize,
    caching: Caching,
}

type Rule<T> = Box<dyn FnMut(usize) -> Answer<T> + Send>;

enum Rest<T> {
    RunOut,
    Rule(Rule<T>),
    /// Knows how to clone, which not every credential does.
    RepeatLast(fn(&Answer<T>) -> Answer<T>, Option<Answer<T>>),
}

impl<T: Credential> ScriptedSource<T> {
    /// A source that gives these answers, one per call.
    pub fn new(script: impl IntoIterator<Item = Answer<T>>) -> Self {
        Self::with_rest(script.into_iter().collect(), Rest::RunOut)
    }

    /// A source that makes up each answer: `rule` is given how many calls there were before. It runs
    /// under the script's lock, so it must not use the source itself.
    ///
    /// ```
    /// use tower_auth_core::{ErrorKind, Token};
    /// use tower_auth_testing::{Answer, ScriptedSource};
    ///
    /// let every_third_fails = ScriptedSource::from_rule(|call| match call % 3 {
    ///     2 => Answer::error(ErrorKind::Unavailable),
    ///     _ => Answer::token(Token::bearer(format!("t{call}"))),
    /// });
    /// # let _ = every_third_fails;
    /// ```
    pub fn from_rule(rule: impl FnMut(usize) -> Answer<T> + Send + 'static) -> Self {
        Self::with_rest(VecDeque::new(), Rest::Rule(Box::new(rule)))
    }

    /// Makes up the answers that come after the script. See [`from_rule`](Self::from_rule).
    #[must_use]
    pub fn then_rule(self, rule: impl FnMut(usize) -> Answer<T> + Send + 'static) -> Self {
        self.lock().rest = Rest::Rule(Box::new(rule));
        self
    }

    /// Gives the last answer again and again when the script is through.
    #[must_use]
    pub fn then_repeat_last(self) -> Self
    where
        T: Clone,
    {
        self.lock().rest = Rest::RepeatLast(Answer::clone, None);
        self
    }

    /// Says that answers are good for one request only. See [`Caching::PerRequest`].
    #[must_use]
    pub fn per_request(self) -> Self {
        self.lock().caching = Caching::PerRequest;
        self
    }

    /// Adds an answer to the end of the script.
    pub fn push(&self, answer: Answer<T>) {
        self.lock().script.push_back(answer);
    }

    /// How many fetches have begun.
    #[must_use]
    pub fn call_count(&self) -> usize {
        self.lock().calls.len()
    }

    /// Every fetch that has begun, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// The fetch that began last.
    ///
    /// # Panics
    /// If there was none.
    #[track_caller]
    #[must_use]
    pub fn last_call(&self) -> Call {
        let last = self.lock().calls.last().cloned();
        match last {
            Some(call) => call,
            None => panic!("the source \"{}\" has not been asked", self.0.name),
        }
    }

    /// How many fetches are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// How many fetches were under way at the same time, at most.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.lock().max_in_flight
    }

    /// How many answers of the script have not been given.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.lock().script.len()
    }

    /// Waits until `count` fetches have begun since the source was made.
    pub async fn called(&self, count: usize) {
        // `self` keeps the sender alive, so the channel cannot be closed here.
        let _ = self
            .0
            .begun
            .subscribe()
            .wait_for(|begun| *begun >= count)
            .await;
    }

    fn with_rest(script: VecDeque<Answer<T>>, rest: Rest<T>) -> Self {
        Self(Arc::new(Shared {
            name: "scripted source",
            state: Mutex::new(State {
                script,
                rest,
                calls: Vec::new(),
                in_flight: 0,
                max_in_flight: 0,
                caching: Caching::Shared,
            }),
            begun: watch::Sender::new(0),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock()
    }
}

/// An endless source of tokens that are all different: `canary-5eC7eT-token-1`, `…-2`, each living for
/// `lifetime` from the start of its fetch. They have [`Canary::MARKER`](crate::Canary::MARKER), so a
/// [`LeakGuard`](crate::LeakGuard) knows them for secrets.
///
/// ```
/// use std::time::Duration;
/// use tower_auth_testing::fresh_tokens;
///
/// let source = fresh_tokens(Duration::from_secs(3600));
/// # let _ = source;
/// ```
#[must_use]
pub fn fresh_tokens(lifetime: Duration) -> ScriptedSource {
    ScriptedSource::from_rule(move |call| {
        let text = format!("{}-token-{}", Canary::MARKER, call + 1);
        Answer::token(Token::bearer(text).expires_in(lifetime))
    })
}

impl<T: Credential> TokenSource<T> for ScriptedSource<T> {
    async fn fetch(&self, cx: &Fetch<T>) -> Result<T, Error> {
        let (answer, mut running) = self.0.begin(cx);
        let call = running.call + 1;
        let Some(answer) = answer else {
            running.end(Outcome::Answered);
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the script of the test has no answer for this call",
            )
            .with_source_name(self.0.name)
            .with_cause(ScriptRanOut { call }));
        };
        if let Some(gate) = &answer.gate {
            gate.pass().await;
        }
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        match answer.deed {
            Deed::Give(credential) => {
                running.end(Outcome::Answered);
                Ok(credential)
            }
            Deed::Fail(error) => {
                running.end(Outcome::Answered);
                Err(error.or_source(self.0.name))
            }
            Deed::Hang => std::future::pending().await,
            Deed::Panic(text) => std::panic::panic_any(text),
        }
    }

    fn describe(&self) -> Description {
        Description::new(self.0.name)
    }

    fn caching(&self) -> Caching {
        self.lock().caching
    }
}

impl<T: Credential> Clone for ScriptedSource<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Credential> fmt::Debug for ScriptedSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("ScriptedSource")
            .field("calls", &state.calls.len())
            .field("in_flight", &state.in_flight)
            .field("remaining", &state.script.len())
            .finish_non_exhaustive()
    }
}

impl<T: Credential> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A rule that panicked leaves the counts as they were, which is still true.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, cx: &Fetch<T>) -> (Option<Answer<T>>, Running<'_, T>) {
        let mut state = self.lock();
        let call = state.calls.len();
        state.calls.push(Call::new(cx));
        state.in_flight += 1;
        state.max_in_flight = state.max_in_flight.max(state.in_flight);
        self.begun.send_replace(call + 1);
        let running = Running {
            shared: self,
            call,
            outcome: Outcome::Dropped,
        };
        let answer = state.next(call);
        drop(state);
        (answer, running)
    }
}

impl<T> State<T> {
    fn next(&mut self, call: usize) -> Option<Answer<T>> {
        let scripted = self.script.pop_front();
        match &mut self.rest {
            Rest::RunOut => scripted,
            Rest::Rule(rule) => Some(scripted.unwrap_or_else(|| rule(call))),
            Rest::RepeatLast(clone, last) => {
                if let Some(answer) = scripted {
                    *last = Some(answer);
                }
                last.as_ref().map(clone)
            }
        }
    }
}

/// Counts a fetch as under way for as long as its future lives.
struct Running<'a, T: Credential> {
    shared: &'a Shared<T>,
    call: usize,
    outcome: Outcome,
}

impl<T: Credential> Running<'_, T> {
    fn end(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl<T: Credential> Drop for Running<'_, T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.in_flight -= 1;
        if let Some(call) = state.calls.get_mut(self.call) {
            call.outcome = self.outcome;
        }
    }
}
