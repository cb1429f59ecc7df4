use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Request, Response, StatusCode};
use serde::Deserialize;
use tower_auth_core::{Error, ErrorKind, redact};
use tower_auth_io::{EndpointUrl, World, retry_after};

use crate::reader::redirected;

/// Finds the token endpoint in what the issuer publishes about itself (OpenID Connect Discovery 1.0
/// section 4, RFC 8414).
///
/// The document is asked for at the first request and kept for a day: it is configuration, not a
/// credential. When it is due again and the issuer does not give it, the old one is used, and it is tried
/// again after five minutes.
///
/// It is believed no more than the URL of the issuer: its `issuer` has to be that URL to the letter, and
/// its endpoints have to be `https` and on the issuer's host, or on one that
/// [`allowing_host`](Self::allowing_host) names (RFC 9700 section 4.4).
///
/// ```
/// use tower_auth_io::World;
/// use tower_auth_oauth::{Discovery, TokenEndpoint};
///
/// # let world = World::closed();
/// let discovery = Discovery::new("https://login.example.com/tenant", &world)?;
/// let endpoint = TokenEndpoint::discovered(discovery);
/// # let _ = endpoint;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Discovery {
    issuer: String,
    url: EndpointUrl,
    documents: Vec<EndpointUrl>,
    hosts: Vec<String>,
    max_age: Duration,
    world: World,
    kept: Arc<Mutex<Option<Kept>>>,
}

/// What an issuer says about itself, after it was checked.
#[derive(Clone, Debug)]
pub struct ServerMetadata {
    token_endpoint: EndpointUrl,
    mtls_token_endpoint: Option<EndpointUrl>,
}

#[derive(Clone)]
struct Kept {
    metadata: ServerMetadata,
    since: SystemTime,
    /// When it was last tried to renew it.
    tried: SystemTime,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    token_endpoint: String,
    #[serde(default)]
    mtls_endpoint_aliases: Aliases,
}

#[derive(Default, Deserialize)]
struct Aliases {
    token_endpoint: Option<String>,
}

impl Discovery {
    /// The issuer with this identifier, which is a URL.
    ///
    /// It is asked for `/.well-known/openid-configuration` below it, and where there is no such document
    /// for `/.well-known/oauth-authorization-server`, before its path as RFC 8414 section 3.1 says, and
    /// then after it.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is neither `https` nor `http` to this machine,
    /// or if it has a query.
    pub fn new(issuer: &str, world: &World) -> Result<Self, Error> {
        let url = EndpointUrl::parse("the issuer", issuer)?;
        if url.uri().query().is_some() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the issuer must be an https URL without a query",
            ));
        }
        let origin = url.origin()?;
        let path = url.uri().path().trim_end_matches('/');
        let mut documents = Vec::new();
        for document in [
            format!("{origin}{path}/.well-known/{OIDC}"),
            format!("{origin}/.well-known/{RFC8414}{path}"),
            format!("{origin}{path}/.well-known/{RFC8414}"),
        ] {
            let document = EndpointUrl::parse("the issuer", &document)?;
            if !documents.contains(&document) {
                documents.push(document);
            }
        }
        Ok(Self {
            issuer: issuer.trim().to_owned(),
            url,
            documents,
            hosts: Vec::new(),
            max_age: Duration::from_secs(24 * 60 * 60),
            world: world.clone(),
            kept: Arc::default(),
        })
    }

    /// Asks for the document at this URL and at no other.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is neither `https` nor `http` to this machine.
    pub fn with_document(mut self, url: &str) -> Result<Self, Error> {
        self.documents = vec![EndpointUrl::parse("the metadata document", url)?];
        Ok(self)
    }

    /// Expects this `issuer` in the document, for issuers that call themselves otherwise than they are
    /// reached.
    #[must_use]
    pub fn expecting_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = issuer.into();
        self
    }

    /// Lets endpoints be on this host too, whatever the port.
    #[must_use]
    pub fn allowing_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// How long a document is used before it is asked for again: a day where this is not called.
    #[must_use]
    pub fn with_max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// What the issuer says about itself: as it was found less than a day ago, or as it is found now.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the issuer cannot be asked,
    /// [`Malformed`](ErrorKind::Malformed) if it has no such document or one that must not be believed.
    /// None if there is an older document.
    pub async fn metadata(&self) -> Result<ServerMetadata, Error> {
        let now = self.world.clock().now();
        // A clock that was set back says nothing about the age of anything.
        let is_within =
            |since, time: Duration| now.duration_since(since).is_ok_and(|age| age < time);
        let old = {
            let mut kept = self.kept();
            if let Some(kept) = kept.as_mut() {
                if is_within(kept.since, self.max_age) || is_within(kept.tried, TRY_EVERY) {
                    return Ok(kept.metadata.clone());
                }
                // Before it is tried: an issuer that never answers must cost one fetch and not each.
                kept.tried = now;
            }
            kept.clone()
        };
        match (self.ask(now).await, old) {
            (Ok(metadata), _) => {
                *self.kept() = Some(Kept {
                    metadata: metadata.clone(),
                    since: now,
                    tried: now,
                });
                Ok(metadata)
            }
            (Err(error), Some(old)) => {
                tracing::warn!(
                    issuer = %self.url,
                    %error,
                    "the metadata of the issuer could not be renewed; the old one is used",
                );
                Ok(old.metadata)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The issuer's URL.
    pub(crate) fn url(&self) -> &EndpointUrl {
        &self.url
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    async fn ask(&self, now: SystemTime) -> Result<ServerMetadata, Error> {
        let mut missing = None;
        for document in &self.documents {
            let request = Request::get(document.uri().clone())
                .header(ACCEPT, HeaderValue::from_static("application/json"))
                .body(Bytes::new())
                .map_err(|cause| malformed("no request can be made").with_cause(cause))?;
            let response = self.world.transport().send(request).await?;
            let status = response.status();
            let about = |error: Error| error.with_endpoint(document.uri()).with_status(status);
            if matches!(
                status,
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
            ) {
                missing = missing.or(Some(about(malformed(
                    "the issuer has no metadata document; configure the token endpoint instead",
                ))));
                continue;
            }
            return self.read(response, now).map_err(about);
        }
        Err(missing.unwrap_or_else(|| malformed("the issuer has no metadata document")))
    }

    fn read(&self, response: Response<Bytes>, now: SystemTime) -> Result<ServerMetadata, Error> {
        let status = response.status();
        if status.is_redirection() {
            return Err(redirected(response.headers(), &[]));
        }
        if matches!(status.as_u16(), 408 | 425 | 429 | 500..=599) {
            let error = Error::new(
                ErrorKind::Unavailable,
                "the issuer could not give its metadata",
            );
            return Err(match retry_after(response.headers(), now) {
                Some(delay) => error.with_retry_after(delay),
                None => error,
            });
        }
        if !status.is_success() {
            return Err(malformed("the issuer does not give its metadata"));
        }
        // What the parser says may quote the document, which nobody has checked yet.
        let document: Document = serde_json::from_slice(response.body()).map_err(|_| {
            malformed("the metadata is not a JSON object with issuer and token_endpoint")
        })?;
        self.check(&document)
    }

    fn check(&self, document: &Document) -> Result<ServerMetadata, Error> {
        if document.issuer != self.issuer {
            return Err(malformed(format!(
                "the metadata is of issuer {}, not of {}",
                redact(&document.issuer, &[]),
                self.issuer
            )));
        }
        let alias = document.mtls_endpoint_aliases.token_endpoint.as_deref();
        Ok(ServerMetadata {
            token_endpoint: self.endpoint("token_endpoint", &document.token_endpoint)?,
            mtls_token_endpoint: alias
                .map(|url| self.endpoint("mtls_endpoint_aliases.token_endpoint", url))
                .transpose()?,
        })
    }

    fn endpoint(&self, member: &str, url: &str) -> Result<EndpointUrl, Error> {
        let url = EndpointUrl::parse(&format!("{member} in the metadata"), url)
            .map_err(|error| error.with_kind(ErrorKind::Malformed))?;
        let (origin, issuer) = (url.origin()?, self.url.origin()?);
        if issuer.is_https() && !origin.is_https() {
            return Err(malformed(format!(
                "{member} in the metadata must be an https URL"
            )));
        }
        let host = origin.host();
        let is_allowed = host == issuer.host()
            || self
                .hosts
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(host));
        if is_allowed {
            Ok(url)
        } else {
            Err(malformed(format!(
                "{member} in the metadata is on host {}, which is not the issuer's; \
                 if it is right, allow that host",
                redact(host, &[])
            )))
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery")
            .field("issuer", &self.issuer)
            .field("documents", &self.documents)
            .field("hosts", &self.hosts)
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

impl ServerMetadata {
    /// The token endpoint.
    #[must_use]
    pub fn token_endpoint(&self) -> &EndpointUrl {
        &self.token_endpoint
    }

    /// The token endpoint for connections with a client certificate, where it is another one (RFC 8705
    /// section 5).
    #[must_use]
    pub fn mtls_token_endpoint(&self) -> Option<&EndpointUrl> {
        self.mtls_token_endpoint.as_ref()
    }
}

fn malformed(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

const TRY_EVERY: Duration = Duration::from_secs(300);
const OIDC: &str = "openid-configuration";
const RFC8414: &str = "oauth-authorization-server";
