//! Documents as plain attachments beside or instead of a package (XDR-86, XDR-87).

use std::io::{self, Write};

use super::{ConversionError, file_names::file_names};
use crate::formats::{
    document::{DocumentKey, DocumentSink},
    mime::write::{Attachment, FileName, MediaType, Multipart},
};

/// How one document is attached.
pub(super) struct PlannedAttachment {
    media_type: MediaType,
    name: String,
}

impl PlannedAttachment {
    /// The attachments of documents with these titles and media types.
    pub(super) fn plan<'a>(
        documents: impl Iterator<Item = (Option<&'a str>, &'a str)> + Clone,
    ) -> Vec<Self> {
        let names = file_names(documents.clone());
        names
            .into_iter()
            .zip(documents)
            .map(|(name, (_, media_type))| Self {
                media_type: media_type
                    .parse()
                    .ok()
                    // A composite type may not be in base64 (RFC 2045 §6.4), and a reader would take its parts for
                    // parts of the message: such a document travels as mere octets.
                    .filter(|media_type: &MediaType| !media_type.is_composite())
                    .unwrap_or_else(MediaType::octet_stream),
                name,
            })
            .collect()
    }
}

/// Writes documents as attachments, in the order in which they were planned.
pub(super) struct AttachmentSink<W: Write> {
    state: State<W>,
    planned: std::vec::IntoIter<PlannedAttachment>,
}

enum State<W: Write> {
    Between(Multipart<W>),
    Within(Attachment<W>),
    /// Writing failed before.
    Broken,
}

impl<W: Write> AttachmentSink<W> {
    pub(super) fn new(message: Multipart<W>, planned: Vec<PlannedAttachment>) -> Self {
        Self {
            state: State::Between(message),
            planned: planned.into_iter(),
        }
    }

    /// The message, once every document was attached.
    pub(super) fn finish(self) -> Result<Multipart<W>, ConversionError> {
        match self.state {
            State::Between(message) if self.planned.len() == 0 => Ok(message),
            State::Between(_) | State::Within(_) | State::Broken => Err(out_of_turn().into()),
        }
    }
}

fn out_of_turn() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a document was begun or ended out of turn",
    )
}

impl<W: Write> DocumentSink for AttachmentSink<W> {
    fn begin(&mut self, _: DocumentKey) -> io::Result<()> {
        let (State::Between(message), Some(planned)) = (
            std::mem::replace(&mut self.state, State::Broken),
            self.planned.next(),
        ) else {
            return Err(out_of_turn());
        };
        let name: FileName = planned.name.parse().map_err(io::Error::other)?;
        self.state = State::Within(message.attachment(&planned.media_type, &name)?);
        Ok(())
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.state {
            State::Within(attachment) => attachment.write_all(octets),
            State::Between(_) | State::Broken => Err(out_of_turn()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        let State::Within(attachment) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(out_of_turn());
        };
        self.state = State::Between(attachment.finish()?);
        Ok(())
    }
}
