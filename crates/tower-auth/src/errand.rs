use std::future::poll_fn;
use std::mem;

use http::{Request, Response};
use tower_auth_core::{BoxError, Error, Stamp, TokenSource};
use tower_service::Service;

use crate::registry::Ticket;
use crate::unavailable::Unavailable;
use crate::wiring::{Attempt, Stamper};

/// What a request that has to wait takes along: where it gets its credential, and what becomes of it
/// without one.
pub(crate) trait Errand<R>: Send + Sync + 'static {
    type Source: TokenSource<<Self::Stamp as Stamp>::Credential>;
    type Stamp: Stamp;

    fn stamper(&self) -> Stamper<'_, Self::Source, Self::Stamp>;
    fn decide(&self, error: &Error) -> Unavailable<R>;
}

/// Sends a request when there is a credential for it.
pub(crate) async fn send_later<I, D, B, R>(
    mut inner: I,
    errand: D,
    mut request: Request<B>,
    fresh: bool,
) -> Result<Response<R>, BoxError>
where
    I: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    I::Error: Into<BoxError>,
    I::Future: Send + 'static,
    D: Errand<R>,
    B: Send + 'static,
    R: 'static,
{
    let ticket = match stamp_later(&mut inner, &errand, &mut request, fresh).await? {
        Ok(ticket) => ticket,
        Err(error) => {
            match errand.decide(&error) {
                Unavailable::Fail => return Err(error.into()),
                Unavailable::Respond(response) => return Ok(response),
                Unavailable::SendWithout => {}
            }
            ready(&mut inner).await?;
            Ticket::NONE
        }
    };
    let mut response = inner.call(request).await.map_err(Into::into)?;
    if ticket.concerns(response.status()) {
        ticket.observe(&mut response);
    }
    Ok(response)
}

/// Waits for a credential, then for the inner service, and stamps the request last, because the inner
/// service may take longer to become ready than the credential lives. The inner error is that there is no
/// credential, the outer one is any other.
async fn stamp_later<I, D, B, R>(
    inner: &mut I,
    errand: &D,
    request: &mut Request<B>,
    mut fresh: bool,
) -> Result<Result<Ticket, Error>, BoxError>
where
    I: Service<Request<B>> + Clone + Send,
    I::Error: Into<BoxError>,
    D: Errand<R>,
    B: Send + 'static,
{
    for _ in 0..ROUNDS {
        let obtained = match errand.stamper().obtain(mem::take(&mut fresh)).await {
            Ok(obtained) => obtained,
            Err(error) => return Ok(Err(error)),
        };
        ready(inner).await?;
        let stamper = errand.stamper();
        if let Some(snapshot) = stamper.still_good(&obtained) {
            match stamper.stamp(&snapshot, request) {
                Attempt::Done(ticket) => return Ok(Ok(ticket)),
                Attempt::Failed(error) => return Err(error.into()),
                Attempt::Wait => {}
            }
        }
        // It ended in the meantime. The permit is not kept while the next one is fetched.
        let unready = inner.clone();
        *inner = unready;
    }
    Ok(Err(errand.stamper().nothing_usable()))
}

async fn ready<I, Q>(inner: &mut I) -> Result<(), BoxError>
where
    I: Service<Q> + Send,
    I::Error: Into<BoxError>,
{
    poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)
}

/// How often a credential may end while the inner service becomes ready before the request is given up.
const ROUNDS: usize = 3;
