#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod audience;
mod bearer;
mod buildkite;
mod circleci;
mod command;
mod env;
mod file;
mod github;
mod gitlab;
mod inspection;
mod kubernetes_api;
mod kubernetes_file;
#[cfg(feature = "spiffe")]
mod spiffe;
mod spiffe_helper;
mod terraform;
mod token_request;

pub use audience::Audience;
pub use buildkite::Buildkite;
pub use circleci::CircleCi;
pub use command::CommandToken;
pub use env::EnvToken;
pub use file::IdentityFile;
pub use github::GitHubActions;
pub use gitlab::GitLab;
pub use kubernetes_api::KubernetesApi;
pub use kubernetes_file::KubernetesFile;
#[cfg(feature = "spiffe")]
pub use spiffe::SpiffeWorkloadApi;
pub use spiffe_helper::SpiffeHelperFile;
pub use terraform::HcpTerraform;
pub use token_request::TokenRequest;
