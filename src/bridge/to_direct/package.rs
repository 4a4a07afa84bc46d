//! The XDM package of a submission (XDR-80, XDR-82).

use std::collections::HashSet;

use super::{Conversion, ConversionError, metadata::direct_metadata};
use crate::formats::{
    document::{DocumentFacts, DocumentSource},
    metadata::{DocumentEntry, same_id},
    xdm::{self, PackagePlan, PlannedFile, names::document_file_name},
};

/// A DocumentEntry, its document, and the document's file name in the package.
pub(super) struct EntryDocument<'a> {
    pub(super) entry: &'a DocumentEntry,
    pub(super) facts: &'a DocumentFacts,
    pub(super) file_name: String,
}

/// Every DocumentEntry with its document, in metadata order. Entries that share a document (SOAP-32) share its file:
/// the URI of each names it, which XDM-67 allows, and no octet is carried twice.
pub(super) fn entry_documents<'a>(
    conversion: &Conversion<'a>,
) -> Result<Vec<EntryDocument<'a>>, ConversionError> {
    let mut found: Vec<EntryDocument<'a>> = Vec::new();
    for (number, entry) in (1..).zip(conversion.metadata.document_entries()) {
        let (_, facts) = conversion
            .documents
            .iter()
            .find(|(id, _)| same_id(id, &entry.id))
            .ok_or(ConversionError::DocumentMissing { number })?;
        let sharing = found.iter().find(|other| other.facts.key == facts.key);
        let file_name = match sharing {
            Some(other) => other.file_name.clone(),
            None => document_file_name(number, entry.mime_type.as_deref().unwrap_or_default()),
        };
        found.push(EntryDocument {
            entry,
            facts,
            file_name,
        });
    }
    Ok(found)
}

/// The XDM package of the submission.
pub fn package(
    conversion: &Conversion<'_>,
    documents: &mut dyn DocumentSource,
) -> Result<Vec<u8>, ConversionError> {
    let metadata = direct_metadata(conversion)?;
    let entries = entry_documents(conversion)?;
    let mut seen = HashSet::new();
    let own_files = entries
        .iter()
        .filter(|document| seen.insert(document.facts.key));
    let documents_bytes = own_files.map(|document| document.facts.size).sum();
    let files = entries
        .into_iter()
        .map(|document| PlannedFile {
            key: document.facts.key,
            file_name: document.file_name,
            title: document.entry.title.clone(),
            media_type: document.entry.mime_type.clone().unwrap_or_default(),
        })
        .collect();
    let plan = PackagePlan {
        metadata_xml: metadata.xml().as_str(),
        files,
        set_title: metadata
            .submission_set()
            .and_then(|set| set.title.as_deref()),
        institution: conversion.institution,
        documents_bytes,
    };
    Ok(xdm::pack(&plan, documents)?)
}
