//! Submissions of one document each, of any size, that compress well or not at all.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use uuid::Uuid;
use xdbridge::{
    adapters::clock::SystemClock,
    bridge::{
        destination::MailPolicy,
        to_direct::{self, Conversion},
    },
    flows::ports::Clock,
    formats::{
        document::{DocumentFacts, DocumentKey, DocumentSource, DocumentsInMemory, FactsSink},
        ids::{DirectAddress, MessageId, SoapMessageId},
        limits::Limits,
        metadata::{Level, Metadata},
        soap::{AddressBlock, REQUEST_ACTION},
        xdm::Institution,
        xdr::request::{self, OutgoingDocument, OutgoingRequest, Packaging},
        xml::kept::KeptXml,
    },
};

/// Who sends.
pub(crate) const SENDER: &str = "ngozi.okafor@direct.harbor.example";
/// Who receives.
pub(crate) const RECIPIENT: &str = "rui.silva@direct.elm.example";

/// Full metadata of one document, with `@..@` where submissions differ.
const METADATA: &str = include_str!("submission.xml");

/// What the document is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// XML with the proportions of a C-CDA: much markup, coded values, dates, some prose.
    Xml,
    /// Octets that nothing compresses, as in an image or a PDF of scans.
    Incompressible,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Xml => "XML",
            Self::Incompressible => "incompressible",
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Xml => "text/xml",
            Self::Incompressible => "application/pdf",
        }
    }

    /// A document of exactly `bytes` octets, always the same one.
    pub(crate) fn document(self, bytes: usize) -> Vec<u8> {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut octets = Vec::with_capacity(bytes + 1024);
        match self {
            Self::Incompressible => {
                while octets.len() < bytes {
                    octets.extend_from_slice(&random.next().to_le_bytes());
                }
            }
            Self::Xml => {
                octets.extend_from_slice(
                    b"<ClinicalDocument xmlns=\"urn:hl7-org:v3\"><component><structuredBody>\n",
                );
                while octets.len() < bytes {
                    octets.extend_from_slice(entry(&mut random).as_bytes());
                }
            }
        }
        octets.truncate(bytes);
        octets
    }
}

/// One observation, as results and vital signs have them by the hundred.
fn entry(random: &mut Random) -> String {
    const NAMES: [&str; 8] = [
        "Heart rate",
        "Systolic blood pressure",
        "Body temperature",
        "Glucose in serum",
        "Haemoglobin in blood",
        "Oxygen saturation",
        "Sodium in plasma",
        "Body weight",
    ];
    const PROSE: [&str; 8] = [
        "unchanged since the last visit",
        "to be repeated within a week",
        "measured at rest",
        "taken by the ward nurse",
        "slightly above the usual range",
        "the sample was haemolysed",
        "no action needed",
        "reported by telephone",
    ];
    let draw = random.next();
    let pick = |list: &[&'static str; 8], shift: u32| list[(draw >> shift) as usize % 8];
    format!(
        "<entry typeCode=\"DRIV\"><observation classCode=\"OBS\" moodCode=\"EVN\">\
         <templateId root=\"2.16.840.1.113883.10.20.22.4.2\" extension=\"2015-08-01\"/>\
         <id root=\"{}\"/><code code=\"{}-{}\" codeSystem=\"2.16.840.1.113883.6.1\" displayName=\"{}\"/>\
         <text>{}; {}</text><statusCode code=\"completed\"/><effectiveTime value=\"2026{:02}{:02}{:02}{:02}\"/>\
         <value xsi:type=\"PQ\" value=\"{}.{}\" unit=\"mmol/L\"/></observation></entry>\n",
        Uuid::from_u64_pair(random.next(), random.next()),
        draw >> 8 & 0xffff,
        draw & 7,
        pick(&NAMES, 3),
        pick(&PROSE, 24),
        pick(&PROSE, 28),
        1 + (draw >> 32) % 12,
        1 + (draw >> 36) % 28,
        (draw >> 41) % 24,
        (draw >> 46) % 60,
        (draw >> 52) % 200,
        draw >> 60 & 7,
    )
}

/// xorshift64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A kind of submission to make any number of.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) kind: Kind,
    pub(crate) bytes: usize,
    pub(crate) documents: Arc<DocumentsInMemory>,
    pub(crate) facts: DocumentFacts,
    packaging: Packaging,
}

impl Sample {
    pub(crate) fn new(kind: Kind, bytes: usize) -> anyhow::Result<Self> {
        let documents = DocumentsInMemory {
            documents: vec![(DocumentKey::Part(1), kind.document(bytes))],
        };
        let mut facts = FactsSink::default();
        documents.clone().pour(&mut facts)?;
        Ok(Self {
            kind,
            bytes,
            documents: Arc::new(documents),
            facts: facts.into_facts().pop().context("one document")?,
            packaging: Packaging::Mtom,
        })
    }

    /// The same with its document inline, as base64.
    pub(crate) fn inline(self) -> Self {
        Self {
            packaging: Packaging::SimpleSoap,
            ..self
        }
    }

    pub(crate) fn name(&self) -> String {
        match self.bytes {
            bytes if bytes >= 1_000_000 => format!("{} MB {}", bytes / 1_000_000, self.kind.name()),
            bytes => format!("{} kB {}", bytes / 1000, self.kind.name()),
        }
    }

    /// The metadata of the next submission: its ids are used once.
    pub(crate) fn metadata(&self) -> anyhow::Result<KeptXml> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let xml = METADATA
            .replace("@NUMBER@", &number.to_string())
            .replace("@HASH@", &self.facts.hash())
            .replace("@SIZE@", &self.facts.size.to_string())
            .replace("@MEDIA@", self.kind.media_type());
        Ok(KeptXml::read(xml.as_bytes(), &Limits::default())?)
    }

    /// A new ITI-41 request: its Content-Type and its body.
    pub(crate) fn request(&self) -> anyhow::Result<(String, Vec<u8>)> {
        let id = SoapMessageId::from_uuid(Uuid::new_v4());
        let metadata = self.metadata()?;
        let block = AddressBlock {
            from: SENDER.parse()?,
            to: vec![RECIPIENT.parse()?],
            relates_to: None,
            final_delivery: false,
        };
        let listed = [OutgoingDocument {
            document_id: "Document01".to_owned(),
            key: DocumentKey::Part(1),
            mime_type: self.kind.media_type().to_owned(),
        }];
        let outgoing = OutgoingRequest {
            message_id: &id,
            action: REQUEST_ACTION,
            to: "https://bridge.harbor.example/xdr",
            address_block: Some(&block),
            metadata_level: None,
            metadata: &metadata,
            documents: &listed,
        };
        let mut body = Vec::with_capacity(self.bytes + 64 * 1024);
        let mut source = Borrowed(&self.documents);
        match self.packaging {
            Packaging::Mtom => request::write_mtom(&outgoing, &mut source, &mut body)?,
            _ => request::write_simple(&outgoing, &mut source, &mut body)?,
        }
        Ok((outgoing.content_type(self.packaging), body))
    }

    /// The MIME entity that the bridge signs for such a submission.
    pub(crate) fn entity(&self) -> anyhow::Result<Vec<u8>> {
        let from: DirectAddress = SENDER.parse()?;
        let message_id = MessageId::from_uuid(Uuid::new_v4(), from.domain());
        self.entity_between(&from, &RECIPIENT.parse()?, &message_id, false)
    }

    /// The same between any two: a package of its own, by its unique ids.
    pub(crate) fn entity_between(
        &self,
        from: &DirectAddress,
        to: &DirectAddress,
        message_id: &MessageId,
        wants_final_delivery: bool,
    ) -> anyhow::Result<Vec<u8>> {
        let metadata = Metadata::read(self.metadata()?, &Limits::default())?;
        let conversion = Conversion {
            metadata: &metadata,
            documents: &[("Document01".to_owned(), self.facts.clone())],
            level: Level::Full,
            from,
            to: std::slice::from_ref(to),
            message_id,
            date: SystemClock.now(),
            policy: &MailPolicy::default(),
            wants_final_delivery,
            institution: &Institution::default(),
        };
        let mut entity = Vec::new();
        to_direct::write_message(&conversion, &mut Borrowed(&self.documents), &mut entity)?;
        Ok(entity)
    }
}

/// Documents that are poured without being copied first.
pub(crate) struct Borrowed<'a>(pub(crate) &'a DocumentsInMemory);

impl DocumentSource for Borrowed<'_> {
    fn pour(
        &mut self,
        sink: &mut dyn xdbridge::formats::document::DocumentSink,
    ) -> std::io::Result<()> {
        for (key, octets) in &self.0.documents {
            sink.begin(*key)?;
            sink.write(octets)?;
            sink.end()?;
        }
        Ok(())
    }
}
