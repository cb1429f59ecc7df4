use std::time::Duration;

use tower_auth::{BoxError, Secret};
use tower_auth_io::Env;

use crate::{Api, Issuer};

/// An issuer and an API: those that the environment names, or stand-ins.
#[derive(Debug)]
pub struct Target {
    /// The token endpoint.
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Secret,
    /// What to ask the API for.
    pub api_url: String,
    _stand_ins: Option<(Issuer, Api)>,
}

impl Target {
    /// Reads `TOKEN_URL`, `CLIENT_ID`, `CLIENT_SECRET` and `API_URL`. Where none of them is set, it
    /// starts stand-ins, which end when this is dropped.
    ///
    /// # Errors
    /// If some are set and others are not, or if no stand-in could be started.
    pub async fn find(env: &impl Env) -> Result<Self, BoxError> {
        let names = ["TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET", "API_URL"];
        if names.into_iter().all(|name| env.raw(name).is_none()) {
            return Self::stand_ins().await;
        }
        Ok(Self {
            token_url: env.require("TOKEN_URL")?,
            client_id: env.require("CLIENT_ID")?,
            client_secret: env.require_secret("CLIENT_SECRET")?,
            api_url: env.require("API_URL")?,
            _stand_ins: None,
        })
    }

    async fn stand_ins() -> Result<Self, BoxError> {
        let issuer = Issuer::start(Duration::from_secs(60)).await?;
        let api = Api::start(issuer.verifier()).await?;
        Ok(Self {
            token_url: issuer.token_url(),
            client_id: issuer.client_id().to_owned(),
            client_secret: issuer.client_secret(),
            api_url: api.url(),
            _stand_ins: Some((issuer, api)),
        })
    }
}
