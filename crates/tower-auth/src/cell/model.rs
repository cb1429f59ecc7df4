//! Every interleaving of a writer and its readers, by loom.
//!
//! ```sh
//! RUSTFLAGS="--cfg tower_auth_model" cargo test -p tower-auth --lib --release --target-dir target/model model
//! ```

use http::{HeaderMap, HeaderValue, Request};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use tower_auth_core::{Error, Stamp, StampContext, Stamped, Token};

use super::{Cell, Phase, Snapshot};

struct Nothing;

impl Stamp for Nothing {
    type Credential = Token;
    type Prepared = ();

    fn prepare(&self, _: &Token) -> Result<(), Error> {
        Ok(())
    }

    fn stamp<B>(
        &self,
        (): &(),
        _: &mut Request<B>,
        _: &StampContext<'_>,
    ) -> Result<Stamped, Error> {
        Ok(Stamped::Done)
    }

    fn present<'r>(&self, (): &(), _: &'r HeaderMap) -> Option<&'r HeaderValue> {
        None
    }

    fn clear(&self, (): &(), _: &mut HeaderMap) {}
}

/// The safe end is a function of the generation, so that a mixed snapshot would show.
fn snapshot(generation: u64) -> Snapshot<Nothing> {
    Snapshot {
        phase: Phase::Ready,
        generation,
        safe_end: generation * 1000,
        suspected: false,
        held: None,
    }
}

/// What a service does that keeps its snapshot: look at the epoch, then load; from then on look at the
/// epoch only.
struct Reader {
    seen: u64,
    kept: u64,
}

impl Reader {
    fn read(&mut self, cell: &Cell<Nothing>) -> u64 {
        let epoch = cell.epoch();
        if epoch != self.seen {
            let snapshot = cell.load();
            assert_eq!(
                snapshot.safe_end,
                snapshot.generation * 1000,
                "two snapshots mixed"
            );
            self.kept = snapshot.generation;
            self.seen = epoch;
        }
        self.kept
    }
}

#[test]
fn fc_c28_a_reader_sees_one_whole_snapshot_and_never_goes_back() {
    // Three threads: every schedule with up to three preemptions.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let cell = Arc::new(Cell::new());
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let cell = Arc::clone(&cell);
                thread::spawn(move || {
                    let mut reader = Reader { seen: 0, kept: 0 };
                    let first = reader.read(&cell);
                    let second = reader.read(&cell);
                    assert!(second >= first, "went back from {first} to {second}");
                })
            })
            .collect();
        cell.publish(snapshot(1));
        cell.publish(snapshot(2));
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn fc_c28_what_was_published_before_a_request_began_is_what_it_gets() {
    loom::model(|| {
        let cell = Arc::new(Cell::new());
        let published = Arc::new(AtomicU64::new(0));
        let writer = {
            let (cell, published) = (Arc::clone(&cell), Arc::clone(&published));
            thread::spawn(move || {
                for generation in 1..=2 {
                    cell.publish(snapshot(generation));
                    published.store(generation, Ordering::Release);
                }
            })
        };
        let mut reader = Reader { seen: 0, kept: 0 };
        for _ in 0..2 {
            let least = published.load(Ordering::Acquire);
            let got = reader.read(&cell);
            assert!(got >= least, "got {got}, although {least} was there before");
        }
        writer.join().unwrap();
    });
}
