use std::collections::VecDeque;

use tower_auth_core::Fingerprint;

/// The identity tokens of the last exchanges.
#[derive(Default)]
pub(crate) struct Seen(VecDeque<(Fingerprint, Fate)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was sent and nothing is known: it may have been used up.
    Unanswered,
    Accepted,
    Refused,
}

impl Seen {
    /// Remembers what became of an identity token, or that it is being sent, and tells what was known of it
    /// before.
    pub(crate) fn note(&mut self, name: Fingerprint, fate: Option<Fate>) -> Option<Fate> {
        let known = self.0.iter_mut().find(|(known, _)| *known == name);
        let before = known.as_ref().map(|(_, fate)| *fate);
        match (known, fate) {
            // Once accepted it stays so, whatever a later attempt says.
            (Some((_, known)), Some(fate)) if *known != Fate::Accepted => *known = fate,
            (Some((_, known)), None) if *known == Fate::Refused => *known = Fate::Unanswered,
            (Some(_), _) => {}
            (None, fate) => {
                if self.0.len() == REMEMBERED {
                    self.0.pop_front();
                }
                self.0.push_back((name, fate.unwrap_or(Fate::Unanswered)));
            }
        }
        before
    }
}

/// More than a source gives in the time that its tokens live.
const REMEMBERED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Fingerprint {
        Fingerprint::of(text.as_bytes())
    }

    #[test]
    fn c96_what_was_accepted_stays_so() {
        let mut seen = Seen::default();
        assert_eq!(seen.note(name("a"), None), None);
        assert_eq!(seen.note(name("a"), None), Some(Fate::Unanswered));
        seen.note(name("a"), Some(Fate::Refused));
        assert_eq!(seen.note(name("a"), None), Some(Fate::Refused));
        seen.note(name("a"), Some(Fate::Accepted));
        seen.note(name("a"), Some(Fate::Refused));
        assert_eq!(seen.note(name("a"), None), Some(Fate::Accepted));
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut seen = Seen::default();
        for number in 0..=REMEMBERED {
            seen.note(name(&number.to_string()), Some(Fate::Accepted));
        }
        assert_eq!(seen.note(name("1"), None), Some(Fate::Accepted));
        assert_eq!(seen.note(name("0"), None), None);
    }
}
