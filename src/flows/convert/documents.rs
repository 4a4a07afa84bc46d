//! The documents of a file, poured from it anew as often as they are asked for.

use std::io::{self, Read, Seek, Write};

use crate::formats::{
    document::{DocumentKey, DocumentSink, DocumentSource},
    limits::Limits,
    xdr::request::{self, ReadError, ReadOptions},
};

/// The documents of a request in a file.
pub(super) struct RequestDocuments<'a, R> {
    pub(super) file: &'a mut R,
    pub(super) limits: &'a Limits,
    pub(super) options: ReadOptions,
}

impl<R: Read + Seek> DocumentSource for RequestDocuments<'_, R> {
    fn pour(&mut self, sink: &mut dyn DocumentSink) -> io::Result<()> {
        self.file.rewind()?;
        match request::read_file(self.file, self.limits, &self.options, sink) {
            Ok(_) => Ok(()),
            Err(ReadError::Io(error) | ReadError::Sink(error)) => Err(error),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file has changed since it was read first",
            )),
        }
    }
}

/// The key under which [`EntryDocuments`] pours the document of the entry at `index`.
pub(super) fn entry_key(index: u32) -> DocumentKey {
    DocumentKey::Loose(index)
}

/// The documents of a package, one for each DocumentEntry: entries may share a file (XDM-67), a request's documents
/// may not share a part (SOAP-32).
pub(super) struct EntryDocuments<S> {
    pub(super) files: S,
    /// The file of each entry, in their order.
    pub(super) keys: Vec<DocumentKey>,
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

/// Counts what is written and keeps nothing.
#[derive(Default)]
pub(super) struct Counted {
    pub(super) bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.bytes += octets.len() as u64;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
