#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod client_auth;
mod client_credentials;
mod endpoint;
mod form;
mod grant;
mod reader;
mod refusal;
mod response;
mod seconds;

pub use client_auth::{BasicEncoding, ClientAuth};
pub use client_credentials::ClientCredentials;
pub use endpoint::TokenEndpoint;
pub use grant::Grant;
pub use reader::ResponseReader;
pub use refusal::Refusal;
pub use response::TokenResponse;
