//! What a destination loses that gets the documents alone (XDR-27 to XDR-29, XDR-87).

use crate::formats::{
    finding::Finding,
    metadata::{
        Metadata,
        validate::{
            ObjectKind,
            attributes::{ATTRIBUTES, Form},
        },
    },
    xdr::ErrorCode,
};

/// Warnings for what does not reach a mailbox that gets the documents without their metadata: one for the folders, one
/// for each relationship Association, one for extra metadata; at most `most` of them.
pub fn losses(metadata: &Metadata, most: usize) -> Vec<Finding> {
    let folders = metadata.folders();
    let folder = folders.first().map(|first| {
        Finding::warning(
            "XDR-27",
            format!("Folder({})", first.id),
            "folders do not reach destinations that get the documents alone; they should get packages",
        )
        .with_code(ErrorCode::PartialFolderContentNotProcessed)
    });
    let relationships = metadata
        .associations()
        .iter()
        .filter(|association| !association.is_has_member())
        .map(|association| {
            Finding::warning(
                "XDR-28",
                format!("Association({}).associationType", association.id),
                "relationships do not reach destinations that get the documents alone; they should get packages",
            )
            .with_code(relationship_code(&association.kind))
        });
    let extra = first_extra_slot(metadata).map(|location| {
        Finding::warning(
            "XDR-29",
            location,
            "extra metadata does not reach destinations that get the documents alone; they should get packages",
        )
        .with_code(ErrorCode::XdsExtraMetadataNotSaved)
    });
    // The two single ones first: many relationships must not hide them.
    let all = folder.into_iter().chain(extra).chain(relationships);
    all.take(most).collect()
}

/// The code for a relationship that is not carried (xdr.md section 5).
fn relationship_code(kind: &str) -> ErrorCode {
    match kind.rsplit(':').next() {
        Some("APND") => ErrorCode::PartialAppendContentNotProcessed,
        Some("RPLC") => ErrorCode::PartialReplaceContentNotProcessed,
        Some("XFRM") => ErrorCode::PartialTransformNotProcessed,
        Some("XFRM_RPLC") => ErrorCode::PartialTransformReplaceNotProcessed,
        _ => ErrorCode::PartialRelationshipContentNotProcessed,
    }
}

/// Where the first slot stands that is none of the standard's (MD-8).
fn first_extra_slot(metadata: &Metadata) -> Option<String> {
    let entries = metadata
        .document_entries()
        .iter()
        .map(|object| (ObjectKind::DocumentEntry, &object.id, object.slots()));
    let sets = metadata
        .submission_sets()
        .iter()
        .map(|object| (ObjectKind::SubmissionSet, &object.id, object.slots()));
    let folders = metadata
        .folders()
        .iter()
        .map(|object| (ObjectKind::Folder, &object.id, object.slots()));
    let associations = metadata
        .associations()
        .iter()
        .map(|object| (ObjectKind::Association, &object.id, object.slots()));
    entries
        .chain(sets)
        .chain(folders)
        .chain(associations)
        .find(|(kind, _, slots)| slots.iter().any(|slot| is_extra(*kind, &slot.name)))
        .map(|(kind, id, _)| format!("{}({id})", kind.as_str()))
}

fn is_extra(kind: ObjectKind, name: &str) -> bool {
    let mut known = ATTRIBUTES.iter().filter(|row| row.object == kind);
    !name.starts_with("urn:ihe:")
        && !known.any(|row| matches!(row.form, Form::Slot(own) if own == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{limits::Limits, xml::kept::KeptXml};

    const FOLDER: &str = include_str!("../../../fixtures/metadata/full-with-folder.xml");

    fn read(text: &str) -> Metadata {
        let limits = Limits::default();
        let kept = KeptXml::read(text.as_bytes(), &limits).unwrap();
        Metadata::read(kept, &limits).unwrap()
    }

    fn submission(objects: &str) -> Metadata {
        read(&format!(
            "<l:SubmitObjectsRequest xmlns:l=\"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\" \
             xmlns=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\"><RegistryObjectList>{objects}\
             </RegistryObjectList></l:SubmitObjectsRequest>"
        ))
    }

    fn codes(metadata: &Metadata) -> Vec<String> {
        let found = losses(metadata, 50);
        assert!(found.iter().all(|finding| !finding.is_error()));
        let code = |finding: &Finding| finding.code.as_ref().unwrap().as_str().to_owned();
        found.iter().map(code).collect()
    }

    // rule: XDR-28
    #[test]
    fn every_relationship_has_the_table_form_of_its_code() {
        let association = |kind: &str| {
            format!(
                "<Association id=\"{kind}\" associationType=\"{kind}\" sourceObject=\"a\" \
                 targetObject=\"b\"/>"
            )
        };
        let kinds = [
            "urn:ihe:iti:2007:AssociationType:APND",
            "urn:ihe:iti:2007:AssociationType:RPLC",
            "urn:ihe:iti:2007:AssociationType:XFRM",
            "urn:ihe:iti:2007:AssociationType:XFRM_RPLC",
            "urn:ihe:iti:2007:AssociationType:signs",
            "urn:ihe:iti:2010:AssociationType:IsSnapshotOf",
            "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember",
        ];
        let all: String = kinds.iter().map(|kind| association(kind)).collect();
        assert_eq!(
            codes(&submission(&all)),
            [
                "PartialAppendContentNotProcessed",
                "PartialReplaceContentNotProcessed",
                "PartialTransformNotProcessed",
                "PartialTransformReplaceNotProcessed",
                "PartialRelationshipContentNotProcessed",
                "PartialRelationshipContentNotProcessed",
            ]
        );
        // An old sender's short name means the same (MD-36).
        assert_eq!(
            codes(&submission(&association("XFRM"))),
            ["PartialTransformNotProcessed"]
        );
    }

    // rule: XDR-27, XDR-29
    #[test]
    fn folders_and_extra_metadata_are_told_once_however_many_there_are() {
        let found = codes(&read(FOLDER));
        let count = |code: &str| found.iter().filter(|own| *own == code).count();
        assert_eq!(count("PartialFolderContentNotProcessed"), 1, "{found:?}");
        let slot = |name: &str| {
            format!("<Slot name=\"{name}\"><ValueList><Value>x</Value></ValueList></Slot>")
        };
        let entry = |id: &str, slots: &str| {
            format!("<ExtrinsicObject id=\"{id}\">{slots}</ExtrinsicObject>")
        };
        let standard = [
            "creationTime",
            "hash",
            "size",
            "URI",
            "repositoryUniqueId",
            "urn:ihe:iti:xds:2013:referenceIdList",
        ];
        let standard: String = standard.iter().map(|name| slot(name)).collect();
        assert_eq!(codes(&submission(&entry("a", &standard))), [""; 0]);
        let extra = slot("urn:example:ward") + &slot("urn:example:bed");
        let two = entry("a", &extra) + &entry("b", &extra);
        assert_eq!(codes(&submission(&two)), ["XDSExtraMetadataNotSaved"]);
        let link = |slots: &str| {
            format!(
                "<Association id=\"l\" associationType=\"HasMember\" sourceObject=\"s\" targetObject=\"a\">{slots}\
                 </Association>"
            )
        };
        assert_eq!(
            codes(&submission(&link(&slot("SubmissionSetStatus")))),
            [""; 0]
        );
        assert_eq!(
            codes(&submission(&link(&slot("urn:example:reason")))),
            ["XDSExtraMetadataNotSaved"]
        );
    }

    // rule: XDR-34
    #[test]
    fn no_more_is_told_than_asked_for() {
        let one = "<Association associationType=\"XFRM\" sourceObject=\"a\" targetObject=\"b\"/>";
        assert_eq!(losses(&submission(&one.repeat(70)), 50).len(), 50);
    }
}
