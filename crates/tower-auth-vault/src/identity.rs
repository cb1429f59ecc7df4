use std::fmt;

use tower_auth_core::{Description, Error, Fetch, Token, TokenSource};
use tower_auth_io::UnverifiedClaims;

use crate::server::Call;
use crate::{Session, path};

/// A JWT that the server signs about whoever is logged in (`identity/oidc/token/<role>`), as a bearer
/// token: for an API that trusts this issuer, or as the subject of an exchange at another one.
///
/// Each fetch has a new one made. It lives as long as its own `exp` says, which may be less than the
/// `ttl` of the answer. A root token has no identity to speak of, so it cannot have one.
///
/// ```
/// # fn example(session: tower_auth_vault::Session) -> Result<(), tower_auth_core::Error> {
/// let source = session.identity_token("claude")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct IdentityToken {
    session: Session,
    role: String,
}

impl IdentityToken {
    pub(crate) fn new(session: Session, role: &str) -> Result<Self, Error> {
        let role = path::text("the role", role)?;
        Ok(Self { session, role })
    }

    async fn mint(&self, cx: &Fetch) -> Result<Token, Error> {
        let path = format!("identity/oidc/token/{}", path::segment(&self.role));
        let (mut answer, _) = self
            .session
            .ask(&cx.for_subject(), || Call::get(path.clone()))
            .await
            .map_err(|refusal| {
                let said = refusal.error.description().unwrap_or_default();
                if said.contains("no entity") {
                    refusal.error.with_hint(
                        "a root token, or one that no auth method gave, has no identity: log in \
                         with a method such as AppRole",
                    )
                } else {
                    refusal.error
                }
            })?;
        for warning in answer.warnings(&[]) {
            tracing::warn!(source = NAME, warning, "the server warns");
        }
        let ttl = answer.seconds("/data/ttl")?.filter(|ttl| !ttl.is_zero());
        let token = answer.secret("/data/token")?;
        // From its issue to its end: both are the server's, so a wrong local clock does not matter.
        let own = UnverifiedClaims::of(token.expose())
            .ok()
            .and_then(|claims| claims.lifetime())
            .filter(|life| !life.is_zero());
        Ok(match (ttl, own) {
            (Some(ttl), Some(own)) => Token::bearer(token).expires_in(ttl.min(own)),
            (Some(life), None) | (None, Some(life)) => Token::bearer(token).expires_in(life),
            (None, None) => Token::bearer(token),
        })
    }
}

impl TokenSource for IdentityToken {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        self.mint(cx).await.map_err(|error| error.or_source(NAME))
    }

    fn describe(&self) -> Description {
        self.session.describe_as(NAME)
    }
}

impl fmt::Debug for IdentityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityToken")
            .field("session", &self.session)
            .field("role", &self.role)
            .finish()
    }
}

const NAME: &str = "vault identity token";
