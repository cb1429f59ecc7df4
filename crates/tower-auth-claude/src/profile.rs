use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tower_auth_core::{Description, Error, ErrorKind, Fetch, Token, TokenSource};
use tower_auth_io::{ReadRules, World};

use crate::base_url::BaseUrl;
use crate::federation::Federation;
use crate::identity_token::IdentityToken;
use crate::text;
use crate::token_endpoint::TokenEndpoint;
use crate::vars;

mod cached;
mod credentials;
mod document;
pub(crate) mod place;
mod user;

use cached::CachedFederation;
use credentials::CredentialsFile;
use document::Document;
use place::Roots;
use user::UserLogin;

/// A profile, as `ant` and the official clients keep them: `configs/<name>.json` says how to obtain a
/// token, `credentials/<name>.json` keeps it.
///
/// They are looked for in `ANTHROPIC_CONFIG_DIR`, or else in `$XDG_CONFIG_HOME/anthropic` and
/// `~/.config/anthropic`, on Windows in `%APPDATA%\Anthropic`. Gaps in a profile are filled from the
/// environment; what it says is never overridden, with one exception: `ANTHROPIC_BASE_URL`, which must
/// then be of the same origin.
///
/// A login (`user_oauth`) is renewed with its refresh token, by one process at a time, and written before
/// it is used. A federation (`oidc_federation`) keeps its token in the file, until the profile is edited.
///
/// ```
/// use tower_auth_claude::Profile;
/// use tower_auth_core::Error;
/// use tower_auth_io::World;
///
/// async fn staging(world: &World) -> Result<Profile, Error> {
///     Profile::load("staging", world).await
/// }
/// ```
#[derive(Clone)]
pub struct Profile {
    name: String,
    config: PathBuf,
    base: BaseUrl,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    User(Box<UserLogin>),
    Federation(Box<CachedFederation>),
}

impl Profile {
    /// The profile of this name.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) if there is none;
    /// [`InvalidConfig`](ErrorKind::InvalidConfig), naming the file and the field, if it cannot be meant,
    /// or if others than its owner can write to it.
    pub async fn load(name: &str, world: &World) -> Result<Self, Error> {
        let roots = Roots::of(world).map_err(named)?;
        Self::load_from(&roots, name, world).await
    }

    pub(crate) async fn load_from(roots: &Roots, name: &str, world: &World) -> Result<Self, Error> {
        let Some(root) = roots.find(name, world).await.map_err(named)? else {
            return Err(named(Error::new(
                ErrorKind::NotConfigured,
                format!("there is no profile {name:?} in {}", roots.shown()),
            )));
        };
        Self::read(root, name, world).await.map_err(named)
    }

    async fn read(root: &Path, name: &str, world: &World) -> Result<Self, Error> {
        let path = place::config_path(root, name);
        let rules = ReadRules::up_to(CONFIG_LIMIT).not_writable_by_others();
        let config = Document::read(&path, rules, world).await?;
        if let Some(version) = config.text("/version")? {
            if version.split('.').next() != Some("1") {
                tracing::warn!(file = %path.display(), %version, "a profile of a version that is not known here");
            }
        }
        let base = base_url(&config, world)?;
        let file = match config.text("/authentication/credentials_path")? {
            Some(path) => expand_home(&path, world)?,
            None => place::credentials_path(root, name),
        };
        let file = CredentialsFile::new(file, world);
        let workspace = filled(&config, "/workspace_id", vars::WORKSPACE_ID, world)?;
        let kind = match config.text("/authentication/type")?.as_deref() {
            Some("user_oauth") => Kind::User(Box::new(UserLogin {
                file,
                endpoint: TokenEndpoint::new(base.token_endpoint()?, world),
                client_id: config.text("/authentication/client_id")?,
                workspace,
                unsaved: Arc::default(),
            })),
            Some("oidc_federation") => {
                let (federation, inputs) = federation(&config, workspace, &base, world)?;
                Kind::Federation(Box::new(CachedFederation {
                    federation,
                    file,
                    config: path.clone(),
                    inputs,
                }))
            }
            Some(_) => {
                return Err(config.flaw(
                    "/authentication/type",
                    "is neither \"user_oauth\" nor \"oidc_federation\"",
                ));
            }
            None => return Err(config.flaw("/authentication/type", "is missing")),
        };
        Ok(Self {
            name: name.to_owned(),
            config: path,
            base,
            kind,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that describes it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.config
    }
}

impl TokenSource for Profile {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        match &self.kind {
            Kind::User(login) => login.fetch(cx).await,
            Kind::Federation(federation) => federation.fetch(cx).await,
        }
        .map_err(named)
    }

    fn describe(&self) -> Description {
        let description = Description::new(NAME)
            .with_setting(
                format!("profile {}", self.name),
                self.config.display().to_string(),
            )
            .with_origin(self.base.origin().clone());
        text::with_prefixes(description)
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("base", &self.base)
            .field("kind", &self.kind)
            .finish()
    }
}

fn federation(
    config: &Document,
    workspace: Option<String>,
    base: &BaseUrl,
    world: &World,
) -> Result<(Federation<IdentityToken>, String), Error> {
    let needed = |pointer: &str, variable: &str| {
        filled(config, pointer, variable, world)?
            .ok_or_else(|| config.flaw(pointer, &format!("is missing, and {variable} is not set")))
    };
    let rule = needed(
        "/authentication/federation_rule_id",
        vars::FEDERATION_RULE_ID,
    )?;
    let organization = needed("/organization_id", vars::ORGANIZATION_ID)?;
    let account = filled(
        config,
        "/authentication/service_account_id",
        vars::SERVICE_ACCOUNT_ID,
        world,
    )?;
    let inputs = [
        Some(base.token_endpoint()?.to_string()),
        Some(rule.clone()),
        Some(organization.clone()),
        account.clone(),
        workspace.clone(),
    ]
    .map(Option::unwrap_or_default)
    .join(" ");
    let subject = identity_token(config, world)?;
    let mut federation = Federation::new(&rule, &organization, subject, world)?.at(base.clone())?;
    if let Some(account) = &account {
        federation = federation.with_service_account(account)?;
    }
    if let Some(workspace) = &workspace {
        federation = federation.with_workspace(workspace)?;
    }
    Ok((federation, inputs))
}

fn identity_token(config: &Document, world: &World) -> Result<IdentityToken, Error> {
    const SOURCE: &str = "/authentication/identity_token/source";
    const PATH: &str = "/authentication/identity_token/path";
    if !config.has("/authentication/identity_token") {
        return IdentityToken::from_env(world);
    }
    match config.text(SOURCE)?.as_deref() {
        Some("file") => match config.text(PATH)? {
            Some(path) => IdentityToken::in_file(&path, world),
            None => Err(config.flaw(PATH, "is missing")),
        },
        Some(_) => Err(config.flaw(SOURCE, "is not \"file\"")),
        None => Err(config.flaw(SOURCE, "is missing")),
    }
}

/// The API's URL. A refresh token or an identity token goes to the one host and the token that comes of it
/// to the other if these differ, so they must not.
fn base_url(config: &Document, world: &World) -> Result<BaseUrl, Error> {
    let own = match config.text("/base_url")? {
        Some(url) => Some(BaseUrl::parse("base_url of the profile", &url)?),
        None => None,
    };
    let named = match vars::get(world, vars::BASE_URL)? {
        Some(url) => Some(BaseUrl::parse(vars::BASE_URL, &url)?),
        None => None,
    };
    match (own, named) {
        (Some(own), Some(named)) if own.origin() != named.origin() => Err(config.flaw(
            "/base_url",
            "is of another host than ANTHROPIC_BASE_URL: a login must not go to the one and its token to the other",
        )),
        (Some(base), _) | (None, Some(base)) => Ok(base),
        (None, None) => BaseUrl::standard(),
    }
}

/// A field, or where it is missing or empty the variable.
fn filled(
    config: &Document,
    pointer: &str,
    variable: &str,
    world: &World,
) -> Result<Option<String>, Error> {
    match config.text(pointer)? {
        Some(text) => Ok(Some(text)),
        None => vars::get(world, variable),
    }
}

fn expand_home(path: &str, world: &World) -> Result<PathBuf, Error> {
    let Some(rest) = path.strip_prefix("~/") else {
        return Ok(PathBuf::from(path));
    };
    let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    Ok(Path::new(&world.env().require(home)?).join(rest))
}

fn named(error: Error) -> Error {
    error.or_source(NAME)
}

const NAME: &str = "claude profile";
const CONFIG_LIMIT: usize = 256 * 1024;
