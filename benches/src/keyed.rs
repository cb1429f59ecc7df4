use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use tokio::runtime::{Builder, Runtime};
use tower_auth::{KeyedAuth, KeyedAuthLayer, KeyedCache, RequestHead, Token};
use tower_layer::Layer;

use crate::ours::Transport;

type Select = for<'r> fn(RequestHead<'r>) -> Option<Cow<'r, str>>;

/// This project's keyed layer as a program has it once it is warm: it holds a thousand keys, and each
/// request shows its own in a header.
pub(crate) fn service<T: Transport>(
    transport: T,
    token: String,
) -> (KeyedAuth<T, str, Select>, Arc<Runtime>) {
    let cache = KeyedCache::new(move |_: &str| Token::bearer(token.clone()).expires_in(LIFETIME));
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(async {
        for other in 0..OTHERS {
            drop(cache.get(&format!("another-key/{other}")).await);
        }
        cache
            .get(KEY)
            .await
            .unwrap_or_else(|error| panic!("no token: {error}"));
    });
    let layer = KeyedAuthLayer::from_cache(select as Select, cache);
    (layer.layer(transport), Arc::new(runtime))
}

fn select(head: RequestHead<'_>) -> Option<Cow<'_, str>> {
    head.header(&USER_AGENT).map(Cow::Borrowed)
}

/// What the load's requests have in this header.
const KEY: &str = "tower-auth-benches/0";
const OTHERS: usize = 1000;
const LIFETIME: Duration = Duration::from_secs(3600);
