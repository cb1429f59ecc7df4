use tower_auth_core::{BoxTokenSource, Description, TokenSource};

use crate::SignedCallerIdentity;
use crate::wrapped::Wrapped;

/// What a login needs.
#[derive(Clone)]
pub(super) enum Method {
    Token {
        source: BoxTokenSource,
        /// Somebody else renews it.
        is_lent: bool,
    },
    Proxy,
    AppRole {
        role_id: String,
        secret_id: SecretId,
    },
    Jwt {
        kind: &'static str,
        role: Option<String>,
        jwt: BoxTokenSource,
        fields: Vec<(String, String)>,
    },
    Certificate {
        role: Option<String>,
    },
    Password {
        kind: &'static str,
        username: String,
        password: BoxTokenSource,
    },
    Aws {
        role: String,
        identity: BoxTokenSource<SignedCallerIdentity>,
        server_id: bool,
    },
}

#[derive(Clone)]
pub(super) enum SecretId {
    None,
    Plain(BoxTokenSource),
    Wrapped(Wrapped),
}

impl Method {
    /// What errors call it.
    pub(super) fn source_name(&self) -> &'static str {
        match self {
            Self::Token { .. } => "vault token",
            Self::Proxy => "vault proxy",
            Self::AppRole { .. } => "vault approle",
            Self::Certificate { .. } => "vault certificate",
            Self::Aws { .. } => "vault aws",
            Self::Jwt { kind, .. } | Self::Password { kind, .. } => match *kind {
                "kubernetes" => "vault kubernetes",
                "gcp" => "vault gcp",
                "azure" => "vault azure",
                "userpass" => "vault userpass",
                "ldap" => "vault ldap",
                _ => "vault jwt",
            },
        }
    }

    pub(super) fn describe(&self, description: Description) -> Description {
        let described = |source: Description| source.to_string();
        match self {
            Self::Token { source, .. } => {
                description.with_setting("token", described(source.describe()))
            }
            Self::AppRole { secret_id, .. } => match secret_id {
                SecretId::None => description,
                SecretId::Plain(source) => {
                    description.with_setting("secret id", described(source.describe()))
                }
                SecretId::Wrapped(wrapped) => {
                    description.with_setting("wrapping token", described(wrapped.token.describe()))
                }
            },
            Self::Jwt { jwt, .. } => description.with_setting("jwt", described(jwt.describe())),
            Self::Password { password, .. } => {
                description.with_setting("password", described(password.describe()))
            }
            Self::Aws { identity, .. } => {
                description.with_setting("identity", described(identity.describe()))
            }
            Self::Certificate { .. } | Self::Proxy => description,
        }
    }

    /// Whether the token is ours to revoke.
    pub(super) fn owns_token(&self) -> bool {
        !matches!(self, Self::Token { is_lent: true, .. } | Self::Proxy)
    }

    /// Whether another login gives another token.
    pub(super) fn gives_new_tokens(&self) -> bool {
        !matches!(self, Self::Token { .. } | Self::Proxy)
    }

    /// The name of the method in the servers' documentation.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Proxy => "proxy",
            Self::AppRole { .. } => "approle",
            Self::Certificate { .. } => "cert",
            Self::Aws { .. } => "aws",
            Self::Jwt { kind, .. } | Self::Password { kind, .. } => kind,
        }
    }
}
