//! The documents of a file, poured from it anew as often as they are asked for.

use std::io::{self, Read, Seek, Write};

use crate::formats::{
    document::{DocumentSink, DocumentSource},
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
