//! XDM package to Submission (xdr.md section 8). Mail messages come with the other direction's flow.

use crate::{
    bridge::to_direct::{ConversionError, RECEIVED_AGAIN, RECEIVED_URI, is_received_uri},
    formats::{document::DocumentFacts, metadata::Metadata, xdm::XdmSet},
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
        let kept = entry.slots.iter().map(|slot| slot.name.as_str());
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
