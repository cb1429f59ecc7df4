#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod chain;
mod clock;
mod closure;
mod credential;
mod erased;
mod error;
mod fetch;
mod origin;
mod prefix;
mod redact;
mod secret;
mod source;
mod stamp;
mod token;

pub use chain::{Chain, ChainReport, ChainStep, StepStatus};
pub use clock::Clock;
pub use closure::{BearerFn, SourceFn, bearer_fn, source_fn};
pub use credential::{Credential, Expiry, Fingerprint, RefreshHint};
pub use erased::BoxTokenSource;
pub use error::{BoxError, Error, ErrorKind};
pub use fetch::{Fetch, Reason};
pub use origin::Origin;
pub use prefix::Prefix;
pub use redact::redact;
pub use secret::Secret;
pub use source::{Caching, Description, Presence, TokenSource};
pub use stamp::{Stamp, StampContext, Stamped};
pub use token::{ExtraHeader, HeaderMode, Placement, Token};
