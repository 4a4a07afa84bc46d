//! Patterns of simple types, as far as our schemas use them (XML Schema part 2, appendix F): characters, `[^..]` for
//! all characters but some, and `+` after either.

/// A pattern that a whole text must match.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    written: String,
    atoms: Vec<Atom>,
}

#[derive(Clone, Debug)]
struct Atom {
    chars: Vec<char>,
    is_negated: bool,
    repeats: bool,
}

impl Atom {
    fn takes(&self, c: char) -> bool {
        self.chars.contains(&c) != self.is_negated
    }
}

/// Atoms of one pattern: places in it fit into 64 bits, the last of which is its end.
const MAX_ATOMS: usize = 63;
/// What means more than itself; `^` and `$` do not, outside of brackets, but would be misread as anchors.
const SPECIAL: &str = "\\.*+?(){}|[]^$";
/// The same between brackets.
const SPECIAL_IN_BRACKETS: &str = "\\[]^-";

impl Pattern {
    /// Reads a pattern; `None` for one beyond this subset.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut atoms = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let (taken, is_negated) = match c {
                '[' => {
                    chars.next_if_eq(&'^')?;
                    let taken: Vec<char> =
                        std::iter::from_fn(|| chars.next_if(|c| *c != ']')).collect();
                    chars.next()?;
                    let is_plain = |c: &char| !SPECIAL_IN_BRACKETS.contains(*c);
                    if taken.is_empty() || !taken.iter().all(is_plain) {
                        return None;
                    }
                    (taken, true)
                }
                c if SPECIAL.contains(c) => return None,
                c => (vec![c], false),
            };
            atoms.push(Atom {
                chars: taken,
                is_negated,
                repeats: chars.next_if_eq(&'+').is_some(),
            });
        }
        (atoms.len() <= MAX_ATOMS).then(|| Self {
            written: text.to_owned(),
            atoms,
        })
    }

    /// As it is written.
    pub(super) fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether all of `text` is of this form. All readings are followed at once, so that no text costs more than its
    /// length times that of the pattern.
    pub(super) fn matches(&self, text: &str) -> bool {
        // Bit n: the atoms before the nth have taken all of the text so far.
        let mut places: u64 = 1;
        for c in text.chars() {
            let mut next = 0;
            for (index, atom) in self.atoms.iter().enumerate() {
                let (before, after) = (1 << index, 1 << (index + 1));
                let is_here = places & before != 0 || atom.repeats && places & after != 0;
                if is_here && atom.takes(c) {
                    next |= after;
                }
            }
            places = next;
        }
        places & (1 << self.atoms.len()) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_matches_as_a_whole_or_not_at_all() {
        let pattern = Pattern::read("a+b:[^@?]+@[^@?]+").unwrap();
        for good in ["ab:c@d", "aaab:c@d", "ab:b:@é", "ab: @ "] {
            assert!(pattern.matches(good), "{good}");
        }
        for bad in [
            "", "ab:", "b:c@d", "ab:c@", "ab:@d", "ab:c@d@e", "ab:c@d?e", "xab:c@d",
        ] {
            assert!(!pattern.matches(bad), "{bad}");
        }
        assert!(Pattern::read("").unwrap().matches(""));
        // Many readings of one text are no more work than one.
        let many = Pattern::read("a+a+a+a+a+a+a+a+b").unwrap();
        assert!(!many.matches(&"a".repeat(100_000)));
    }

    #[test]
    fn what_is_beyond_the_subset_is_no_pattern() {
        for text in [
            "a*", "a?", "a.b", "(a)", "a|b", "[ab]", "[^a-z]", "[^\\d]", "[^]", "[^a", "[", "a]",
            "a++", "+", "a{2}", "^a$",
        ] {
            assert!(Pattern::read(text).is_none(), "{text}");
        }
        assert!(Pattern::read(&"a".repeat(63)).is_some());
        assert!(Pattern::read(&"a".repeat(64)).is_none());
    }
}
