//! Codes, authors and ExternalIdentifiers, which are built of several parts (metadata.md section 1).

use super::{
    super::{Slot, ebrim::Classification, uuids},
    ObjectKind, Report, Row, Scope,
    attributes::{Form, attributes_of},
    scope::short,
    table::{refuses, tells},
};

pub(super) static ROWS: &[Row] = &[
    refuses(
        "MD-2",
        ObjectKind::Any,
        "a code with nodeRepresentation, one codingScheme and a display name",
        codes,
    ),
    refuses(
        "MD-3",
        ObjectKind::Any,
        "an author with a person, an institution or a telecommunication address, and nothing that no author has",
        authors,
    ),
    tells(
        "MD-4",
        ObjectKind::Any,
        "an ExternalIdentifier with its fixed Name",
        identifier_names,
    ),
];

/// The values of a slot that are not empty.
fn filled<'a>(slots: &'a [Slot], name: &'a str) -> impl Iterator<Item = &'a str> {
    slots
        .iter()
        .filter(move |slot| slot.name == name)
        .flat_map(|slot| &slot.values)
        .map(String::as_str)
        .filter(|value| !value.trim().is_empty())
}

fn codes(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        for (attribute, code) in &object.classified {
            if !matches!(attribute.form, Form::Code(_)) {
                continue;
            }
            let representation = code.node_representation.as_deref().unwrap_or_default();
            if representation.trim().is_empty() {
                report.refuse(
                    object.at(attribute.name),
                    "a code without nodeRepresentation; it must be there and not empty",
                );
            }
            let schemes = filled(&code.slots, "codingScheme").count();
            if schemes != 1 {
                report.refuse(
                    object.at(attribute.name),
                    format!("a code with {schemes} coding schemes; it must have the Slot codingScheme with one value"),
                );
            }
            if code.name.is_none() {
                report.warn(
                    object.at(attribute.name),
                    "a code without display name; it should have a Name",
                );
            }
        }
    }
}

const AUTHOR_SLOTS: [&str; 6] = [
    "authorPerson",
    "authorInstitution",
    "authorRole",
    "authorSpecialty",
    "authorSpeciality",
    "authorTelecommunication",
];

fn authors(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        for (attribute, author) in &object.classified {
            if !matches!(attribute.form, Form::Author(_)) {
                continue;
            }
            let at = |slot: &str| object.at(&format!("author.{slot}"));
            let has = |slot| filled(&author.slots, slot).next().is_some();
            if !has("authorPerson") && !has("authorInstitution") && !has("authorTelecommunication")
            {
                report.refuse(
                    object.at("author"),
                    "an author must have authorPerson, authorTelecommunication or authorInstitution",
                );
            }
            if filled(&author.slots, "authorPerson").count() > 1 {
                report.refuse(
                    at("authorPerson"),
                    "several persons in one author; it must be one person, and several authors several Classifications",
                );
            }
            if author
                .slots
                .iter()
                .any(|slot| slot.name == "authorSpeciality")
            {
                report.warn(
                    at("authorSpecialty"),
                    "the slot is spelled authorSpeciality; read as authorSpecialty, which is accepted without a word",
                );
            }
            for slot in &author.slots {
                let is_known = AUTHOR_SLOTS.contains(&slot.name.as_str());
                if !is_known && !slot.name.starts_with("urn:") {
                    report.warn(
                        at(short(&slot.name)),
                        "a slot that no author has, carried, not read; accepted are authorPerson, authorInstitution, \
                         authorRole, authorSpecialty and authorTelecommunication",
                    );
                }
            }
            if is_coded(author) {
                report.warn(
                    object.at("author"),
                    "an author with a Name or a code, carried, not read; nodeRepresentation should be empty and there \
                     should be no Name",
                );
            }
        }
    }
}

fn is_coded(author: &Classification) -> bool {
    let representation = author.node_representation.as_deref().unwrap_or_default();
    author.name.is_some() || !representation.trim().is_empty()
}

fn identifier_names(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        let fixed = attributes_of(object.kind).iter();
        let fixed = fixed.filter_map(|attribute| match attribute.form {
            Form::Identifier(scheme, name) => Some((attribute, scheme, name)),
            _ => None,
        });
        for (attribute, scheme, name) in fixed {
            let identifiers = object.registry.external_identifiers.iter();
            let mut of_scheme = identifiers.filter(|candidate| {
                let found = candidate.scheme.as_deref();
                found.is_some_and(|found| uuids::is(found, scheme))
            });
            if of_scheme.any(|candidate| candidate.name.as_deref() != Some(name)) {
                report.warn(
                    object.at(attribute.name),
                    format!("the ExternalIdentifier should have the Name {name}"),
                );
            }
        }
    }
}
