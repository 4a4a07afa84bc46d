//! Reading an answer, or the fault in its place.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use super::{RegistryError, RegistryResponse, Status, WARNING};
use crate::formats::{
    finding::Severity,
    limits::Limits,
    soap::{
        Addressing, ReceivedFault,
        addressing::read_addressing,
        envelope::{self, Head, Refusal},
        header::read_element,
        media_type::MediaType,
        multipart::{Malformed, Multipart, bare_content_id},
        saved::{SavedHeader, bare_package},
        transfer::{Decoded, TransferDecoder},
    },
    xdr::ErrorCode,
    xml::{
        names,
        pull::{Node, Pull, XmlError},
    },
};

/// Elements that a fault may hold.
const MAX_FAULT_ELEMENTS: usize = 200;
/// RegistryErrors that are kept of an answer; the rest is passed over.
const MAX_ERRORS_READ: usize = 1_000;

/// What a peer answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A RegistryResponse.
    Response(RegistryResponse),
    /// A SOAP fault.
    Fault(ReceivedFault),
}

/// An answer with its addressing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedAnswer {
    /// The headers; `None` for a RegistryResponse without envelope.
    pub addressing: Option<Addressing>,
    /// What it says.
    pub answer: Answer,
}

/// Why an answer could not be understood. What became of the request is not known then.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It is no answer in any form that is read.
    #[error("the answer is not one to ITI-41: {text}")]
    Unreadable {
        /// What is wrong; no received value in it.
        text: String,
    },
    /// It did not come to its end.
    #[error("the answer did not come to its end")]
    Io(#[source] io::Error),
}

impl AnswerError {
    fn unreadable(text: impl Into<String>) -> Self {
        Self::Unreadable { text: text.into() }
    }

    fn from_io(error: io::Error) -> Self {
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Malformed>())
        {
            Some(malformed) => Self::unreadable(malformed.text),
            None => Self::Io(error),
        }
    }
}

impl From<XmlError> for AnswerError {
    fn from(error: XmlError) -> Self {
        match error {
            XmlError::Refused { text, .. } => Self::unreadable(text),
            XmlError::Io(error) => Self::from_io(error),
        }
    }
}

impl From<Refusal> for AnswerError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Fault(fault) => Self::unreadable(fault.reason),
            Refusal::Io(error) => Self::from_io(error),
        }
    }
}

/// Reads an answer, whatever its HTTP status (SOAP-94): MTOM, simple SOAP of either version, or a bare
/// RegistryResponse.
pub fn read(
    content_type: &str,
    body: &mut dyn Read,
    limits: &Limits,
) -> Result<ReceivedAnswer, AnswerError> {
    let media = MediaType::parse(content_type)
        .ok_or_else(|| AnswerError::unreadable("it has no readable Content-Type"))?;
    let mut body = body.take(limits.max_message_bytes);
    match media.essence() {
        "multipart/related" => read_package(&media, &mut body, limits),
        "application/soap+xml" | "text/xml" | "application/xml" => {
            read_xml(Box::new(BufReader::new(body)), limits)
        }
        _ => Err(AnswerError::unreadable(
            "its Content-Type is not that of a SOAP message",
        )),
    }
}

/// Reads an answer from a file: as it was saved with its HTTP head or MIME header, an envelope, a bare
/// RegistryResponse, or an MTOM package by its first line.
pub fn read_file(file: &mut dyn Read, limits: &Limits) -> Result<ReceivedAnswer, AnswerError> {
    let mut octets = Vec::new();
    file.take(limits.max_metadata_bytes)
        .read_to_end(&mut octets)
        .map_err(AnswerError::Io)?;
    let (skipped, media) = match SavedHeader::find(&octets) {
        Some(header) => (header.length, header.media),
        None => (0, bare_package(&octets)),
    };
    let text = octets.get(skipped..).unwrap_or_default().trim_ascii_start();
    match media.filter(|media| media.essence() == "multipart/related") {
        Some(media) => read_package(&media, &mut Cursor::new(text), limits),
        None => read_xml(Box::new(Cursor::new(text)), limits),
    }
}

fn read_package(
    media: &MediaType,
    body: &mut dyn Read,
    limits: &Limits,
) -> Result<ReceivedAnswer, AnswerError> {
    let boundary = media
        .parameter("boundary")
        .ok_or_else(|| AnswerError::unreadable("its Content-Type has no boundary"))?;
    let start = media.parameter("start").map(bare_content_id);
    let mut package = Multipart::open(body, boundary, limits).map_err(AnswerError::from_io)?;
    while let Some(header) = package.next_part().map_err(AnswerError::from_io)? {
        let is_root = start.is_none_or(|start| header.content_id.as_deref() == Some(start));
        if is_root {
            let decoder =
                TransferDecoder::of(header.transfer_encoding.as_deref()).ok_or_else(|| {
                    AnswerError::unreadable(
                        "its root part has an unknown Content-Transfer-Encoding",
                    )
                })?;
            return read_xml(Box::new(Decoded::new(&mut package, decoder)), limits);
        }
    }
    Err(AnswerError::unreadable("its root part was not found"))
}

fn read_xml(octets: Box<dyn BufRead + '_>, limits: &Limits) -> Result<ReceivedAnswer, AnswerError> {
    let mut pull = Pull::open(octets, limits.max_metadata_bytes, limits)?;
    pull.next()?;
    if pull.is(names::RS, "RegistryResponse") {
        let answer = Answer::Response(read_response(&mut pull)?);
        while pull.next()? != Node::Eof {}
        return Ok(ReceivedAnswer {
            addressing: None,
            answer,
        });
    }
    let mut head = Head::default();
    envelope::continue_head(&mut pull, true, &mut head)?;
    let addressing = read_addressing(&head.blocks, &mut Vec::new()).ok();
    envelope::enter_body(&mut pull)?;
    let answer = match (pull.namespace(), pull.local()) {
        (names::RS, "RegistryResponse") => Answer::Response(read_response(&mut pull)?),
        (names::SOAP12 | names::SOAP11, "Fault") => {
            let mut left = MAX_FAULT_ELEMENTS;
            Answer::Fault(ReceivedFault::of(&read_element(&mut pull, &mut left)?))
        }
        _ => {
            return Err(AnswerError::unreadable(
                "soap:Body holds neither rs:RegistryResponse nor soap:Fault",
            ));
        }
    };
    envelope::finish(&mut pull)?;
    Ok(ReceivedAnswer { addressing, answer })
}

/// Reads the element whose start tag was read last, by its attributes and never by its text (XDR-45).
fn read_response(pull: &mut Pull<'_>) -> Result<RegistryResponse, AnswerError> {
    let status = pull
        .attribute("", "status")
        .ok_or_else(|| AnswerError::unreadable("rs:RegistryResponse has no status"))?;
    let mut response = RegistryResponse {
        status: Status::of(status.trim()),
        request_id: pull.attribute("", "requestId"),
        errors: Vec::new(),
    };
    let outside = pull.depth().saturating_sub(1);
    while pull.depth() > outside {
        if pull.next()? == Node::Start
            && pull.is(names::RS, "RegistryError")
            && response.errors.len() < MAX_ERRORS_READ
        {
            response.errors.push(read_error(pull));
        }
    }
    Ok(response)
}

fn read_error(pull: &Pull<'_>) -> RegistryError {
    let code = pull.attribute("", "errorCode").unwrap_or_default();
    // Absent means Error (XDR-44).
    let severity = match pull.attribute("", "severity").as_deref().map(str::trim) {
        Some(WARNING) => Severity::Warning,
        _ => Severity::Error,
    };
    RegistryError {
        code: code.trim().parse().unwrap_or(ErrorCode::XdsRepositoryError),
        severity,
        context: pull.attribute("", "codeContext").unwrap_or_default(),
        location: pull
            .attribute("", "location")
            .filter(|location| !location.is_empty()),
    }
}
