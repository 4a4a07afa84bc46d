//! Document Sharing metadata (metadata.md; ITI TF-3 4.2): typed views on kept XML.
//!
//! [`Metadata`] holds the received `lcm:SubmitObjectsRequest` as text and shows it as SubmissionSet, DocumentEntries,
//! Folders and Associations. It is never written anew from these views: [`MetadataEdit`] splices changes into the
//! text, and every other octet stays as it was received (XDR-89). What is wrong with it is told by
//! [`validate`](validate::validate).

mod ebrim;
mod edit;
pub mod fidelity;
pub mod hl7;
mod model;
mod schema;
pub mod uuids;
pub mod validate;
mod write;

use serde::{Deserialize, Serialize};

use std::borrow::Cow;

use super::{
    limits::Limits,
    xdr::ErrorCode,
    xml::{XmlLimitError, c14n::C14nError, check_limits, kept::KeptXml, prefixless::prefixless},
};

pub use ebrim::Slot;
pub use edit::MetadataEdit;
pub use fidelity::{RECEIVED_URI, equal_metadata};
pub use model::{Association, Author, Code, DocumentEntry, Folder, SubmissionSet};
pub use write::{NewEntry, NewSubmission, NewSubmissionSet};

use ebrim::{ElementKind, Registry};

/// Why metadata cannot be read at all. Everything else that is odd about it becomes a finding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Refused by a limit before it was parsed.
    #[error(transparent)]
    Limit(#[from] XmlLimitError),
    /// Not well-formed.
    #[error("the metadata is no well-formed XML, from line {line} on")]
    NotXml {
        /// Line of the first ill-formed place, from 1.
        line: u32,
    },
    /// Another root element.
    #[error("the metadata must be one lcm:SubmitObjectsRequest (XDR-2, XDM-20)")]
    NotSubmitObjectsRequest,
    /// More objects than any submission within LIM-4 has.
    #[error("a RegistryObjectList of more than {limit} elements; accepted are as many (LIM-4)")]
    TooManyObjects {
        /// What would be accepted.
        limit: usize,
    },
    /// An edit named an object that the metadata does not hold, or none that can take the change.
    #[error("the metadata holds no {object} to change")]
    NothingToEdit {
        /// Which object was looked for, without its id.
        object: &'static str,
    },
    /// An edit named a value that XML cannot hold.
    #[error("a value holds a control character that XML cannot carry")]
    ValueNotXml,
}

impl MetadataError {
    /// The code of a submission that is refused for it (xdr.md section 5).
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooManyObjects { .. } => ErrorCode::XdsRepositoryOutOfResources,
            Self::Limit(_)
            | Self::NotXml { .. }
            | Self::NotSubmitObjectsRequest
            | Self::NothingToEdit { .. }
            | Self::ValueNotXml => ErrorCode::XdsRepositoryMetadataError,
        }
    }
}

/// Which column of the optionality tables a message is judged by (xdr.md section 3 step 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Level {
    /// Column DS, XDR Document Source.
    Full,
    /// Column MS, XDR Metadata-Limited Source: a limitedMetadata label stands on an object (MD-21).
    Limited,
    /// Column MIN: the metadata-level header says `minimal`.
    Minimal,
}

impl Level {
    /// The word that `inspect` prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Limited => "limited",
            Self::Minimal => "minimal",
        }
    }
}

/// One submission's metadata.
#[derive(Clone, Debug)]
pub struct Metadata {
    xml: KeptXml,
    limits: Limits,
    submission_sets: Vec<SubmissionSet>,
    document_entries: Vec<DocumentEntry>,
    folders: Vec<Folder>,
    associations: Vec<Association>,
    registry: Registry,
}

impl Metadata {
    /// Reads kept metadata. A package without a usable label, double ids, missing attributes and the like are no
    /// errors here but findings of [`validate`](validate::validate).
    pub fn read(xml: KeptXml, limits: &Limits) -> Result<Self, MetadataError> {
        check_limits(xml.as_str(), limits)?;
        let registry = {
            let document = parse(xml.as_str())?;
            ebrim::read(document.root_element())?
        };
        let mut metadata = Self {
            xml,
            limits: limits.clone(),
            submission_sets: Vec::new(),
            document_entries: Vec::new(),
            folders: Vec::new(),
            associations: Vec::new(),
            registry,
        };
        metadata.sort_objects();
        Ok(metadata)
    }

    /// Gives each object its view. What has none (a package without label, an unknown element) stays in `registry`.
    fn sort_objects(&mut self) {
        let objects = std::mem::take(&mut self.registry.objects);
        for object in objects {
            let is_set = object.is_labelled(uuids::submission_set::NODE);
            let is_folder = object.is_labelled(uuids::folder::NODE);
            match object.kind {
                ElementKind::ExtrinsicObject => {
                    self.document_entries.push(DocumentEntry::view(object));
                }
                ElementKind::RegistryPackage if is_set && !is_folder => {
                    self.submission_sets.push(SubmissionSet::view(object));
                }
                ElementKind::RegistryPackage if is_folder && !is_set => {
                    self.folders.push(Folder::view(object));
                }
                ElementKind::Association => self.associations.push(Association::view(object)),
                ElementKind::RegistryPackage | ElementKind::Other => {
                    self.registry.objects.push(object);
                }
            }
        }
    }

    /// The metadata as XML.
    pub fn xml(&self) -> &KeptXml {
        &self.xml
    }

    /// All SubmissionSets; a good message has one (MD-80).
    pub fn submission_sets(&self) -> &[SubmissionSet] {
        &self.submission_sets
    }

    /// The SubmissionSet, if there is exactly one.
    pub fn submission_set(&self) -> Option<&SubmissionSet> {
        match self.submission_sets.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The DocumentEntries in document order.
    pub fn document_entries(&self) -> &[DocumentEntry] {
        &self.document_entries
    }

    /// The Folders in document order.
    pub fn folders(&self) -> &[Folder] {
        &self.folders
    }

    /// The Associations in document order.
    pub fn associations(&self) -> &[Association] {
        &self.associations
    }

    /// The level by which this metadata is judged, given whether the metadata-level header said `minimal`.
    pub fn level(&self, is_declared_minimal: bool) -> Level {
        let is_limited = self.submission_sets.iter().any(|set| set.is_limited)
            || self.document_entries.iter().any(|entry| entry.is_limited)
            || self.folders.iter().any(|folder| folder.is_limited);
        if is_declared_minimal {
            Level::Minimal
        } else if is_limited {
            Level::Limited
        } else {
            Level::Full
        }
    }

    /// Begins a change of the metadata.
    pub fn edit(&self) -> MetadataEdit<'_> {
        MetadataEdit::of(self)
    }

    /// The octets over which the metadata's part of the submission digest is made (XDR-50).
    pub fn digest_input(&self) -> Result<Vec<u8>, C14nError> {
        prefixless(&self.xml)
    }
}

/// A read-only tree of checked text.
fn parse(text: &str) -> Result<roxmltree::Document<'_>, MetadataError> {
    roxmltree::Document::parse(text).map_err(|error| MetadataError::NotXml {
        line: error.pos().row,
    })
}

/// Whether two ids name the same object: UUIDs in any case (MD-7), symbolic ids exactly (XDR-11).
pub fn same_id(one: &str, other: &str) -> bool {
    id_key(one) == id_key(other)
}

/// The form of an id under which it is looked up: UUIDs in lower case.
fn id_key(id: &str) -> Cow<'_, str> {
    if is_uuid_urn(id) && id.bytes().any(|octet| octet.is_ascii_uppercase()) {
        Cow::Owned(id.to_ascii_lowercase())
    } else {
        Cow::Borrowed(id)
    }
}

/// Whether an id is no symbolic one (MD-7).
fn is_uuid_urn(id: &str) -> bool {
    const URN: &str = "urn:uuid:";
    id.get(..URN.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(URN))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a request of eight megabytes at the most that declares `declared` on its root.
    fn read_crafted(declared: &str, content: &str) -> Result<Metadata, MetadataError> {
        let text = format!(
            "<l:SubmitObjectsRequest xmlns:l='urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0' \
             xmlns='urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0'{declared}><RegistryObjectList>{content}\
             </RegistryObjectList></l:SubmitObjectsRequest>"
        );
        let limits = Limits::default();
        assert!(text.len() as u64 <= limits.max_metadata_bytes);
        Metadata::read(KeptXml::from_checked(text), &limits)
    }

    // rule: T-10, LIM-5
    #[test]
    fn megabytes_that_would_become_gigabytes_are_refused() {
        let label = "<Classification classifiedObject='' classificationNode=\
                     'urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd'/>";
        let many_labels = "<ExtrinsicObject/>".repeat(150_000) + &label.repeat(45_000);
        assert!(matches!(
            read_crafted("", &many_labels),
            Err(MetadataError::TooManyObjects { .. })
        ));
        let declared: String = (0..250).map(|n| format!(" xmlns:n{n}='u'")).collect();
        let many_lists = "<a xmlns:z='u'/>".repeat(200_000);
        assert!(matches!(
            read_crafted(&declared, &many_lists),
            Err(MetadataError::Limit(XmlLimitError::TooMuchMarkup { .. }))
        ));
    }
}
