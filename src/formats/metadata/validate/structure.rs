//! How the registry objects are built and labelled (metadata.md sections 1 and 6).

use std::collections::HashMap;

use super::{
    super::{
        super::xdr::ErrorCode,
        Level,
        ebrim::{ElementKind, RegistryObject},
        id_key, same_id,
        uuids::{self, document_entry, folder, submission_set},
    },
    ALL, METADATA_ERROR, Object, ObjectKind, Report, Rule, Scope,
    attributes::{Form, attributes_of, classifications},
};

pub(super) static RULES: &[Rule] = &[
    row(
        "MD-80",
        ObjectKind::Submission,
        "exactly one SubmissionSet",
        one_submission_set,
    ),
    row(
        "MD-81",
        ObjectKind::Any,
        "every RegistryPackage labelled SubmissionSet or Folder, not both",
        labels,
    ),
    row(
        "MD-82",
        ObjectKind::Any,
        "every id once in the message",
        unique_ids,
    ),
    row(
        "MD-83",
        ObjectKind::Any,
        "Classifications and ExternalIdentifiers that name the object they stand in",
        owners,
    ),
    row(
        "MD-86",
        ObjectKind::DocumentEntry,
        "objectType of a stable document",
        object_type,
    ),
    row("MD-87", ObjectKind::DocumentEntry, "a mimeType", mime_type),
    row(
        "MD-2",
        ObjectKind::Any,
        "a code with nodeRepresentation and one codingScheme",
        codes,
    ),
    row(
        "MD-3",
        ObjectKind::Any,
        "an author with a person, an institution or a telecommunication address",
        authors,
    ),
    row(
        "MD-98",
        ObjectKind::Any,
        "a title of at most 128 characters (DocumentEntry) or 256",
        titles,
    ),
    row(
        "XDR-5",
        ObjectKind::Any,
        "child elements in the order of the schema",
        child_order,
    ),
    row(
        "XDR-7",
        ObjectKind::Any,
        "names and values within the schema's lengths",
        lengths,
    ),
    row(
        "MD-99",
        ObjectKind::Submission,
        "one RegistryObjectList with known elements only",
        list,
    ),
    Rule {
        id: "LIM-4",
        levels: ALL,
        object: ObjectKind::Submission,
        code: Some(ErrorCode::XdsRepositoryOutOfResources),
        asks: "no more DocumentEntries than the limit",
        check: entry_count,
    },
    tolerated("MD-1", "slots with values", empty_slots),
    tolerated(
        "MD-4",
        "an ExternalIdentifier with its fixed Name",
        identifier_names,
    ),
    tolerated(
        "XDR-6",
        "an id on every Classification and ExternalIdentifier",
        inner_ids,
    ),
    Rule {
        id: "MD-21",
        levels: &[Level::Limited],
        object: ObjectKind::Any,
        code: None,
        asks: "the limitedMetadata label on every object of a limited submission",
        check: limited_labels,
    },
];

const fn row(
    id: &'static str,
    object: ObjectKind,
    asks: &'static str,
    check: fn(&Scope<'_>, &mut Report<'_>),
) -> Rule {
    Rule {
        id,
        levels: ALL,
        object,
        code: METADATA_ERROR,
        asks,
        check,
    }
}

/// A rule whose violations are only told.
const fn tolerated(
    id: &'static str,
    asks: &'static str,
    check: fn(&Scope<'_>, &mut Report<'_>),
) -> Rule {
    Rule {
        id,
        levels: ALL,
        object: ObjectKind::Any,
        code: None,
        asks,
        check,
    }
}

fn one_submission_set(scope: &Scope<'_>, report: &mut Report<'_>) {
    let count = scope.metadata.submission_sets().len();
    if count != 1 {
        report.refuse(
            "Submission.SubmissionSet",
            format!("{count} SubmissionSets; a submission has exactly one"),
        );
    }
}

/// An object without an XDS name, for locations.
fn unnamed(registry: &RegistryObject) -> Object<'_> {
    Object {
        kind: ObjectKind::Any,
        registry,
    }
}

fn labels(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.metadata.registry.objects {
        if object.kind == ElementKind::RegistryPackage {
            let is_both = object.is_labelled(submission_set::NODE);
            let text = if is_both {
                "a RegistryPackage labelled both SubmissionSet and Folder; it can be one of them"
            } else {
                "a RegistryPackage without the label of a SubmissionSet or a Folder"
            };
            report.refuse(unnamed(object).at("label"), text);
        }
    }
}

fn unique_ids(scope: &Scope<'_>, report: &mut Report<'_>) {
    let mut seen: HashMap<_, usize> = HashMap::new();
    let rest = scope.metadata.registry.objects.iter().map(unnamed);
    let objects: Vec<_> = scope.objects.iter().copied().chain(rest).collect();
    let loose = scope
        .metadata
        .registry
        .loose_classifications
        .iter()
        .filter_map(|classification| classification.id.as_deref());
    let ids = objects.iter().flat_map(|object| {
        let classified = object.registry.classifications.iter().map(|c| &c.id);
        let identified = object.registry.external_identifiers.iter().map(|i| &i.id);
        classified
            .chain(identified)
            .filter_map(|id| id.as_deref())
            .chain([object.id()])
    });
    for id in ids.chain(loose).filter(|id| !id.is_empty()) {
        *seen.entry(id_key(id)).or_default() += 1;
    }
    let mut repeated: Vec<_> = seen.into_iter().filter(|(_, count)| *count > 1).collect();
    repeated.sort_unstable();
    for (id, count) in repeated {
        let short: String = id.chars().take(super::MAX_ID_CHARACTERS).collect();
        report.refuse(
            format!("Submission({short}).id"),
            format!("the id stands on {count} elements; it may stand on one"),
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
                Some(_) => report.refuse(
                    object.at(attribute),
                    format!("{attribute} names another object than the one that it stands in"),
                ),
                None => report.tell(
                    is_strict,
                    object.at(attribute),
                    format!("{attribute} is missing; it names the object that it stands in"),
                ),
            }
        }
    }
    let ids: std::collections::HashSet<_> = scope
        .objects
        .iter()
        .map(|object| object.id())
        .chain(
            scope
                .metadata
                .registry
                .objects
                .iter()
                .map(|o| o.id.as_str()),
        )
        .map(id_key)
        .collect();
    for loose in &scope.metadata.registry.loose_classifications {
        let owner = loose.classified_object.as_deref().unwrap_or_default();
        if !ids.contains(&id_key(owner)) {
            report.refuse(
                "Submission.Classification.classifiedObject",
                "a Classification beside the objects names none of them",
            );
        }
    }
}

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

fn codes(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        for attribute in attributes_of(object.kind) {
            let Form::Code(scheme) = attribute.form else {
                continue;
            };
            for code in classifications(object.registry, scheme) {
                let representation = code.node_representation.as_deref().unwrap_or_default();
                if representation.trim().is_empty() {
                    report.refuse(
                        object.at(attribute.name),
                        "a code needs a nodeRepresentation that is not empty",
                    );
                }
                let schemes: Vec<_> = code
                    .slots
                    .iter()
                    .filter(|slot| slot.name == "codingScheme")
                    .flat_map(|slot| &slot.values)
                    .filter(|value| !value.trim().is_empty())
                    .collect();
                if schemes.len() != 1 {
                    report.refuse(
                        object.at(attribute.name),
                        "a code needs the Slot codingScheme with one value",
                    );
                }
            }
        }
    }
}

fn authors(scope: &Scope<'_>, report: &mut Report<'_>) {
    const NEEDED: [&str; 3] = [
        "authorPerson",
        "authorTelecommunication",
        "authorInstitution",
    ];
    for object in &scope.objects {
        for attribute in attributes_of(object.kind) {
            let Form::Author(scheme) = attribute.form else {
                continue;
            };
            for author in classifications(object.registry, scheme) {
                let is_named = author.slots.iter().any(|slot| {
                    NEEDED.contains(&slot.name.as_str())
                        && slot.values.iter().any(|value| !value.trim().is_empty())
                });
                if !is_named {
                    report.refuse(
                        object.at("author"),
                        "an author needs authorPerson, authorTelecommunication or authorInstitution",
                    );
                }
                let persons = author.slots.iter().find(|slot| slot.name == "authorPerson");
                if persons.is_some_and(|slot| slot.values.len() > 1) {
                    report.refuse(
                        object.at("author.authorPerson"),
                        "an author is one person; several authors are several Classifications",
                    );
                }
                if author
                    .slots
                    .iter()
                    .any(|slot| slot.name == "authorSpeciality")
                {
                    report.warn(
                        object.at("author.authorSpecialty"),
                        "the slot is spelled authorSpeciality; read as authorSpecialty",
                    );
                }
            }
        }
    }
}

fn titles(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        let limit = match object.kind {
            ObjectKind::DocumentEntry => 128,
            ObjectKind::SubmissionSet | ObjectKind::Folder => 256,
            _ => continue,
        };
        let title = object.registry.name.as_deref().unwrap_or_default();
        if title.chars().count() > limit {
            report.tell_value(
                scope.context.is_strict(),
                object.at("title"),
                format!("a title of more than {limit} characters"),
                title,
            );
        }
    }
}

fn child_order(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in scope
        .objects
        .iter()
        .filter(|o| !o.registry.is_in_schema_order)
    {
        report.tell(
            scope.context.is_strict(),
            format!("line {}", object.registry.line),
            "child elements must stand in the order Slot, Name, Description, VersionInfo, \
             Classification, ExternalIdentifier",
        );
    }
}

fn lengths(scope: &Scope<'_>, report: &mut Report<'_>) {
    const LONG_NAME: usize = 256;
    let is_strict = scope.context.is_strict();
    let is_long = |text: &str| text.chars().count() > LONG_NAME;
    for object in &scope.objects {
        let registry = object.registry;
        let inner = registry.classifications.iter().flat_map(|c| &c.slots);
        let slots: Vec<_> = registry.slots.iter().chain(inner).collect();
        let texts = slots
            .iter()
            .flat_map(|slot| slot.values.iter().chain([&slot.name]))
            .map(String::as_str);
        let identifiers = registry
            .external_identifiers
            .iter()
            .filter_map(|identifier| identifier.value.as_deref());
        let codes = registry
            .classifications
            .iter()
            .filter_map(|code| code.node_representation.as_deref());
        let mime_type = registry.attribute("mimeType");
        let all = texts.chain(identifiers).chain(codes).chain(mime_type);
        let long = all.filter(|text| is_long(text)).count();
        if long > 0 {
            report.tell(
                is_strict,
                object.name(),
                format!(
                    "{long} slot names, values, codes or identifiers of more than {LONG_NAME} characters"
                ),
            );
        }
        let localized = [&registry.name, &registry.description];
        let is_over = |text: &&Option<String>| {
            text.as_deref()
                .is_some_and(|text| text.chars().count() > 1024)
        };
        if localized.iter().any(is_over) {
            report.tell(
                is_strict,
                object.name(),
                "a Name or Description of more than 1024 characters",
            );
        }
    }
}

fn list(scope: &Scope<'_>, report: &mut Report<'_>) {
    let is_strict = scope.context.is_strict();
    let lists = scope.metadata.registry.lists;
    if lists != 1 {
        report.refuse(
            "Submission.RegistryObjectList",
            format!("{lists} RegistryObjectLists; a submission has one"),
        );
    }
    for object in &scope.metadata.registry.objects {
        if object.kind == ElementKind::Other {
            report.tell(
                is_strict,
                format!("line {}", object.line),
                "an element that has no place in a submission, carried as it is",
            );
        }
    }
}

fn entry_count(scope: &Scope<'_>, report: &mut Report<'_>) {
    let count = scope.metadata.document_entries().len();
    let limit = scope.context.max_document_entries;
    if count > limit {
        report.refuse(
            "Submission.DocumentEntry",
            format!("{count} DocumentEntries; at most {limit} are accepted"),
        );
    }
}

fn empty_slots(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        let registry = object.registry;
        let inner = registry.classifications.iter().flat_map(|c| &c.slots);
        let is_empty = |slot: &&super::super::Slot| {
            slot.values.is_empty() || slot.values.iter().any(|value| value.trim().is_empty())
        };
        let empty = registry.slots.iter().chain(inner).filter(is_empty).count();
        if empty > 0 {
            report.warn(
                object.name(),
                format!("{empty} slots without value or with an empty one, read as absent"),
            );
        }
    }
}

fn identifier_names(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        for attribute in attributes_of(object.kind) {
            let Form::Identifier(scheme, name) = attribute.form else {
                continue;
            };
            let is_nameless = object
                .registry
                .external_identifiers
                .iter()
                .any(|candidate| {
                    candidate
                        .scheme
                        .as_deref()
                        .is_some_and(|s| uuids::is(s, scheme))
                        && candidate.name.as_deref() != Some(name)
                });
            if is_nameless {
                report.warn(
                    object.at(attribute.name),
                    format!("the ExternalIdentifier should have the Name {name}"),
                );
            }
        }
    }
}

fn inner_ids(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        let registry = object.registry;
        let classified = registry.classifications.iter().map(|c| &c.id);
        let identified = registry.external_identifiers.iter().map(|i| &i.id);
        let missing = classified
            .chain(identified)
            .filter(|id| id.is_none())
            .count();
        if missing > 0 {
            report.warn(
                object.name(),
                format!("{missing} Classifications or ExternalIdentifiers without id"),
            );
        }
    }
}

fn limited_labels(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        let label = match object.kind {
            ObjectKind::SubmissionSet => submission_set::LIMITED_METADATA,
            ObjectKind::DocumentEntry => document_entry::LIMITED_METADATA,
            ObjectKind::Folder => folder::LIMITED_METADATA,
            _ => continue,
        };
        if !object.registry.is_labelled(label) {
            report.warn(
                object.at("limitedMetadata"),
                "no limitedMetadata label where another object has one; judged as limited",
            );
        }
    }
}
