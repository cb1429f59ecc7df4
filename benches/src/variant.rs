use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use tokio::runtime::Runtime;
use tower_http::set_header::SetRequestHeaderLayer;
use tower_layer::Layer;

use crate::load::runner;
use crate::naive::NaiveLayer;
use crate::{Boxed, Ready, Reuse, Runner, keyed, ours};

/// One service to measure and the way it is used.
///
/// In text: `ours-boxed`, `yardstick-ready-clone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variant {
    /// What is put around the transport.
    pub layer: LayerKind,
    /// The transport.
    pub transport: TransportKind,
    /// How the service is held.
    pub reuse: Reuse,
}

/// What is put around the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerKind {
    /// Nothing. What is measured here is the load itself and is subtracted from the others.
    Bare,
    /// tower-http's `SetRequestHeaderLayer::overriding` with a value on the heap.
    Yardstick,
    /// This project's layer with a token in its cache.
    Ours,
    /// This project's layer with a thousand keys, each with a token in its cache.
    Keyed,
    /// A lock around a `String` and a `format!` per request.
    Naive,
}

/// The stand-in for an HTTP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportKind {
    /// [`Ready`].
    Ready,
    /// [`Boxed`].
    Boxed,
}

impl Variant {
    /// A long-lived service.
    #[must_use]
    pub fn new(layer: LayerKind, transport: TransportKind) -> Self {
        Self {
            layer,
            transport,
            reuse: Reuse::LongLived,
        }
    }

    /// The same, cloned for every call.
    #[must_use]
    pub fn clone_per_call(mut self) -> Self {
        self.reuse = Reuse::ClonePerCall;
        self
    }

    /// A load on this service with a token of that length.
    #[must_use]
    pub fn runner(self, token_bytes: usize) -> Runner {
        let [runner] = self.runners(token_bytes);
        runner
    }

    /// Loads on clones of one such service, for as many threads.
    #[must_use]
    pub fn runners<const N: usize>(self, token_bytes: usize) -> [Runner; N] {
        match self.transport {
            TransportKind::Ready => self.around(Ready, token_bytes),
            TransportKind::Boxed => self.around(Boxed, token_bytes),
        }
    }

    fn around<T: ours::Transport, const N: usize>(
        self,
        transport: T,
        token_bytes: usize,
    ) -> [Runner; N] {
        match self.layer {
            LayerKind::Bare => std::array::from_fn(|_| runner(transport.clone(), self.reuse)),
            LayerKind::Yardstick => {
                let layer =
                    SetRequestHeaderLayer::overriding(AUTHORIZATION, heap_value(token_bytes));
                let service = layer.layer(transport);
                std::array::from_fn(|_| runner(service.clone(), self.reuse))
            }
            LayerKind::Ours => {
                let (service, runtime) = ours::service(transport, token(token_bytes));
                std::array::from_fn(|_| kept_alive(runner(service.clone(), self.reuse), &runtime))
            }
            LayerKind::Keyed => {
                let (service, runtime) = keyed::service(transport, token(token_bytes));
                std::array::from_fn(|_| kept_alive(runner(service.clone(), self.reuse), &runtime))
            }
            LayerKind::Naive => {
                let service = NaiveLayer::new(token(token_bytes)).layer(transport);
                std::array::from_fn(|_| runner(service.clone(), self.reuse))
            }
        }
    }
}

/// The load, with the runtime that the layer's background task lives on.
fn kept_alive(mut run: Runner, runtime: &Arc<Runtime>) -> Runner {
    let runtime = Arc::clone(runtime);
    Box::new(move |requests| {
        run(requests);
        let _keep_alive = &runtime;
    })
}

/// A value whose bytes are on the heap and shared by its clones, as a token's are.
fn heap_value(token_bytes: usize) -> HeaderValue {
    let mut value = HeaderValue::from_maybe_shared(bytes::Bytes::from(format!(
        "Bearer {}",
        token(token_bytes)
    )))
    .unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
    value.set_sensitive(true);
    value
}

fn token(bytes: usize) -> String {
    "eyJ0"
        .chars()
        .chain(std::iter::repeat('x'))
        .take(bytes)
        .collect()
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layer = match self.layer {
            LayerKind::Bare => "bare",
            LayerKind::Yardstick => "yardstick",
            LayerKind::Ours => "ours",
            LayerKind::Keyed => "keyed",
            LayerKind::Naive => "naive",
        };
        let transport = match self.transport {
            TransportKind::Ready => "ready",
            TransportKind::Boxed => "boxed",
        };
        let reuse = match self.reuse {
            Reuse::LongLived => "",
            Reuse::ClonePerCall => "-clone",
        };
        write!(f, "{layer}-{transport}{reuse}")
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "{text:?} is no variant: expected {{bare,yardstick,ours,keyed,naive}}-{{ready,boxed}}[-clone]"
            )
        };
        let mut words = text.split('-');
        let layer = match words.next() {
            Some("bare") => LayerKind::Bare,
            Some("yardstick") => LayerKind::Yardstick,
            Some("ours") => LayerKind::Ours,
            Some("keyed") => LayerKind::Keyed,
            Some("naive") => LayerKind::Naive,
            _ => return Err(unknown()),
        };
        let transport = match words.next() {
            Some("ready") => TransportKind::Ready,
            Some("boxed") => TransportKind::Boxed,
            _ => return Err(unknown()),
        };
        let reuse = match (words.next(), words.next()) {
            (None, _) => Reuse::LongLived,
            (Some("clone"), None) => Reuse::ClonePerCall,
            _ => return Err(unknown()),
        };
        Ok(Self {
            layer,
            transport,
            reuse,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Variant> {
        let mut all = Vec::new();
        for layer in [
            LayerKind::Bare,
            LayerKind::Yardstick,
            LayerKind::Ours,
            LayerKind::Keyed,
            LayerKind::Naive,
        ] {
            for transport in [TransportKind::Ready, TransportKind::Boxed] {
                let variant = Variant::new(layer, transport);
                all.extend([variant, variant.clone_per_call()]);
            }
        }
        all
    }

    #[test]
    fn a_variant_reads_as_it_is_written() {
        for variant in all() {
            assert_eq!(variant.to_string().parse(), Ok(variant));
        }
        for text in ["", "ours", "ours-x", "ours-boxed-x", "ours-boxed-clone-x"] {
            assert!(text.parse::<Variant>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_variant_answers_at_once() {
        for variant in all() {
            variant.runner(40)(3);
        }
    }

    #[test]
    fn a_token_has_the_length_asked_for() {
        for bytes in [0, 3, 40, 4000] {
            assert_eq!(token(bytes).len(), bytes);
            assert_eq!(heap_value(bytes).len(), "Bearer ".len() + bytes);
        }
    }
}
