//! Metadata for documents that came without any (metadata.md section 7): the one place where it is made. What was
//! received is edited instead ([`super::MetadataEdit`]).

use super::{
    super::xml::{
        kept::KeptXml,
        names::{LCM, RIM},
        write::XmlWriter,
    },
    Author, Code,
    model::REFERENCE_ID_LIST,
    uuids::{CLASSIFICATION_OBJECT_TYPE, HAS_MEMBER, document_entry, submission_set},
};

/// A DocumentEntry to be written; the fields are the attributes of metadata.md section 3.1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the attribute that its name says")]
pub struct NewEntry {
    pub id: String,
    /// The id of the Association that ties it to the SubmissionSet.
    pub association_id: String,
    pub unique_id: String,
    pub mime_type: String,
    pub hash: String,
    pub size: u64,
    pub title: Option<String>,
    pub creation_time: Option<String>,
    pub language_code: Option<String>,
    pub service_start_time: Option<String>,
    pub service_stop_time: Option<String>,
    pub patient_id: Option<String>,
    pub source_patient_id: Option<String>,
    pub source_patient_info: Vec<String>,
    pub legal_authenticator: Option<String>,
    pub reference_ids: Vec<String>,
    pub authors: Vec<Author>,
    pub class_code: Option<Code>,
    pub type_code: Option<Code>,
    pub format_code: Option<Code>,
    pub confidentiality_codes: Vec<Code>,
    pub healthcare_facility_type_code: Option<Code>,
    pub practice_setting_code: Option<Code>,
    pub event_codes: Vec<Code>,
}

/// A SubmissionSet to be written; the fields are the attributes of metadata.md section 3.2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the attribute that its name says")]
pub struct NewSubmissionSet {
    pub id: String,
    pub unique_id: String,
    pub source_id: String,
    pub submission_time: String,
    pub patient_id: Option<String>,
    pub title: Option<String>,
    pub authors: Vec<Author>,
    pub intended_recipients: Vec<String>,
    pub content_type_code: Option<Code>,
}

/// One submission to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSubmission {
    /// Its SubmissionSet.
    pub set: NewSubmissionSet,
    /// Its DocumentEntries.
    pub entries: Vec<NewEntry>,
}

impl NewSubmission {
    /// The `lcm:SubmitObjectsRequest`, its children in schema order (XDR-5). The same submission gives the same text.
    pub fn to_xml(&self) -> KeptXml {
        let mut writer = RegistryWriter {
            xml: XmlWriter::new(),
            inner_ids: 0,
        };
        writer.xml.start(
            "lcm:SubmitObjectsRequest",
            &[("xmlns:lcm", LCM), ("xmlns:rim", RIM)],
        );
        writer.xml.start("rim:RegistryObjectList", &[]);
        for entry in &self.entries {
            writer.entry(entry);
        }
        writer.set(&self.set);
        for entry in &self.entries {
            writer.membership(&self.set, entry);
        }
        KeptXml::from_checked(writer.xml.finish())
    }
}

struct RegistryWriter {
    xml: XmlWriter,
    /// Classifications and identifiers need ids too; nobody refers to them.
    inner_ids: usize,
}

impl RegistryWriter {
    fn inner_id(&mut self) -> String {
        self.inner_ids += 1;
        format!("id_{}", self.inner_ids)
    }

    fn entry(&mut self, entry: &NewEntry) {
        use document_entry as uuid;
        let id = entry.id.as_str();
        self.xml.start(
            "rim:ExtrinsicObject",
            &[
                ("id", id),
                ("mimeType", &entry.mime_type),
                ("objectType", uuid::STABLE),
            ],
        );
        self.slot("creationTime", entry.creation_time.as_slice());
        self.slot("hash", std::slice::from_ref(&entry.hash));
        self.slot("languageCode", entry.language_code.as_slice());
        self.slot("legalAuthenticator", entry.legal_authenticator.as_slice());
        self.slot("serviceStartTime", entry.service_start_time.as_slice());
        self.slot("serviceStopTime", entry.service_stop_time.as_slice());
        self.slot("size", &[entry.size.to_string()]);
        self.slot("sourcePatientId", entry.source_patient_id.as_slice());
        self.slot("sourcePatientInfo", &entry.source_patient_info);
        self.slot(REFERENCE_ID_LIST, &entry.reference_ids);
        self.name(entry.title.as_deref());
        for author in &entry.authors {
            self.author(uuid::AUTHOR, id, author);
        }
        let codes = [
            (uuid::CLASS_CODE, entry.class_code.as_slice()),
            (uuid::CONFIDENTIALITY_CODE, &entry.confidentiality_codes),
            (uuid::EVENT_CODE_LIST, &entry.event_codes),
            (uuid::FORMAT_CODE, entry.format_code.as_slice()),
            (
                uuid::HEALTHCARE_FACILITY_TYPE_CODE,
                entry.healthcare_facility_type_code.as_slice(),
            ),
            (
                uuid::PRACTICE_SETTING_CODE,
                entry.practice_setting_code.as_slice(),
            ),
            (uuid::TYPE_CODE, entry.type_code.as_slice()),
        ];
        for (scheme, values) in codes {
            for code in values {
                self.code(scheme, id, code);
            }
        }
        if let Some(patient) = &entry.patient_id {
            let name = "XDSDocumentEntry.patientId";
            self.identifier(uuid::PATIENT_ID, id, patient, name);
        }
        let name = "XDSDocumentEntry.uniqueId";
        self.identifier(uuid::UNIQUE_ID, id, &entry.unique_id, name);
        self.xml.end();
    }

    fn set(&mut self, set: &NewSubmissionSet) {
        use submission_set as uuid;
        let id = set.id.as_str();
        self.xml.start("rim:RegistryPackage", &[("id", id)]);
        self.slot("intendedRecipient", &set.intended_recipients);
        self.slot("submissionTime", std::slice::from_ref(&set.submission_time));
        self.name(set.title.as_deref());
        for author in &set.authors {
            self.author(uuid::AUTHOR, id, author);
        }
        if let Some(code) = &set.content_type_code {
            self.code(uuid::CONTENT_TYPE_CODE, id, code);
        }
        let label = self.inner_id();
        self.xml.empty(
            "rim:Classification",
            &[
                ("id", &label),
                ("classifiedObject", id),
                ("classificationNode", uuid::NODE),
            ],
        );
        if let Some(patient) = &set.patient_id {
            let name = "XDSSubmissionSet.patientId";
            self.identifier(uuid::PATIENT_ID, id, patient, name);
        }
        let name = "XDSSubmissionSet.sourceId";
        self.identifier(uuid::SOURCE_ID, id, &set.source_id, name);
        let name = "XDSSubmissionSet.uniqueId";
        self.identifier(uuid::UNIQUE_ID, id, &set.unique_id, name);
        self.xml.end();
    }

    /// Every DocumentEntry is a member of the set, as an original (MD-31).
    fn membership(&mut self, set: &NewSubmissionSet, entry: &NewEntry) {
        self.xml.start(
            "rim:Association",
            &[
                ("id", &entry.association_id),
                ("associationType", HAS_MEMBER),
                ("sourceObject", &set.id),
                ("targetObject", &entry.id),
            ],
        );
        self.slot("SubmissionSetStatus", &["Original".to_owned()]);
        self.xml.end();
    }

    /// Nothing for no values: an empty slot is not legal.
    fn slot(&mut self, name: &str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        self.xml.start("rim:Slot", &[("name", name)]);
        self.xml.start("rim:ValueList", &[]);
        for value in values {
            self.xml.leaf("rim:Value", &[], value);
        }
        self.xml.end();
        self.xml.end();
    }

    fn name(&mut self, name: Option<&str>) {
        if let Some(name) = name {
            self.xml.start("rim:Name", &[]);
            self.xml.empty("rim:LocalizedString", &[("value", name)]);
            self.xml.end();
        }
    }

    fn code(&mut self, scheme: &str, object: &str, code: &Code) {
        let id = self.inner_id();
        self.xml.start(
            "rim:Classification",
            &[
                ("id", &id),
                ("classificationScheme", scheme),
                ("classifiedObject", object),
                ("nodeRepresentation", &code.code),
                ("objectType", CLASSIFICATION_OBJECT_TYPE),
            ],
        );
        self.slot("codingScheme", code.scheme.as_slice());
        self.name(Some(code.display.as_deref().unwrap_or(&code.code)));
        self.xml.end();
    }

    fn author(&mut self, scheme: &str, object: &str, author: &Author) {
        let id = self.inner_id();
        self.xml.start(
            "rim:Classification",
            &[
                ("id", &id),
                ("classificationScheme", scheme),
                ("classifiedObject", object),
                ("nodeRepresentation", ""),
                ("objectType", CLASSIFICATION_OBJECT_TYPE),
            ],
        );
        self.slot("authorPerson", author.person.as_slice());
        self.slot("authorInstitution", &author.institutions);
        self.slot("authorRole", &author.roles);
        self.slot("authorSpecialty", &author.specialties);
        self.slot("authorTelecommunication", &author.telecommunications);
        self.xml.end();
    }

    fn identifier(&mut self, scheme: &str, object: &str, value: &str, name: &str) {
        let id = self.inner_id();
        self.xml.start(
            "rim:ExternalIdentifier",
            &[
                ("id", &id),
                ("identificationScheme", scheme),
                ("registryObject", object),
                ("value", value),
            ],
        );
        self.name(Some(name));
        self.xml.end();
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            super::limits::Limits,
            Level, Metadata,
            validate::{Context, validate},
        },
        *,
    };

    // rule: XDR-5, MD-2, MD-3, MD-4, MD-31
    #[test]
    fn what_is_written_is_read_back_and_nothing_is_odd_about_it() {
        let code = |code: &str| Code {
            code: code.to_owned(),
            scheme: Some("2.999.5".to_owned()),
            display: Some(format!("{code} & co")),
        };
        let author = Author {
            person: Some("^Okafor^Ngozi".to_owned()),
            telecommunications: vec!["^^Internet^ngozi@direct.elm.example".to_owned()],
            ..Author::default()
        };
        let entry = |number: u8| NewEntry {
            id: format!("urn:uuid:00000000-0000-5000-8000-00000000000{number}"),
            association_id: format!("urn:uuid:00000000-0000-5000-8000-0000000000a{number}"),
            unique_id: format!("2.999.9.{number}"),
            mime_type: "text/xml".to_owned(),
            hash: "a9993e364706816aba3e25717850c26c9cd0d89d".to_owned(),
            size: 3,
            title: Some("A <b> \"title\"".to_owned()),
            creation_time: Some("20261122".to_owned()),
            patient_id: Some("1^^^&2.999.1&ISO".to_owned()),
            source_patient_id: Some("1^^^&2.999.1&ISO".to_owned()),
            source_patient_info: vec!["PID-5|Quill^Ada".to_owned()],
            authors: vec![author.clone(), author.clone()],
            class_code: Some(code("class")),
            type_code: Some(code("type")),
            format_code: Some(code("format")),
            confidentiality_codes: vec![code("N"), code("R")],
            healthcare_facility_type_code: Some(code("facility")),
            practice_setting_code: Some(code("practice")),
            event_codes: vec![code("event")],
            language_code: Some("en".to_owned()),
            ..NewEntry::default()
        };
        let submission = NewSubmission {
            set: NewSubmissionSet {
                id: "urn:uuid:00000000-0000-5000-8000-000000000009".to_owned(),
                unique_id: "2.999.9.9".to_owned(),
                source_id: "2.999.9".to_owned(),
                submission_time: "20261122080509".to_owned(),
                patient_id: Some("1^^^&2.999.1&ISO".to_owned()),
                title: Some("Title".to_owned()),
                authors: vec![author.clone()],
                intended_recipients: vec!["||^^Internet^rui@direct.harbor.example".to_owned()],
                content_type_code: Some(code("content")),
            },
            entries: vec![entry(1), entry(2)],
        };
        let limits = Limits::default();
        let metadata = Metadata::read(submission.to_xml(), &limits).unwrap();
        assert_eq!(validate(&metadata, &Context::at(Level::Full)), []);
        let set = metadata.submission_set().unwrap();
        assert_eq!(set.authors, submission.set.authors);
        let read = &metadata.document_entries()[1];
        let written = &submission.entries[1];
        assert_eq!(read.title, written.title);
        assert_eq!(read.authors, written.authors);
        assert_eq!(read.confidentiality_codes, written.confidentiality_codes);
        assert_eq!(read.event_codes, written.event_codes);
        assert_eq!(metadata.associations().len(), 2);
    }
}
