//! The attributes of the XDS objects as data (metadata.md section 3): how each is coded, of which type it is, and
//! who must send it. Presence, cardinality and types are checked from this one table.

mod rows;

pub use super::datatypes::DataType;
pub use rows::ATTRIBUTES;

use super::{super::uuids, ObjectKind};

/// How an attribute is coded (metadata.md section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An XML attribute of the object.
    Xml(&'static str),
    /// A slot of this name.
    Slot(&'static str),
    /// A Classification of this scheme that holds a code.
    Code(&'static str),
    /// A Classification of this scheme that holds an author.
    Author(&'static str),
    /// An ExternalIdentifier of this scheme; its Name should be the text beside it.
    Identifier(&'static str, &'static str),
    /// `rim:Name`.
    Name,
    /// `rim:Description`.
    Description,
}

impl Form {
    /// Where the attribute is looked for, in ebRIM words.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Xml(name) => format!("the XML attribute {name}"),
            Self::Slot(name) => format!("the Slot {name}"),
            Self::Code(scheme) | Self::Author(scheme) => {
                format!("a Classification of scheme {scheme}")
            }
            Self::Identifier(scheme, _) => format!("an ExternalIdentifier of scheme {scheme}"),
            Self::Name => "a Name".to_owned(),
            Self::Description => "a Description".to_owned(),
        }
    }
}

/// Who must send an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optionality {
    /// Required.
    Required,
    /// Required if known: a receiver can never check it (MD-20).
    IfKnown,
    /// Optional.
    Optional,
}

/// One attribute: a row of metadata.md section 3.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    /// Whose.
    pub object: ObjectKind,
    /// Its XDS name.
    pub name: &'static str,
    /// How it is coded.
    pub form: Form,
    /// Which form its values have.
    pub data_type: DataType,
    /// Whether there may be several values.
    pub is_multiple: bool,
    /// Column DS: XDR Document Source.
    pub full: Optionality,
    /// Column MS: XDR Metadata-Limited Source.
    pub limited: Optionality,
    /// Column MC: XDM Media Creator.
    pub xdm: Optionality,
    /// Column MIN: Direct minimal metadata, as it is sent.
    pub minimal: Optionality,
}

impl Attribute {
    /// Whether no submission can do without it, at any level and in any profile (MD-22, MD-23).
    pub fn is_indispensable(&self) -> bool {
        matches!(
            self.name,
            "entryUUID" | "objectType" | "mimeType" | "uniqueId" | "sourceId"
        )
    }
}

/// The attributes of one kind of object. The table holds those of one kind side by side.
pub(super) fn attributes_of(kind: ObjectKind) -> &'static [Attribute] {
    let of_kind = |attribute: &Attribute| attribute.object == kind;
    let start = ATTRIBUTES.iter().position(of_kind).unwrap_or_default();
    let rest = ATTRIBUTES.get(start..).unwrap_or_default();
    let length = rest.iter().take_while(|one| of_kind(one)).count();
    rest.get(..length).unwrap_or_default()
}

/// Finds the attributes of one kind of object by where they stand in ebRIM.
#[derive(Clone, Copy)]
pub(super) struct ByPlace(&'static [Attribute]);

pub(super) fn attributes_by_place(kind: ObjectKind) -> ByPlace {
    ByPlace(attributes_of(kind))
}

impl ByPlace {
    fn find(self, is_it: impl Fn(Form) -> bool) -> Option<&'static Attribute> {
        self.0.iter().find(|attribute| is_it(attribute.form))
    }

    pub(super) fn xml(self, name: &str) -> Option<&'static Attribute> {
        self.find(|form| matches!(form, Form::Xml(known) if known == name))
    }

    pub(super) fn slot(self, name: &str) -> Option<&'static Attribute> {
        self.find(|form| matches!(form, Form::Slot(known) if known == name))
    }

    pub(super) fn identifier(self, scheme: &str) -> Option<&'static Attribute> {
        self.find(|form| matches!(form, Form::Identifier(known, _) if uuids::is(scheme, known)))
    }

    /// The attribute that Classifications of this scheme hold.
    pub(super) fn classification(self, scheme: &str) -> Option<&'static Attribute> {
        self.find(
            |form| matches!(form, Form::Code(known) | Form::Author(known) if uuids::is(scheme, known)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attributes_of_one_kind_stand_side_by_side() {
        let kinds = [
            ObjectKind::DocumentEntry,
            ObjectKind::SubmissionSet,
            ObjectKind::Folder,
            ObjectKind::Association,
        ];
        let all: usize = kinds.map(|kind| attributes_of(kind).len()).iter().sum();
        assert_eq!(all, ATTRIBUTES.len());
        assert!(attributes_of(ObjectKind::Any).is_empty());
    }
}
