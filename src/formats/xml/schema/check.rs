//! Checking a tree: one step for each element and attribute.

mod content;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use roxmltree::Node;

use super::{
    Name, Violation,
    datatype::Simple,
    model::{Complex, Content, Element, Form, Schemas},
};
use crate::formats::{redacted::Redacted, xml::names::XSI};

/// The deepest element that is checked; the limit of the reader (LIM-5) is lower unless it was set very high.
const MAX_DEPTH: usize = 512;
/// Names that one text lists.
const MAX_NAMES: usize = 8;

impl Schemas {
    /// Checks the element `root`, which must be one that the schemas declare, and everything in it. Every violation
    /// is told, in document order within each element, up to `max` of them.
    pub fn check(&self, root: Node<'_, '_>, max: usize) -> Vec<Violation> {
        let mut check = Check {
            schemas: self,
            violations: Vec::new(),
            max,
            steps: 0,
        };
        match check.declared(root) {
            Some(element) => check.element(root, element, 0),
            None => check.tell(
                root,
                "the document",
                "an element that the schemas do not know",
            ),
        }
        check.violations
    }
}

struct Check<'s> {
    schemas: &'s Schemas,
    violations: Vec<Violation>,
    max: usize,
    /// Elements, attributes and places of content models that were looked at.
    steps: u64,
}

impl<'s> Check<'s> {
    fn declared(&self, node: Node<'_, '_>) -> Option<&'s Element> {
        let name = node.tag_name();
        let namespace = name.namespace().unwrap_or_default();
        self.schemas.element(namespace, name.name())
    }

    fn is_full(&self) -> bool {
        self.violations.len() >= self.max
    }

    fn tell(&mut self, at: Node<'_, '_>, element: &str, text: impl Into<String>) {
        self.tell_value(at, element, text, None);
    }

    fn tell_value(
        &mut self,
        at: Node<'_, '_>,
        element: &str,
        text: impl Into<String>,
        value: Option<&str>,
    ) {
        if !self.is_full() {
            self.violations.push(Violation {
                element: element.to_owned(),
                line: at.document().text_pos_at(at.range().start).row,
                text: text.into(),
                value: value.map(|value| Redacted::new(value.to_owned())),
            });
        }
    }

    fn element(&mut self, node: Node<'_, '_>, element: &'s Element, depth: usize) {
        self.typed(node, &element.name, element.type_id, depth);
        for name in &element.once {
            let is = |child: &Node<'_, '_>| {
                let own = child.tag_name();
                child.is_element() && name.is(own.namespace().unwrap_or_default(), own.name())
            };
            if node.children().filter(is).count() != 1 {
                let text = format!("needs exactly one {name}");
                self.tell(node, &element.name.to_string(), text);
            }
        }
    }

    fn typed(&mut self, node: Node<'_, '_>, name: &Name, type_id: usize, depth: usize) {
        self.steps += 1;
        if self.is_full() {
            return;
        }
        if depth > MAX_DEPTH {
            let text = format!("elements nested deeper than {MAX_DEPTH}");
            return self.tell(node, &name.to_string(), text);
        }
        let Some(own_type) = self.schemas.type_of(type_id) else {
            return;
        };
        self.instance_attributes(node, name, own_type.name.as_ref());
        match &own_type.form {
            Form::Simple(simple) => {
                for attribute in node
                    .attributes()
                    .filter(|each| each.namespace() != Some(XSI))
                {
                    self.steps += 1;
                    let text = "an attribute that is not known here; none is accepted";
                    self.tell_value(node, &name.to_string(), text, Some(attribute.name()));
                }
                self.text(node, name, simple);
            }
            Form::Complex(complex) => {
                self.attributes(node, name, complex);
                match &complex.content {
                    Content::Text(simple) => self.text(node, name, simple),
                    Content::Items(items) => self.items(node, name, items, depth),
                }
            }
        }
    }

    /// What XSD itself allows on every element. No element is nillable, and no type has another that may stand for it.
    fn instance_attributes(&mut self, node: Node<'_, '_>, name: &Name, own_type: Option<&Name>) {
        for attribute in node
            .attributes()
            .filter(|each| each.namespace() == Some(XSI))
        {
            self.steps += 1;
            let is_right = match attribute.name() {
                "schemaLocation" | "noNamespaceSchemaLocation" => true,
                "type" => {
                    let (prefix, local) = match attribute.value().trim().split_once(':') {
                        Some((prefix, local)) => (Some(prefix), local),
                        None => (None, attribute.value().trim()),
                    };
                    let namespace = node.lookup_namespace_uri(prefix).unwrap_or_default();
                    own_type.is_some_and(|own| own.is(namespace, local))
                }
                _ => false,
            };
            if !is_right {
                let text = "an xsi attribute that says nothing that is accepted; leave it out";
                self.tell_value(node, &name.to_string(), text, Some(attribute.value()));
            }
        }
    }

    fn attributes(&mut self, node: Node<'_, '_>, name: &Name, complex: &Complex) {
        let mut found = 0u64;
        for attribute in node
            .attributes()
            .filter(|each| each.namespace() != Some(XSI))
        {
            self.steps += 1;
            let namespace = attribute.namespace().unwrap_or_default();
            let known = complex.attributes.iter().enumerate();
            let known = known
                .into_iter()
                .find(|(_, known)| known.name.is(namespace, attribute.name()));
            if let Some((index, known)) = known {
                found |= 1 << index;
                self.value(node, name, &known.name, &known.simple, attribute.value());
                continue;
            }
            let is_taken = complex
                .other_attributes
                .as_ref()
                .is_some_and(|namespaces| namespaces.allow(namespace));
            if !is_taken {
                let accepted: Vec<String> = complex
                    .attributes
                    .iter()
                    .map(|each| each.name.to_string())
                    .collect();
                let text = format!(
                    "an attribute that is not known here; accepted: {}",
                    listed(accepted)
                );
                self.tell_value(node, &name.to_string(), text, Some(attribute.name()));
            } else {
                self.free_attribute(node, name, attribute);
            }
        }
        for (index, known) in complex.attributes.iter().enumerate() {
            if known.is_required && found & (1 << index) == 0 {
                self.tell(
                    node,
                    &name.to_string(),
                    format!("needs the attribute {}", known.name),
                );
            }
        }
    }

    /// An attribute that a wildcard takes is checked if it is declared.
    fn free_attribute(
        &mut self,
        node: Node<'_, '_>,
        name: &Name,
        attribute: roxmltree::Attribute<'_, '_>,
    ) {
        let namespace = attribute.namespace().unwrap_or_default();
        if let Some(simple) = self.schemas.attribute(namespace, attribute.name()) {
            let own = Name {
                namespace: namespace.to_owned(),
                local: attribute.name().to_owned(),
            };
            self.value(node, name, &own, simple, attribute.value());
        }
    }

    fn value(
        &mut self,
        node: Node<'_, '_>,
        element: &Name,
        attribute: &Name,
        simple: &Simple,
        value: &str,
    ) {
        if let Some(accepted) = simple.refusal(value, node) {
            let text = format!("the attribute {attribute} must be {accepted}");
            self.tell_value(node, &element.to_string(), text, Some(value));
        }
    }

    fn text(&mut self, node: Node<'_, '_>, name: &Name, simple: &Simple) {
        if node.children().any(|child| child.is_element()) {
            let text = "holds an element where only text is accepted";
            return self.tell(node, &name.to_string(), text);
        }
        let text = text_of(node);
        if let Some(accepted) = simple.refusal(&text, node) {
            let said = format!("its text must be {accepted}");
            self.tell_value(node, &name.to_string(), said, Some(&text));
        }
    }

    /// An element that nobody declared: what is declared inside it must be right.
    fn free(&mut self, node: Node<'_, '_>, parent: &Name, depth: usize) {
        self.steps += 1;
        if self.is_full() || depth > MAX_DEPTH {
            return;
        }
        for attribute in node.attributes() {
            self.steps += 1;
            self.free_attribute(node, parent, attribute);
        }
        for child in node.children().filter(Node::is_element) {
            match self.declared(child) {
                Some(element) => self.element(child, element, depth + 1),
                None => self.free(child, parent, depth + 1),
            }
        }
    }
}

fn listed(names: Vec<String>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let rest = if names.len() > MAX_NAMES { ", …" } else { "" };
    let shown: Vec<String> = names.into_iter().take(MAX_NAMES).collect();
    shown.join(", ") + rest
}

fn text_of<'a>(node: Node<'a, '_>) -> Cow<'a, str> {
    let mut texts = node
        .children()
        .filter(|child| child.is_text())
        .filter_map(|child| child.text());
    let first = texts.next().unwrap_or_default();
    match texts.next() {
        None => Cow::Borrowed(first),
        Some(second) => {
            let mut whole = format!("{first}{second}");
            texts.for_each(|text| whole.push_str(text));
            Cow::Owned(whole)
        }
    }
}
