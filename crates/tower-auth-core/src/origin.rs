use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;

use crate::{Error, ErrorKind};

/// Where a request goes: scheme, host and port (RFC 6454 section 4).
///
/// Hosts are compared whole and without regard to case. There is no prefix, suffix or wildcard match:
/// `https://api.example.com` is neither `https://api.example.com.evil.test` nor
/// `https://api.example.com.` with a trailing dot.
///
/// ```
/// use tower_auth_core::Origin;
///
/// let origin: Origin = "https://api.example.com".parse()?;
/// assert!(origin.covers(&"https://API.example.com:443/v1/messages".parse().unwrap()));
/// assert!(!origin.covers(&"http://api.example.com/".parse().unwrap()));
/// assert!(!origin.covers(&"https://api.example.com:8443/".parse().unwrap()));
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    https: bool,
    host: Box<str>,
    port: u16,
}

impl Origin {
    /// The origin of a URL; whatever follows the host is ignored.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is not an absolute `http` or `https` URL, or if
    /// it carries a user name or password.
    pub fn of(uri: &Uri) -> Result<Self, Error> {
        let invalid = |what: &'static str| Error::new(ErrorKind::InvalidConfig, what);
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(_) => return Err(invalid("an origin must be http or https")),
            None => {
                return Err(invalid(
                    "an origin must be an absolute URL, like https://host:port",
                ));
            }
        };
        let authority = uri
            .authority()
            .ok_or_else(|| invalid("an origin must name a host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("an origin must not carry a user name or password"));
        }
        if authority.host().is_empty() {
            return Err(invalid("an origin must name a host"));
        }
        Ok(Self {
            https,
            host: authority.host().to_ascii_lowercase().into_boxed_str(),
            port: authority.port_u16().unwrap_or(default_port(https)),
        })
    }

    /// Whether a request to this URL goes to this origin. Allocates nothing.
    #[must_use]
    pub fn covers(&self, uri: &Uri) -> bool {
        let scheme = if self.https {
            &Scheme::HTTPS
        } else {
            &Scheme::HTTP
        };
        uri.scheme() == Some(scheme)
            && uri.authority().is_some_and(|authority| {
                authority.port_u16().unwrap_or(default_port(self.https)) == self.port
                    && authority.host().eq_ignore_ascii_case(&self.host)
            })
    }

    /// Whether it is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// Whether the host is an address or name of this machine: `127.0.0.0/8`, `[::1]`, `localhost` or a
    /// name under `.localhost` (RFC 6761 section 6.3). Nothing is resolved.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        Self::is_loopback_host(&self.host)
    }

    /// The same question about the host of a URL, without making an `Origin` of it. Allocates nothing.
    ///
    /// ```
    /// use tower_auth_core::Origin;
    ///
    /// assert!(Origin::is_loopback_host("[::1]"));
    /// assert!(!Origin::is_loopback_host("127.0.0.1.example.com"));
    /// ```
    #[must_use]
    pub fn is_loopback_host(host: &str) -> bool {
        is_loopback(host)
    }

    /// The host, in lower case; an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own where the URL named none.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

/// A look-alike such as `127.0.0.1.example.com` is a name, not an address, and is refused.
fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<std::net::Ipv4Addr>() {
        return address.is_loopback();
    }
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return address
            .parse::<std::net::Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback());
    }
    let host = host.as_bytes();
    host.eq_ignore_ascii_case(b"localhost")
        || host
            .len()
            .checked_sub(b".localhost".len())
            .and_then(|start| host.get(start..))
            .is_some_and(|end| end.eq_ignore_ascii_case(b".localhost"))
}

impl FromStr for Origin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let uri = text
            .parse::<Uri>()
            .map_err(|cause| Error::new(ErrorKind::InvalidConfig, "not a URL").with_cause(cause))?;
        Self::of(&uri)
    }
}

impl TryFrom<&str> for Origin {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        text.parse()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port != default_port(self.https) {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(origin: &str, uri: &str) -> bool {
        origin
            .parse::<Origin>()
            .unwrap()
            .covers(&uri.parse().unwrap())
    }

    #[test]
    fn fc_f09_only_the_same_scheme_host_and_port_match() {
        assert!(covers("https://a.test", "https://a.test/x?y"));
        assert!(covers("https://A.test:443", "https://a.TEST"));
        assert!(
            covers("https://a.test", "https://user@a.test/"),
            "userinfo does not change the host"
        );
        assert!(covers("http://[::1]:8080", "http://[::1]:8080/"));
        for other in [
            "http://a.test/",
            "https://a.test:444/",
            "https://a.test./",
            "https://xa.test/",
            "https://a.test.evil.test/",
            "https://evil.test/a.test",
            "https://a.test@evil.test/",
            "/a.test",
            "a.test:443",
        ] {
            assert!(!covers("https://a.test", other), "{other}");
        }
    }

    #[test]
    fn fc_g04_look_alikes_of_loopback_are_not_loopback() {
        let loopback = |uri: &str| uri.parse::<Origin>().unwrap().is_loopback();
        for uri in [
            "http://127.0.0.1",
            "http://127.9.9.9:1",
            "http://[::1]",
            "http://LOCALHOST",
            "http://a.localhost",
        ] {
            assert!(loopback(uri), "{uri}");
        }
        for uri in [
            "http://localhost.evil.test",
            "http://127.0.0.1.nip.io",
            "http://127.0.0.1.",
            "http://xlocalhost",
            "http://[::2]",
            "http://0.0.0.0",
            "http://128.0.0.1",
        ] {
            assert!(!loopback(uri), "{uri}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "a.test",
            "/path",
            "ftp://a.test",
            "https://user:pw@a.test",
            "https://",
        ] {
            assert_eq!(
                text.parse::<Origin>().unwrap_err().kind(),
                ErrorKind::InvalidConfig,
                "{text}"
            );
        }
    }
}
