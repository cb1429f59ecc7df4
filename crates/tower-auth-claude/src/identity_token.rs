use std::fmt;
use std::sync::Arc;

use tower_auth_core::{Description, Error, ErrorKind, Expiry, Fetch, Token, TokenSource};
use tower_auth_io::{TokenFile, World};

use crate::vars::{self, Var};

/// The identity token that the environment names: the file in `ANTHROPIC_IDENTITY_TOKEN_FILE`, or else the
/// text of `ANTHROPIC_IDENTITY_TOKEN`. Either is read anew for every exchange.
///
/// A file that is named and missing is an error; the text is not looked at then.
///
/// ```
/// use tower_auth_claude::IdentityToken;
/// use tower_auth_core::TokenSource;
/// use tower_auth_io::{MapEnv, World};
///
/// let world = World::closed().with_env(MapEnv::from([("ANTHROPIC_IDENTITY_TOKEN_FILE", "/run/token")]));
/// let token = IdentityToken::from_env(&world)?;
/// assert_eq!(token.describe().to_string(), "identity token file (token from /run/token)");
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct IdentityToken(Place);

#[derive(Clone)]
enum Place {
    File(TokenFile),
    Variable(World),
}

impl IdentityToken {
    /// What the two variables say.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) if neither is set,
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the path is not one.
    pub fn from_env(world: &World) -> Result<Self, Error> {
        if let Some(path) = vars::get(world, vars::IDENTITY_TOKEN_FILE)? {
            return Self::in_file(&path, world);
        }
        match vars::get(world, vars::IDENTITY_TOKEN)? {
            Some(_) => Ok(Self(Place::Variable(world.clone()))),
            None => Err(Error::new(
                ErrorKind::NotConfigured,
                "neither ANTHROPIC_IDENTITY_TOKEN_FILE nor ANTHROPIC_IDENTITY_TOKEN is set",
            )),
        }
    }

    pub(crate) fn in_file(path: &str, world: &World) -> Result<Self, Error> {
        let file = TokenFile::new(path)?
            .with_files(Arc::clone(world.files()))
            .named(FILE);
        Ok(Self(Place::File(file)))
    }
}

impl TokenSource for IdentityToken {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        let world = match &self.0 {
            Place::File(file) => return file.fetch(cx).await,
            Place::Variable(world) => world,
        };
        match Var::read(&**world.env(), vars::IDENTITY_TOKEN)? {
            Var::Set(text) => {
                Ok(Token::bearer(text).with_expiry(Expiry::AskEvery(Token::DEFAULT_LIFETIME)))
            }
            _ => Err(Error::new(
                ErrorKind::NotConfigured,
                "ANTHROPIC_IDENTITY_TOKEN is no longer set",
            )
            .with_source_name(VARIABLE)),
        }
    }

    fn describe(&self) -> Description {
        match &self.0 {
            Place::File(file) => file.describe(),
            Place::Variable(_) => {
                Description::new(VARIABLE).with_setting("token", vars::IDENTITY_TOKEN)
            }
        }
    }
}

impl fmt::Debug for IdentityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentityToken")
            .field(&format_args!("{}", self.describe()))
            .finish()
    }
}

const FILE: &str = "identity token file";
const VARIABLE: &str = "identity token variable";
