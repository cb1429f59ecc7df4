mod grpc;
mod proto;

use std::fmt;
use std::time::Duration;

use tower_auth_core::{Description, Error, ErrorKind, Fetch, Token, TokenSource};
use tower_auth_io::{Transport, World};

use crate::inspection::Inspection;
use proto::{JwtSvid, JwtSvidRequest};

/// A JWT-SVID from the SPIFFE Workload API (`FetchJWTSVID`), as a SPIRE agent serves it at a Unix socket.
///
/// The agent knows the workload by its process and asks for no credential. It keeps JWT-SVIDs and serves the
/// same one until about half of its life is over. A recipient outside of the trust domain needs to find the
/// keys: the SPIRE server must have a `jwt_issuer`, and an OIDC discovery provider must stand there.
///
/// ```
/// use tower_auth_io::{MapEnv, World};
/// use tower_auth_workload::SpiffeWorkloadApi;
///
/// let env = MapEnv::from([("SPIFFE_ENDPOINT_SOCKET", "unix:///run/spire/sockets/agent.sock")]);
/// let source = SpiffeWorkloadApi::new("https://api.anthropic.com", &World::closed().with_env(env))?
///     .with_spiffe_id("spiffe://example.org/reports");
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct SpiffeWorkloadApi {
    transport: Transport,
    /// Where the transport leads, in words.
    place: String,
    spiffe_id: Option<String>,
    hint: Option<String>,
    inspection: Inspection,
}

impl SpiffeWorkloadApi {
    /// A JWT-SVID for this audience, from the agent at `SPIFFE_ENDPOINT_SOCKET`. The variable is read here;
    /// the agent need not have started yet.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) if the variable is not set,
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it names no Unix socket or if the audience is blank.
    #[cfg(unix)]
    pub fn new(audience: impl Into<String>, world: &World) -> Result<Self, Error> {
        let endpoint = world.env().require(VARIABLE).map_err(|error| {
            let error = error.with_source_name(NAME);
            match error.kind() {
                ErrorKind::NotConfigured => {
                    error.with_hint("set it to the agent's socket, as unix:///path/to/agent.sock")
                }
                _ => error,
            }
        })?;
        Self::at(&endpoint, audience, world)
    }

    /// The same from the agent at this endpoint, such as `unix:///run/spire/sockets/agent.sock`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[cfg(unix)]
    pub fn at(endpoint: &str, audience: impl Into<String>, world: &World) -> Result<Self, Error> {
        let path = socket(endpoint).map_err(|error| error.with_source_name(NAME))?;
        let transport = tower_auth_io::UnixClient::new(path)
            .map_err(|error| error.with_source_name(NAME))?
            .transport();
        let mut source = Self::over(transport, audience, world)?;
        source.place = format!("the socket {path}");
        Ok(source)
    }

    /// The same over another way to the agent: a service that speaks HTTP/2 with prior knowledge and puts
    /// the trailers of an answer among its headers.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the audience is blank.
    pub fn over(
        transport: Transport,
        audience: impl Into<String>,
        world: &World,
    ) -> Result<Self, Error> {
        Ok(Self {
            transport,
            place: "a transport of the program's own".to_owned(),
            spiffe_id: None,
            hint: None,
            inspection: Inspection::new(NAME, audience.into(), world)?.of_issuer(),
        })
    }

    /// Asks for the JWT-SVID of this SPIFFE ID, for a workload that has several.
    #[must_use]
    pub fn with_spiffe_id(mut self, spiffe_id: impl Into<String>) -> Self {
        self.spiffe_id = Some(spiffe_id.into());
        self
    }

    /// Takes the JWT-SVID with this hint. Where nothing is said, the first one is taken, which is the
    /// default by the rules of SPIFFE.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    async fn ask(&self, timeout: Duration) -> Result<Token, Error> {
        let message = JwtSvidRequest {
            audience: self.inspection.audience().expected().unwrap_or_default(),
            spiffe_id: self.spiffe_id.as_deref(),
        };
        let request = grpc::request(&message.encode(), timeout)?;
        let uri = request.uri().clone();
        let response = self.transport.send(request).await?;
        let now = self.inspection.clock().now();
        grpc::read(response, now)
            .and_then(|message| self.choose(proto::decode(&message)?))
            .and_then(|svid| Ok(self.inspection.inspect(svid.svid, "the agent's answer")?.0))
            .map_err(|error| error.with_endpoint(&uri))
    }

    fn choose(&self, svids: Vec<JwtSvid>) -> Result<JwtSvid, Error> {
        let offered = svids.len();
        let chosen = svids.into_iter().find(|svid| {
            let has = |wanted: &Option<String>, found: &str| {
                wanted.as_deref().is_none_or(|wanted| wanted == found)
            };
            has(&self.hint, &svid.hint) && has(&self.spiffe_id, &svid.spiffe_id)
        });
        chosen.ok_or_else(|| match offered {
            0 => Error::new(ErrorKind::Malformed, "the agent's answer has no JWT-SVID"),
            _ => Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "the agent has {offered} JWT-SVIDs for this workload, and none with the hint or \
                     SPIFFE ID that is asked for"
                ),
            )
            .with_hint("compare them with the workload's registration entries"),
        })
    }
}

impl TokenSource for SpiffeWorkloadApi {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        self.ask(cx.timeout())
            .await
            .map_err(|error| error.with_source_name(NAME))
    }

    fn describe(&self) -> Description {
        let description = self
            .inspection
            .describe()
            .with_setting("agent", self.place.clone());
        let description = match &self.spiffe_id {
            Some(id) => description.with_setting("SPIFFE ID", id.clone()),
            None => description,
        };
        match &self.hint {
            Some(hint) => description.with_setting("hint", hint.clone()),
            None => description,
        }
    }
}

impl fmt::Debug for SpiffeWorkloadApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpiffeWorkloadApi")
            .field("place", &self.place)
            .field("spiffe_id", &self.spiffe_id)
            .field("hint", &self.hint)
            .field("inspection", &self.inspection)
            .finish_non_exhaustive()
    }
}

/// The path of the socket that an endpoint names (SPIFFE Workload Endpoint, section 4).
#[cfg(unix)]
fn socket(endpoint: &str) -> Result<&str, Error> {
    let invalid = |what: &str| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("the endpoint of the SPIFFE Workload API {what}"),
        )
        .with_hint("write it as unix:///path/to/agent.sock")
    };
    if endpoint.starts_with("tcp:") {
        return Err(invalid(
            "is a TCP address, where the token would travel in clear and any process could ask for it",
        ));
    }
    let Some(rest) = endpoint.strip_prefix("unix:") else {
        return Err(invalid("does not begin with unix:"));
    };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if !path.starts_with('/') || path.starts_with("//") {
        return Err(invalid(
            "has no path that begins with / and no host before it",
        ));
    }
    if path.contains(['?', '#', '%', '\0']) {
        return Err(invalid("has a character that no socket's path should have"));
    }
    Ok(path)
}

#[cfg(unix)]
const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";
const NAME: &str = "spiffe workload api";

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn w93_an_endpoint_is_a_unix_socket_with_a_whole_path() {
        for good in ["unix:/x/s", "unix:///x/s"] {
            assert_eq!(socket(good).unwrap(), "/x/s", "{good}");
        }
        for bad in [
            "",
            "/x/s",
            "unix:",
            "unix:x",
            "unix://x/s",
            "unix:////x",
            "unix:///x?a=b",
            "unix:///x#f",
            "tcp://host:1",
            "tcp://127.0.0.1:1",
            "http://x/s",
            "UNIX:///x",
        ] {
            let error = socket(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{bad}");
            assert!(error.to_string().contains("unix:///path"), "{error}");
        }
    }
}
