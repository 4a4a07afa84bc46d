//! Mail message to Submission (xdr.md section 8): [`plan()`] decides what is posted for a mail to one endpoint, and
//! what comes in an XDM package keeps its metadata as it is.
//!
//! Memory: beside the mail itself, its packages are held, which together are less than the mail, and one CDA header while
//! it is read; a document never is. What is planned takes its metadata twice at the most.

mod context;
pub mod documents;
mod fill;
mod names;
mod parts;
mod plain;
pub mod plan;
pub mod policy;

pub(super) use plain::dtm;
pub use plan::{Incoming, Plan, PlannedRequest, plan};
pub use policy::EndpointPolicy;

use crate::{
    bridge::to_direct::{ConversionError, RECEIVED_AGAIN, is_received_uri},
    formats::{
        document::DocumentFacts,
        metadata::{Metadata, RECEIVED_URI},
        xdm::XdmSet,
    },
};

/// What an ITI-41 request is made of.
#[derive(Clone, Debug)]
pub struct XdrSubmission {
    /// The metadata for lcm:SubmitObjectsRequest.
    pub metadata: Metadata,
    /// Each document with its `xds:Document/@id`, which is its ExtrinsicObject's id; in metadata order.
    pub documents: Vec<(String, DocumentFacts)>,
}

/// Turns one submission set of a medium into a Submission: the `URI` slots are removed, or restored where the bridge
/// kept the received ones; everything else passes as it is (XDR-89, XDR-102, XDR-103).
pub fn submission_from_xdm(set: &XdmSet) -> Result<XdrSubmission, ConversionError> {
    if set.is_refused() {
        return Err(ConversionError::SetRefused);
    }
    let mut edit = set.metadata.edit();
    for entry in set.metadata.document_entries() {
        if entry.slot("URI").is_some() {
            edit.remove_slot(&entry.id, "URI");
        }
        let kept = entry.slots().iter().map(|slot| slot.name.as_str());
        for name in kept.filter(|name| is_received_uri(name)) {
            let restored = if name == RECEIVED_URI {
                "URI"
            } else {
                name.strip_suffix(RECEIVED_AGAIN).unwrap_or(name)
            };
            edit.rename_slot(&entry.id, name, restored);
        }
    }
    Ok(XdrSubmission {
        metadata: edit.finish()?,
        documents: set
            .documents
            .iter()
            .map(|document| (document.entry_id.clone(), document.facts.clone()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{
        document::DocumentKey, finding::Finding, limits::Limits, xdm::XdmDocument, xdr::ErrorCode,
        xml::kept::KeptXml,
    };

    fn set(slots: &str) -> XdmSet {
        let xml = format!(
            "<l:SubmitObjectsRequest xmlns:l=\"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\" \
             xmlns=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\"><RegistryObjectList>\
             <ExtrinsicObject id=\"Doc1\" mimeType=\"text/xml\">{slots}</ExtrinsicObject>\
             </RegistryObjectList></l:SubmitObjectsRequest>"
        );
        let limits = Limits::default();
        let kept = KeptXml::read(xml.as_bytes(), &limits).unwrap();
        XdmSet {
            directory: "SUBSET01".into(),
            metadata: Metadata::read(kept, &limits).unwrap(),
            documents: vec![XdmDocument {
                entry_index: 0,
                entry_id: "Doc1".into(),
                facts: DocumentFacts {
                    key: DocumentKey::ZipMember(5),
                    size: 3,
                    sha1: [1; 20],
                },
            }],
            findings: Vec::new(),
        }
    }

    fn slot(name: &str, value: &str) -> String {
        format!("<Slot name=\"{name}\"><ValueList><Value>{value}</Value></ValueList></Slot>")
    }

    // rule: XDR-103
    #[test]
    fn the_uri_goes_and_hash_size_and_ids_stay() {
        let slots = slot("URI", "DOC00001.XML") + &slot("hash", "AB") + &slot("size", "3");
        let submission = submission_from_xdm(&set(&slots)).unwrap();
        let entry = &submission.metadata.document_entries()[0];
        assert_eq!(entry.uri, None);
        assert_eq!(entry.hash.as_deref(), Some("AB"));
        assert_eq!(entry.size.as_deref(), Some("3"));
        let (id, facts) = &submission.documents[0];
        assert_eq!(
            (id.as_str(), facts.key),
            ("Doc1", DocumentKey::ZipMember(5))
        );
    }

    // rule: XDR-82, XDR-103
    #[test]
    fn a_uri_that_was_received_once_is_restored_where_it_stood() {
        let slots = slot(RECEIVED_URI, "http://repo.example/1")
            + &slot("title", "x")
            + &slot("URI", "DOC00001.XML");
        let submission = submission_from_xdm(&set(&slots)).unwrap();
        let slots = submission.metadata.document_entries()[0].slots();
        let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
        assert_eq!(names, ["URI", "title"]);
        assert_eq!(slots[0].values, ["http://repo.example/1"]);
    }

    // rule: XDM-40
    #[test]
    fn a_set_with_errors_is_not_turned_into_a_submission() {
        let mut set = set("");
        let code = ErrorCode::XdsMissingDocument;
        set.findings.push(Finding::error("XDM-43", code, "x", "y"));
        assert!(matches!(
            submission_from_xdm(&set),
            Err(ConversionError::SetRefused)
        ));
    }
}
