use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_auth_core::{Description, Error, ErrorKind, Fetch, Secret, Token, TokenSource};

use crate::inspection::Inspection;
use crate::kubernetes_api::checked_name;
use crate::{KubernetesApi, answer, bearer};

/// A token of a service account from the Kubernetes API (`TokenRequest` of `authentication.k8s.io/v1`).
///
/// Here the program chooses the audience, unlike with a [`KubernetesFile`](crate::KubernetesFile), and may ask
/// for another service account than its own. Whoever asks needs the permission to:
///
/// ```yaml
/// apiVersion: rbac.authorization.k8s.io/v1
/// kind: Role
/// metadata: { name: reports-token, namespace: default }
/// rules:
///   - apiGroups: [""]
///     resources: ["serviceaccounts/token"]
///     resourceNames: ["reports"]
///     verbs: ["create"]
/// ```
///
/// The token ends when the API says; a cluster may give less than was asked for.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    api: KubernetesApi,
    service_account: String,
    expiration: Duration,
    bound_to: Option<BoundPod>,
    inspection: Inspection,
}

#[derive(Clone, Debug)]
struct BoundPod {
    name: String,
    uid: String,
}

impl TokenRequest {
    /// What the API grants at least: ten minutes.
    pub const SHORTEST: Duration = Duration::from_secs(600);

    /// Tokens of this service account for this audience. They live for an hour unless
    /// [`with_expiration`](Self::with_expiration) says otherwise.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the name cannot be one or the audience is blank.
    pub fn new(
        service_account: &str,
        audience: impl Into<String>,
        api: KubernetesApi,
    ) -> Result<Self, Error> {
        Ok(Self {
            service_account: checked_name("the name of the service account", service_account)
                .map_err(|error| error.with_source_name(NAME))?,
            expiration: Duration::from_secs(3600),
            bound_to: None,
            inspection: Inspection::new(NAME, audience.into(), &api.world)?.of_issuer(),
            api,
        })
    }

    /// How long the tokens shall live, in whole seconds.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if that is less than [`SHORTEST`](Self::SHORTEST) or more
    /// than the API can read.
    pub fn with_expiration(mut self, expiration: Duration) -> Result<Self, Error> {
        if expiration < Self::SHORTEST || expiration.as_secs() > u64::from(u32::MAX) {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the expiration must be between 600 s and 2^32 - 1 s",
            )
            .with_source_name(NAME));
        }
        self.expiration = expiration;
        Ok(self)
    }

    /// Lets the tokens die with this pod.
    #[must_use]
    pub fn bound_to_pod(mut self, name: impl Into<String>, uid: impl Into<String>) -> Self {
        self.bound_to = Some(BoundPod {
            name: name.into(),
            uid: uid.into(),
        });
        self
    }

    async fn ask(&self, cx: &Fetch) -> Result<Token, Error> {
        let bearer = self.api.bearer.fetch(&cx.for_subject()).await?;
        let namespace = self.api.namespace.name().await?;
        let uri = self.uri(&namespace)?;
        let at = |error: Error| error.with_endpoint(&uri);
        let request = self.request(uri.clone(), bearer.secret()).map_err(at)?;
        let response = self.api.world.transport().send(request).await?;
        let now = self.api.world.clock().now();
        let answer: Answer = answer::read(response, &[bearer.secret()], now)
            .map_err(|error| self.explain(error, &namespace))
            .map_err(at)?;
        let (token, _) = self
            .inspection
            .inspect(Secret::new(answer.status.token), "the answer")
            .map_err(at)?;
        Ok(token)
    }

    fn uri(&self, namespace: &str) -> Result<Uri, Error> {
        let base = self.api.url.to_string();
        format!(
            "{}/api/v1/namespaces/{namespace}/serviceaccounts/{}/token",
            base.trim_end_matches('/'),
            self.service_account
        )
        .parse()
        .map_err(|cause: http::uri::InvalidUri| {
            Error::new(
                ErrorKind::InvalidConfig,
                "the address of the Kubernetes API makes no URL",
            )
            .with_cause(cause)
        })
    }

    fn request(&self, uri: Uri, token: &Secret) -> Result<Request<Bytes>, Error> {
        let authorization = bearer::authorization(token).map_err(|_| {
            Error::new(
                ErrorKind::Malformed,
                "the token for the Kubernetes API has a character that no header may have",
            )
        })?;
        Request::post(uri)
            .header(AUTHORIZATION, authorization)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .body(Bytes::from(self.body().to_string()))
            .map_err(|cause| {
                Error::new(ErrorKind::InvalidConfig, "no request can be made").with_cause(cause)
            })
    }

    fn body(&self) -> Value {
        let mut spec = serde_json::Map::new();
        spec.insert(
            "audiences".to_owned(),
            json!([self.inspection.audience().expected()]),
        );
        spec.insert(
            "expirationSeconds".to_owned(),
            json!(self.expiration.as_secs()),
        );
        if let Some(pod) = &self.bound_to {
            let bound = json!({
                "kind": "Pod",
                "apiVersion": "v1",
                "name": pod.name,
                "uid": pod.uid,
            });
            spec.insert("boundObjectRef".to_owned(), bound);
        }
        json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": spec,
        })
    }

    fn explain(&self, error: Error, namespace: &str) -> Error {
        let account = &self.service_account;
        match error.status().map(|status| status.as_u16()) {
            Some(401) => error.with_hint(
                "the API does not take the token that asked: it has run out, or is for another audience",
            ),
            Some(403) => error.with_hint(format!(
                "whoever asks needs a Role in namespace {namespace} with apiGroups [\"\"], resources \
                 [\"serviceaccounts/token\"], resourceNames [\"{account}\"], verbs [\"create\"]"
            )),
            // Not every 404 is that of the API: a wrong address has them too.
            Some(404) if error.code().is_some() => {
                error
                    .with_kind(ErrorKind::Denied)
                    .with_hint(format!("is there a service account {account} in namespace {namespace}?"))
            }
            Some(409) => error.with_hint("the pod that the token is bound to is another one by now"),
            _ => error,
        }
    }
}

impl TokenSource for TokenRequest {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        // What the pod's own identity says keeps its name.
        self.ask(cx).await.map_err(|error| error.or_source(NAME))
    }

    fn describe(&self) -> Description {
        self.inspection
            .describe()
            .with_setting("service account", self.service_account.clone())
            .with_setting(
                "namespace",
                self.api.namespace.origin().display().to_string(),
            )
            .with_setting("endpoint", self.api.url.to_string())
            .with_setting("bearer", self.api.bearer.describe().to_string())
    }
}

#[derive(Deserialize)]
struct Answer {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    token: String,
}

const NAME: &str = "kubernetes token request";
