//! What documents are checked against: elements, types and content models.

use std::collections::HashMap;

use super::{Name, datatype::Simple};

/// Compiled schemas.
#[derive(Debug)]
pub struct Schemas {
    pub(super) elements: ByName<Element>,
    pub(super) attributes: ByName<Simple>,
    pub(super) types: Vec<Type>,
}

/// By namespace, then by local name.
pub(super) type ByName<T> = HashMap<String, HashMap<String, T>>;

/// A global element.
#[derive(Clone, Debug)]
pub(super) struct Element {
    pub(super) name: Name,
    pub(super) type_id: usize,
    /// Children of which it has exactly one each, in any place. It is what xsd:key says with `.` for its selector and
    /// one step for its field.
    pub(super) once: Vec<Name>,
}

/// A type by its place in the list of types.
#[derive(Clone, Debug)]
pub(super) struct Type {
    pub(super) name: Option<Name>,
    pub(super) form: Form,
}

#[derive(Clone, Debug)]
pub(super) enum Form {
    Simple(Simple),
    Complex(Complex),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Complex {
    pub(super) attributes: Vec<Attribute>,
    /// Attributes of other namespaces are taken, those that are declared globally if they are right.
    pub(super) other_attributes: Option<Namespaces>,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) struct Attribute {
    pub(super) name: Name,
    pub(super) simple: Simple,
    pub(super) is_required: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Text(Simple),
    /// One after the other; none at all: the element is empty.
    Items(Vec<Item>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Items(Vec::new())
    }
}

/// What may stand at one place, and how often.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) terms: Vec<Term>,
    pub(super) min: usize,
    pub(super) max: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Term {
    /// A global element.
    Global(Name),
    /// An element that is declared where it stands.
    Local(Name, usize),
    Any {
        namespaces: Namespaces,
        /// Whether an element that is not declared is refused.
        is_strict: bool,
    },
}

/// The namespaces of a wildcard.
#[derive(Clone, Debug)]
pub(super) enum Namespaces {
    Any,
    /// Every namespace but this one; no namespace is none.
    OtherThan(String),
}

impl Namespaces {
    pub(super) fn allow(&self, namespace: &str) -> bool {
        match self {
            Self::Any => true,
            Self::OtherThan(own) => !namespace.is_empty() && namespace != own,
        }
    }
}

impl Schemas {
    pub(super) fn element(&self, namespace: &str, local: &str) -> Option<&Element> {
        self.elements.get(namespace)?.get(local)
    }

    pub(super) fn attribute(&self, namespace: &str, local: &str) -> Option<&Simple> {
        self.attributes.get(namespace)?.get(local)
    }

    pub(super) fn type_of(&self, type_id: usize) -> Option<&Type> {
        self.types.get(type_id)
    }
}
