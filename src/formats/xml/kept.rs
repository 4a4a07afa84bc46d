//! Received metadata, kept as XML: METADATA.XML, or a SubmitObjectsRequest in a file or in a request.

use std::io::BufRead;

use super::pull::{Node, Pull, XmlError};
use crate::formats::limits::Limits;

/// A `lcm:SubmitObjectsRequest` as it was received, as a document of its own: the namespaces that it used from its
/// surroundings are declared on its root. It is edited by splicing text, never regenerated (XDR-89).
#[derive(Clone, PartialEq, Eq)]
pub struct KeptXml {
    text: String,
}

impl std::fmt::Debug for KeptXml {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeptXml({} octets)", self.text.len())
    }
}

impl KeptXml {
    /// Keeps `text`, which is a well-formed document without DTD that the hardened reader has passed.
    pub fn from_checked(text: String) -> Self {
        Self { text }
    }

    /// Reads a document that stands alone through the hardened reader and keeps the text of its root element. The
    /// document may have `max_metadata_bytes` (LIM-3). What else limits a tree of it is asked when it is parsed
    /// ([`crate::formats::metadata::Metadata::read`]).
    pub fn read(octets: impl BufRead, limits: &Limits) -> Result<Self, XmlError> {
        let mut pull = Pull::open(Box::new(octets), limits.max_metadata_bytes, limits)?;
        pull.watch();
        pull.next()?;
        pull.keep();
        pull.skip()?;
        let text = pull.take_kept()?;
        while pull.next()? != Node::Eof {}
        Ok(Self::from_checked(text))
    }

    /// The document's text, without XML declaration.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Reads one document to its end and keeps nothing of it. An error: it is not well-formed, or refused.
pub fn read_through(octets: &mut dyn BufRead, limits: &Limits) -> Result<(), XmlError> {
    let mut pull = Pull::open(Box::new(octets), limits.max_metadata_bytes, limits)?;
    while pull.next()? != Node::Eof {}
    Ok(())
}

/// Namespace and local name of the root element of `octets`, of which the beginning is enough. `None`: not XML, or
/// XML that is refused before its root element.
pub fn root_name(octets: &[u8], limits: &Limits) -> Option<(String, String)> {
    let mut pull = Pull::open(Box::new(octets), limits.max_metadata_bytes, limits).ok()?;
    match pull.next() {
        Ok(Node::Start) => Some((pull.namespace().to_owned(), pull.local().to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Result<String, XmlError> {
        KeptXml::read(octets, &Limits::default()).map(|xml| xml.as_str().to_owned())
    }

    fn rule(octets: &[u8], limits: &Limits) -> &'static str {
        match KeptXml::read(octets, limits) {
            Err(XmlError::Refused { rule, .. }) => rule,
            other => panic!("not refused by a rule: {other:?}"),
        }
    }

    // rule: XDM-20
    #[test]
    fn byte_order_mark_and_declaration_are_taken_off() {
        let text = "\u{feff}<?xml version='1.0' encoding='utf-8' standalone='yes'?>\n<a/>";
        assert_eq!(read(text.as_bytes()).unwrap(), "<a/>");
        assert_eq!(read(b"<?xml version=\"1.0\"?><a/>").unwrap(), "<a/>");
    }

    // rule: XDM-20
    #[test]
    fn another_encoding_is_refused() {
        read(b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a/>").unwrap_err();
        read(b"<a>\xe9</a>").unwrap_err();
    }

    // rule: SOAP-43
    #[test]
    fn what_is_no_single_element_is_refused() {
        for text in [
            "",
            "a",
            "<a/><b/>",
            "<a/>\0",
            "<a>",
            "<!DOCTYPE a><a/>",
            "<?xml-stylesheet href='a'?><a/>",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }

    // rule: LIM-3
    #[test]
    fn a_document_beyond_the_limit_is_refused() {
        let limits = Limits {
            max_metadata_bytes: 4,
            ..Limits::default()
        };
        assert_eq!(rule(b"<aaaaaaaa/>", &limits), "LIM-3");
        assert!(KeptXml::read(&b"<a/>"[..], &limits).is_ok());
    }
}
