//! The rows: every attribute of metadata.md section 3.

use super::{
    super::{
        super::{
            model::REFERENCE_ID_LIST,
            uuids::{self, document_entry as de, folder as fd, submission_set as ss},
        },
        ObjectKind,
    },
    Attribute, DataType, Form, Optionality,
};

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
        DataType::Availability,
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
        DataType::DtmToTheSecond,
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
