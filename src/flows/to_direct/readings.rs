//! What accept read of a request, kept for the seal that follows it: most requests are sealed within milliseconds, and
//! reading one anew (decryption, MIME, XML, the metadata's model) costs as much as a signature. What is not here any
//! more, after a restart or because much came in between, is read from the recorded body.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use openssl::sha::Sha256;

use crate::formats::{
    document::{DocumentKey, DocumentSink, DocumentsInMemory, FactsSink},
    ids::BodyId,
    metadata::Metadata,
    xdr::request::ReceivedRequest,
};

/// Readings that wait for their seals. Documents are held of those alone whose body came in memory, 32 KiB.
const KEPT: usize = 64;
/// Longer metadata, in octets, is read again.
const MAX_METADATA_BYTES: usize = 64 * 1024;

/// A request as it was read.
pub(super) struct Reading {
    /// Envelope, addressing and documents' places.
    pub(super) request: ReceivedRequest,
    /// The metadata.
    pub(super) metadata: Metadata,
    /// The documents; `None` where they were not held: they are read from the recorded body.
    pub(super) documents: Option<DocumentsInMemory>,
}

/// The latest readings.
#[derive(Default)]
pub struct Readings {
    // Few enough to be looked through.
    kept: Mutex<VecDeque<(BodyId, Arc<Reading>)>>,
}

impl Readings {
    /// Keeps the reading of `body`, unless it is large.
    pub(super) fn keep(&self, body: BodyId, reading: &Arc<Reading>) {
        if reading.request.metadata.as_str().len() > MAX_METADATA_BYTES {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((body, Arc::clone(reading)));
    }

    /// The reading of `body`, once.
    pub(super) fn take(&self, body: BodyId) -> Option<Arc<Reading>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(id, _)| *id == body)?;
        kept.remove(at).map(|(_, reading)| reading)
    }
}

/// Learns the facts of documents and their digests, and holds them if asked to.
#[derive(Default)]
pub(super) struct FactsAndDocuments {
    pub(super) facts: FactsSink,
    pub(super) digests: DocumentDigests,
    pub(super) documents: Option<DocumentsInMemory>,
}

impl DocumentSink for FactsAndDocuments {
    fn begin(&mut self, key: DocumentKey) -> io::Result<()> {
        if let Some(documents) = &mut self.documents {
            documents.begin(key)?;
        }
        self.digests.begin(key)?;
        self.facts.begin(key)
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        if let Some(documents) = &mut self.documents {
            documents.write(octets)?;
        }
        self.digests.write(octets)?;
        self.facts.write(octets)
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some(documents) = &mut self.documents {
            documents.end()?;
        }
        self.digests.end()?;
        self.facts.end()
    }
}

/// SHA-256 of each document: for telling a resubmission from another message (XDR-50).
#[derive(Default)]
pub(super) struct DocumentDigests {
    open: Option<(DocumentKey, Sha256)>,
    done: HashMap<DocumentKey, [u8; 32]>,
}

impl DocumentDigests {
    /// That of the document at `key`, if it came.
    pub(super) fn of(&self, key: DocumentKey) -> Option<&[u8; 32]> {
        self.done.get(&key)
    }
}

impl DocumentSink for DocumentDigests {
    fn begin(&mut self, key: DocumentKey) -> io::Result<()> {
        self.open = Some((key, Sha256::new()));
        Ok(())
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        if let Some((_, sha)) = &mut self.open {
            sha.update(octets);
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some((key, sha)) = self.open.take() {
            self.done.insert(key, sha.finish());
        }
        Ok(())
    }
}
