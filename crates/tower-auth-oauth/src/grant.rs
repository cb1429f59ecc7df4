use std::borrow::Cow;
use std::fmt;

use tower_auth_core::{Error, ErrorKind, Fetch, Fingerprint, Secret, TokenSource};

use crate::subject::{Scene, Subject};
use crate::{Assertion, TokenType};

/// What a token is asked for, and with what right (RFC 6749 section 1.3): the fields of a token request
/// except those that prove who the client is.
///
/// ```
/// use tower_auth_oauth::Grant;
///
/// let grant = Grant::client_credentials()
///     .with_scope("orders.read orders.write")
///     .with_resource("https://orders.example.com/")
///     .with_parameter("organization", "org_1")?;
/// # let _ = grant;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Grant {
    kind: Kind,
    scopes: Vec<String>,
    resources: Vec<String>,
    audiences: Vec<String>,
    parameters: Vec<(Cow<'static, str>, Value)>,
}

#[derive(Clone)]
enum Kind {
    ClientCredentials,
    RefreshToken(Secret),
    JwtBearer(Subject),
    TokenExchange(Box<Exchange>),
}

/// The fields that only a token exchange has (RFC 8693 section 2.1).
#[derive(Clone)]
struct Exchange {
    subject: Subject,
    subject_type: TokenType,
    actor: Option<(Subject, TokenType)>,
    requested: Option<TokenType>,
}

/// The fields that are made anew for each request.
pub(crate) struct Gathered {
    pub(crate) fields: Vec<(&'static str, Secret)>,
    /// Those that must not come back in an error.
    pub(crate) secrets: Vec<Secret>,
    /// Tells what other sources gave from what they gave before.
    pub(crate) external: Vec<Fingerprint>,
}

#[derive(Clone)]
enum Value {
    Plain(String),
    Secret(Secret),
}

impl Grant {
    /// The client's own right (RFC 6749 section 4.4).
    #[must_use]
    pub fn client_credentials() -> Self {
        Self::of(Kind::ClientCredentials)
    }

    /// A refresh token (RFC 6749 section 6). [`RefreshToken`](crate::RefreshToken) keeps one
    /// that changes with each use; this grant sends the one that it is given.
    pub fn refresh_token(token: impl Into<Secret>) -> Self {
        Self::of(Kind::RefreshToken(token.into()))
    }

    /// A JWT that somebody else has signed (RFC 7523 section 2.1). The source is asked for each request
    /// and must not be behind a cache.
    pub fn jwt_bearer(source: impl TokenSource) -> Self {
        Self::of(Kind::JwtBearer(Subject::Source(source.boxed())))
    }

    /// A JWT that is signed here, for a user or an account that trusts the key (RFC 7523 section 2.1).
    #[must_use]
    pub fn signed_jwt_bearer(assertion: Assertion) -> Self {
        Self::of(Kind::JwtBearer(Subject::Signed(Box::new(assertion))))
    }

    /// A token in exchange for another one (RFC 8693). The source of the subject is asked for each
    /// request and must not be behind a cache.
    ///
    /// ```
    /// use tower_auth_core::bearer_fn;
    /// use tower_auth_oauth::{Grant, TokenType};
    ///
    /// let workload = bearer_fn(|| async { Ok("eyJ…") });
    /// let grant = Grant::token_exchange(workload, TokenType::JWT).with_audience("orders");
    /// # let _ = grant;
    /// ```
    pub fn token_exchange(subject: impl TokenSource, subject_type: TokenType) -> Self {
        Self::of(Kind::TokenExchange(Box::new(Exchange {
            subject: Subject::Source(subject.boxed()),
            subject_type,
            actor: None,
            requested: None,
        })))
    }

    /// Adds who acts for the subject of a token exchange (`actor_token`, RFC 8693 section 2.1).
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if this is another grant.
    pub fn with_actor(self, actor: impl TokenSource, actor_type: TokenType) -> Result<Self, Error> {
        self.change_exchange("actor_token", |exchange| {
            exchange.actor = Some((Subject::Source(actor.boxed()), actor_type));
        })
    }

    /// Sets what a token exchange is to give (`requested_token_type`, RFC 8693 section 2.1).
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if this is another grant.
    pub fn with_requested_token_type(self, requested: TokenType) -> Result<Self, Error> {
        self.change_exchange("requested_token_type", |exchange| {
            exchange.requested = Some(requested);
        })
    }

    /// Adds one scope, or several with blanks between them (RFC 6749 section 3.3). They are sent in the
    /// order in which they were given.
    #[must_use]
    pub fn with_scope(mut self, scope: &str) -> Self {
        self.scopes
            .extend(scope.split_whitespace().map(str::to_owned));
        self
    }

    /// Adds the URI of an API that the token is for (RFC 8707 section 2). May be called more than once.
    #[must_use]
    pub fn with_resource(mut self, uri: impl Into<String>) -> Self {
        self.resources.push(uri.into());
        self
    }

    /// Adds the name of an API that the token is for. The grant of RFC 6749 knows no such field; Auth0,
    /// Ping and others want it. May be called more than once (RFC 8693 section 2.1).
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Adds a field that this issuer wants.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the name is blank, or is that of a field that is
    /// written from another setting: a field must not be sent twice (RFC 6749 section 3.2).
    pub fn with_parameter(
        self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Result<Self, Error> {
        self.with_value(name.into(), Value::Plain(value.into()))
    }

    /// Adds a field whose value is a secret: it is not shown, and is removed from what the issuer says
    /// in an error.
    ///
    /// # Errors
    /// As [`with_parameter`](Self::with_parameter).
    pub fn with_secret_parameter(
        self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Secret>,
    ) -> Result<Self, Error> {
        self.with_value(name.into(), Value::Secret(value.into()))
    }

    /// The `grant_type`.
    #[must_use]
    pub fn grant_type(&self) -> &'static str {
        match self.kind {
            Kind::ClientCredentials => "client_credentials",
            Kind::RefreshToken(_) => "refresh_token",
            Kind::JwtBearer(_) => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Kind::TokenExchange(_) => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    /// The same for another refresh token.
    pub(crate) fn with_refresh_token(mut self, token: Secret) -> Self {
        self.kind = Kind::RefreshToken(token);
        self
    }

    /// What a source of this grant is called.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::ClientCredentials => "oauth client credentials",
            Kind::RefreshToken(_) => "oauth refresh token",
            Kind::JwtBearer(_) => "oauth jwt bearer",
            Kind::TokenExchange(_) => "oauth token exchange",
        }
    }

    /// Whether the answer has to say what kind of token it is (RFC 8693 section 2.2.1).
    pub(crate) fn is_exchange(&self) -> bool {
        matches!(self.kind, Kind::TokenExchange(_))
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            scopes: Vec::new(),
            resources: Vec::new(),
            audiences: Vec::new(),
            parameters: Vec::new(),
        }
    }

    fn change_exchange(
        mut self,
        field: &str,
        change: impl FnOnce(&mut Exchange),
    ) -> Result<Self, Error> {
        let Kind::TokenExchange(exchange) = &mut self.kind else {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{field} is for a token exchange only"),
            ));
        };
        change(exchange);
        Ok(self)
    }

    /// Asks for the tokens that the grant rests on.
    pub(crate) async fn gather(&self, cx: &Fetch, scene: &Scene<'_>) -> Result<Gathered, Error> {
        let mut gathered = Gathered {
            fields: Vec::new(),
            secrets: Vec::new(),
            external: Vec::new(),
        };
        match &self.kind {
            Kind::ClientCredentials => {}
            Kind::RefreshToken(token) => gathered.add("refresh_token", token.clone()),
            Kind::JwtBearer(subject) => {
                gathered.ask(subject, cx, scene, "assertion").await?;
            }
            Kind::TokenExchange(exchange) => {
                let Exchange {
                    subject,
                    subject_type,
                    actor,
                    requested,
                } = &**exchange;
                gathered.ask(subject, cx, scene, "subject_token").await?;
                gathered.say("subject_token_type", subject_type);
                if let Some((actor, actor_type)) = actor {
                    gathered.ask(actor, cx, scene, "actor_token").await?;
                    gathered.say("actor_token_type", actor_type);
                }
                if let Some(requested) = requested {
                    gathered.say("requested_token_type", requested);
                }
            }
        }
        Ok(gathered)
    }

    fn with_value(mut self, name: Cow<'static, str>, value: Value) -> Result<Self, Error> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidConfig, message));
        if name.trim().is_empty() {
            return invalid("a parameter of a token request must have a name".to_owned());
        }
        if let Some((_, setting)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
            return invalid(format!(
                "parameter {name} must not be added to a token request, it is set by {setting}"
            ));
        }
        self.parameters.push((name, value));
        Ok(self)
    }

    /// The fields as they are sent.
    pub(crate) fn fields(&self) -> Vec<(&str, Cow<'_, str>)> {
        let mut fields = vec![("grant_type", Cow::Borrowed(self.grant_type()))];
        if !self.scopes.is_empty() {
            fields.push(("scope", Cow::Owned(self.scopes.join(" "))));
        }
        for resource in &self.resources {
            fields.push(("resource", Cow::Borrowed(resource)));
        }
        for audience in &self.audiences {
            fields.push(("audience", Cow::Borrowed(audience)));
        }
        for (name, value) in &self.parameters {
            let value = match value {
                Value::Plain(text) => text,
                Value::Secret(secret) => secret.expose(),
            };
            fields.push((name, Cow::Borrowed(value)));
        }
        fields
    }

    /// The secrets among the fields.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.parameters.iter().filter_map(|(_, value)| match value {
            Value::Plain(_) => None,
            Value::Secret(secret) => Some(secret),
        })
    }
}

impl Gathered {
    async fn ask(
        &mut self,
        subject: &Subject,
        cx: &Fetch,
        scene: &Scene<'_>,
        field: &'static str,
    ) -> Result<(), Error> {
        let given = subject.give(cx, scene, field).await?;
        if given.is_external {
            self.external.push(given.text.fingerprint());
        }
        self.add(field, given.text);
        Ok(())
    }

    fn add(&mut self, field: &'static str, secret: Secret) {
        self.fields.push((field, secret.clone()));
        self.secrets.push(secret);
    }

    fn say(&mut self, field: &'static str, token_type: &TokenType) {
        self.fields.push((field, Secret::from(token_type.as_str())));
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Grant");
        shown.field("grant_type", &self.grant_type());
        match &self.kind {
            Kind::ClientCredentials | Kind::RefreshToken(_) => {}
            Kind::JwtBearer(subject) => {
                shown.field("assertion", subject);
            }
            Kind::TokenExchange(exchange) => {
                shown
                    .field("subject", &exchange.subject)
                    .field("subject_token_type", &exchange.subject_type)
                    .field("actor", &exchange.actor)
                    .field("requested_token_type", &exchange.requested);
            }
        }
        shown
            .field("scopes", &self.scopes)
            .field("resources", &self.resources)
            .field("audiences", &self.audiences);
        for (name, value) in &self.parameters {
            match value {
                Value::Plain(text) => shown.field(name, text),
                Value::Secret(secret) => shown.field(name, secret),
            };
        }
        shown.finish()
    }
}

/// Fields that are written from elsewhere, and from where.
const RESERVED: [(&str, &str); 15] = [
    ("grant_type", "the grant"),
    ("scope", "the grant's scopes"),
    ("resource", "the grant's resources"),
    ("audience", "the grant's audiences"),
    ("client_id", "the client authentication"),
    ("client_secret", "the client authentication"),
    ("client_assertion", "the client authentication"),
    ("client_assertion_type", "the client authentication"),
    ("assertion", "the grant"),
    ("refresh_token", "the grant"),
    ("subject_token", "the grant"),
    ("subject_token_type", "the grant"),
    ("actor_token", "the grant"),
    ("actor_token_type", "the grant"),
    ("requested_token_type", "the grant"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(grant: &Grant) -> String {
        let fields = grant.fields();
        let body = crate::form::encode(fields.iter().map(|(name, value)| (*name, &**value)));
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn o3_scopes_are_sent_in_the_given_order() {
        let one_by_one = Grant::client_credentials().with_scope("b").with_scope("a");
        let at_once = Grant::client_credentials().with_scope(" b  a\n");
        for grant in [one_by_one, at_once] {
            assert_eq!(wire(&grant), "grant_type=client_credentials&scope=b+a");
        }
    }

    #[test]
    fn without_scopes_there_is_no_scope_field() {
        let grant = Grant::client_credentials().with_scope(" ");
        assert_eq!(wire(&grant), "grant_type=client_credentials");
    }

    #[test]
    fn resources_and_audiences_may_repeat() {
        let grant = Grant::client_credentials()
            .with_resource("https://a.test/")
            .with_resource("https://b.test/")
            .with_audience("c")
            .with_parameter("organization", "o&1")
            .unwrap();
        assert_eq!(
            wire(&grant),
            "grant_type=client_credentials&resource=https%3A%2F%2Fa.test%2F\
             &resource=https%3A%2F%2Fb.test%2F&audience=c&organization=o%261"
        );
    }

    #[test]
    fn a_field_that_is_set_elsewhere_is_refused_by_name() {
        for (name, _) in RESERVED {
            let error = Grant::client_credentials()
                .with_parameter(name, "canary")
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            let text = error.to_string();
            assert!(text.contains(name) && !text.contains("canary"), "{text}");
        }
        let blank = Grant::client_credentials().with_parameter(" ", "v");
        assert_eq!(blank.unwrap_err().kind(), ErrorKind::InvalidConfig);
    }

    #[test]
    fn debug_shows_no_secret_parameter() {
        let grant = Grant::client_credentials()
            .with_scope("read")
            .with_secret_parameter("pin", "canary")
            .unwrap();
        let shown = format!("{grant:?}");
        assert!(
            shown.contains("pin") && shown.contains("read") && !shown.contains("canary"),
            "{shown}"
        );
    }
}
