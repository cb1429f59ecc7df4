#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cache;
mod cell;
mod clock;
mod driver;
mod headers;
mod health;
mod lifetime;
pub mod policy;
mod shared;
mod sync;

pub use cache::{TokenCache, TokenCacheBuilder};
pub use driver::Driver;
pub use headers::Headers;
pub use health::{FetchOutcome, FetchReport, Health, HealthState, HealthSubscription};
pub use tower_auth_core::{
    BearerFn, BoxError, BoxTokenSource, Caching, Clock, Credential, Description, Error, ErrorKind,
    Expiry, ExtraHeader, Fetch, Fingerprint, HeaderMode, Origin, Placement, Reason, RefreshHint,
    Secret, SourceFn, Stamp, StampContext, Stamped, Token, TokenSource, bearer_fn, source_fn,
};
