//! The documents of a planned request, poured from the mail anew as often as they are asked for. A package is
//! held since it was planned; no document is.

use std::io::{self, Cursor};

use crate::formats::{
    document::{DocumentKey, DocumentSink, DocumentSource},
    limits::Limits,
    mime::read::{DecodeError, Part},
    xdm::{XdmDocuments, XdmSet},
};

/// The key under which the document of the entry at `index` is poured.
pub fn entry_key(index: u32) -> DocumentKey {
    DocumentKey::Loose(index)
}

/// The documents of a package, one for each DocumentEntry: entries may share a file (XDM-67), a request's documents
/// may not share a part (SOAP-32).
pub struct EntryDocuments<S> {
    /// Pours the files of the package.
    pub files: S,
    /// The file of each entry, in their order.
    pub keys: Vec<DocumentKey>,
}

impl<S: DocumentSource> DocumentSource for EntryDocuments<S> {
    fn pour(&mut self, sink: &mut dyn DocumentSink) -> io::Result<()> {
        // Every round gives each file to the next entry that means it.
        let sharing = |key| self.keys.iter().filter(|own| *own == key).count();
        let rounds = self.keys.iter().map(sharing).max().unwrap_or(0);
        for round in 0..rounds {
            self.files.pour(&mut Round {
                keys: &self.keys,
                round,
                is_open: false,
                sink,
            })?;
        }
        Ok(())
    }
}

struct Round<'a> {
    keys: &'a [DocumentKey],
    round: usize,
    is_open: bool,
    sink: &'a mut dyn DocumentSink,
}

impl DocumentSink for Round<'_> {
    fn begin(&mut self, key: DocumentKey) -> io::Result<()> {
        let mut entries = (0..).zip(self.keys).filter(|(_, own)| **own == key);
        self.is_open = false;
        if let Some((index, _)) = entries.nth(self.round) {
            self.is_open = true;
            self.sink.begin(entry_key(index))?;
        }
        Ok(())
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        if self.is_open {
            self.sink.write(octets)
        } else {
            Ok(())
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_open) {
            self.sink.end()
        } else {
            Ok(())
        }
    }
}

/// Parts of a mail, each a document: the one of the entry at the same index.
pub(super) struct PartDocuments<'m> {
    pub(super) parts: Vec<&'m Part<'m>>,
}

impl DocumentSource for PartDocuments<'_> {
    fn pour(&mut self, sink: &mut dyn DocumentSink) -> io::Result<()> {
        for (index, part) in (0..).zip(&self.parts) {
            sink.begin(entry_key(index))?;
            part.decode(&mut |octets| sink.write(octets))
                .map_err(undecodable)?;
            sink.end()?;
        }
        Ok(())
    }
}

/// The documents of one submission set of a package.
pub(super) struct PackageDocuments<'m> {
    pub(super) package: &'m [u8],
    pub(super) set: &'m XdmSet,
    pub(super) limits: &'m Limits,
}

impl DocumentSource for PackageDocuments<'_> {
    fn pour(&mut self, sink: &mut dyn DocumentSink) -> io::Result<()> {
        let files = XdmDocuments::open(Cursor::new(self.package), self.set, self.limits)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let documents = self.set.documents.iter();
        let keys = documents.map(|document| document.facts.key).collect();
        EntryDocuments { files, keys }.pour(sink)
    }
}

fn undecodable(error: DecodeError) -> io::Error {
    match error {
        DecodeError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::document::DocumentsInMemory;

    // rule: XDM-67, SOAP-32
    #[test]
    fn entries_that_share_a_file_get_a_document_each() {
        let member = DocumentKey::ZipMember;
        let mut entries = EntryDocuments {
            files: DocumentsInMemory {
                documents: vec![
                    (member(7), b"seven".to_vec()),
                    (member(9), b"nine".to_vec()),
                ],
            },
            keys: vec![member(9), member(7), member(9), member(9)],
        };
        let mut poured = DocumentsInMemory::default();
        entries.pour(&mut poured).unwrap();
        assert_eq!(poured.documents.len(), 4);
        for (index, expected) in [(0, "nine"), (1, "seven"), (2, "nine"), (3, "nine")] {
            assert_eq!(
                poured.find(entry_key(index)),
                Some(expected.as_bytes()),
                "entry {index}"
            );
        }
    }
}
