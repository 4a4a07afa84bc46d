//! Checking a tree. One step for each element and attribute; a content model is gone through from left to right.

use std::borrow::Cow;

use roxmltree::Node;

use super::{
    Name, Violation,
    compile::{Complex, Content, Element, Form, Item, Namespaces, Schemas, Term},
    datatype::Simple,
};
use crate::formats::{
    redacted::Redacted,
    xml::{chars::is_blank, names::XSI},
};

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

    fn items(&mut self, node: Node<'_, '_>, name: &Name, items: &'s [Item], depth: usize) {
        let is_empty = items.is_empty();
        let is_stray = |text: &str| is_empty || !is_blank(text);
        let stray = node
            .children()
            .find(|child| child.is_text() && child.text().is_some_and(is_stray));
        if let Some(stray) = stray {
            let said = if is_empty {
                "must be empty, without any white space"
            } else {
                "holds text where only elements are accepted"
            };
            self.tell_value(node, &name.to_string(), said, stray.text());
        }
        // Where in the model we are, and how often its item has come.
        let (mut at, mut count) = (0, 0);
        for child in node.children().filter(Node::is_element) {
            if self.is_full() {
                return;
            }
            match self.place(child, items, at, count) {
                Some((found, term)) => {
                    if found != at {
                        self.missing(node, child, name, items.get(at..found), count);
                        (at, count) = (found, 0);
                    }
                    count += 1;
                    self.term(child, name, term, depth);
                }
                None => self.misplaced(child, name, items, at, count, depth),
            }
        }
        self.missing(node, node, name, items.get(at..), count);
    }

    /// The item that takes `child`, from the current one on.
    fn place(
        &mut self,
        child: Node<'_, '_>,
        items: &'s [Item],
        at: usize,
        count: usize,
    ) -> Option<(usize, &'s Term)> {
        for (index, item) in items.iter().enumerate().skip(at) {
            self.steps += 1;
            let came = if index == at { count } else { 0 };
            if came < item.max
                && let Some(term) = item.terms.iter().find(|term| takes(term, child))
            {
                return Some((index, term));
            }
        }
        None
    }

    /// Tells what should have come in `passed`, of whose first item `count` came.
    fn missing(
        &mut self,
        parent: Node<'_, '_>,
        at: Node<'_, '_>,
        name: &Name,
        passed: Option<&[Item]>,
        count: usize,
    ) {
        for (index, item) in passed.unwrap_or_default().iter().enumerate() {
            let came = if index == 0 { count } else { 0 };
            if came < item.min {
                let place = if at == parent {
                    ""
                } else {
                    " before this element"
                };
                let text = format!("needs {}{place}", listed(names_of(item)));
                self.tell(at, &name.to_string(), text);
            }
        }
    }

    /// An element that nothing takes where it stands.
    fn misplaced(
        &mut self,
        child: Node<'_, '_>,
        name: &Name,
        items: &'s [Item],
        at: usize,
        count: usize,
        depth: usize,
    ) {
        let known = items
            .iter()
            .flat_map(|item| &item.terms)
            .find(|term| takes(term, child));
        let mut accepted = Vec::new();
        for (index, item) in items.iter().enumerate().skip(at) {
            let came = if index == at { count } else { 0 };
            if came < item.max {
                accepted.extend(names_of(item));
            }
            if came < item.min {
                break;
            }
        }
        let accepted = match accepted.is_empty() {
            true => "nothing more".to_owned(),
            false => listed(accepted),
        };
        match known {
            Some(term) => {
                let own = named(term);
                let text = format!(
                    "{own} may not stand at this place, or not so often; accepted from here on: {accepted}"
                );
                self.tell(child, &name.to_string(), text);
                self.term(child, name, term, depth);
            }
            None => {
                let text = format!("an element that is not known here; accepted: {accepted}");
                self.tell_value(
                    child,
                    &name.to_string(),
                    text,
                    Some(child.tag_name().name()),
                );
            }
        }
    }

    fn term(&mut self, child: Node<'_, '_>, parent: &Name, term: &'s Term, depth: usize) {
        match term {
            Term::Global(_) => {
                if let Some(element) = self.declared(child) {
                    self.element(child, element, depth + 1);
                }
            }
            Term::Local(name, type_id) => self.typed(child, name, *type_id, depth + 1),
            Term::Any { is_strict, .. } => match self.declared(child) {
                Some(element) => self.element(child, element, depth + 1),
                None if *is_strict => {
                    let text = "an element that the schemas do not know";
                    let own = child.tag_name().name();
                    self.tell_value(child, &parent.to_string(), text, Some(own));
                }
                None => self.free(child, parent, depth + 1),
            },
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

fn takes(term: &Term, node: Node<'_, '_>) -> bool {
    let own = node.tag_name();
    let namespace = own.namespace().unwrap_or_default();
    match term {
        Term::Global(name) | Term::Local(name, _) => name.is(namespace, own.name()),
        Term::Any { namespaces, .. } => namespaces.allow(namespace),
    }
}

fn named(term: &Term) -> String {
    match term {
        Term::Global(name) | Term::Local(name, _) => name.to_string(),
        Term::Any {
            namespaces: Namespaces::Any,
            ..
        } => "any element".to_owned(),
        Term::Any { .. } => "elements of other namespaces".to_owned(),
    }
}

fn names_of(item: &Item) -> Vec<String> {
    item.terms.iter().map(named).collect()
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

#[cfg(test)]
mod tests {
    use super::{super::embedded, *};

    const REQUEST: &str =
        include_str!("../../../../docs/spec/examples/IHE_XDM/SUBSET01/METADATA.XML");

    fn violations(text: &str) -> Vec<Violation> {
        let document = roxmltree::Document::parse(text).unwrap();
        embedded().check(document.root_element(), 50)
    }

    fn steps(text: &str) -> u64 {
        let document = roxmltree::Document::parse(text).unwrap();
        let schemas = embedded();
        let mut check = Check {
            schemas,
            violations: Vec::new(),
            max: 50,
            steps: 0,
        };
        let root = document.root_element();
        check.element(root, check.declared(root).unwrap(), 0);
        check.steps
    }

    fn package(inside: &str) -> String {
        format!(
            "<r:RegistryObjectList xmlns:r='urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0'>\
             <r:RegistryPackage id='p'>{inside}</r:RegistryPackage></r:RegistryObjectList>"
        )
    }

    const SLOT: &str = "<r:Slot name='s'><r:ValueList><r:Value>v</r:Value></r:ValueList></r:Slot>";

    // rule: MD-99, XDR-5, XDR-6, XDR-7
    #[test]
    fn every_violation_tells_its_element_its_line_and_what_would_be_accepted() {
        assert_eq!(violations(REQUEST), []);
        let long = "x".repeat(257);
        let text = package(&format!(
            "\n<r:Name/>\n{SLOT}\n<r:Patient>Quill</r:Patient>\n\
             <r:ExternalIdentifier id='e' registryObject='p' value='{long}'/>\n\
             <r:Classification id='c' classifiedObject='p' colour='Quill'>stray Quill</r:Classification>"
        ));
        let told: Vec<(String, u32, String)> = violations(&text)
            .into_iter()
            .map(|each| (each.element, each.line, each.text))
            .collect();
        let expected = [
            (
                "rim:RegistryPackage",
                3,
                "rim:Slot may not stand at this place",
            ),
            (
                "rim:RegistryPackage",
                4,
                "an element that is not known here; accepted: rim:Description",
            ),
            (
                "rim:ExternalIdentifier",
                5,
                "value must be at most 256 characters, not 257",
            ),
            (
                "rim:ExternalIdentifier",
                5,
                "needs the attribute identificationScheme",
            ),
            (
                "rim:RegistryPackage",
                6,
                "rim:Classification may not stand at this place",
            ),
            (
                "rim:Classification",
                6,
                "an attribute that is not known here; accepted: id, lid",
            ),
            (
                "rim:Classification",
                6,
                "holds text where only elements are accepted",
            ),
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for ((element, line, text), expected) in told.iter().zip(expected) {
            assert_eq!(
                (element.as_str(), *line),
                (expected.0, expected.1),
                "{text}"
            );
            assert!(text.contains(expected.2), "{text}");
            assert!(!text.contains("Quill") && !text.contains("xxx"), "{text}");
        }
        assert!(!format!("{:?}", violations(&text)).contains("Quill"));
    }

    // rule: XDR-34
    #[test]
    fn no_more_is_told_than_was_asked_for() {
        let text = package(&"<r:Slot/>".repeat(10_000));
        assert_eq!(violations(&text).len(), 50);
        assert!(steps(&text) < 1_000, "it goes on beyond what it tells");
    }

    // rule: LIM-5
    #[test]
    fn the_steps_grow_with_the_size_and_no_faster() {
        let with = |count: usize| {
            let slots = SLOT.repeat(count);
            let classification =
                format!("<r:Classification id='c' classifiedObject='p'>{SLOT}</r:Classification>");
            steps(&package(&(slots + &classification.repeat(count))))
        };
        let (small, large) = (with(1_000), with(10_000));
        assert!(large <= 10 * small, "{small} steps became {large}");
        let attributes = |count: usize| {
            let all: String = (0..count).map(|n| format!(" a{n}='v'")).collect();
            steps(&package(&format!("<r:Slot{all}/>")))
        };
        // Each is a violation: what is beyond the cap is passed over.
        assert!(attributes(10_000) <= 11 * attributes(1_000));
    }

    // rule: LIM-5
    #[test]
    fn depth_ends_at_its_limit_and_a_huge_value_is_told_by_its_length() {
        let nested = |depth: usize| {
            let open = "<r:Classification id='c' classifiedObject='p'>".repeat(depth);
            package(&(open + &"</r:Classification>".repeat(depth)))
        };
        assert_eq!(violations(&nested(126)), []);
        assert!(violations(&nested(600))[0].text.contains("nested deeper"));
        let huge = "x".repeat(64 * 1024);
        let told = violations(&package(&format!(
            "<r:Slot name='{huge}'>{}</r:Slot>",
            "<r:ValueList><r:Value/></r:ValueList>"
        )));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].text.contains("not 65536"), "{}", told[0].text);
    }
}
