use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request};
use tower_auth_core::{Error, ErrorKind, Fetch, Secret};
use tower_auth_io::{EndpointUrl, World};

use crate::client_auth::{Proof, sent_forms};
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
    /// # Errors
    /// Those of [`Transport::send`](tower_auth_io::Transport::send) and of [`ResponseReader::read`], and whatever the source of a
    /// proof says; all of them name the endpoint.
    pub async fn request(
        &self,
        cx: &Fetch,
        grant: &Grant,
        auth: &ClientAuth,
    ) -> Result<TokenResponse, Error> {
        let proof = auth.prove(cx).await?;
        let request = self.write(grant, &proof)?;
        let response = self.world.transport().send(request).await?;
        let mut secrets = proof.secrets;
        for secret in grant.secrets() {
            secrets.extend(sent_forms(secret));
        }
        let secrets: Vec<&Secret> = secrets.iter().collect();
        self.reader
            .read_with_hint(
                response,
                &secrets,
                self.world.clock().now(),
                auth.other_encoding(),
            )
            .map_err(|error| error.with_endpoint(self.url.uri()))
    }

    fn write(&self, grant: &Grant, proof: &Proof) -> Result<Request<bytes::Bytes>, Error> {
        let fields = grant.fields();
        let form = fields.iter().map(|(name, value)| (*name, &**value)).chain(
            proof
                .fields
                .iter()
                .map(|(name, value)| (*name, value.expose())),
        );
        let mut request = Request::post(self.url.uri().clone())
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
}
