//! What refers to what: Associations (metadata.md sections 4 and 6) and uniqueIds.

use std::collections::{HashMap, HashSet};

use super::{
    super::{super::xdr::ErrorCode, Association, id_key, is_uuid_urn, same_id},
    ALL, METADATA_ERROR, ObjectKind, Report, Rule, Scope,
};

pub(super) static RULES: &[Rule] = &[
    row(
        "MD-30",
        "an Association with type, source and target",
        complete,
    ),
    row("MD-97", "a known association type", known_type),
    row("MD-36", "the association type as a URN", type_is_urn),
    row(
        "MD-90",
        "symbolic references to objects of the message",
        resolved,
    ),
    row(
        "MD-35",
        "nothing that targets the SubmissionSet, only HasMember from it, no self reference",
        directions,
    ),
    row(
        "MD-34",
        "a relationship from a DocumentEntry of this submission; no XFRM result appended",
        relationships,
    ),
    row(
        "MD-89",
        "SubmissionSetStatus Original for targets in the message, Reference for others",
        statuses,
    ),
    Rule {
        id: "MD-88",
        levels: ALL,
        object: ObjectKind::DocumentEntry,
        code: METADATA_ERROR,
        asks: "one HasMember with Original from the SubmissionSet to each DocumentEntry",
        check: entries_linked,
    },
    Rule {
        id: "MD-91",
        levels: ALL,
        object: ObjectKind::Folder,
        code: METADATA_ERROR,
        asks: "a HasMember from the SubmissionSet to each Folder",
        check: folders_linked,
    },
    Rule {
        id: "MD-93",
        levels: ALL,
        object: ObjectKind::Submission,
        code: Some(ErrorCode::XdsRepositoryDuplicateUniqueIdInMessage),
        asks: "every uniqueId once in the message",
        check: unique_ids,
    },
];

const fn row(id: &'static str, asks: &'static str, check: fn(&Scope<'_>, &mut Report<'_>)) -> Rule {
    Rule {
        id,
        levels: ALL,
        object: ObjectKind::Association,
        code: METADATA_ERROR,
        asks,
        check,
    }
}

fn complete(scope: &Scope<'_>, report: &mut Report<'_>) {
    for (association, object) in scope.associations() {
        for (attribute, value) in [
            ("associationType", &association.kind),
            ("sourceObject", &association.source),
            ("targetObject", &association.target),
        ] {
            if value.is_empty() {
                report.refuse(object.at(attribute), format!("{attribute} is missing"));
            }
        }
    }
}

fn known_type(scope: &Scope<'_>, report: &mut Report<'_>) {
    for (association, object) in scope.associations() {
        let is_known = association.is_has_member() || association.is_relationship();
        if !is_known && !association.kind.is_empty() {
            report.tell(
                scope.context.is_strict(),
                object.at("associationType"),
                "an unknown association type; known are HasMember, RPLC, XFRM, APND, XFRM_RPLC, signs \
                 and IsSnapshotOf",
            );
        }
    }
}

fn type_is_urn(scope: &Scope<'_>, report: &mut Report<'_>) {
    for (association, object) in scope.associations() {
        let written = association.registry.attribute("associationType");
        if written.is_some_and(|kind| kind.trim() != association.kind) {
            report.warn(
                object.at("associationType"),
                "a short association type, read as the URN that ends with it",
            );
        }
    }
}

/// The ids of all objects in the message.
fn ids<'a>(scope: &Scope<'a>) -> HashSet<std::borrow::Cow<'a, str>> {
    let rest = scope.metadata.registry.objects.iter();
    scope
        .objects
        .iter()
        .map(|object| object.id())
        .chain(rest.map(|object| object.id.as_str()))
        .map(id_key)
        .collect()
}

fn resolved(scope: &Scope<'_>, report: &mut Report<'_>) {
    let ids = ids(scope);
    for (association, object) in scope.associations() {
        for (attribute, id) in [
            ("sourceObject", &association.source),
            ("targetObject", &association.target),
        ] {
            // A UUID may name an object elsewhere: carried, not resolved (MD-37).
            let is_open = !id.is_empty() && !is_uuid_urn(id) && !ids.contains(&id_key(id));
            if is_open {
                report.refuse(
                    object.at(attribute),
                    format!("{attribute} is symbolic and names no object of the message"),
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
                "the SubmissionSet cannot be the target of an Association",
            );
        }
        if is_submission_set(scope, &association.source) && (association.is_relationship()) {
            report.refuse(
                object.at("associationType"),
                "an Association from the SubmissionSet must be HasMember",
            );
        }
        if !association.source.is_empty() && same_id(&association.source, &association.target) {
            report.refuse(
                object.at("targetObject"),
                "an Association cannot lead from an object to itself",
            );
        }
    }
}

fn relationships(scope: &Scope<'_>, report: &mut Report<'_>) {
    let entries: HashSet<_> = scope
        .metadata
        .document_entries()
        .iter()
        .map(|entry| id_key(&entry.id))
        .collect();
    let is_kind = |association: &Association, name: &str| {
        association.is_relationship() && association.kind.rsplit(':').next() == Some(name)
    };
    let transformed: HashSet<_> = scope
        .metadata
        .associations()
        .iter()
        .filter(|association| is_kind(association, "XFRM") || is_kind(association, "XFRM_RPLC"))
        .map(|association| id_key(&association.source))
        .collect();
    for (association, object) in scope.associations() {
        if !association.is_relationship() {
            continue;
        }
        let is_new = entries.contains(&id_key(&association.source));
        if !association.source.is_empty() && !is_new {
            report.refuse(
                object.at("sourceObject"),
                "the source of a relationship must be a DocumentEntry of this submission",
            );
        }
        if is_kind(association, "APND") && transformed.contains(&id_key(&association.source)) {
            report.refuse(
                object.at("associationType"),
                "the result of a transformation cannot be appended",
            );
        }
    }
}

/// What a HasMember of the SubmissionSet leads to.
fn members<'a>(scope: &Scope<'a>) -> impl Iterator<Item = (&'a Association, super::Object<'a>)> {
    let set = scope.metadata.submission_sets().first();
    scope.associations().filter(move |(association, _)| {
        association.is_has_member()
            && set.is_some_and(|set| !set.id.is_empty() && same_id(&set.id, &association.source))
    })
}

fn statuses(scope: &Scope<'_>, report: &mut Report<'_>) {
    let entries: HashSet<_> = scope
        .metadata
        .document_entries()
        .iter()
        .map(|entry| id_key(&entry.id))
        .collect();
    let ids = ids(scope);
    for (association, object) in members(scope) {
        let target = id_key(&association.target);
        let is_inside = ids.contains(&target);
        let is_entry = entries.contains(&target);
        let location = || object.at("SubmissionSetStatus");
        match association.submission_set_status.as_deref() {
            Some("Original") if !is_inside => report.refuse(
                location(),
                "Original means that the target is in the message, and it is not",
            ),
            Some("Reference") if is_inside => report.refuse(
                location(),
                "Reference means that the target is not in the message, and it is",
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
                    "{count} HasMember Associations from the SubmissionSet; exactly one is needed"
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
                "no HasMember Association from the SubmissionSet leads to this Folder",
            );
        }
    }
}

fn unique_ids(scope: &Scope<'_>, report: &mut Report<'_>) {
    let mut seen: HashSet<&str> = HashSet::new();
    let of_kind = |kind| scope.of_kind(kind);
    let sets = scope
        .metadata
        .submission_sets()
        .iter()
        .map(|set| &set.unique_id);
    let entries = scope
        .metadata
        .document_entries()
        .iter()
        .map(|e| &e.unique_id);
    let folders = scope
        .metadata
        .folders()
        .iter()
        .map(|folder| &folder.unique_id);
    let objects = of_kind(ObjectKind::SubmissionSet)
        .chain(of_kind(ObjectKind::DocumentEntry))
        .chain(of_kind(ObjectKind::Folder));
    for (object, unique_id) in objects.zip(sets.chain(entries).chain(folders)) {
        if let Some(unique_id) = unique_id
            && !seen.insert(unique_id)
        {
            report.refuse_value(
                object.at("uniqueId"),
                "another object of the message has this uniqueId too",
                unique_id,
            );
        }
    }
}
