//! SOAP, WS-Addressing, the Direct addressBlock, and MTOM (soap.md).

pub mod address_block;
pub mod addressing;
pub(crate) mod base64;
pub(crate) mod envelope;
pub mod fault;
pub(crate) mod header;
pub mod media_type;
pub(crate) mod multipart;
pub(crate) mod package;
pub(crate) mod saved;
pub(crate) mod schema;
pub(crate) mod transfer;

pub(crate) use address_block::mailto;
pub use address_block::{AddressBlock, MetadataLevel};
pub use addressing::Addressing;
pub use fault::{Fault, FaultCode, ReceivedFault};

/// The Action of an ITI-41 request (soap.md section 5).
pub const REQUEST_ACTION: &str = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b";
/// The Action that CONNECT sends for the same request (NHIN-20).
pub const NHIN_REQUEST_ACTION: &str = "urn:ihe:iti:xdr:2007:ProvideAndRegisterDocumentSet-b";
/// The Action of its answer.
pub const RESPONSE_ACTION: &str = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-bResponse";
/// ReplyTo: answer on the same connection (SOAP-64).
pub const ANONYMOUS: &str = "http://www.w3.org/2005/08/addressing/anonymous";
/// ReplyTo: do not answer (SOAP-70).
pub const NONE: &str = "http://www.w3.org/2005/08/addressing/none";
/// RelatesTo of an answer to a request without MessageID (SOAP-67).
pub const UNSPECIFIED: &str = "http://www.w3.org/2005/08/addressing/unspecified";

/// How a message is packaged. An answer takes the packaging of its request (SOAP-10, SOAP-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packaging {
    /// MTOM/XOP: multipart/related.
    Mtom,
    /// A SOAP 1.2 envelope as the whole body, documents inline.
    SimpleSoap,
    /// A SOAP envelope in a file, without an HTTP head. Only for `inspect` and `convert`.
    BareEnvelope,
    /// A ProvideAndRegisterDocumentSetRequest without envelope in a file. Only for `inspect` and `convert`.
    BareBody,
    /// A SubmitObjectsRequest alone in a file, without documents. Only for `inspect` and `convert`.
    BareSubmission,
}

impl Packaging {
    /// How a request with that Content-Type is answered where nothing else of it is known.
    pub fn of_content_type(text: &str) -> Self {
        let is_related = media_type::MediaType::parse(text)
            .is_some_and(|media| media.essence() == "multipart/related");
        if is_related {
            Self::Mtom
        } else {
            Self::SimpleSoap
        }
    }

    /// Whether documents come with it: a SubmitObjectsRequest alone has room for none.
    pub fn has_documents(self) -> bool {
        self != Self::BareSubmission
    }

    /// The word for it in `inspect` and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mtom => "mtom",
            Self::SimpleSoap | Self::BareEnvelope => "simple-soap",
            Self::BareBody => "bare-body",
            Self::BareSubmission => "bare-submission",
        }
    }
}
