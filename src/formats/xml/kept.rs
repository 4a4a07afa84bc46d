//! Received metadata, kept as XML.

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

    /// The document's text, without XML declaration.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
