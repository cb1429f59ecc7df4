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
    view: View,
}

/// What a text is turned into before it is searched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// As it is.
    Exact,
    /// In lower case: header names and host names are.
    Lower,
    /// In lower case, with `%41` made `A` for as long as there is something to decode.
    PercentDecoded,
    /// Without white space: `{:#?}` puts each number onto a line.
    Dense,
}

impl Needles {
    /// Those of these canaries, and of every other that has the marker.
    pub(crate) fn new<'a>(canaries: impl IntoIterator<Item = &'a Canary>) -> Self {
        let mut needles = Self::without_marker(canaries);
        // The last, so that a canary with a name is reported by its name.
        needles.add("unnamed", Canary::MARKER);
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
        let mut found = Vec::<Found>::new();
        for view in [View::Exact, View::Lower, View::PercentDecoded, View::Dense] {
            let Some(seen) = view.of(text) else { continue };
            let hits = self.hits(view, &seen);
            let mut masked = Masked::default();
            let mut rest = 0;
            for hit in &hits {
                masked.push_plain(&seen[rest..hit.range.start]);
                masked.push_mask(hit.needle);
                rest = hit.range.end;
            }
            masked.push_plain(&seen[rest..]);
            for (hit, mask) in hits.iter().zip(&masked.masks) {
                if found.iter().any(|found| found.name == hit.needle.name) {
                    continue;
                }
                found.push(Found {
                    name: hit.needle.name.clone(),
                    form: hit.needle.form,
                    excerpt: masked.around(mask),
                });
            }
        }
        // An unnamed hit beside a named one is the named one, seen in another form.
        if found.iter().any(|found| found.name != "unnamed") {
            found.retain(|found| found.name != "unnamed");
        }
        found
    }

    /// The text without any canary that stands in it as it is, in lower case or in base64.
    pub(crate) fn mask(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for view in [View::Exact, View::Lower] {
            let Some(seen) = view.of(&text) else { continue };
            // Lower case in ASCII keeps every offset.
            for hit in self.hits(view, &seen).iter().rev() {
                text.replace_range(hit.range.clone(), &format!("[canary {}]", hit.needle.name));
            }
        }
        text
    }

    fn hits(&self, view: View, seen: &str) -> Vec<Hit<'_>> {
        let mut hits = Vec::<Hit<'_>>::new();
        for needle in self.0.iter().filter(|needle| needle.view == view) {
            for (start, _) in seen.match_indices(&needle.text) {
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
        let lower = text.to_ascii_lowercase();
        let hexadecimal: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
        self.push(name, "plain", View::Lower, lower.clone());
        self.push(name, "hexadecimal", View::Lower, hexadecimal);
        self.push(name, "percent-encoded", View::PercentDecoded, lower);
        self.push(name, "byte list", View::Dense, bytes.join(","));
        for form in base64_forms(text.as_bytes()) {
            self.push(name, "base64", View::Exact, form);
        }
    }

    fn push(&mut self, name: &str, form: &'static str, view: View, text: String) {
        self.0.push(Needle {
            name: name.to_owned(),
            form,
            text,
            view,
        });
    }
}

struct Hit<'a> {
    needle: &'a Needle,
    range: Range<usize>,
}

impl View {
    /// `None` where it shows nothing that another view does not show.
    fn of(self, text: &str) -> Option<String> {
        match self {
            Self::Exact => Some(text.to_owned()),
            Self::Lower => Some(text.to_ascii_lowercase()),
            Self::PercentDecoded => {
                let mut decoded = percent_decoded(text)?;
                // Twice encoded is what a URL in a URL's query is.
                while let Some(again) = percent_decoded(&decoded) {
                    decoded = again;
                }
                Some(decoded.to_ascii_lowercase())
            }
            Self::Dense => Some(text.chars().filter(|c| !c.is_whitespace()).collect()),
        }
    }
}

/// A text whose canaries have been replaced.
#[derive(Default)]
struct Masked {
    text: String,
    masks: Vec<Range<usize>>,
}

impl Masked {
    fn push_plain(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn push_mask(&mut self, needle: &Needle) {
        let start = self.text.len();
        self.text.push_str(&format!("[canary {}]", needle.name));
        self.masks.push(start..self.text.len());
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
