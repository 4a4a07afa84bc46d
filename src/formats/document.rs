//! Documents on their way through the bridge. They are never held whole where a stream will do: a reader pours
//! them into a [`DocumentSink`], a writer asks a [`DocumentSource`] to pour.

use std::io;

use openssl::sha::Sha1;
use serde::{Deserialize, Serialize};

/// Where a document stands in the container it was read from. Reading the same bytes again gives the same keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DocumentKey {
    /// A MIME part of an MTOM package, counted from 0 in wire order (the root part counts too).
    Part(u32),
    /// Base64 text inside the SOAP envelope, counted from 0 in document order.
    Inline(u32),
    /// A member of an XDM zip, by its index in the central directory.
    ZipMember(u32),
    /// A file or attachment given as it is, counted from 0.
    Loose(u32),
}

/// Takes documents as they are read: `begin`, any number of `write`, `end`, for one document after the other.
pub trait DocumentSink {
    /// The next document starts.
    fn begin(&mut self, key: DocumentKey) -> io::Result<()>;
    /// More octets of the document that was begun last, decoded.
    fn write(&mut self, octets: &[u8]) -> io::Result<()>;
    /// The document that was begun last is complete.
    fn end(&mut self) -> io::Result<()>;
}

/// Gives documents: pours every one of them, in its own order, into a sink. It can be asked again.
pub trait DocumentSource {
    /// Pours all documents.
    fn pour(&mut self, sink: &mut dyn DocumentSink) -> io::Result<()>;
}

/// What is known of a document without holding it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentFacts {
    /// Where it stands.
    pub key: DocumentKey,
    /// Its length in octets.
    pub size: u64,
    /// SHA-1 of its octets: the `hash` attribute (MD-53).
    pub sha1: [u8; 20],
}

impl DocumentFacts {
    /// The `hash` attribute as it is emitted: 40 lower-case hexadecimal digits.
    pub fn hash(&self) -> String {
        hex(&self.sha1)
    }
}

/// Lower-case hexadecimal digits of `octets`.
pub fn hex(octets: &[u8]) -> String {
    use std::fmt::Write;
    octets.iter().fold(
        String::with_capacity(octets.len() * 2),
        |mut text, octet| {
            let _ = write!(text, "{octet:02x}");
            text
        },
    )
}

/// A sink that keeps nothing but the [`DocumentFacts`].
#[derive(Default)]
pub struct FactsSink {
    open: Option<(DocumentKey, u64, Sha1)>,
    facts: Vec<DocumentFacts>,
}

impl FactsSink {
    /// The facts of all documents that passed, in their order.
    pub fn into_facts(self) -> Vec<DocumentFacts> {
        self.facts
    }
}

impl DocumentSink for FactsSink {
    fn begin(&mut self, key: DocumentKey) -> io::Result<()> {
        self.open = Some((key, 0, Sha1::new()));
        Ok(())
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        if let Some((_, size, sha1)) = &mut self.open {
            *size += octets.len() as u64;
            sha1.update(octets);
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some((key, size, sha1)) = self.open.take() {
            self.facts.push(DocumentFacts {
                key,
                size,
                sha1: sha1.finish(),
            });
        }
        Ok(())
    }
}

/// A sink that drops everything: for a pass that wants the metadata alone.
#[derive(Default)]
pub struct NoDocuments;

impl DocumentSink for NoDocuments {
    fn begin(&mut self, _: DocumentKey) -> io::Result<()> {
        Ok(())
    }
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Documents held in memory: for small things and tests. It is a sink and a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentsInMemory {
    /// The documents in their order.
    pub documents: Vec<(DocumentKey, Vec<u8>)>,
}

impl DocumentsInMemory {
    /// The octets of the document at `key`.
    pub fn find(&self, key: DocumentKey) -> Option<&[u8]> {
        self.documents
            .iter()
            .find(|(candidate, _)| *candidate == key)
            .map(|(_, octets)| octets.as_slice())
    }
}

impl DocumentSink for DocumentsInMemory {
    fn begin(&mut self, key: DocumentKey) -> io::Result<()> {
        self.documents.push((key, Vec::new()));
        Ok(())
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        if let Some((_, open)) = self.documents.last_mut() {
            open.extend_from_slice(octets);
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DocumentSource for DocumentsInMemory {
    fn pour(&mut self, sink: &mut dyn DocumentSink) -> io::Result<()> {
        (&*self).pour(sink)
    }
}

impl DocumentSource for &DocumentsInMemory {
    fn pour(&mut self, sink: &mut dyn DocumentSink) -> io::Result<()> {
        for (key, octets) in &self.documents {
            sink.begin(*key)?;
            sink.write(octets)?;
            sink.end()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_those_of_the_octets_however_they_are_cut() {
        let mut sink = FactsSink::default();
        sink.begin(DocumentKey::Part(1)).unwrap();
        sink.write(b"ab").unwrap();
        sink.write(b"c").unwrap();
        sink.end().unwrap();
        let facts = sink.into_facts();
        // FIPS 180-4's own example for "abc".
        assert_eq!(facts[0].hash(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(facts[0].size, 3);
    }
}
