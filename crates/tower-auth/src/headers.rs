use std::fmt;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, Entry, HeaderMap, HeaderName, HeaderValue, MaxSizeReached};
use tower_auth_core::{
    Error, ErrorKind, ExtraHeader, HeaderMode, Placement, Stamp, StampContext, Stamped, Token,
};
use zeroize::Zeroizing;

/// Stamps a [`Token`] as a plain header: `Authorization: Bearer …`, `x-api-key: …`, and whatever headers
/// go with it. This is the stamp of a layer that is not given another.
///
/// The whole header value is built, checked and marked sensitive when a token arrives; a request pays for
/// one insertion. The text is wiped when the last request that carries it is gone.
///
/// What a token may hold is checked more strictly than [`HeaderValue`] does: after `Bearer` and `DPoP` it
/// has to be a `token68` (RFC 9110 section 11.2, RFC 6750 section 2.1), in any other place visible ASCII
/// without a space at either end.
///
/// ```
/// use http::HeaderName;
/// use tower_auth::{Headers, Placement};
///
/// // Whatever header the source names, this API wants it here.
/// let stamp = Headers::new().named(Placement::header(HeaderName::from_static("x-api-key")));
/// # let _ = stamp;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a stamp does nothing until a layer or a cache is given it"]
pub struct Headers {
    placement: Option<Placement>,
    sensitive: bool,
    max_len: usize,
}

impl Headers {
    /// In the header that the token names.
    pub const fn new() -> Self {
        Self {
            placement: None,
            sensitive: true,
            max_len: Self::DEFAULT_MAX_LEN,
        }
    }

    /// In this header, whatever the token names.
    pub fn named(mut self, placement: Placement) -> Self {
        self.placement = Some(placement);
        self
    }

    /// Does not mark the values sensitive.
    ///
    /// The mark keeps a value out of `Debug` output, and on HTTP/2 out of the compression table of the
    /// connection (RFC 7541 section 7.1.3): the whole token travels with each request. Without the mark a
    /// later request on the same connection costs a byte or two for it, at the price that an attacker who
    /// can add headers of his own to the same connection can test guesses of a weak secret.
    pub fn not_sensitive(mut self) -> Self {
        self.sensitive = false;
        self
    }

    /// Takes tokens up to this many bytes, and not more than [`MAX_LEN`](Self::MAX_LEN).
    ///
    /// Most servers refuse a request with more than 8 to 16 KiB of headers, so a longer default would
    /// only move the error to a place where it is harder to understand.
    pub fn with_max_len(mut self, bytes: usize) -> Self {
        self.max_len = bytes.min(Self::MAX_LEN);
        self
    }

    /// How long a token may be where nobody says: 16 KiB.
    pub const DEFAULT_MAX_LEN: usize = 16 * 1024;

    /// How long a token may be at most: 64 KiB.
    pub const MAX_LEN: usize = 64 * 1024;

    /// Builds the header value, or says what is wrong with the text without showing it.
    fn value(
        &self,
        name: &HeaderName,
        scheme: Option<&str>,
        text: &str,
    ) -> Result<HeaderValue, Error> {
        let malformed = |what: &str| {
            Error::new(
                ErrorKind::Malformed,
                format!("the token for the {name} header {what}"),
            )
        };
        if text.len() > self.max_len {
            return Err(malformed(&format!(
                "is {} bytes long, at most {} fit",
                text.len(),
                self.max_len
            )));
        }
        let is_token68 = scheme.is_some_and(|scheme| {
            scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("dpop")
        });
        if let Some(flaw) = flaw(text, is_token68) {
            return Err(malformed(flaw));
        }
        let bytes = match scheme {
            Some(scheme) if is_scheme(scheme) => {
                [scheme.as_bytes(), b" ", text.as_bytes()].concat()
            }
            Some(_) => {
                return Err(malformed(
                    "goes with an authentication scheme that is not a word",
                ));
            }
            None => text.as_bytes().to_vec(),
        };
        let owner = Wiped(Zeroizing::new(bytes));
        // `from_owner` counts its references from the start; a `Bytes` made of a `Vec` would allocate
        // its counter at the first clone, which is a request.
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(owner))
            .map_err(|_| malformed("holds a byte that no header may hold"))?;
        value.set_sensitive(self.sensitive);
        Ok(value)
    }
}

impl Default for Headers {
    fn default() -> Self {
        Self::new()
    }
}

impl Stamp for Headers {
    type Credential = Token;
    type Prepared = PreparedHeaders;

    fn prepare(&self, token: &Token) -> Result<PreparedHeaders, Error> {
        let placement = self.placement.as_ref().unwrap_or(token.placement());
        let name = placement.name();
        let value = self.value(name, placement.scheme(), token.secret().expose())?;
        let prepare_extra = |extra: &ExtraHeader| {
            if extra.name() == name {
                return Err(Error::new(
                    ErrorKind::Malformed,
                    format!("the token names the {name} header twice"),
                ));
            }
            Ok(Extra {
                name: extra.name().clone(),
                value: self.value(extra.name(), None, extra.value().expose())?,
                mode: extra.mode(),
            })
        };
        Ok(PreparedHeaders {
            extras: token
                .headers()
                .iter()
                .map(prepare_extra)
                .collect::<Result<_, _>>()?,
            is_plain_authorization: name == AUTHORIZATION && token.headers().is_empty(),
            name: name.clone(),
            value,
        })
    }

    #[inline(always)]
    fn stamp<B>(
        &self,
        prepared: &PreparedHeaders,
        request: &mut Request<B>,
        _: &StampContext<'_>,
    ) -> Result<Stamped, Error> {
        let headers = request.headers_mut();
        if !prepared.is_plain_authorization {
            return stamp_any(prepared, headers);
        }
        // The name as a constant: what it hashes to is then known when this is compiled.
        match headers.try_append(AUTHORIZATION, prepared.value.clone()) {
            Ok(false) => Ok(Stamped::Done),
            other => appended(other, prepared, headers),
        }
    }

    fn present<'r>(
        &self,
        prepared: &PreparedHeaders,
        headers: &'r HeaderMap,
    ) -> Option<&'r HeaderValue> {
        headers.get(&prepared.name)
    }

    /// Removes the headers that go with the credential as well, unless they are lists, which others add
    /// to too, or the request's own.
    fn clear(&self, prepared: &PreparedHeaders, headers: &mut HeaderMap) {
        headers.remove(&prepared.name);
        for extra in &prepared.extras {
            let is_ours = || headers.get(&extra.name) == Some(&extra.value);
            if extra.mode == HeaderMode::Replace
                || (extra.mode == HeaderMode::IfAbsent && is_ours())
            {
                headers.remove(&extra.name);
            }
        }
    }
}

/// A token as finished header values. Made by [`Headers`].
pub struct PreparedHeaders {
    /// Whether it is one value in the `Authorization` header, as nearly all are.
    is_plain_authorization: bool,
    name: HeaderName,
    value: HeaderValue,
    extras: Box<[Extra]>,
}

impl fmt::Debug for PreparedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedHeaders")
            .field("name", &self.name)
            .field("extras", &self.extras.len())
            .finish_non_exhaustive()
    }
}

struct Extra {
    name: HeaderName,
    value: HeaderValue,
    mode: HeaderMode,
}

/// The text of a header value, on cache lines of its own together with the count of its references, and
/// wiped with the last of them. Two lines, because processors fetch them in pairs.
#[repr(align(128))]
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Appending is an insertion that finds out, in the one look at the map that it needs anyway, whether
/// there was something. There normally is not.
#[inline(never)]
fn stamp_any(prepared: &PreparedHeaders, headers: &mut HeaderMap) -> Result<Stamped, Error> {
    let outcome = headers.try_append(&prepared.name, prepared.value.clone());
    appended(outcome, prepared, headers)
}

/// What follows from the outcome of appending the credential: with `true` there was something, and it is
/// taken back.
fn appended(
    outcome: Result<bool, MaxSizeReached>,
    prepared: &PreparedHeaders,
    headers: &mut HeaderMap,
) -> Result<Stamped, Error> {
    match outcome {
        Ok(false) => {
            stamp_extras(&prepared.extras, headers)?;
            Ok(Stamped::Done)
        }
        Ok(true) => {
            take_back(&prepared.name, headers);
            Ok(Stamped::Occupied)
        }
        Err(_) => Err(too_many_headers()),
    }
}

/// Removes the last value of a header that has several.
#[cold]
#[inline(never)]
fn take_back(name: &HeaderName, headers: &mut HeaderMap) {
    if let Entry::Occupied(mut place) = headers.entry(name) {
        let count = place.iter().count();
        let mut kept = place
            .iter()
            .take(count - 1)
            .cloned()
            .collect::<Vec<_>>()
            .into_iter();
        if let Some(first) = kept.next() {
            place.insert(first);
        }
        for value in kept {
            place.append(value);
        }
    }
}

fn stamp_extras(extras: &[Extra], headers: &mut HeaderMap) -> Result<(), Error> {
    for extra in extras {
        let value = match extra.mode {
            HeaderMode::MergeList => match merged(extra, headers) {
                Merge::Nothing => continue,
                Merge::Whole(value) => value,
            },
            HeaderMode::IfAbsent if headers.contains_key(&extra.name) => continue,
            _ => extra.value.clone(),
        };
        if headers.try_insert(&extra.name, value).is_err() {
            return Err(too_many_headers());
        }
    }
    Ok(())
}

enum Merge {
    /// The list has the member already.
    Nothing,
    /// What the header becomes.
    Whole(HeaderValue),
}

/// Adds a member to a comma-separated list (RFC 9110 section 5.6.1), which becomes one line: a server
/// that reads only the first line sees the whole list.
fn merged(extra: &Extra, headers: &HeaderMap) -> Merge {
    let mut list = Vec::new();
    for line in headers.get_all(&extra.name) {
        for member in line.as_bytes().split(|byte| *byte == b',') {
            if member.trim_ascii() == extra.value.as_bytes() {
                return Merge::Nothing;
            }
        }
        let line = line.as_bytes().trim_ascii();
        if !line.is_empty() {
            list.extend_from_slice(line);
            list.extend_from_slice(b", ");
        }
    }
    if list.is_empty() {
        return Merge::Whole(extra.value.clone());
    }
    list.extend_from_slice(extra.value.as_bytes());
    // Each part was a header value, so the whole is one.
    Merge::Whole(HeaderValue::from_bytes(&list).map_or_else(
        |_| extra.value.clone(),
        |mut value| {
            value.set_sensitive(extra.value.is_sensitive());
            value
        },
    ))
}

/// What is wrong with the text of a credential, as the end of a sentence about it.
fn flaw(text: &str, is_token68: bool) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Some("is empty");
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Some("is blank");
    }
    for byte in bytes {
        match byte {
            b'\r' | b'\n' => return Some("holds a line break"),
            0 => return Some("holds a NUL byte"),
            b'\t' => return Some("holds a tab"),
            0x01..=0x1f | 0x7f => return Some("holds a control character"),
            0x80.. => return Some("holds a character outside of ASCII"),
            _ => {}
        }
    }
    if *first == b' ' || *last == b' ' {
        return Some("starts or ends with a space");
    }
    if !is_token68 {
        return None;
    }
    if matches!((first, last), (b'"', b'"') | (b'\'', b'\'')) && bytes.len() > 1 {
        return Some("stands in quotes: take them off");
    }
    if let Some(start) = bytes.get(..7) {
        if start.eq_ignore_ascii_case(b"bearer ") {
            return Some("starts with the word Bearer, which is added anyway: take it off");
        }
    }
    let padding = bytes.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = bytes.len() - padding;
    let is_token68 = body > 0 && bytes.iter().take(body).all(|byte| is_token68_byte(*byte));
    (!is_token68).then_some(
        "holds a character that no bearer token has (RFC 6750 section 2.1): is it the right text?",
    )
}

/// `token68` of RFC 9110 section 11.2, without its trailing `=`.
fn is_token68_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
}

/// `token` of RFC 9110 section 5.6.2, which an `auth-scheme` is.
fn is_scheme(scheme: &str) -> bool {
    !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cold]
fn too_many_headers() -> Error {
    Error::new(
        ErrorKind::Malformed,
        "the request has so many headers that no more fit",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_count_of_references_shares_its_cache_lines_with_nothing() {
        assert_eq!(align_of::<Wiped>(), 128);
        assert_eq!(size_of::<Wiped>(), 128);
    }

    #[test]
    fn the_text_lives_until_the_last_clone_is_dropped() {
        struct Counted(Arc<AtomicUsize>);
        impl AsRef<[u8]> for Counted {
            fn as_ref(&self) -> &[u8] {
                b"x"
            }
        }
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let drops = Arc::new(AtomicUsize::new(0));
        let value =
            HeaderValue::from_maybe_shared(Bytes::from_owner(Counted(Arc::clone(&drops)))).unwrap();
        let clone = value.clone();
        drop(value);
        assert_eq!(drops.load(Ordering::Relaxed), 0);
        drop(clone);
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn debug_shows_no_value() {
        let prepared = Headers::new().prepare(&Token::bearer("canary")).unwrap();
        assert!(!format!("{prepared:?}").contains("canary"));
    }
}
