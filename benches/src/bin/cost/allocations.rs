use tower_auth_benches::{LayerKind, TOKEN_BYTES, TransportKind, Variant};

use crate::report::{Report, Value};

/// Allocations that the layer makes and the yardstick does not, per request: the worst of both
/// transports and both ways to hold a service.
pub(crate) fn measure(report: &mut Report) {
    let mut worst = 0.0_f64;
    let mut naive = 0.0;
    for transport in [TransportKind::Ready, TransportKind::Boxed] {
        let of = |layer| Variant::new(layer, transport);
        let long_lived = per_request(of(LayerKind::Yardstick));
        worst = worst
            .max(per_request(of(LayerKind::Ours)) - long_lived)
            .max(
                per_request(of(LayerKind::Ours).clone_per_call())
                    - per_request(of(LayerKind::Yardstick).clone_per_call()),
            );
        naive = per_request(of(LayerKind::Naive)) - long_lived;
    }
    report.limited("allocations_added", Value::Measured(worst), 0.0);
    report.detail("allocations_added_naive", Value::Measured(naive));
}

/// Only this thread's allocations are counted, so that a background task of the layer may work as it
/// likes. The first requests are not counted: what happens once is not a cost per request.
pub(crate) fn per_request(variant: Variant) -> f64 {
    let mut run = variant.runner(TOKEN_BYTES);
    run(WARM_UP);
    let counted = allocation_counter::measure(|| run(REQUESTS));
    counted.count_total as f64 / REQUESTS as f64
}

const WARM_UP: usize = 16;
const REQUESTS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yardstick_allocates_nothing_of_its_own() {
        for transport in [TransportKind::Ready, TransportKind::Boxed] {
            assert_eq!(
                per_request(Variant::new(LayerKind::Yardstick, transport)),
                per_request(Variant::new(LayerKind::Bare, transport))
            );
        }
    }

    #[test]
    fn the_counter_sees_what_the_naive_layer_allocates() {
        let of = |layer| per_request(Variant::new(layer, TransportKind::Ready));
        assert!(of(LayerKind::Naive) >= of(LayerKind::Bare) + 2.0);
    }
}
