//! The attributes of the XDS objects as data (metadata.md section 3): how each is coded, of which type it is, and
//! who must send it. Presence, cardinality and types are checked from this one table.

pub use super::datatypes::DataType;

use super::{
    super::{
        model::REFERENCE_ID_LIST,
        uuids::{self, document_entry as de, folder as fd, submission_set as ss},
    },
    ObjectKind,
};

/// How an attribute is coded (metadata.md section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An XML attribute of the object.
    Xml(&'static str),
    /// A slot of this name.
    Slot(&'static str),
    /// A Classification of this scheme that holds a code.
    Code(&'static str),
    /// A Classification of this scheme that holds an author.
    Author(&'static str),
    /// An ExternalIdentifier of this scheme; its Name should be the text beside it.
    Identifier(&'static str, &'static str),
    /// `rim:Name`.
    Name,
    /// `rim:Description`.
    Description,
}

impl Form {
    /// Where the attribute is looked for, in ebRIM words.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Xml(name) => format!("the XML attribute {name}"),
            Self::Slot(name) => format!("the Slot {name}"),
            Self::Code(scheme) | Self::Author(scheme) => {
                format!("a Classification of scheme {scheme}")
            }
            Self::Identifier(scheme, _) => format!("an ExternalIdentifier of scheme {scheme}"),
            Self::Name => "a Name".to_owned(),
            Self::Description => "a Description".to_owned(),
        }
    }
}

/// Who must send an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optionality {
    /// Required.
    Required,
    /// Required if known: a receiver can never check it (MD-20).
    IfKnown,
    /// Optional.
    Optional,
}

/// One attribute: a row of metadata.md section 3.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Whose.
    pub object: ObjectKind,
    /// Its XDS name.
    pub name: &'static str,
    /// How it is coded.
    pub form: Form,
    /// Which form its values have.
    pub data_type: DataType,
    /// Whether there may be several values.
    pub is_multiple: bool,
    /// Column DS: XDR Document Source.
    pub full: Optionality,
    /// Column MS: XDR Metadata-Limited Source.
    pub limited: Optionality,
    /// Column MC: XDM Media Creator.
    pub xdm: Optionality,
    /// Column MIN: Direct minimal metadata, as it is sent.
    pub minimal: Optionality,
}

impl Attribute {
    /// Whether no submission can do without it, at any level and in any profile (MD-22, MD-23).
    pub fn is_indispensable(&self) -> bool {
        matches!(
            self.name,
            "entryUUID" | "objectType" | "mimeType" | "uniqueId" | "sourceId"
        )
    }
}

const R: Optionality = Optionality::Required;
const R2: Optionality = Optionality::IfKnown;
const O: Optionality = Optionality::Optional;

/// Columns in the order of metadata.md section 3: DS, MS, MC, MIN.
const fn row(
    object: ObjectKind,
    name: &'static str,
    form: Form,
    data_type: DataType,
    is_multiple: bool,
    [full, limited, xdm, minimal]: [Optionality; 4],
) -> Attribute {
    Attribute {
        object,
        name,
        form,
        data_type,
        is_multiple,
        full,
        limited,
        xdm,
        minimal,
    }
}

const fn entry(
    name: &'static str,
    form: Form,
    data_type: DataType,
    columns: [Optionality; 4],
) -> Attribute {
    row(
        ObjectKind::DocumentEntry,
        name,
        form,
        data_type,
        false,
        columns,
    )
}

const fn entry_list(
    name: &'static str,
    form: Form,
    data_type: DataType,
    columns: [Optionality; 4],
) -> Attribute {
    row(
        ObjectKind::DocumentEntry,
        name,
        form,
        data_type,
        true,
        columns,
    )
}

const fn set(
    name: &'static str,
    form: Form,
    data_type: DataType,
    columns: [Optionality; 4],
) -> Attribute {
    row(
        ObjectKind::SubmissionSet,
        name,
        form,
        data_type,
        false,
        columns,
    )
}

const fn set_list(
    name: &'static str,
    form: Form,
    data_type: DataType,
    columns: [Optionality; 4],
) -> Attribute {
    row(
        ObjectKind::SubmissionSet,
        name,
        form,
        data_type,
        true,
        columns,
    )
}

const fn folder(
    name: &'static str,
    form: Form,
    data_type: DataType,
    [full, limited, xdm]: [Optionality; 3],
) -> Attribute {
    // The tables have no column MIN for folders: what a limited source may leave out, a minimal one may.
    let columns = [full, limited, xdm, limited];
    row(ObjectKind::Folder, name, form, data_type, false, columns)
}

/// Every attribute of metadata.md section 3, but the labels (MD-81).
pub static ATTRIBUTES: &[Attribute] = &[
    entry(
        "entryUUID",
        Form::Xml("id"),
        DataType::EntryId,
        [R, R, R, R],
    ),
    entry(
        "objectType",
        Form::Xml("objectType"),
        DataType::Text,
        [R, R, R, R],
    ),
    entry(
        "mimeType",
        Form::Xml("mimeType"),
        DataType::MimeType,
        [R, R, R, R],
    ),
    entry(
        "uniqueId",
        Form::Identifier(de::UNIQUE_ID, "XDSDocumentEntry.uniqueId"),
        DataType::Identifier,
        [R, R, R, R],
    ),
    entry(
        "patientId",
        Form::Identifier(de::PATIENT_ID, "XDSDocumentEntry.patientId"),
        DataType::Cx,
        [R, R2, R2, R2],
    ),
    entry(
        "sourcePatientId",
        Form::Slot("sourcePatientId"),
        DataType::Cx,
        [R, R2, R2, R2],
    ),
    entry_list(
        "sourcePatientInfo",
        Form::Slot("sourcePatientInfo"),
        DataType::PatientInfo,
        [O, R2, R2, R2],
    ),
    entry_list(
        "author",
        Form::Author(de::AUTHOR),
        DataType::Text,
        [R2, R2, R2, R2],
    ),
    entry(
        "classCode",
        Form::Code(de::CLASS_CODE),
        DataType::Text,
        [R, R2, R2, R2],
    ),
    entry(
        "typeCode",
        Form::Code(de::TYPE_CODE),
        DataType::Text,
        [R, R2, R2, R2],
    ),
    entry(
        "formatCode",
        Form::Code(de::FORMAT_CODE),
        DataType::Text,
        [R, R2, R2, R],
    ),
    entry_list(
        "confidentialityCode",
        Form::Code(de::CONFIDENTIALITY_CODE),
        DataType::Text,
        [R, R2, R2, R2],
    ),
    entry(
        "healthcareFacilityTypeCode",
        Form::Code(de::HEALTHCARE_FACILITY_TYPE_CODE),
        DataType::Text,
        [R, R2, R2, R2],
    ),
    entry(
        "practiceSettingCode",
        Form::Code(de::PRACTICE_SETTING_CODE),
        DataType::Text,
        [R, R2, R2, R2],
    ),
    entry_list(
        "eventCodeList",
        Form::Code(de::EVENT_CODE_LIST),
        DataType::Text,
        [O, O, O, O],
    ),
    entry(
        "creationTime",
        Form::Slot("creationTime"),
        DataType::Dtm,
        [R, R2, R2, R2],
    ),
    entry(
        "languageCode",
        Form::Slot("languageCode"),
        DataType::Language,
        [R, R2, R2, R2],
    ),
    entry(
        "serviceStartTime",
        Form::Slot("serviceStartTime"),
        DataType::Dtm,
        [R2, R2, R2, R2],
    ),
    entry(
        "serviceStopTime",
        Form::Slot("serviceStopTime"),
        DataType::Dtm,
        [R2, R2, R2, R2],
    ),
    entry("hash", Form::Slot("hash"), DataType::Hash, [O, O, R, O]),
    entry("size", Form::Slot("size"), DataType::Size, [O, O, R, O]),
    // A long URI may be split into several values (XDM-24).
    entry_list("URI", Form::Slot("URI"), DataType::Text, [O, O, R, O]),
    entry("title", Form::Name, DataType::Text, [O, O, O, O]),
    entry("comments", Form::Description, DataType::Text, [O, O, O, O]),
    entry(
        "legalAuthenticator",
        Form::Slot("legalAuthenticator"),
        DataType::Xcn,
        [O, O, O, O],
    ),
    entry_list(
        "referenceIdList",
        Form::Slot(REFERENCE_ID_LIST),
        DataType::Cxi,
        [O, O, O, O],
    ),
    entry(
        "repositoryUniqueId",
        Form::Slot("repositoryUniqueId"),
        DataType::Oid,
        [O, O, O, O],
    ),
    entry(
        "homeCommunityId",
        Form::Xml("home"),
        DataType::HomeCommunity,
        [O, O, O, O],
    ),
    entry(
        "availabilityStatus",
        Form::Xml("status"),
        DataType::Status,
        [O, O, O, O],
    ),
    entry(
        "documentAvailability",
        Form::Slot("documentAvailability"),
        DataType::Text,
        [O, O, O, O],
    ),
    set(
        "entryUUID",
        Form::Xml("id"),
        DataType::EntryId,
        [R, R, R, R],
    ),
    set_list(
        "author",
        Form::Author(ss::AUTHOR),
        DataType::Text,
        [R2, R2, R2, R],
    ),
    set(
        "contentTypeCode",
        Form::Code(ss::CONTENT_TYPE_CODE),
        DataType::Text,
        [R, R2, R2, R2],
    ),
    set_list(
        "intendedRecipient",
        Form::Slot("intendedRecipient"),
        DataType::IntendedRecipient,
        // Column MIN says R; MD-23 takes `direct:to` for it.
        [R2, R2, R2, R2],
    ),
    set(
        "patientId",
        Form::Identifier(ss::PATIENT_ID, "XDSSubmissionSet.patientId"),
        DataType::Cx,
        [R, R2, R2, R2],
    ),
    set(
        "sourceId",
        Form::Identifier(ss::SOURCE_ID, "XDSSubmissionSet.sourceId"),
        DataType::SystemId,
        [R, R, R, R],
    ),
    set(
        "submissionTime",
        Form::Slot("submissionTime"),
        DataType::Dtm,
        [R, R, R, R],
    ),
    set(
        "uniqueId",
        Form::Identifier(ss::UNIQUE_ID, "XDSSubmissionSet.uniqueId"),
        DataType::SystemId,
        [R, R, R, R],
    ),
    set("title", Form::Name, DataType::Text, [O, O, O, O]),
    set("comments", Form::Description, DataType::Text, [O, O, O, O]),
    set(
        "homeCommunityId",
        Form::Xml("home"),
        DataType::HomeCommunity,
        [O, O, O, O],
    ),
    set(
        "availabilityStatus",
        Form::Xml("status"),
        DataType::Status,
        [O, O, O, O],
    ),
    folder("entryUUID", Form::Xml("id"), DataType::EntryId, [R, R, R]),
    folder(
        "uniqueId",
        Form::Identifier(fd::UNIQUE_ID, "XDSFolder.uniqueId"),
        DataType::SystemId,
        [R, R, R],
    ),
    row(
        ObjectKind::Folder,
        "codeList",
        Form::Code(fd::CODE_LIST),
        DataType::Text,
        true,
        [R, R2, R2, R2],
    ),
    folder(
        "patientId",
        Form::Identifier(fd::PATIENT_ID, "XDSFolder.patientId"),
        DataType::Cx,
        [R, R2, R2],
    ),
    folder("title", Form::Name, DataType::Text, [R, O, O]),
    folder("comments", Form::Description, DataType::Text, [O, O, O]),
    folder(
        "lastUpdateTime",
        Form::Slot("lastUpdateTime"),
        DataType::Dtm,
        [O, O, O],
    ),
    folder(
        "homeCommunityId",
        Form::Xml("home"),
        DataType::HomeCommunity,
        [O, O, O],
    ),
    folder(
        "availabilityStatus",
        Form::Xml("status"),
        DataType::Status,
        [O, O, O],
    ),
    row(
        ObjectKind::Association,
        "entryUUID",
        Form::Xml("id"),
        DataType::EntryId,
        false,
        [R, R, R, R],
    ),
    row(
        ObjectKind::Association,
        "SubmissionSetStatus",
        Form::Slot("SubmissionSetStatus"),
        DataType::Text,
        false,
        [O, O, O, O],
    ),
    row(
        ObjectKind::Association,
        "documentation",
        Form::Code(uuids::ASSOCIATION_DOCUMENTATION),
        DataType::Text,
        false,
        [O, O, O, O],
    ),
];

/// The attributes of one kind of object. The table holds those of one kind side by side.
pub(super) fn attributes_of(kind: ObjectKind) -> &'static [Attribute] {
    let of_kind = |attribute: &Attribute| attribute.object == kind;
    let start = ATTRIBUTES.iter().position(of_kind).unwrap_or_default();
    let rest = ATTRIBUTES.get(start..).unwrap_or_default();
    let length = rest.iter().take_while(|one| of_kind(one)).count();
    rest.get(..length).unwrap_or_default()
}

/// Finds the attributes of one kind of object by where they stand in ebRIM.
#[derive(Clone, Copy)]
pub(super) struct ByPlace(&'static [Attribute]);

pub(super) fn attributes_by_place(kind: ObjectKind) -> ByPlace {
    ByPlace(attributes_of(kind))
}

impl ByPlace {
    fn find(self, is_it: impl Fn(Form) -> bool) -> Option<&'static Attribute> {
        self.0.iter().find(|attribute| is_it(attribute.form))
    }

    pub(super) fn xml(self, name: &str) -> Option<&'static Attribute> {
        self.find(|form| matches!(form, Form::Xml(known) if known == name))
    }

    pub(super) fn slot(self, name: &str) -> Option<&'static Attribute> {
        self.find(|form| matches!(form, Form::Slot(known) if known == name))
    }

    pub(super) fn identifier(self, scheme: &str) -> Option<&'static Attribute> {
        self.find(|form| matches!(form, Form::Identifier(known, _) if uuids::is(scheme, known)))
    }

    /// The attribute that Classifications of this scheme hold.
    pub(super) fn classification(self, scheme: &str) -> Option<&'static Attribute> {
        self.find(
            |form| matches!(form, Form::Code(known) | Form::Author(known) if uuids::is(scheme, known)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attributes_of_one_kind_stand_side_by_side() {
        let kinds = [
            ObjectKind::DocumentEntry,
            ObjectKind::SubmissionSet,
            ObjectKind::Folder,
            ObjectKind::Association,
        ];
        let all: usize = kinds.map(|kind| attributes_of(kind).len()).iter().sum();
        assert_eq!(all, ATTRIBUTES.len());
        assert!(attributes_of(ObjectKind::Any).is_empty());
    }
}
