//! The simple types of XSD that our schemas use (XML Schema part 2).

use std::borrow::Cow;

use roxmltree::Node;

use super::pattern::Pattern;
use crate::formats::xml::chars::{is_ncname, is_space};

/// A built-in type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BuiltIn {
    String,
    /// Every text without control characters: what makes a URI is told by the rules of the metadata, which say more.
    AnyUri,
    Base64Binary,
    Boolean,
    Language,
    NcName,
    QName,
}

impl BuiltIn {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::String,
            "anyURI" => Self::AnyUri,
            "base64Binary" => Self::Base64Binary,
            "boolean" => Self::Boolean,
            "language" => Self::Language,
            "NCName" => Self::NcName,
            "QName" => Self::QName,
            _ => return None,
        })
    }

    /// What would be accepted, where the text is not.
    fn refusal(self, text: &str, scope: Node<'_, '_>) -> Option<&'static str> {
        let (is_right, accepted) = match self {
            Self::String => return None,
            Self::AnyUri => (!text.chars().any(char::is_control), "a URI"),
            Self::Base64Binary => (is_base64(text), "base64 with its padding"),
            Self::Boolean => (
                matches!(text, "true" | "false" | "1" | "0"),
                "true, false, 1 or 0",
            ),
            Self::Language => (is_language(text), "a language tag such as en-US"),
            Self::NcName => (is_ncname(text), "one name without a colon"),
            Self::QName => (is_qname(text, scope), "a name with a declared prefix"),
        };
        (!is_right).then_some(accepted)
    }
}

/// A built-in type and what narrows it.
#[derive(Clone, Debug)]
pub(super) struct Simple {
    built_in: BuiltIn,
    pub(super) min_chars: usize,
    pub(super) max_chars: Option<usize>,
    /// The only values; none: all.
    pub(super) values: Vec<String>,
    pub(super) pattern: Option<Pattern>,
}

impl Simple {
    pub(super) fn of(built_in: BuiltIn) -> Self {
        Self {
            built_in,
            min_chars: 0,
            max_chars: None,
            values: Vec::new(),
            pattern: None,
        }
    }

    /// What would be accepted, where `raw` is not. `scope` is the element that holds it.
    pub(super) fn refusal(&self, raw: &str, scope: Node<'_, '_>) -> Option<String> {
        let text = match self.built_in {
            BuiltIn::String => Cow::Borrowed(raw),
            _ => collapsed(raw),
        };
        if let Some(accepted) = self.built_in.refusal(&text, scope) {
            return Some(accepted.to_owned());
        }
        if !self.values.is_empty() && !self.values.iter().any(|value| *value == text) {
            return Some(self.values.join(" or "));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|each| !each.matches(&text)) {
            return Some(format!("of the form {}", pattern.as_str()));
        }
        if self.min_chars == 0 && self.max_chars.is_none() {
            return None;
        }
        let chars = text.chars().count();
        if let Some(max) = self.max_chars.filter(|max| chars > *max) {
            return Some(format!("at most {max} characters, not {chars}"));
        }
        let min = self.min_chars;
        (chars < min).then(|| format!("at least {min} characters, not {chars}"))
    }
}

/// White space as all types but strings have it: none outside, one blank inside.
fn collapsed(raw: &str) -> Cow<'_, str> {
    let is_blank = |b: u8| is_space(b);
    let has_runs = || {
        let pairs = raw.as_bytes().windows(2);
        pairs
            .into_iter()
            .any(|pair| pair.iter().all(|b| is_blank(*b)))
    };
    if !raw.bytes().any(is_blank) {
        return Cow::Borrowed(raw);
    }
    let trimmed = raw.trim_matches([' ', '\t', '\r', '\n']);
    let has_other_blanks = trimmed.bytes().any(|b| is_blank(b) && b != b' ');
    if !has_other_blanks && !has_runs() {
        return Cow::Borrowed(trimmed);
    }
    let words = trimmed.split([' ', '\t', '\r', '\n']);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    Cow::Owned(words.join(" "))
}

/// XML Schema part 2, 3.2.16: the unused bits of the last character are zero.
fn is_base64(text: &str) -> bool {
    let (mut chars, mut padding, mut last) = (0, 0, 0);
    for octet in text.bytes().filter(|octet| *octet != b' ') {
        chars += 1;
        match octet {
            b'=' => padding += 1,
            _ if padding > 0 => return false,
            b'+' | b'/' => last = octet,
            _ if octet.is_ascii_alphanumeric() => last = octet,
            _ => return false,
        }
    }
    let is_whole = match padding {
        0 => true,
        1 => b"AEIMQUYcgkosw048".contains(&last),
        2 => b"AQgw".contains(&last),
        _ => false,
    };
    is_whole && chars % 4 == 0
}

fn is_language(text: &str) -> bool {
    let mut parts = text.split('-');
    let is_part = |part: &str| (1..=8).contains(&part.len());
    parts
        .next()
        .is_some_and(|first| is_part(first) && first.bytes().all(|b| b.is_ascii_alphabetic()))
        && parts.all(|part| is_part(part) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn is_qname(text: &str, scope: Node<'_, '_>) -> bool {
    match text.split_once(':') {
        Some((prefix, local)) => {
            is_ncname(prefix)
                && is_ncname(local)
                && scope.lookup_namespace_uri(Some(prefix)).is_some()
        }
        None => is_ncname(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_takes_what_is_its_own_and_nothing_else() {
        let document = roxmltree::Document::parse("<a xmlns:p='urn:p'/>").unwrap();
        let cases: [(&str, &[&str], &[&str]); 7] = [
            ("string", &["", " a\n"], &[]),
            (
                "anyURI",
                &["", "mailto:a@x.example", " urn:x "],
                &["a\u{85}b"],
            ),
            (
                "base64Binary",
                &["", "QUJD", "QUI=", "QQ==", "QU\nJD\r\n", "Q Q = ="],
                &[
                    "QUJ",
                    "QUJ=",
                    "QR==",
                    "Q===",
                    "====",
                    "QU=D",
                    "Q\u{e9}JD",
                    "QQ==QQ==",
                ],
            ),
            ("boolean", &["true", "0", " 1\n"], &["TRUE", "", "2"]),
            (
                "language",
                &["en", "en-US", "x-1"],
                &["", "en_US", "en-", "1n", "abcdefghi"],
            ),
            ("NCName", &["tooLarge", "_a.b-1"], &["", "a b", "1a", "a:b"]),
            ("QName", &["a", "p:a"], &["q:a", "p:", ":a", "p:a:b"]),
        ];
        for (name, good, bad) in cases {
            let simple = Simple::of(BuiltIn::named(name).unwrap());
            let refusal = |text: &str| simple.refusal(text, document.root_element());
            for text in good {
                assert_eq!(refusal(text), None, "{name} {text:?}");
            }
            for text in bad {
                assert!(refusal(text).is_some(), "{name} {text:?}");
            }
        }
    }

    // rule: XDR-7
    #[test]
    fn lengths_count_characters_and_not_octets() {
        let document = roxmltree::Document::parse("<a/>").unwrap();
        let simple = Simple {
            min_chars: 1,
            max_chars: Some(4),
            ..Simple::of(BuiltIn::String)
        };
        let refusal = |text: &str| simple.refusal(text, document.root_element());
        assert_eq!(refusal("éééé"), None);
        assert!(refusal("ééééé").unwrap().contains("at most 4"));
        assert!(refusal("").unwrap().contains("at least 1"));
    }
}
