//! Metadata against the documents that came with it (xdr.md section 3).

use std::collections::{HashMap, HashSet};

use super::{
    super::super::{document::DocumentFacts, xdr::ErrorCode},
    BoundDocument, Object, ObjectKind, Report, Row, Scope,
    scope::short,
    table::{refuses, refuses_with},
};

pub(super) static ROWS: &[Row] = &[
    refuses_with(
        "XDR-12",
        ObjectKind::Submission,
        ErrorCode::XdsRepositoryError,
        "at least one document",
        some_document,
    ),
    refuses_with(
        "XDR-24",
        ObjectKind::DocumentEntry,
        ErrorCode::XdsMissingDocument,
        "a document for each DocumentEntry",
        entries_have_documents,
    ),
    refuses_with(
        "XDR-25",
        ObjectKind::Document,
        ErrorCode::XdsMissingDocumentMetadata,
        "a DocumentEntry for each document",
        documents_have_entries,
    ),
    refuses(
        "XDR-21",
        ObjectKind::DocumentEntry,
        "a hash that is the document's SHA-1",
        hashes,
    ),
    refuses(
        "XDR-22",
        ObjectKind::DocumentEntry,
        "a size that is the document's number of octets",
        sizes,
    ),
];

/// The documents by the id that binds them: compared exactly (XDR-8).
fn by_id<'a>(scope: &Scope<'a>) -> Option<HashMap<&'a str, &'a BoundDocument>> {
    let documents = scope.context.documents?;
    let pairs = documents.iter().map(|d| (d.document_id.as_str(), d));
    Some(pairs.collect())
}

/// The ids of documents that something else is wrong with.
fn unusable<'a>(scope: &Scope<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    scope.context.unusable_documents.iter().map(String::as_str)
}

fn some_document(scope: &Scope<'_>, report: &mut Report<'_>) {
    let is_empty = scope.context.documents.is_some_and(<[_]>::is_empty)
        && scope.metadata.document_entries().is_empty();
    if is_empty {
        report.refuse(
            "Submission.Document",
            "no document: a submission without one cannot be delivered as a Direct message; there must be one",
        );
    }
}

fn entries_have_documents(scope: &Scope<'_>, report: &mut Report<'_>) {
    let Some(documents) = by_id(scope) else {
        return;
    };
    let unusable: HashSet<&str> = unusable(scope).collect();
    for entry in scope.of_kind(ObjectKind::DocumentEntry) {
        if !documents.contains_key(entry.id()) && !unusable.contains(entry.id()) {
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
    let documents = scope.context.documents.unwrap_or_default();
    let usable = documents.iter().map(|d| d.document_id.as_str());
    // A second document of one id is told by XDR-8; whether it has an entry was asked of the first.
    let mut asked = HashSet::new();
    let unusable = unusable(scope).filter(|id| documents.iter().all(|d| d.document_id != **id));
    let all = usable.chain(unusable.filter(|id| asked.insert(*id)));
    for id in all {
        if !open.remove(id) {
            report.refuse(
                format!("Document({}).id", short(id)),
                "no DocumentEntry of this id that has no document yet; there must be one",
            );
        }
    }
}

/// The entries that have both a document and a value of the attribute `name`.
fn described<'s>(
    scope: &'s Scope<'_>,
    name: &'static str,
) -> impl Iterator<Item = (&'s Object<'s>, &'s str, &'s DocumentFacts)> {
    let documents = by_id(scope).unwrap_or_default();
    scope
        .of_kind(ObjectKind::DocumentEntry)
        .filter_map(move |entry| {
            let document = documents.get(entry.id())?;
            let mut values = entry.values_of(name).map(str::trim);
            let value = values.find(|value| !value.is_empty())?;
            Some((entry, value, &document.facts))
        })
}

fn hashes(scope: &Scope<'_>, report: &mut Report<'_>) {
    for (entry, hash, facts) in described(scope, "hash") {
        let true_hash = facts.hash();
        if !hash.eq_ignore_ascii_case(&true_hash) {
            let text = format!("hash must be the SHA-1 of the document that came, {true_hash}");
            report.refuse_value(entry.at("hash"), text, hash);
        }
    }
}

fn sizes(scope: &Scope<'_>, report: &mut Report<'_>) {
    for (entry, size, facts) in described(scope, "size") {
        if size.parse() != Ok(facts.size) {
            let text = format!(
                "size must be the number of octets that came, {}",
                facts.size
            );
            report.refuse_value(entry.at("size"), text, size);
        }
    }
}
