//! The header of a CDA document (HL7 CDA R2), as far as Document Sharing metadata can be had from it (metadata.md
//! section 8; IHE PCC TF-2 4.1.1). The body is not read: it is the document's own affair.

mod describe;
mod format_code;
pub(super) mod time;
mod tree;

use std::io::BufRead;

use super::{
    limits::Limits,
    xml::pull::{Node, Pull, XmlError},
};
use tree::Element;

pub use describe::{CdaOptions, describe};
pub(crate) use format_code::code as format_code_of;
pub use format_code::{MIME_TYPE_SUFFICIENT, mime_type_sufficient};

const HL7: &str = "urn:hl7-org:v3";

/// The header of one CDA document.
#[derive(Clone, Debug)]
pub struct CdaHeader {
    root: Element,
    body: Body,
}

/// What the document's body is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Body {
    Structured,
    /// `nonXMLBody`, with the media type of its text.
    NonXml(Option<String>),
    Missing,
}

/// Reads the header of a CDA document by the hardened XML reader. `None` for what is no CDA, or none that can be read:
/// then it is an opaque document, never an error (MD-161). Reading ends where the body begins.
pub fn read<'a>(octets: impl BufRead + 'a, limits: &Limits) -> Option<CdaHeader> {
    read_header(octets, limits).ok().flatten()
}

fn read_header<'a>(
    octets: impl BufRead + 'a,
    limits: &Limits,
) -> Result<Option<CdaHeader>, XmlError> {
    let mut pull = Pull::open(Box::new(octets), limits.max_metadata_bytes, limits)?;
    pull.pass_over_instructions();
    if pull.next()? != Node::Start || !pull.is(HL7, "ClinicalDocument") {
        return Ok(None);
    }
    let (root, has_body) = tree::read_until(&mut pull, "component")?;
    let body = if has_body {
        read_body_kind(&mut pull)?
    } else {
        Body::Missing
    };
    Ok(Some(CdaHeader { root, body }))
}

/// Looks at the first element inside `component`, and at the start tag of a nonXMLBody's text.
fn read_body_kind(pull: &mut Pull<'_>) -> Result<Body, XmlError> {
    loop {
        match pull.next()? {
            Node::Start if pull.is(HL7, "nonXMLBody") => break,
            Node::Start => return Ok(Body::Structured),
            Node::Text => {}
            Node::End | Node::Eof => return Ok(Body::Missing),
        }
    }
    loop {
        match pull.next()? {
            Node::Start if pull.is(HL7, "text") => {
                return Ok(Body::NonXml(pull.attribute("", "mediaType")));
            }
            Node::Start => pull.skip()?,
            Node::Text => {}
            Node::End | Node::Eof => return Ok(Body::NonXml(None)),
        }
    }
}

#[cfg(test)]
mod tests;
