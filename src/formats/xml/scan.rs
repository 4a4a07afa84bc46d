//! A first pass over XML text, before any tree is built: it counts what could make a tree costly (LIM-5) and refuses
//! a document type. Up to the first ill-formed place it splits the text into the same tokens as a full parser, and
//! the parser stops at that place; so nothing gets past these limits by being malformed.

use super::super::limits::Limits;

/// Most `<` or `=` octets in one document. A tree takes some hundred octets for each node and attribute, and these
/// two characters bound how many there are: 500,000 is ten times what 100 rich DocumentEntries need.
const MAX_MARKUP_OCTETS: usize = 500_000;
/// Most namespace declarations in scope at one place. A tree copies the list at each new declaration, so that a
/// long list under many elements would grow without bound.
const MAX_NAMESPACES_IN_SCOPE: usize = 256;

/// Most namespaces that all elements with declarations have in scope, added up: how many entries of such lists a tree
/// copies. It is more than a hundred rich DocumentEntries need that declare six prefixes on every single element.
const MAX_NAMESPACES_COPIED: usize = 200_000;

/// Why XML text is refused before it is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlLimitError {
    /// More octets than allowed.
    #[error("XML of more than {limit_bytes} octets (LIM-3)")]
    TooLarge {
        /// What would be accepted.
        limit_bytes: u64,
    },
    /// `<!DOCTYPE`: entities are a door for attacks, and no message needs one.
    #[error("a document type declaration (DTD) is not accepted (LIM-5)")]
    Dtd,
    /// Elements in elements in elements.
    #[error("XML elements nested deeper than {limit} (LIM-5)")]
    TooDeep {
        /// What would be accepted.
        limit: usize,
    },
    /// One element with very many attributes.
    #[error("an XML element with more than {limit} attributes (LIM-5)")]
    TooManyAttributes {
        /// What would be accepted.
        limit: usize,
    },
    /// One very long attribute value.
    #[error("an XML attribute of more than {limit_bytes} octets (LIM-5)")]
    AttributeTooLong {
        /// What would be accepted.
        limit_bytes: usize,
    },
    /// So many elements or attributes that a tree of them would take too much memory.
    #[error("more than {limit} XML elements, attributes or namespaces (LIM-5)")]
    TooMuchMarkup {
        /// What would be accepted.
        limit: usize,
    },
    /// Markup that is opened and never closed.
    #[error("the XML ends in the middle of its markup")]
    Unfinished,
}

/// One start tag (or empty-element tag) in XML text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::formats) struct StartTag<'a> {
    /// The name as it is written, with its prefix.
    pub(in crate::formats) name: &'a str,
    /// Offset of the octet after `>`.
    pub(in crate::formats) end: usize,
    /// Whether it is closed by `/>`.
    pub(in crate::formats) is_empty: bool,
    attributes: usize,
    longest_value_bytes: usize,
    namespaces: usize,
}

/// Reads the start tag whose `<` stands at `start`; `None` if there is none or it is not closed.
pub(in crate::formats) fn start_tag_at(text: &str, start: usize) -> Option<StartTag<'_>> {
    let octets = text.as_bytes();
    if octets.get(start) != Some(&b'<') {
        return None;
    }
    let name_start = start + 1;
    let name_end = octets
        .iter()
        .enumerate()
        .skip(name_start)
        .find(|(_, octet)| matches!(octet, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>'))
        .map(|(at, _)| at)?;
    let mut tag = StartTag {
        name: text.get(name_start..name_end)?,
        end: 0,
        is_empty: false,
        attributes: 0,
        longest_value_bytes: 0,
        namespaces: 0,
    };
    let mut at = name_end;
    let mut word_start = name_end;
    loop {
        match octets.get(at)? {
            b'>' => {
                tag.end = at + 1;
                tag.is_empty = octets.get(at.checked_sub(1)?) == Some(&b'/');
                return Some(tag);
            }
            quote @ (b'"' | b'\'') => {
                let length = memchr(*quote, octets.get(at + 1..)?)?;
                tag.attributes += 1;
                tag.longest_value_bytes = tag.longest_value_bytes.max(length);
                if octets
                    .get(word_start..at)
                    .is_some_and(|name| name.trim_ascii_start().starts_with(b"xmlns"))
                {
                    tag.namespaces += 1;
                }
                at += length + 2;
                word_start = at;
            }
            _ => at += 1,
        }
    }
}

/// Checks `text` against the limits on XML.
pub(in crate::formats) fn check_limits(text: &str, limits: &Limits) -> Result<(), XmlLimitError> {
    let octets = text.as_bytes();
    if octets.len() as u64 > limits.max_metadata_bytes {
        return Err(XmlLimitError::TooLarge {
            limit_bytes: limits.max_metadata_bytes,
        });
    }
    let too_much = |limit| XmlLimitError::TooMuchMarkup { limit };
    for mark in [b'<', b'='] {
        if octets.iter().filter(|octet| **octet == mark).count() > MAX_MARKUP_OCTETS {
            return Err(too_much(MAX_MARKUP_OCTETS));
        }
    }
    // How many namespaces each open element declares.
    let mut open: Vec<usize> = Vec::new();
    let mut namespaces_in_scope = 0usize;
    let mut namespaces_copied = 0usize;
    let mut at = 0;
    while let Some(distance) = octets.get(at..).and_then(|rest| memchr(b'<', rest)) {
        at += distance;
        let (markup, end) = markup_at(text, at).ok_or(XmlLimitError::Unfinished)?;
        match markup {
            Markup::Declaration => return Err(XmlLimitError::Dtd),
            Markup::End => namespaces_in_scope -= open.pop().unwrap_or(0),
            Markup::Other => {}
            Markup::Start(tag) => {
                check_tag(&tag, limits)?;
                if open.len() >= limits.max_xml_depth {
                    return Err(XmlLimitError::TooDeep {
                        limit: limits.max_xml_depth,
                    });
                }
                if namespaces_in_scope + tag.namespaces > MAX_NAMESPACES_IN_SCOPE {
                    return Err(too_much(MAX_NAMESPACES_IN_SCOPE));
                }
                if tag.namespaces > 0 {
                    namespaces_copied += namespaces_in_scope + tag.namespaces;
                    if namespaces_copied > MAX_NAMESPACES_COPIED {
                        return Err(too_much(MAX_NAMESPACES_COPIED));
                    }
                }
                if !tag.is_empty {
                    open.push(tag.namespaces);
                    namespaces_in_scope += tag.namespaces;
                }
            }
        }
        at = end;
    }
    Ok(())
}

/// What begins with a `<`.
pub(super) enum Markup<'a> {
    Start(StartTag<'a>),
    End,
    /// `<!DOCTYPE` and the like.
    Declaration,
    /// Comment, CDATA section, processing instruction.
    Other,
}

/// The markup whose `<` stands at `at`, with the offset after it; `None` if it is not closed.
pub(super) fn markup_at(text: &str, at: usize) -> Option<(Markup<'_>, usize)> {
    const SECTIONS: [(&[u8], &[u8]); 3] =
        [(b"<!--", b"-->"), (b"<![CDATA[", b"]]>"), (b"<?", b"?>")];
    let rest = text.as_bytes().get(at..)?;
    let section = SECTIONS.iter().find(|(open, _)| rest.starts_with(open));
    if let Some((open, close)) = section {
        Some((Markup::Other, at + end_of(rest, open.len(), close)?))
    } else if rest.starts_with(b"<!") {
        Some((Markup::Declaration, at))
    } else if rest.starts_with(b"</") {
        Some((Markup::End, at + memchr(b'>', rest)? + 1))
    } else {
        let tag = start_tag_at(text, at)?;
        Some((Markup::Start(tag), tag.end))
    }
}

fn check_tag(tag: &StartTag<'_>, limits: &Limits) -> Result<(), XmlLimitError> {
    if tag.attributes > limits.max_xml_attributes {
        return Err(XmlLimitError::TooManyAttributes {
            limit: limits.max_xml_attributes,
        });
    }
    if tag.longest_value_bytes > limits.max_xml_attribute_bytes {
        return Err(XmlLimitError::AttributeTooLong {
            limit_bytes: limits.max_xml_attribute_bytes,
        });
    }
    Ok(())
}

/// Offset of the first `wanted` octet.
fn memchr(wanted: u8, octets: &[u8]) -> Option<usize> {
    octets.iter().position(|octet| *octet == wanted)
}

/// Offset after the first `close` that stands at `from` or later.
fn end_of(octets: &[u8], from: usize, close: &[u8]) -> Option<usize> {
    let rest = octets.get(from..)?;
    let found = rest
        .windows(close.len())
        .position(|window| window == close)?;
    Some(from + found + close.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), XmlLimitError> {
        check_limits(text, &Limits::default())
    }

    #[test]
    fn a_start_tag_ends_at_the_first_angle_bracket_outside_quotes() {
        let text = r#"<a:b c="x>y" d='/>' ><e/></a:b>"#;
        let tag = start_tag_at(text, 0).unwrap();
        assert_eq!((tag.name, tag.end, tag.is_empty), ("a:b", 21, false));
        let inner = start_tag_at(text, 21).unwrap();
        assert_eq!((inner.name, inner.is_empty), ("e", true));
        assert_eq!(start_tag_at("<never closed", 0), None);
        assert_eq!(start_tag_at("no tag", 0), None);
    }

    #[test]
    fn a_document_type_is_refused_wherever_it_stands() {
        assert_eq!(check("<!DOCTYPE a><a/>"), Err(XmlLimitError::Dtd));
        assert_eq!(
            check("<!-- c --><!DOCTYPE a [<!ENTITY b 'c'>]><a/>"),
            Err(XmlLimitError::Dtd)
        );
        // The same text where it is only text.
        assert_eq!(
            check("<a><![CDATA[<!DOCTYPE a>]]><!-- <!DOCTYPE a> --></a>"),
            Ok(())
        );
    }

    // rule: LIM-5, T-10
    #[test]
    fn depth_attributes_and_namespaces_are_limited() {
        let limits = Limits::default();
        let deep = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert_eq!(check(&deep(limits.max_xml_depth)), Ok(()));
        assert!(matches!(
            check(&deep(limits.max_xml_depth + 1)),
            Err(XmlLimitError::TooDeep { .. })
        ));
        let wide: String = (0..=limits.max_xml_attributes)
            .map(|n| format!(" a{n}=''"))
            .collect();
        assert!(matches!(
            check(&format!("<a{wide}/>")),
            Err(XmlLimitError::TooManyAttributes { .. })
        ));
        let long = "x".repeat(limits.max_xml_attribute_bytes + 1);
        assert!(matches!(
            check(&format!("<a b='{long}'/>")),
            Err(XmlLimitError::AttributeTooLong { .. })
        ));
        let declarations: String = (0..100).map(|n| format!(" xmlns:n{n}='urn:n'")).collect();
        let nested =
            |depth: usize| format!("<a{declarations}>").repeat(depth) + &"</a>".repeat(depth);
        assert_eq!(check(&nested(2)), Ok(()));
        assert!(matches!(
            check(&nested(3)),
            Err(XmlLimitError::TooMuchMarkup { .. })
        ));
        assert!(matches!(
            check(&format!("<r>{}</r>", "<a/>".repeat(MAX_MARKUP_OCTETS))),
            Err(XmlLimitError::TooMuchMarkup { .. })
        ));
    }

    // rule: T-10
    #[test]
    fn a_long_list_of_namespaces_is_not_copied_for_very_many_elements() {
        let declarations: String = (0..255).map(|n| format!(" xmlns:n{n}='urn:n'")).collect();
        let document =
            |child: &str, count: usize| format!("<r{declarations}>{}</r>", child.repeat(count));
        let most = (MAX_NAMESPACES_COPIED - 255) / 256;
        let declaring = "<a xmlns:z='u'/>";
        assert_eq!(check(&document(declaring, most)), Ok(()));
        for child in [declaring, "<a xmlns:z='u'></a>"] {
            assert_eq!(
                check(&document(child, most + 1)),
                Err(XmlLimitError::TooMuchMarkup {
                    limit: MAX_NAMESPACES_COPIED
                })
            );
        }
        // What declares nothing shares the list of its parent.
        assert_eq!(check(&document("<a/>", 100 * most)), Ok(()));
    }

    #[test]
    fn cut_markup_is_unfinished_and_stray_ends_do_no_harm() {
        for text in ["<a", "<a b='", "<!-- ", "<![CDATA[ ]]", "<?pi", "</a"] {
            assert_eq!(check(text), Err(XmlLimitError::Unfinished), "{text}");
        }
        assert_eq!(check("</a></b>"), Ok(()));
    }
}
