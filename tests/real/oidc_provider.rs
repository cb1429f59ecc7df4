//! `oidc-provider`: a certified OAuth 2.0 and OpenID Connect server, strict about client authentication.

#![expect(clippy::disallowed_methods, reason = "describes a program to start")]

use std::process::Command;
use std::time::Duration;

use crate::harness::{Server, Unavailable, npm};

/// A running `oidc-provider`; its settings are in `oidc-provider/server.mjs`.
#[derive(Debug)]
pub(crate) struct OidcProvider {
    server: Server,
}

/// A client it knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
}

impl OidcProvider {
    /// Authenticates with `client_secret_basic`. The secret shows whether id and secret are form-encoded
    /// before they are joined (RFC 6749 section 2.3.1).
    pub(crate) const BASIC: Client = Client {
        id: "basic",
        secret: "s3cr:t%+ &~",
    };
    /// Authenticates with `client_secret_post`.
    pub(crate) const POST: Client = Client {
        id: "post",
        secret: "post-s3cr:t%+ &~",
    };
    /// The audience of its access tokens.
    pub(crate) const AUDIENCE: &str = "https://api.example.com";
    /// A scope it grants.
    pub(crate) const SCOPE: &str = "read";

    /// Starts one whose tokens live this long, in whole seconds.
    pub(crate) async fn start(token_lifetime: Duration) -> Result<Self, Unavailable> {
        Self::start_with(token_lifetime, &[]).await
    }

    /// Starts one with these variables, which `server.mjs` describes.
    pub(crate) async fn start_with(
        token_lifetime: Duration,
        variables: &[(&str, String)],
    ) -> Result<Self, Unavailable> {
        let folder = npm("oidc-provider").await?;
        let command = |port: u16| {
            let mut node = Command::new("node");
            node.arg("server.mjs")
                .current_dir(&folder)
                .env("PORT", port.to_string())
                .env("TOKEN_LIFETIME", token_lifetime.as_secs().to_string())
                .envs(variables.iter().map(|(name, value)| (name, value)));
            node
        };
        let server = Server::start(
            "oidc-provider",
            command,
            "/.well-known/openid-configuration",
        )
        .await?;
        Ok(Self { server })
    }

    pub(crate) fn issuer(&self) -> String {
        self.server.url("")
    }

    pub(crate) fn token_endpoint(&self) -> String {
        self.server.url("/token")
    }

    pub(crate) fn jwks_uri(&self) -> String {
        self.server.url("/jwks")
    }
}
