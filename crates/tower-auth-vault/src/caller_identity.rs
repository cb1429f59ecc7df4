use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, Uri};
use serde_json::{Map, Value};
use tower_auth_core::{Credential, Error, ErrorKind, Expiry, Fingerprint, Secret};

use crate::body::Body;

/// A request to AWS STS (`GetCallerIdentity`) that somebody has signed and nobody has sent: it proves to
/// Vault which AWS identity made it, because Vault sends it on.
///
/// Any signer can make one; this crate knows none. The request is `POST`, its body is
/// [`BODY`](Self::BODY), and `url` is the STS endpoint of the region that it was signed for. Make a new
/// one for each login: a signature is good for 15 minutes.
///
/// ```
/// use http::HeaderMap;
/// use tower_auth_core::{Fetch, source_fn};
/// use tower_auth_vault::{Login, SignedCallerIdentity};
///
/// fn sign(region: &str, body: &str) -> HeaderMap { HeaderMap::new() } // your signer
///
/// let identity = source_fn(|_: Fetch<SignedCallerIdentity>| async {
///     let headers = sign("eu-west-1", SignedCallerIdentity::BODY);
///     SignedCallerIdentity::new("https://sts.eu-west-1.amazonaws.com/", headers)
/// });
/// let login = Login::aws("reports", identity)?;
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct SignedCallerIdentity {
    url: String,
    headers: HeaderMap,
}

impl SignedCallerIdentity {
    /// The body of the request.
    pub const BODY: &'static str = "Action=GetCallerIdentity&Version=2011-06-15";

    /// The request with these headers, the `Authorization` among them.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the URL is not `https`, or is that of another region
    /// than the one in the signature: AWS would refuse it, and Vault would only say that it did.
    pub fn new(url: &str, headers: HeaderMap) -> Result<Self, Error> {
        let uri: Option<Uri> = url.parse().ok();
        let host = uri
            .as_ref()
            .filter(|uri| uri.scheme_str() == Some("https"))
            .and_then(Uri::host)
            .ok_or_else(|| invalid("the URL of STS must be an https URL".to_owned()))?;
        if let (Some(signed), Some(asked)) = (signed_region(&headers), region_of(host)) {
            if signed != asked {
                return Err(invalid(format!(
                    "the request is signed for the region {signed} and goes to STS in {asked}"
                )));
            }
        }
        Ok(Self {
            url: url.to_owned(),
            headers,
        })
    }

    /// Whether this header is among those that were signed.
    pub(crate) fn has_signed(&self, name: &str) -> bool {
        self.headers.contains_key(name)
            && authorization(&self.headers).is_some_and(|text| {
                text.split("SignedHeaders=")
                    .nth(1)
                    .and_then(|rest| rest.split([',', ' ']).next())
                    .is_some_and(|list| list.split(';').any(|signed| signed == name))
            })
    }

    /// The fields of the login.
    pub(crate) fn write(&self, body: Body) -> Result<Body, Error> {
        let mut headers = Map::new();
        for name in self.headers.keys() {
            let values = self.headers.get_all(name).iter().map(|value| {
                value.to_str().map(Value::from).map_err(|_| {
                    invalid(format!(
                        "the header {name} of the signed request is no text"
                    ))
                })
            });
            headers.insert(name.to_string(), values.collect::<Result<_, _>>()?);
        }
        let encode = |text: &str| BASE64_STANDARD.encode(text);
        Ok(body
            .text("iam_http_request_method", "POST")
            .text("iam_request_url", &encode(&self.url))
            .text("iam_request_body", &encode(Self::BODY))
            .secret(
                "iam_request_headers",
                &Secret::new(encode(&Value::Object(headers).to_string())),
            ))
    }
}

impl Credential for SignedCallerIdentity {
    fn expiry(&self) -> Expiry {
        Expiry::In(std::time::Duration::from_secs(15 * 60))
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(authorization(&self.headers).unwrap_or_default().as_bytes())
    }
}

/// Shows the URL and the names of the headers.
impl fmt::Debug for SignedCallerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedCallerIdentity")
            .field("url", &self.url)
            .field("headers", &self.headers.keys())
            .finish()
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(http::header::AUTHORIZATION)?.to_str().ok()
}

/// `…Credential=<id>/<date>/<region>/sts/aws4_request…`
fn signed_region(headers: &HeaderMap) -> Option<&str> {
    authorization(headers)?
        .split("Credential=")
        .nth(1)?
        .split('/')
        .nth(2)
}

/// The global endpoint is in `us-east-1`.
fn region_of(host: &str) -> Option<&str> {
    if host == "sts.amazonaws.com" {
        return Some("us-east-1");
    }
    let rest = host
        .strip_prefix("sts.")
        .or_else(|| host.strip_prefix("sts-fips."))?;
    rest.strip_suffix(".amazonaws.com")
        .or_else(|| rest.strip_suffix(".amazonaws.com.cn"))
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, what)
}
