//! Header blocks as small trees: the few that this gateway reads, bounded in number and size.

use crate::formats::xml::{
    chars::trim,
    names,
    pull::{Node, Pull, XmlError},
};

/// Elements that the header blocks we read may have together. Beside the recipients there are few; of those it takes
/// more than an exchange may have, so that too many are told as such (LIM-9).
const MAX_ELEMENTS: usize = 20_000;
/// Text that one of these elements may hold, in octets.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Header blocks of any kind.
const MAX_BLOCKS: usize = 256;

/// An element with what it holds. Namespaces are resolved, text is joined.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) namespace: String,
    pub(crate) local: String,
    pub(crate) attributes: Vec<(String, String, String)>,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    pub(crate) fn is(&self, namespace: &str, local: &str) -> bool {
        self.namespace == namespace && self.local == local
    }

    pub(crate) fn attribute(&self, namespace: &str, local: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(ns, name, _)| ns == namespace && name == local)
            .map(|(_, _, value)| value.as_str())
    }

    /// The children of that name.
    pub(crate) fn children<'e>(
        &'e self,
        namespace: &'e str,
        local: &'e str,
    ) -> impl Iterator<Item = &'e Element> {
        self.children
            .iter()
            .filter(move |child| child.is(namespace, local))
    }

    /// The text without white space around it.
    pub(crate) fn trimmed(&self) -> &str {
        trim(&self.text)
    }
}

/// Reads the blocks of a soap:Header, whose start tag was read last, up to its end, into `blocks`: those before a defect
/// are there when it is found. Blocks that `is_read` does not want keep their names and attributes only.
pub(crate) fn read_blocks(
    pull: &mut Pull<'_>,
    is_read: impl Fn(&str) -> bool,
    blocks: &mut Vec<Element>,
) -> Result<(), XmlError> {
    let mut left = MAX_ELEMENTS;
    loop {
        match pull.next()? {
            Node::Start if blocks.len() == MAX_BLOCKS => return Err(too_many()),
            Node::Start if is_read(pull.namespace()) => blocks.push(read_element(pull, &mut left)?),
            Node::Start => {
                blocks.push(named(pull));
                pull.skip()?;
            }
            Node::Text if trim(pull.text()).is_empty() => {}
            Node::Text => return Err(XmlError::refused("SOAP-40", "text directly in soap:Header")),
            Node::End | Node::Eof => return Ok(()),
        }
    }
}

/// Reads one element, whose start tag was read last, with everything in it.
pub(crate) fn read_element(pull: &mut Pull<'_>, left: &mut usize) -> Result<Element, XmlError> {
    let mut open = vec![named(pull)];
    loop {
        match pull.next()? {
            Node::Start => {
                *left = left.checked_sub(1).ok_or_else(too_many)?;
                open.push(named(pull));
            }
            Node::Text => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(pull.text());
                    if element.text.len() > MAX_TEXT_BYTES {
                        return Err(XmlError::refused(
                            "LIM-5",
                            "a text in the header is longer than 64 KiB",
                        ));
                    }
                }
            }
            Node::End | Node::Eof => {
                let element = open.pop().unwrap_or_default();
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => return Ok(element),
                }
            }
        }
    }
}

fn named(pull: &Pull<'_>) -> Element {
    Element {
        namespace: pull.namespace().to_owned(),
        local: pull.local().to_owned(),
        attributes: pull
            .attributes()
            .map(|(namespace, local, value)| (namespace.to_owned(), local.to_owned(), value))
            .collect(),
        ..Element::default()
    }
}

fn too_many() -> XmlError {
    XmlError::refused("LIM-5", "the header holds more elements than the limit")
}

/// A boolean as SOAP writes it (SOAP-46).
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match trim(text) {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// Whether a header block is meant for the one who receives this message (SOAP-46).
pub(crate) fn is_for_us(block: &Element) -> bool {
    match block.attribute(names::SOAP12, "role").map(trim) {
        None | Some("") => true,
        Some(role) => role
            .strip_prefix(names::SOAP12)
            .is_some_and(|rest| matches!(rest, "/role/next" | "/role/ultimateReceiver")),
    }
}
