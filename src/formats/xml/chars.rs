//! The characters of XML 1.0 (fifth edition) and of Namespaces in XML: what may stand where.

use std::borrow::Cow;

/// Whether `c` may stand in a document at all (XML 1.0 §2.2).
pub fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// White space of XML (§2.3).
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether `text` is white space of XML and nothing else.
pub fn is_blank(text: &str) -> bool {
    text.bytes().all(is_space)
}

/// `text` without white space of XML at both ends.
pub fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\r', '\n'])
}

/// Whether `text` is a name without a colon (Namespaces in XML §3).
pub fn is_ncname(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(is_name_start) && chars.all(is_name_char)
}

fn is_name_start(c: char) -> bool {
    matches!(c, 'A'..='Z' | '_' | 'a'..='z' | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}'
        | '\u{F8}'..='\u{2FF}' | '\u{370}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}'
        | '\u{200C}'..='\u{200D}' | '\u{2070}'..='\u{218F}' | '\u{2C00}'..='\u{2FEF}'
        | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}'
        | '\u{10000}'..='\u{EFFFF}')
}

fn is_name_char(c: char) -> bool {
    is_name_start(c)
        || matches!(c, '-' | '.' | '0'..='9' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

/// What `&name;` stands for: the five predefined entities and character references (§4.1, §4.6). No other entity can
/// exist, since a DTD is refused.
pub fn resolve_reference(name: &str) -> Option<char> {
    let code = match name {
        "amp" => return Some('&'),
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        _ => name.strip_prefix('#')?,
    };
    let (digits, radix) = match code.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (code, 10),
    };
    // `from_str_radix` would take a sign.
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let code = u32::from_str_radix(digits, radix).ok()?;
    char::from_u32(code).filter(|c| is_xml_char(*c))
}

/// The value of an attribute as it stands between its quotes: references resolved, white space normalised
/// (§3.3.3). `None` if a reference is unknown or never ends.
pub fn attribute_value(raw: &str) -> Option<Cow<'_, str>> {
    if !raw
        .bytes()
        .any(|b| matches!(b, b'&' | b'\t' | b'\r' | b'\n'))
    {
        return Some(Cow::Borrowed(raw));
    }
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(['&', '\t', '\r', '\n']) {
        let (plain, special) = rest.split_at(at);
        value.push_str(plain);
        if let Some(reference) = special.strip_prefix('&') {
            let (name, after) = reference.split_once(';')?;
            value.push(resolve_reference(name)?);
            rest = after;
        } else {
            value.push(' ');
            // A line end of two characters was normalised to one before (§2.11).
            let line_end = if special.starts_with("\r\n") { 2 } else { 1 };
            rest = special.get(line_end..)?;
        }
    }
    value.push_str(rest);
    Some(Cow::Owned(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: T-10
    #[test]
    fn only_predefined_entities_and_legal_characters_are_resolved() {
        assert_eq!(resolve_reference("amp"), Some('&'));
        assert_eq!(resolve_reference("#x41"), Some('A'));
        assert_eq!(resolve_reference("#65"), Some('A'));
        for name in [
            "",
            "nbsp",
            "#",
            "#x",
            "#0",
            "#x0",
            "#xD800",
            "#+65",
            "#xFFFE",
            "#99999999999",
        ] {
            assert_eq!(resolve_reference(name), None, "{name}");
        }
    }

    #[test]
    fn attribute_values_are_normalised() {
        assert_eq!(
            attribute_value("a&amp;b\r\nc\td&#10;").unwrap(),
            "a&b c d\n"
        );
        assert_eq!(attribute_value("a&amp"), None);
        assert_eq!(attribute_value("a&b;"), None);
    }

    #[test]
    fn names_follow_the_fifth_edition() {
        for name in ["a", "_", "Ä.1-b", "日本"] {
            assert!(is_ncname(name), "{name}");
        }
        for name in ["", "1", "-a", "a:b", "a b", "a\u{0}"] {
            assert!(!is_ncname(name), "{name:?}");
        }
    }
}
