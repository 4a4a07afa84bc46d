//! Submissions for tests: metadata as text, and documents that fit to it.

use xdbridge::formats::{
    document::{DocumentFacts, DocumentKey, DocumentSource, DocumentsInMemory, FactsSink},
    limits::Limits,
    metadata::Metadata,
    xml::kept::KeptXml,
};

/// Metadata and documents, tied by the DocumentEntries' ids.
pub(crate) struct TestSubmission {
    pub(crate) metadata: Metadata,
    pub(crate) documents: DocumentsInMemory,
    pub(crate) entry_documents: Vec<(String, DocumentFacts)>,
}

impl TestSubmission {
    /// One document for each DocumentEntry, in their order.
    pub(crate) fn new(xml: &str, documents: Vec<Vec<u8>>) -> Self {
        let limits = Limits::default();
        let kept = KeptXml::read(xml.as_bytes(), &limits).unwrap();
        let metadata = Metadata::read(kept, &limits).unwrap();
        let documents = DocumentsInMemory {
            documents: (1..).map(DocumentKey::Part).zip(documents).collect(),
        };
        let facts = facts_of(&documents);
        let ids = metadata
            .document_entries()
            .iter()
            .map(|entry| entry.id.clone());
        assert_eq!(ids.len(), facts.len(), "one document for each entry");
        let entry_documents = ids.zip(facts).collect();
        Self {
            metadata,
            documents,
            entry_documents,
        }
    }

    /// Metadata alone gets invented documents; `hash` and `size` are set to theirs where the metadata has them.
    pub(crate) fn with_invented_documents(xml: &str) -> Self {
        let limits = Limits::default();
        let kept = KeptXml::read(xml.as_bytes(), &limits).unwrap();
        let metadata = Metadata::read(kept, &limits).unwrap();
        let documents: Vec<Vec<u8>> = (0..metadata.document_entries().len())
            .map(|number| format!("invented document {number}").into_bytes())
            .collect();
        let facts = facts_of(&DocumentsInMemory {
            documents: (1..)
                .map(DocumentKey::Part)
                .zip(documents.clone())
                .collect(),
        });
        let mut edit = metadata.edit();
        for (entry, facts) in metadata.document_entries().iter().zip(&facts) {
            if entry.hash.is_some() {
                edit.set_slot(&entry.id, "hash", &[&facts.hash()]);
            }
            if entry.size.is_some() {
                edit.set_slot(&entry.id, "size", &[&facts.size.to_string()]);
            }
        }
        Self::new(edit.finish().unwrap().xml().as_str(), documents)
    }
}

/// The facts of all documents.
pub(crate) fn facts_of(documents: &DocumentsInMemory) -> Vec<DocumentFacts> {
    let mut sink = FactsSink::default();
    documents.clone().pour(&mut sink).unwrap();
    sink.into_facts()
}
