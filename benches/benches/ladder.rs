//! The cost of one request, from no layer at all to a header formatted under a lock. Read it as a
//! ladder: how far apart the rungs are says more than where they stand on this machine.
#![expect(
    missing_docs,
    reason = "the macros of the bench harness generate undocumented items"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tower_auth_benches::{LayerKind, TOKEN_BYTES, TransportKind, Variant};

fn ladder(criterion: &mut Criterion) {
    let of = |layer| Variant::new(layer, TransportKind::Ready);
    let rungs = [
        ("1 no layer", of(LayerKind::Bare)),
        ("2 tower-http set-header", of(LayerKind::Yardstick)),
        ("3 tower-auth", of(LayerKind::Ours)),
        (
            "4 tower-auth, clone per call",
            of(LayerKind::Ours).clone_per_call(),
        ),
        ("5 lock and format", of(LayerKind::Naive)),
    ];
    let mut group = criterion.benchmark_group("request");
    group.throughput(Throughput::Elements(1));
    for (name, variant) in rungs {
        let mut run = variant.runner(TOKEN_BYTES);
        group.bench_function(name, |bencher| bencher.iter(|| run(1)));
    }
    group.finish();
}

criterion_group!(benches, ladder);
criterion_main!(benches);
