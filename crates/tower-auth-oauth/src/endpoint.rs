use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use tower_auth_core::{Error, ErrorKind, Fetch, Fingerprint, Reason, Secret};
use tower_auth_io::{EndpointUrl, World};

use crate::client_auth::{Proof, sent_forms};
use crate::dpop::{PROOF, Party, USE_NONCE};
use crate::grant::Gathered;
use crate::subject::{Scene, again};
use crate::{ClientAuth, Discovery, Dpop, Grant, ResponseReader, TokenResponse, form};

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
    place: Place,
    world: World,
    reader: ResponseReader,
    dpop: Option<Dpop>,
}

#[derive(Clone, Debug)]
enum Place {
    Known(EndpointUrl),
    Discovered(Box<Discovery>),
}

/// A request, ready to be sent.
struct Written {
    request: Request<bytes::Bytes>,
    secrets: Vec<Secret>,
    /// What other sources gave for it.
    external: Vec<Fingerprint>,
    /// The nonce in its proof.
    nonce: Option<Arc<str>>,
}

/// What came back.
struct Answered {
    outcome: Result<TokenResponse, Error>,
    /// The nonce that came with it.
    nonce: Option<Arc<str>>,
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
        Self::in_place(Place::Known(url), world.clone())
    }

    /// The token endpoint that the issuer names. It is looked up with the first token.
    #[must_use]
    pub fn discovered(discovery: Discovery) -> Self {
        let world = discovery.world().clone();
        Self::in_place(Place::Discovered(Box::new(discovery)), world)
    }

    /// Reads the answers in this way.
    #[must_use]
    pub fn with_reader(mut self, reader: ResponseReader) -> Self {
        self.reader = reader;
        self
    }

    /// Proves with each request that the client holds this key, so that the tokens are bound to it
    /// (RFC 9449 section 5).
    #[must_use]
    pub fn with_dpop(mut self, dpop: Dpop) -> Self {
        self.dpop = Some(dpop);
        self
    }

    /// The URL; that of the issuer, where the endpoint is discovered.
    #[must_use]
    pub fn url(&self) -> &EndpointUrl {
        match &self.place {
            Place::Known(url) => url,
            Place::Discovered(discovery) => discovery.url(),
        }
    }

    /// Asks once for a token.
    ///
    /// Two answers are a part of the protocol and not a refusal, and are followed by another request:
    ///
    /// - The issuer demands a nonce in the DPoP proof (RFC 9449 section 8). It gets one, with everything
    ///   else that is good for one request made anew; a second time if it then names another nonce.
    /// - The issuer refuses a token that another source gave. That source is asked once more, and if it
    ///   has another token by now, because a file was rotated in between, the issuer gets that one.
    ///
    /// # Errors
    /// Those of [`Transport::send`](tower_auth_io::Transport::send), of [`ResponseReader::read`] and of
    /// [`Discovery::metadata`], and whatever the source of a proof or a grant says; all but the last
    /// name the endpoint. [`Malformed`](ErrorKind::Malformed) if the token is a bearer token in spite of
    /// a DPoP proof.
    pub async fn request(
        &self,
        cx: &Fetch,
        grant: &Grant,
        auth: &ClientAuth,
    ) -> Result<TokenResponse, Error> {
        let url = self.locate(auth).await?;
        let mut cx = cx.clone();
        let (mut nonces, mut has_asked_again) = (0, false);
        let mut written = self.write(&url, &cx, grant, auth).await?;
        loop {
            let (external, sent) = (written.external.clone(), written.nonce.clone());
            let Answered { outcome, nonce } = self.exchange(&url, written, auth).await;
            let error = match outcome {
                Ok(response) => {
                    if grant.is_exchange() && response.issued_token_type().is_none() {
                        tell_about_missing_type(&url);
                    }
                    return Ok(response);
                }
                Err(error) => error,
            };
            if self.dpop.is_some() && error.code() == Some(USE_NONCE) {
                if let Some(problem) = unanswerable(nonce.as_deref(), sent.as_deref(), nonces) {
                    return Err(error.with_hint(problem));
                }
                nonces += 1;
                written = self.write(&url, &cx, grant, auth).await?;
                continue;
            }
            if has_asked_again || external.is_empty() || !refuses_a_token(&error) {
                return Err(error);
            }
            has_asked_again = true;
            cx = again(&cx, Reason::Rejected);
            match self.write(&url, &cx, grant, auth).await {
                Ok(next) if next.external != external => written = next,
                // What the issuer said tells more than what the source says now.
                _ => return Err(error),
            }
        }
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    async fn locate(&self, auth: &ClientAuth) -> Result<EndpointUrl, Error> {
        let discovery = match &self.place {
            Place::Known(url) => return Ok(url.clone()),
            Place::Discovered(discovery) => discovery,
        };
        let metadata = discovery.metadata().await?;
        let alias = metadata.mtls_token_endpoint().filter(|_| auth.is_tls());
        Ok(alias.unwrap_or(metadata.token_endpoint()).clone())
    }

    async fn exchange(&self, url: &EndpointUrl, written: Written, auth: &ClientAuth) -> Answered {
        let response = match self.world.transport().send(written.request).await {
            Ok(response) => response,
            Err(error) => {
                return Answered {
                    outcome: Err(error),
                    nonce: None,
                };
            }
        };
        let nonce = match (&self.dpop, url.origin()) {
            (Some(dpop), Ok(origin)) => dpop.learn(Party::Issuer, origin, response.headers()),
            _ => None,
        };
        let now = self.world.clock().now();
        let skew = skew(response.headers(), now);
        let secrets: Vec<&Secret> = written.secrets.iter().collect();
        let outcome = self
            .reader
            .read_with_hint(response, &secrets, now, auth.other_encoding())
            .map_err(|error| match skew {
                _ if error.kind() != ErrorKind::Denied || error.hint().is_some() => error,
                Some(skew) => error.with_hint(skew),
                None if auth.is_tls() && error.code() == Some("invalid_client") => {
                    error.with_hint("does the transport show the client's certificate?")
                }
                None => error,
            })
            .and_then(|response| self.admit(response))
            .map_err(|error| error.with_endpoint(url.uri()));
        Answered { outcome, nonce }
    }

    /// A token that is bound to no key is not what was asked for.
    fn admit(&self, response: TokenResponse) -> Result<TokenResponse, Error> {
        match &self.dpop {
            None => Ok(response),
            Some(dpop) if response.is_bearer() && !dpop.accepts_bearer() => Err(Error::new(
                ErrorKind::Malformed,
                "the issuer gave a Bearer token in spite of the DPoP proof, so whoever gets hold of it \
                 can use it",
            )
            .with_hint("have the client set up for DPoP, or accept bearer tokens")),
            Some(_) => Ok(response.proved()),
        }
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
        let mut request = request(url, grant, &gathered, &proof)?;
        let nonce = match &self.dpop {
            Some(dpop) => {
                let origin = url.origin()?;
                let nonce = dpop.nonce(Party::Issuer, &origin);
                let (uri, now) = (url.uri(), self.world.clock().now());
                let key = dpop.prove(&Method::POST, uri, &origin, None, nonce.as_deref(), now)?;
                request.headers_mut().insert(PROOF, key);
                nonce
            }
            None => None,
        };
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
            nonce,
        })
    }

    fn in_place(place: Place, world: World) -> Self {
        Self {
            place,
            world,
            reader: ResponseReader::new(),
            dpop: None,
        }
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

/// Why a demand for a nonce is not answered with another request, if it is not.
fn unanswerable(nonce: Option<&str>, sent: Option<&str>, rounds: usize) -> Option<&'static str> {
    match nonce {
        None => Some("it demands a nonce and gave none in one DPoP-Nonce header"),
        Some(_) if nonce == sent => Some("it demands the nonce that it was sent"),
        Some(_) if rounds >= MOST_NONCES => Some("it demands another nonce each time"),
        Some(_) => None,
    }
}

/// What to say where the clocks differ: signed proofs are refused then, and nothing else tells why.
fn skew(headers: &HeaderMap, now: SystemTime) -> Option<String> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let theirs = httpdate::parse_http_date(date).ok()?;
    let (by, which) = match now.duration_since(theirs) {
        Ok(by) => (by, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    (by > TOLERATED_SKEW).then(|| {
        format!(
            "the clock of this machine is {} s {which} the issuer's",
            by.as_secs()
        )
    })
}

fn tell_about_missing_type(url: &EndpointUrl) {
    tracing::warn!(
        endpoint = %url,
        "the answer to a token exchange has no issued_token_type; it is taken for an access token",
    );
}

/// How often a demand for a nonce is answered: the second time, the nonce ran out on the way.
const MOST_NONCES: usize = 2;
const TOLERATED_SKEW: Duration = Duration::from_secs(60);
