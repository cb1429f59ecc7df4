use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use tokio::sync::Mutex;
use tower_auth_core::{Description, Error, ErrorKind, Fetch, Reason, Token, TokenSource};

use crate::answer::{Answer, Refusal};
use crate::body::Body;
use crate::lease::Lease;
use crate::server::Call;
use crate::wrapped::Envelope;
use crate::{IdentityToken, KvSecret, LeasedSecret, Login, Server};

/// A login at a server, and the token that it gave: the source of `X-Vault-Token`.
///
/// As a [`TokenSource`] it extends what it has: a token that can be renewed is renewed, and asks to be
/// renewed at about 70 % of its life. It logs in anew when there is no token, when a renewal is refused
/// or gives less than half of what was asked (the token nears its maximum), when the token was rejected
/// or has run out, or when a new one was asked for by name. Batch tokens and tokens of limited use are
/// never renewed or looked up.
///
/// The token is state of the protocol, not a cache: a lease belongs to it and dies with it. Clones share
/// it, and so do the sources made by [`identity_token`](Self::identity_token), [`kv`](Self::kv) and
/// [`secret`](Self::secret), which log in only when there is no token that still lives.
///
/// ```
/// use tower_auth::AuthLayer;
/// use tower_auth_vault::{Login, Server, Session};
///
/// # let world = tower_auth_io::World::closed();
/// let server = Server::new("https://vault.example.com:8200", &world)?;
/// let session = Session::new(server, Login::app_role("7f0c…", "a secret id")?);
/// let layer = AuthLayer::new(session).refused(tower_auth_vault::refuses);
/// # let _ = layer;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    server: Server,
    login: Login,
    limited_use: LimitedUse,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lease: Option<Lease>,
    envelope: Envelope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LimitedUse {
    Accept,
    Refuse,
}

/// What a caller wants of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// A token that lives.
    Living,
    /// One that lives longer than the one there is.
    Longer,
    /// Another one.
    Other,
}

impl Session {
    /// Logs in at this server in this way, once a token is asked for.
    #[must_use]
    pub fn new(server: Server, login: Login) -> Self {
        Self::with(server, login, LimitedUse::Accept)
    }

    /// As [`new`](Self::new), for those who would rather have an error than a token of limited use: each
    /// request to Vault spends one use, so a token that serves many requests should have no limit.
    #[must_use]
    pub fn refusing_limited_use(server: Server, login: Login) -> Self {
        Self::with(server, login, LimitedUse::Refuse)
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.0.server
    }

    /// Identity tokens of this role: JWTs that the server signs about the one who is logged in.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the role is blank.
    pub fn identity_token(&self, role: &str) -> Result<IdentityToken, Error> {
        IdentityToken::new(self.clone(), role)
    }

    /// A field of a secret in a key-value engine of version 2 that is mounted at `mount`. The path is
    /// written without `data/`.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if mount, path or field is blank.
    pub fn kv(&self, mount: &str, path: &str, field: &str) -> Result<KvSecret, Error> {
        KvSecret::v2(self.clone(), mount, path, field)
    }

    /// As [`kv`](Self::kv), for an engine of version 1.
    ///
    /// # Errors
    /// As [`kv`](Self::kv).
    pub fn kv_v1(&self, mount: &str, path: &str, field: &str) -> Result<KvSecret, Error> {
        KvSecret::v1(self.clone(), mount, path, field)
    }

    /// A field of what the server makes at this path for us alone, with its lease: `gcp/roleset/r/token`
    /// and `token`, `kubernetes/creds/r` and `service_account_token`.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if path or field is blank.
    pub fn secret(&self, path: &str, field: &str) -> Result<LeasedSecret, Error> {
        LeasedSecret::new(self.clone(), path, field)
    }

    /// Ends the session at the server: the token and all leases under it are revoked. For the end of a
    /// program; a later fetch logs in again. Does nothing if there is no token, or if it is not ours to
    /// revoke ([`Login::token_from`], [`Login::proxy`]).
    ///
    /// # Errors
    /// What became of the request. The token is forgotten here in any case.
    pub async fn revoke(&self) -> Result<(), Error> {
        let lease = self.0.state.lock().await.lease.take();
        let Some(token) = lease.and_then(|lease| lease.token) else {
            return Ok(());
        };
        if !self.0.login.owns_token() {
            return Ok(());
        }
        let call = Call::post("auth/token/revoke-self").with_token(Some(&token));
        match self.0.server.send(call).await {
            Ok(_) => Ok(()),
            // It is gone already.
            Err(refusal) if refusal.status.as_u16() == 403 => Ok(()),
            Err(refusal) => Err(self.named(refusal.error)),
        }
    }

    /// Reads or makes something with a token that lives. A refusal is told apart: with a dead token it is
    /// tried once more after a login, with a living one a policy is missing.
    ///
    /// Gives the lease of the token that was used, too.
    pub(crate) async fn ask(
        &self,
        cx: &Fetch,
        call: impl Fn() -> Call<'static>,
    ) -> Result<(Answer, Lease), Refusal> {
        let lease = self.lease(Wanted::Living, cx).await?;
        let refusal = match self.send_as(&lease, call()).await {
            Ok(answer) => return Ok((answer, lease)),
            Err(refusal) if refusal.status.as_u16() == 403 => refusal,
            Err(refusal) => return Err(refusal),
        };
        if lease.token.is_none() {
            return Err(refusal);
        }
        // Looking would spend a use, and that may have been the last one.
        if !lease.is_limited {
            match self
                .send_as(&lease, Call::get("auth/token/lookup-self"))
                .await
            {
                Ok(_) => return Err(self.without_policy(refusal)),
                Err(dead) if dead.status.as_u16() == 403 => {}
                Err(_) => return Err(refusal),
            }
        }
        let lease = self
            .replace(&lease, cx)
            .await
            .map_err(|error| self.named(error))?;
        match self.send_as(&lease, call()).await {
            Ok(answer) => Ok((answer, lease)),
            Err(refusal) if refusal.status.as_u16() == 403 => Err(self.without_policy(refusal)),
            Err(refusal) => Err(refusal),
        }
    }

    /// A token that lives.
    pub(crate) async fn living(&self, cx: &Fetch) -> Result<Lease, Error> {
        self.lease(Wanted::Living, cx).await
    }

    /// Names the source in an error, unless something below did.
    pub(crate) fn named(&self, error: Error) -> Error {
        error.or_source(self.0.login.source_name())
    }

    pub(crate) fn describe_as(&self, name: &'static str) -> Description {
        let description = Description::new(name)
            .with_setting("address", self.0.server.came_from())
            .with_setting("login", self.0.login.source_name());
        self.0.login.describe(description)
    }

    fn with(server: Server, login: Login, limited_use: LimitedUse) -> Self {
        Self(Arc::new(Inner {
            server,
            login,
            limited_use,
            state: Mutex::default(),
        }))
    }

    async fn send_as(&self, lease: &Lease, call: Call<'_>) -> Result<Answer, Refusal> {
        let call = call.with_token(lease.token.as_ref());
        self.0.server.send(call).await
    }

    /// Logs in, unless somebody has replaced this dead token already.
    async fn replace(&self, dead: &Lease, cx: &Fetch) -> Result<Lease, Error> {
        let mut state = self.0.state.lock().await;
        let fingerprint = |lease: &Lease| lease.token.as_ref().map(|token| token.fingerprint());
        match &state.lease {
            Some(held) if fingerprint(held) != fingerprint(dead) => Ok(held.clone()),
            _ => self.log_in(&mut state, cx).await,
        }
    }

    async fn lease(&self, wanted: Wanted, cx: &Fetch) -> Result<Lease, Error> {
        self.lease_or_error(wanted, cx)
            .await
            .map_err(|error| self.named(error))
    }

    async fn lease_or_error(&self, wanted: Wanted, cx: &Fetch) -> Result<Lease, Error> {
        // One login or renewal at a time: a second one would wait for the same answer, and a wrapped
        // secret id cannot be had twice.
        let mut state = self.0.state.lock().await;
        let held = state.lease.clone().filter(|_| wanted != Wanted::Other);
        let Some(held) = held else {
            return self.log_in(&mut state, cx).await;
        };
        let now = self.now();
        if wanted == Wanted::Living && !held.is_old(now) {
            return Ok(held);
        }
        let outcome = self.extend(&mut state, &held, cx).await;
        match outcome {
            // Whoever only wants a token that lives has one.
            Err(error) if wanted == Wanted::Living && !held.is_over(self.now()) => {
                tracing::warn!(%error, "the Vault token was not extended and is used on");
                Ok(held)
            }
            outcome => outcome,
        }
    }

    /// A token that ends later than this one: the same after a renewal, or another.
    async fn extend(&self, state: &mut State, held: &Lease, cx: &Fetch) -> Result<Lease, Error> {
        if !held.is_renewable || held.is_over(self.now()) {
            return self.log_in(state, cx).await;
        }
        let renewed = match self.renew(held).await {
            Ok(renewed) => renewed,
            Err(refusal) if is_final(&refusal) => {
                tracing::info!(error = %refusal.error, "the Vault token cannot be renewed, logging in");
                return self.log_in(state, cx).await;
            }
            Err(refusal) => return Err(refusal.error),
        };
        state.lease = Some(renewed.clone());
        if !renewed.is_dwindling() || !self.0.login.gives_new_tokens() {
            return Ok(renewed);
        }
        match self.log_in(state, cx).await {
            Err(error) if renewed.outlives(held, self.now()) => {
                tracing::warn!(%error, "the Vault token nears its maximum life and there is no other");
                Ok(renewed)
            }
            outcome => outcome,
        }
    }

    async fn renew(&self, held: &Lease) -> Result<Lease, Refusal> {
        let since = self.now();
        let increment = format!("{}s", held.whole.as_secs());
        let call = Call::post("auth/token/renew-self")
            .with_body(Body::new().text("increment", &increment));
        let answer = self.send_as(held, call).await?;
        let sent: Vec<_> = held.token.iter().collect();
        for warning in answer.warnings(&sent) {
            tracing::debug!(warning, "the server warns");
        }
        Ok(held.renewed(&answer, since)?)
    }

    async fn log_in(&self, state: &mut State, cx: &Fetch) -> Result<Lease, Error> {
        let State { lease, envelope } = state;
        let login = &self.0.login;
        let fresh = login
            .attempt(&self.0.server, lease.as_ref(), envelope, cx)
            .await?;
        if fresh.is_limited {
            if self.0.limited_use == LimitedUse::Refuse {
                return Err(Error::new(
                    ErrorKind::InvalidConfig,
                    "the login gave a token of limited use (num_uses)",
                )
                .with_hint("set token_num_uses of the role to 0"));
            }
            tracing::warn!(
                source = login.source_name(),
                "the Vault token is of limited use: each request spends one"
            );
        }
        *lease = Some(fresh.clone());
        Ok(fresh)
    }

    fn without_policy(&self, refusal: Refusal) -> Refusal {
        Refusal {
            error: refusal.error.with_hint(format!(
                "the token is good, its policies do not allow this path in {}",
                self.0.server.namespace_in_words()
            )),
            ..refusal
        }
    }

    fn now(&self) -> std::time::SystemTime {
        self.0.server.world().clock().now()
    }
}

impl TokenSource for Session {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        let wanted = match cx.reason() {
            Reason::First | Reason::Scheduled => Wanted::Longer,
            _ => Wanted::Other,
        };
        let lease = self.lease(wanted, cx).await?;
        Ok(lease.stamped(&self.0.server))
    }

    fn describe(&self) -> Description {
        let login = &self.0.login;
        let description = Description::new(login.source_name())
            .with_setting("address", self.0.server.came_from());
        let description = login.describe(description);
        match self.0.server.origin() {
            Ok(origin) => description.with_origin(origin),
            Err(_) => description,
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.0.server)
            .field("login", &self.0.login)
            .finish_non_exhaustive()
    }
}

/// Whether Vault refuses the token of a request: with 403, as it does for want of a policy too.
///
/// For [`AuthLayer::refused`](https://docs.rs/tower-auth), whose default is 401, which Vault does not use.
/// A policy that is missing looks the same, and then the logins that follow do not help; the layer's
/// cool-downs keep them few.
#[must_use]
pub fn refuses(status: StatusCode, _: &HeaderMap) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// The server will not say otherwise if it is asked again.
fn is_final(refusal: &Refusal) -> bool {
    matches!(refusal.status.as_u16(), 400 | 401 | 403 | 404)
}
