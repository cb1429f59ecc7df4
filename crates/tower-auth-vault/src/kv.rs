use std::fmt;
use std::time::Duration;

use http::HeaderName;
use serde_json::Value;
use tower_auth_core::{
    Description, Error, ErrorKind, Expiry, Fetch, Placement, RefreshHint, Token, TokenSource,
};

use crate::answer::{Answer, Refusal, kind_of};
use crate::server::Call;
use crate::{Session, path};

/// A field of a secret in a key-value engine, as a credential for some other API.
///
/// The engine does not say when a secret changes, so it is read again every five minutes or as
/// [`read_every`](Self::read_every) says; a new version takes the place of the old one then, or as soon
/// as the API refuses the old one. While the server cannot be reached the last one is used for eight
/// times that long.
///
/// ```
/// use http::HeaderName;
///
/// # fn example(session: tower_auth_vault::Session) -> Result<(), tower_auth_core::Error> {
/// let key = session
///     .kv("secret", "apis/weather", "key")?
///     .in_header(HeaderName::from_static("x-api-key"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct KvSecret {
    session: Session,
    engine: Engine,
    mount: String,
    path: String,
    field: String,
    version: Option<u64>,
    every: Option<Duration>,
    placement: Placement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    V1,
    V2,
}

impl KvSecret {
    /// How often a secret is read where nothing else is said: every five minutes.
    pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(300);

    pub(crate) fn v1(
        session: Session,
        mount: &str,
        path: &str,
        field: &str,
    ) -> Result<Self, Error> {
        Self::new(session, Engine::V1, mount, path, field)
    }

    pub(crate) fn v2(
        session: Session,
        mount: &str,
        path: &str,
        field: &str,
    ) -> Result<Self, Error> {
        Self::new(session, Engine::V2, mount, path, field)
    }

    /// The text alone, in this header, instead of `Authorization: Bearer`.
    #[must_use]
    pub fn in_header(self, name: HeaderName) -> Self {
        self.with_placement(Placement::header(name))
    }

    /// In this place.
    #[must_use]
    pub fn with_placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// How often it is read; a second at least.
    #[must_use]
    pub fn read_every(mut self, interval: Duration) -> Self {
        self.every = Some(interval.max(Duration::from_secs(1)));
        self
    }

    /// This version and no later one (version 2 of the engine only).
    #[must_use]
    pub fn with_version(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    fn new(
        session: Session,
        engine: Engine,
        mount: &str,
        path: &str,
        field: &str,
    ) -> Result<Self, Error> {
        Ok(Self {
            session,
            engine,
            mount: path::encode("the mount", mount)?,
            path: path::encode("the path of the secret", path)?,
            field: path::text("the field", field)?,
            version: None,
            every: None,
            placement: Placement::authorization("Bearer"),
        })
    }

    async fn read(&self, cx: &Fetch) -> Result<Token, Error> {
        let Self { mount, path, .. } = self;
        let path = match (self.engine, self.version) {
            (Engine::V1, _) => format!("{mount}/{path}"),
            (Engine::V2, None) => format!("{mount}/data/{path}"),
            (Engine::V2, Some(version)) => format!("{mount}/data/{path}?version={version}"),
        };
        let (mut answer, _) = self
            .session
            .ask(&cx.for_subject(), || Call::get(path.clone()))
            .await
            .map_err(|refusal| self.explain(refusal))?;
        let fields = match self.engine {
            Engine::V1 => "/data",
            Engine::V2 => "/data/data",
        };
        // What a field is called is not for a pointer to interpret.
        let pointer = format!(
            "{fields}/{}",
            self.field.replace('~', "~0").replace('/', "~1")
        );
        self.check(&answer, fields, &pointer)?;
        let secret = answer.secret(&pointer)?;
        let lease = match self.engine {
            Engine::V1 => answer.seconds("/lease_duration")?,
            Engine::V2 => None,
        };
        // Version 1 passes on a wish that whoever wrote the secret may have had.
        let every = self.every.unwrap_or_else(|| {
            lease
                .filter(|lease| !lease.is_zero())
                .unwrap_or(Self::DEFAULT_INTERVAL)
                .clamp(Duration::from_secs(10), Self::DEFAULT_INTERVAL)
        });
        Ok(Token::bearer(secret)
            .with_placement(self.placement.clone())
            .with_expiry(Expiry::AskEvery(every.saturating_mul(USED_FOR)))
            .with_refresh_hint(RefreshHint::In(every)))
    }

    /// # Errors
    /// If the field is not there, or is no text.
    fn check(&self, answer: &Answer, fields: &str, pointer: &str) -> Result<(), Error> {
        let Some(Value::Object(members)) = answer.at(fields) else {
            return Err(answer.malformed(format!(
                "the answer has no {}",
                fields.trim_start_matches('/').replace('/', ".")
            )));
        };
        match answer.at(pointer) {
            Some(Value::String(_)) => Ok(()),
            Some(other) => Err(answer
                .malformed(format!(
                    "the field {} of the secret is {}, not a text",
                    self.field,
                    kind_of(other)
                ))
                .with_hint("write it in quotation marks")),
            None => {
                let names: Vec<&str> = members.keys().map(String::as_str).collect();
                let names = tower_auth_core::redact(&names.join(", "), &[]);
                Err(answer
                    .malformed(format!("the secret has no field {}", self.field))
                    .with_kind(ErrorKind::InvalidConfig)
                    .with_hint(format!("it has: {names}")))
            }
        }
    }

    fn explain(&self, refusal: Refusal) -> Error {
        let error = refusal.error;
        if refusal.status.as_u16() != 404 {
            return error;
        }
        let metadata = refusal.data.as_ref().and_then(|data| data.get("metadata"));
        if let Some(metadata) = metadata {
            let is_destroyed = metadata.get("destroyed") == Some(&Value::Bool(true));
            let deleted = metadata
                .get("deletion_time")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let what = if is_destroyed {
                "is destroyed".to_owned()
            } else {
                let time = tower_auth_core::redact(deleted, &[]);
                format!("is deleted (deletion_time {time})")
            };
            return error.with_hint(format!(
                "this version of the secret {what}: write a new one"
            ));
        }
        let namespace = self.session.server().namespace_in_words();
        let said = error.description().unwrap_or_default();
        if self.engine == Engine::V1 && said.contains("versioned") {
            return error.with_hint(
                "the engine is of version 2, whose paths have data/ in them: use Session::kv, which adds it",
            );
        }
        error.with_hint(match self.engine {
            Engine::V2 => format!(
                "does the secret exist, and is an engine of version 2 mounted at {} in {namespace}? \
                 Give the path without data/; for version 1 use Session::kv_v1",
                self.mount
            ),
            Engine::V1 => format!(
                "does the secret exist, and is an engine mounted at {} in {namespace}?",
                self.mount
            ),
        })
    }
}

impl TokenSource for KvSecret {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        self.read(cx).await.map_err(|error| error.or_source(NAME))
    }

    fn describe(&self) -> Description {
        self.session.describe_as(NAME)
    }
}

impl fmt::Debug for KvSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvSecret")
            .field("session", &self.session)
            .field("engine", &self.engine)
            .field("mount", &self.mount)
            .field("path", &self.path)
            .field("field", &self.field)
            .field("version", &self.version)
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}

const NAME: &str = "vault kv";
/// For how many intervals the last secret is used while the server cannot be asked.
const USED_FOR: u32 = 8;
