use std::fmt;

use http::{Extensions, HeaderMap, HeaderName, Method, Request, Uri};

/// A request without its body: what a selector chooses the key by.
#[derive(Clone, Copy)]
pub struct RequestHead<'r> {
    method: &'r Method,
    uri: &'r Uri,
    headers: &'r HeaderMap,
    extensions: &'r Extensions,
}

impl<'r> RequestHead<'r> {
    /// The head of this request.
    #[inline]
    #[must_use]
    pub fn of<B>(request: &'r Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// The method.
    #[must_use]
    pub fn method(self) -> &'r Method {
        self.method
    }

    /// Where the request goes.
    #[must_use]
    pub fn uri(self) -> &'r Uri {
        self.uri
    }

    /// The headers.
    #[must_use]
    pub fn headers(self) -> &'r HeaderMap {
        self.headers
    }

    /// The value of a header that is there once and is visible ASCII. `None` also where it is there
    /// twice: whose credential it would be then is not for this layer to guess.
    #[must_use]
    pub fn header(self, name: &HeaderName) -> Option<&'r str> {
        let mut values = self.headers.get_all(name).iter();
        let only = values.next().filter(|_| values.next().is_none())?;
        only.to_str().ok()
    }

    /// The extensions: where a caller of the service puts what the request is about.
    #[must_use]
    pub fn extensions(self) -> &'r Extensions {
        self.extensions
    }
}

/// Shows the method and the host, and no header.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("host", &self.uri.host())
            .finish_non_exhaustive()
    }
}
