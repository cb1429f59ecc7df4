use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// A point that a test double does not pass until the test lets it.
///
/// It makes "while the fetch is under way" a fact instead of a guess about timing:
/// [`reached`](Self::reached) waits until somebody stands before the gate, [`open`](Self::open) lets
/// everybody through.
///
/// ```
/// use tower_auth_core::{Fetch, Reason, Token, TokenSource};
/// use tower_auth_testing::{Answer, Gate, ScriptedSource};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let gate = Gate::new();
/// let source = ScriptedSource::new([Answer::token(Token::bearer("t")).behind(&gate)]);
///
/// let running = tokio::spawn({
///     let source = source.clone();
///     async move { source.fetch(&Fetch::new(Reason::First)).await }
/// });
/// gate.reached().await;
/// assert_eq!(source.in_flight(), 1);
/// gate.open();
/// assert!(running.await.unwrap().is_ok());
/// # }
/// ```
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<State>>);

#[derive(Clone, Copy, Default)]
struct State {
    open: bool,
    reached: usize,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Lets everybody through who waits, and all who come later.
    pub fn open(&self) {
        self.0.send_modify(|state| state.open = true);
    }

    /// Holds up those who come from here on.
    pub fn close(&self) {
        self.0.send_modify(|state| state.open = false);
    }

    /// Waits until somebody has come to the gate at all.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Waits until `count` arrivals have been seen since the gate was made.
    pub async fn reached_by(&self, count: usize) {
        self.wait(|state| state.reached >= count).await;
    }

    /// Stands before the gate until it is open.
    pub async fn pass(&self) {
        self.0.send_modify(|state| state.reached += 1);
        self.wait(|state| state.open).await;
    }

    async fn wait(&self, ready: impl Fn(&State) -> bool + Send) {
        // `self` keeps the sender alive, so the channel cannot be closed here.
        let _ = self.0.subscribe().wait_for(ready).await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = *self.0.borrow();
        f.debug_struct("Gate")
            .field("open", &state.open)
            .field("reached", &state.reached)
            .finish()
    }
}
