//! Metadata against the documents that came with it (xdr.md section 3).

use std::collections::{HashMap, HashSet};

use super::{
    super::super::xdr::ErrorCode, ALL, BoundDocument, METADATA_ERROR, Object, ObjectKind, Report,
    Rule, Scope,
};

pub(super) static RULES: &[Rule] = &[
    row(
        "XDR-12",
        Some(ErrorCode::XdsRepositoryError),
        "at least one document",
        some_document,
    ),
    row(
        "XDR-24",
        Some(ErrorCode::XdsMissingDocument),
        "a document for each DocumentEntry",
        entries_have_documents,
    ),
    row(
        "XDR-25",
        Some(ErrorCode::XdsMissingDocumentMetadata),
        "a DocumentEntry for each document",
        documents_have_entries,
    ),
    row(
        "XDR-21",
        METADATA_ERROR,
        "a hash that is the document's SHA-1",
        hashes,
    ),
    row(
        "XDR-22",
        METADATA_ERROR,
        "a size that is the document's number of octets",
        sizes,
    ),
];

const fn row(
    id: &'static str,
    code: Option<ErrorCode>,
    asks: &'static str,
    check: fn(&Scope<'_>, &mut Report<'_>),
) -> Rule {
    Rule {
        id,
        levels: ALL,
        object: ObjectKind::DocumentEntry,
        code,
        asks,
        check,
    }
}

/// The documents by the id that binds them: compared exactly (XDR-8).
fn by_id<'a>(scope: &Scope<'a>) -> Option<HashMap<&'a str, &'a BoundDocument>> {
    let documents = scope.context.documents?;
    let pairs = documents.iter().map(|d| (d.document_id.as_str(), d));
    Some(pairs.collect())
}

fn some_document(scope: &Scope<'_>, report: &mut Report<'_>) {
    let is_empty = scope.context.documents.is_some_and(<[_]>::is_empty)
        && scope.metadata.document_entries().is_empty();
    if is_empty {
        report.refuse(
            "Submission.Document",
            "no document: a submission without one cannot be delivered as a Direct message",
        );
    }
}

fn entries_have_documents(scope: &Scope<'_>, report: &mut Report<'_>) {
    let Some(documents) = by_id(scope) else {
        return;
    };
    for entry in scope.of_kind(ObjectKind::DocumentEntry) {
        if !documents.contains_key(entry.id()) {
            report.refuse(
                entry.at("document"),
                "no document came for this DocumentEntry; its id must be equal to the entry's",
            );
        }
    }
}

fn documents_have_entries(scope: &Scope<'_>, report: &mut Report<'_>) {
    let mut open: HashSet<&str> = scope
        .of_kind(ObjectKind::DocumentEntry)
        .map(Object::id)
        .collect();
    for document in scope.context.documents.unwrap_or_default() {
        if !open.remove(document.document_id.as_str()) {
            let short: String = document
                .document_id
                .chars()
                .take(super::MAX_ID_CHARACTERS)
                .collect();
            report.refuse(
                format!("Document({short}).id"),
                "no DocumentEntry of this id that has no document yet",
            );
        }
    }
}

fn hashes(scope: &Scope<'_>, report: &mut Report<'_>) {
    let documents = by_id(scope).unwrap_or_default();
    for entry in scope.metadata.document_entries() {
        let document = documents.get(entry.id.as_str());
        if let (Some(document), Some(hash)) = (document, &entry.hash)
            && !hash.eq_ignore_ascii_case(&document.facts.hash())
        {
            let text = format!(
                "hash is not the SHA-1 of the document that came, {}",
                document.facts.hash()
            );
            report.refuse_value(entry_object(entry).at("hash"), text, hash);
        }
    }
}

fn sizes(scope: &Scope<'_>, report: &mut Report<'_>) {
    let documents = by_id(scope).unwrap_or_default();
    for entry in scope.metadata.document_entries() {
        let document = documents.get(entry.id.as_str());
        if let (Some(document), Some(size)) = (document, &entry.size)
            && size.parse() != Ok(document.facts.size)
        {
            let text = format!(
                "size is not the number of octets that came, {}",
                document.facts.size
            );
            report.refuse_value(entry_object(entry).at("size"), text, size);
        }
    }
}

fn entry_object(entry: &super::super::DocumentEntry) -> Object<'_> {
    Object {
        kind: ObjectKind::DocumentEntry,
        registry: &entry.registry,
    }
}
