use std::fmt;
use std::time::{Duration, SystemTime};

use http::HeaderName;
use tokio::sync::Mutex;
use tower_auth_core::{
    Description, Error, ErrorKind, Fetch, Fingerprint, Placement, Reason, RefreshHint, Secret,
    Token, TokenSource,
};

use crate::answer::{Answer, kind_of};
use crate::body::Body;
use crate::lease::{Lease, Life};
use crate::server::Call;
use crate::{Session, path};

/// A credential that the server makes for us alone, for as long as a lease lasts: what the engines for
/// clouds and clusters give.
///
/// A lease that can be renewed is renewed, and the credential stays the same. Another one is made when the
/// lease ends or cannot be renewed, when the session has logged in anew (a lease dies with the token it
/// was made with), and when the API refused the credential. Where the server could not answer, half a
/// minute passes before another one is asked for, so that a server in trouble does not make accounts
/// that nobody uses. Where there is no lease, `token_ttl` or `expires_at_seconds` say how long it lives.
///
/// ```
/// # fn example(session: tower_auth_vault::Session) -> Result<(), tower_auth_core::Error> {
/// let token = session.secret("gcp/roleset/reports/token", "token")?;
/// let token = session
///     .secret("kubernetes/creds/reports", "service_account_token")?
///     .with_parameter("kubernetes_namespace", "default");
/// # Ok(())
/// # }
/// ```
pub struct LeasedSecret {
    session: Session,
    path: String,
    field: String,
    parameters: Option<Body>,
    placement: Placement,
    held: Mutex<Option<Held>>,
}

/// What was made, for a renewal gives its lease only.
#[derive(Clone)]
struct Held {
    secret: Secret,
    lease_id: String,
    life: Duration,
    whole: Duration,
    since: SystemTime,
    made_with: Option<Fingerprint>,
    is_renewable: bool,
}

impl LeasedSecret {
    pub(crate) fn new(session: Session, path: &str, field: &str) -> Result<Self, Error> {
        Ok(Self {
            session,
            path: path::encode("the path of the secret", path)?,
            field: path::text("the field", field)?,
            parameters: None,
            placement: Placement::authorization("Bearer"),
            held: Mutex::new(None),
        })
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

    /// Asks with `POST` and this field instead of with `GET`.
    #[must_use]
    pub fn with_parameter(mut self, name: &str, value: &str) -> Self {
        let body = self.parameters.take().unwrap_or_default();
        self.parameters = Some(body.text(name, value));
        self
    }

    async fn obtain(&self, cx: &Fetch) -> Result<Token, Error> {
        let mut held = self.held.lock().await;
        let may_renew = matches!(cx.reason(), Reason::First | Reason::Scheduled);
        if let Some(known) = held.clone().filter(|known| may_renew && known.is_renewable) {
            let parent = self.session.living(&cx.for_subject()).await?;
            if known.made_with == fingerprint(&parent) {
                let renewed = self.renew(&known, cx).await?;
                if let Some(renewed) = renewed {
                    *held = Some(renewed.clone());
                    if renewed.life >= renewed.whole / 2 {
                        return Ok(self.stamped(&renewed, &parent));
                    }
                }
            }
        }
        let (token, made) = self.make(cx).await?;
        *held = made;
        Ok(token)
    }

    /// `None` if the server will not renew this lease.
    async fn renew(&self, known: &Held, cx: &Fetch) -> Result<Option<Held>, Error> {
        let since = self.now();
        let increment = known.whole.as_secs().to_string();
        let body = Body::new()
            .text("lease_id", &known.lease_id)
            .text("increment", &increment);
        let call = || Call::post("sys/leases/renew").with_body(body.clone());
        match self.session.ask(&cx.for_subject(), call).await {
            Ok((answer, _)) => Ok(answer.seconds("/lease_duration")?.map(|life| Held {
                life,
                since,
                is_renewable: answer.is_true("/renewable"),
                ..known.clone()
            })),
            Err(refusal) if matches!(refusal.status.as_u16(), 400 | 403 | 404) => {
                tracing::info!(error = %refusal.error, "the lease cannot be renewed");
                Ok(None)
            }
            Err(refusal) => Err(refusal.error),
        }
    }

    async fn make(&self, cx: &Fetch) -> Result<(Token, Option<Held>), Error> {
        let since = self.now();
        let call = || match &self.parameters {
            Some(parameters) => Call::post(self.path.clone()).with_body(parameters.clone()),
            None => Call::get(self.path.clone()),
        };
        let (mut answer, parent) =
            self.session
                .ask(&cx.for_subject(), call)
                .await
                .map_err(|refusal| {
                    let error = refusal.error;
                    // It may have made one before it failed.
                    match (error.kind(), error.retry_after()) {
                        (ErrorKind::Unavailable, None) => error.with_retry_after(AFTER_A_FAILURE),
                        _ => error,
                    }
                })?;
        for warning in answer.warnings(&[]) {
            tracing::warn!(source = NAME, warning, "the server warns");
        }
        let pointer = format!("/data/{}", self.field.replace('~', "~0").replace('/', "~1"));
        self.check(&answer, &pointer)?;
        let life = self.life(&answer)?;
        let secret = answer.secret(&pointer)?;
        let lease_id = answer.text("/lease_id").unwrap_or_default().to_owned();
        if lease_id.is_empty() {
            let token = Token::bearer(secret).with_placement(self.placement.clone());
            return Ok((token.with_expiry(life.into()), None));
        }
        let Life::For(life) = life else {
            return Err(answer.malformed("the lease has no lease_duration".to_owned()));
        };
        let made = Held {
            secret,
            lease_id,
            life,
            whole: life,
            since,
            made_with: fingerprint(&parent),
            is_renewable: answer.is_true("/renewable"),
        };
        Ok((self.stamped(&made, &parent), Some(made)))
    }

    fn check(&self, answer: &Answer, pointer: &str) -> Result<(), Error> {
        let members = answer.at("/data").and_then(|data| data.as_object());
        match (answer.at(pointer), members) {
            (Some(value), _) if value.is_string() => Ok(()),
            (Some(other), _) => Err(answer.malformed(format!(
                "the field {} is {}, not a text",
                self.field,
                kind_of(other)
            ))),
            (None, Some(members)) => {
                let names: Vec<&str> = members.keys().map(String::as_str).collect();
                let names = tower_auth_core::redact(&names.join(", "), &[]);
                Err(answer
                    .malformed(format!("the answer has no field {}", self.field))
                    .with_hint(format!("it has: {names}")))
            }
            (None, None) => Err(answer.malformed("the answer has no data".to_owned())),
        }
    }

    fn life(&self, answer: &Answer) -> Result<Life, Error> {
        if let Some(lease) = answer.seconds("/lease_duration")? {
            if !lease.is_zero() {
                return Ok(Life::For(lease));
            }
        }
        if let Ok(Some(ttl)) = answer.seconds("/data/token_ttl") {
            return Ok(Life::of(ttl));
        }
        let Ok(Some(end)) = answer.seconds("/data/expires_at_seconds") else {
            return Ok(Life::Unsaid);
        };
        let end = SystemTime::UNIX_EPOCH.checked_add(end);
        match end.and_then(|end| end.duration_since(self.now()).ok()) {
            Some(life) if !life.is_zero() => Ok(Life::For(life)),
            _ => Err(answer.malformed(
                "the credential has expired already, says expires_at_seconds".to_owned(),
            )),
        }
    }

    /// It ends with its lease, or with the token that it was made with.
    fn stamped(&self, held: &Held, parent: &Lease) -> Token {
        let age = self.now().duration_since(held.since).unwrap_or_default();
        let life = match parent.remaining(self.now()) {
            Some(remaining) => held.life.min(remaining.saturating_add(age)),
            None => held.life,
        };
        Token::bearer(held.secret.clone())
            .with_placement(self.placement.clone())
            .expires_in(life.max(Duration::from_secs(1)))
            .with_refresh_hint(RefreshHint::In(life.mul_f64(RENEW_AT)))
    }

    fn now(&self) -> SystemTime {
        self.session.server().world().clock().now()
    }
}

impl TokenSource for LeasedSecret {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        self.obtain(cx).await.map_err(|error| error.or_source(NAME))
    }

    fn describe(&self) -> Description {
        self.session.describe_as(NAME)
    }
}

impl fmt::Debug for LeasedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeasedSecret")
            .field("session", &self.session)
            .field("path", &self.path)
            .field("field", &self.field)
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}

fn fingerprint(lease: &Lease) -> Option<Fingerprint> {
    lease.token.as_ref().map(Secret::fingerprint)
}

const NAME: &str = "vault secret";
const RENEW_AT: f64 = 0.7;
const AFTER_A_FAILURE: Duration = Duration::from_secs(30);
