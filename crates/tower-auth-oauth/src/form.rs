use bytes::Bytes;
use form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

/// The media type of what [`encode`] makes.
pub(crate) const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// Writes the fields in this order as a form (RFC 6749 appendix B). The buffer is wiped when the last
/// handle to it is dropped.
pub(crate) fn encode<'a>(fields: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Bytes {
    // A buffer that had to grow would leave a copy of the secret behind: this one never does.
    let most = fields
        .clone()
        .map(|(name, value)| 3 * (name.len() + value.len()) + 2)
        .sum();
    let mut form = Serializer::new(String::with_capacity(most));
    form.extend_pairs(fields);
    wiped(form.finish())
}

/// One value, as [`encode`] writes it.
pub(crate) fn encode_value(value: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(3 * value.len()));
    encoded.extend(byte_serialize(value.as_bytes()));
    encoded
}

/// Bytes that are wiped at their end.
pub(crate) fn wiped(text: String) -> Bytes {
    Bytes::from_owner(Zeroizing::new(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order_and_may_repeat() {
        let fields = [
            ("scope", "b a"),
            ("resource", "https://a.test/?x=1&y"),
            ("resource", "é~*-._"),
            ("empty", ""),
        ];
        assert_eq!(
            encode(fields.into_iter()),
            "scope=b+a&resource=https%3A%2F%2Fa.test%2F%3Fx%3D1%26y&resource=%C3%A9%7E*-._&empty="
        );
    }

    #[test]
    fn the_buffer_is_large_enough_for_the_worst_case() {
        let value = "é".repeat(100);
        let encoded = encode_value(&value);
        assert_eq!(encoded.len(), 600);
        assert_eq!(encoded.capacity(), 600);
    }
}
