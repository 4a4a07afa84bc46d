//! What the unit tests of the conversion stand on.

use super::{Conversion, ConversionError, write_message};
use crate::{
    bridge::destination::{DirectPackaging, MailPolicy},
    formats::{
        document::{
            DocumentFacts, DocumentKey, DocumentSink, DocumentSource, DocumentsInMemory, FactsSink,
        },
        ids::{DirectAddress, MessageId},
        limits::Limits,
        metadata::{Level, Metadata},
        xdm::Institution,
        xml::kept::KeptXml,
    },
};

/// The policy with this packaging and nothing else.
pub(super) fn policy(packaging: DirectPackaging) -> MailPolicy {
    MailPolicy {
        packaging,
        ..MailPolicy::default()
    }
}

/// A submission of two documents.
pub(super) struct Ground {
    pub(super) metadata: Metadata,
    pub(super) source: DocumentsInMemory,
    pub(super) documents: Vec<(String, DocumentFacts)>,
    pub(super) from: DirectAddress,
    pub(super) to: Vec<DirectAddress>,
    pub(super) message_id: MessageId,
    policy: MailPolicy,
    institution: Institution,
}

impl Ground {
    pub(super) fn new(set_content: &str) -> Self {
        let xml = format!(
            "<l:SubmitObjectsRequest xmlns:l=\"urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0\" \
             xmlns=\"urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0\"><RegistryObjectList>\
             <ExtrinsicObject id=\"Doc1\" mimeType=\"text/xml\">\
             <Name><LocalizedString value=\"Summary: A\"/></Name></ExtrinsicObject>\
             <ExtrinsicObject id=\"Doc2\" mimeType=\"application/pdf\"/>\
             <RegistryPackage id=\"Set1\">{set_content}\
             <Classification id=\"c\" classifiedObject=\"Set1\" \
             classificationNode=\"urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd\"/>\
             </RegistryPackage></RegistryObjectList></l:SubmitObjectsRequest>"
        );
        let limits = Limits::default();
        let kept = KeptXml::read(xml.as_bytes(), &limits).unwrap();
        let mut source = DocumentsInMemory::default();
        for (part, octets) in [(1, b"<a/>".as_slice()), (2, b"%PDF-1.7")] {
            source.begin(DocumentKey::Part(part)).unwrap();
            source.write(octets).unwrap();
            source.end().unwrap();
        }
        let mut facts = FactsSink::default();
        source.pour(&mut facts).unwrap();
        let ids = ["Doc1", "Doc2"].map(str::to_owned);
        Self {
            metadata: Metadata::read(kept, &limits).unwrap(),
            documents: ids.into_iter().zip(facts.into_facts()).collect(),
            source,
            from: "Ngozi@direct.elm.example".parse().unwrap(),
            to: vec![
                "rui@direct.harbor.example".parse().unwrap(),
                "intake@direct.harbor.example".parse().unwrap(),
            ],
            message_id: "7@direct.elm.example".parse().unwrap(),
            policy: MailPolicy::default(),
            institution: Institution::default(),
        }
    }

    pub(super) fn conversion(&self) -> Conversion<'_> {
        Conversion {
            metadata: &self.metadata,
            documents: &self.documents,
            level: Level::Full,
            from: &self.from,
            to: &self.to,
            message_id: &self.message_id,
            date: "2026-11-22T08:05:09Z".parse().unwrap(),
            policy: &self.policy,
            wants_final_delivery: false,
            institution: &self.institution,
        }
    }

    pub(super) fn write(&self, conversion: &Conversion<'_>) -> Result<String, ConversionError> {
        let mut out = Vec::new();
        write_message(conversion, &mut self.source.clone(), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }
}
