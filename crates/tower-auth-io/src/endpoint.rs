use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use http::Uri;
use tower_auth_core::{Error, ErrorKind, Origin};

/// A URL that a credential may be sent to.
///
/// It is `https`, or it is `http` to this machine, which is decided by parsing the host: what merely
/// looks like a loopback address is refused, as are a user name, a password and a fragment. A metadata
/// server on a link-local address is plain `http` by nature and has a constructor of its own, so that a
/// token URL from a configuration file cannot point at it.
///
/// ```
/// use tower_auth_io::EndpointUrl;
///
/// let endpoint = EndpointUrl::parse("TOKEN_URL", "https://login.example.com/token")?;
/// assert_eq!(endpoint.uri().path(), "/token");
///
/// let error = EndpointUrl::parse("TOKEN_URL", "http://login.example.com/token").unwrap_err();
/// assert!(error.to_string().starts_with("TOKEN_URL must be an https URL"));
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(Uri);

impl EndpointUrl {
    /// The URL of a token endpoint or of anything else that is sent a credential (RFC 6749 section 3.2).
    ///
    /// `setting` is what the reader of an error must change: a variable, a field of a file, an argument.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig), naming `setting` and saying what is wrong. The URL
    /// itself is not shown: it may have a secret in a place where none should be.
    pub fn parse(setting: &str, url: &str) -> Result<Self, Error> {
        let (uri, reach) = parse(setting, url)?;
        match reach {
            Reach::Https | Reach::Loopback => Ok(Self(uri)),
            Reach::Metadata => Err(invalid(
                setting,
                "must be an https URL; a link-local address is good for a metadata server only",
            )),
            Reach::Clear => Err(invalid(
                setting,
                "must be an https URL; http is for loopback addresses only",
            )),
        }
    }

    /// The URL of a metadata server: as [`parse`](Self::parse), and also `http` to a link-local address
    /// (`169.254.0.0/16`, `fe80::/10`), to the fixed IPv6 addresses of AWS (`fd00:ec2::254` and
    /// `fd00:ec2::23`) and to `metadata.google.internal`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn metadata(setting: &str, url: &str) -> Result<Self, Error> {
        let (uri, reach) = parse(setting, url)?;
        match reach {
            Reach::Https | Reach::Loopback | Reach::Metadata => Ok(Self(uri)),
            Reach::Clear => Err(invalid(
                setting,
                "must be an https URL; http is for loopback and link-local addresses only",
            )),
        }
    }

    /// The URL of a server that speaks plain `http` beyond this machine, as servers inside a cluster do:
    /// as [`parse`](Self::parse), and also `http` to any host but a metadata server.
    ///
    /// Whoever is on the way can read and use what is sent. The client has to be told as well, see
    /// [`Client::allowing_clear_text`](crate::Client::allowing_clear_text).
    ///
    /// ```
    /// use tower_auth_io::EndpointUrl;
    ///
    /// let url = EndpointUrl::clear_text("VAULT_ADDR", "http://vault:8200")?;
    /// assert_eq!(url.to_string(), "http://vault:8200/");
    /// # Ok::<(), tower_auth_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn clear_text(setting: &str, url: &str) -> Result<Self, Error> {
        let (uri, reach) = parse(setting, url)?;
        match reach {
            Reach::Https | Reach::Loopback | Reach::Clear => Ok(Self(uri)),
            Reach::Metadata => Err(invalid(
                setting,
                "must be an https or http URL; a link-local address is good for a metadata server only",
            )),
        }
    }

    /// The URL.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Scheme, host and port.
    ///
    /// # Errors
    /// None in practice: what has no origin is not an endpoint.
    pub fn origin(&self) -> Result<Origin, Error> {
        Origin::of(&self.0)
    }
}

impl From<EndpointUrl> for Uri {
    fn from(endpoint: EndpointUrl) -> Self {
        endpoint.0
    }
}

/// Shows host and path; a query may hold a secret.
impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(scheme), Some(authority)) = (self.0.scheme(), self.0.authority()) {
            write!(f, "{scheme}://{authority}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({self})")
    }
}

/// How far a request to a URL travels in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nowhere.
    Https,
    /// Within this machine.
    Loopback,
    /// To the machine's own host, where metadata servers listen.
    Metadata,
    /// Over a network.
    Clear,
}

impl Reach {
    /// # Errors
    /// As [`Origin::of`].
    pub(crate) fn of(uri: &Uri) -> Result<Self, Error> {
        let origin = Origin::of(uri)?;
        Ok(if origin.is_https() {
            Self::Https
        } else if origin.is_loopback() {
            Self::Loopback
        } else if is_metadata(origin.host()) {
            Self::Metadata
        } else {
            Self::Clear
        })
    }
}

/// Whether this is a host that no proxy stands before.
#[cfg(feature = "hyper")]
pub(crate) fn is_next_door(uri: &Uri) -> bool {
    Origin::of(uri).is_ok_and(|origin| origin.is_loopback() || is_metadata(origin.host()))
}

fn parse(setting: &str, url: &str) -> Result<(Uri, Reach), Error> {
    let url = url.trim();
    // The parser below drops a fragment in silence.
    if url.contains('#') {
        return Err(invalid(setting, "must be an https URL without a fragment"));
    }
    let uri: Uri = url
        .parse()
        .map_err(|_| invalid(setting, "must be an https URL, like https://host/path"))?;
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(invalid(
            setting,
            "must be an https URL without a user name or password",
        ));
    }
    let reach = Reach::of(&uri)
        .map_err(|_| invalid(setting, "must be an https URL, like https://host/path"))?;
    Ok((uri, reach))
}

fn is_metadata(host: &str) -> bool {
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return address.is_link_local();
    }
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .and_then(|address| address.parse::<Ipv6Addr>().ok())
    {
        return address.is_unicast_link_local() || AWS_METADATA_V6.contains(&address);
    }
    host.eq_ignore_ascii_case(GCP_METADATA_HOST)
}

fn invalid(setting: &str, what: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, format!("{setting} {what}"))
}

/// The instance metadata service and the EKS Pod Identity agent.
const AWS_METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
];

const GCP_METADATA_HOST: &str = "metadata.google.internal";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fc_h01_a_token_url_is_https_or_on_this_machine() {
        for url in [
            "https://a.test/token",
            "https://a.test:8443/t?x=1",
            "HTTPS://A.test",
            "http://127.0.0.1:8080/t",
            "http://[::1]/t",
            "http://localhost/t",
            " https://a.test/t\n",
        ] {
            EndpointUrl::parse("URL", url).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        for url in [
            "",
            "a.test",
            "/token",
            "http://a.test/token",
            "http://169.254.169.254/token",
            "http://metadata.google.internal/token",
            "http://[fd00:ec2::254]/token",
            "file:///etc/passwd",
            "gopher://a.test/",
            "https://user:canary@a.test/",
            "https://canary@a.test/",
            "https://a.test/#canary",
            "https://",
            "https:///canary",
            "https://a b/",
        ] {
            let error = EndpointUrl::parse("URL", url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(error.to_string().starts_with("URL must"), "{url}: {error}");
            assert!(error.to_string().contains("https"), "{url}: {error}");
            assert!(!error.to_string().contains("canary"), "{url}: {error}");
        }
    }

    #[test]
    fn fc_h01_a_metadata_url_may_be_link_local() {
        for url in [
            "http://169.254.169.254/latest",
            "http://169.254.170.2/v2",
            "http://[fe80::1]/x",
            "http://[fd00:ec2::254]/latest",
            "http://[fd00:ec2::23]/v1",
            "http://metadata.google.internal/computeMetadata",
            "http://127.0.0.1:40342/metadata",
            "https://a.test/",
        ] {
            EndpointUrl::metadata("URL", url).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
    }

    #[test]
    fn fc_h01_clear_text_to_other_machines_is_asked_for_by_name() {
        for url in ["http://vault:8200", "https://a.test", "http://127.0.0.1/"] {
            EndpointUrl::clear_text("URL", url).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        for url in [
            "http://169.254.169.254/latest",
            "http://metadata.google.internal/",
            "http://user:canary@vault:8200/",
            "vault:8200",
        ] {
            let error = EndpointUrl::clear_text("URL", url).unwrap_err();
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn fc_h01_what_looks_like_this_machine_is_refused() {
        for url in [
            "http://127.0.0.1.nip.io/",
            "http://localhost.evil.test/",
            "http://169.254.169.254.evil.test/",
            "http://169.254.169.254./",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fd00:ec2::255]/",
            "http://xmetadata.google.internal/",
            "http://metadata.google.internal.evil.test/",
            "http://0.0.0.0/",
            "http://10.0.0.1/",
        ] {
            assert!(EndpointUrl::metadata("URL", url).is_err(), "{url}");
        }
    }

    #[test]
    fn neither_display_nor_debug_shows_the_query() {
        let url = EndpointUrl::parse("URL", "https://a.test/t?k=canary").unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "https://a.test/t EndpointUrl(https://a.test/t)"
        );
        assert_eq!(url.uri().query(), Some("k=canary"));
    }
}
