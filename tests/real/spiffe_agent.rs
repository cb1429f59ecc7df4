//! The SPIFFE Workload API as grpcio serves it, over the messages of the official Python client.

#![expect(clippy::disallowed_methods, reason = "describes a program to start")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Server, Unavailable, pip};

/// A running agent; what it knows is in `spiffe-agent/agent.py`.
#[derive(Debug)]
pub(crate) struct SpiffeAgent {
    server: Server,
}

impl SpiffeAgent {
    /// Its workload has two SPIFFE IDs, each with a hint. This is the first, the default.
    pub(crate) const DEFAULT_ID: &str = "spiffe://example.org/reports";
    /// The hint of the second.
    pub(crate) const SECOND_HINT: &str = "external";
    /// The second.
    pub(crate) const SECOND_ID: &str = "spiffe://example.org/reports-public";
    /// The audience for which it has no identity.
    pub(crate) const UNKNOWN_AUDIENCE: &str = "nobody";

    /// Starts one whose JWT-SVIDs live this long, in whole seconds.
    pub(crate) async fn start(token_lifetime: Duration) -> Result<Self, Unavailable> {
        let folder = pip("spiffe-agent").await?;
        let command = |port: u16| {
            let mut python = Command::new(folder.join("venv/bin/python"));
            python
                .arg("agent.py")
                .current_dir(&folder)
                .env("PORT", port.to_string())
                .env("SOCKET", socket(port))
                .env("TOKEN_LIFETIME", token_lifetime.as_secs().to_string());
            python
        };
        let server = Server::start("spiffe-agent", command, "/").await?;
        Ok(Self { server })
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        socket(self.server.port())
    }
}

impl Drop for SpiffeAgent {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.socket());
    }
}

/// The path of a socket must be short, which that of the target folder need not be.
fn socket(port: u16) -> PathBuf {
    std::env::temp_dir().join(format!("spiffe-agent-{port}.sock"))
}
