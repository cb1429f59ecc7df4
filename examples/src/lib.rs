//! What the examples run against: an OAuth issuer and an API that checks its tokens, both in this
//! process and on free loopback ports.
//!
//! They are honest servers in small: tokens are signed and verified, clients are authenticated, and
//! each side keeps its own account of what reached it. They can also misbehave on request: the issuer
//! goes down and comes back, a token is revoked before its time.

pub mod quickstart;

mod api;
mod claude;
#[cfg(feature = "tonic")]
mod grpc;
mod issuer;
mod openbao;
mod server;
mod target;
mod tokens;

pub use api::{Api, Seen};
pub use claude::{ClaudeLedger, ClaudeStandIn, WorkloadIssuer};
#[cfg(feature = "tonic")]
pub use grpc::{GrpcApi, Order, OrderRequest};
pub use issuer::{Issuer, Ledger};
pub use openbao::{OpenBao, vault_session};
pub use target::Target;
pub use tokens::Verifier;
