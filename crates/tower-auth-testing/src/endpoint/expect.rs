use std::fmt;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use serde_json::Value;

use crate::leaks::Needles;

/// What a request to a [`FakeEndpoint`](crate::FakeEndpoint) has to be.
///
/// What is not mentioned is not checked. Fields of forms and queries are compared decoded.
///
/// ```
/// use tower_auth_testing::Expect;
///
/// let login = Expect::post("/v1/auth/kubernetes/login")
///     .header("x-vault-request", "true")
///     .no_header("authorization")
///     .json("/role", "reader");
/// # let _ = login;
/// ```
#[must_use = "an expectation does nothing until an endpoint has it"]
pub struct Expect {
    method: Option<Method>,
    path: Option<String>,
    checks: Vec<Check>,
}

struct Check {
    what: Place,
    wanted: Wanted,
}

type Predicate = Box<dyn Fn(&Request<Bytes>) -> bool + Send>;

/// The part of a request that is looked at.
enum Place {
    Header(String),
    Query(String),
    Form(String),
    Json(String),
    That(Predicate),
}

enum Wanted {
    Value(Value),
    Present,
    Absent,
}

impl Expect {
    /// Any request.
    pub fn any() -> Self {
        Self {
            method: None,
            path: None,
            checks: Vec::new(),
        }
    }

    /// A request with this method and path; the query is not part of the path.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method: Some(method),
            path: Some(path.into()),
            checks: Vec::new(),
        }
    }

    /// A `GET` of this path.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A `POST` to this path.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    /// It has this header exactly once, with this value.
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.check(Place::Header(name.into()), Wanted::value(value))
    }

    /// It has this header, whatever its value.
    pub fn has_header(self, name: impl Into<String>) -> Self {
        self.check(Place::Header(name.into()), Wanted::Present)
    }

    /// It does not have this header.
    pub fn no_header(self, name: impl Into<String>) -> Self {
        self.check(Place::Header(name.into()), Wanted::Absent)
    }

    /// Its query has this field exactly once, with this value.
    pub fn query(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.check(Place::Query(name.into()), Wanted::value(value))
    }

    /// Its query does not have this field.
    pub fn no_query(self, name: impl Into<String>) -> Self {
        self.check(Place::Query(name.into()), Wanted::Absent)
    }

    /// Its body is a form that has this field exactly once, with this value.
    pub fn form(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.check(Place::Form(name.into()), Wanted::value(value))
    }

    /// Its body is a form that has this field, whatever its value.
    pub fn has_form(self, name: impl Into<String>) -> Self {
        self.check(Place::Form(name.into()), Wanted::Present)
    }

    /// Its body is a form without this field.
    pub fn no_form(self, name: impl Into<String>) -> Self {
        self.check(Place::Form(name.into()), Wanted::Absent)
    }

    /// Its body is JSON with this value at this pointer (RFC 6901): `/role`, `/list/0`.
    pub fn json(self, pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        self.check(Place::Json(pointer.into()), Wanted::Value(value.into()))
    }

    /// Its body is JSON with something at this pointer.
    pub fn has_json(self, pointer: impl Into<String>) -> Self {
        self.check(Place::Json(pointer.into()), Wanted::Present)
    }

    /// Its body is JSON with nothing at this pointer.
    pub fn no_json(self, pointer: impl Into<String>) -> Self {
        self.check(Place::Json(pointer.into()), Wanted::Absent)
    }

    /// Whatever else: `fact` names what `holds` finds out.
    pub fn that(
        self,
        fact: impl Into<String>,
        holds: impl Fn(&Request<Bytes>) -> bool + Send + 'static,
    ) -> Self {
        let wanted = Wanted::value(fact);
        self.check(Place::That(Box::new(holds)), wanted)
    }

    fn check(mut self, what: Place, wanted: Wanted) -> Self {
        self.checks.push(Check { what, wanted });
        self
    }

    /// One line for each thing that is wrong. Canaries are masked.
    pub(crate) fn mismatches(&self, request: &Request<Bytes>) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(method) = self.method.as_ref().filter(|m| *m != request.method()) {
            wrong.push(format!("the method should be {method}"));
        }
        let path = request.uri().path();
        if let Some(wanted) = self.path.as_ref().filter(|wanted| *wanted != path) {
            wrong.push(format!("the path should be {wanted}"));
        }
        wrong.extend(self.checks.iter().filter_map(|check| check.fault(request)));
        let needles = Needles::new([]);
        wrong.iter().map(|line| needles.mask(line)).collect()
    }
}

impl Wanted {
    fn value(text: impl Into<String>) -> Self {
        Self::Value(Value::String(text.into()))
    }
}

impl Check {
    fn fault(&self, request: &Request<Bytes>) -> Option<String> {
        let found: Vec<Value> = match &self.what {
            Place::Header(name) => request
                .headers()
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into())
                .collect(),
            Place::Query(name) => field(request.uri().query().unwrap_or_default().as_bytes(), name),
            Place::Form(name) => {
                let kind = request.headers().get(CONTENT_TYPE);
                if !kind.is_some_and(|kind| kind.as_bytes().starts_with(FORM)) {
                    return Some("the content-type should be that of a form".to_owned());
                }
                field(request.body(), name)
            }
            Place::Json(pointer) => match serde_json::from_slice::<Value>(request.body()) {
                Ok(document) => document.pointer(pointer).cloned().into_iter().collect(),
                Err(_) => return Some("the body should be JSON".to_owned()),
            },
            Place::That(holds) => {
                return match (&self.wanted, holds(request)) {
                    (Wanted::Value(Value::String(fact)), false) => {
                        Some(format!("it should hold that {fact}"))
                    }
                    _ => None,
                };
            }
        };
        let place = &self.what;
        match &self.wanted {
            Wanted::Value(value) if found == [value.clone()] => None,
            Wanted::Present if !found.is_empty() => None,
            Wanted::Absent if found.is_empty() => None,
            Wanted::Value(value) => Some(format!(
                "{place} should be {value} and is {}",
                Value::Array(found)
            )),
            Wanted::Present => Some(format!("{place} is missing")),
            Wanted::Absent => Some(format!("{place} should not be there")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Query(name) => write!(f, "query field {name}"),
            Self::Form(name) => write!(f, "form field {name}"),
            Self::Json(pointer) => write!(f, "JSON value {pointer}"),
            Self::That(_) => f.write_str("a fact"),
        }
    }
}

impl fmt::Debug for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expect")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("checks", &self.checks.len())
            .finish()
    }
}

/// Every value that a form-encoded text has for this name.
fn field(encoded: &[u8], name: &str) -> Vec<Value> {
    form_urlencoded::parse(encoded)
        .filter(|(found, _)| found == name)
        .map(|(_, value)| Value::String(value.into_owned()))
        .collect()
}

const FORM: &[u8] = b"application/x-www-form-urlencoded";
