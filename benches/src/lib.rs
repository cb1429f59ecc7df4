//! The services whose cost per request is compared: the same transport stand-in bare, behind
//! tower-http's header layer, behind this project's layer, and behind what one would write by hand.

mod keyed;
mod load;
mod naive;
mod ours;
mod transport;
mod variant;

pub use load::{Reuse, Runner};
pub use transport::{Body, Boxed, Ready, TransportError, request, target};
pub use variant::{LayerKind, TransportKind, Variant};

/// The function that callgrind counts inside of, as a pattern for `--toggle-collect`.
pub const MEASURED_LOOP: &str = "*measured_loop*";

/// The length of a typical access token in JWT form, in bytes.
pub const TOKEN_BYTES: usize = 1500;

/// Bytes by which a service grows behind the layer.
#[must_use]
pub fn service_bytes_added() -> usize {
    ours::service_bytes_added()
}

/// Bytes by which the future of a call grows behind the layer, over a boxed and over a ready future:
/// the larger of the two.
#[must_use]
pub fn future_bytes_added() -> usize {
    ours::future_bytes_added()
}
