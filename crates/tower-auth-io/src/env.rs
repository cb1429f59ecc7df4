use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use tower_auth_core::{Error, ErrorKind, Secret};

/// Environment variables, as an argument.
///
/// An implementation gives [`raw`](Self::raw); everything else follows from it. The rules are the same
/// for every variable of every provider: a variable that is set but empty counts as absent and is
/// *reported* as set but empty, white space at the ends goes, and a value that cannot be meant is an
/// error that names the variable.
///
/// ```
/// use tower_auth_core::ErrorKind;
/// use tower_auth_io::{Env, Lookup, MapEnv};
///
/// let env = MapEnv::from([("TENANT", " t1\n"), ("SECRET", "")]);
/// assert_eq!(env.require("TENANT")?, "t1");
/// assert!(matches!(env.lookup("SECRET")?, Lookup::SetButEmpty));
///
/// let error = env.require("SECRET").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotConfigured);
/// assert_eq!(error.to_string(), "the environment variable SECRET is set but empty");
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
pub trait Env: Send + Sync + 'static {
    /// The variable's value as the operating system has it.
    fn raw(&self, name: &str) -> Option<OsString>;

    /// The variable's value, or why there is none.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig), naming the variable, if it is set to something that
    /// cannot be meant: white space only, a text that is not Unicode, or a text in quotation marks, which
    /// some tools that read `.env` files leave in place.
    fn lookup(&self, name: &str) -> Result<Lookup, Error> {
        let Some(raw) = self.raw(name) else {
            return Ok(Lookup::Absent);
        };
        if raw.is_empty() {
            return Ok(Lookup::SetButEmpty);
        }
        let invalid = |what: &str| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("the environment variable {name} {what}"),
            )
        };
        let Ok(value) = raw.into_string() else {
            return Err(invalid("is not Unicode text"));
        };
        let trimmed = value.trim();
        if trimmed.is_empty() {
            return Err(invalid(
                "is set to white space only: set it to a value or unset it",
            ));
        }
        if is_quoted(trimmed) {
            return Err(invalid(
                "is in quotation marks, which are part of its value: remove them",
            ));
        }
        Ok(Lookup::Set(if trimmed.len() == value.len() {
            value
        } else {
            trimmed.to_owned()
        }))
    }

    /// The variable's value, if it is set and not empty.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    fn get(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(match self.lookup(name)? {
            Lookup::Set(value) => Some(value),
            Lookup::Absent | Lookup::SetButEmpty => None,
        })
    }

    /// The variable's value, without which the caller cannot go on.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured), naming the variable and saying whether it is not set
    /// or set but empty; otherwise as [`lookup`](Self::lookup).
    fn require(&self, name: &str) -> Result<String, Error> {
        let missing = |how: &str| {
            Error::new(
                ErrorKind::NotConfigured,
                format!("the environment variable {name} is {how}"),
            )
        };
        match self.lookup(name)? {
            Lookup::Set(value) => Ok(value),
            Lookup::Absent => Err(missing("not set")),
            Lookup::SetButEmpty => Err(missing("set but empty").set_but_empty()),
        }
    }

    /// As [`require`](Self::require), for a value that must not be seen.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    fn require_secret(&self, name: &str) -> Result<Secret, Error> {
        self.require(name).map(Secret::new)
    }
}

/// What there is under a variable's name.
///
/// `Debug` does not show the value: it may be a secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lookup {
    /// There is no such variable.
    Absent,
    /// It is set to the empty string. That counts as absent, but whoever explains a configuration must
    /// say so: it is how a CI system passes a secret that it does not have.
    SetButEmpty,
    /// It has this value; white space at its ends is gone.
    Set(String),
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::SetButEmpty => "SetButEmpty",
            Self::Set(_) => "Set(…)",
        })
    }
}

impl<E: Env + ?Sized> Env for Arc<E> {
    fn raw(&self, name: &str) -> Option<OsString> {
        (**self).raw(name)
    }
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnv;

impl Env for SystemEnv {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the environment"
    )]
    fn raw(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }
}

/// An environment that has these variables and no others.
///
/// `Debug` shows the names only.
#[derive(Clone, Default)]
pub struct MapEnv(BTreeMap<String, OsString>);

impl MapEnv {
    /// An empty environment.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a variable, or replaces its value.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }
}

impl Env for MapEnv {
    fn raw(&self, name: &str) -> Option<OsString> {
        self.0.get(name).cloned()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for MapEnv {
    fn from(variables: [(&str, &str); N]) -> Self {
        variables.into_iter().collect()
    }
}

impl<K: Into<String>, V: Into<OsString>> FromIterator<(K, V)> for MapEnv {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl fmt::Debug for MapEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapEnv").field(&self.0.keys()).finish()
    }
}

fn is_quoted(value: &str) -> bool {
    ['"', '\''].into_iter().any(|quote| {
        value
            .strip_prefix(quote)
            .is_some_and(|rest| rest.ends_with(quote))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(value: &str) -> Result<Lookup, Error> {
        MapEnv::new().with("V", value).lookup("V")
    }

    #[test]
    fn fc_e01_a_variable_that_is_set_but_empty_is_reported_as_such() {
        assert_eq!(lookup("").unwrap(), Lookup::SetButEmpty);
        assert_eq!(MapEnv::new().lookup("V").unwrap(), Lookup::Absent);
        assert_eq!(MapEnv::from([("V", "")]).get("V").unwrap(), None);

        let said = |env: MapEnv| {
            let error = env.require("V").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotConfigured);
            error.to_string()
        };
        assert_eq!(said(MapEnv::new()), "the environment variable V is not set");
        assert_eq!(
            said(MapEnv::from([("V", "")])),
            "the environment variable V is set but empty"
        );
    }

    #[test]
    fn fc_e01_a_blank_variable_is_an_error_that_names_it() {
        for blank in [" ", "\n", "\t \r\n"] {
            let error = lookup(blank).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{blank:?}");
            assert!(error.to_string().contains("variable V"), "{error}");
        }
    }

    #[test]
    fn fc_e06_the_ends_are_trimmed_and_the_inside_is_kept() {
        assert_eq!(lookup(" a b\r\n").unwrap(), Lookup::Set("a b".to_owned()));
    }

    #[test]
    fn fc_e06_quotation_marks_that_were_pasted_are_named() {
        for quoted in ["\"canary\"", "'canary'\n"] {
            let error = lookup(quoted).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.to_string().contains("quotation marks"), "{error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        for plain in ["\"", "it's", "\"a\" b", "'a\""] {
            assert!(lookup(plain).is_ok(), "{plain}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_unicode_is_an_error_that_does_not_show_it() {
        use std::os::unix::ffi::OsStringExt;

        let env = MapEnv::new().with("V", OsString::from_vec(b"canary\xff".to_vec()));
        let error = env.require("V").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the environment variable V is not Unicode text"
        );
    }

    #[test]
    fn the_process_environment_is_read() {
        assert!(SystemEnv.get("CARGO_MANIFEST_DIR").unwrap().is_some());
    }

    #[test]
    fn debug_shows_names_and_no_values() {
        let env = MapEnv::from([("NAME", "canary")]);
        let shown = format!("{env:?} {:?}", env.lookup("NAME"));
        assert!(shown.contains("NAME"), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}
