use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use tower_auth_core::{Error, ErrorKind};

use crate::Env;

/// Which proxy stands before which host, by the variables that curl reads. `HTTP_PROXY` is not among
/// them: what is not encrypted stays on this machine.
pub(super) fn matcher(env: &dyn Env) -> Result<Option<Matcher>, Error> {
    let Some((name, proxy)) = first(
        env,
        &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
    )?
    else {
        return Ok(None);
    };
    let proxy = if proxy.contains("://") {
        proxy
    } else {
        format!("http://{proxy}")
    };
    check(name, &proxy)?;
    let except = first(env, &["no_proxy", "NO_PROXY"])?.map(|(_, hosts)| hosts);
    Ok(Some(
        Matcher::builder()
            .https(proxy)
            .no(except.unwrap_or_default())
            .build(),
    ))
}

/// The matcher passes over what it does not understand, and the proxy would be missed in silence.
fn check(name: &str, proxy: &str) -> Result<(), Error> {
    let invalid = |what: &str| {
        Error::new(
            ErrorKind::InvalidConfig,
            format!("the environment variable {name} {what}"),
        )
    };
    let uri: Uri = proxy
        .parse()
        .map_err(|_| invalid("does not name a proxy, like http://host:port"))?;
    match uri.scheme_str() {
        Some("http" | "https") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(()),
        Some("http" | "https") => Err(invalid("does not name a proxy, like http://host:port")),
        _ => Err(invalid(
            "names a proxy that is neither http nor https, which is all that is supported",
        )),
    }
}

fn first(env: &dyn Env, names: &[&'static str]) -> Result<Option<(&'static str, String)>, Error> {
    for name in names {
        if let Some(value) = env.get(name)? {
            return Ok(Some((name, value)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MapEnv;

    fn proxy_for(env: &[(&str, &str)], url: &str) -> Option<String> {
        let env: MapEnv = env.iter().copied().collect();
        let matcher = matcher(&env).unwrap()?;
        let intercept = matcher.intercept(&url.parse().unwrap())?;
        Some(intercept.uri().to_string())
    }

    #[test]
    fn fc_e08_the_variables_of_curl_are_honored() {
        let url = "https://a.test/";
        assert_eq!(proxy_for(&[], url), None);
        assert_eq!(proxy_for(&[("HTTPS_PROXY", "")], url), None);
        assert_eq!(proxy_for(&[("HTTP_PROXY", "http://p:1")], url), None);
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            let proxy = proxy_for(&[(name, "p.test:3128")], url);
            assert_eq!(proxy.as_deref(), Some("http://p.test:3128/"), "{name}");
        }
        let env = [
            ("HTTPS_PROXY", "http://p:1"),
            ("NO_PROXY", "a.test, 10.0.0.0/8"),
        ];
        assert_eq!(proxy_for(&env, url), None);
        assert_eq!(proxy_for(&env, "https://sub.a.test/"), None);
        assert_eq!(proxy_for(&env, "https://10.1.2.3/"), None);
        assert!(proxy_for(&env, "https://b.test/").is_some());
    }

    #[test]
    fn fc_e08_what_is_no_proxy_is_an_error_that_names_the_variable() {
        for bad in ["socks5://u:canary@p:1", "http://", "http://a b", "ftp://p"] {
            let error = matcher(&MapEnv::from([("HTTPS_PROXY", bad)])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{bad}");
            assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}
