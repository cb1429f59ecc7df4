use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tower_auth_core::{Error, ErrorKind, Secret};
use tower_auth_io::{ReadRules, World};
use zeroize::Zeroize;

/// A JSON object in a file, of which the members that nobody here knows are kept.
///
/// It may hold secrets, so it has no `Debug`.
pub(crate) struct Document {
    members: Map<String, Value>,
    path: String,
}

impl Document {
    pub(crate) fn empty(path: &Path) -> Self {
        Self {
            members: Map::new(),
            path: path.display().to_string(),
        }
    }

    /// # Errors
    /// As [`FileError::about`](tower_auth_io::FileError::about), and
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is no object; nothing of it is shown.
    pub(crate) async fn read(path: &Path, rules: ReadRules, world: &World) -> Result<Self, Error> {
        let text = world.files().read_text_within(path, rules).await?;
        let path = path.display().to_string();
        match serde_json::from_str(text.expose()) {
            Ok(Value::Object(members)) => Ok(Self { members, path }),
            Ok(_) => Err(invalid(format!("the file {path} is no JSON object"))),
            Err(error) => Err(invalid(format!(
                "the file {path} is not JSON: line {}, column {}",
                error.line(),
                error.column()
            ))),
        }
    }

    /// A member that is a text; one that is empty counts as absent.
    pub(crate) fn text(&self, pointer: &str) -> Result<Option<String>, Error> {
        match self.at(pointer) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => {
                let text = text.trim();
                Ok((!text.is_empty()).then(|| text.to_owned()))
            }
            Some(_) => Err(self.flaw(pointer, "is not a text")),
        }
    }

    pub(crate) fn secret(&self, pointer: &str) -> Result<Option<Secret>, Error> {
        Ok(self.text(pointer)?.map(Secret::new))
    }

    pub(crate) fn has(&self, pointer: &str) -> bool {
        self.at(pointer).is_some_and(|value| !value.is_null())
    }

    /// A moment in seconds since 1970: an integer, a fraction, or the digits in a text.
    pub(crate) fn moment(&self, pointer: &str) -> Result<Option<SystemTime>, Error> {
        let seconds = match self.at(pointer) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(digits)) => {
                let digits = digits.trim();
                let is_number = digits
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || byte == b'.');
                is_number.then(|| digits.parse().ok()).flatten()
            }
            Some(_) => None,
        };
        seconds
            .filter(|seconds| (0.0..=LAST_MOMENT).contains(seconds))
            .and_then(|seconds| {
                SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds as u64))
            })
            .map(Some)
            .ok_or_else(|| self.flaw(pointer, "is not a number of seconds since 1970"))
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        if let Some(mut old) = self.members.insert(name.to_owned(), value.into()) {
            wipe(&mut old);
        }
    }

    /// As it is written: two blanks of indentation, as the official clients do.
    pub(crate) fn render(&self) -> Secret {
        let text = serde_json::to_string_pretty(&self.members).unwrap_or_default();
        Secret::new(text)
    }

    pub(crate) fn flaw(&self, pointer: &str, what: &str) -> Error {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        invalid(format!("{field} in {} {what}", self.path))
    }

    fn at(&self, pointer: &str) -> Option<&Value> {
        let mut names = pointer.trim_start_matches('/').split('/');
        let first = self.members.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        self.members.values_mut().for_each(wipe);
    }
}

/// The texts of secrets are on the outermost level.
fn wipe(value: &mut Value) {
    if let Value::String(text) = value {
        text.zeroize();
    }
}

fn invalid(what: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, what)
}

/// 9999-12-31T23:59:59Z.
const LAST_MOMENT: f64 = 253_402_300_799.0;
