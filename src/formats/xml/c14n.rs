//! Canonical XML, for digests and comparison: Exclusive XML Canonicalization 1.0 without comments.

use bergshamra_c14n::{C14nMode, canonicalize};

use super::kept::KeptXml;

/// The text is no well-formed XML; its content is not named, since it may hold patient data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the XML cannot be brought into canonical form: it is not well-formed")]
pub struct C14nError;

/// The octets of `xml` in exclusive canonical form, comments left out.
pub fn exclusive(xml: &KeptXml) -> Result<Vec<u8>, C14nError> {
    // The library's error would quote the text.
    canonicalize::<&str>(xml.as_str(), C14nMode::Exclusive, None, &[]).map_err(|_| C14nError)
}
