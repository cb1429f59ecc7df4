use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Formats every span and event, whatever its level and target, and hands it on.
pub(super) struct Recorder<F> {
    sink: F,
    spans: AtomicU64,
}

impl<F> Recorder<F> {
    pub(super) fn new(sink: F) -> Self {
        Self {
            sink,
            spans: AtomicU64::new(0),
        }
    }
}

impl<F> Subscriber for Recorder<F>
where
    F: Fn(String, String) + Send + Sync + 'static,
{
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line::new(span.metadata());
        span.record(&mut line);
        (self.sink)(line.place("span"), line.text);
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line {
            what: String::new(),
            text: "recorded into a span".to_owned(),
        };
        values.record(&mut line);
        (self.sink)("a span's record".to_owned(), line.text);
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::new(event.metadata());
        event.record(&mut line);
        (self.sink)(line.place("event"), line.text);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// One line of the log: level, target, name, then the fields.
struct Line {
    what: String,
    text: String,
}

impl Line {
    fn new(metadata: &Metadata<'_>) -> Self {
        Self {
            what: format!("{} {}", metadata.level(), metadata.target()),
            text: format!(
                "{} {} {}",
                metadata.level(),
                metadata.target(),
                metadata.name()
            ),
        }
    }

    fn place(&self, kind: &str) -> String {
        format!("{kind} ({})", self.what)
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string cannot fail.
        let _ = write!(self.text, " {}={value:?}", field.name());
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        let _ = write!(self.text, " {}={text:?}", field.name());
    }

    /// Some subscribers print an error's whole chain, so all of it counts as logged.
    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        let _ = write!(self.text, " {}={value} {value:?}", field.name());
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(self.text, ": {error}");
            cause = error.source();
        }
    }
}
