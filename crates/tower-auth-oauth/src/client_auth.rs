use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use tower_auth_core::{BoxTokenSource, Error, ErrorKind, Fetch, Fingerprint, Secret, TokenSource};
use zeroize::Zeroizing;

use crate::jws::Signer;
use crate::subject::{self, Scene};
use crate::{Assertion, HmacAlgorithm, SigningKey, form};

/// How the client proves to the token endpoint who it is (RFC 6749 section 2.3). Each request carries
/// exactly one proof.
///
/// ```
/// use tower_auth_oauth::{BasicEncoding, ClientAuth};
///
/// let auth = ClientAuth::secret_basic("reports", "s3cr3t")?;
/// let auth = ClientAuth::secret_post("reports", "s3cr3t")?;
/// let auth = ClientAuth::secret_basic_encoded("reports", "s3cr3t+", BasicEncoding::Raw)?;
/// assert!(!format!("{auth:?}").contains("s3cr3t"));
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientAuth {
    client_id: String,
    method: Method,
}

/// What is done to the client's id and secret before they are joined with a colon and written in base64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BasicEncoding {
    /// Each is form-encoded, as RFC 6749 section 2.3.1 says.
    #[default]
    Rfc6749,
    /// Neither is changed, as RFC 7617 section 2 has it and as many servers expect. It makes a
    /// difference only where one of them has a character other than letters, digits and `*-._`.
    Raw,
}

#[derive(Clone)]
enum Method {
    Basic {
        secret: Secret,
        encoding: BasicEncoding,
    },
    Post {
        secret: Secret,
    },
    Signed(Box<Assertion>, SignedWith),
    Source(BoxTokenSource),
    Tls {
        self_signed: bool,
    },
    None,
    Anonymous,
}

#[derive(Clone, Copy)]
enum SignedWith {
    Key,
    Secret,
}

/// What one request carries to prove who the client is.
pub(crate) struct Proof {
    /// The `Authorization` header.
    pub(crate) authorization: Option<HeaderValue>,
    /// Fields of the form.
    pub(crate) fields: Vec<(&'static str, Secret)>,
    /// Every form in which a secret leaves, so that none of them comes back in an error.
    pub(crate) secrets: Vec<Secret>,
    /// Tells the assertion of another source from the one before.
    pub(crate) external: Option<Fingerprint>,
}

impl ClientAuth {
    /// `client_secret_basic`: id and secret in the `Authorization` header (RFC 6749 section 2.3.1).
    /// What a server supports that does not say (RFC 8414 section 2).
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the id or the secret is blank or has a control
    /// character in it, such as the line break at the end of a file.
    pub fn secret_basic(
        client_id: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> Result<Self, Error> {
        Self::secret_basic_encoded(client_id, secret, BasicEncoding::default())
    }

    /// As [`secret_basic`](Self::secret_basic), with the encoding that this server expects.
    ///
    /// # Errors
    /// As [`secret_basic`](Self::secret_basic).
    pub fn secret_basic_encoded(
        client_id: impl Into<String>,
        secret: impl Into<Secret>,
        encoding: BasicEncoding,
    ) -> Result<Self, Error> {
        let secret = checked_secret(secret.into())?;
        Self::with_method(client_id.into(), Method::Basic { secret, encoding })
    }

    /// `client_secret_post`: id and secret in the form (RFC 6749 section 2.3.1).
    ///
    /// # Errors
    /// As [`secret_basic`](Self::secret_basic).
    pub fn secret_post(
        client_id: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> Result<Self, Error> {
        let secret = checked_secret(secret.into())?;
        Self::with_method(client_id.into(), Method::Post { secret })
    }

    /// `client_secret_jwt`: an assertion that is signed with the secret (OpenID Connect Core 1.0 section
    /// 9). The secret itself is not sent.
    ///
    /// # Errors
    /// As [`secret_basic`](Self::secret_basic), and if the secret is shorter than the hash
    /// (RFC 7518 section 3.2).
    pub fn secret_jwt(
        client_id: impl Into<String>,
        secret: impl Into<Secret>,
        algorithm: HmacAlgorithm,
    ) -> Result<Self, Error> {
        let (client_id, secret) = (client_id.into(), checked_secret(secret.into())?);
        let (length, least) = (secret.expose().len(), algorithm.shortest_secret());
        if length < least {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "client_secret has {length} bytes, {} needs at least {least}",
                    algorithm.as_str()
                ),
            ));
        }
        let key = algorithm.key(secret.expose().as_bytes());
        let assertion =
            Assertion::signed_by(Signer::Hmac(algorithm, Box::new(key)), client_id.clone());
        Self::with_method(
            client_id,
            Method::Signed(Box::new(assertion), SignedWith::Secret),
        )
    }

    /// `private_key_jwt`: an assertion that is signed with a key whose public half the server knows
    /// (RFC 7523 section 2.2). Its audience is the URL of the token endpoint; see
    /// [`assertion`](Self::assertion) for another one.
    ///
    /// # Errors
    /// As [`none`](Self::none).
    pub fn private_key_jwt(client_id: impl Into<String>, key: SigningKey) -> Result<Self, Error> {
        let client_id = client_id.into();
        let assertion = Assertion::new(key, client_id.clone());
        Self::assertion(client_id, assertion)
    }

    /// `private_key_jwt` with an assertion that is set up as this server wants it.
    ///
    /// # Errors
    /// As [`none`](Self::none).
    pub fn assertion(client_id: impl Into<String>, assertion: Assertion) -> Result<Self, Error> {
        Self::with_method(
            client_id.into(),
            Method::Signed(Box::new(assertion), SignedWith::Key),
        )
    }

    /// An assertion that somebody else signs: the identity that a cloud, a cluster or a CI job gives the
    /// program (RFC 7521 section 4.2). The source is asked for each request and must not be behind a
    /// cache, because files rotate.
    ///
    /// Where the server does not accept the client, the source is asked once more, and if it has another
    /// assertion by then, that one is tried.
    ///
    /// # Errors
    /// As [`none`](Self::none).
    pub fn assertion_from(
        client_id: impl Into<String>,
        source: impl TokenSource,
    ) -> Result<Self, Error> {
        Self::with_method(client_id.into(), Method::Source(source.boxed()))
    }

    /// `tls_client_auth`: the certificate of the connection, which an authority that the server trusts
    /// has issued (RFC 8705 section 2.1). The transport has to show it; of the form it takes the id
    /// alone.
    ///
    /// # Errors
    /// As [`none`](Self::none).
    pub fn tls(client_id: impl Into<String>) -> Result<Self, Error> {
        Self::with_method(client_id.into(), Method::Tls { self_signed: false })
    }

    /// `self_signed_tls_client_auth`: as [`tls`](Self::tls), with a certificate that the server knows by
    /// itself (RFC 8705 section 2.2).
    ///
    /// # Errors
    /// As [`none`](Self::none).
    pub fn self_signed_tls(client_id: impl Into<String>) -> Result<Self, Error> {
        Self::with_method(client_id.into(), Method::Tls { self_signed: true })
    }

    /// No client at all: the grant says everything (RFC 7523 section 2.1).
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            client_id: String::new(),
            method: Method::Anonymous,
        }
    }

    /// `none`: the id alone, in the form. The server knows the client by other means, or does not care.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the id is blank or has a control character in it.
    pub fn none(client_id: impl Into<String>) -> Result<Self, Error> {
        Self::with_method(client_id.into(), Method::None)
    }

    /// The name of the method in the registry of RFC 8414 section 2.
    fn method(&self) -> &'static str {
        match self.method {
            Method::Basic { .. } => "client_secret_basic",
            Method::Post { .. } => "client_secret_post",
            Method::Signed(_, SignedWith::Secret) => "client_secret_jwt",
            Method::Signed(_, SignedWith::Key) | Method::Source(_) => "private_key_jwt",
            Method::Tls { self_signed: false } => "tls_client_auth",
            Method::Tls { self_signed: true } => "self_signed_tls_client_auth",
            Method::None | Method::Anonymous => "none",
        }
    }

    /// Whether the certificate of the connection is the proof, so that the endpoint for such connections
    /// is to be used (RFC 8705 section 5).
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.method, Method::Tls { .. })
    }

    fn with_method(client_id: String, method: Method) -> Result<Self, Error> {
        check("client_id", &client_id)?;
        Ok(Self { client_id, method })
    }

    /// A new proof. It is made for each attempt, because some proofs are good for one request only.
    pub(crate) async fn prove(&self, cx: &Fetch, scene: &Scene<'_>) -> Result<Proof, Error> {
        let id = ("client_id", Secret::from(self.client_id.as_str()));
        let fields = |fields, secrets| Proof {
            authorization: None,
            fields,
            secrets,
            external: None,
        };
        Ok(match &self.method {
            Method::Basic { secret, encoding } => {
                let (authorization, credentials) = basic(&self.client_id, secret, *encoding)?;
                let mut secrets = sent_forms(secret);
                secrets.push(credentials);
                Proof {
                    authorization: Some(authorization),
                    ..fields(Vec::new(), secrets)
                }
            }
            Method::Post { secret } => fields(
                vec![id, ("client_secret", secret.clone())],
                sent_forms(secret),
            ),
            Method::Signed(assertion, _) => {
                let assertion = assertion.sign(scene.world, scene.audience)?;
                fields(with_assertion(id, assertion.clone()), vec![assertion])
            }
            Method::Source(source) => {
                let assertion = subject::ask(source, cx, scene, "client_assertion").await?;
                Proof {
                    external: Some(assertion.fingerprint()),
                    ..fields(
                        with_assertion(id, assertion.clone()),
                        sent_forms(&assertion),
                    )
                }
            }
            Method::Tls { .. } | Method::None => fields(vec![id], Vec::new()),
            Method::Anonymous => fields(Vec::new(), Vec::new()),
        })
    }

    /// The encoding to try when the server does not accept the client, where it makes a difference.
    pub(crate) fn other_encoding(&self) -> Option<BasicEncoding> {
        let Method::Basic { secret, encoding } = &self.method else {
            return None;
        };
        let differs = |text: &str| *form::encode_value(text) != text;
        (differs(&self.client_id) || differs(secret.expose())).then_some(match encoding {
            BasicEncoding::Rfc6749 => BasicEncoding::Raw,
            BasicEncoding::Raw => BasicEncoding::Rfc6749,
        })
    }
}

/// Shows the id and the method, never the secret.
impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ClientAuth");
        shown
            .field("client_id", &self.client_id)
            .field("method", &self.method());
        match &self.method {
            Method::Basic { encoding, .. } => shown.field("encoding", encoding),
            Method::Signed(assertion, _) => shown.field("assertion", assertion),
            Method::Source(source) => shown.field("assertion_from", source),
            _ => &mut shown,
        };
        shown.finish_non_exhaustive()
    }
}

fn with_assertion(
    client_id: (&'static str, Secret),
    assertion: Secret,
) -> Vec<(&'static str, Secret)> {
    vec![
        client_id,
        ("client_assertion_type", Secret::from(ASSERTION_TYPE)),
        ("client_assertion", assertion),
    ]
}

/// The header, and what stands after its scheme.
fn basic(
    client_id: &str,
    secret: &Secret,
    encoding: BasicEncoding,
) -> Result<(HeaderValue, Secret), Error> {
    let encode = |text: &str| match encoding {
        BasicEncoding::Rfc6749 => form::encode_value(text),
        BasicEncoding::Raw => Zeroizing::new(text.to_owned()),
    };
    let (id, password) = (encode(client_id), encode(secret.expose()));
    let mut pair = Zeroizing::new(String::with_capacity(id.len() + 1 + password.len()));
    pair.push_str(&id);
    pair.push(':');
    pair.push_str(&password);
    let credentials = Secret::new(BASE64_STANDARD.encode(pair.as_bytes()));

    let mut header = String::with_capacity("Basic ".len() + credentials.expose().len());
    header.push_str("Basic ");
    header.push_str(credentials.expose());
    let mut header = HeaderValue::from_maybe_shared(form::wiped(header)).map_err(|_| {
        Error::new(
            ErrorKind::InvalidConfig,
            "client_id and client_secret do not make a header",
        )
    })?;
    header.set_sensitive(true);
    Ok((header, credentials))
}

/// A secret as it is and as a form has it.
pub(crate) fn sent_forms(secret: &Secret) -> Vec<Secret> {
    let encoded = form::encode_value(secret.expose());
    let mut forms = vec![secret.clone()];
    if *encoded != secret.expose() {
        forms.push(Secret::from(encoded.as_str()));
    }
    forms
}

fn checked_secret(secret: Secret) -> Result<Secret, Error> {
    check("client_secret", secret.expose())?;
    Ok(secret)
}

/// Neither may have a control character in it (RFC 6749 appendices A.1 and A.2). Characters beyond ASCII
/// are let through: they are against the grammar and in use.
fn check(setting: &str, text: &str) -> Result<(), Error> {
    let problem = if text.trim().is_empty() {
        "must not be blank"
    } else if text.chars().any(char::is_control) {
        "has a line break or another control character in it; remove it"
    } else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::InvalidConfig,
        format!("{setting} {problem}"),
    ))
}

/// The only type of assertion in use (RFC 7523 section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
