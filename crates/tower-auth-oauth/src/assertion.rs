use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tower_auth_core::{Error, ErrorKind, Secret};
use tower_auth_io::World;

use crate::jws::{self, Signer};
use crate::{Certificates, SigningKey};

/// A JWT that is signed here (RFC 7523): it proves who the client is, or is a grant by itself.
///
/// A new one is written for each request, with a `jti` of its own, because a server may take each only
/// once. It lives for a minute where nothing else is said, and never for more than five.
///
/// ```
/// use std::time::Duration;
/// use tower_auth_oauth::{Assertion, ClientAuth, SigningKey};
///
/// let key = SigningKey::generate()?.with_key_id("2030-01");
/// let assertion = Assertion::new(key, "reports")
///     .with_audience("https://login.example.com")
///     .with_lifetime(Duration::from_secs(30))?;
/// let auth = ClientAuth::assertion("reports", assertion)?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Assertion {
    signer: Signer,
    issuer: String,
    subject: String,
    audience: Option<String>,
    lifetime: Duration,
    backdate: Duration,
    not_before: bool,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Assertion {
    /// How long an assertion lives at most.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(300);

    /// An assertion by this party about itself: `iss` and `sub` are the same, as those of a client are
    /// its id (RFC 7523 section 3).
    pub fn new(key: SigningKey, issuer: impl Into<String>) -> Self {
        Self::signed_by(Signer::Key(key), issuer.into())
    }

    pub(crate) fn signed_by(signer: Signer, issuer: String) -> Self {
        Self {
            signer,
            subject: issuer.clone(),
            issuer,
            audience: None,
            lifetime: Duration::from_secs(60),
            backdate: Duration::ZERO,
            not_before: false,
            header: Map::new(),
            claims: Map::new(),
        }
    }

    /// Who it is about, where that is not the issuer: the user or account of a grant.
    #[must_use]
    pub fn with_subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// Who it is for. The URL of the token endpoint where this is not called; some want the identifier
    /// of the issuer instead.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// How long it lives: a minute where this is not called.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if that is less than a second or more than
    /// [`MAX_LIFETIME`](Self::MAX_LIFETIME).
    pub fn with_lifetime(mut self, lifetime: Duration) -> Result<Self, Error> {
        if lifetime < Duration::from_secs(1) || lifetime > Self::MAX_LIFETIME {
            return Err(invalid("an assertion must live for 1 to 300 seconds"));
        }
        self.lifetime = lifetime;
        Ok(self)
    }

    /// Lets it begin this much before now, for a server whose clock is late; at most 30 s. Its life is
    /// counted from there.
    #[must_use]
    pub fn with_backdate(mut self, backdate: Duration) -> Self {
        self.backdate = backdate.min(Duration::from_secs(30));
        self
    }

    /// Says from when on it is good (`nbf`), for servers that want to be told.
    #[must_use]
    pub fn with_not_before(mut self) -> Self {
        self.not_before = true;
        self
    }

    /// Names the key's certificate in the header (`x5t#S256`).
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the certificate is for another key.
    pub fn with_certificate_thumbprint(
        mut self,
        certificates: &Certificates,
    ) -> Result<Self, Error> {
        self.check(certificates)?;
        self.put_header("x5t#S256", Value::String(certificates.thumbprint()));
        Ok(self)
    }

    /// Sends the certificates in the header (`x5c`), for servers that trust who issued them.
    ///
    /// # Errors
    /// As [`with_certificate_thumbprint`](Self::with_certificate_thumbprint).
    pub fn with_certificate_chain(mut self, certificates: &Certificates) -> Result<Self, Error> {
        self.check(certificates)?;
        self.put_header("x5c", Value::from(certificates.chain()));
        Ok(self)
    }

    /// Adds a member to the header.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is `alg`, `kid`, `crit` or `b64`: the key has
    /// the first two, and the others change how the assertion is written. `typ` is replaced.
    pub fn with_header(
        mut self,
        name: impl Into<String>,
        value: impl Into<Value>,
    ) -> Result<Self, Error> {
        let name = name.into();
        if matches!(name.as_str(), "alg" | "kid" | "crit" | "b64") {
            return Err(invalid(format!(
                "{name} must not be added to the header of an assertion"
            )));
        }
        self.put_header(&name, value.into());
        Ok(self)
    }

    /// Adds a claim.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is `iss`, `sub`, `aud`, `exp`, `iat`, `nbf` or
    /// `jti`, which have settings of their own.
    pub fn with_claim(
        mut self,
        name: impl Into<String>,
        value: impl Into<Value>,
    ) -> Result<Self, Error> {
        let name = name.into();
        if matches!(
            name.as_str(),
            "iss" | "sub" | "aud" | "exp" | "iat" | "nbf" | "jti"
        ) {
            return Err(invalid(format!(
                "claim {name} must not be added to an assertion, it is set by the assertion"
            )));
        }
        self.claims.insert(name, value.into());
        Ok(self)
    }

    /// Writes and signs one. `audience` is what it is for where
    /// [`with_audience`](Self::with_audience) was not called.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if there are no random numbers,
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the clock stands before 1970.
    pub fn sign(&self, world: &World, audience: &str) -> Result<Secret, Error> {
        let now = unix_seconds(world.clock().now())?;
        let mut claims = self.claims.clone();
        let mut put = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        put("iss", self.issuer.as_str().into());
        put("sub", self.subject.as_str().into());
        put("aud", self.audience.as_deref().unwrap_or(audience).into());
        let begin = now.saturating_sub(self.backdate.as_secs());
        put("iat", begin.into());
        if self.not_before {
            put("nbf", begin.into());
        }
        // The whole life, counted from `iat`, is what a server compares with its limit.
        let end = begin.saturating_add(self.lifetime.as_secs());
        put("exp", end.max(now.saturating_add(1)).into());
        put("jti", world.random().uuid()?.into());

        let mut header = self.header.clone();
        header.insert("alg".to_owned(), self.signer.algorithm().into());
        if let Some(key_id) = self.signer.key_id() {
            header.insert("kid".to_owned(), key_id.into());
        }
        header.entry("typ").or_insert_with(|| Value::from("JWT"));
        let header = jws::encode(&Value::Object(header).to_string());
        jws::write(&header, &Value::Object(claims).to_string(), |message| {
            self.signer.sign(message)
        })
        .map(Secret::new)
    }

    fn put_header(&mut self, name: &str, value: Value) {
        self.header.insert(name.to_owned(), value);
    }

    fn check(&self, certificates: &Certificates) -> Result<(), Error> {
        match &self.signer {
            Signer::Key(key) if key.is_certified_by(certificates.leaf()) => Ok(()),
            _ => Err(invalid(
                "the certificate is not one for the private key; the first certificate must be the key's",
            )),
        }
    }
}

/// Shows what it says and how it is signed; of further claims and members of the header, their names.
impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertion")
            .field("algorithm", &self.signer.algorithm())
            .field("key_id", &self.signer.key_id())
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .field("audience", &self.audience)
            .field("lifetime", &self.lifetime)
            .field("header", &self.header.keys().collect::<Vec<_>>())
            .field("claims", &self.claims.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// The claims of a JWT count seconds since 1970 (RFC 7519 section 2).
pub(crate) fn unix_seconds(now: SystemTime) -> Result<u64, Error> {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .map(|since| since.as_secs())
        .map_err(|_| invalid("the clock of this machine stands before 1970; set it"))
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}
