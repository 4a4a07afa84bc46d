//! A small tree of the header: HL7 elements with their attributes and text, and nothing else.

use super::{
    super::xml::pull::{Node, Pull, XmlError},
    HL7,
};

/// Most elements of one header. Rich ones have some hundreds.
const MAX_ELEMENTS: usize = 20_000;

/// One element of the HL7 namespace.
#[derive(Clone, Default)]
pub(super) struct Element {
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    text: String,
    children: Vec<Element>,
}

/// It holds patient data.
impl std::fmt::Debug for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Element({}, {} children)",
            self.name,
            self.children.len()
        )
    }
}

impl Element {
    /// An attribute that says something.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let mut found = self.attributes.iter().filter(|(own, _)| own == name);
        let (_, value) = found.next()?;
        let value = value.trim();
        (!value.is_empty()).then_some(value)
    }

    /// The text with its white space collapsed; `None` if there is none.
    pub(super) fn text(&self) -> Option<String> {
        let words: Vec<&str> = self.text.split_whitespace().collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// The children of this name.
    pub(super) fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element at the end of a path of names.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Element> {
        let mut found = self;
        for name in path {
            found = found.children.iter().find(|child| child.name == *name)?;
        }
        Some(found)
    }
}

/// Reads the children of the element whose start tag was read last, up to one of them that is named `stop`: whether
/// there is one is told. What is not of the HL7 namespace is passed over.
pub(super) fn read_until(pull: &mut Pull<'_>, stop: &str) -> Result<(Element, bool), XmlError> {
    let mut open = vec![Element {
        name: pull.local().to_owned(),
        ..Element::default()
    }];
    let mut elements = 0;
    loop {
        match pull.next()? {
            Node::Start if pull.namespace() != HL7 => pull.skip()?,
            Node::Start => {
                if open.len() == 1 && pull.local() == stop {
                    return Ok((open.swap_remove(0), true));
                }
                elements += 1;
                if elements > MAX_ELEMENTS {
                    let text = "the header of the document has too many elements";
                    return Err(XmlError::refused("LIM-5", text));
                }
                open.push(Element {
                    name: pull.local().to_owned(),
                    attributes: pull
                        .attributes()
                        .filter(|(namespace, _, _)| namespace.is_empty())
                        .map(|(_, name, value)| (name.to_owned(), value))
                        .collect(),
                    ..Element::default()
                });
            }
            Node::Text => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(pull.text());
                }
            }
            Node::End => {
                let Some(closed) = open.pop() else { continue };
                match open.last_mut() {
                    Some(parent) => parent.children.push(closed),
                    None => return Ok((closed, false)),
                }
            }
            Node::Eof => {
                let text = "the document ends before its root element does";
                return Err(XmlError::refused("SOAP-80", text));
            }
        }
    }
}
