#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cause;
mod claims;
#[cfg(feature = "hyper")]
mod client;
mod clock;
mod command;
mod disk;
mod endpoint;
mod env;
mod file;
mod files;
#[cfg(feature = "process")]
mod process;
mod random;
mod retry_after;
mod store;
mod transport;
#[cfg(all(unix, feature = "unix"))]
mod unix;
mod world;

pub use claims::UnverifiedClaims;
#[cfg(feature = "hyper")]
pub use client::Client;
pub use clock::{ManualClock, SystemClock};
pub use command::{Command, Output, Run, Running, ScriptedRun};
pub use disk::SystemFiles;
pub use endpoint::EndpointUrl;
pub use env::{Env, Lookup, MapEnv, SystemEnv};
pub use file::TokenFile;
pub use files::{
    FileError, FileFacts, FileLock, Files, Locking, Looking, MemoryFiles, ReadRules, Reading,
    Writing,
};
#[cfg(feature = "process")]
pub use process::SystemRun;
pub use random::{Random, SeededRandom, SystemRandom};
pub use retry_after::retry_after;
pub use transport::Transport;
#[cfg(all(unix, feature = "unix"))]
pub use unix::UnixClient;
pub use world::World;
