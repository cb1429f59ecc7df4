#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod lifetime;
pub mod policy;

pub use tower_auth_core::{
    BearerFn, BoxError, BoxTokenSource, Caching, Clock, Credential, Description, Error, ErrorKind,
    Expiry, ExtraHeader, Fetch, Fingerprint, HeaderMode, Origin, Placement, Reason, RefreshHint,
    Secret, SourceFn, Stamp, StampContext, Stamped, Token, TokenSource, bearer_fn, source_fn,
};
