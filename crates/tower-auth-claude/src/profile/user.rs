use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderName;
use serde::{Deserialize, Serialize};
use tower_auth_core::{Error, ErrorKind, Expiry, Fetch, HeaderMode, Secret, Token};

use super::credentials::{Credentials, CredentialsFile};
use super::document::Document;
use crate::token_endpoint::{ANTHROPIC_BETA, OAUTH_BETA, TokenEndpoint};

/// A login that `ant auth login` stored: an access token, and a refresh token that is good for one use.
#[derive(Clone)]
pub(crate) struct UserLogin {
    pub(crate) file: CredentialsFile,
    pub(crate) endpoint: TokenEndpoint,
    /// Without it somebody else renews the file.
    pub(crate) client_id: Option<String>,
    pub(crate) workspace: Option<String>,
    /// A refresh token that could not be written, and the one that it replaced.
    pub(crate) unsaved: Arc<Mutex<Option<(Secret, Secret)>>>,
}

impl UserLogin {
    pub(crate) async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        let stored = self.read().await?;
        let Some(client_id) = &self.client_id else {
            return self.renewed_by_others(&stored);
        };
        if let Some((token, end)) = stored.usable(cx, self.now()) {
            return Ok(self.token(token.clone(), Expiry::At(end)));
        }
        let _held = self.file.lock().await;
        let stored = self.read().await?;
        if let Some((token, end)) = stored.usable(cx, self.now()) {
            return Ok(self.token(token.clone(), Expiry::At(end)));
        }
        self.renew(stored, client_id, cx).await
    }

    async fn read(&self) -> Result<Credentials, Error> {
        self.file.read().await.map_err(|error| {
            if error.kind() == ErrorKind::NotConfigured {
                error
                    .with_kind(ErrorKind::InvalidConfig)
                    .with_hint("the profile has no login: run `ant auth login`")
            } else {
                error
            }
        })
    }

    fn renewed_by_others(&self, stored: &Credentials) -> Result<Token, Error> {
        let Some(token) = &stored.access_token else {
            return Err(stored.document.flaw("/access_token", "is missing"));
        };
        let expiry = match stored.expires_at {
            Some(end) if end <= self.now() => {
                return Err(Error::new(
                    ErrorKind::Expired,
                    format!(
                        "the access token in {} has expired, and without a client_id in the profile nobody here can renew it",
                        self.file.path().display()
                    ),
                )
                .with_hint("run whatever writes the file"));
            }
            Some(end) => Expiry::At(end),
            None => Expiry::AskEvery(READ_AGAIN),
        };
        Ok(self.token(token.clone(), expiry))
    }

    async fn renew(
        &self,
        stored: Credentials,
        client_id: &str,
        cx: &Fetch,
    ) -> Result<Token, Error> {
        let Some(refresh_token) = self.refresh_token(&stored) else {
            return self.last_resort(&stored, cx);
        };
        match self.ask(&refresh_token, client_id).await {
            Ok(renewed) => self.adopt(stored, &refresh_token, renewed).await,
            Err(error) if error.code() == Some("invalid_grant") => {
                // A program that knows no lock may have used the refresh token a moment ago.
                let again = self.read().await?;
                if let Some((token, end)) = again.usable(cx, self.now()) {
                    return Ok(self.token(token.clone(), Expiry::At(end)));
                }
                match again.refresh_token.clone() {
                    Some(other) if other.fingerprint() != refresh_token.fingerprint() => {
                        let renewed = self.ask(&other, client_id).await.map_err(advise)?;
                        self.adopt(again, &other, renewed).await
                    }
                    _ => Err(advise(error)),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The token that is there, where there is nothing to renew it with.
    fn last_resort(&self, stored: &Credentials, cx: &Fetch) -> Result<Token, Error> {
        let lives = stored.expires_at.filter(|end| *end > self.now());
        match (&stored.access_token, lives) {
            (Some(token), Some(end)) if !cx.must_be_new() => {
                tracing::warn!(
                    file = %self.file.path().display(),
                    "the profile has no refresh token: log in again before its access token ends"
                );
                Ok(self.token(token.clone(), Expiry::At(end)))
            }
            _ => Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{} has no refresh_token", self.file.path().display()),
            )
            .with_hint(LOG_IN)),
        }
    }

    async fn ask(&self, refresh_token: &Secret, client_id: &str) -> Result<Renewed, Error> {
        let body = Body {
            grant_type: "refresh_token",
            refresh_token: refresh_token.expose(),
            client_id,
        };
        // The beta of the federation would lead to a handler that does not know this grant.
        let response = self.endpoint.send(&body, OAUTH_BETA).await?;
        let rotated = if response.status().is_success() {
            serde_json::from_slice::<Rotated>(response.body())
                .ok()
                .and_then(|body| body.refresh_token)
                .map(Secret::new)
                .filter(|token| !token.is_blank())
        } else {
            None
        };
        let answer = self.endpoint.read(response, &[refresh_token])?;
        let lifetime = match answer.expiry {
            Some(Expiry::In(lifetime)) => lifetime,
            Some(Expiry::At(end)) => end.duration_since(self.now()).unwrap_or_default(),
            _ => DEFAULT_LIFETIME,
        };
        Ok(Renewed {
            access_token: answer.token.secret().clone(),
            refresh_token: rotated,
            lifetime,
        })
    }

    /// Writes the new tokens before anybody uses them: the old refresh token is dead by now.
    async fn adopt(
        &self,
        stored: Credentials,
        used: &Secret,
        renewed: Renewed,
    ) -> Result<Token, Error> {
        let mut document = stored.document;
        stamp(
            &mut document,
            &renewed.access_token,
            self.now() + renewed.lifetime,
        );
        if let Some(rotated) = &renewed.refresh_token {
            document.set("refresh_token", rotated.expose());
        }
        let written = self.file.write(&document).await;
        let mut unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(()) => *unsaved = None,
            Err(error) => {
                tracing::warn!(%error, "the renewed login is kept in memory only and lost with this process");
                // What the file has is what tells whether it was written by somebody else since.
                let in_file = stored.refresh_token.unwrap_or_else(|| used.clone());
                let newest = renewed.refresh_token.unwrap_or_else(|| used.clone());
                *unsaved = Some((in_file, newest));
            }
        }
        drop(unsaved);
        Ok(self.token(renewed.access_token, Expiry::In(renewed.lifetime)))
    }

    /// The newest refresh token: that of the file, unless a newer one could not be written there.
    fn refresh_token(&self, stored: &Credentials) -> Option<Secret> {
        let in_file = stored.refresh_token.clone();
        let unsaved = self.unsaved.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*unsaved, &in_file) {
            (Some((replaced, newest)), Some(in_file))
                if replaced.fingerprint() == in_file.fingerprint() =>
            {
                Some(newest.clone())
            }
            _ => in_file,
        }
    }

    fn token(&self, access_token: Secret, expiry: Expiry) -> Token {
        let token = Token::bearer(access_token).with_expiry(expiry).with_header(
            ANTHROPIC_BETA,
            OAUTH_BETA,
            HeaderMode::MergeList,
        );
        match &self.workspace {
            Some(workspace) => {
                token.with_header(WORKSPACE, workspace.as_str(), HeaderMode::IfAbsent)
            }
            None => token,
        }
    }

    fn now(&self) -> SystemTime {
        self.file.world().clock().now()
    }
}

impl fmt::Debug for UserLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserLogin")
            .field("file", &self.file.path())
            .field("has_client_id", &self.client_id.is_some())
            .finish_non_exhaustive()
    }
}

/// Puts a token into the document of a credentials file.
pub(crate) fn stamp(document: &mut Document, access_token: &Secret, end: SystemTime) {
    let end = end
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    if !document.has("/version") {
        document.set("version", "1.0");
    }
    document.set("type", "oauth_token");
    document.set("access_token", access_token.expose());
    document.set("expires_at", end);
}

struct Renewed {
    access_token: Secret,
    refresh_token: Option<Secret>,
    lifetime: Duration,
}

#[derive(Serialize)]
struct Body<'a> {
    grant_type: &'static str,
    refresh_token: &'a str,
    client_id: &'a str,
}

#[derive(Deserialize)]
struct Rotated {
    refresh_token: Option<String>,
}

fn advise(error: Error) -> Error {
    if error.code() == Some("invalid_grant") {
        error.with_hint(LOG_IN)
    } else {
        error
    }
}

const WORKSPACE: HeaderName = HeaderName::from_static("anthropic-workspace-id");
const LOG_IN: &str = "the login has ended: run `ant auth login`";
const READ_AGAIN: Duration = Duration::from_secs(60);
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
