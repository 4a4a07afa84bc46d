//! The documents of a file, poured from it anew as often as they are asked for.

use std::io::{self, Read, Seek, Write};

use crate::formats::{
    document::{DocumentKey, DocumentSink, DocumentSource},
    limits::Limits,
    xdm::XdmDocuments,
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
pub(super) struct EntryDocuments<R> {
    pub(super) zip: XdmDocuments<R>,
    /// The file of each entry, in their order.
    pub(super) keys: Vec<DocumentKey>,
}

impl<R: Read + Seek> DocumentSource for EntryDocuments<R> {
    fn pour(&mut self, sink: &mut dyn DocumentSink) -> io::Result<()> {
        // Every round gives each file to the next entry that means it.
        let sharing = |key| self.keys.iter().filter(|own| *own == key).count();
        let rounds = self.keys.iter().map(sharing).max().unwrap_or(0);
        for round in 0..rounds {
            self.zip.pour(&mut Round {
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
