//! The two messages of `FetchJWTSVID`, in the wire format of Protocol Buffers.
//!
//! They have five fields of text between them. A library for the format would bring a code generator and
//! four crates for what is below.

use tower_auth_core::{Error, ErrorKind, Secret};

/// `JWTSVIDRequest`.
pub(super) struct JwtSvidRequest<'a> {
    pub(super) audience: &'a str,
    pub(super) spiffe_id: Option<&'a str>,
}

/// `JWTSVID`.
pub(super) struct JwtSvid {
    pub(super) spiffe_id: String,
    pub(super) svid: Secret,
    pub(super) hint: String,
}

impl JwtSvidRequest<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut message = Vec::new();
        put_text(&mut message, 1, self.audience);
        if let Some(id) = self.spiffe_id {
            put_text(&mut message, 2, id);
        }
        message
    }
}

/// The `svids` of a `JWTSVIDResponse`. Fields that are not known here are skipped.
///
/// # Errors
/// [`Malformed`](ErrorKind::Malformed) if it is no such message.
pub(super) fn decode(message: &[u8]) -> Result<Vec<JwtSvid>, Error> {
    let mut svids = Vec::new();
    for field in Fields(message) {
        if let (1, Value::Bytes(svid)) = field? {
            svids.push(decode_svid(svid)?);
        }
    }
    Ok(svids)
}

fn decode_svid(message: &[u8]) -> Result<JwtSvid, Error> {
    let (mut spiffe_id, mut svid, mut hint) = ("", "", "");
    for field in Fields(message) {
        let (number, value) = field?;
        let Value::Bytes(bytes) = value else {
            continue;
        };
        let place = match number {
            1 => &mut spiffe_id,
            2 => &mut svid,
            3 => &mut hint,
            _ => continue,
        };
        // Of a field that is there twice, the last one counts.
        *place = std::str::from_utf8(bytes).map_err(|_| malformed())?;
    }
    Ok(JwtSvid {
        spiffe_id: spiffe_id.to_owned(),
        svid: Secret::from(svid),
        hint: hint.to_owned(),
    })
}

/// The fields of a message, in order. An error is the last.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    /// Text, bytes or a message within.
    Bytes(&'a [u8]),
    /// A number, which no field of ours is.
    Number,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(malformed))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => {
                self.varint()?;
                Value::Number
            }
            1 => {
                self.take(8)?;
                Value::Number
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Value::Number
            }
            // Groups, which proto3 does not have.
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

fn put_text(message: &mut Vec<u8>, field: u8, text: &str) {
    message.push(field << 3 | 2);
    let mut length = text.len();
    while length >= 0x80 {
        // The seven lowest bits.
        message.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(text.as_bytes());
}

fn malformed() -> Error {
    Error::new(
        ErrorKind::Malformed,
        "the answer is no JWTSVIDResponse of the SPIFFE Workload API",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn svid(id: &str, token: &str, hint: &str) -> Vec<u8> {
        let mut svid = Vec::new();
        put_text(&mut svid, 1, id);
        put_text(&mut svid, 2, token);
        put_text(&mut svid, 3, hint);
        let mut message = vec![1 << 3 | 2, svid.len() as u8];
        message.extend(svid);
        message
    }

    #[test]
    fn w88_the_audience_is_field_one() {
        let request = JwtSvidRequest {
            audience: "a",
            spiffe_id: None,
        };
        assert_eq!(request.encode(), b"\x0a\x01a");
        let long = "a".repeat(300);
        let request = JwtSvidRequest {
            audience: &long,
            spiffe_id: Some("b"),
        };
        let bytes = request.encode();
        assert_eq!(bytes[..3], [0x0a, 0xac, 0x02]);
        assert!(bytes.ends_with(b"\x12\x01b"));
    }

    #[test]
    fn w92_unknown_fields_are_skipped() {
        let mut message = vec![0x78, 0x96, 0x01]; // field 15, a number
        message.extend([0x79, 1, 2, 3, 4, 5, 6, 7, 8]); // field 15, eight bytes
        message.extend([0x7d, 1, 2, 3, 4]); // field 15, four bytes
        message.extend([0x7a, 1, b'x']); // field 15, text
        message.extend(svid("spiffe://a/b", "t", "h"));
        let svids = decode(&message).unwrap();
        assert_eq!(svids.len(), 1);
        assert_eq!(svids[0].spiffe_id, "spiffe://a/b");
        assert_eq!(svids[0].svid.expose(), "t");
        assert_eq!(svids[0].hint, "h");
    }

    #[test]
    fn w92_what_is_cut_or_no_message_is_refused() {
        let whole = svid("i", "t", "h");
        for length in 1..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "{length}");
        }
        for bad in [
            &[0x0b][..],
            &[0x80; 11],
            &[
                0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
            &[0x0a, 0x03, 0x12, 0x01, 0xff],
        ] {
            let error = decode(bad).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{bad:?}");
        }
        assert!(decode(b"").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn w92_decoding_is_total(message in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = decode(&message);
        }

        #[test]
        fn what_is_encoded_is_decoded(texts in proptest::array::uniform3("[ -~]{0,30}")) {
            let [id, token, hint] = texts;
            let svids = decode(&svid(&id, &token, &hint)).unwrap();
            prop_assert_eq!(&svids[0].spiffe_id, &id);
            prop_assert_eq!(svids[0].svid.expose(), &token);
            prop_assert_eq!(&svids[0].hint, &hint);
        }
    }
}
