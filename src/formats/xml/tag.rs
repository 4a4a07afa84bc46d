//! The inside of a start tag, read by the grammar of XML 1.0 §3.1 (the pull reader underneath is more lenient).

use std::ops::Range;

use super::chars::{attribute_value, is_ncname, is_space, is_xml_char};

/// A qualified name: where its prefix (possibly empty) and its local part stand in the tag's text.
#[derive(Clone, Debug)]
pub(super) struct QName {
    pub(super) prefix: Range<usize>,
    pub(super) local: Range<usize>,
}

/// One attribute as it stands in the tag's text.
#[derive(Clone, Debug)]
pub(super) struct RawAttribute {
    pub(super) name: QName,
    /// Between the quotes, references not resolved.
    pub(super) value: Range<usize>,
}

/// Reads `tag`, the text between `<` and `>` or `/>`, into a name and `attributes`.
pub(super) fn parse(
    tag: &str,
    attributes: &mut Vec<RawAttribute>,
    max_attributes: usize,
    max_value_bytes: usize,
) -> Result<QName, TagError> {
    attributes.clear();
    let bytes = tag.as_bytes();
    let mut at = end_of(bytes, 0, |b| !is_space(b));
    let name = qname(tag, 0..at)?;
    loop {
        let next = end_of(bytes, at, is_space);
        if next >= bytes.len() {
            return Ok(name);
        }
        if next == at {
            return Err(TagError::Grammar(
                "attributes need white space between them",
            ));
        }
        let name_end = end_of(bytes, next, |b| b != b'=' && !is_space(b));
        let name = qname(tag, next..name_end)?;
        let equals = end_of(bytes, name_end, is_space);
        if bytes.get(equals) != Some(&b'=') {
            return Err(TagError::Grammar("an attribute needs a value"));
        }
        let open = end_of(bytes, equals + 1, is_space);
        let Some(quote @ (b'"' | b'\'')) = bytes.get(open).copied() else {
            return Err(TagError::Grammar("an attribute value needs quotes"));
        };
        let close = end_of(bytes, open + 1, |b| b != quote);
        let value = open + 1..close;
        let Some(text) = tag.get(value.clone()).filter(|_| close < bytes.len()) else {
            return Err(TagError::Grammar("an attribute value never ends"));
        };
        if text.len() > max_value_bytes {
            return Err(TagError::Limit(
                "an attribute value is longer than the limit",
            ));
        }
        if text.contains('<') || !text.chars().all(is_xml_char) || attribute_value(text).is_none() {
            return Err(TagError::Grammar(
                "an attribute value holds a character or an entity that is not allowed",
            ));
        }
        if attributes.len() == max_attributes {
            return Err(TagError::Limit(
                "an element has more attributes than the limit",
            ));
        }
        attributes.push(RawAttribute { name, value });
        at = close + 1;
    }
}

/// Why a start tag is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TagError {
    /// It is not well-formed.
    Grammar(&'static str),
    /// It passes a limit (LIM-5).
    Limit(&'static str),
}

fn end_of(bytes: &[u8], from: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    from + rest.iter().position(|b| !belongs(*b)).unwrap_or(rest.len())
}

fn qname(tag: &str, range: Range<usize>) -> Result<QName, TagError> {
    let malformed = TagError::Grammar("an element or attribute name is not an XML name");
    let name = tag.get(range.clone()).ok_or(malformed)?;
    let (prefix, local) = match name.split_once(':') {
        Some((prefix, _)) => {
            let colon = range.start + prefix.len();
            (range.start..colon, colon + 1..range.end)
        }
        None => (range.start..range.start, range),
    };
    let is_name = |part: &Range<usize>| tag.get(part.clone()).is_some_and(is_ncname);
    if is_name(&local) && (prefix.is_empty() && !name.starts_with(':') || is_name(&prefix)) {
        Ok(QName { prefix, local })
    } else {
        Err(malformed)
    }
}
