//! Submission to mail message (xdr.md section 7): the received metadata and documents become one XDM package inside
//! one message, ready to be signed. This direction loses nothing, unless the destination asks for documents alone.

mod attachments;

use std::io::{self, Write};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::exchange::Reason;
use crate::formats::{
    document::{DocumentFacts, DocumentSource},
    ids::{DirectAddress, MessageId},
    metadata::{DocumentEntry, Level, Metadata, MetadataError, RECEIVED_URI, same_id},
    mime::{
        base64_lines::encoded_len,
        write::{Boundary, Header, HeaderText, Multipart},
    },
    smime::{ContentCipher, SealHeader, sealed_len_estimate},
    xdm::{self, Institution, PackError, PackagePlan, PlannedFile, names::document_file_name},
};
use attachments::{AttachmentSink, PlannedAttachment};

/// What a slot named [`RECEIVED_URI`] gets appended if it was received itself, so that it comes back as well.
pub(super) const RECEIVED_AGAIN: char = '~';

/// What the Subject must contain (XDM-50, CC-3).
const XDM_PHRASE: &str = "XDM/1.0/DDM";
/// The Subject of a message that carries no XDM.
const PLAIN_SUBJECT: &str = "Documents";
/// The package's name (XDM-51, CC-2).
const PACKAGE_NAME: &str = "XDM00001.ZIP";
const XDM_TEXT: &str = "This message carries health documents as an IHE XDM package.\n\
    Programs that read XDM open the attached ZIP file as it is. To read it by hand,\n\
    unpack it and open INDEX.HTM.\n";
const DOCUMENTS_TEXT: &str = "This message carries health documents as attachments.\n";
/// Asks for a notice of final delivery (MDN-3).
const FINAL_DELIVERY: &str = "X-DIRECT-FINAL-DESTINATION-DELIVERY=optional,true";

/// How a destination gets its documents: `packaging` (docs/design.md section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DirectPackaging {
    /// One XDM package (XDR-86).
    #[default]
    #[serde(rename = "xdm")]
    Xdm,
    /// The same, and each document once more as an attachment (XDR-86, CC-4).
    #[serde(rename = "xdm+documents")]
    XdmAndDocuments,
    /// The documents alone, for mailboxes that cannot read XDM. The metadata is lost (XDR-87).
    #[serde(rename = "documents")]
    Documents,
}

/// One leg's message: what goes into it.
#[derive(Clone, Debug)]
pub struct Conversion<'a> {
    /// The received metadata.
    pub metadata: &'a Metadata,
    /// Each DocumentEntry's id and the facts of its document.
    pub documents: &'a [(String, DocumentFacts)],
    /// The level of the received metadata (XDR-84).
    pub level: Level,
    /// The sender.
    pub from: &'a DirectAddress,
    /// The recipients of this leg, and nobody else (XDR-81).
    pub to: &'a [DirectAddress],
    /// The leg's Message-ID, the same at every retry (MDN-1).
    pub message_id: &'a MessageId,
    /// When the exchange was accepted (XDR-85).
    pub date: Timestamp,
    /// How the destination gets its documents.
    pub packaging: DirectPackaging,
    /// Whether the inner Subject carries the SubmissionSet's title, which may name the patient (XDR-85).
    pub subject_title: bool,
    /// Whether to ask for a notice of final delivery (MDN-4).
    pub wants_final_delivery: bool,
    /// Who makes the package.
    pub institution: &'a Institution,
}

/// Why no message was made.
#[derive(Debug, thiserror::Error)]
pub enum ConversionError {
    /// A leg without recipients.
    #[error("WR-11: a message needs at least one recipient")]
    NoRecipient,
    /// A DocumentEntry has no document.
    #[error("XDR-82: DocumentEntry {number} has no document")]
    DocumentMissing {
        /// Counted from 1, in metadata order.
        number: usize,
    },
    /// A DocumentEntry would not have the name of its file in the package.
    #[error("XDR-82: DocumentEntry {number} did not get its URI")]
    UriNotSet {
        /// Counted from 1, in metadata order.
        number: usize,
    },
    /// The set was refused when it was read.
    #[error("XDM-40: the submission set was not read without errors")]
    SetRefused,
    /// The metadata cannot be changed.
    #[error("the metadata cannot take what XDM requires")]
    Metadata(#[from] MetadataError),
    /// The package cannot be made.
    #[error("the XDM package cannot be made")]
    Pack(#[from] PackError),
    /// The documents cannot be read, or the message not be written.
    #[error("the message could not be written")]
    Io(#[from] io::Error),
}

impl ConversionError {
    /// Whether a later attempt may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Io(_) | Self::Pack(PackError::Io(_)) => true,
            Self::NoRecipient
            | Self::DocumentMissing { .. }
            | Self::UriNotSet { .. }
            | Self::SetRefused
            | Self::Metadata(_)
            | Self::Pack(_) => false,
        }
    }

    /// What the sender is told once no attempt is left.
    pub fn reason(&self) -> Reason {
        if self.is_transient() {
            Reason::Internal
        } else {
            Reason::ConversionFailed
        }
    }
}

/// The metadata as the package carries it: the received XML, edited. Each DocumentEntry gets a `URI`, and `hash` and
/// `size` where they are absent; a received `URI` waits in [`RECEIVED_URI`] (XDR-82). At level minimal the
/// SubmissionSet gets the recipients and the sender where it names none (XDR-84). Labels stay as they are (XDR-83).
pub fn direct_metadata(conversion: &Conversion<'_>) -> Result<Metadata, ConversionError> {
    let metadata = conversion.metadata;
    let mut edit = metadata.edit();
    let documents = entry_documents(conversion)?;
    for document in &documents {
        let (entry, facts) = (document.entry, document.facts);
        let received = entry.slots.iter().map(|slot| slot.name.as_str());
        for name in received.filter(|name| is_received_uri(name)) {
            edit.rename_slot(&entry.id, name, &format!("{name}{RECEIVED_AGAIN}"));
        }
        edit.rename_slot(&entry.id, "URI", RECEIVED_URI);
        edit.set_slot(&entry.id, "URI", &[&document.file_name]);
        if entry.hash.is_none() {
            edit.set_slot(&entry.id, "hash", &[&facts.hash()]);
        }
        if entry.size.is_none() {
            edit.set_slot(&entry.id, "size", &[&facts.size.to_string()]);
        }
    }
    if let (Level::Minimal, Some(set)) = (conversion.level, metadata.submission_set()) {
        if set.intended_recipients.is_empty() {
            for recipient in conversion.to {
                edit.add_intended_recipient(recipient);
            }
        }
        if set.authors.is_empty() {
            edit.add_submission_set_author_telecommunication(conversion.from);
        }
    }
    let edited = edit.finish()?;
    // A wrong URI would show a person the wrong document: look once more.
    let uris = edited
        .document_entries()
        .iter()
        .map(|entry| entry.uri.as_deref());
    let planned = documents
        .iter()
        .map(|document| Some(document.file_name.as_str()));
    match (1..)
        .zip(uris.zip(planned))
        .find(|(_, (uri, planned))| uri != planned)
    {
        Some((number, _)) => Err(ConversionError::UriNotSet { number }),
        None => Ok(edited),
    }
}

/// Whether a slot is [`RECEIVED_URI`], with or without [`RECEIVED_AGAIN`] behind it.
pub(super) fn is_received_uri(name: &str) -> bool {
    name.trim_end_matches(RECEIVED_AGAIN) == RECEIVED_URI
}

/// Writes the entity that is signed: the complete message wrapped as `message/rfc822` (WR-1), CRLF and 7 bit. The
/// documents are poured through once for the package and once for plain copies; nothing but the zip is held.
pub fn write_message(
    conversion: &Conversion<'_>,
    documents: &mut dyn DocumentSource,
    out: &mut dyn Write,
) -> Result<(), ConversionError> {
    out.write_all(b"Content-Type: message/rfc822\r\n\r\n")?;
    write_plain_message(conversion, documents, out)
}

/// Writes the message alone, as it is before it is wrapped and signed.
pub fn write_plain_message(
    conversion: &Conversion<'_>,
    documents: &mut dyn DocumentSource,
    out: &mut dyn Write,
) -> Result<(), ConversionError> {
    if conversion.to.is_empty() {
        return Err(ConversionError::NoRecipient);
    }
    let boundary = Boundary::of_message(conversion.message_id, 0);
    let mut message = Multipart::begin(inner_header(conversion), "mixed", boundary, out)?;
    match conversion.packaging {
        DirectPackaging::Xdm | DirectPackaging::XdmAndDocuments => {
            message.text_part(XDM_TEXT)?;
            message = attach_package(conversion, documents, message)?;
        }
        DirectPackaging::Documents => message.text_part(DOCUMENTS_TEXT)?,
    }
    match conversion.packaging {
        DirectPackaging::XdmAndDocuments | DirectPackaging::Documents => {
            message = attach_documents(conversion, documents, message)?;
        }
        DirectPackaging::Xdm => {}
    }
    message.end()?;
    Ok(())
}

/// The XDM package of the submission.
pub fn package(
    conversion: &Conversion<'_>,
    documents: &mut dyn DocumentSource,
) -> Result<Vec<u8>, ConversionError> {
    let metadata = direct_metadata(conversion)?;
    let entries = entry_documents(conversion)?;
    let documents_bytes = entries.iter().map(|document| document.facts.size).sum();
    let files = entries
        .into_iter()
        .map(|document| PlannedFile {
            key: document.facts.key,
            file_name: document.file_name,
            title: document.entry.title.clone(),
            media_type: document.entry.mime_type.clone().unwrap_or_default(),
        })
        .collect();
    let plan = PackagePlan {
        metadata_xml: metadata.xml().as_str(),
        files,
        set_title: metadata
            .submission_set()
            .and_then(|set| set.title.as_deref()),
        institution: conversion.institution,
        documents_bytes,
    };
    Ok(xdm::pack(&plan, documents)?)
}

/// What the outer header repeats from the message inside (WR-3), with the constant Subject (WR-4).
pub fn outer_header_fields<'a>(
    conversion: &Conversion<'a>,
    subject: &'a str,
    cipher: ContentCipher,
) -> SealHeader<'a> {
    SealHeader {
        from: conversion.from,
        to: conversion.to,
        cc: &[],
        date: conversion.date,
        message_id: conversion.message_id,
        in_reply_to: None,
        references: &[],
        subject,
        cipher,
    }
}

/// At most how many octets the sealed mail takes on the wire (SM-60): documents that do not compress, two layers of
/// base64, generous room for headers, certificates and RecipientInfos. For LIM-14, before anything is made.
pub fn estimate_wire_bytes(
    packaging: DirectPackaging,
    metadata_bytes: u64,
    document_sizes: &[u64],
    recipients: usize,
) -> u64 {
    const ENTRY_BYTES: u64 = 1024;
    // Header and text of the message, the pages of the package; less is needed of the outer header.
    const MESSAGE_BYTES: u64 = 24 * 1024;
    const ADDRESS_BYTES: u64 = 260;
    let documents: u64 = document_sizes.iter().copied().fold(0, u64::saturating_add);
    let entries = (document_sizes.len() as u64).saturating_mul(ENTRY_BYTES);
    let package = encoded_len(
        documents
            .saturating_add(metadata_bytes)
            .saturating_add(entries),
    );
    let copies = document_sizes
        .iter()
        .map(|size| encoded_len(*size).saturating_add(ENTRY_BYTES))
        .fold(0, u64::saturating_add);
    let parts = match packaging {
        DirectPackaging::Xdm => package,
        DirectPackaging::XdmAndDocuments => package.saturating_add(copies),
        DirectPackaging::Documents => copies,
    };
    let addresses = (recipients as u64).saturating_mul(ADDRESS_BYTES);
    let entity = parts
        .saturating_add(MESSAGE_BYTES)
        .saturating_add(addresses);
    sealed_len_estimate(entity, recipients)
        .saturating_add(MESSAGE_BYTES)
        .saturating_add(addresses)
}

/// The inner header: what the receiver relies on (WR-5, WR-11, XDR-85), and the requests for notices, which stand
/// nowhere else (MDN-2, MDN-3, MDN-5).
fn inner_header(conversion: &Conversion<'_>) -> Header {
    let header = Header::default()
        .addresses("From", std::slice::from_ref(conversion.from))
        .addresses("To", conversion.to)
        .text("Subject", &subject(conversion))
        .date("Date", conversion.date)
        .message_ids("Message-ID", &[conversion.message_id])
        .constant("MIME-Version", "1.0")
        .addresses(
            "Disposition-Notification-To",
            std::slice::from_ref(conversion.from),
        );
    if conversion.wants_final_delivery {
        header.constant("Disposition-Notification-Options", FINAL_DELIVERY)
    } else {
        header
    }
}

fn subject(conversion: &Conversion<'_>) -> HeaderText {
    let title = conversion
        .metadata
        .submission_set()
        .and_then(|set| set.title.as_deref())
        .filter(|_| conversion.subject_title)
        .map(|title| HeaderText::cleaned(title).as_str().to_owned())
        .filter(|title| !title.is_empty());
    let text = match (title, conversion.packaging) {
        (Some(title), DirectPackaging::Documents) => title,
        (None, DirectPackaging::Documents) => PLAIN_SUBJECT.to_owned(),
        (Some(title), _) => format!("{title} - {XDM_PHRASE}"),
        (None, _) => XDM_PHRASE.to_owned(),
    };
    HeaderText::cleaned(&text)
}

/// A DocumentEntry, its document, and the document's file name in the package.
struct EntryDocument<'a> {
    entry: &'a DocumentEntry,
    facts: &'a DocumentFacts,
    file_name: String,
}

/// Every DocumentEntry with its document, in metadata order.
fn entry_documents<'a>(
    conversion: &Conversion<'a>,
) -> Result<Vec<EntryDocument<'a>>, ConversionError> {
    (1..)
        .zip(conversion.metadata.document_entries())
        .map(|(number, entry)| {
            let (_, facts) = conversion
                .documents
                .iter()
                .find(|(id, _)| same_id(id, &entry.id))
                .ok_or(ConversionError::DocumentMissing { number })?;
            let media_type = entry.mime_type.as_deref().unwrap_or_default();
            Ok(EntryDocument {
                entry,
                facts,
                file_name: document_file_name(number, media_type),
            })
        })
        .collect()
}

fn attach_package<W: Write>(
    conversion: &Conversion<'_>,
    documents: &mut dyn DocumentSource,
    message: Multipart<W>,
) -> Result<Multipart<W>, ConversionError> {
    let zip = package(conversion, documents)?;
    let media_type = "application/zip".parse().map_err(io::Error::other)?;
    let name = PACKAGE_NAME.parse().map_err(io::Error::other)?;
    let mut attachment = message.attachment(&media_type, &name)?;
    attachment.write_all(&zip)?;
    Ok(attachment.finish()?)
}

fn attach_documents<W: Write>(
    conversion: &Conversion<'_>,
    documents: &mut dyn DocumentSource,
    message: Multipart<W>,
) -> Result<Multipart<W>, ConversionError> {
    let entries = entry_documents(conversion)?;
    let described = entries.iter().map(|document| {
        (
            document.facts.key,
            document.entry.title.as_deref(),
            document.entry.mime_type.as_deref().unwrap_or_default(),
        )
    });
    let mut sink = AttachmentSink::new(message, PlannedAttachment::plan(described));
    documents.pour(&mut sink)?;
    sink.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{
        document::{DocumentKey, DocumentSink, DocumentsInMemory, FactsSink},
        limits::Limits,
        smime::seal_header,
        xml::kept::KeptXml,
    };
    use mail_parser::{Message, MessageParser, MimeHeaders as _};

    /// A submission of two documents.
    struct Ground {
        metadata: Metadata,
        source: DocumentsInMemory,
        documents: Vec<(String, DocumentFacts)>,
        from: DirectAddress,
        to: Vec<DirectAddress>,
        message_id: MessageId,
        institution: Institution,
    }

    impl Ground {
        fn new(set_content: &str) -> Self {
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
                institution: Institution::default(),
            }
        }

        fn conversion(&self) -> Conversion<'_> {
            Conversion {
                metadata: &self.metadata,
                documents: &self.documents,
                level: Level::Full,
                from: &self.from,
                to: &self.to,
                message_id: &self.message_id,
                date: "2026-11-22T08:05:09Z".parse().unwrap(),
                packaging: DirectPackaging::Xdm,
                subject_title: false,
                wants_final_delivery: false,
                institution: &self.institution,
            }
        }

        fn write(&self, conversion: &Conversion<'_>) -> Result<String, ConversionError> {
            let mut out = Vec::new();
            write_message(conversion, &mut self.source.clone(), &mut out)?;
            Ok(String::from_utf8(out).unwrap())
        }
    }

    fn inner(entity: &str) -> Message<'_> {
        let (wrap, inner) = entity.split_once("\r\n\r\n").unwrap();
        assert_eq!(wrap, "Content-Type: message/rfc822");
        MessageParser::default().parse(inner).unwrap()
    }

    const TITLE: &str = "<Name><LocalizedString value=\"Réferral\r\nBcc: x@y.example\"/></Name>";

    // rule: WR-1, WR-11, XDR-85, MDN-1, MDN-2, MDN-3, MDN-4, MDN-5, XDM-50, CC-3
    #[test]
    fn the_inner_header_says_everything_and_asks_for_notices() {
        let ground = Ground::new(TITLE);
        let mut conversion = ground.conversion();
        conversion.wants_final_delivery = true;
        let entity = ground.write(&conversion).unwrap();
        let header = entity.split("\r\n\r\n").nth(1).unwrap();
        let boundary = Boundary::of_message(&ground.message_id, 0);
        assert_eq!(
            header,
            format!(
                "From: Ngozi@direct.elm.example\r\n\
                 To: rui@direct.harbor.example,\r\n intake@direct.harbor.example\r\n\
                 Subject: XDM/1.0/DDM\r\n\
                 Date: Sun, 22 Nov 2026 08:05:09 +0000\r\n\
                 Message-ID: <7@direct.elm.example>\r\n\
                 MIME-Version: 1.0\r\n\
                 Disposition-Notification-To: Ngozi@direct.elm.example\r\n\
                 Disposition-Notification-Options: \
                 X-DIRECT-FINAL-DESTINATION-DELIVERY=optional,true\r\n\
                 Content-Type: multipart/mixed;\r\n boundary=\"{}\"",
                boundary.as_str()
            )
        );
        assert!(
            !ground
                .write(&ground.conversion())
                .unwrap()
                .contains("FINAL-DESTINATION")
        );
    }

    // rule: XDR-85, XDM-50, CC-3, SOAP-162, T-11e
    #[test]
    fn a_title_enters_the_subject_only_on_request_and_brings_no_field_with_it() {
        let ground = Ground::new(TITLE);
        let mut conversion = ground.conversion();
        conversion.subject_title = true;
        let entity = ground.write(&conversion).unwrap();
        // The phrase stands in clear even beside an encoded title.
        assert!(entity.contains("XDM/1.0/DDM\r\n"));
        assert!(!entity.contains("\r\nBcc:"));
        let message = inner(&entity);
        assert_eq!(
            message.subject(),
            Some("Réferral Bcc: x@y.example - XDM/1.0/DDM")
        );
    }

    // rule: XDR-86, XDM-51, XDM-52, CC-2
    #[test]
    fn a_package_message_holds_a_text_and_the_zip_and_nothing_else() {
        let ground = Ground::new("");
        let entity = ground.write(&ground.conversion()).unwrap();
        let message = inner(&entity);
        assert_eq!(
            (message.text_body_count(), message.attachment_count()),
            (1, 1)
        );
        let zip = message.attachment(0).unwrap();
        assert_eq!(zip.attachment_name(), Some("XDM00001.ZIP"));
        let kind = zip.content_type().unwrap();
        assert_eq!((kind.ctype(), kind.subtype()), ("application", Some("zip")));
        assert!(zip.contents().starts_with(b"PK\x03\x04"));
    }

    // rule: XDR-86, XDR-87, CC-4
    #[test]
    fn the_other_packagings_carry_the_documents_in_clear_names() {
        let ground = Ground::new("");
        let cases = [
            (
                DirectPackaging::XdmAndDocuments,
                "\"xdm+documents\"",
                1,
                "XDM/1.0/DDM",
            ),
            (DirectPackaging::Documents, "\"documents\"", 0, "Documents"),
        ];
        for (packaging, setting, first, subject) in cases {
            assert_eq!(serde_json::to_string(&packaging).unwrap(), setting);
            let mut conversion = ground.conversion();
            conversion.packaging = packaging;
            let entity = ground.write(&conversion).unwrap();
            let message = inner(&entity);
            assert_eq!(message.subject(), Some(subject));
            assert_eq!(message.attachment_count(), first + 2);
            let found: Vec<_> = (first..first + 2)
                .map(|part| {
                    let part = message.attachment(u32::try_from(part).unwrap()).unwrap();
                    (part.attachment_name().unwrap(), part.contents())
                })
                .collect();
            assert_eq!(
                found,
                [
                    ("Summary_A.xml", b"<a/>".as_slice()),
                    ("document2.pdf", b"%PDF-1.7")
                ]
            );
        }
    }

    // rule: XDR-84
    #[test]
    fn only_minimal_metadata_gets_recipients_and_author_and_only_where_it_has_none() {
        let ground = Ground::new("");
        let mut conversion = ground.conversion();
        let full = direct_metadata(&conversion).unwrap();
        assert!(
            full.submission_set()
                .unwrap()
                .intended_recipients
                .is_empty()
        );
        assert!(full.submission_set().unwrap().authors.is_empty());
        conversion.level = Level::Minimal;
        let minimal = direct_metadata(&conversion).unwrap();
        let set = minimal.submission_set().unwrap();
        assert_eq!(
            set.intended_recipients,
            [
                "||^^Internet^rui@direct.harbor.example",
                "||^^Internet^intake@direct.harbor.example"
            ]
        );
        assert_eq!(
            set.authors[0].telecommunications,
            ["^^Internet^Ngozi@direct.elm.example"]
        );
        let named = Ground::new(
            "<Slot name=\"intendedRecipient\"><ValueList><Value>Org</Value></ValueList></Slot>",
        );
        let mut conversion = named.conversion();
        conversion.level = Level::Minimal;
        let kept = direct_metadata(&conversion).unwrap();
        assert_eq!(kept.submission_set().unwrap().intended_recipients, ["Org"]);
    }

    // rule: XDR-82
    #[test]
    fn an_entry_that_cannot_get_its_own_uri_stops_the_conversion() {
        // The second bearer of the id would get no URI, and the first that of the second.
        let ground = Ground::new(
            "</RegistryPackage><ExtrinsicObject id=\"Doc1\"/><RegistryPackage id=\"Set2\">",
        );
        let error = direct_metadata(&ground.conversion()).unwrap_err();
        assert!(matches!(error, ConversionError::UriNotSet { number: 1 }));
        assert!(!error.is_transient());
    }

    // rule: XDR-82, XDM-15, XDM-21, XDM-22
    #[test]
    fn every_entry_gets_uri_hash_and_size_after_its_last_slot() {
        let ground = Ground::new("");
        let metadata = direct_metadata(&ground.conversion()).unwrap();
        let [first, second] = metadata.document_entries() else {
            panic!("two entries");
        };
        assert_eq!(first.uri.as_deref(), Some("DOC00001.XML"));
        assert_eq!(second.uri.as_deref(), Some("DOC00002.PDF"));
        assert_eq!(second.size.as_deref(), Some("8"));
        assert_eq!(second.hash, Some(ground.documents[1].1.hash()));
        // Slots come before the Name (XDR-5).
        let text = metadata.xml().as_str();
        assert!(text.find("DOC00001.XML").unwrap() < text.find("Summary: A").unwrap());
    }

    // rule: XDR-82, WR-11
    #[test]
    fn a_missing_document_or_recipient_is_an_error_and_final() {
        let mut ground = Ground::new("");
        ground.documents.remove(0);
        let error = ground.write(&ground.conversion()).unwrap_err();
        assert!(matches!(
            error,
            ConversionError::DocumentMissing { number: 1 }
        ));
        assert_eq!(
            (error.is_transient(), error.reason()),
            (false, Reason::ConversionFailed)
        );

        let mut ground = Ground::new("");
        ground.source.documents.remove(1);
        for packaging in [DirectPackaging::Xdm, DirectPackaging::Documents] {
            let mut conversion = ground.conversion();
            conversion.packaging = packaging;
            assert!(!ground.write(&conversion).unwrap_err().is_transient());
        }
        ground.to.clear();
        let error = ground.write(&ground.conversion()).unwrap_err();
        assert!(matches!(error, ConversionError::NoRecipient));
    }

    // rule: XDR-81, SND-6
    #[test]
    fn the_same_leg_makes_the_same_octets() {
        let ground = Ground::new(TITLE);
        let make = || ground.write(&ground.conversion()).unwrap();
        assert_eq!(make(), make());
    }

    // rule: WR-3, WR-4, T-2
    #[test]
    fn the_outer_header_repeats_routing_fields_only() {
        let ground = Ground::new(TITLE);
        let mut conversion = ground.conversion();
        conversion.subject_title = true;
        let fields =
            outer_header_fields(&conversion, "Encrypted message", ContentCipher::default());
        let header = seal_header(&fields);
        assert!(header.contains("Subject: Encrypted message\r\n"));
        assert!(header.contains("Message-ID: <7@direct.elm.example>\r\n"));
        assert!(!header.contains("ferral") && !header.contains("Disposition-Notification"));
    }

    // rule: SM-60, LIM-14
    #[test]
    fn the_estimate_bounds_what_is_made_and_is_not_far_off() {
        let mut ground = Ground::new("");
        // Does not compress: OpenSSL's cipher text of zeros.
        let octets = openssl::symm::encrypt(
            openssl::symm::Cipher::aes_128_ctr(),
            &[7; 16],
            Some(&[9; 16]),
            &vec![0; 3_000_000],
        )
        .unwrap();
        ground.source.documents[0].1 = octets;
        let mut facts = FactsSink::default();
        ground.source.pour(&mut facts).unwrap();
        for (document, facts) in ground.documents.iter_mut().zip(facts.into_facts()) {
            document.1 = facts;
        }
        let sizes: Vec<u64> = ground
            .documents
            .iter()
            .map(|(_, facts)| facts.size)
            .collect();
        let metadata_bytes = direct_metadata(&ground.conversion())
            .unwrap()
            .xml()
            .as_str()
            .len();
        for packaging in [
            DirectPackaging::Xdm,
            DirectPackaging::XdmAndDocuments,
            DirectPackaging::Documents,
        ] {
            let mut conversion = ground.conversion();
            conversion.packaging = packaging;
            let entity = ground.write(&conversion).unwrap().len() as u64;
            let least = sealed_len_estimate(entity, 2);
            let estimate = estimate_wire_bytes(packaging, metadata_bytes as u64, &sizes, 2);
            assert!(estimate >= least, "{packaging:?}: {estimate} < {least}");
            assert!(
                estimate <= least + least / 20,
                "{packaging:?}: {estimate} > {least}"
            );
        }
        // A quarter of the room of u64 does not overflow.
        estimate_wire_bytes(
            DirectPackaging::XdmAndDocuments,
            u64::MAX / 8,
            &[u64::MAX / 8; 2],
            9,
        );
    }
}
