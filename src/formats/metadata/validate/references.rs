//! What refers to what: Associations (metadata.md sections 4 and 6) and uniqueIds.

use std::collections::{HashMap, HashSet};

use super::{
    super::{super::xdr::ErrorCode, Association, id_key, is_uuid_urn, same_id},
    Object, ObjectKind, Report, Row, Scope,
    table::{refuses, refuses_if_strict, refuses_with, tells},
};

pub(super) static ROWS: &[Row] = &[
    refuses(
        "MD-30",
        ObjectKind::Association,
        "an Association with type, source and target",
        complete,
    ),
    refuses_if_strict(
        "MD-97",
        ObjectKind::Association,
        "a known association type",
        known_type,
    ),
    tells(
        "MD-36",
        ObjectKind::Association,
        "the association type as a URN",
        type_is_urn,
    ),
    refuses(
        "MD-90",
        ObjectKind::Association,
        "symbolic references to objects of the message",
        resolved,
    ),
    refuses(
        "MD-35",
        ObjectKind::Association,
        "nothing that targets the SubmissionSet, only HasMember from it, no self reference",
        directions,
    ),
    refuses(
        "MD-33",
        ObjectKind::Association,
        "HasMember from SubmissionSet or Folder to what they may hold; one from the SubmissionSet to each that adds to \
         or from elsewhere",
        memberships,
    ),
    refuses(
        "MD-34",
        ObjectKind::Association,
        "a relationship from a DocumentEntry of this submission to a DocumentEntry; no XFRM result appended",
        relationships,
    ),
    refuses(
        "MD-89",
        ObjectKind::Association,
        "SubmissionSetStatus Original for targets in the message, Reference for others",
        statuses,
    ),
    refuses(
        "MD-88",
        ObjectKind::DocumentEntry,
        "one HasMember from the SubmissionSet to each DocumentEntry",
        entries_linked,
    ),
    refuses(
        "MD-91",
        ObjectKind::Folder,
        "a HasMember from the SubmissionSet to each Folder",
        folders_linked,
    ),
    refuses_with(
        "MD-93",
        ObjectKind::Submission,
        ErrorCode::XdsRepositoryDuplicateUniqueIdInMessage,
        "every uniqueId once in the message",
        unique_ids,
    ),
];

fn complete(scope: &Scope<'_>, report: &mut Report<'_>) {
    for (association, object) in scope.associations() {
        for (attribute, value) in [
            ("associationType", &association.kind),
            ("sourceObject", &association.source),
            ("targetObject", &association.target),
        ] {
            if value.is_empty() {
                report.refuse(
                    object.at(attribute),
                    format!("{attribute} is missing; an Association must have it"),
                );
            }
        }
    }
}

fn known_type(scope: &Scope<'_>, report: &mut Report<'_>) {
    for (association, object) in scope.associations() {
        let is_known = association.is_has_member() || association.is_relationship();
        if !is_known && !association.kind.is_empty() {
            report.tell_value(
                scope.context.is_strict(),
                object.at("associationType"),
                "an unknown association type; accepted are the URNs of HasMember, RPLC, XFRM, APND, XFRM_RPLC, signs \
                 and IsSnapshotOf",
                &association.kind,
            );
        }
    }
}

fn type_is_urn(scope: &Scope<'_>, report: &mut Report<'_>) {
    for (association, object) in scope.associations() {
        let written = association.registry.attribute("associationType");
        if written.is_some_and(|kind| kind.trim() != association.kind) {
            report.warn_value(
                object.at("associationType"),
                "a short association type, read as the URN that ends with it, which is accepted without a word",
                written.unwrap_or_default(),
            );
        }
    }
}

fn resolved(scope: &Scope<'_>, report: &mut Report<'_>) {
    for (association, object) in scope.associations() {
        for (attribute, id) in [
            ("sourceObject", &association.source),
            ("targetObject", &association.target),
        ] {
            // A UUID may name an object elsewhere: carried, not resolved (MD-37).
            let is_open = !id.is_empty() && !is_uuid_urn(id) && !scope.ids.contains(&id_key(id));
            if is_open {
                report.refuse_value(
                    object.at(attribute),
                    format!("{attribute} is symbolic and must be the id of an object of the message, or a UUID"),
                    id,
                );
            }
        }
    }
}

fn is_submission_set(scope: &Scope<'_>, id: &str) -> bool {
    !id.is_empty()
        && scope
            .metadata
            .submission_sets()
            .first()
            .is_some_and(|set| same_id(&set.id, id))
}

fn directions(scope: &Scope<'_>, report: &mut Report<'_>) {
    for (association, object) in scope.associations() {
        if is_submission_set(scope, &association.target) {
            report.refuse(
                object.at("targetObject"),
                "the SubmissionSet cannot be the target; another object must be",
            );
        }
        let is_other = !association.kind.is_empty() && !association.is_has_member();
        if is_other && is_submission_set(scope, &association.source) {
            report.refuse(
                object.at("associationType"),
                "an Association from the SubmissionSet must be HasMember",
            );
        }
        if !association.source.is_empty() && same_id(&association.source, &association.target) {
            report.refuse(
                object.at("targetObject"),
                "an Association from an object to itself; it must lead to another",
            );
        }
    }
}

fn memberships(scope: &Scope<'_>, report: &mut Report<'_>) {
    let metadata = scope.metadata;
    let folders: HashSet<_> = metadata.folders.iter().map(|f| id_key(&f.id)).collect();
    let associations = metadata.associations.iter();
    let links: HashMap<_, _> = associations.map(|link| (id_key(&link.id), link)).collect();
    let held: HashSet<_> = members(scope)
        .map(|(link, _)| id_key(&link.target))
        .collect();
    for (association, object) in scope.associations().filter(|(a, _)| a.is_has_member()) {
        let (source, target) = (id_key(&association.source), id_key(&association.target));
        if is_submission_set(scope, &association.source) {
            let link = links.get(&target);
            if link.is_some_and(|link| !link.is_has_member()) {
                report.refuse(
                    object.at("targetObject"),
                    "an Association that is no HasMember; a SubmissionSet holds DocumentEntries, Folders and the \
                     HasMembers of Folders, one of which must be named",
                );
            }
            continue;
        }
        let is_new_folder = folders.contains(&source);
        if scope.ids.contains(&source) && !is_new_folder {
            report.refuse(
                object.at("sourceObject"),
                "the source of a HasMember must be the SubmissionSet or a Folder",
            );
            continue;
        }
        let is_new_entry = scope.entry_ids.contains(&target);
        if scope.ids.contains(&target) && !is_new_entry {
            report.refuse(
                object.at("targetObject"),
                "a Folder holds DocumentEntries; the target must be one",
            );
            continue;
        }
        // What is elsewhere is named by a UUID; anything else is MD-90's or MD-30's.
        let is_folder = is_new_folder || is_uuid_urn(&association.source);
        let is_entry = is_new_entry || is_uuid_urn(&association.target);
        let is_elsewhere = !is_new_folder || !is_new_entry;
        let is_held = held.contains(&id_key(&association.id));
        if is_folder && is_entry && is_elsewhere && !is_held {
            report.tell(
                scope.context.is_strict(),
                object.at("association"),
                "a HasMember of a Folder or to a DocumentEntry that is elsewhere; the SubmissionSet must hold it by a \
                 HasMember of its own",
            );
        }
    }
}

fn relationships(scope: &Scope<'_>, report: &mut Report<'_>) {
    let is_kind = |association: &Association, names: &[&str]| {
        let name = association.kind.rsplit(':').next().unwrap_or_default();
        association.is_relationship() && names.contains(&name)
    };
    let associations = scope.metadata.associations.iter();
    let transformed: HashSet<_> = associations
        .filter(|association| is_kind(association, &["XFRM", "XFRM_RPLC"]))
        .map(|association| id_key(&association.source))
        .collect();
    for (association, object) in scope.associations().filter(|(a, _)| a.is_relationship()) {
        let (source, target) = (id_key(&association.source), id_key(&association.target));
        if !source.is_empty() && !scope.entry_ids.contains(&source) {
            report.refuse_value(
                object.at("sourceObject"),
                "the source of a relationship must be a DocumentEntry of this submission",
                &association.source,
            );
        }
        let is_inside = scope.ids.contains(&target);
        let is_entry = scope.entry_ids.contains(&target);
        // The SubmissionSet as target is MD-35's.
        if is_inside && !is_entry && !is_submission_set(scope, &association.target) {
            report.refuse_value(
                object.at("targetObject"),
                "the target of a relationship must be a DocumentEntry",
                &association.target,
            );
        }
        if is_entry
            && source != target
            && is_kind(association, &["RPLC", "XFRM_RPLC", "IsSnapshotOf"])
        {
            report.tell_value(
                scope.context.is_strict(),
                object.at("targetObject"),
                "the target must be registered already: a DocumentEntry of an earlier submission, by its UUID",
                &association.target,
            );
        }
        if is_kind(association, &["APND"]) && transformed.contains(&source) {
            report.refuse(
                object.at("associationType"),
                "the result of a transformation cannot be appended; APND must come from another DocumentEntry",
            );
        }
    }
}

/// What a HasMember of the SubmissionSet leads to.
fn members<'s, 'a>(
    scope: &'s Scope<'a>,
) -> impl Iterator<Item = (&'a Association, &'s Object<'a>)> {
    let set = scope.metadata.submission_sets.first();
    scope.associations().filter(move |(association, _)| {
        association.is_has_member()
            && set.is_some_and(|set| !set.id.is_empty() && same_id(&set.id, &association.source))
    })
}

fn statuses(scope: &Scope<'_>, report: &mut Report<'_>) {
    for (association, object) in members(scope) {
        let target = id_key(&association.target);
        let is_inside = scope.ids.contains(&target);
        let is_entry = scope.entry_ids.contains(&target);
        let location = || object.at("SubmissionSetStatus");
        match association.submission_set_status.as_deref() {
            Some("Original") if !is_inside => report.refuse(
                location(),
                "Original means that the target is in the message, and it is not; it must be Reference",
            ),
            Some("Reference") if is_inside => report.refuse(
                location(),
                "Reference means that the target is not in the message, and it is; it must be Original",
            ),
            Some("Original" | "Reference") => {}
            Some(other) => report.refuse_value(
                location(),
                "SubmissionSetStatus must be Original or Reference",
                other,
            ),
            // Folders and Associations need none (MD-32, MD-33).
            None if is_entry || !is_inside => report.refuse(
                location(),
                "SubmissionSetStatus is missing; it must be Original or Reference",
            ),
            None => {}
        }
    }
}

fn entries_linked(scope: &Scope<'_>, report: &mut Report<'_>) {
    let mut links: HashMap<_, usize> = HashMap::new();
    for (association, _) in members(scope) {
        // A wrong or missing status is MD-89's; the link itself is there.
        *links.entry(id_key(&association.target)).or_default() += 1;
    }
    for entry in scope.of_kind(ObjectKind::DocumentEntry) {
        let count = links.get(&id_key(entry.id())).copied().unwrap_or(0);
        if count != 1 {
            report.refuse(
                entry.at("association"),
                format!(
                    "{count} HasMember Associations from the SubmissionSet; there must be exactly one"
                ),
            );
        }
    }
}

fn folders_linked(scope: &Scope<'_>, report: &mut Report<'_>) {
    let links: HashSet<_> = members(scope)
        .map(|(association, _)| id_key(&association.target))
        .collect();
    for folder in scope.of_kind(ObjectKind::Folder) {
        if !links.contains(&id_key(folder.id())) {
            report.refuse(
                folder.at("association"),
                "no HasMember Association from the SubmissionSet leads to this Folder; one must",
            );
        }
    }
}

fn unique_ids(scope: &Scope<'_>, report: &mut Report<'_>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for object in scope.described() {
        let mut values = object.values_of("uniqueId").map(str::trim);
        if let Some(unique_id) = values.find(|value| !value.is_empty())
            && !seen.insert(unique_id)
        {
            report.refuse_value(
                object.at("uniqueId"),
                "another object of the message has this uniqueId too; it must be its own",
                unique_id,
            );
        }
    }
}
