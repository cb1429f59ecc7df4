//! What a key costs while nobody uses it, and that keys that have gone cost nothing. A program of its own,
//! because it counts what is allocated.
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a function of the tests fails the test"
)]

use std::time::Duration;

use tower_auth::{KeyedCache, Token};
use tower_auth_testing::TestClock;

/// Bytes that are allocated after `churn` keys have come, of which `keep` are kept.
fn bytes_held(churn: u32, keep: usize) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut held = None;
    let counted = allocation_counter::measure(|| {
        let cache = KeyedCache::builder(|key: &u32| {
            Token::bearer(format!("a-token-of-about-a-hundred-bytes-{key:070}"))
                .expires_in(Duration::from_secs(24 * 3600))
        })
        .clock(TestClock::new())
        .max_keys(keep)
        .build();
        runtime.block_on(async {
            for key in 0..churn {
                cache.get(&key).await.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        });
        held = Some((cache, runtime));
    });
    drop(held);
    counted.bytes_current
}

#[test]
fn a_key_that_waits_for_its_time_costs_four_kilobytes() {
    let few = bytes_held(1_000, 100_000);
    let many = bytes_held(5_000, 100_000);
    let each = (many - few) / 4_000;

    assert!(each < 5_000, "{each} bytes for each key");
}

#[test]
fn fc_c30_memory_does_not_grow_with_the_keys_that_have_gone() {
    let some = bytes_held(2_000, 256);
    let many = bytes_held(20_000, 256);

    assert!(many < some + some / 4, "{some} bytes became {many}");
}
