//! What a request pays for a credential that is chosen by a key: told, and not held to a limit.

use tower_auth_benches::{LayerKind, TransportKind, Variant};

use crate::report::Report;
use crate::{allocations, instructions};

pub(crate) fn measure(report: &mut Report) {
    let of = |layer| Variant::new(layer, TransportKind::Boxed);
    let added = allocations::per_request(of(LayerKind::Keyed))
        - allocations::per_request(of(LayerKind::Yardstick));
    report.detail(
        "allocations_added_keyed_hit",
        crate::report::Value::Measured(added),
    );
    let counts = instructions::against_yardstick(LayerKind::Keyed, TransportKind::Boxed, false);
    report.detail("instructions_keyed_hit_boxed", counts.ours());
    report.detail("instructions_ratio_keyed_hit_boxed", counts.ratio());
}
