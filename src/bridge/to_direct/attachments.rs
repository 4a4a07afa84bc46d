//! Documents as plain attachments beside or instead of a package (XDR-86, XDR-87).

use std::{
    collections::HashSet,
    io::{self, Write},
};

use super::ConversionError;
use crate::formats::{
    document::{DocumentKey, DocumentSink},
    mime::write::{Attachment, FileName, MediaType, Multipart},
    xdm::names::extension_for,
};

/// Longest file name that is made from a title (XDR-87).
const MAX_NAME_CHARS: usize = 64;

/// How one document is attached.
pub(super) struct PlannedAttachment {
    key: DocumentKey,
    media_type: MediaType,
    name: String,
    is_given: bool,
}

impl PlannedAttachment {
    /// A name of its own for each document, from its title: `[A-Za-z0-9._-]` only, with the extension of its media
    /// type and a counter on a clash (XDR-87).
    pub(super) fn plan<'a>(
        documents: impl Iterator<Item = (DocumentKey, Option<&'a str>, &'a str)>,
    ) -> Vec<Self> {
        let mut taken = HashSet::new();
        (1..)
            .zip(documents)
            .map(|(number, (key, title, media_type))| {
                let extension = extension_for(media_type).map_or(String::new(), |extension| {
                    format!(".{}", extension.to_ascii_lowercase())
                });
                let stem = stem(title, &extension).unwrap_or_else(|| format!("document{number}"));
                let name = (1..)
                    .map(|count| with_counter(&stem, count, &extension))
                    .find(|name| taken.insert(name.to_ascii_lowercase()))
                    .unwrap_or_default();
                Self {
                    key,
                    media_type: media_type
                        .parse()
                        .unwrap_or_else(|_| MediaType::octet_stream()),
                    name,
                    is_given: false,
                }
            })
            .collect()
    }
}

/// The safe characters of a title, without the extension if the title has it already.
fn stem(title: Option<&str>, extension: &str) -> Option<String> {
    let mut safe = String::new();
    for character in title?.chars() {
        if character.is_ascii_alphanumeric() || ".-_".contains(character) {
            safe.push(character);
        } else if !safe.ends_with('_') {
            safe.push('_');
        }
    }
    let kept = safe.trim_matches(['.', '_', '-']);
    let cut = kept.len().saturating_sub(extension.len());
    let bare = match kept.split_at_checked(cut) {
        Some((bare, end)) if end.eq_ignore_ascii_case(extension) => bare,
        _ => kept,
    };
    let bare = bare.trim_end_matches(['.', '_', '-']);
    (!bare.is_empty()).then(|| bare.to_owned())
}

fn with_counter(stem: &str, count: usize, extension: &str) -> String {
    let counter = if count == 1 {
        String::new()
    } else {
        format!("-{count}")
    };
    // All characters are ASCII, so that any cut is between two of them.
    let room = MAX_NAME_CHARS.saturating_sub(counter.len() + extension.len());
    let stem = stem.get(..room).unwrap_or(stem);
    format!("{stem}{counter}{extension}")
}

/// Writes poured documents as attachments.
pub(super) struct AttachmentSink<W: Write> {
    state: State<W>,
    planned: Vec<PlannedAttachment>,
}

enum State<W: Write> {
    Between(Multipart<W>),
    Within(Attachment<W>),
    /// The document that is poured is not wanted.
    PassingOver(Multipart<W>),
    /// Writing failed before.
    Broken,
}

impl<W: Write> AttachmentSink<W> {
    pub(super) fn new(message: Multipart<W>, planned: Vec<PlannedAttachment>) -> Self {
        Self {
            state: State::Between(message),
            planned,
        }
    }

    /// The message, once every document was attached.
    pub(super) fn finish(self) -> Result<Multipart<W>, ConversionError> {
        if let Some(index) = self.planned.iter().position(|planned| !planned.is_given) {
            return Err(ConversionError::DocumentMissing { number: index + 1 });
        }
        match self.state {
            State::Between(message) => Ok(message),
            State::Within(_) | State::PassingOver(_) | State::Broken => Err(unfinished().into()),
        }
    }
}

fn unfinished() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a document was begun or ended out of turn",
    )
}

impl<W: Write> DocumentSink for AttachmentSink<W> {
    fn begin(&mut self, key: DocumentKey) -> io::Result<()> {
        let State::Between(message) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(unfinished());
        };
        let planned = self
            .planned
            .iter_mut()
            .find(|planned| planned.key == key && !planned.is_given);
        self.state = match planned {
            None => State::PassingOver(message),
            Some(planned) => {
                planned.is_given = true;
                let name: FileName = planned.name.parse().map_err(io::Error::other)?;
                State::Within(message.attachment(&planned.media_type, &name)?)
            }
        };
        Ok(())
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.state {
            State::Within(attachment) => attachment.write_all(octets),
            State::PassingOver(_) => Ok(()),
            State::Between(_) | State::Broken => Err(unfinished()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.state = match std::mem::replace(&mut self.state, State::Broken) {
            State::Within(attachment) => State::Between(attachment.finish()?),
            State::PassingOver(message) => State::Between(message),
            State::Between(_) | State::Broken => return Err(unfinished()),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: XDR-87, T-9
    #[test]
    fn file_names_are_safe_short_and_distinct() {
        let long = "x".repeat(200);
        let titles = [
            (Some("Summary of care: Ada Quill"), "text/xml"),
            (Some("../../etc/passwd"), "text/plain"),
            (Some("Scan.PDF"), "application/pdf"),
            (Some("scan"), "application/pdf"),
            (Some("Résumé\r\nBcc: x"), "application/pdf"),
            (Some("…"), "text/xml"),
            (None, "application/dicom"),
            (Some(&long), "image/jpeg"),
            (Some(&long), "image/jpeg"),
        ];
        let documents = (1..)
            .zip(titles)
            .map(|(part, (title, media_type))| (DocumentKey::Part(part), title, media_type));
        let names: Vec<String> = PlannedAttachment::plan(documents)
            .into_iter()
            .map(|planned| planned.name)
            .collect();
        assert_eq!(
            names,
            [
                "Summary_of_care_Ada_Quill.xml",
                "etc_passwd.txt",
                "Scan.pdf",
                "scan-2.pdf",
                "R_sum_Bcc_x.pdf",
                "document6.xml",
                "document7",
                &format!("{}.jpg", "x".repeat(60)),
                &format!("{}-2.jpg", "x".repeat(58)),
            ]
        );
    }
}
