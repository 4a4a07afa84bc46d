//! A whole document, checked and kept: METADATA.XML, or a SubmitObjectsRequest in a file.

use std::io::BufRead;

use super::{
    kept::KeptXml,
    pull::{Node, Pull, XmlError},
};
use crate::formats::limits::Limits;

/// Reads one document through the hardened reader and keeps the text of its root element. The document may have
/// `max_metadata_bytes` (LIM-3).
pub fn keep(octets: &mut dyn BufRead, limits: &Limits) -> Result<KeptXml, XmlError> {
    let mut pull = Pull::open(Box::new(octets), limits.max_metadata_bytes, limits)?;
    pull.watch();
    pull.next()?;
    pull.keep();
    pull.skip()?;
    let text = pull.take_kept()?;
    while pull.next()? != Node::Eof {}
    Ok(KeptXml::from_checked(text))
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
