use tower_auth_core::{Error, ErrorKind, Origin};
use tower_auth_io::EndpointUrl;

/// Where the Claude API is if nobody says otherwise.
pub const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";

/// The URL that the paths of the API are appended to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    /// Without a slash at its end.
    url: EndpointUrl,
    origin: Origin,
}

impl BaseUrl {
    pub(crate) fn parse(setting: &str, url: &str) -> Result<Self, Error> {
        let url = EndpointUrl::parse(setting, url)?;
        if url.uri().query().is_some() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{setting} has a query, to which no path can be appended: remove it"),
            ));
        }
        let origin = url.origin()?;
        Ok(Self { url, origin })
    }

    pub(crate) fn standard() -> Result<Self, Error> {
        Self::parse("the default base URL", DEFAULT_BASE_URL)
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The token endpoint. A path of the base URL is kept: there may be a gateway behind it.
    pub(crate) fn token_endpoint(&self) -> Result<EndpointUrl, Error> {
        let base = self.url.to_string();
        let url = format!("{}{TOKEN_PATH}", base.trim_end_matches('/'));
        EndpointUrl::parse("the token endpoint", &url)
    }
}

const TOKEN_PATH: &str = "/v1/oauth/token";

#[cfg(test)]
mod tests {
    use super::*;

    fn token_endpoint(base: &str) -> String {
        let base = BaseUrl::parse("BASE", base).unwrap();
        base.token_endpoint().unwrap().to_string()
    }

    #[test]
    fn c68_a_path_of_the_base_url_is_kept() {
        assert_eq!(
            token_endpoint("https://gw.test:8443/claude/"),
            "https://gw.test:8443/claude/v1/oauth/token"
        );
        assert_eq!(
            token_endpoint(DEFAULT_BASE_URL),
            "https://api.anthropic.com/v1/oauth/token"
        );
        assert_eq!(
            token_endpoint("http://[::1]:9/"),
            "http://[::1]:9/v1/oauth/token"
        );
    }

    #[test]
    fn c67_what_looks_like_this_machine_is_not() {
        for bad in [
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example/",
            "http://api.anthropic.com",
            "https://api.anthropic.com?key=1",
        ] {
            let error = BaseUrl::parse("ANTHROPIC_BASE_URL", bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{bad}");
            assert!(
                error.to_string().starts_with("ANTHROPIC_BASE_URL "),
                "{error}"
            );
        }
    }
}
