//! ITI-41 requests as an EHR makes them: full metadata around the documents that a test gives.

use std::fmt::Write as _;

use uuid::Uuid;
use xdbridge::formats::{
    document::{DocumentKey, DocumentsInMemory, hex},
    ids::SoapMessageId,
    limits::Limits,
    metadata::Metadata,
    soap::{AddressBlock, MetadataLevel, REQUEST_ACTION},
    xdr::request::{OutgoingDocument, OutgoingRequest, Packaging, write_mtom, write_simple},
    xml::kept::KeptXml,
};

const CLASSIFICATION: &str =
    "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:Classification";
/// Classification schemes of the codes that a DocumentEntry must have, each with a code of a coding scheme.
const ENTRY_CODES: [(&str, &str, &str); 6] = [
    (
        "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a",
        "57133-1",
        "2.16.840.1.113883.6.1",
    ),
    (
        "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f",
        "N",
        "2.16.840.1.113883.5.25",
    ),
    (
        "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d",
        "urn:hl7-org:sdwg:ccda-structuredBody:2.1",
        "1.3.6.1.4.1.19376.1.2.3",
    ),
    (
        "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1",
        "35971002",
        "2.16.840.1.113883.6.96",
    ),
    (
        "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead",
        "394802001",
        "2.16.840.1.113883.6.96",
    ),
    (
        "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983",
        "57133-1",
        "2.16.840.1.113883.6.1",
    ),
];
const PATIENT: &str = "PT-7731^^^&amp;2.999.10.1&amp;ISO";

/// A request to be posted.
#[derive(Clone)]
pub(crate) struct TestRequest {
    /// `wsa:MessageID`.
    pub(crate) message_id: SoapMessageId,
    /// SubmissionSet.uniqueId.
    pub(crate) unique_id: String,
    /// `direct:from`; without one there is no addressBlock.
    pub(crate) from: Option<String>,
    /// `direct:to`.
    pub(crate) to: Vec<String>,
    /// intendedRecipient.
    pub(crate) intended_recipients: Vec<String>,
    /// `metadata-level`.
    pub(crate) level: MetadataLevel,
    /// Whether final delivery is asked for.
    pub(crate) final_delivery: bool,
    /// mimeType and octets of each document.
    pub(crate) documents: Vec<(&'static str, Vec<u8>)>,
    /// A slot beyond the standard's.
    pub(crate) extra_slot: Option<(&'static str, &'static str)>,
}

/// What is posted.
#[derive(Clone)]
pub(crate) struct Posted {
    /// Its Content-Type.
    pub(crate) content_type: String,
    /// Its octets.
    pub(crate) body: Vec<u8>,
}

impl Posted {
    /// The same with one text for another, which must be there.
    pub(crate) fn with(mut self, from: &str, to: &str) -> Self {
        let text = String::from_utf8(self.body).unwrap();
        assert!(text.contains(from), "nothing to replace: {from}");
        self.body = text.replacen(from, to, 1).into_bytes();
        self
    }
}

impl TestRequest {
    /// One small text document, with ids of its own.
    pub(crate) fn new(from: &str, to: &[&str]) -> Self {
        let id = Uuid::new_v4();
        Self {
            message_id: SoapMessageId::from_uuid(id),
            unique_id: format!("2.25.{}", id.as_u128()),
            from: Some(from.to_owned()),
            to: to.iter().map(ToString::to_string).collect(),
            intended_recipients: vec!["||^^Internet^someone.else@direct.quay.example".to_owned()],
            level: MetadataLevel::Xds,
            final_delivery: false,
            documents: vec![(
                "text/xml",
                b"<ClinicalDocument xmlns=\"urn:hl7-org:v3\"/>".to_vec(),
            )],
            extra_slot: None,
        }
    }

    /// `lcm:SubmitObjectsRequest`.
    pub(crate) fn metadata(&self) -> Metadata {
        let limits = Limits::default();
        let kept = KeptXml::read(self.metadata_text().as_bytes(), &limits).unwrap();
        Metadata::read(kept, &limits).unwrap()
    }

    fn metadata_text(&self) -> String {
        let mut xml = String::from(
            "<lcm:SubmitObjectsRequest xmlns:lcm=\"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\" \
             xmlns:rim=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\">\n<rim:RegistryObjectList>\n",
        );
        for (number, (mime_type, octets)) in (1..).zip(&self.documents) {
            self.write_entry(&mut xml, number, mime_type, octets);
        }
        self.write_set(&mut xml);
        for number in 1..=self.documents.len() {
            let _ = writeln!(
                xml,
                "<rim:Association id=\"Link{number}\" associationType=\"urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember\" \
                 sourceObject=\"Set01\" targetObject=\"Document{number}\">{}</rim:Association>",
                slot("SubmissionSetStatus", &["Original"])
            );
        }
        xml.push_str("</rim:RegistryObjectList>\n</lcm:SubmitObjectsRequest>");
        xml
    }

    fn write_entry(&self, xml: &mut String, number: usize, mime_type: &str, octets: &[u8]) {
        let id = format!("Document{number}");
        let _ = writeln!(
            xml,
            "<rim:ExtrinsicObject id=\"{id}\" mimeType=\"{mime_type}\" objectType=\"urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1\">"
        );
        xml.push_str(&slot("creationTime", &["20260302141500"]));
        // Every second document comes without: the bridge then adds them to the package.
        if number % 2 == 1 {
            xml.push_str(&slot("hash", &[&hex(&openssl::sha::sha1(octets))]));
            xml.push_str(&slot("size", &[&octets.len().to_string()]));
        }
        xml.push_str(&slot("languageCode", &["en-US"]));
        xml.push_str(&slot("serviceStartTime", &["20260302130000"]));
        xml.push_str(&slot("serviceStopTime", &["20260302134500"]));
        xml.push_str(&slot(
            "sourcePatientId",
            &["MRN-42^^^&amp;2.999.10.2&amp;ISO"],
        ));
        xml.push_str(&slot("sourcePatientInfo", &["PID-5|Quill^Ada^M"]));
        if let Some((name, value)) = self.extra_slot {
            xml.push_str(&slot(name, &[value]));
        }
        xml.push_str(&name(&format!("Referral note {number}")));
        let author = [
            slot(
                "authorPerson",
                &["881^Okafor^Ngozi^^^Dr^^^&amp;2.999.20.1&amp;ISO"],
            ),
            slot("authorInstitution", &["Elm Street Clinic^^^^^^^^^2.999.20"]),
        ];
        let scheme = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d";
        xml.push_str(&classification(&id, scheme, "", &author.concat(), ""));
        for (scheme, code, coding_scheme) in ENTRY_CODES {
            let coding_scheme = slot("codingScheme", &[coding_scheme]);
            xml.push_str(&classification(
                &id,
                scheme,
                code,
                &coding_scheme,
                &name(code),
            ));
        }
        let scheme = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427";
        xml.push_str(&identifier(
            &id,
            scheme,
            PATIENT,
            "XDSDocumentEntry.patientId",
        ));
        let scheme = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab";
        let unique_id = format!("{}.{number}", self.unique_id);
        xml.push_str(&identifier(
            &id,
            scheme,
            &unique_id,
            "XDSDocumentEntry.uniqueId",
        ));
        xml.push_str("</rim:ExtrinsicObject>\n");
    }

    fn write_set(&self, xml: &mut String) {
        xml.push_str("<rim:RegistryPackage id=\"Set01\">");
        if !self.intended_recipients.is_empty() {
            let values: Vec<&str> = self
                .intended_recipients
                .iter()
                .map(String::as_str)
                .collect();
            xml.push_str(&slot("intendedRecipient", &values));
        }
        xml.push_str(&slot("submissionTime", &["20260302142000"]));
        xml.push_str(&name("Referral for Ada Quill"));
        let author = [
            slot("authorPerson", &["^Okafor^Ngozi^^^Dr"]),
            slot(
                "authorTelecommunication",
                &["^^Internet^ngozi.okafor@direct.elm.example"],
            ),
        ];
        let scheme = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d";
        xml.push_str(&classification("Set01", scheme, "", &author.concat(), ""));
        let scheme = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500";
        let coding_scheme = slot("codingScheme", &["2.16.840.1.113883.6.1"]);
        xml.push_str(&classification(
            "Set01",
            scheme,
            "57133-1",
            &coding_scheme,
            &name("Referral note"),
        ));
        let _ = write!(
            xml,
            "<rim:Classification id=\"label\" classificationNode=\"urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd\" classifiedObject=\"Set01\"/>"
        );
        for (scheme, value, label) in [
            (
                "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446",
                PATIENT,
                "XDSSubmissionSet.patientId",
            ),
            (
                "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832",
                "2.999.20",
                "XDSSubmissionSet.sourceId",
            ),
            (
                "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8",
                &self.unique_id,
                "XDSSubmissionSet.uniqueId",
            ),
        ] {
            xml.push_str(&identifier("Set01", scheme, value, label));
        }
        xml.push_str("</rim:RegistryPackage>\n");
    }

    /// As MTOM, one part for each document.
    pub(crate) fn mtom(&self) -> Posted {
        self.write(Packaging::Mtom)
    }

    /// As one envelope with base64 in it.
    pub(crate) fn simple(&self) -> Posted {
        self.write(Packaging::SimpleSoap)
    }

    fn write(&self, packaging: Packaging) -> Posted {
        let metadata = self.metadata();
        let block = self.from.as_ref().map(|from| AddressBlock {
            from: from.parse().unwrap(),
            to: self.to.iter().map(|to| to.parse().unwrap()).collect(),
            relates_to: None,
            final_delivery: self.final_delivery,
        });
        let mut source = DocumentsInMemory::default();
        let mut documents = Vec::new();
        for (number, (mime_type, octets)) in (1..).zip(&self.documents) {
            let key = DocumentKey::Loose(number);
            source.documents.push((key, octets.clone()));
            documents.push(OutgoingDocument {
                document_id: format!("Document{number}"),
                key,
                mime_type: (*mime_type).to_owned(),
            });
        }
        let request = OutgoingRequest {
            message_id: &self.message_id,
            action: REQUEST_ACTION,
            to: "https://localhost/xdr",
            address_block: block.as_ref(),
            metadata_level: Some(self.level),
            metadata: metadata.xml(),
            documents: &documents,
        };
        let mut body = Vec::new();
        match packaging {
            Packaging::Mtom => write_mtom(&request, &mut source, &mut body).unwrap(),
            _ => write_simple(&request, &mut source, &mut body).unwrap(),
        }
        Posted {
            content_type: request.content_type(packaging),
            body,
        }
    }
}

fn slot(name: &str, values: &[&str]) -> String {
    let values: String = values
        .iter()
        .map(|value| format!("<rim:Value>{value}</rim:Value>"))
        .collect();
    format!("<rim:Slot name=\"{name}\"><rim:ValueList>{values}</rim:ValueList></rim:Slot>\n")
}

fn name(text: &str) -> String {
    format!(
        "<rim:Name><rim:LocalizedString xml:lang=\"en-US\" charset=\"UTF-8\" value=\"{text}\"/></rim:Name>\n"
    )
}

fn classification(object: &str, scheme: &str, code: &str, slots: &str, name: &str) -> String {
    let id = format!("c-{object}-{}", &scheme[9..17]);
    format!(
        "<rim:Classification id=\"{id}\" classificationScheme=\"{scheme}\" classifiedObject=\"{object}\" \
         nodeRepresentation=\"{code}\" objectType=\"{CLASSIFICATION}\">{slots}{name}</rim:Classification>\n"
    )
}

fn identifier(object: &str, scheme: &str, value: &str, label: &str) -> String {
    let id = format!("e-{object}-{}", &scheme[9..17]);
    format!(
        "<rim:ExternalIdentifier id=\"{id}\" identificationScheme=\"{scheme}\" registryObject=\"{object}\" value=\"{value}\">{}</rim:ExternalIdentifier>\n",
        name(label)
    )
}
