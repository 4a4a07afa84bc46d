//! How the registry objects make up a submission: which there are, what labels them, and whose parts are whose
//! (metadata.md sections 1 and 6).

use std::collections::HashMap;

use super::{
    super::{
        super::xdr::ErrorCode,
        ebrim::{Classification, ElementKind},
        id_key, same_id,
        uuids::{self, document_entry, folder, submission_set},
    },
    Object, ObjectKind, Report, Row, Scope,
    scope::{short, unnamed_at},
    table::{refuses, refuses_with, tells},
};

pub(super) static ROWS: &[Row] = &[
    refuses(
        "MD-80",
        ObjectKind::Submission,
        "exactly one SubmissionSet",
        one_submission_set,
    ),
    refuses(
        "MD-81",
        ObjectKind::Any,
        "every RegistryPackage labelled SubmissionSet or Folder, not both",
        labelled,
    ),
    refuses(
        "MD-82",
        ObjectKind::Any,
        "every id once in the message",
        unique_ids,
    ),
    refuses(
        "MD-83",
        ObjectKind::Any,
        "Classifications and ExternalIdentifiers that name the object they stand in, labels beside the objects one of them",
        owners,
    ),
    refuses(
        "MD-99",
        ObjectKind::Submission,
        "one RegistryObjectList, nothing in or beside it that the schema does not know",
        list,
    ),
    refuses_with(
        "LIM-4",
        ObjectKind::Submission,
        ErrorCode::XdsRepositoryOutOfResources,
        "no more DocumentEntries and documents than the limit",
        entry_count,
    ),
    tells(
        "MD-6",
        ObjectKind::Any,
        "labels that belong to the object they are on; codes inside their object",
        stray_labels,
    ),
    tells("MD-7", ObjectKind::Any, "UUIDs in lower case", upper_case),
    tells(
        "XDR-6",
        ObjectKind::Any,
        "an id on every Classification and ExternalIdentifier",
        inner_ids,
    ),
];

fn one_submission_set(scope: &Scope<'_>, report: &mut Report<'_>) {
    let count = scope.metadata.submission_sets.len();
    if count != 1 {
        report.refuse(
            "Submission.SubmissionSet",
            format!("{count} RegistryPackages labelled as SubmissionSet; exactly one is accepted"),
        );
    }
}

fn labelled(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.metadata.registry.objects {
        if object.kind == ElementKind::RegistryPackage {
            let is_both = object.is_labelled(submission_set::NODE);
            let text = if is_both {
                "a RegistryPackage labelled both SubmissionSet and Folder; it must be one of them"
            } else {
                "a RegistryPackage without label; a Classification must give it the classificationNode of a \
                 SubmissionSet or a Folder"
            };
            report.refuse(unnamed_at(object, "label"), text);
        }
    }
}

fn unique_ids(scope: &Scope<'_>, report: &mut Report<'_>) {
    let mut seen: HashMap<_, usize> = HashMap::new();
    let registry = &scope.metadata.registry;
    let named = scope.objects.iter().map(|object| object.registry);
    let ids = named.chain(&registry.objects).flat_map(|object| {
        let classified = object.classifications.iter().map(|c| &c.id);
        let identified = object.external_identifiers.iter().map(|i| &i.id);
        classified
            .chain(identified)
            .filter_map(|id| id.as_deref())
            .chain([object.id.as_str()])
    });
    let loose = registry.loose_classifications.iter();
    let loose = loose.filter_map(|classification| classification.id.as_deref());
    for id in ids.chain(loose).filter(|id| !id.is_empty()) {
        *seen.entry(id_key(id)).or_default() += 1;
    }
    let mut repeated: Vec<_> = seen.into_iter().filter(|(_, count)| *count > 1).collect();
    repeated.sort_unstable();
    for (id, count) in repeated {
        report.refuse_value(
            format!("Submission({}).id", short(&id)),
            format!("the id stands on {count} elements; it must stand on one"),
            &id,
        );
    }
}

fn owners(scope: &Scope<'_>, report: &mut Report<'_>) {
    let is_strict = scope.context.is_strict();
    for object in &scope.objects {
        let classified = object
            .registry
            .classifications
            .iter()
            .map(|inner| ("classifiedObject", inner.classified_object.as_deref()));
        let identified = object
            .registry
            .external_identifiers
            .iter()
            .map(|inner| ("registryObject", inner.registry_object.as_deref()));
        for (attribute, owner) in classified.chain(identified) {
            match owner {
                Some(owner) if same_id(owner, object.id()) => {}
                Some(owner) => report.refuse_value(
                    object.at(attribute),
                    format!("{attribute} names another object; it must be the id of the one it stands in"),
                    owner,
                ),
                None => report.tell(
                    is_strict,
                    object.at(attribute),
                    format!("{attribute} is missing; it must be the id of the object it stands in"),
                ),
            }
        }
    }
    for loose in &scope.metadata.registry.loose_classifications {
        let owner = loose.classified_object.as_deref().unwrap_or_default();
        if !scope.ids.contains(&id_key(owner)) {
            report.refuse_value(
                loose_at(loose, "classifiedObject"),
                "a Classification beside the objects names none of them; it must be the id of one",
                owner,
            );
        }
    }
}

/// The place of a Classification beside the objects.
fn loose_at(loose: &Classification, attribute: &str) -> String {
    let id = loose.id.as_deref().unwrap_or_default();
    format!("Classification({}).{attribute}", short(id))
}

fn list(scope: &Scope<'_>, report: &mut Report<'_>) {
    let is_strict = scope.context.is_strict();
    let registry = &scope.metadata.registry;
    let lists = registry.lists;
    if lists != 1 {
        report.refuse(
            "Submission.RegistryObjectList",
            format!("{lists} RegistryObjectLists; exactly one is accepted"),
        );
    }
    let others = registry.objects.iter();
    let others = others.filter(|object| object.kind == ElementKind::Other);
    let lines = others.map(|object| object.line);
    for line in lines.chain(registry.stray_lines.iter().copied()) {
        report.tell(
            is_strict,
            format!("line {line}"),
            "an element that has no place here, carried as it is; accepted are ExtrinsicObjects, RegistryPackages, \
             Associations, Classifications and ObjectRefs in a RegistryObjectList, and a RequestSlotList before it",
        );
    }
}

fn entry_count(scope: &Scope<'_>, report: &mut Report<'_>) {
    let count = scope.metadata.document_entries.len();
    let limit = scope.context.max_document_entries;
    if count > limit {
        report.refuse(
            "Submission.DocumentEntry",
            format!("{count} DocumentEntries; at most {limit} are accepted"),
        );
    }
}

/// The labels that mean something on an object of this kind.
fn labels_of(kind: ObjectKind) -> &'static [&'static str] {
    match kind {
        ObjectKind::SubmissionSet => &[submission_set::NODE, submission_set::LIMITED_METADATA],
        ObjectKind::DocumentEntry => &[document_entry::LIMITED_METADATA],
        ObjectKind::Folder => &[folder::NODE, folder::LIMITED_METADATA],
        _ => &[],
    }
}

fn stray_labels(scope: &Scope<'_>, report: &mut Report<'_>) {
    let is_label_of = |kind, node: Option<&str>| {
        let node = node.unwrap_or_default();
        labels_of(kind).iter().any(|label| uuids::is(node, label))
    };
    let accepted = "a classificationNode that labels no object of this kind; accepted are those of SubmissionSet, \
                    Folder and limitedMetadata on their own objects; carried, not read";
    for object in &scope.objects {
        for inner in &object.registry.classifications {
            if inner.scheme.is_none() && !is_label_of(object.kind, inner.node.as_deref()) {
                let node = inner.node.as_deref().unwrap_or_default();
                report.warn_value(object.at("label"), accepted, node);
            }
        }
    }
    let loose_ones = &scope.metadata.registry.loose_classifications;
    if loose_ones.is_empty() {
        return;
    }
    let objects = scope.objects.iter();
    let objects: HashMap<_, &Object<'_>> = objects.map(|o| (id_key(o.id()), o)).collect();
    for loose in loose_ones {
        // One that names nothing is MD-83's.
        let owner = loose.classified_object.as_deref().unwrap_or_default();
        let Some(object) = objects.get(&id_key(owner)) else {
            continue;
        };
        if loose.scheme.is_some() {
            report.warn_value(
                object.at("label"),
                "a Classification with a classificationScheme beside its object; it must stand inside; carried, not read",
                loose.scheme.as_deref().unwrap_or_default(),
            );
        } else if !is_label_of(object.kind, loose.node.as_deref()) {
            let node = loose.node.as_deref().unwrap_or_default();
            report.warn_value(object.at("label"), accepted, node);
        }
    }
}

/// Whether it is a UUID that is not in lower case.
fn is_upper(id: &str) -> bool {
    super::super::is_uuid_urn(id) && id.bytes().any(|octet| octet.is_ascii_uppercase())
}

fn upper_case(scope: &Scope<'_>, report: &mut Report<'_>) {
    const UUIDS: [&str; 4] = ["id", "objectType", "sourceObject", "targetObject"];
    let text = "a UUID in upper case, read as in lower case; lower case is accepted without a word";
    for object in &scope.objects {
        for (name, value) in &object.registry.attributes {
            if UUIDS.contains(&name.as_str()) && is_upper(value) {
                let name = if name == "id" { "entryUUID" } else { name };
                report.warn_value(object.at(name), text, value);
            }
        }
        let classified = object.registry.classifications.iter();
        let classified = classified.flat_map(|inner| {
            [
                ("classificationScheme", &inner.scheme),
                ("classificationNode", &inner.node),
                ("classifiedObject", &inner.classified_object),
            ]
        });
        let identified = object.registry.external_identifiers.iter();
        let identified = identified.flat_map(|inner| {
            [
                ("identificationScheme", &inner.scheme),
                ("registryObject", &inner.registry_object),
            ]
        });
        for (name, value) in classified.chain(identified) {
            if let Some(value) = value.as_deref().filter(|value| is_upper(value)) {
                report.warn_value(object.at(name), text, value);
            }
        }
    }
    for loose in &scope.metadata.registry.loose_classifications {
        for (name, value) in [
            ("classificationNode", &loose.node),
            ("classifiedObject", &loose.classified_object),
        ] {
            if let Some(value) = value.as_deref().filter(|value| is_upper(value)) {
                report.warn_value(loose_at(loose, name), text, value);
            }
        }
    }
}

fn inner_ids(scope: &Scope<'_>, report: &mut Report<'_>) {
    let missing = |count| {
        format!(
            "{count} Classifications or ExternalIdentifiers without id; each must have one of its own"
        )
    };
    let loose = scope.metadata.registry.loose_classifications.iter();
    let count = loose.filter(|loose| loose.id.is_none()).count();
    if count > 0 {
        report.warn("Submission.id", missing(count));
    }
    for object in &scope.objects {
        let registry = object.registry;
        let classified = registry.classifications.iter().map(|c| &c.id);
        let identified = registry.external_identifiers.iter().map(|i| &i.id);
        let ids = classified.chain(identified);
        let count = ids.filter(|id| id.is_none()).count();
        if count > 0 {
            report.warn(object.at("id"), missing(count));
        }
    }
}
