#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod assertion;
mod certificates;
mod client_auth;
mod client_credentials;
mod discovery;
mod dpop;
mod endpoint;
mod form;
mod grant;
mod grant_source;
mod jws;
mod key;
mod reader;
mod refresh;
mod refresh_store;
mod refusal;
mod response;
mod seconds;
mod subject;
mod token_type;

pub use assertion::Assertion;
pub use certificates::Certificates;
pub use client_auth::{BasicEncoding, ClientAuth};
pub use client_credentials::ClientCredentials;
pub use discovery::{Discovery, ServerMetadata};
#[cfg(feature = "retry")]
pub use dpop::RetryOnNonce;
pub use dpop::{Dpop, DpopNonces, DpopNoncesFuture, DpopNoncesLayer, PreparedDpop};
pub use endpoint::TokenEndpoint;
pub use grant::Grant;
pub use grant_source::GrantSource;
pub use jws::HmacAlgorithm;
pub use key::{Algorithm, SigningKey};
pub use reader::ResponseReader;
pub use refresh::RefreshToken;
pub use refresh_store::{
    Putting, RefreshTokenFile, RefreshTokenInMemory, RefreshTokenLease, RefreshTokenStore, Taking,
};
pub use refusal::Refusal;
pub use response::TokenResponse;
pub use token_type::TokenType;
