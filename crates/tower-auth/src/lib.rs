#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cache;
mod cell;
mod clock;
mod control;
mod diagnosis;
mod driver;
mod errand;
mod future;
pub mod guide;
mod headers;
mod health;
mod keyed;
mod layer;
mod lifetime;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "metrics/off.rs"]
mod metrics;
mod origins;
pub mod policy;
mod receipt;
mod registry;
mod replay;
#[cfg(feature = "retry")]
#[cfg_attr(docsrs, doc(cfg(feature = "retry")))]
mod retry;
mod scheduler;
mod service;
mod shape;
mod shared;
mod sync;
mod unavailable;
mod wiring;

pub use cache::{TokenCache, TokenCacheBuilder};
pub use control::AuthOverride;
pub use diagnosis::{Diagnosis, Refusal, Skew, TokenClaims};
pub use driver::Driver;
pub use future::ResponseFuture;
pub use headers::{Headers, PreparedHeaders};
pub use health::{FetchOutcome, FetchReport, Health, HealthState, HealthSubscription};
pub use keyed::{
    Key, KeyId, KeyedAuth, KeyedAuthLayer, KeyedCache, KeyedCacheBuilder, MissingKey, RequestHead,
};
pub use layer::{AuthLayer, Foreign, OnExisting, Receipts};
pub use receipt::Receipt;
pub use replay::{Replay, ReplayFuture, ReplayLayer};
#[cfg(feature = "retry")]
pub use retry::{NoOtherRetry, RetryFuture, RetryOnUnauthorized};
pub use service::Auth;
pub use shape::{Shape, ShapeFlaw};
pub use tower_auth_core::{
    BearerFn, BoxError, BoxTokenSource, Caching, Chain, ChainReport, ChainStep, Clock, Credential,
    Description, Error, ErrorKind, Expiry, ExtraHeader, Fetch, Fingerprint, HeaderMode, Origin,
    Placement, Prefix, Presence, Reason, RefreshHint, Secret, SourceFn, Stamp, StampContext,
    Stamped, StepStatus, Token, TokenSource, bearer_fn, source_fn,
};
pub use unavailable::{Fail, OnUnavailable, SendWithout, Unavailable};
