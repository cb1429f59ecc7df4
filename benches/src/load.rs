use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::{Request, Uri};
use tower_service::Service;

use crate::{Body, request, target};

/// Sends that many requests, one after the other.
pub type Runner = Box<dyn FnMut(usize) + Send>;

/// How a program holds its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reuse {
    /// One service makes every call.
    LongLived,
    /// Every call is made by a clone that is dropped after it, as in an axum handler.
    ClonePerCall,
}

/// Runs a load on this service.
pub(crate) fn runner<S>(mut service: S, reuse: Reuse) -> Runner
where
    S: Service<Request<Body>> + Clone + Send + 'static,
{
    let target = target();
    Box::new(move |requests| measured_loop(&mut service, reuse, &target, requests))
}

/// Never inlined, so that it has a name to count inside of.
#[inline(never)]
fn measured_loop<S>(service: &mut S, reuse: Reuse, target: &Uri, requests: usize)
where
    S: Service<Request<Body>> + Clone,
{
    match reuse {
        Reuse::LongLived => {
            for _ in 0..requests {
                exchange(service, target);
            }
        }
        Reuse::ClonePerCall => {
            for _ in 0..requests {
                exchange(&mut black_box(&*service).clone(), target);
            }
        }
    }
}

fn exchange<S>(service: &mut S, target: &Uri)
where
    S: Service<Request<Body>>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let request = black_box(request(target));
    let _ = black_box(service.poll_ready(&mut cx));
    let mut answer = pin!(service.call(request));
    match answer.as_mut().poll(&mut cx) {
        Poll::Ready(answer) => drop(black_box(answer)),
        Poll::Pending => panic!("the transport answers at once, and no layer may make it wait"),
    }
}
