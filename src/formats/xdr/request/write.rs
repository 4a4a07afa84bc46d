//! Writing a request: the kept metadata inside a new envelope, the documents as they stream.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use super::Packaging;
use crate::formats::{
    document::{DocumentKey, DocumentSink, DocumentSource},
    ids::SoapMessageId,
    soap::{
        ANONYMOUS, AddressBlock, MetadataLevel,
        base64::Base64OneLine,
        package::{PackageNames, simple_content_type},
    },
    xml::{kept::KeptXml, names, write::XmlWriter},
};

/// Octets that are encoded before they are written.
const ENCODED_AT_ONCE_BYTES: usize = 48 * 1024;

/// A request to be written.
#[derive(Clone, Debug)]
pub struct OutgoingRequest<'a> {
    /// Its id; a repetition has the same (XDR-109).
    pub message_id: &'a SoapMessageId,
    /// Its Action: [`crate::formats::soap::REQUEST_ACTION`], unless the partner wants the other (NHIN-20).
    pub action: &'a str,
    /// The endpoint's URL (SOAP-65).
    pub to: &'a str,
    /// The Direct addresses.
    pub address_block: Option<&'a AddressBlock>,
    /// The metadata-level header.
    pub metadata_level: Option<MetadataLevel>,
    /// `lcm:SubmitObjectsRequest`, written as it is.
    pub metadata: &'a KeptXml,
    /// The documents; each is poured by the source under its key.
    pub documents: &'a [OutgoingDocument],
}

/// One document of an [`OutgoingRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingDocument {
    /// `xds:Document/@id`: the id of its ExtrinsicObject.
    pub document_id: String,
    /// The key that the source pours it under.
    pub key: DocumentKey,
    /// Its mimeType, for the header of its part.
    pub mime_type: String,
}

impl OutgoingRequest<'_> {
    /// The Content-Type of the request in that packaging.
    pub fn content_type(&self, packaging: Packaging) -> String {
        match packaging {
            Packaging::Mtom => PackageNames::of(self.message_id).content_type(self.action),
            _ => simple_content_type(self.action),
        }
    }

    /// The document of the key; in the second round the second one that has this key, and so on.
    fn find(&self, key: DocumentKey, round: usize) -> Option<(usize, &OutgoingDocument)> {
        self.documents
            .iter()
            .enumerate()
            .filter(|(_, document)| document.key == key)
            .nth(round)
    }

    /// How often the source has to pour: two documents may be the same octets (SOAP-32), and each gets its own part.
    fn rounds(&self) -> usize {
        let mut counts = HashMap::new();
        for document in self.documents {
            *counts.entry(document.key).or_insert(0usize) += 1;
        }
        counts.into_values().max().unwrap_or(1)
    }

    /// Everything up to the first document.
    fn open_envelope(&self) -> XmlWriter {
        let mut writer = XmlWriter::document();
        writer.start(
            "soap:Envelope",
            &[("xmlns:soap", names::SOAP12), ("xmlns:wsa", names::WSA)],
        );
        writer.start("soap:Header", &[]);
        let understood = [("soap:mustUnderstand", "true")];
        writer.leaf("wsa:Action", &understood, self.action);
        writer.leaf("wsa:MessageID", &understood, self.message_id.as_str());
        writer.start("wsa:ReplyTo", &[]);
        writer.leaf("wsa:Address", &[], ANONYMOUS);
        writer.end();
        writer.leaf("wsa:To", &understood, self.to);
        if let Some(block) = self.address_block {
            block.write(&mut writer);
        }
        if let Some(level) = self.metadata_level {
            writer.leaf(
                "direct:metadata-level",
                &[("xmlns:direct", names::DIRECT)],
                level.as_str(),
            );
        }
        writer.end();
        writer.start("soap:Body", &[]);
        writer.start(
            "xds:ProvideAndRegisterDocumentSetRequest",
            &[("xmlns:xds", names::XDS)],
        );
        writer.raw(self.metadata.as_str());
        writer
    }
}

/// Writes the request as MTOM (SOAP-3, SOAP-4), one part for each document.
pub fn write_mtom(
    request: &OutgoingRequest<'_>,
    documents: &mut dyn DocumentSource,
    out: &mut dyn Write,
) -> io::Result<()> {
    let package = PackageNames::of(request.message_id);
    package.write_root_head(out)?;
    let mut envelope = request.open_envelope();
    for (index, document) in request.documents.iter().enumerate() {
        envelope.start("xds:Document", &[("id", &document.document_id)]);
        let href = format!("cid:{}", package.document_id(index));
        envelope.empty("xop:Include", &[("xmlns:xop", names::XOP), ("href", &href)]);
        envelope.end();
    }
    out.write_all(envelope.finish().as_bytes())?;
    let mut parts = Parts {
        request,
        package: &package,
        out,
        is_open: false,
        round: 0,
        written: 0,
    };
    for round in 0..request.rounds() {
        parts.round = round;
        documents.pour(&mut parts)?;
    }
    let written = parts.written;
    check_all_came(request, written)?;
    package.write_end(out)
}

/// Writes the request as a simple SOAP envelope, documents as base64 in one line (SOAP-29).
pub fn write_simple(
    request: &OutgoingRequest<'_>,
    documents: &mut dyn DocumentSource,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut envelope = request.open_envelope();
    out.write_all(envelope.take().as_bytes())?;
    let mut inline = Inline {
        request,
        envelope,
        open: None,
        out,
        round: 0,
        written: 0,
    };
    for round in 0..request.rounds() {
        inline.round = round;
        documents.pour(&mut inline)?;
    }
    let Inline {
        envelope,
        written,
        out,
        ..
    } = inline;
    check_all_came(request, written)?;
    out.write_all(envelope.finish().as_bytes())
}

fn check_all_came(request: &OutgoingRequest<'_>, written: usize) -> io::Result<()> {
    if written == request.documents.len() {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the source did not pour every document of the request exactly once",
        ))
    }
}

/// Writes one part for each document; those that the request does not name are passed over.
struct Parts<'a> {
    request: &'a OutgoingRequest<'a>,
    package: &'a PackageNames,
    out: &'a mut dyn Write,
    is_open: bool,
    round: usize,
    written: usize,
}

impl DocumentSink for Parts<'_> {
    fn begin(&mut self, key: DocumentKey) -> io::Result<()> {
        self.is_open = false;
        if let Some((index, document)) = self.request.find(key, self.round) {
            self.package
                .write_document_head(index, &document.mime_type, self.out)?;
            self.is_open = true;
            self.written += 1;
        }
        Ok(())
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        if self.is_open {
            self.out.write_all(octets)
        } else {
            Ok(())
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.is_open = false;
        Ok(())
    }
}

/// Writes one xds:Document element for each document.
struct Inline<'a> {
    request: &'a OutgoingRequest<'a>,
    envelope: XmlWriter,
    open: Option<Base64OneLine<Vec<u8>>>,
    out: &'a mut dyn Write,
    round: usize,
    written: usize,
}

impl DocumentSink for Inline<'_> {
    fn begin(&mut self, key: DocumentKey) -> io::Result<()> {
        self.open = None;
        if let Some((_, document)) = self.request.find(key, self.round) {
            self.envelope
                .start("xds:Document", &[("id", &document.document_id)]);
            self.out.write_all(self.envelope.take().as_bytes())?;
            self.open = Some(Base64OneLine::new(Vec::new()));
            self.written += 1;
        }
        Ok(())
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let Some(encoder) = &mut self.open else {
            return Ok(());
        };
        // In blocks, however much comes at once.
        for block in octets.chunks(ENCODED_AT_ONCE_BYTES) {
            encoder.write_all(block)?;
            self.out.write_all(&encoder.take_encoded())?;
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(encoder) = self.open.take() else {
            return Ok(());
        };
        self.out.write_all(&encoder.finish()?)?;
        self.envelope.end();
        self.out.write_all(self.envelope.take().as_bytes())
    }
}
