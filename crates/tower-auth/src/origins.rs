use http::Uri;
use http::uri::Scheme;
use tower_auth_core::Origin;

/// Where a credential may go.
///
/// The request's own URI decides and nothing else does; in particular not its `Host` header, which says
/// nothing about where the request is sent.
#[derive(Clone, Debug)]
pub(crate) enum Origins {
    /// To any https origin, and over plain http to this machine.
    Encrypted,
    /// To these.
    Only(Box<[Allowed]>),
    /// Anywhere, and also where the URI does not say.
    Any,
}

/// One origin, and the text that most requests to it have there.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    origin: Origin,
    /// `host` or `host:port`, as a client normally writes it. A request with this very text is allowed
    /// without parsing anything.
    authority: Box<str>,
    scheme: Scheme,
}

impl Origins {
    pub(crate) fn only(origins: impl IntoIterator<Item = Origin>) -> Self {
        Self::Only(origins.into_iter().map(Allowed::new).collect())
    }

    /// Those of a source; where it names none, the default.
    pub(crate) fn of_source(origins: &[Origin]) -> Self {
        if origins.is_empty() {
            Self::Encrypted
        } else {
            Self::only(origins.iter().cloned())
        }
    }

    /// Whether a request to this URI may be stamped. Allocates nothing.
    #[inline]
    pub(crate) fn allow(&self, uri: &Uri) -> bool {
        match self {
            // Where there is a scheme there is a host. Asking for it would parse the authority, which
            // costs more than the rest of the stamp.
            Self::Encrypted => match uri.scheme().map(Scheme::as_str) {
                Some("https") => true,
                Some("http") => leads_to_this_machine(uri),
                _ => false,
            },
            Self::Only(allowed) => is_among(allowed, uri),
            Self::Any => true,
        }
    }
}

#[cold]
fn leads_to_this_machine(uri: &Uri) -> bool {
    uri.host().is_some_and(Origin::is_loopback_host)
}

#[inline(never)]
fn is_among(allowed: &[Allowed], uri: &Uri) -> bool {
    allowed.iter().any(|allowed| allowed.allows(uri))
}

impl Allowed {
    fn new(origin: Origin) -> Self {
        let text = origin.to_string();
        let authority = text
            .split_once("://")
            .map_or("", |(_, authority)| authority);
        Self {
            authority: authority.into(),
            scheme: if origin.is_https() {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
            origin,
        }
    }

    #[inline]
    fn allows(&self, uri: &Uri) -> bool {
        let same_text = uri.scheme() == Some(&self.scheme)
            && uri
                .authority()
                .is_some_and(|authority| authority.as_str() == &*self.authority);
        same_text || self.origin.covers(uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn where_nothing_is_said_https_goes_and_http_only_to_this_machine() {
        let origins = Origins::of_source(&[]);
        for allowed in [
            "https://api.example.com/v1",
            "https://10.0.0.1:8443/",
            "http://localhost:8080/",
            "http://127.0.0.1/",
            "http://[::1]:1/",
        ] {
            assert!(origins.allow(&uri(allowed)), "{allowed}");
        }
        for refused in [
            "http://api.example.com/",
            "http://10.0.0.1/",
            "http://169.254.169.254/",
            "http://localhost.example.com/",
            "http://127.0.0.1.nip.io/",
            "ws://localhost/",
            "/v1/messages",
            "*",
            "api.example.com:443",
        ] {
            assert!(!origins.allow(&uri(refused)), "{refused}");
        }
    }

    #[test]
    fn the_short_cut_by_text_allows_nothing_that_the_comparison_refuses() {
        let origin: Origin = "https://api.example.com".parse().unwrap();
        let origins = Origins::only([origin.clone()]);
        for text in [
            "https://api.example.com/",
            "https://API.example.com:443/",
            "http://api.example.com/",
            "https://api.example.com:444/",
            "https://api.example.com.evil.test/",
            "https://api.example.com@evil.test/",
            "/api.example.com",
        ] {
            let uri = uri(text);
            assert_eq!(origins.allow(&uri), origin.covers(&uri), "{text}");
        }
    }
}
