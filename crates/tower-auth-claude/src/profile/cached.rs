use std::path::PathBuf;
use std::time::SystemTime;

use tower_auth_core::{Error, Expiry, Fetch, HeaderMode, Secret, Token, TokenSource as _};

use super::credentials::{Credentials, CredentialsFile};
use super::document::Document;
use super::user::stamp;
use crate::federation::Federation;
use crate::identity_token::IdentityToken;
use crate::token_endpoint::{ANTHROPIC_BETA, OAUTH_BETA};

/// A federation whose token is kept in a file, so that a program that runs often need not exchange each
/// time, and programs that share an identity token that can be used once share its token.
#[derive(Clone, Debug)]
pub(crate) struct CachedFederation {
    pub(crate) federation: Federation<IdentityToken>,
    pub(crate) file: CredentialsFile,
    pub(crate) config: PathBuf,
    /// What the token was exchanged for, in words: a file that says otherwise is of an earlier profile.
    pub(crate) inputs: String,
}

impl CachedFederation {
    pub(crate) async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        if let Some(token) = self.stored(cx).await? {
            return Ok(token);
        }
        let _held = self.file.lock().await;
        if let Some(token) = self.stored(cx).await? {
            return Ok(token);
        }
        let token = self.federation.fetch(cx).await?;
        if let Err(error) = self.keep(&token).await {
            tracing::warn!(%error, "the token is not kept for the next process");
        }
        Ok(token)
    }

    async fn stored(&self, cx: &Fetch) -> Result<Option<Token>, Error> {
        let Some(stored) = self.file.read_if_there().await? else {
            return Ok(None);
        };
        let Some((token, end)) = stored.usable(cx, self.now()) else {
            return Ok(None);
        };
        if !self.is_of_this_profile(&stored).await {
            return Ok(None);
        }
        Ok(Some(stamped(token, end)))
    }

    /// Other clients do not say what a token is for: then it must be younger than the profile.
    async fn is_of_this_profile(&self, stored: &Credentials) -> bool {
        if let Ok(Some(inputs)) = stored.document.text(INPUTS) {
            return inputs == self.inputs;
        }
        let modified = async |path| {
            let found = self.file.world().files().look(path).await;
            found.ok().flatten().and_then(|facts| facts.modified)
        };
        match (
            modified(self.file.path()).await,
            modified(&self.config).await,
        ) {
            (Some(token), Some(profile)) => token > profile,
            _ => false,
        }
    }

    async fn keep(&self, token: &Token) -> Result<(), Error> {
        use tower_auth_core::Credential as _;

        let end = match token.expiry() {
            Expiry::In(lifetime) => self.now() + lifetime,
            Expiry::At(end) => end,
            _ => return Ok(()),
        };
        let mut document = match self.file.read_if_there().await? {
            Some(stored) => stored.document,
            None => Document::empty(self.file.path()),
        };
        stamp(&mut document, token.secret(), end);
        document.set(INPUTS.trim_start_matches('/'), self.inputs.as_str());
        self.file.write(&document).await
    }

    fn now(&self) -> SystemTime {
        self.file.world().clock().now()
    }
}

fn stamped(token: &Secret, end: SystemTime) -> Token {
    Token::bearer(token.clone()).expires_at(end).with_header(
        ANTHROPIC_BETA,
        OAUTH_BETA,
        HeaderMode::MergeList,
    )
}

const INPUTS: &str = "/tower_auth_inputs";
