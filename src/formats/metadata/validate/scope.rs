//! What a check looks at, and where it tells what it found.

use super::{
    super::{
        Association, Metadata,
        ebrim::{Classification, RegistryObject},
        id_key,
    },
    Context,
    attributes::{Attribute, attributes_by_place},
    table::{ObjectKind, Rule},
};
use crate::formats::finding::{Finding, Findings};

use std::{borrow::Cow, collections::HashSet};

/// Longest part of an id that goes into a location, in characters: a codeContext has 256 (metadata.md section 6).
const MAX_ID_CHARACTERS: usize = 100;

/// What a check may look at.
pub(super) struct Scope<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) context: &'a Context<'a>,
    /// SubmissionSets, DocumentEntries, Folders, Associations, in this order.
    pub(super) objects: Vec<Object<'a>>,
    /// The ids of all objects in the message, in the form in which they are compared.
    pub(super) ids: HashSet<Cow<'a, str>>,
    /// Those of the DocumentEntries.
    pub(super) entry_ids: HashSet<Cow<'a, str>>,
}

impl<'a> Scope<'a> {
    pub(super) fn of(metadata: &'a Metadata, context: &'a Context<'a>) -> Self {
        let objects = objects_of(metadata);
        let rest = metadata.registry.objects.iter();
        let ids = objects
            .iter()
            .map(|object| object.registry.id.as_str())
            .chain(rest.map(|object| object.id.as_str()))
            .filter(|id| !id.is_empty())
            .map(id_key)
            .collect();
        let entries = metadata.document_entries.iter();
        Self {
            metadata,
            context,
            objects,
            ids,
            entry_ids: entries.map(|entry| id_key(&entry.id)).collect(),
        }
    }

    pub(super) fn of_kind(&self, kind: ObjectKind) -> impl Iterator<Item = &Object<'a>> {
        self.objects
            .iter()
            .filter(move |object| object.kind == kind)
    }

    pub(super) fn associations(&self) -> impl Iterator<Item = (&'a Association, &Object<'a>)> {
        self.metadata
            .associations
            .iter()
            .zip(self.of_kind(ObjectKind::Association))
    }

    /// The SubmissionSets, DocumentEntries and Folders: what has patients, titles and uniqueIds.
    pub(super) fn described(&self) -> impl Iterator<Item = &Object<'a>> {
        self.objects
            .iter()
            .filter(|object| object.kind != ObjectKind::Association)
    }
}

/// One registry object under its XDS name.
pub(super) struct Object<'a> {
    pub(super) kind: ObjectKind,
    pub(super) registry: &'a RegistryObject,
    /// The values that have a type, beside their attribute: those of XML attributes, slots and ExternalIdentifiers.
    pub(super) values: Vec<(&'static Attribute, &'a str)>,
    /// The Classifications of known scheme: codes and authors.
    pub(super) classified: Vec<(&'static Attribute, &'a Classification)>,
}

impl<'a> Object<'a> {
    fn of(kind: ObjectKind, registry: &'a RegistryObject) -> Self {
        let place = attributes_by_place(kind);
        let mut values = Vec::with_capacity(registry.slots.len() + registry.attributes.len() + 4);
        for (name, value) in &registry.attributes {
            if let Some(attribute) = place.xml(name) {
                values.push((attribute, value.as_str()));
            }
        }
        for slot in &registry.slots {
            if let Some(attribute) = place.slot(&slot.name) {
                values.extend(slot.values.iter().map(|value| (attribute, value.as_str())));
            }
        }
        for identifier in &registry.external_identifiers {
            let attribute = identifier
                .scheme
                .as_deref()
                .and_then(|s| place.identifier(s));
            if let (Some(attribute), Some(value)) = (attribute, &identifier.value) {
                values.push((attribute, value.as_str()));
            }
        }
        let classified = registry.classifications.iter().filter_map(|inner| {
            let attribute = place.classification(inner.scheme.as_deref()?)?;
            Some((attribute, inner))
        });
        Self {
            kind,
            registry,
            classified: classified.collect(),
            values,
        }
    }

    pub(super) fn id(&self) -> &'a str {
        &self.registry.id
    }

    /// `Object(id)`.
    pub(super) fn name(&self) -> String {
        format!("{}({})", self.kind.as_str(), short(self.id()))
    }

    /// `Object(id).attribute`.
    pub(super) fn at(&self, attribute: &str) -> String {
        format!("{}.{attribute}", self.name())
    }

    /// The values of one attribute.
    pub(super) fn values_of(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.values
            .iter()
            .filter(move |(attribute, _)| attribute.name == name)
            .map(|(_, value)| *value)
    }
}

/// Received text, short enough for a location.
pub(super) fn short(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_ID_CHARACTERS);
    text.get(..end.map_or(text.len(), |(at, _)| at))
        .unwrap_or(text)
}

/// The place of a registry object that has no XDS name.
pub(super) fn unnamed_at(object: &RegistryObject, attribute: &str) -> String {
    let kind = ObjectKind::Any.as_str();
    format!("{kind}({}).{attribute}", short(&object.id))
}

fn objects_of(metadata: &Metadata) -> Vec<Object<'_>> {
    let of = |kind| move |registry| Object::of(kind, registry);
    let sets = metadata.submission_sets.iter().map(|set| &set.registry);
    let entries = metadata
        .document_entries
        .iter()
        .map(|entry| &entry.registry);
    let folders = metadata.folders.iter().map(|folder| &folder.registry);
    let associations = metadata.associations.iter().map(|link| &link.registry);
    sets.map(of(ObjectKind::SubmissionSet))
        .chain(entries.map(of(ObjectKind::DocumentEntry)))
        .chain(folders.map(of(ObjectKind::Folder)))
        .chain(associations.map(of(ObjectKind::Association)))
        .collect()
}

/// Takes the findings of one rule.
pub(super) struct Report<'r> {
    pub(super) rule: &'static Rule,
    pub(super) findings: &'r mut Findings,
}

impl Report<'_> {
    /// The message is refused.
    pub(super) fn refuse(&mut self, location: impl Into<String>, text: impl Into<String>) {
        self.tell(true, location, text);
    }

    /// The message is refused because of `value`.
    pub(super) fn refuse_value(
        &mut self,
        location: impl Into<String>,
        text: impl Into<String>,
        value: &str,
    ) {
        self.tell_value(true, location, text, value);
    }

    /// A tolerated deviation.
    pub(super) fn warn(&mut self, location: impl Into<String>, text: impl Into<String>) {
        self.tell(false, location, text);
    }

    /// A tolerated deviation of `value`.
    pub(super) fn warn_value(
        &mut self,
        location: impl Into<String>,
        text: impl Into<String>,
        value: &str,
    ) {
        self.tell_value(false, location, text, value);
    }

    /// Refused or tolerated.
    pub(super) fn tell(
        &mut self,
        is_error: bool,
        location: impl Into<String>,
        text: impl Into<String>,
    ) {
        let finding = self.finding(is_error, location.into(), text.into());
        self.findings.add(finding);
    }

    pub(super) fn tell_value(
        &mut self,
        is_error: bool,
        location: impl Into<String>,
        text: impl Into<String>,
        value: &str,
    ) {
        let finding = self.finding(is_error, location.into(), text.into());
        self.findings.add(finding.with_value(value));
    }

    fn finding(&self, is_error: bool, location: String, text: String) -> Finding {
        match self.rule.consequence.code() {
            Some(code) if is_error => Finding::error(self.rule.id, code.clone(), location, text),
            _ => Finding::warning(self.rule.id, location, text),
        }
    }
}
