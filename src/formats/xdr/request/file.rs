//! Reading a request from a file, for `inspect` and `convert`: whatever was saved of it.

use std::io::{self, Cursor, Read};

use super::{
    Packaging, ReadError, ReadOptions, ReceivedRequest,
    read::{Envelope, Reading, Wire, read_media},
};
use crate::formats::{
    document::DocumentSink,
    limits::Limits,
    soap::{
        Addressing, Fault,
        addressing::DirectHeaders,
        saved::{SavedHeader, bare_package},
    },
    xml::{
        kept::{KeptXml, root_name},
        names,
        pull::{Node, Pull},
    },
};

/// Octets at the beginning that tell what the file is.
const HEAD_BYTES: u64 = 64 * 1024;

/// Reads a request that was saved with its HTTP head or MIME header, as a bare MTOM package, as an envelope, as the
/// body of one, or as its SubmitObjectsRequest alone. Detection is by content.
pub fn read_file(
    file: &mut dyn Read,
    limits: &Limits,
    options: &ReadOptions,
    sink: &mut dyn DocumentSink,
) -> Result<ReceivedRequest, ReadError> {
    let mut head = Vec::new();
    (&mut *file)
        .take(HEAD_BYTES)
        .read_to_end(&mut head)
        .map_err(ReadError::Io)?;
    let (skipped, media) = match SavedHeader::find(&head) {
        // What no parser agrees on is not guessed at, here as in the listener (SOAP-7).
        Some(header) if header.is_http && header.has_content_type && header.media.is_none() => {
            return Err(ReadError::UnsupportedMediaType);
        }
        Some(header) => (header.length, header.media),
        None => (0, bare_package(&head)),
    };
    let rest = head.get(skipped..).unwrap_or_default().to_vec();
    let root = root_name(&rest, limits);
    let mut whole = Cursor::new(rest).chain(file);
    if let Some(media) = media {
        return read_media(&media, &mut whole, limits, options, sink);
    }
    let Some((namespace, local)) = root else {
        return Err(Fault::sender("SOAP-80", "neither a MIME package nor XML").into());
    };
    let packaging = match (namespace.as_str(), local.as_str()) {
        (names::LCM, "SubmitObjectsRequest") => Packaging::BareSubmission,
        (names::XDS, "ProvideAndRegisterDocumentSetRequest") => Packaging::BareBody,
        _ => Packaging::BareEnvelope,
    };
    let mut wire = Wire {
        inner: &mut whole,
        left_bytes: limits.max_message_bytes,
    };
    let mut reading = Reading::new(packaging, limits, options, sink);
    let outcome = match packaging {
        Packaging::BareSubmission => read_submission(&mut wire, limits),
        Packaging::BareBody => read_bare_body(&mut reading, &mut wire, limits),
        _ => reading.read_alone(&mut wire, None),
    };
    reading.conclude(outcome)
}

fn read_submission(wire: &mut Wire<'_>, limits: &Limits) -> Result<Envelope, ReadError> {
    let metadata = KeptXml::read(io::BufReader::new(wire), limits)?;
    Ok(Envelope {
        addressing: no_addressing(),
        direct: DirectHeaders::default(),
        metadata,
    })
}

fn read_bare_body(
    reading: &mut Reading<'_>,
    wire: &mut Wire<'_>,
    limits: &Limits,
) -> Result<Envelope, ReadError> {
    let octets = Box::new(io::BufReader::new(wire));
    let mut pull = Pull::open(octets, limits.max_metadata_bytes, limits)?;
    pull.next()?;
    let metadata = reading.read_body(&mut pull)?;
    while pull.next()? != Node::Eof {}
    drop(pull);
    reading.bind_alone();
    Ok(Envelope {
        addressing: no_addressing(),
        direct: DirectHeaders::default(),
        metadata,
    })
}

fn no_addressing() -> Addressing {
    Addressing {
        action: String::new(),
        message_id: None,
        reply_to: None,
        to: None,
        relates_to: None,
    }
}
