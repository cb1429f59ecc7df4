use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use tower_auth_core::{Error, ErrorKind, Fetch, Fingerprint, Reason, Secret};
use tower_auth_io::{EndpointUrl, World};

use crate::client_auth::{Proof, sent_forms};
use crate::grant::Gathered;
use crate::subject::{Scene, again};
use crate::{ClientAuth, Grant, ResponseReader, TokenResponse, form};

/// A token endpoint (RFC 6749 section 3.2) and the world it is reached through.
///
/// It writes strictly and reads generously: one form, one proof of who the client is, no redirect
/// followed; see [`ResponseReader`] for what comes back.
///
/// ```
/// use tower_auth_io::World;
/// use tower_auth_oauth::TokenEndpoint;
///
/// # let world = World::closed();
/// let endpoint = TokenEndpoint::new("https://login.example.com/token", &world)?;
/// let error = TokenEndpoint::new("http://login.example.com/token", &world).unwrap_err();
/// assert!(error.to_string().contains("must be an https URL"));
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    url: EndpointUrl,
    world: World,
    reader: ResponseReader,
}

/// A request, ready to be sent.
struct Written {
    request: Request<bytes::Bytes>,
    secrets: Vec<Secret>,
    /// What other sources gave for it.
    external: Vec<Fingerprint>,
}

impl TokenEndpoint {
    /// The token endpoint at this URL.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is neither `https` nor `http` to this machine.
    pub fn new(url: &str, world: &World) -> Result<Self, Error> {
        let url = EndpointUrl::parse("the token endpoint", url)?;
        Ok(Self::at(url, world))
    }

    /// The token endpoint at a URL that has been parsed already, from a setting with a name.
    #[must_use]
    pub fn at(url: EndpointUrl, world: &World) -> Self {
        Self {
            url,
            world: world.clone(),
            reader: ResponseReader::new(),
        }
    }

    /// Reads the answers in this way.
    #[must_use]
    pub fn with_reader(mut self, reader: ResponseReader) -> Self {
        self.reader = reader;
        self
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> &EndpointUrl {
        &self.url
    }

    /// Asks once for a token.
    ///
    /// Where the issuer refuses a token that another source gave, that source is asked once more; if it
    /// has another one by now, because a file was rotated in between, the issuer is asked with that one.
    ///
    /// # Errors
    /// Those of [`Transport::send`](tower_auth_io::Transport::send) and of [`ResponseReader::read`], and
    /// whatever the source of a proof or a grant says; all but the last name the endpoint.
    pub async fn request(
        &self,
        cx: &Fetch,
        grant: &Grant,
        auth: &ClientAuth,
    ) -> Result<TokenResponse, Error> {
        let written = self.write(&self.url, cx, grant, auth).await?;
        let external = written.external.clone();
        let error = match self.exchange(&self.url, written, auth).await {
            Err(error) if !external.is_empty() && refuses_a_token(&error) => error,
            Ok(response) => {
                if grant.is_exchange() && response.issued_token_type().is_none() {
                    tracing::warn!(
                        endpoint = %self.url,
                        "the answer to a token exchange has no issued_token_type; \
                         it is taken for an access token",
                    );
                }
                return Ok(response);
            }
            failed => return failed,
        };
        let cx = again(cx, Reason::Rejected);
        match self.write(&self.url, &cx, grant, auth).await {
            Ok(written) if written.external != external => {
                self.exchange(&self.url, written, auth).await
            }
            // What the issuer said tells more than what the source says now.
            _ => Err(error),
        }
    }

    async fn exchange(
        &self,
        url: &EndpointUrl,
        written: Written,
        auth: &ClientAuth,
    ) -> Result<TokenResponse, Error> {
        let response = self.world.transport().send(written.request).await?;
        let secrets: Vec<&Secret> = written.secrets.iter().collect();
        self.reader
            .read_with_hint(
                response,
                &secrets,
                self.world.clock().now(),
                auth.other_encoding(),
            )
            .map_err(|error| error.with_endpoint(url.uri()))
    }

    /// Everything in it that is good for one request only is made anew.
    async fn write(
        &self,
        url: &EndpointUrl,
        cx: &Fetch,
        grant: &Grant,
        auth: &ClientAuth,
    ) -> Result<Written, Error> {
        let audience = url.uri().to_string();
        let scene = Scene {
            world: &self.world,
            audience: &audience,
        };
        let gathered = grant.gather(cx, &scene).await?;
        let proof = auth.prove(cx, &scene).await?;
        let request = request(url, grant, &gathered, &proof)?;
        let mut secrets = proof.secrets;
        for secret in grant.secrets().chain(&gathered.secrets) {
            secrets.extend(sent_forms(secret));
        }
        let mut external = gathered.external;
        external.extend(proof.external);
        Ok(Written {
            request,
            secrets,
            external,
        })
    }
}

fn request(
    url: &EndpointUrl,
    grant: &Grant,
    gathered: &Gathered,
    proof: &Proof,
) -> Result<Request<bytes::Bytes>, Error> {
    let fields = grant.fields();
    let made = gathered.fields.iter().chain(&proof.fields);
    let form = fields
        .iter()
        .map(|(name, value)| (*name, &**value))
        .chain(made.map(|(name, value)| (*name, value.expose())));
    let mut request = Request::post(url.uri().clone())
        .header(CONTENT_TYPE, HeaderValue::from_static(form::CONTENT_TYPE))
        .header(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(authorization) = &proof.authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    request.body(form::encode(form)).map_err(|cause| {
        Error::new(
            ErrorKind::InvalidConfig,
            "no request can be made for the token endpoint",
        )
        .with_cause(cause)
    })
}

/// Whether it may be the token of another source that is not accepted.
fn refuses_a_token(error: &Error) -> bool {
    error.kind() == ErrorKind::Denied
        && (error.status() == Some(StatusCode::UNAUTHORIZED)
            || matches!(error.code(), Some("invalid_client" | "invalid_grant")))
}
