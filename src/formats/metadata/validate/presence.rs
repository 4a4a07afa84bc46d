//! Which attributes are there, and how often: the table of [`super::attributes`] held against the objects.

use std::collections::HashMap;

use super::{
    super::Level,
    ALL, Container, METADATA_ERROR, Object, ObjectKind, Profile, Report, Rule, Scope,
    attributes::{Attribute, Form, Optionality, attributes_of},
};

pub(super) static RULES: &[Rule] = &[
    Rule {
        id: "MD-94",
        levels: ALL,
        object: ObjectKind::Any,
        code: METADATA_ERROR,
        asks: "every attribute that is required at the message's level",
        check: required_attributes,
    },
    Rule {
        id: "MD-23",
        levels: &[Level::Minimal],
        object: ObjectKind::SubmissionSet,
        code: METADATA_ERROR,
        asks: "a recipient, in intendedRecipient or direct:to",
        check: a_recipient,
    },
    Rule {
        id: "MD-84",
        levels: ALL,
        object: ObjectKind::Any,
        code: METADATA_ERROR,
        asks: "one Classification or ExternalIdentifier for a single-valued attribute, of a known scheme",
        check: schemes,
    },
    Rule {
        id: "MD-85",
        levels: ALL,
        object: ObjectKind::Any,
        code: METADATA_ERROR,
        asks: "each slot name once in an object, one value in a single-valued slot",
        check: slots_once,
    },
    Rule {
        id: "MD-8",
        levels: ALL,
        object: ObjectKind::Any,
        code: None,
        asks: "an extra slot whose name is a URN",
        check: extra_slots,
    },
];

/// What the absence of an attribute means.
fn judge_absence(scope: &Scope<'_>, attribute: &Attribute) -> Option<bool> {
    let context = scope.context;
    let is_required = |column: Optionality| column == Optionality::Required;
    let is_xdm = context.container == Container::Xdm;
    match context.effective_level() {
        _ if attribute.is_indispensable() => Some(true),
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
                && !attribute.is_present(object.registry)
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
    for set in scope.metadata.submission_sets() {
        if set.intended_recipients.is_empty() {
            let object = Object {
                kind: ObjectKind::SubmissionSet,
                registry: &set.registry,
            };
            report.refuse(
                object.at("intendedRecipient"),
                "no recipient: name one in intendedRecipient or direct:to",
            );
        }
    }
}

fn schemes(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        let mut counts: HashMap<String, usize> = HashMap::new();
        let classified = object
            .registry
            .classifications
            .iter()
            .filter_map(|classification| classification.scheme.as_deref());
        let identified = object
            .registry
            .external_identifiers
            .iter()
            .map(|identifier| identifier.scheme.as_deref().unwrap_or_default());
        for scheme in classified.chain(identified) {
            *counts
                .entry(scheme.trim().to_ascii_lowercase())
                .or_default() += 1;
        }
        for attribute in attributes_of(object.kind) {
            let (Form::Code(scheme) | Form::Author(scheme) | Form::Identifier(scheme, _)) =
                attribute.form
            else {
                continue;
            };
            let count = counts.remove(scheme).unwrap_or(0);
            if count > 1 && !attribute.is_multiple {
                report.refuse(
                    object.at(attribute.name),
                    format!("{} occurs {count} times; it may occur once", attribute.name),
                );
            }
        }
        // What is left is of no known scheme: it is carried.
        let unknown: usize = counts.values().sum();
        if unknown > 0 {
            report.warn(
                object.name(),
                format!("{unknown} Classifications or ExternalIdentifiers of unknown scheme, carried as they are"),
            );
        }
    }
}

fn slots_once(scope: &Scope<'_>, report: &mut Report<'_>) {
    for object in &scope.objects {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for slot in &object.registry.slots {
            *counts.entry(&slot.name).or_default() += 1;
        }
        let mut repeated: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 1).collect();
        repeated.sort_unstable();
        for (name, count) in repeated {
            let text = format!("the slot occurs {count} times; its values belong into one slot");
            report.refuse(object.at(&short(name)), text);
        }
        for attribute in attributes_of(object.kind).filter(|attribute| !attribute.is_multiple) {
            if let Form::Slot(name) = attribute.form
                && let Some(slot) = object.registry.slots.iter().find(|slot| slot.name == name)
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
        for slot in &object.registry.slots {
            let is_known = attributes_of(object.kind)
                .any(|attribute| matches!(attribute.form, Form::Slot(known) if known == slot.name));
            if !is_known && !slot.name.starts_with("urn:") {
                report.warn(
                    object.at(&short(&slot.name)),
                    "a slot of unknown name, carried as it is; the name of an extra slot should be a URN",
                );
            }
        }
    }
}

/// A slot name as a location shows it.
fn short(name: &str) -> String {
    name.chars().take(super::MAX_ID_CHARACTERS).collect()
}
