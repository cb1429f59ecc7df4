use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;
use tower_auth_core::BoxError;

use crate::registry::Ticket;

pin_project! {
    /// The future of an [`Auth`](crate::Auth) service.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, R> {
        // The request is with the inner service.
        Hot { #[pin] inner: F, ticket: Ticket },
        // It waits for a credential, or has been answered without being sent.
        Cold { outcome: Outcome<R> },
    }
}

pub(crate) type Outcome<R> = Pin<Box<dyn Future<Output = Result<Response<R>, BoxError>> + Send>>;

impl<F, R> ResponseFuture<F, R> {
    #[inline]
    pub(crate) fn hot(inner: F, ticket: Ticket) -> Self {
        Self {
            state: State::Hot { inner, ticket },
        }
    }

    pub(crate) fn cold(outcome: Outcome<R>) -> Self {
        Self {
            state: State::Cold { outcome },
        }
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<R>, BoxError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Hot { inner, ticket } => {
                // Looked at where it lies: to take it out and wrap it again is to move it twice.
                let mut answer = inner.poll(cx);
                if let Poll::Ready(Ok(response)) = &mut answer {
                    if ticket.concerns(response.status()) {
                        ticket.observe(response);
                    }
                }
                answer.map_err(boxed)
            }
            StateProj::Cold { outcome } => outcome.as_mut().poll(cx),
        }
    }
}

/// Out of line: it allocates, and it is not what normally happens.
#[cold]
#[inline(never)]
fn boxed<E: Into<BoxError>>(error: E) -> BoxError {
    error.into()
}

impl<F, R> fmt::Debug for ResponseFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Hot { .. } => "sent",
            State::Cold { .. } => "waiting",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
