//! Reading a request from the wire: MTOM part by part, or a simple SOAP envelope.

use std::{
    collections::{HashMap, HashSet},
    io::{self, BufRead, BufReader, Read},
};

use super::{
    DocumentPart, Packaging, ReadError, ReadOptions, ReceivedRequest,
    body::{self, Content, FoundDocument, OneDocument},
};
use crate::formats::{
    document::{DocumentKey, DocumentSink},
    finding::Finding,
    ids::SoapMessageId,
    limits::Limits,
    soap::{
        Addressing, Fault, NHIN_REQUEST_ACTION, REQUEST_ACTION, RESPONSE_ACTION,
        addressing::{self, DirectHeaders, percent_decode},
        base64::DecodeError,
        envelope::{self, Refusal},
        fault::Subcode,
        media_type::MediaType,
        multipart::{Malformed, Multipart, PartHeader, bare_content_id, malformed},
        transfer::{Decoded, TransferDecoder, undecodable},
    },
    xdr::ErrorCode,
    xml::{
        kept::KeptXml,
        names,
        pull::{Pull, XmlError},
    },
};

/// The buffer under the XML reader where there is no multipart window.
const BUFFER_BYTES: usize = 64 * 1024;

/// Reads one request. Documents go to `sink` as they come, decoded, in wire order, and may have been given there in
/// vain: an error, or a finding that refuses, comes after them.
pub fn read(
    content_type: &str,
    body: &mut dyn Read,
    limits: &Limits,
    options: &ReadOptions,
    sink: &mut dyn DocumentSink,
) -> Result<ReceivedRequest, ReadError> {
    let media = MediaType::parse(content_type).ok_or(ReadError::UnsupportedMediaType)?;
    read_media(&media, body, limits, options, sink)
}

/// As [`read`], by a media type that is known.
pub(super) fn read_media(
    media: &MediaType,
    body: &mut dyn Read,
    limits: &Limits,
    options: &ReadOptions,
    sink: &mut dyn DocumentSink,
) -> Result<ReceivedRequest, ReadError> {
    if !media.parameter("charset").is_none_or(is_known_charset) {
        return Err(ReadError::UnsupportedMediaType);
    }
    let packaging = match media.essence() {
        "multipart/related" => Packaging::Mtom,
        // text/xml is SOAP 1.1, which is told from its envelope (SOAP-45).
        "application/soap+xml" | "text/xml" => Packaging::SimpleSoap,
        _ => return Err(ReadError::UnsupportedMediaType),
    };
    let mut wire = Wire {
        inner: body,
        left_bytes: limits.max_message_bytes,
    };
    let mut reading = Reading::new(packaging, limits, options, sink);
    let outcome = match packaging {
        Packaging::Mtom => reading.read_package(media, &mut wire),
        _ => {
            if media.essence() == "text/xml" {
                reading.warn(
                    "SOAP-5",
                    "Content-Type",
                    "SOAP 1.2 is application/soap+xml, not text/xml",
                );
            }
            reading.read_alone(&mut wire)
        }
    };
    reading.conclude(outcome)
}

fn is_known_charset(charset: &str) -> bool {
    ["utf-8", "utf8", "utf-16", "us-ascii"]
        .iter()
        .any(|known| charset.eq_ignore_ascii_case(known))
}

/// The body, which ends with [`MessageTooLarge`] past the limit.
pub(super) struct Wire<'a> {
    pub(super) inner: &'a mut dyn Read,
    pub(super) left_bytes: u64,
}

/// More octets than one message may have (LIM-1).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the message is larger than the limit")]
pub(super) struct MessageTooLarge;

impl Read for Wire<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let amount = self.inner.read(out)?;
        match self.left_bytes.checked_sub(amount as u64) {
            Some(left_bytes) => self.left_bytes = left_bytes,
            None => return Err(io::Error::other(MessageTooLarge)),
        }
        Ok(amount)
    }
}

/// What the envelope says.
pub(super) struct Envelope {
    pub(super) addressing: Addressing,
    pub(super) direct: DirectHeaders,
    pub(super) metadata: KeptXml,
}

/// One part that is not the root.
struct SeenPart {
    key: DocumentKey,
    content_id: Option<String>,
}

/// A request that is being read.
pub(super) struct Reading<'s> {
    packaging: Packaging,
    limits: &'s Limits,
    options: &'s ReadOptions,
    pub(super) sink: &'s mut dyn DocumentSink,
    pub(super) findings: Vec<Finding>,
    message_id: Option<SoapMessageId>,
    found: Vec<FoundDocument>,
    documents: Vec<DocumentPart>,
}

impl<'s> Reading<'s> {
    pub(super) fn new(
        packaging: Packaging,
        limits: &'s Limits,
        options: &'s ReadOptions,
        sink: &'s mut dyn DocumentSink,
    ) -> Self {
        Self {
            packaging,
            limits,
            options,
            sink,
            findings: Vec::new(),
            message_id: None,
            found: Vec::new(),
            documents: Vec::new(),
        }
    }

    fn warn(&mut self, rule: &'static str, location: &str, text: &str) {
        self.findings.push(Finding::warning(rule, location, text));
    }

    /// Joins what was read, or says in which packaging a fault is answered and to which message.
    pub(super) fn conclude(
        mut self,
        outcome: Result<Envelope, ReadError>,
    ) -> Result<ReceivedRequest, ReadError> {
        match outcome {
            Ok(envelope) => Ok(ReceivedRequest {
                packaging: self.packaging,
                addressing: envelope.addressing,
                address_block: envelope.direct.address_block,
                metadata_level: envelope.direct.metadata_level,
                notification_relates_to: envelope.direct.relates_to,
                metadata: envelope.metadata,
                documents: self.documents,
                findings: self.findings,
            }),
            Err(ReadError::Fault(mut fault)) => {
                fault.packaging = self.packaging;
                fault.relates_to = self.message_id.take();
                Err(ReadError::Fault(fault))
            }
            Err(ReadError::TooLarge { .. }) => Err(ReadError::TooLarge {
                max_bytes: self.limits.max_message_bytes,
            }),
            Err(other) => Err(other),
        }
    }

    /// An envelope without parts.
    pub(super) fn read_alone(&mut self, octets: &mut dyn Read) -> Result<Envelope, ReadError> {
        let buffered = Box::new(BufReader::with_capacity(BUFFER_BYTES, octets));
        let envelope = self.read_envelope(buffered)?;
        self.warn(
            "SOAP-11",
            "Content-Type",
            "ITI-41 requests should be MTOM messages",
        );
        self.bind(&[], None);
        Ok(envelope)
    }

    /// Ties the documents of a body without parts.
    pub(super) fn bind_alone(&mut self) {
        self.bind(&[], None);
    }

    fn read_envelope(&mut self, octets: Box<dyn BufRead + '_>) -> Result<Envelope, ReadError> {
        let mut pull = Pull::open(octets, self.limits.max_metadata_bytes, self.limits)?;
        let blocks = envelope::read_head(&mut pull, false)?;
        // Known as early as possible: every fault from here on relates to it.
        self.message_id = blocks
            .iter()
            .find(|block| block.is(names::WSA, "MessageID"))
            .and_then(|block| block.trimmed().parse().ok());
        // SOAP-46: before anything else is looked at.
        envelope::check_must_understand(&blocks, self.options.saml_ignored, &mut self.findings)?;
        let addressing = addressing::read_addressing(&blocks, &mut self.findings)?;
        addressing::check_request(&addressing, &[REQUEST_ACTION, NHIN_REQUEST_ACTION])?;
        let direct = addressing::read_direct(
            &blocks,
            self.options.strict_address_block,
            self.limits,
            &mut self.findings,
        )?;
        if self.options.require_mtom && self.packaging != Packaging::Mtom {
            return Err(Fault::sender("SOAP-11", "the request must be an MTOM message").into());
        }
        envelope::enter_body(&mut pull)?;
        check_body_element(&pull)?;
        let metadata = self.read_body(&mut pull)?;
        envelope::finish(&mut pull)?;
        Ok(Envelope {
            addressing,
            direct,
            metadata,
        })
    }

    /// Reads xds:ProvideAndRegisterDocumentSetRequest, whose start tag was read last.
    pub(super) fn read_body(&mut self, pull: &mut Pull<'_>) -> Result<KeptXml, ReadError> {
        body::read(
            pull,
            self.limits,
            self.sink,
            &mut self.findings,
            &mut self.found,
        )
    }

    fn read_package(
        &mut self,
        media: &MediaType,
        wire: &mut Wire<'_>,
    ) -> Result<Envelope, ReadError> {
        let Some(boundary) = media.parameter("boundary") else {
            return Err(
                Fault::sender("SOAP-3", "multipart/related needs a boundary parameter").into(),
            );
        };
        let is_xop = |text: &str| text.eq_ignore_ascii_case("application/xop+xml");
        if !media.parameter("type").is_some_and(is_xop) {
            self.warn(
                "SOAP-3",
                "Content-Type",
                "the type parameter should be application/xop+xml",
            );
        }
        let start = media.parameter("start").map(bare_content_id);
        let mut package = Multipart::open(wire, boundary, self.limits).map_err(from_io)?;
        let mut content_ids = HashSet::new();
        let mut parts = Vec::new();
        let mut envelope = None;
        let mut root_id = None;
        for index in 0u32.. {
            let Some(header) = package.next_part().map_err(from_io)? else {
                break;
            };
            if let Some(id) = &header.content_id
                && !content_ids.insert(id.clone())
            {
                return Err(Fault::sender("SOAP-31", "two parts have one Content-ID").into());
            }
            let is_root = match start {
                Some(start) => header.content_id.as_deref() == Some(start),
                None => index == 0,
            };
            if is_root {
                root_id = header.content_id.clone();
                envelope = Some(self.read_root(&header, &mut package)?);
                continue;
            }
            let key = DocumentKey::Part(index);
            let is_wanted = match (&header.content_id, &envelope) {
                (None, _) => false,
                // The root has not come yet: every part may be a document.
                (Some(_), None) => true,
                (Some(id), Some(_)) => self.found.iter().any(|document| document.names(id)),
            };
            if is_wanted {
                self.read_part(key, &header, &mut package)?;
            }
            parts.push(SeenPart {
                key,
                content_id: header.content_id,
            });
        }
        if package.lacks_final_delimiter() {
            self.warn(
                "SOAP-30",
                "multipart/related",
                "the closing boundary lacks its final --",
            );
        }
        let Some(envelope) = envelope else {
            return Err(Fault::sender("SOAP-20", "root part not found").into());
        };
        self.bind(&parts, root_id.as_deref());
        Ok(envelope)
    }

    fn read_root(
        &mut self,
        header: &PartHeader,
        package: &mut Multipart<'_>,
    ) -> Result<Envelope, ReadError> {
        let media = header.content_type.as_deref().and_then(MediaType::parse);
        if media
            .as_ref()
            .is_none_or(|media| media.essence() != "application/xop+xml")
        {
            self.warn(
                "SOAP-4",
                "root part",
                "its Content-Type should be application/xop+xml",
            );
        }
        let charset = media.as_ref().and_then(|media| media.parameter("charset"));
        if !charset.is_none_or(is_known_charset) {
            return Err(ReadError::UnsupportedMediaType);
        }
        match decoder(header)? {
            TransferDecoder::Identity => self.read_envelope(Box::new(package)),
            decoder => self.read_envelope(Box::new(Decoded::new(package, decoder))),
        }
    }

    fn read_part(
        &mut self,
        key: DocumentKey,
        header: &PartHeader,
        package: &mut Multipart<'_>,
    ) -> Result<(), ReadError> {
        let mut decoder = decoder(header)?;
        let mut document = OneDocument::begin(self.sink, key, self.limits.max_document_bytes)
            .map_err(ReadError::Sink)?;
        loop {
            let octets = package.fill_buf().map_err(from_io)?;
            if octets.is_empty() {
                break;
            }
            let amount = octets.len();
            decoder
                .feed(octets, &mut |piece| document.write(piece))
                .map_err(from_decoder)?;
            package.consume(amount);
        }
        decoder
            .finish(&mut |piece| document.write(piece))
            .map_err(from_decoder)?;
        if document.end().map_err(ReadError::Sink)? {
            let location = header.content_id.as_deref().unwrap_or_default();
            self.findings.push(body::document_too_large(
                &format!("part {location}"),
                self.limits,
            ));
        }
        Ok(())
    }

    /// Ties every Document to its octets (SOAP-22, SOAP-24, SOAP-28, SOAP-32).
    fn bind(&mut self, parts: &[SeenPart], root_id: Option<&str>) {
        let by_id: HashMap<&str, DocumentKey> = parts
            .iter()
            .filter_map(|part| part.content_id.as_deref().map(|id| (id, part.key)))
            .collect();
        let mut used = HashSet::new();
        for document in std::mem::take(&mut self.found) {
            let key = match &document.content {
                Content::Inline(key) => *key,
                Content::Unusable => continue,
                Content::Include(id) => {
                    let decoded = percent_decode(id).filter(|decoded| decoded != id);
                    // Decoded first, then as it stands (SOAP-22).
                    let names = [decoded.as_deref(), Some(id.as_str())];
                    let Some(key) = names.iter().flatten().find_map(|name| by_id.get(name)) else {
                        let is_root = names.iter().flatten().any(|name| root_id == Some(*name));
                        self.findings.push(if is_root {
                            document.error(
                                "T-10c",
                                ErrorCode::XdsRepositoryError,
                                "xop:Include names the root part",
                            )
                        } else {
                            document.error(
                                "SOAP-24",
                                ErrorCode::XdsMissingDocument,
                                "xop:Include names no part of the package",
                            )
                        });
                        continue;
                    };
                    if !used.insert(*key) && !self.options.shared_parts {
                        self.findings.push(document.error(
                            "SOAP-32",
                            ErrorCode::XdsRepositoryError,
                            "several documents name one part",
                        ));
                        continue;
                    }
                    *key
                }
            };
            self.documents.push(DocumentPart {
                document_id: document.id,
                key,
            });
        }
        for part in parts {
            match &part.content_id {
                None => self.warn(
                    "SOAP-28",
                    "multipart/related",
                    "a part without Content-ID is ignored",
                ),
                Some(id) if !used.contains(&part.key) => self.findings.push(Finding::error(
                    "SOAP-28",
                    ErrorCode::XdsMissingDocumentMetadata,
                    format!("part {}", body::cut(id)),
                    "no xop:Include names this part",
                )),
                Some(_) => {}
            }
        }
    }
}

fn decoder(header: &PartHeader) -> Result<TransferDecoder, ReadError> {
    TransferDecoder::of(header.transfer_encoding.as_deref()).ok_or_else(|| {
        from_io(malformed(
            "SOAP-26",
            "a Content-Transfer-Encoding other than binary, 8bit, 7bit, base64, quoted-printable",
        ))
    })
}

/// SOAP-42, SOAP-86.
fn check_body_element(pull: &Pull<'_>) -> Result<(), ReadError> {
    if pull.is(names::XDS, "ProvideAndRegisterDocumentSetRequest") {
        return Ok(());
    }
    if pull.is(names::RS, "RegistryResponse") {
        let fault = Fault::sender(
            "SOAP-86",
            format!("wsa:Action names a request, the body holds an answer ({RESPONSE_ACTION})"),
        );
        return Err(fault
            .with_subcodes(&[Subcode::InvalidAddressingHeader, Subcode::ActionMismatch])
            .into());
    }
    Err(Fault::sender(
        "SOAP-42",
        "soap:Body must hold xds:ProvideAndRegisterDocumentSetRequest",
    )
    .into())
}

/// Who is to blame for a failure to read.
pub(super) fn from_io(error: io::Error) -> ReadError {
    let payload = error.get_ref();
    if let Some(malformed) = payload.and_then(|inner| inner.downcast_ref::<Malformed>()) {
        return Fault::sender(malformed.rule, malformed.text).into();
    }
    if payload.is_some_and(|inner| inner.is::<MessageTooLarge>()) {
        // The limit itself is filled in where it is known.
        return ReadError::TooLarge { max_bytes: 0 };
    }
    ReadError::Io(error)
}

fn from_decoder(error: DecodeError) -> ReadError {
    match error {
        DecodeError::NotBase64 => from_io(undecodable()),
        DecodeError::Sink(error) => ReadError::Sink(error),
    }
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

impl From<XmlError> for ReadError {
    fn from(error: XmlError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<Refusal> for ReadError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Fault(fault) => Self::Fault(fault),
            Refusal::Io(error) => from_io(error),
        }
    }
}
