use std::fmt;

use tower_auth_core::{BoxTokenSource, TokenSource};
use tower_auth_core::{Error, ErrorKind, Fetch, Fingerprint, Secret};

use crate::Server;
use crate::answer::Answer;
use crate::body::Body;
use crate::server::Call;

/// A secret id in an envelope that opens once.
#[derive(Clone)]
pub(crate) struct Wrapped {
    pub(crate) token: BoxTokenSource,
    pub(crate) creation_path: String,
}

/// What has become of the envelope. It is kept for as long as the session lives, because the envelope
/// cannot be opened again.
#[derive(Clone, Default)]
pub(crate) enum Envelope {
    #[default]
    Unopened,
    /// It was opened, or may have been, and there is nothing to be had from it.
    Lost { seal: Fingerprint, error: Error },
    Opened {
        seal: Fingerprint,
        secret_id: Secret,
    },
    /// It was opened, and the server does not accept what was in it.
    Refused {
        seal: Fingerprint,
        secret_id: Secret,
    },
}

impl Wrapped {
    /// The secret id, from the envelope or from memory.
    ///
    /// # Errors
    /// `Denied` for good if the envelope was opened by somebody else or its content was lost; a new one
    /// from the source is a new chance. Whatever the source says.
    pub(crate) async fn secret_id(
        &self,
        server: &Server,
        envelope: &mut Envelope,
        cx: &Fetch,
    ) -> Result<Secret, Error> {
        if let Envelope::Opened { secret_id, .. } = envelope {
            return Ok(secret_id.clone());
        }
        let wrapping = match self.token.fetch(&cx.for_subject()).await {
            Ok(token) => token.secret().clone(),
            // A file that was deleted after use is no reason to forget what was in it.
            Err(error) => {
                return match envelope {
                    Envelope::Refused { secret_id, .. } => Ok(secret_id.clone()),
                    Envelope::Lost { error, .. } => Err(error.clone()),
                    _ => Err(error),
                };
            }
        };
        let seal = wrapping.fingerprint();
        match envelope {
            Envelope::Lost { seal: lost, error } if *lost == seal => return Err(error.clone()),
            Envelope::Refused {
                seal: known,
                secret_id,
            } if *known == seal => return Ok(secret_id.clone()),
            _ => {}
        }
        self.check_origin(server, &wrapping)
            .await
            .inspect_err(|error| {
                // A server that did not answer has not opened anything.
                if error.kind() == ErrorKind::Denied {
                    *envelope = Envelope::Lost {
                        seal,
                        error: error.clone(),
                    };
                }
            })?;
        // From here on nobody can say whether it is open: a fetch that is dropped or runs out of time has
        // used it up.
        *envelope = Envelope::Lost {
            seal,
            error: lost(Error::new(
                ErrorKind::Denied,
                "the wrapped secret id was asked for and its answer was not waited for",
            )),
        };
        match open(server, &wrapping).await {
            Ok(secret_id) => {
                *envelope = Envelope::Opened {
                    seal,
                    secret_id: secret_id.clone(),
                };
                Ok(secret_id)
            }
            Err(error) => {
                *envelope = Envelope::Lost {
                    seal,
                    error: error.clone(),
                };
                Err(error)
            }
        }
    }

    /// Whoever opens an envelope can put something else into another one, but cannot make it say that it
    /// was made at the same place.
    async fn check_origin(&self, server: &Server, wrapping: &Secret) -> Result<(), Error> {
        let call =
            Call::post("sys/wrapping/lookup").with_body(Body::new().secret("token", wrapping));
        let answer = server.send(call).await.map_err(|refusal| {
            if refusal.error.kind() == ErrorKind::Denied {
                intercepted(refusal.error)
            } else {
                refusal.error
            }
        })?;
        let path = answer.text("/data/creation_path").ok_or_else(|| {
            answer.malformed("data.creation_path is missing in the answer".to_owned())
        })?;
        if path.trim_matches('/') == self.creation_path {
            return Ok(());
        }
        let shown = tower_auth_core::redact(path, &[wrapping]);
        Err(Error::new(
            ErrorKind::Denied,
            format!(
                "the wrapping token was made at {shown} and not at {}; it was not used",
                self.creation_path
            ),
        )
        .with_hint("treat this as a security incident: somebody may have replaced the secret id")
        .with_status(answer.status)
        .with_endpoint(&answer.endpoint))
    }
}

impl Envelope {
    /// The server did not accept the secret id that was inside.
    pub(crate) fn refuse(&mut self) {
        if let Self::Opened { seal, secret_id } = self {
            *self = Self::Refused {
                seal: *seal,
                secret_id: secret_id.clone(),
            };
        }
    }
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wrapped")
            .field("token", &self.token)
            .field("creation_path", &self.creation_path)
            .finish()
    }
}

async fn open(server: &Server, wrapping: &Secret) -> Result<Secret, Error> {
    let call = Call::post("sys/wrapping/unwrap").with_token(Some(wrapping));
    let mut answer: Answer = server.send(call).await.map_err(|refusal| {
        if refusal.error.kind() == ErrorKind::Denied {
            intercepted(refusal.error)
        } else {
            lost(refusal.error)
        }
    })?;
    let secret_id = answer.secret("/data/secret_id").map_err(lost)?;
    if answer
        .seconds("/data/secret_id_num_uses")
        .ok()
        .flatten()
        .is_some_and(|uses| uses.as_secs() == 1)
    {
        tracing::warn!(
            "the secret id in the wrapping token is good for one login: the session ends with its token"
        );
    }
    Ok(secret_id)
}

/// The envelope is open or was never valid.
fn intercepted(error: Error) -> Error {
    with_facts_of(
        Error::new(
            ErrorKind::Denied,
            "the wrapping token is not valid: it was used already or has expired",
        ),
        error,
    )
    .with_hint(
        "if nobody of yours used it, treat this as a security incident; then issue a new one",
    )
}

/// Nobody knows whether the envelope is open.
fn lost(error: Error) -> Error {
    with_facts_of(
        Error::new(
            ErrorKind::Denied,
            "the wrapped secret id was asked for and did not arrive, and it can be asked for only once",
        ),
        error,
    )
    .with_hint("issue a new wrapping token")
}

fn with_facts_of(mut error: Error, cause: Error) -> Error {
    if let Some(status) = cause.status() {
        error = error.with_status(status);
    }
    if cause.is_timeout() {
        error = error.timed_out();
    }
    error.with_cause(cause)
}
