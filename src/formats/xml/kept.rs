//! Received metadata, kept as XML.

use super::{super::limits::Limits, XmlLimitError, check_limits};

/// Why octets cannot be kept as an XML document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptXmlError {
    /// Refused by a limit.
    #[error(transparent)]
    Limit(#[from] XmlLimitError),
    /// Not in UTF-8.
    #[error("the XML must be in UTF-8 (XDM-20)")]
    NotUtf8,
}

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

    /// Keeps a document that stands alone, such as METADATA.XML: takes off a byte order mark and the XML
    /// declaration, and checks the limits on XML. Whether it is well-formed shows when it is parsed
    /// ([`crate::formats::metadata::Metadata::read`]).
    pub fn read(octets: &[u8], limits: &Limits) -> Result<Self, KeptXmlError> {
        if octets.len() as u64 > limits.max_metadata_bytes {
            return Err(XmlLimitError::TooLarge {
                limit_bytes: limits.max_metadata_bytes,
            }
            .into());
        }
        let text = std::str::from_utf8(octets).map_err(|_| KeptXmlError::NotUtf8)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = without_declaration(text)?;
        check_limits(text, limits)?;
        Ok(Self::from_checked(text.to_owned()))
    }

    /// The document's text, without XML declaration.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Takes off `<?xml … ?>`. A declared encoding other than UTF-8 would contradict the octets, which were read as
/// UTF-8.
fn without_declaration(text: &str) -> Result<&str, KeptXmlError> {
    let Some(rest) = text
        .strip_prefix("<?xml")
        .filter(|rest| rest.starts_with([' ', '\t', '\r', '\n']))
    else {
        return Ok(text);
    };
    let (declaration, document) = rest
        .split_once("?>")
        .ok_or(KeptXmlError::Limit(XmlLimitError::Unfinished))?;
    if let Some((_, encoding)) = declaration.split_once("encoding") {
        let name = encoding.trim_matches([' ', '\t', '\r', '\n', '=', '"', '\'']);
        let name = name.split(['"', '\'']).next().unwrap_or_default();
        if !name.eq_ignore_ascii_case("utf-8") && !name.eq_ignore_ascii_case("us-ascii") {
            return Err(KeptXmlError::NotUtf8);
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Result<String, KeptXmlError> {
        KeptXml::read(octets, &Limits::default()).map(|xml| xml.as_str().to_owned())
    }

    // rule: XDM-20
    #[test]
    fn byte_order_mark_and_declaration_are_taken_off() {
        let text = "\u{feff}<?xml version='1.0' encoding='utf-8' standalone='yes'?>\n<a/>";
        assert_eq!(read(text.as_bytes()).unwrap(), "\n<a/>");
        assert_eq!(read(b"<?xml version=\"1.0\"?><a/>").unwrap(), "<a/>");
        assert_eq!(
            read(b"<?xml-stylesheet href='a'?><a/>").unwrap(),
            "<?xml-stylesheet href='a'?><a/>"
        );
    }

    // rule: XDM-20
    #[test]
    fn another_encoding_is_refused() {
        assert_eq!(
            read(b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a/>"),
            Err(KeptXmlError::NotUtf8)
        );
        assert_eq!(read(b"<a>\xe9</a>"), Err(KeptXmlError::NotUtf8));
    }

    #[test]
    fn a_document_beyond_the_limit_is_refused_before_it_is_looked_at() {
        let limits = Limits {
            max_metadata_bytes: 4,
            ..Limits::default()
        };
        assert!(matches!(
            KeptXml::read(b"<a/> ", &limits),
            Err(KeptXmlError::Limit(XmlLimitError::TooLarge {
                limit_bytes: 4
            }))
        ));
    }
}
