//! The metadata objects as XDS names them: views with owned strings, white space around values taken off.

use super::{
    ebrim::{Classification, RegistryObject, Slot},
    uuids::{self, document_entry, folder, submission_set},
};

/// A code of a value set (MD-2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// The code itself; empty when it was missing.
    pub code: String,
    /// The coding scheme, an OID or free text (MD-60).
    pub scheme: Option<String>,
    /// The display name.
    pub display: Option<String>,
}

/// An author (MD-3). The values are HL7 data types: see [`super::hl7`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// authorPerson, an XCN.
    pub person: Option<String>,
    /// authorInstitution, XONs.
    pub institutions: Vec<String>,
    /// authorRole.
    pub roles: Vec<String>,
    /// authorSpecialty.
    pub specialties: Vec<String>,
    /// authorTelecommunication, XTNs.
    pub telecommunications: Vec<String>,
}

/// A document's metadata (ITI TF-3 4.2.3.2).
#[derive(Clone, Debug)]
#[expect(
    missing_docs,
    reason = "the fields are the attributes of metadata.md section 3.1, by their names there"
)]
pub struct DocumentEntry {
    /// entryUUID, as it is written: a UUID or symbolic (XDR-11). Empty when missing, which MD-94 refuses.
    pub id: String,
    pub object_type: Option<String>,
    pub mime_type: Option<String>,
    pub unique_id: Option<String>,
    pub patient_id: Option<String>,
    pub source_patient_id: Option<String>,
    pub source_patient_info: Vec<String>,
    pub authors: Vec<Author>,
    pub class_code: Option<Code>,
    pub type_code: Option<Code>,
    pub format_code: Option<Code>,
    pub confidentiality_codes: Vec<Code>,
    pub healthcare_facility_type_code: Option<Code>,
    pub practice_setting_code: Option<Code>,
    pub event_codes: Vec<Code>,
    pub creation_time: Option<String>,
    pub language_code: Option<String>,
    pub service_start_time: Option<String>,
    pub service_stop_time: Option<String>,
    pub hash: Option<String>,
    pub size: Option<String>,
    /// Joined again where it was split into numbered values (XDM-24).
    pub uri: Option<String>,
    pub title: Option<String>,
    pub comments: Option<String>,
    pub legal_authenticator: Option<String>,
    pub reference_ids: Vec<String>,
    pub repository_unique_id: Option<String>,
    pub home_community_id: Option<String>,
    pub availability_status: Option<String>,
    /// Whether it carries the limitedMetadata label.
    pub is_limited: bool,
    pub(super) registry: RegistryObject,
}

/// What one submission says of itself (ITI TF-3 4.2.3.3).
#[derive(Clone, Debug)]
#[expect(
    missing_docs,
    reason = "the fields are the attributes of metadata.md section 3.2, by their names there"
)]
pub struct SubmissionSet {
    /// entryUUID, as it is written. Empty when missing, which MD-94 refuses.
    pub id: String,
    pub unique_id: Option<String>,
    pub source_id: Option<String>,
    pub submission_time: Option<String>,
    pub patient_id: Option<String>,
    pub title: Option<String>,
    pub comments: Option<String>,
    pub authors: Vec<Author>,
    /// The values as they are written, line breaks inside them collapsed to one space (XDR-64); read each with
    /// [`super::hl7::IntendedRecipient`].
    pub intended_recipients: Vec<String>,
    pub content_type_code: Option<Code>,
    pub home_community_id: Option<String>,
    pub availability_status: Option<String>,
    /// Whether it carries the limitedMetadata label.
    pub is_limited: bool,
    pub(super) registry: RegistryObject,
}

/// A folder (ITI TF-3 4.2.3.4).
#[derive(Clone, Debug)]
#[expect(
    missing_docs,
    reason = "the fields are the attributes of metadata.md section 3.3, by their names there"
)]
pub struct Folder {
    /// entryUUID, as it is written. Empty when missing, which MD-94 refuses.
    pub id: String,
    pub unique_id: Option<String>,
    pub patient_id: Option<String>,
    pub codes: Vec<Code>,
    pub title: Option<String>,
    pub comments: Option<String>,
    pub last_update_time: Option<String>,
    pub home_community_id: Option<String>,
    pub availability_status: Option<String>,
    /// Whether it carries the limitedMetadata label.
    pub is_limited: bool,
    pub(super) registry: RegistryObject,
}

/// A link between two objects (MD-30).
#[derive(Clone, Debug)]
pub struct Association {
    /// Its `@id`; empty when missing.
    pub id: String,
    /// associationType as a URN: a short legacy name is completed (MD-36).
    pub kind: String,
    /// sourceObject; empty when missing.
    pub source: String,
    /// targetObject; empty when missing.
    pub target: String,
    /// SubmissionSetStatus: `Original` or `Reference` (MD-31).
    pub submission_set_status: Option<String>,
    /// The documentation code of a relationship (MD-34).
    pub documentation: Option<Code>,
    pub(super) registry: RegistryObject,
}

impl DocumentEntry {
    pub(super) fn view(registry: RegistryObject) -> Self {
        use document_entry as uuid;
        let of = Attributes(&registry);
        Self {
            id: registry.id.clone(),
            object_type: of.xml("objectType"),
            mime_type: of.xml("mimeType"),
            unique_id: of.identifier(uuid::UNIQUE_ID),
            patient_id: of.identifier(uuid::PATIENT_ID),
            source_patient_id: of.value("sourcePatientId"),
            source_patient_info: of.values("sourcePatientInfo"),
            authors: of.authors(uuid::AUTHOR),
            class_code: of.code(uuid::CLASS_CODE),
            type_code: of.code(uuid::TYPE_CODE),
            format_code: of.code(uuid::FORMAT_CODE),
            confidentiality_codes: of.codes(uuid::CONFIDENTIALITY_CODE),
            healthcare_facility_type_code: of.code(uuid::HEALTHCARE_FACILITY_TYPE_CODE),
            practice_setting_code: of.code(uuid::PRACTICE_SETTING_CODE),
            event_codes: of.codes(uuid::EVENT_CODE_LIST),
            creation_time: of.value("creationTime"),
            language_code: of.value("languageCode"),
            service_start_time: of.value("serviceStartTime"),
            service_stop_time: of.value("serviceStopTime"),
            hash: of.value("hash"),
            size: of.value("size"),
            uri: join_uri(of.values("URI")),
            title: registry.name.clone(),
            comments: registry.description.clone(),
            legal_authenticator: of.value("legalAuthenticator"),
            reference_ids: of.values(REFERENCE_ID_LIST),
            repository_unique_id: of.value("repositoryUniqueId"),
            home_community_id: of.xml("home"),
            availability_status: of.xml("status"),
            is_limited: registry.is_labelled(uuid::LIMITED_METADATA),
            registry,
        }
    }

    /// Every slot in document order, extra ones too (MD-8).
    pub fn slots(&self) -> &[Slot] {
        &self.registry.slots
    }

    /// The values of the slot `name`, as they stand in the XML.
    pub fn slot(&self, name: &str) -> Option<&[String]> {
        slot(self.slots(), name)
    }
}

impl SubmissionSet {
    pub(super) fn view(registry: RegistryObject) -> Self {
        use submission_set as uuid;
        let of = Attributes(&registry);
        Self {
            id: registry.id.clone(),
            unique_id: of.identifier(uuid::UNIQUE_ID),
            source_id: of.identifier(uuid::SOURCE_ID),
            submission_time: of.value("submissionTime"),
            patient_id: of.identifier(uuid::PATIENT_ID),
            title: registry.name.clone(),
            comments: registry.description.clone(),
            authors: of.authors(uuid::AUTHOR),
            intended_recipients: of
                .values("intendedRecipient")
                .iter()
                .map(|value| collapse_line_breaks(value))
                .collect(),
            content_type_code: of.code(uuid::CONTENT_TYPE_CODE),
            home_community_id: of.xml("home"),
            availability_status: of.xml("status"),
            is_limited: registry.is_labelled(uuid::LIMITED_METADATA),
            registry,
        }
    }

    /// Every slot in document order, extra ones too (MD-8).
    pub fn slots(&self) -> &[Slot] {
        &self.registry.slots
    }

    /// The values of the slot `name`, as they stand in the XML.
    pub fn slot(&self, name: &str) -> Option<&[String]> {
        slot(self.slots(), name)
    }
}

impl Folder {
    pub(super) fn view(registry: RegistryObject) -> Self {
        use folder as uuid;
        let of = Attributes(&registry);
        Self {
            id: registry.id.clone(),
            unique_id: of.identifier(uuid::UNIQUE_ID),
            patient_id: of.identifier(uuid::PATIENT_ID),
            codes: of.codes(uuid::CODE_LIST),
            title: registry.name.clone(),
            comments: registry.description.clone(),
            last_update_time: of.value("lastUpdateTime"),
            home_community_id: of.xml("home"),
            availability_status: of.xml("status"),
            is_limited: registry.is_labelled(uuid::LIMITED_METADATA),
            registry,
        }
    }

    /// Every slot in document order, extra ones too (MD-8).
    pub fn slots(&self) -> &[Slot] {
        &self.registry.slots
    }

    /// The values of the slot `name`, as they stand in the XML.
    pub fn slot(&self, name: &str) -> Option<&[String]> {
        slot(self.slots(), name)
    }
}

impl Association {
    pub(super) fn view(registry: RegistryObject) -> Self {
        let of = Attributes(&registry);
        Self {
            id: registry.id.clone(),
            kind: full_association_type(of.xml("associationType").unwrap_or_default()),
            source: of.xml("sourceObject").unwrap_or_default(),
            target: of.xml("targetObject").unwrap_or_default(),
            submission_set_status: of.value("SubmissionSetStatus"),
            documentation: of.code(uuids::ASSOCIATION_DOCUMENTATION),
            registry,
        }
    }

    /// Every slot in document order, extra ones too (MD-8).
    pub fn slots(&self) -> &[Slot] {
        &self.registry.slots
    }

    /// Whether it is a HasMember (MD-31 to MD-33).
    pub fn is_has_member(&self) -> bool {
        self.kind == uuids::HAS_MEMBER
    }

    /// Whether it relates documents: RPLC, XFRM, APND, XFRM_RPLC, signs, IsSnapshotOf (MD-34).
    pub fn is_relationship(&self) -> bool {
        uuids::RELATIONSHIPS.contains(&self.kind.as_str())
    }
}

/// Name of the referenceIdList slot.
pub(super) const REFERENCE_ID_LIST: &str = "urn:ihe:iti:xds:2013:referenceIdList";

/// How one attribute is taken from a registry object.
struct Attributes<'a>(&'a RegistryObject);

impl Attributes<'_> {
    fn xml(&self, name: &str) -> Option<String> {
        self.0.attribute(name).and_then(present)
    }

    /// All values of a slot that are not empty.
    fn values(&self, name: &str) -> Vec<String> {
        slot(&self.0.slots, name)
            .unwrap_or_default()
            .iter()
            .filter_map(|value| present(value))
            .collect()
    }

    fn value(&self, name: &str) -> Option<String> {
        self.values(name).into_iter().next()
    }

    fn identifier(&self, scheme: &str) -> Option<String> {
        self.0
            .external_identifiers
            .iter()
            .find(|identifier| is_scheme(identifier.scheme.as_deref(), scheme))
            .and_then(|identifier| identifier.value.as_deref())
            .and_then(present)
    }

    fn classifications(&self, scheme: &str) -> impl Iterator<Item = &Classification> {
        self.0
            .classifications
            .iter()
            .filter(move |candidate| is_scheme(candidate.scheme.as_deref(), scheme))
    }

    fn codes(&self, scheme: &str) -> Vec<Code> {
        self.classifications(scheme).map(code).collect()
    }

    fn code(&self, scheme: &str) -> Option<Code> {
        self.classifications(scheme).next().map(code)
    }

    fn authors(&self, scheme: &str) -> Vec<Author> {
        self.classifications(scheme).map(author).collect()
    }
}

fn is_scheme(scheme: Option<&str>, uuid: &str) -> bool {
    scheme.is_some_and(|scheme| uuids::is(scheme, uuid))
}

fn code(classification: &Classification) -> Code {
    Code {
        code: classification
            .node_representation
            .as_deref()
            .and_then(present)
            .unwrap_or_default(),
        scheme: slot(&classification.slots, "codingScheme")
            .and_then(<[String]>::first)
            .and_then(|scheme| present(scheme)),
        display: classification.name.clone(),
    }
}

fn author(classification: &Classification) -> Author {
    let values = |names: &[&str]| -> Vec<String> {
        classification
            .slots
            .iter()
            .filter(|slot| names.contains(&slot.name.as_str()))
            .flat_map(|slot| &slot.values)
            .filter_map(|value| present(value))
            .collect()
    };
    Author {
        person: values(&["authorPerson"]).into_iter().next(),
        institutions: values(&["authorInstitution"]),
        roles: values(&["authorRole"]),
        // The second spelling is that of a test tool of the field (MD-3).
        specialties: values(&["authorSpecialty", "authorSpeciality"]),
        telecommunications: values(&["authorTelecommunication"]),
    }
}

pub(super) fn slot<'a>(slots: &'a [Slot], name: &str) -> Option<&'a [String]> {
    slots
        .iter()
        .find(|slot| slot.name == name)
        .map(|slot| slot.values.as_slice())
}

/// The text without white space around it, unless nothing is left.
fn present(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Values arrive broken over lines (XDR-64).
fn collapse_line_breaks(value: &str) -> String {
    if !value.contains(['\r', '\n']) {
        return value.to_owned();
    }
    value
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Legacy metadata splits a long URI into values `1|first`, `2|second` (XDM-24).
fn join_uri(values: Vec<String>) -> Option<String> {
    let numbered: Option<Vec<(u32, &str)>> = values
        .iter()
        .map(|value| {
            let (number, part) = value.split_once('|')?;
            Some((number.parse().ok()?, part))
        })
        .collect();
    match numbered {
        Some(mut parts) if !parts.is_empty() => {
            parts.sort_by_key(|(number, _)| *number);
            Some(parts.into_iter().map(|(_, part)| part).collect())
        }
        _ => values.into_iter().next(),
    }
}

/// Completes a legacy short type name (MD-36).
fn full_association_type(kind: String) -> String {
    if kind.contains(':') {
        return kind;
    }
    [uuids::HAS_MEMBER]
        .iter()
        .chain(&uuids::RELATIONSHIPS)
        .find(|urn| urn.rsplit(':').next() == Some(kind.as_str()))
        .map_or(kind, |urn| (*urn).to_owned())
}
