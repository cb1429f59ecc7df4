use std::fmt;

use bytes::Bytes;
use tower_auth_core::Secret;
use zeroize::Zeroizing;

/// The JSON object that a request carries. It is wiped after use, and it knows which of its members must
/// not come back in an error.
#[derive(Clone, Default)]
pub(crate) struct Body {
    json: Zeroizing<String>,
    secrets: Vec<Secret>,
}

impl Body {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        let before = if self.json.is_empty() { '{' } else { ',' };
        self.json.push(before);
        self.json.push_str(&quoted(name));
        self.json.push(':');
        self.json.push_str(&quoted(value));
        self
    }

    pub(crate) fn secret(self, name: &str, value: &Secret) -> Self {
        let mut body = self.text(name, value.expose());
        body.secrets.push(value.clone());
        let escaped = quoted(value.expose());
        let escaped = escaped.trim_matches('"');
        if escaped != value.expose() {
            body.secrets.push(Secret::from(escaped));
        }
        body
    }

    /// As [`text`](Self::text), if there is a value.
    pub(crate) fn text_if(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    pub(crate) fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        let mut json = self.json;
        let end = if json.is_empty() { "{}" } else { "}" };
        json.push_str(end);
        Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *json).into_bytes()))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

/// The text as a JSON string.
fn quoted(text: &str) -> Zeroizing<String> {
    // A string can always be written.
    Zeroizing::new(serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_object_whatever_is_in_the_texts() {
        assert_eq!(Body::new().into_bytes(), "{}");
        let body = Body::new()
            .text("a", "x\"y\n")
            .text_if("b", None)
            .secret("c", &Secret::from("p\"w"));
        assert_eq!(body.secrets().len(), 2);
        assert_eq!(body.into_bytes(), r#"{"a":"x\"y\n","c":"p\"w"}"#);
    }
}
