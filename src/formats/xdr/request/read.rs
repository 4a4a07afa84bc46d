//! Reading a request from the wire: MTOM part by part, or a simple SOAP envelope.

use std::{
    collections::HashSet,
    io::{self, BufRead, BufReader, Read},
};

use super::{
    DocumentPart, Packaging, ReadError, ReadOptions, ReceivedRequest,
    body::{self, FoundDocument},
};
use crate::formats::{
    document::{DocumentKey, DocumentSink},
    finding::Finding,
    limits::Limits,
    soap::{
        Addressing, Fault, NHIN_REQUEST_ACTION, REQUEST_ACTION, RESPONSE_ACTION,
        addressing::{self, DirectHeaders, Origin},
        envelope::{self, Head, Refusal},
        fault::Subcode,
        media_type::MediaType,
        multipart::Malformed,
        schema,
    },
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
                    "SOAP 1.2 as text/xml; it should be application/soap+xml",
                );
            }
            reading.read_alone(&mut wire, media.parameter("charset"))
        }
    };
    reading.conclude(outcome)
}

/// SOAP-8.
pub(super) fn is_known_charset(charset: &str) -> bool {
    let is_utf8 = ["utf-8", "utf8", "us-ascii"]
        .iter()
        .any(|known| charset.eq_ignore_ascii_case(known));
    is_utf8 || is_utf16(charset)
}

fn is_utf16(charset: &str) -> bool {
    ["utf-16", "utf-16le", "utf-16be"]
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

/// A request that is being read.
pub(super) struct Reading<'s> {
    packaging: Packaging,
    pub(super) limits: &'s Limits,
    pub(super) options: &'s ReadOptions,
    pub(super) sink: &'s mut dyn DocumentSink,
    pub(super) findings: Vec<Finding>,
    origin: Origin,
    pub(super) found: Vec<FoundDocument>,
    pub(super) documents: Vec<DocumentPart>,
    /// Parts beyond the limit of one document (LIM-2).
    pub(super) too_large: HashSet<DocumentKey>,
    /// The ids of documents that are left out.
    pub(super) unusable: Vec<String>,
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
            origin: Origin::default(),
            found: Vec::new(),
            documents: Vec::new(),
            too_large: HashSet::new(),
            unusable: Vec::new(),
        }
    }

    pub(super) fn warn(&mut self, rule: &'static str, location: &str, text: &str) {
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
                unusable_documents: self.unusable,
                findings: self.findings,
            }),
            Err(ReadError::Fault(mut fault)) => {
                fault.packaging = self.packaging;
                fault.relates_to = self.origin.message_id.take();
                fault.is_unwanted = self.origin.wants_no_answer;
                Err(ReadError::Fault(fault))
            }
            Err(ReadError::TooLarge { .. }) => Err(ReadError::TooLarge {
                max_bytes: self.limits.max_message_bytes,
            }),
            Err(other) => Err(other),
        }
    }

    /// An envelope without parts.
    pub(super) fn read_alone(
        &mut self,
        octets: &mut dyn Read,
        charset: Option<&str>,
    ) -> Result<Envelope, ReadError> {
        let buffered = Box::new(BufReader::with_capacity(BUFFER_BYTES, octets));
        let envelope = self.read_envelope(buffered, charset)?;
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

    /// Reads an envelope; `charset` is what its Content-Type says.
    pub(super) fn read_envelope(
        &mut self,
        octets: Box<dyn BufRead + '_>,
        charset: Option<&str>,
    ) -> Result<Envelope, ReadError> {
        let mut pull = Pull::open(octets, self.limits.max_metadata_bytes, self.limits)?;
        if charset.is_some_and(|charset| is_utf16(charset) != pull.is_utf16()) {
            self.warn(
                "SOAP-8",
                "Content-Type",
                "the charset is another than that of the envelope, which was read by its byte order mark; it should be the same",
            );
        }
        let mut head = Head {
            is_strict: self.options.validate_schema,
            ..Head::default()
        };
        let read = envelope::read_head(&mut pull, false, &mut head);
        let blocks = &head.blocks;
        // Known as early as possible: every fault from here on relates to it.
        self.origin = Origin::of(blocks);
        read?;
        // SOAP-46: before anything else is looked at.
        envelope::check_must_understand(blocks, self.options.saml_ignored, &mut self.findings)?;
        let addressing = addressing::read_addressing(blocks, &mut self.findings)?;
        addressing::check_request(&addressing, &[REQUEST_ACTION, NHIN_REQUEST_ACTION])?;
        addressing::tell_missing(blocks, &mut self.findings);
        let direct = addressing::read_direct(
            blocks,
            self.options.strict_address_block,
            self.limits,
            &mut self.findings,
        )?;
        self.findings.append(&mut head.findings);
        if let Some(header) = head.text.take() {
            self.findings
                .extend(schema::violations(&header, self.limits)?);
        }
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
