//! What the types promise without being run: sizes and auto traits.

use std::future::{Pending, Ready};

use http::{Request, Response};
use tower::util::BoxCloneService;
use tower_auth::{
    Auth, AuthLayer, AuthOverride, BoxError, Fail, Headers, PreparedHeaders, Receipt, Replay,
    ReplayFuture, ReplayLayer, ResponseFuture, SendWithout, Token, Unavailable,
};

type Client = BoxCloneService<Request<()>, Response<()>, BoxError>;
type BoxedFuture = std::pin::Pin<Box<dyn Future<Output = Result<Response<()>, BoxError>> + Send>>;

/// Not `Sync`, as service futures often are.
type SendOnly = std::cell::Cell<u8>;

macro_rules! assert_traits {
    ($($type:ty: $($marker:ident)+;)+) => {$(
        const _: fn() = || {
            $( fn $marker<T: $marker + ?Sized>() {} )+
            $( $marker::<$type>(); )+
        };
    )+};
}

#[expect(
    non_snake_case,
    reason = "each function is named like the trait that it asks for"
)]
mod auto_traits {
    use super::*;

    assert_traits! {
        AuthLayer<Token>: Send Sync Unpin Clone;
        AuthLayer<Token, Headers, SendWithout>: Send Sync Unpin Clone;
        ReplayLayer<Token>: Send Sync Unpin Clone;
        Auth<(), Token>: Send Sync Unpin Clone;
        Auth<SendOnly, Token>: Send Unpin Clone;
        Auth<Client, Token>: Send Unpin Clone;
        Replay<Auth<(), Token>>: Send Sync Unpin Clone;
        ResponseFuture<Ready<()>, ()>: Send Unpin;
        ResponseFuture<BoxedFuture, SendOnly>: Send Unpin;
        ResponseFuture<Pending<SendOnly>, ()>: Send Unpin;
        ReplayFuture<(), Ready<()>, (), ()>: Send Unpin;
        Receipt: Send Sync Unpin Clone;
        AuthOverride: Send Sync Unpin Clone;
        Headers: Send Sync Unpin Clone;
        PreparedHeaders: Send Sync Unpin;
        Fail: Send Sync Unpin Clone;
        Unavailable<()>: Send Sync Unpin;
    }
}

#[test]
fn a_service_grows_by_at_most_24_bytes() {
    assert_eq!(size_of::<Auth<(), Token>>(), 24);
    assert_eq!(size_of::<Auth<[u64; 8], Token>>(), 64 + 24);
}

#[test]
fn a_future_grows_by_at_most_16_bytes() {
    assert!(size_of::<ResponseFuture<BoxedFuture, ()>>() <= size_of::<BoxedFuture>() + 16);
    assert!(size_of::<ResponseFuture<[u64; 14], ()>>() <= 14 * 8 + 16);
    assert!(size_of::<ResponseFuture<[u64; 2], ()>>() <= 2 * 8 + 16);
}
