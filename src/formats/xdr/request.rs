//! The request: ITI-41 Provide and Register Document Set-b (xdr.md section 2), read as a stream and written as one.

mod body;
mod file;
mod package;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use file::read_file;
pub use read::read;
pub use write::{OutgoingDocument, OutgoingRequest, write_mtom, write_simple};

pub use crate::formats::soap::Packaging;
use crate::formats::{
    document::DocumentKey,
    finding::Finding,
    soap::{AddressBlock, Addressing, Fault, MetadataLevel},
    xml::kept::KeptXml,
};

/// One `xds:Document` and where its octets went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentPart {
    /// `xds:Document/@id`: the id of its ExtrinsicObject (XDR-8).
    pub document_id: String,
    /// The key that the octets were given to the sink under.
    pub key: DocumentKey,
}

/// A request as it was received. Its metadata is not looked at yet.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// How it was packaged, and how it is to be answered (SOAP-10).
    pub packaging: Packaging,
    /// Its WS-Addressing headers.
    pub addressing: Addressing,
    /// Its Direct addressBlock. A request without one is legal (SOAP-113).
    pub address_block: Option<AddressBlock>,
    /// Its metadata-level header.
    pub metadata_level: Option<MetadataLevel>,
    /// What a delivery notification is about: the wsa:MessageID of an earlier request (SOAP-118).
    pub notification_relates_to: Option<String>,
    /// `lcm:SubmitObjectsRequest` as a document of its own.
    pub metadata: KeptXml,
    /// The documents in the order of their `xds:Document` elements; those with an error finding are left out.
    pub documents: Vec<DocumentPart>,
    /// The ids of those that are left out: they came, and a finding says what is wrong with them.
    pub unusable_documents: Vec<String>,
    /// What is wrong or odd about packaging, envelope and documents. An error refuses the submission (SOAP-92).
    pub findings: Vec<Finding>,
}

/// What one partner may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Requests must be MTOM (SOAP-11). Default: simple SOAP is accepted with a warning.
    pub require_mtom: bool,
    /// A wsse:Security header that must be understood is passed over (SOAP-148). Default: MustUnderstand fault.
    pub saml_ignored: bool,
    /// The addressBlock must carry role and relay (SOAP-111). Default: a warning.
    pub strict_address_block: bool,
    /// Several documents may point to one part (SOAP-32). Default: refused.
    pub shared_parts: bool,
    /// Envelope and header are held to our schemas (MD-99): each violation is an error. Default: they are read as
    /// kindly as everything else.
    pub validate_schema: bool,
}

/// Why no request could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// To be answered with a SOAP fault. It carries the packaging and, if known, the MessageID of the request.
    #[error("the request is answered with a fault by rule {}: {}", .0.rule, .0.reason)]
    Fault(Box<Fault>),
    /// To be answered with HTTP 415 (SOAP-7).
    #[error(
        "the Content-Type must be multipart/related or application/soap+xml, in UTF-8 or UTF-16"
    )]
    UnsupportedMediaType,
    /// To be answered with HTTP 413 (LIM-1).
    #[error("the request is larger than {max_bytes} octets")]
    TooLarge {
        /// What would be accepted.
        max_bytes: u64,
    },
    /// The body failed to come.
    #[error("the request did not come to its end")]
    Io(#[source] std::io::Error),
    /// The sink failed to take a document.
    #[error("a document could not be stored")]
    Sink(#[source] std::io::Error),
}
