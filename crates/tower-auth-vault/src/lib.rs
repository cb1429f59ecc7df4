#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod body;
mod caller_identity;
mod identity;
mod kv;
mod lease;
mod leased;
mod login;
mod path;
mod server;
mod session;
mod settings;
mod wrapped;

pub use caller_identity::SignedCallerIdentity;
pub use identity::IdentityToken;
pub use kv::KvSecret;
pub use leased::LeasedSecret;
pub use login::Login;
pub use server::Server;
pub use session::{Session, refuses};
pub use settings::Settings;
