use std::sync::Arc;

use tower_auth_core::{
    BearerFn, BoxTokenSource, Description, Error, Fetch, Fingerprint, Origin, Secret, SourceFn,
    StampContext, Token, TokenSource, bearer_fn, source_fn,
};

fn is_send_and_sync<T: Send + Sync>() {}
fn is_static<T: Send + Sync + 'static>(_: &T) {}
fn is_send<T: Send>(_: T) {}

#[test]
fn what_is_handed_around_crosses_threads() {
    is_send_and_sync::<BearerFn<fn()>>();
    is_send_and_sync::<BoxTokenSource>();
    is_send_and_sync::<Description>();
    is_send_and_sync::<Error>();
    is_send_and_sync::<Fetch>();
    is_send_and_sync::<Fingerprint>();
    is_send_and_sync::<Origin>();
    is_send_and_sync::<Secret>();
    is_send_and_sync::<SourceFn<fn()>>();
    is_send_and_sync::<StampContext<'static>>();
    is_send_and_sync::<Token>();
}

#[test]
fn every_way_to_write_a_source_can_be_spawned() {
    fn check(source: impl TokenSource) {
        is_static(&source);
        let cx = Fetch::new(tower_auth_core::Reason::First);
        is_send(source.fetch(&cx));
    }
    check("fixed");
    check(Token::bearer("fixed"));
    check(bearer_fn(|| async { Ok("fetched") }));
    check(source_fn(|_cx: Fetch| async {
        Ok(Token::bearer("fetched"))
    }));
    check(Arc::new("shared"));
    check("erased".boxed());
}
