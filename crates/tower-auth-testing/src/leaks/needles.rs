use std::fmt::Write as _;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::Canary;

/// The strings that give a canary away, in every form that is looked for.
pub(crate) struct Needles(Vec<Needle>);

/// A canary in a text.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) form: &'static str,
    pub(crate) excerpt: String,
}

struct Needle {
    name: String,
    form: &'static str,
    text: String,
    /// Whether it is written in lower case and looked for in any: header names and host names are
    /// lower case, hexadecimal is both.
    is_lower: bool,
}

impl Needles {
    /// Those of these canaries, and of every other that has the marker.
    pub(crate) fn new<'a>(canaries: impl IntoIterator<Item = &'a Canary>) -> Self {
        let mut needles = Self::without_marker(canaries);
        // The last, so that a canary with a name is reported by its name.
        needles.add(UNNAMED, Canary::MARKER);
        needles
    }

    pub(crate) fn without_marker<'a>(canaries: impl IntoIterator<Item = &'a Canary>) -> Self {
        let mut needles = Self(Vec::new());
        for canary in canaries {
            needles.add(canary.name(), canary.needle());
            if canary.text() != canary.needle() {
                needles.add(canary.name(), canary.text());
            }
        }
        needles
    }

    /// Each canary in this text, once.
    pub(crate) fn find(&self, text: &str) -> Vec<Found> {
        let views = [
            (None, Some(text.to_owned())),
            (Some("percent-encoded"), fully_percent_decoded(text)),
            (Some("byte list"), byte_lists_decoded(text)),
        ];
        let mut found = Vec::<Found>::new();
        for (form, seen) in views {
            let Some(seen) = seen else { continue };
            let hits = self.hits(&seen);
            let masked = Masked::new(&seen, &hits);
            for (hit, mask) in hits.iter().zip(&masked.masks) {
                if found.iter().any(|found| found.name == hit.needle.name) {
                    continue;
                }
                found.push(Found {
                    name: hit.needle.name.clone(),
                    form: form.unwrap_or(hit.needle.form),
                    excerpt: masked.around(mask),
                });
            }
        }
        // An unnamed hit beside a named one is the named one, seen in another form.
        if found.iter().any(|found| found.name != UNNAMED) {
            found.retain(|found| found.name != UNNAMED);
        }
        found
    }

    /// The text without any canary that stands in it as it is, in base64 or in hexadecimal.
    pub(crate) fn mask(&self, text: &str) -> String {
        Masked::new(text, &self.hits(text)).text
    }

    fn hits(&self, seen: &str) -> Vec<Hit<'_>> {
        // Lower case in ASCII keeps every offset.
        let lower = seen.to_ascii_lowercase();
        let mut hits = Vec::<Hit<'_>>::new();
        for needle in &self.0 {
            let searched = if needle.is_lower { &lower } else { seen };
            for (start, _) in searched.match_indices(&needle.text) {
                let range = start..whole_word(seen, start + needle.text.len());
                let is_free = hits
                    .iter()
                    .all(|hit| range.end <= hit.range.start || hit.range.end <= range.start);
                if is_free {
                    hits.push(Hit { needle, range });
                }
            }
        }
        hits.sort_by_key(|hit| hit.range.start);
        hits
    }

    fn add(&mut self, name: &str, text: &str) {
        let hexadecimal = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.push(name, "plain", true, text.to_ascii_lowercase());
        self.push(name, "hexadecimal", true, hexadecimal);
        for form in base64_forms(text.as_bytes()) {
            self.push(name, "base64", false, form);
        }
    }

    fn push(&mut self, name: &str, form: &'static str, is_lower: bool, text: String) {
        self.0.push(Needle {
            name: name.to_owned(),
            form,
            text,
            is_lower,
        });
    }
}

struct Hit<'a> {
    needle: &'a Needle,
    range: Range<usize>,
}

/// A text whose canaries have been replaced.
#[derive(Default)]
struct Masked {
    text: String,
    masks: Vec<Range<usize>>,
}

impl Masked {
    fn new(seen: &str, hits: &[Hit<'_>]) -> Self {
        let mut masked = Self::default();
        let mut rest = 0;
        for hit in hits {
            masked.text.push_str(&seen[rest..hit.range.start]);
            let start = masked.text.len();
            // Writing into a string cannot fail.
            let _ = write!(masked.text, "[canary {}]", hit.needle.name);
            masked.masks.push(start..masked.text.len());
            rest = hit.range.end;
        }
        masked.text.push_str(&seen[rest..]);
        masked
    }

    /// The mask with half of the characters allowed on each side, on one line.
    fn around(&self, mask: &Range<usize>) -> String {
        let before: Vec<char> = self.text[..mask.start].chars().rev().take(SIDE).collect();
        let after = self.text[mask.end..].chars().take(SIDE);
        before
            .into_iter()
            .rev()
            .chain(self.text[mask.clone()].chars())
            .chain(after)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }
}

/// Where the word ends that goes on at `end`: what follows a found marker belongs to the secret.
fn whole_word(text: &str, end: usize) -> usize {
    let rest = &text[end..];
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    end + rest.find(|c| !is_word(c)).unwrap_or(rest.len())
}

/// The characters of base64 that depend on these bytes alone, for each of the three places at which
/// they can stand in a longer text, in both alphabets (RFC 4648 sections 4 and 5).
fn base64_forms(bytes: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for lead in 0..3 {
            let mut shifted = vec![0; lead];
            shifted.extend_from_slice(bytes);
            let encoded = engine.encode(&shifted);
            let start = (lead * 8).div_ceil(6);
            let end = shifted.len() * 8 / 6;
            let form = encoded[start..end].to_owned();
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
    }
    forms
}

/// The text with each `%41` made `A` (RFC 3986 section 2.1); `None` if there is no such thing in it.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    decoded.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    let mut is_changed = false;
    for part in parts {
        let encoded = part.split_at_checked(2).and_then(|(digits, rest)| {
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let byte = is_hex.then(|| u8::from_str_radix(digits, 16).ok())??;
            Some((byte, rest))
        });
        let (byte, rest) = encoded.unwrap_or((b'%', part));
        is_changed |= encoded.is_some();
        decoded.push(byte);
        decoded.extend_from_slice(rest.as_bytes());
    }
    is_changed.then(|| String::from_utf8_lossy(&decoded).into_owned())
}

/// Decodes until there is nothing left: a URL in the query of a URL is encoded twice.
fn fully_percent_decoded(text: &str) -> Option<String> {
    let mut decoded = percent_decoded(text)?;
    // Each round makes the text shorter, so this ends.
    while let Some(again) = percent_decoded(&decoded) {
        decoded = again;
    }
    Some(decoded)
}

/// The text that `{:?}` and `{:#?}` of byte slices stand for; `None` if there is no such thing in it.
fn byte_lists_decoded(text: &str) -> Option<String> {
    let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let mut decoded = String::new();
    for list in dense.split(|c: char| !c.is_ascii_digit() && c != ',') {
        let bytes: Vec<u8> = list.split(',').filter_map(|n| n.parse().ok()).collect();
        if bytes.len() >= MIN_LIST {
            decoded.push_str(&String::from_utf8_lossy(&bytes));
            decoded.push(' ');
        }
    }
    (!decoded.is_empty()).then_some(decoded)
}

/// What a canary is called that the guard was not told of.
const UNNAMED: &str = "unnamed";
/// A shorter list of numbers cannot hold a canary.
const MIN_LIST: usize = 8;
/// How many characters a report shows on each side of a canary.
const SIDE: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_recognized_at_every_offset_and_with_every_neighbor() {
        let canary = Canary::new("x");
        for lead in 0..7 {
            for tail in 0..4 {
                let text = format!("{}{}{}", "~".repeat(lead), canary.text(), "~".repeat(tail));
                for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                    assert!(canary.is_in(&engine.encode(&text)), "{lead} {tail}");
                }
            }
        }
    }

    #[test]
    fn percent_signs_that_encode_nothing_stay() {
        assert_eq!(percent_decoded("100 %, 5%"), None);
        assert_eq!(percent_decoded("%zz%41%").as_deref(), Some("%zzA%"));
        assert_eq!(percent_decoded("%ä%C3%a4").as_deref(), Some("%ää"));
    }
}
