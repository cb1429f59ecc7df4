use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Request, Uri};
use serde::Deserialize;
use tower_auth_core::{Description, Error, ErrorKind, Fetch, Secret, Token, TokenSource};
use tower_auth_io::{EndpointUrl, World};

use crate::inspection::Inspection;
use crate::{answer, bearer};

/// An identity token of a GitHub Actions job.
///
/// GitHub gives it to jobs that have the permission `id-token: write`. It lives for about five minutes, so
/// there is a new one for every exchange, for as long as the job runs.
///
/// ```
/// use tower_auth_io::{MapEnv, World};
/// use tower_auth_workload::GitHubActions;
///
/// let world = World::closed().with_env(MapEnv::from([("GITHUB_ACTIONS", "true")]));
/// let error = GitHubActions::new("https://api.anthropic.com", &world).unwrap_err();
/// assert!(error.to_string().contains("permissions: { id-token: write }"));
/// ```
#[derive(Clone, Debug)]
pub struct GitHubActions {
    endpoint: EndpointUrl,
    request_token: Secret,
    world: World,
    inspection: Inspection,
}

impl GitHubActions {
    /// A token for this audience. What the runner says about itself is read here, once: it is the same for
    /// the whole job.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) outside of GitHub Actions;
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) in a job without the permission, if a variable cannot be
    /// meant, or if the audience is blank.
    pub fn new(audience: impl Into<String>, world: &World) -> Result<Self, Error> {
        let inspection = Inspection::new(NAME, audience.into(), world)?.of_issuer();
        let (url, request_token) = settings(world).map_err(|error| error.with_source_name(NAME))?;
        Ok(Self {
            endpoint: EndpointUrl::parse(URL, &url)
                .map_err(|error| error.with_source_name(NAME))?,
            request_token,
            world: world.clone(),
            inspection,
        })
    }

    fn request(&self) -> Result<Request<Bytes>, Error> {
        let authorization = bearer::authorization(&self.request_token).map_err(|_| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("the environment variable {TOKEN} has a character that no header may have"),
            )
        })?;
        let audience = self.inspection.audience().expected().unwrap_or_default();
        Request::get(with_audience(self.endpoint.uri(), audience)?)
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .body(Bytes::new())
            .map_err(|cause| {
                Error::new(ErrorKind::InvalidConfig, "no request can be made").with_cause(cause)
            })
    }

    async fn ask(&self) -> Result<Secret, Error> {
        let response = self.world.transport().send(self.request()?).await?;
        let now = self.world.clock().now();
        let answer: Answer = answer::read(response, &[&self.request_token], now)
            .map_err(|error| error.with_endpoint(self.endpoint.uri()))?;
        Ok(Secret::new(answer.value))
    }
}

impl TokenSource for GitHubActions {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        let text = self.ask().await.map_err(|error| {
            let error = error.with_source_name(NAME);
            match error.status().map(|status| status.as_u16()) {
                Some(401 | 403) => error.with_hint(
                    "the runner's request token ends with its job: fetch within the job, and see that \
                     the job has `permissions: { id-token: write }`",
                ),
                _ => error,
            }
        })?;
        let (token, _) = self
            .inspection
            .inspect(text, "the answer")
            .map_err(|error| error.with_endpoint(self.endpoint.uri()))?;
        Ok(token)
    }

    fn describe(&self) -> Description {
        self.inspection
            .describe()
            .with_setting("endpoint", URL)
            .with_setting("request token", TOKEN)
    }
}

#[derive(Deserialize)]
struct Answer {
    value: String,
}

fn settings(world: &World) -> Result<(String, Secret), Error> {
    let env = world.env();
    match (env.get(URL)?, env.get(TOKEN)?) {
        (Some(url), Some(token)) => Ok((url, Secret::new(token))),
        (None, None) if env.get("GITHUB_ACTIONS")?.is_none() => Err(Error::new(
            ErrorKind::NotConfigured,
            "this is not a job of GitHub Actions: GITHUB_ACTIONS is not set",
        )),
        (url, _) => Err(Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "this job may not have identity tokens: {} is not set",
                if url.is_none() { URL } else { TOKEN }
            ),
        )
        .with_hint(
            "add `permissions: { id-token: write }` to the job; pull requests from forks never have it, \
             and a container or a reusable workflow must be passed it",
        )),
    }
}

/// The request URL, which has a query of its own, with this audience and no other.
fn with_audience(uri: &Uri, audience: &str) -> Result<Uri, Error> {
    let mut url = String::new();
    if let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) {
        // Writing into a string cannot fail.
        let _ = write!(url, "{scheme}://{authority}");
    }
    url.push_str(uri.path());
    let kept = uri.query().into_iter().flat_map(|query| query.split('&'));
    let mut separator = '?';
    for pair in kept.filter(|pair| !pair.is_empty() && !is_audience(pair)) {
        url.push(separator);
        url.push_str(pair);
        separator = '&';
    }
    url.push(separator);
    url.push_str("audience=");
    url.push_str(&percent_encoded(audience));
    url.parse().map_err(|cause: http::uri::InvalidUri| {
        Error::new(ErrorKind::InvalidConfig, format!("{URL} is not a URL")).with_cause(cause)
    })
}

fn is_audience(pair: &str) -> bool {
    pair.split('=').next() == Some("audience")
}

/// As `encodeURIComponent`, less its exceptions: only what RFC 3986 section 2.3 calls unreserved stays.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

const NAME: &str = "github actions id token";
const URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_joins_the_query_and_replaces_another() {
        for (url, expected) in [
            ("https://a.test/t", "https://a.test/t?audience=b%20c%2F"),
            ("https://a.test/t?", "https://a.test/t?audience=b%20c%2F"),
            (
                "https://a.test/t?v=2.0&audience=x&audiences=y",
                "https://a.test/t?v=2.0&audiences=y&audience=b%20c%2F",
            ),
        ] {
            let uri = with_audience(&url.parse().unwrap(), "b c/").unwrap();
            assert_eq!(uri.to_string(), expected);
        }
    }

    #[test]
    fn an_audience_of_any_characters_is_encoded() {
        assert_eq!(percent_encoded("a-._~ +&=#ä"), "a-._~%20%2B%26%3D%23%C3%A4");
    }
}
