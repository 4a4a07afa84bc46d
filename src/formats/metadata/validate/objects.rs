//! What a single registry object is like: its type, its labels, the order and the lengths of what is in it
//! (metadata.md sections 1 and 6).

use super::{
    super::{
        Level, Slot,
        uuids::{self, document_entry, folder, submission_set},
    },
    ObjectKind, Report, Row, Scope,
    scope::short,
    table::{refuses, refuses_if_strict, tells},
};

pub(super) static ROWS: &[Row] = &[
    refuses(
        "MD-86",
        ObjectKind::DocumentEntry,
        "objectType of a stable document",
        object_type,
    ),
    refuses("MD-87", ObjectKind::DocumentEntry, "a mimeType", mime_type),
    refuses_if_strict(
        "MD-98",
        ObjectKind::Any,
        "a title of at most 128 characters (DocumentEntry) or 256 (SubmissionSet, Folder)",
        titles,
    ),
    refuses_if_strict(
        "XDR-5",
        ObjectKind::Any,
        "child elements in the order of the schema",
        child_order,
    ),
    refuses_if_strict(
        "XDR-7",
        ObjectKind::Any,
        "names, values, codes and identifiers of at most 256 characters, Name and Description of 1024",
        lengths,
    ),
    tells("MD-1", ObjectKind::Any, "slots with values", empty_slots),
    tells(
        "MD-21",
        ObjectKind::Any,
        "the limitedMetadata label on every object of a limited submission",
        limited_labels,
    )
    .only_at(&[Level::Limited]),
];

fn object_type(scope: &Scope<'_>, report: &mut Report<'_>) {
    for entry in scope.of_kind(ObjectKind::DocumentEntry) {
        let object_type = entry.registry.attribute("objectType").unwrap_or_default();
        if !uuids::is(object_type, document_entry::STABLE) {
            let text = format!(
                "objectType must be {}, the type of stable documents",
                document_entry::STABLE
            );
            report.refuse_value(entry.at("objectType"), text, object_type);
        }
    }
}

fn mime_type(scope: &Scope<'_>, report: &mut Report<'_>) {
    for entry in scope.of_kind(ObjectKind::DocumentEntry) {
        let mime_type = entry.registry.attribute("mimeType").unwrap_or_default();
        if mime_type.trim().is_empty() {
            report.refuse(
                entry.at("mimeType"),
                "mimeType is missing or empty; accepted is a media type, such as text/xml",
            );
        }
    }
}

fn titles(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in scope.described() {
        let limit = match object.kind {
            ObjectKind::DocumentEntry => 128,
            _ => 256,
        };
        let title = object.registry.name.as_deref().unwrap_or_default();
        if is_longer(title, limit) {
            report.tell_value(
                scope.context.is_strict(),
                object.at("title"),
                format!("a title of more than {limit} characters; so many are accepted"),
                title,
            );
        }
    }
}

fn child_order(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        if !object.registry.is_in_schema_order {
            report.tell(
                scope.context.is_strict(),
                object.at(&format!("line {}", object.registry.line)),
                "child elements must stand in the order Slot, Name, Description, VersionInfo, Classification, \
                 ExternalIdentifier",
            );
        }
    }
}

/// Whether it has more characters. Counting is spared where the octets are few.
fn is_longer(text: &str, limit: usize) -> bool {
    text.len() > limit && text.chars().count() > limit
}

fn lengths(scope: &Scope<'_>, report: &mut Report<'_>) {
    const LONG_NAME: usize = 256;
    const LOCALIZED: usize = 1024;
    let is_strict = scope.context.is_strict();
    for object in &scope.objects {
        let registry = object.registry;
        let inner = registry.classifications.iter().flat_map(|c| &c.slots);
        let slots = registry.slots.iter().chain(inner);
        let slots = slots.flat_map(|slot| {
            let name = slot.name.as_str();
            let values = slot.values.iter().map(move |value| (name, value.as_str()));
            values.chain([(name, name)])
        });
        let identifiers = registry.external_identifiers.iter();
        let identifiers = identifiers.filter_map(|one| Some(("value", one.value.as_deref()?)));
        let codes = registry.classifications.iter();
        let codes = codes
            .filter_map(|code| Some(("nodeRepresentation", code.node_representation.as_deref()?)));
        let mime_type = registry
            .attribute("mimeType")
            .map(|text| ("mimeType", text));
        let all = slots.chain(identifiers).chain(codes).chain(mime_type);
        for (attribute, text) in all.filter(|(_, text)| is_longer(text, LONG_NAME)) {
            report.tell_value(
                is_strict,
                object.at(short(attribute)),
                format!("more than {LONG_NAME} characters; so many are accepted"),
                text,
            );
        }
        // Names that are shorter may still be too long for a title, which is MD-98's.
        for (attribute, text) in [
            ("title", &registry.name),
            ("comments", &registry.description),
        ] {
            if let Some(text) = text.as_deref().filter(|text| is_longer(text, LOCALIZED)) {
                report.tell_value(
                    is_strict,
                    object.at(attribute),
                    format!("more than {LOCALIZED} characters; so many are accepted"),
                    text,
                );
            }
        }
    }
}

fn empty_slots(scope: &Scope<'_>, report: &mut Report<'_>) {
    let is_empty = |slot: &&Slot| {
        slot.values.is_empty() || slot.values.iter().any(|value| value.trim().is_empty())
    };
    for object in &scope.objects {
        let registry = object.registry;
        let inner = registry.classifications.iter().flat_map(|c| &c.slots);
        for slot in registry.slots.iter().chain(inner).filter(is_empty) {
            report.warn(
                object.at(short(&slot.name)),
                "a slot without value or with an empty one, read as absent; what is not known is left out",
            );
        }
    }
}

fn limited_labels(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in scope.described() {
        let label = match object.kind {
            ObjectKind::SubmissionSet => submission_set::LIMITED_METADATA,
            ObjectKind::DocumentEntry => document_entry::LIMITED_METADATA,
            _ => folder::LIMITED_METADATA,
        };
        if !object.registry.is_labelled(label) {
            report.warn(
                object.at("limitedMetadata"),
                format!(
                    "no limitedMetadata label where another object has one; judged as limited; the label is a \
                     Classification with classificationNode {label}"
                ),
            );
        }
    }
}
