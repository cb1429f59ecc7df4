use std::fmt;
use std::time::Duration;

use tower_auth_core::{Error, ErrorKind};
use tower_auth_io::{EndpointUrl, Env, Lookup, World};

use crate::Server;

/// What the official clients read from the environment about the way to the server.
///
/// ```
/// use tower_auth_io::{MapEnv, World};
/// use tower_auth_vault::Settings;
///
/// let env = MapEnv::from([("VAULT_ADDR", "https://vault.example.com:8200"), ("VAULT_NAMESPACE", "a/")]);
/// let world = World::closed().with_env(env);
/// let server = Settings::from_env(&world)?.server()?;
/// assert_eq!(server.namespace(), Some("a"));
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Settings {
    world: World,
    address: String,
    address_from: &'static str,
    namespace: Option<String>,
    ca: Option<Ca>,
    certificate: Option<(String, String)>,
    server_name: Option<String>,
    timeout: Option<Duration>,
    proxy: Option<String>,
    follows_redirects: bool,
    clear_text: bool,
}

#[derive(Clone)]
#[cfg_attr(
    not(feature = "hyper"),
    expect(dead_code, reason = "only the client that is made here reads them")
)]
enum Ca {
    File(String),
    Pem(String),
}

/// Which names count.
#[derive(Clone, Copy)]
pub(crate) enum Names {
    Vault,
    OpenBao,
}

impl Settings {
    /// The address where none is set.
    pub const DEFAULT_ADDRESS: &'static str = "https://127.0.0.1:8200";

    /// The variables of Vault, `VAULT_…`.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig), naming the variable, if its value cannot be meant, if
    /// one of a pair is missing, or if it asks for something that is not done here: `VAULT_SKIP_VERIFY`
    /// and `VAULT_CAPATH`.
    pub fn from_env(world: &World) -> Result<Self, Error> {
        Self::read(world, Names::Vault)
    }

    /// The variables of OpenBao: `BAO_…` counts more than `VAULT_…`, even where it is set to nothing.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_bao_env(world: &World) -> Result<Self, Error> {
        Self::read(world, Names::OpenBao)
    }

    /// Takes an address with plain `http` on another machine, as it is used inside clusters. Whoever is on
    /// the way can read and use the tokens.
    #[must_use]
    pub fn allowing_clear_text(mut self) -> Self {
        self.clear_text = true;
        self
    }

    /// The server, reached through the world's own transport, or through one that is made for the purpose
    /// if a variable asks for certificates, a name, a time, a proxy or a socket of its own.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the address is no `https` URL, or no `http` URL to
    /// this machine; if a file of certificates cannot be used.
    pub fn server(self) -> Result<Server, Error> {
        let socket = self.address.strip_prefix("unix://").map(str::to_owned);
        let from = self.address_from;
        let address = match (&socket, self.clear_text) {
            (Some(_), _) => EndpointUrl::parse(from, "http://localhost")?,
            (None, true) => EndpointUrl::clear_text(from, &self.address)?,
            (None, false) => EndpointUrl::parse(from, &self.address).map_err(|error| {
                if self.address.starts_with("http:") {
                    error.with_hint(
                        "for a server inside a cluster that has no TLS, say so with \
                         Settings::allowing_clear_text",
                    )
                } else {
                    error
                }
            })?,
        };
        let world = if socket.is_some() || self.wants_own_client() {
            self.world.clone().with_transport(self.transport(socket)?)
        } else {
            self.world.clone()
        };
        let server = Server::at(address, &world).with_address_from(from);
        let server = if self.follows_redirects {
            server
        } else {
            server.without_redirects()
        };
        match &self.namespace {
            Some(namespace) => server.with_namespace(namespace),
            None => Ok(server),
        }
    }

    fn read(world: &World, names: Names) -> Result<Self, Error> {
        let env = Variables {
            env: &**world.env(),
            names,
        };
        if env.truth(SKIP_VERIFY)? {
            return Err(env.invalid(
                SKIP_VERIFY,
                "asks for TLS that trusts everybody, which is not done here",
                "name the CA that signed the server's certificate in VAULT_CACERT",
            ));
        }
        if env.get(CAPATH)?.is_some() && env.get(CACERT)?.is_none() {
            return Err(env.invalid(
                CAPATH,
                "names a folder of certificates, which is not read here",
                "put them into one file and name it in VAULT_CACERT",
            ));
        }
        let (address, address_from) = match (env.get(AGENT_ADDR)?, env.get(ADDR)?) {
            (Some((address, name)), _) | (None, Some((address, name))) => (address, name),
            (None, None) => (Self::DEFAULT_ADDRESS.to_owned(), "default"),
        };
        let ca = match (env.get(CACERT)?, env.get(CACERT_BYTES)?) {
            (Some((path, _)), _) => Some(Ca::File(path)),
            (None, Some((pem, _))) => Some(Ca::Pem(pem)),
            (None, None) => None,
        };
        let certificate = match (env.get(CLIENT_CERT)?, env.get(CLIENT_KEY)?) {
            (Some((certificate, _)), Some((key, _))) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(env.invalid(
                    CLIENT_KEY,
                    "is not set, and VAULT_CLIENT_CERT is",
                    "set both or neither",
                ));
            }
            (None, Some(_)) => {
                return Err(env.invalid(
                    CLIENT_CERT,
                    "is not set, and VAULT_CLIENT_KEY is",
                    "set both or neither",
                ));
            }
        };
        let proxy = match (env.get(PROXY_ADDR)?, env.get(HTTP_PROXY)?) {
            (Some((proxy, _)), _) | (None, Some((proxy, _))) => Some(proxy),
            (None, None) => None,
        };
        Ok(Self {
            world: world.clone(),
            address,
            address_from,
            namespace: env.get(NAMESPACE)?.map(|(namespace, _)| namespace),
            ca,
            certificate,
            server_name: env.get(TLS_SERVER_NAME)?.map(|(name, _)| name),
            timeout: env.timeout(CLIENT_TIMEOUT)?,
            proxy,
            follows_redirects: !env.truth(DISABLE_REDIRECTS)?,
            clear_text: false,
        })
    }

    fn wants_own_client(&self) -> bool {
        self.ca.is_some()
            || self.certificate.is_some()
            || self.server_name.is_some()
            || self.timeout.is_some()
            || self.proxy.is_some()
            || (self.clear_text && self.address.starts_with("http:"))
    }

    #[cfg(feature = "hyper")]
    fn transport(&self, socket: Option<String>) -> Result<tower_auth_io::Transport, Error> {
        use tower_auth_io::{Client, MapEnv};

        let mut client = Client::new();
        client = match &self.ca {
            // The servers' own clients trust these instead of the system's.
            Some(Ca::File(path)) => client.without_system_roots().with_ca_file(path),
            Some(Ca::Pem(pem)) => client.without_system_roots().with_ca_pem(pem.as_str()),
            None => client,
        };
        if let Some((certificate, key)) = &self.certificate {
            client = client.with_certificate_files(certificate, key);
        }
        if let Some(name) = &self.server_name {
            client = client.with_server_name(name);
        }
        if let Some(timeout) = self.timeout {
            client = client.with_timeout(timeout);
        }
        client = match &self.proxy {
            Some(proxy) => client.with_env(MapEnv::from([("ALL_PROXY", proxy.as_str())])),
            None => client.with_env(std::sync::Arc::clone(self.world.env())),
        };
        if self.clear_text {
            client = client.allowing_clear_text();
        }
        match socket {
            #[cfg(unix)]
            Some(path) => Ok(client.unix_transport(path)),
            #[cfg(not(unix))]
            Some(_) => Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "{} names a Unix socket, and this is no Unix",
                    self.address_from
                ),
            )),
            None => client.transport(),
        }
    }

    #[cfg(not(feature = "hyper"))]
    fn transport(&self, _: Option<String>) -> Result<tower_auth_io::Transport, Error> {
        Err(Error::new(
            ErrorKind::InvalidConfig,
            "the environment asks for TLS settings or a socket, which the feature `hyper` of \
             tower-auth-vault provides",
        ))
    }
}

/// Shows the address and which settings there are.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("address_from", &self.address_from)
            .field("namespace", &self.namespace)
            .field("ca", &self.ca.is_some())
            .field("certificate", &self.certificate.is_some())
            .field("server_name", &self.server_name)
            .field("timeout", &self.timeout)
            .field("proxy", &self.proxy.is_some())
            .field("clear_text", &self.clear_text)
            .finish_non_exhaustive()
    }
}

pub(crate) struct Variables<'a> {
    pub(crate) env: &'a dyn Env,
    pub(crate) names: Names,
}

impl Variables<'_> {
    /// The value, and the variable that has it.
    pub(crate) fn get(&self, variable: Variable) -> Result<Option<(String, &'static str)>, Error> {
        if let Names::OpenBao = self.names {
            if self.env.raw(variable.bao).is_some() {
                return self.set(variable.bao);
            }
        }
        self.set(variable.vault)
    }

    fn set(&self, name: &'static str) -> Result<Option<(String, &'static str)>, Error> {
        Ok(match self.env.lookup(name)? {
            Lookup::Set(value) => Some((value, name)),
            _ => None,
        })
    }

    /// A truth value as Go reads it. Nothing is false, and whatever is neither is an error: to take it for
    /// true would switch verification off by mistake.
    fn truth(&self, variable: Variable) -> Result<bool, Error> {
        match self.get(variable)? {
            None => Ok(false),
            Some((value, variable)) => match value.as_str() {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
                _ => Err(Error::new(
                    ErrorKind::InvalidConfig,
                    format!("the environment variable {variable} is neither true nor false"),
                )),
            },
        }
    }

    /// Seconds, or a number with the unit `ms`, `s`, `m` or `h`.
    fn timeout(&self, variable: Variable) -> Result<Option<Duration>, Error> {
        let Some((value, variable)) = self.get(variable)? else {
            return Ok(None);
        };
        let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = value.strip_suffix(unit).and_then(|n| n.parse::<f64>().ok());
        let seconds = match (number, unit) {
            (Some(number), "" | "s") => Some(number),
            (Some(number), "ms") => Some(number / 1000.0),
            (Some(number), "m") => Some(number * 60.0),
            (Some(number), "h") => Some(number * 3600.0),
            _ => None,
        };
        match seconds.map(Duration::try_from_secs_f64) {
            Some(Ok(timeout)) if !timeout.is_zero() => Ok(Some(timeout)),
            _ => Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("the environment variable {variable} is no time like 60, 60s or 1m"),
            )),
        }
    }

    fn invalid(&self, variable: Variable, what: &str, hint: &'static str) -> Error {
        let name = match self.names {
            Names::OpenBao if self.env.raw(variable.bao).is_some() => variable.bao,
            _ => variable.vault,
        };
        Error::new(
            ErrorKind::InvalidConfig,
            format!("the environment variable {name} {what}"),
        )
        .with_hint(hint)
    }
}

/// A variable by both of its names.
#[derive(Clone, Copy)]
pub(crate) struct Variable {
    vault: &'static str,
    bao: &'static str,
}

macro_rules! variables {
    ($($constant:ident)+) => {
        $(pub(crate) const $constant: Variable = Variable {
            vault: concat!("VAULT_", stringify!($constant)),
            bao: concat!("BAO_", stringify!($constant)),
        };)+
    };
}

variables! {
    ADDR AGENT_ADDR NAMESPACE CACERT CACERT_BYTES CAPATH CLIENT_CERT CLIENT_KEY TLS_SERVER_NAME
    SKIP_VERIFY CLIENT_TIMEOUT HTTP_PROXY PROXY_ADDR DISABLE_REDIRECTS TOKEN TOKEN_PATH
}
