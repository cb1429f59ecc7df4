use std::path::PathBuf;
use std::sync::Arc;

use tower_auth_core::{BoxTokenSource, Error, ErrorKind, TokenSource};
use tower_auth_io::{EndpointUrl, TokenFile, World};

use crate::{Audience, KubernetesFile};

/// Where a cluster's API is, how it is reached, and who asks.
///
/// The transport of the [`World`] must trust the cluster's own certificate authority, and nothing else needs
/// to be trusted:
///
/// ```no_run
/// use tower_auth_io::{Client, World};
/// use tower_auth_workload::{KubernetesApi, TokenRequest};
///
/// let cluster = Client::new()
///     .with_ca_file(KubernetesApi::CA_FILE)
///     .without_system_roots()
///     .without_proxy()
///     .transport()?;
/// let api = KubernetesApi::in_cluster(&World::new(cluster))?;
/// let source = TokenRequest::new("reports", "https://api.anthropic.com", api)?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct KubernetesApi {
    pub(crate) url: EndpointUrl,
    pub(crate) bearer: BoxTokenSource,
    pub(crate) namespace: Namespace,
    pub(crate) world: World,
}

/// The namespace of a service account.
#[derive(Clone, Debug)]
pub(crate) enum Namespace {
    Fixed(String),
    /// The pod's own, as it is written in this file.
    Own(TokenFile),
}

impl KubernetesApi {
    /// Where a pod finds the certificates of the cluster's API.
    pub const CA_FILE: &'static str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

    /// The API of the cluster that this pod runs in, asked in the name of the pod's service account and about
    /// the pod's namespace.
    ///
    /// Its address comes from `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`. The pod's token and
    /// namespace are read at every call.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) outside of a pod, [`InvalidConfig`](ErrorKind::InvalidConfig)
    /// if the variables make no URL.
    pub fn in_cluster(world: &World) -> Result<Self, Error> {
        let url = cluster_url(world).map_err(named)?;
        let namespace = TokenFile::new(NAMESPACE_FILE)
            .map_err(named)?
            .named("kubernetes namespace file")
            .with_files(Arc::clone(world.files()));
        Ok(Self {
            url,
            bearer: KubernetesFile::automounted(Audience::any(), world)?.boxed(),
            namespace: Namespace::Own(namespace),
            world: world.clone(),
        })
    }

    /// The API at this URL, asked with this source's tokens, about service accounts in this namespace.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the URL is neither `https` nor on this machine, or if
    /// the namespace cannot be one.
    pub fn new(
        url: &str,
        bearer: impl TokenSource,
        namespace: &str,
        world: &World,
    ) -> Result<Self, Error> {
        Ok(Self {
            url: EndpointUrl::parse("the URL of the Kubernetes API", url).map_err(named)?,
            bearer: bearer.boxed(),
            namespace: Namespace::fixed(namespace)?,
            world: world.clone(),
        })
    }

    /// Asks about service accounts in this namespace.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it cannot be the name of one.
    pub fn with_namespace(mut self, namespace: &str) -> Result<Self, Error> {
        self.namespace = Namespace::fixed(namespace)?;
        Ok(self)
    }
}

fn cluster_url(world: &World) -> Result<EndpointUrl, Error> {
    let require = |name| {
        let value = world.env().require(name);
        value.map_err(|error| match error.kind() {
            ErrorKind::NotConfigured => error.with_hint("every pod has it; is this one?"),
            _ => error,
        })
    };
    let (host, port) = (require(HOST)?, require(PORT)?);
    // Kubernetes gives an IPv6 address without the brackets that a URL has around it.
    let url = if host.contains(':') && !host.starts_with('[') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    };
    EndpointUrl::parse("the address in KUBERNETES_SERVICE_HOST and _PORT", &url)
}

fn named(error: Error) -> Error {
    error.or_source("kubernetes api")
}

/// A name that can stand in a path as it is (RFC 1123 section 2.1, as Kubernetes reads it).
///
/// # Errors
/// [`InvalidConfig`](ErrorKind::InvalidConfig), naming `what`.
pub(crate) fn checked_name(what: &str, name: &str) -> Result<String, Error> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let is_name = (1..=253).contains(&name.len())
        && name.chars().all(is_plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric());
    if is_name {
        Ok(name.to_owned())
    } else {
        Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("{what} must consist of lower-case letters, digits, - and ."),
        ))
    }
}

impl Namespace {
    fn fixed(name: &str) -> Result<Self, Error> {
        let name = checked_name("the namespace", name).map_err(named)?;
        Ok(Self::Fixed(name))
    }

    pub(crate) async fn name(&self) -> Result<String, Error> {
        match self {
            Self::Fixed(name) => Ok(name.clone()),
            Self::Own(file) => checked_name(
                "what is in the pod's namespace file",
                file.read().await?.expose(),
            ),
        }
    }

    /// Where it comes from.
    pub(crate) fn origin(&self) -> PathBuf {
        match self {
            Self::Fixed(name) => PathBuf::from(name),
            Self::Own(file) => file.path().to_owned(),
        }
    }
}

const HOST: &str = "KUBERNETES_SERVICE_HOST";
const PORT: &str = "KUBERNETES_SERVICE_PORT";
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
