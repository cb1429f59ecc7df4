use std::time::Duration;

use tower_auth_core::{BoxTokenSource, Error, ErrorKind, Fetch, Secret, TokenSource};

use super::Login;
use super::method::{Method, SecretId};
use crate::answer::Refusal;
use crate::body::Body;
use crate::lease::Lease;
use crate::server::Call;
use crate::wrapped::Envelope;
use crate::{Server, path};

impl Login {
    /// Proves who we are, once.
    pub(crate) async fn attempt(
        &self,
        server: &Server,
        held: Option<&Lease>,
        envelope: &mut Envelope,
        cx: &Fetch,
    ) -> Result<Lease, Error> {
        let since = server.world().clock().now();
        let (path, body) = match &self.method {
            Method::Proxy => return Ok(Lease::of_proxy(since)),
            Method::Token { source, is_lent } => {
                return look_up(server, source, *is_lent, held, cx).await;
            }
            Method::AppRole { role_id, secret_id } => {
                let body = Body::new().text("role_id", role_id);
                let body = match secret_id {
                    SecretId::None => body,
                    SecretId::Plain(source) => {
                        body.secret("secret_id", source.fetch(&cx.for_subject()).await?.secret())
                    }
                    SecretId::Wrapped(wrapped) => {
                        let secret_id = wrapped.secret_id(server, envelope, cx).await?;
                        body.secret("secret_id", &secret_id)
                    }
                };
                ("login".to_owned(), body)
            }
            Method::Jwt {
                role, jwt, fields, ..
            } => {
                let jwt = jwt.fetch(&cx.for_subject()).await?;
                let mut body = Body::new()
                    .text_if("role", role.as_deref())
                    .secret("jwt", jwt.secret());
                for (name, value) in fields {
                    body = body.text(name, value);
                }
                ("login".to_owned(), body)
            }
            Method::Certificate { role } => (
                "login".to_owned(),
                Body::new().text_if("name", role.as_deref()),
            ),
            Method::Password {
                username, password, ..
            } => {
                let password = password.fetch(&cx.for_subject()).await?;
                (
                    format!("login/{}", path::segment(username)),
                    Body::new().secret("password", password.secret()),
                )
            }
            Method::Aws {
                role,
                identity,
                server_id,
            } => {
                let identity = identity.fetch(&cx.for_subject()).await?;
                if *server_id && !identity.has_signed(SERVER_ID) {
                    return Err(Error::new(
                        ErrorKind::InvalidConfig,
                        format!("the signed request has no {SERVER_ID} among its signed headers"),
                    ));
                }
                (
                    "login".to_owned(),
                    identity.write(Body::new().text("role", role))?,
                )
            }
        };
        let mount = path::encode("the mount", self.mount())?;
        let sent = body.secrets().to_vec();
        let call = Call::post(format!("auth/{mount}/{path}")).with_body(body);
        let mut answer = server.send(call).await.map_err(|refusal| {
            if refusal.error.kind() == ErrorKind::Denied {
                envelope.refuse();
            }
            self.explain(server, refusal)
        })?;
        let sent: Vec<&Secret> = sent.iter().collect();
        for warning in answer.warnings(&sent) {
            tracing::warn!(source = self.source_name(), warning, "the server warns");
        }
        Lease::of_auth(&mut answer, since)
    }

    /// A refused login, with what it may be about.
    fn explain(&self, server: &Server, refusal: Refusal) -> Error {
        let error = refusal.error;
        let said = error.description().unwrap_or_default();
        // A login at a path where no method is mounted is taken for any other request without a token.
        let is_unmounted = match refusal.status.as_u16() {
            403 => matches!(said, "" | "permission denied"),
            400 => said.contains("missing client token"),
            404 => true,
            _ => false,
        };
        let mut hints = Vec::new();
        if is_unmounted {
            hints.push(format!(
                "is the method mounted at auth/{} in {}?",
                self.mount(),
                server.namespace_in_words()
            ));
            if matches!(self.method.kind(), "aws" | "gcp" | "azure") {
                hints.push("it is not built into OpenBao".to_owned());
            }
        }
        match (self.method.kind(), refusal.status.as_u16()) {
            ("kubernetes", 403) => hints.push(
                "does the role admit this service account and namespace, and may the server ask \
                 Kubernetes (TokenReview)?"
                    .to_owned(),
            ),
            ("approle", 400) => hints.push(
                "a secret id that is used up or has expired is refused like a wrong one".to_owned(),
            ),
            ("userpass" | "ldap", 400 | 403) => {
                hints.push("several failures lock the user for some minutes".to_owned());
            }
            _ => {}
        }
        let mut error = if error.kind() == ErrorKind::Denied || is_unmounted {
            let error = error.with_kind(ErrorKind::Denied);
            // Failed logins lock users out, so they are never tried again fast.
            match error.retry_after() {
                Some(_) => error,
                None => error.with_retry_after(AFTER_A_REFUSED_LOGIN),
            }
        } else {
            error
        };
        if !hints.is_empty() {
            error = error.with_hint(hints.join("; "));
        }
        error
    }
}

/// Learns how long a token lives that came from elsewhere.
async fn look_up(
    server: &Server,
    source: &BoxTokenSource,
    is_lent: bool,
    held: Option<&Lease>,
    cx: &Fetch,
) -> Result<Lease, Error> {
    let token = match source.fetch(&cx.for_subject()).await {
        Ok(token) => token.secret().clone(),
        Err(error) if error.kind() == ErrorKind::Malformed => {
            return Err(error.with_hint(
                "the sink of a Vault Agent must be neither wrapped (wrap_ttl) nor encrypted (dh_type)",
            ));
        }
        Err(error) => return Err(error),
    };
    if let Some(held) = held {
        let is_known = held
            .token
            .as_ref()
            .is_some_and(|known| known.fingerprint() == token.fingerprint());
        if is_known && held.is_limited {
            return Ok(held.clone());
        }
    }
    let since = server.world().clock().now();
    let call = Call::get("auth/token/lookup-self").with_token(Some(&token));
    let answer = server.send(call).await.map_err(|refusal| {
        if refusal.status.as_u16() == 403 {
            refusal
                .error
                .with_hint("the token has expired, was revoked, or belongs to another namespace")
                .with_retry_after(AFTER_A_REFUSED_LOGIN)
        } else {
            refusal.error
        }
    })?;
    let mut lease = Lease::of_lookup(&answer, token, since)?;
    lease.is_renewable &= !is_lent;
    Ok(lease)
}

const SERVER_ID: &str = "x-vault-aws-iam-server-id";
const AFTER_A_REFUSED_LOGIN: Duration = Duration::from_secs(60);
