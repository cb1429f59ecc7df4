use std::fmt;

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use tower_auth_core::{Error, ErrorKind, Origin, Secret};
use tower_auth_io::{EndpointUrl, World};

use crate::Settings;
use crate::answer::{Answer, Refusal};
use crate::body::Body;

/// Where a Vault or OpenBao server is, which namespace is meant, and the world it is reached through.
///
/// ```
/// use tower_auth_vault::Server;
///
/// # let world = tower_auth_io::World::closed();
/// let server = Server::new("https://vault.example.com:8200", &world)?.with_namespace("teams/a")?;
/// let error = Server::new("http://vault:8200", &world).unwrap_err();
/// assert!(error.to_string().contains("must be an https URL"));
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Server {
    base: EndpointUrl,
    namespace: Option<String>,
    world: World,
    from: &'static str,
    follows_redirects: bool,
}

/// One request.
pub(crate) struct Call<'a> {
    method: Method,
    path: String,
    token: Option<&'a Secret>,
    body: Option<Body>,
}

impl Server {
    /// The server at this address: `https`, or `http` on this machine. A path is kept, for a server
    /// behind a proxy that adds one.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is no such URL.
    pub fn new(address: &str, world: &World) -> Result<Self, Error> {
        let base = EndpointUrl::parse("the address of Vault", address)?;
        Ok(Self::at(base, world))
    }

    /// The server at an address that has been parsed already, from a setting with a name.
    #[must_use]
    pub fn at(address: EndpointUrl, world: &World) -> Self {
        Self {
            base: address,
            namespace: None,
            world: world.clone(),
            from: "argument",
            follows_redirects: true,
        }
    }

    /// The server that the environment names: [`Settings::from_env`] and [`Settings::server`].
    ///
    /// # Errors
    /// Theirs.
    pub fn from_env(world: &World) -> Result<Self, Error> {
        Settings::from_env(world)?.server()
    }

    /// Takes a redirect for an error, one to the same host too.
    #[must_use]
    pub fn without_redirects(mut self) -> Self {
        self.follows_redirects = false;
        self
    }

    /// Works in this namespace, written from the root: `teams/a`. Slashes at its ends go; an empty one is
    /// the root.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it cannot be in a header.
    pub fn with_namespace(mut self, namespace: &str) -> Result<Self, Error> {
        let namespace = namespace.trim().trim_matches('/');
        if !namespace.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the namespace has a character that no header may have",
            ));
        }
        self.namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        Ok(self)
    }

    /// Scheme, host, port and path of the server.
    #[must_use]
    pub fn address(&self) -> &EndpointUrl {
        &self.base
    }

    /// The namespace, without slashes at its ends; `None` for the root.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Says where the address came from.
    pub(crate) fn with_address_from(mut self, from: &'static str) -> Self {
        self.from = from;
        self
    }

    pub(crate) fn came_from(&self) -> &'static str {
        self.from
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    pub(crate) fn origin(&self) -> Result<Origin, Error> {
        self.base.origin()
    }

    /// The namespace as an error tells it.
    pub(crate) fn namespace_in_words(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("namespace {namespace}"),
            None => "the root namespace".to_owned(),
        }
    }

    /// Makes one exchange. A redirect to the same host is a part of it: a standby points to the active
    /// node so.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Answer, Refusal> {
        let uri = self.uri(&call.path)?;
        let mut secrets: Vec<&Secret> = call.token.into_iter().collect();
        let body = call.body.clone().unwrap_or_default();
        secrets.extend(body.secrets());
        let mut endpoint = uri.clone();
        let mut response = self.exchange(&call, uri).await?;
        if let Some(active) = self.redirect_to_follow(&endpoint, &response)? {
            endpoint = active.clone();
            response = self.exchange(&call, active).await?;
        }
        let now = self.world.clock().now();
        Answer::read(response, endpoint, &secrets, now)
    }

    async fn exchange(&self, call: &Call<'_>, uri: Uri) -> Result<Response<bytes::Bytes>, Error> {
        let endpoint = uri.clone();
        let unfit = |cause: http::Error| {
            Error::new(
                ErrorKind::InvalidConfig,
                "no request can be made for this path",
            )
            .with_endpoint(&endpoint)
            .with_cause(cause)
        };
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(uri)
            .header(X_VAULT_REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            request = request.header(X_VAULT_NAMESPACE, namespace);
        }
        if let Some(token) = call.token {
            request = request.header(X_VAULT_TOKEN, sensitive(token)?);
        }
        let body = match &call.body {
            Some(body) => {
                request =
                    request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                body.clone().into_bytes()
            }
            None => bytes::Bytes::new(),
        };
        let request = request.body(body).map_err(unfit)?;
        self.world.transport().send(request).await
    }

    /// Where a standby sends us, if that is the same host and no less private.
    fn redirect_to_follow<B>(
        &self,
        from: &Uri,
        response: &Response<B>,
    ) -> Result<Option<Uri>, Error> {
        let is_redirect = matches!(
            response.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        if !is_redirect || !self.follows_redirects {
            return Ok(None);
        }
        let Some(to) = location(response.headers()) else {
            return Ok(None);
        };
        let (Some(host), Some(scheme)) = (to.host(), to.scheme_str()) else {
            return Ok(None);
        };
        let is_same_host = from
            .host()
            .is_some_and(|here| here.eq_ignore_ascii_case(host));
        if !is_same_host {
            return Ok(None);
        }
        if from.scheme_str() == Some("https") && scheme != "https" {
            return Err(Error::new(
                ErrorKind::Malformed,
                "the server answered with a redirect that is a downgrade from https to http, \
                 which is not followed",
            )
            .with_status(response.status())
            .with_endpoint(from));
        }
        Ok(Some(to))
    }

    fn uri(&self, path: &str) -> Result<Uri, Error> {
        let base = self.base.uri();
        let scheme = base.scheme_str().unwrap_or("https");
        let authority = base.authority().map_or("", http::uri::Authority::as_str);
        let prefix = base.path().trim_end_matches('/');
        format!("{scheme}://{authority}{prefix}/v1/{path}")
            .parse()
            .map_err(|cause: http::uri::InvalidUri| {
                Error::new(
                    ErrorKind::InvalidConfig,
                    "the path does not make a URL with the address of Vault",
                )
                .with_cause(cause)
            })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.base)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl<'a> Call<'a> {
    /// `path` follows `/v1/` and is encoded already.
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into())
    }

    /// As [`get`](Self::get).
    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path.into())
    }

    pub(crate) fn with_token(mut self, token: Option<&'a Secret>) -> Self {
        self.token = token;
        self
    }

    pub(crate) fn with_body(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }

    fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            token: None,
            body: None,
        }
    }
}

/// A token as a header. A line break at the end of a token file is the usual reason why it is none.
fn sensitive(token: &Secret) -> Result<HeaderValue, Error> {
    if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::new(
            ErrorKind::Malformed,
            "the token has a non-printable character or a blank in it",
        )
        .with_hint("write the token alone, without a line break"));
    }
    let mut value = HeaderValue::from_str(token.expose())
        .map_err(|_| Error::new(ErrorKind::Malformed, "the token cannot be in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn location(headers: &HeaderMap) -> Option<Uri> {
    Uri::try_from(headers.get(LOCATION)?.as_bytes()).ok()
}

/// The header that the token travels in.
pub(crate) const X_VAULT_TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
/// Without it, an Agent or Proxy may refuse: no web page can be made to send it.
pub(crate) const X_VAULT_REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
pub(crate) const X_VAULT_NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
