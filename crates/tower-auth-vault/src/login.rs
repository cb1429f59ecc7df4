mod attempt;
mod method;

use std::fmt;

use tower_auth_core::{Description, Error, ErrorKind, Secret, TokenSource};
use tower_auth_io::{TokenFile, World};

use crate::settings::{Names, TOKEN, TOKEN_PATH, Variables};
use crate::wrapped::Wrapped;
use crate::{SignedCallerIdentity, path};
use method::{Method, SecretId};

/// How a program proves to Vault who it is.
///
/// A secret is taken from a source each time it is needed, so that a file that is replaced is read anew;
/// a plain text is a source too.
///
/// ```
/// use tower_auth_io::TokenFile;
/// use tower_auth_vault::Login;
///
/// let login = Login::app_role("7f0c…", TokenFile::new("/run/secrets/secret-id")?)?;
/// let login = Login::userpass("reports", "a password")?.with_mount("people")?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Login {
    method: Method,
    mount: Option<String>,
}

impl Login {
    /// Where Kubernetes puts the token of a pod's service account.
    pub const KUBERNETES_TOKEN: &'static str =
        "/var/run/secrets/kubernetes.io/serviceaccount/token";

    /// A Vault token that you were given and that is yours to renew. It is looked up once, to learn how
    /// long it lives. When it has come to its end there is no other.
    pub fn token(token: impl Into<Secret>) -> Self {
        let token: Secret = token.into();
        Self::of(Method::Token {
            source: token.boxed(),
            is_lent: false,
        })
    }

    /// A Vault token that somebody else keeps alive: the sink of a Vault Agent, a file that an operator
    /// writes. It is read and looked up at each fetch and never renewed.
    pub fn token_from(source: impl TokenSource) -> Self {
        Self::of(Method::Token {
            source: source.boxed(),
            is_lent: true,
        })
    }

    /// No login: a Vault Agent or Proxy on the way adds its own token (`use_auto_auth_token`). Requests
    /// carry `X-Vault-Request` only.
    #[must_use]
    pub fn proxy() -> Self {
        Self::of(Method::Proxy)
    }

    /// What the official client takes: `VAULT_TOKEN`, else the file that `VAULT_TOKEN_PATH` names, else
    /// `~/.vault-token`.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) if there is neither variable nor home directory, and
    /// what [`Env::lookup`](tower_auth_io::Env::lookup) says of a bad value.
    pub fn from_env(world: &World) -> Result<Self, Error> {
        Self::from_variables(world, Names::Vault)
    }

    /// As [`from_env`](Self::from_env) for OpenBao: `BAO_TOKEN` and `BAO_TOKEN_PATH` count more than the
    /// variables of Vault.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_bao_env(world: &World) -> Result<Self, Error> {
        Self::from_variables(world, Names::OpenBao)
    }

    /// AppRole with a secret id.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the role id is blank.
    pub fn app_role(
        role_id: impl Into<String>,
        secret_id: impl TokenSource,
    ) -> Result<Self, Error> {
        Self::app_role_by(role_id.into(), SecretId::Plain(secret_id.boxed()))
    }

    /// AppRole for a role that wants no secret id (`bind_secret_id=false`).
    ///
    /// # Errors
    /// As [`app_role`](Self::app_role).
    pub fn app_role_without_secret_id(role_id: impl Into<String>) -> Result<Self, Error> {
        Self::app_role_by(role_id.into(), SecretId::None)
    }

    /// AppRole with a secret id in a wrapping token, which is opened once.
    ///
    /// Before that, it is looked at: it must have been made at `creation_path`, such as
    /// `auth/approle/role/reports/secret-id`. Whatever goes wrong while it is opened is final until the
    /// source has another one, because it may be open then. The secret id is kept in memory for the next
    /// login.
    ///
    /// # Errors
    /// As [`app_role`](Self::app_role), and if `creation_path` is empty.
    pub fn app_role_wrapped(
        role_id: impl Into<String>,
        wrapping_token: impl TokenSource,
        creation_path: &str,
    ) -> Result<Self, Error> {
        let creation_path = path::name("the creation path", creation_path)?;
        Self::app_role_by(
            role_id.into(),
            SecretId::Wrapped(Wrapped {
                token: wrapping_token.boxed(),
                creation_path,
            }),
        )
    }

    /// The service account of this pod, by the token at [`KUBERNETES_TOKEN`](Self::KUBERNETES_TOKEN). It
    /// is read at each login: Kubernetes replaces it.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the role is blank.
    pub fn kubernetes(role: &str, world: &World) -> Result<Self, Error> {
        let file = TokenFile::new(Self::KUBERNETES_TOKEN)?
            .with_files(world.files().clone())
            .named("kubernetes token");
        Self::kubernetes_with(role, file)
    }

    /// As [`kubernetes`](Self::kubernetes), with a token from elsewhere.
    ///
    /// # Errors
    /// As [`kubernetes`](Self::kubernetes).
    pub fn kubernetes_with(role: &str, jwt: impl TokenSource) -> Result<Self, Error> {
        Self::by_jwt("kubernetes", Some(role), jwt)
    }

    /// A JWT that another issuer gives (the methods `jwt` and `oidc`). It is asked for at each login.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the role is blank.
    pub fn jwt(role: &str, jwt: impl TokenSource) -> Result<Self, Error> {
        Self::by_jwt("jwt", Some(role), jwt)
    }

    /// As [`jwt`](Self::jwt), for the mount's default role.
    ///
    /// # Errors
    /// None so far.
    pub fn jwt_with_default_role(jwt: impl TokenSource) -> Result<Self, Error> {
        Self::by_jwt("jwt", None, jwt)
    }

    /// A Google Cloud identity token or a JWT that a service account signed, whose audience is
    /// `vault/<role>`.
    ///
    /// # Errors
    /// As [`jwt`](Self::jwt).
    pub fn gcp(role: &str, jwt: impl TokenSource) -> Result<Self, Error> {
        Self::by_jwt("gcp", Some(role), jwt)
    }

    /// An access token of Azure's managed identity for the resource that the mount is configured for. Add
    /// where the machine is with [`with_field`](Self::with_field): `subscription_id`,
    /// `resource_group_name`, `vm_name`, `vmss_name`, `resource_id`.
    ///
    /// # Errors
    /// As [`jwt`](Self::jwt).
    pub fn azure(role: &str, jwt: impl TokenSource) -> Result<Self, Error> {
        Self::by_jwt("azure", Some(role), jwt)
    }

    /// An AWS identity, by a request that it has signed.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the role is blank.
    pub fn aws(
        role: &str,
        identity: impl TokenSource<SignedCallerIdentity>,
    ) -> Result<Self, Error> {
        Ok(Self::of(Method::Aws {
            role: path::text("the role", role)?,
            identity: identity.boxed(),
            server_id: false,
        }))
    }

    /// For [`aws`](Self::aws): the signed request must have `X-Vault-AWS-IAM-Server-ID`, signed. A login
    /// without it fails here instead of at the server.
    #[must_use]
    pub fn requiring_server_id(mut self) -> Self {
        if let Method::Aws { server_id, .. } = &mut self.method {
            *server_id = true;
        }
        self
    }

    /// The TLS client certificate of the connection: the world's transport must show it. The server
    /// chooses the role.
    #[must_use]
    pub fn certificate() -> Self {
        Self::of(Method::Certificate { role: None })
    }

    /// As [`certificate`](Self::certificate), for this role.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the role is blank.
    pub fn certificate_as(role: &str) -> Result<Self, Error> {
        let role = Some(path::text("the role", role)?);
        Ok(Self::of(Method::Certificate { role }))
    }

    /// A user of Vault's own and their password.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the user name is blank.
    pub fn userpass(
        username: impl Into<String>,
        password: impl TokenSource,
    ) -> Result<Self, Error> {
        Self::by_password("userpass", username.into(), password)
    }

    /// A user of a directory and their password.
    ///
    /// # Errors
    /// As [`userpass`](Self::userpass).
    pub fn ldap(username: impl Into<String>, password: impl TokenSource) -> Result<Self, Error> {
        Self::by_password("ldap", username.into(), password)
    }

    /// Where the method is mounted below `auth/`, if not under its own name.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if nothing is left of it without slashes.
    pub fn with_mount(mut self, mount: &str) -> Result<Self, Error> {
        let mount = mount.trim_matches('/');
        let mount = mount.strip_prefix("auth/").unwrap_or(mount);
        path::encode("the mount", mount)?;
        self.mount = Some(path::name("the mount", mount)?);
        Ok(self)
    }

    /// Adds a field to a login by JWT: see [`azure`](Self::azure). Other methods have none.
    #[must_use]
    pub fn with_field(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Method::Jwt { fields, .. } = &mut self.method {
            fields.push((name.into(), value.into()));
        }
        self
    }

    /// What errors call it.
    pub(crate) fn source_name(&self) -> &'static str {
        self.method.source_name()
    }

    pub(crate) fn describe(&self, description: Description) -> Description {
        self.method.describe(description)
    }

    /// Whether the token is ours to revoke.
    pub(crate) fn owns_token(&self) -> bool {
        self.method.owns_token()
    }

    /// Whether another login gives another token.
    pub(crate) fn gives_new_tokens(&self) -> bool {
        self.method.gives_new_tokens()
    }

    fn mount(&self) -> &str {
        self.mount.as_deref().unwrap_or(self.method.kind())
    }

    fn from_variables(world: &World, names: Names) -> Result<Self, Error> {
        let env = Variables {
            env: &**world.env(),
            names,
        };
        if let Some((token, _)) = env.get(TOKEN)? {
            return Ok(Self::token(Secret::new(token)));
        }
        let file = match (env.get(TOKEN_PATH)?, world.env().get("HOME")?) {
            (Some((path, _)), _) => path,
            (None, Some(home)) => format!("{}/.vault-token", home.trim_end_matches('/')),
            (None, None) => {
                return Err(Error::new(
                    ErrorKind::NotConfigured,
                    "neither VAULT_TOKEN nor VAULT_TOKEN_PATH nor HOME is set",
                )
                .with_source_name("vault token")
                .with_hint("set VAULT_TOKEN, or log in with another method"));
            }
        };
        let file = TokenFile::new(file)?
            .with_files(world.files().clone())
            .named("vault token file");
        Ok(Self::token_from(file))
    }

    fn of(method: Method) -> Self {
        Self {
            method,
            mount: None,
        }
    }

    fn app_role_by(role_id: String, secret_id: SecretId) -> Result<Self, Error> {
        Ok(Self::of(Method::AppRole {
            role_id: path::text("the role id", &role_id)?,
            secret_id,
        }))
    }

    fn by_jwt(
        kind: &'static str,
        role: Option<&str>,
        jwt: impl TokenSource,
    ) -> Result<Self, Error> {
        Ok(Self::of(Method::Jwt {
            kind,
            role: role.map(|role| path::text("the role", role)).transpose()?,
            jwt: jwt.boxed(),
            fields: Vec::new(),
        }))
    }

    fn by_password(
        kind: &'static str,
        username: String,
        password: impl TokenSource,
    ) -> Result<Self, Error> {
        if username.trim().is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the user name must not be blank",
            ));
        }
        Ok(Self::of(Method::Password {
            kind,
            username,
            password: password.boxed(),
        }))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("method", &self.method.kind())
            .field("mount", &self.mount())
            .finish_non_exhaustive()
    }
}
