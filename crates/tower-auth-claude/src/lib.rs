#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod api_key;
mod assertion;
mod auth_token;
mod base_url;
mod claude_cli;
mod claude_login;
mod federation;
mod identity_token;
mod profile;
mod report;
mod resolve;
mod seen;
mod text;
mod token_endpoint;
mod vars;

pub use api_key::{ApiKey, ApiKeyHeader};
pub use auth_token::AuthToken;
pub use base_url::DEFAULT_BASE_URL;
pub use claude_cli::{ClaudeCli, Completion, Prompt, Running};
pub use claude_login::ClaudeLogin;
pub use federation::Federation;
pub use identity_token::IdentityToken;
pub use profile::Profile;
pub use report::{Candidate, Mechanism, Note, Report, State};
pub use resolve::{Resolution, resolve};
