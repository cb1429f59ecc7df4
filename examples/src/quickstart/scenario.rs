use std::time::Duration;

use super::timeline::{Event, Timeline};
use crate::Issuer;

/// What goes wrong while traffic runs: an outage of the token endpoint, then a revoked token.
///
/// Each step waits for what it needs to have happened, not for a moment, so that a slow machine makes
/// the run longer and not different. Only what is to be seen for a while lasts for a `beat` or a part
/// of one.
pub(crate) async fn play(issuer: &Issuer, timeline: &Timeline, beat: Duration) {
    // One renewal in peace.
    issuer.wait_until(|ledger| ledger.issued >= 2).await;
    tokio::time::sleep(beat / 4).await;

    issuer.take_down();
    timeline.record(Event::IssuerDown);
    let before = issuer.ledger();
    // Longer than one whole attempt to renew.
    issuer
        .wait_until(|ledger| ledger.dropped > before.dropped)
        .await;
    tokio::time::sleep(beat / 2).await;
    issuer.bring_up();
    timeline.record(Event::IssuerUp {
        dropped: issuer.ledger().dropped,
    });
    issuer
        .wait_until(|ledger| ledger.issued > before.issued)
        .await;

    // The callers use the token for a moment before it is taken away.
    tokio::time::sleep(beat).await;
    let nth = issuer.ledger().issued;
    issuer.revoke(nth);
    timeline.record(Event::TokenRevoked { nth });
    issuer.wait_until(|ledger| ledger.issued > nth).await;
    tokio::time::sleep(beat).await;
}
