//! Which attributes are there, and how often: the table of [`super::attributes`] held against the objects.

use std::collections::HashMap;

use super::{
    super::{Level, Slot},
    Container, Object, ObjectKind, Profile, Report, Row, Scope,
    attributes::{Attribute, Form, Optionality, attributes_by_place, attributes_of},
    scope::short,
    table::{refuses, tells},
};

pub(super) static ROWS: &[Row] = &[
    refuses(
        "MD-94",
        ObjectKind::Any,
        "every attribute that is required at the message's level",
        required_attributes,
    ),
    refuses(
        "MD-23",
        ObjectKind::SubmissionSet,
        "a recipient, in intendedRecipient or direct:to",
        a_recipient,
    )
    .only_at(&[Level::Minimal]),
    refuses(
        "MD-84",
        ObjectKind::Any,
        "one Classification or ExternalIdentifier for a single-valued attribute, of a known scheme",
        schemes,
    ),
    refuses(
        "MD-85",
        ObjectKind::Any,
        "each slot name once in an object, one value in a single-valued slot",
        slots_once,
    ),
    tells(
        "MD-8",
        ObjectKind::Any,
        "an extra slot whose name is a URN of its own",
        extra_slots,
    ),
];

/// Whether the object holds a value of an attribute.
fn is_present(object: &Object<'_>, attribute: &Attribute) -> bool {
    match attribute.form {
        Form::Name => object.registry.name.is_some(),
        Form::Description => object.registry.description.is_some(),
        Form::Code(_) | Form::Author(_) => object
            .classified
            .iter()
            .any(|(found, _)| found.name == attribute.name),
        Form::Xml(_) | Form::Slot(_) | Form::Identifier(..) => object
            .values_of(attribute.name)
            .any(|value| !value.trim().is_empty()),
    }
}

/// What the absence of an attribute means.
fn judge_absence(scope: &Scope<'_>, attribute: &Attribute) -> Option<bool> {
    let context = scope.context;
    let is_required = |column: Optionality| column == Optionality::Required;
    let is_xdm = context.container == Container::Xdm;
    match context.effective_level() {
        _ if attribute.is_indispensable() => Some(true),
        // A medium without URIs is read: hash and size find the files (XDM-13, XDM-42).
        _ if is_xdm && attribute.name == "URI" => Some(false),
        Level::Minimal if is_xdm && is_required(attribute.xdm) => {
            // submissionTime is R in both columns; at minimal nobody insists on it (MD-23).
            Some(!is_required(attribute.minimal))
        }
        Level::Minimal => is_required(attribute.minimal).then_some(false),
        _ if is_xdm => is_required(attribute.xdm).then_some(true),
        Level::Limited => is_required(attribute.limited).then_some(true),
        Level::Full => {
            is_required(attribute.full).then_some(context.profile == Profile::FullStrict)
        }
    }
}

fn required_attributes(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        for attribute in attributes_of(object.kind) {
            // Rules of their own: MD-86 and MD-87.
            if matches!(attribute.name, "objectType" | "mimeType") {
                continue;
            }
            if let Some(is_error) = judge_absence(scope, attribute)
                && !is_present(object, attribute)
            {
                let level = scope.context.effective_level().as_str();
                let text = format!(
                    "{} is missing; {level} metadata needs it as {}",
                    attribute.name,
                    attribute.form.describe()
                );
                report.tell(is_error, object.at(attribute.name), text);
            }
        }
    }
}

fn a_recipient(scope: &Scope<'_>, report: &mut Report<'_>) {
    if scope.context.has_recipient || scope.context.container == Container::Xdm {
        return;
    }
    for set in scope.of_kind(ObjectKind::SubmissionSet) {
        let mut recipients = set.values_of("intendedRecipient");
        if !recipients.any(|value| !value.trim().is_empty()) {
            report.refuse(
                set.at("intendedRecipient"),
                "no recipient: name one in intendedRecipient or direct:to",
            );
        }
    }
}

fn schemes(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        let place = attributes_by_place(object.kind);
        let classifications = object.registry.classifications.iter();
        // One without scheme is a label (MD-6).
        let classified = classifications
            .filter_map(|inner| inner.scheme.as_deref())
            .map(|scheme| (scheme, place.classification(scheme)));
        let identified = object.registry.external_identifiers.iter();
        let identified = identified
            .map(|inner| inner.scheme.as_deref().unwrap_or_default())
            .map(|scheme| (scheme, place.identifier(scheme)));
        let mut counts: Vec<(&Attribute, usize)> = Vec::new();
        for (scheme, attribute) in classified.chain(identified) {
            let Some(attribute) = attribute else {
                report.warn_value(
                    object.at("scheme"),
                    "a Classification or ExternalIdentifier of unknown scheme, carried, not read; accepted are the \
                     schemes of the object's own attributes",
                    scheme,
                );
                continue;
            };
            match counts
                .iter_mut()
                .find(|(known, _)| known.name == attribute.name)
            {
                Some((_, count)) => *count += 1,
                None => counts.push((attribute, 1)),
            }
        }
        for (attribute, count) in counts {
            if count > 1 && !attribute.is_multiple {
                report.refuse(
                    object.at(attribute.name),
                    format!(
                        "{} occurs {count} times; it must occur once",
                        attribute.name
                    ),
                );
            }
        }
    }
}

/// The names that occur more than once.
fn repeated(slots: &[Slot]) -> Vec<(&str, usize)> {
    if slots.len() < 2 {
        return Vec::new();
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for slot in slots {
        *counts.entry(&slot.name).or_default() += 1;
    }
    let mut repeated: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 1).collect();
    repeated.sort_unstable();
    repeated
}

fn slots_once(scope: &Scope<'_>, report: &mut Report<'_>) {
    let text = |count| format!("the slot occurs {count} times; its values must stand in one slot");
    for object in &scope.objects {
        for (name, count) in repeated(&object.registry.slots) {
            report.refuse(object.at(short(name)), text(count));
        }
        for inner in &object.registry.classifications {
            for (name, count) in repeated(&inner.slots) {
                let location = object.at(&format!("Classification.{}", short(name)));
                report.tell(scope.context.is_strict(), location, text(count));
            }
        }
        let place = attributes_by_place(object.kind);
        for slot in &object.registry.slots {
            if let Some(attribute) = place.slot(&slot.name)
                && !attribute.is_multiple
                && slot.values.len() > 1
            {
                let text = format!("{} values; one is accepted", slot.values.len());
                report.refuse(object.at(attribute.name), text);
            }
        }
    }
}

fn extra_slots(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        let place = attributes_by_place(object.kind);
        for slot in &object.registry.slots {
            let is_known = place.slot(&slot.name).is_some();
            let is_own_urn = slot.name.starts_with("urn:") && !slot.name.starts_with("urn:ihe:");
            if !is_known && !is_own_urn {
                report.warn(
                    object.at(short(&slot.name)),
                    "a slot of unknown name, carried as it is; the name of an extra slot should be a URN that does \
                     not begin with urn:ihe:",
                );
            }
        }
    }
}
