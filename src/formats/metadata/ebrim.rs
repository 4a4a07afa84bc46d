//! The ebRIM spelling of metadata (ebXML RIM 3.0; metadata.md section 1), read as it stands: every registry object
//! with its slots, classifications and external identifiers in document order. Nothing is judged here.

use std::{borrow::Cow, collections::HashMap};

use roxmltree::Node;

use super::super::xml::names::{LCM, RIM, XML};

/// One `rim:Slot` (MD-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its `@name`.
    pub name: String,
    /// Its values in order, as they stand in the XML: white space around them is kept.
    pub values: Vec<String>,
}

/// Which element a registry object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElementKind {
    ExtrinsicObject,
    RegistryPackage,
    Association,
    Other,
}

/// One `rim:Classification`, inside an object or beside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Classification {
    pub(super) id: Option<String>,
    pub(super) scheme: Option<String>,
    pub(super) node: Option<String>,
    pub(super) classified_object: Option<String>,
    pub(super) node_representation: Option<String>,
    pub(super) slots: Vec<Slot>,
    pub(super) name: Option<String>,
}

/// One `rim:ExternalIdentifier`.
#[derive(Clone, Debug, Default)]
pub(super) struct ExternalIdentifier {
    pub(super) id: Option<String>,
    pub(super) scheme: Option<String>,
    pub(super) registry_object: Option<String>,
    pub(super) value: Option<String>,
    pub(super) name: Option<String>,
}

/// One child of `rim:RegistryObjectList` that is no Classification.
#[derive(Clone, Debug)]
pub(super) struct RegistryObject {
    pub(super) kind: ElementKind,
    pub(super) id: String,
    /// XML attributes without a namespace, in order.
    pub(super) attributes: Vec<(String, String)>,
    pub(super) slots: Vec<Slot>,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) classifications: Vec<Classification>,
    pub(super) external_identifiers: Vec<ExternalIdentifier>,
    /// Classification nodes that label this object, from inside it and from beside it (MD-6).
    pub(super) labels: Vec<String>,
    /// Whether its children stand in the order of XDR-5.
    pub(super) is_in_schema_order: bool,
    /// The line it begins on, from 1.
    pub(super) line: usize,
}

/// The content of one `lcm:SubmitObjectsRequest`.
#[derive(Clone, Debug, Default)]
pub(super) struct Registry {
    pub(super) objects: Vec<RegistryObject>,
    /// Classifications that stand in the list itself.
    pub(super) loose_classifications: Vec<Classification>,
    /// How many RegistryObjectLists there are: one, if all is well.
    pub(super) lists: usize,
}

impl RegistryObject {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn is_labelled(&self, node: &str) -> bool {
        self.labels
            .iter()
            .any(|label| super::uuids::is(label, node))
    }
}

/// Whether `node` is the element `name` of the ebRIM namespace.
pub(super) fn is_rim(node: &Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name && node.tag_name().namespace() == Some(RIM)
}

/// The `rim:RegistryObjectList`s of a request, or `None` if `root` is no `lcm:SubmitObjectsRequest`.
pub(super) fn object_lists<'a, 'input>(
    root: Node<'a, 'input>,
) -> Option<impl Iterator<Item = Node<'a, 'input>>> {
    let is_request = root.tag_name().name() == "SubmitObjectsRequest"
        && root.tag_name().namespace() == Some(LCM);
    is_request.then(|| {
        root.children()
            .filter(|node| is_rim(node, "RegistryObjectList"))
    })
}

/// Reads the content of the request whose element is `root`; `None` if it is no such request.
pub(super) fn read(root: Node<'_, '_>) -> Option<Registry> {
    let mut registry = Registry::default();
    let mut lines = Lines {
        text: root.document().input_text(),
        counted: 0,
        line: 1,
    };
    for list in object_lists(root)? {
        registry.lists += 1;
        for node in list.children().filter(Node::is_element) {
            if is_rim(&node, "Classification") {
                registry
                    .loose_classifications
                    .push(read_classification(node));
            } else if !is_rim(&node, "ObjectRef") {
                let line = lines.of(node.range().start);
                registry.objects.push(read_object(node, line));
            }
        }
    }
    apply_loose_labels(&mut registry);
    Some(registry)
}

/// Gives each object the labels that stand beside it (MD-6).
fn apply_loose_labels(registry: &mut Registry) {
    let mut labels: HashMap<Cow<'_, str>, Vec<&String>> = HashMap::new();
    for loose in &registry.loose_classifications {
        if let (Some(label), Some(target)) = (&loose.node, &loose.classified_object) {
            labels.entry(super::id_key(target)).or_default().push(label);
        }
    }
    for object in &mut registry.objects {
        let found = labels.get(&super::id_key(&object.id));
        object
            .labels
            .extend(found.into_iter().flatten().map(|label| (*label).clone()));
    }
}

/// Counts lines while it goes through the text once.
struct Lines<'a> {
    text: &'a str,
    counted: usize,
    line: usize,
}

impl Lines<'_> {
    /// The line of an offset that is not before the one asked for last.
    fn of(&mut self, offset: usize) -> usize {
        let passed = self.text.get(self.counted..offset).unwrap_or_default();
        self.line += passed.bytes().filter(|octet| *octet == b'\n').count();
        self.counted = offset.max(self.counted);
        self.line
    }
}

fn read_object(node: Node<'_, '_>, line: usize) -> RegistryObject {
    let kind = match node.tag_name().name() {
        _ if node.tag_name().namespace() != Some(RIM) => ElementKind::Other,
        "ExtrinsicObject" => ElementKind::ExtrinsicObject,
        "RegistryPackage" => ElementKind::RegistryPackage,
        "Association" => ElementKind::Association,
        _ => ElementKind::Other,
    };
    let mut object = RegistryObject {
        kind,
        id: attribute(node, "id").unwrap_or_default(),
        attributes: node
            .attributes()
            .filter(|attribute| attribute.namespace().is_none())
            .map(|attribute| (attribute.name().to_owned(), attribute.value().to_owned()))
            .collect(),
        slots: read_slots(node),
        name: read_localized(node, "Name"),
        description: read_localized(node, "Description"),
        classifications: Vec::new(),
        external_identifiers: Vec::new(),
        labels: Vec::new(),
        is_in_schema_order: is_in_schema_order(node),
        line,
    };
    for child in node.children() {
        if is_rim(&child, "Classification") {
            let classification = read_classification(child);
            object.labels.extend(classification.node.clone());
            object.classifications.push(classification);
        } else if is_rim(&child, "ExternalIdentifier") {
            object.external_identifiers.push(ExternalIdentifier {
                id: attribute(child, "id"),
                scheme: attribute(child, "identificationScheme"),
                registry_object: attribute(child, "registryObject"),
                value: attribute(child, "value"),
                name: read_localized(child, "Name"),
            });
        }
    }
    object
}

fn read_classification(node: Node<'_, '_>) -> Classification {
    Classification {
        id: attribute(node, "id"),
        scheme: attribute(node, "classificationScheme"),
        node: attribute(node, "classificationNode"),
        classified_object: attribute(node, "classifiedObject"),
        node_representation: attribute(node, "nodeRepresentation"),
        slots: read_slots(node),
        name: read_localized(node, "Name"),
    }
}

fn read_slots(node: Node<'_, '_>) -> Vec<Slot> {
    node.children()
        .filter(|child| is_rim(child, "Slot"))
        .map(|slot| Slot {
            name: attribute(slot, "name").unwrap_or_default(),
            values: slot
                .children()
                .filter(|child| is_rim(child, "ValueList"))
                .flat_map(|list| list.children())
                .filter(|child| is_rim(child, "Value"))
                .map(text_of)
                .collect(),
        })
        .collect()
}

/// The language that is taken from several LocalizedStrings: the schema's default (MD-5).
const PREFERRED_LANGUAGE: &str = "en-US";

/// The value of the first LocalizedString in the preferred language, else of the first one.
fn read_localized(node: Node<'_, '_>, element: &str) -> Option<String> {
    let strings = || {
        node.children()
            .filter(move |child| is_rim(child, element))
            .flat_map(|name| name.children())
            .filter(|child| is_rim(child, "LocalizedString"))
    };
    let is_preferred = |string: &Node<'_, '_>| {
        string
            .attribute((XML, "lang"))
            .unwrap_or(PREFERRED_LANGUAGE)
            .eq_ignore_ascii_case(PREFERRED_LANGUAGE)
    };
    let chosen = strings().find(is_preferred).or_else(|| strings().next())?;
    attribute(chosen, "value").filter(|value| !value.is_empty())
}

fn attribute(node: Node<'_, '_>, name: &str) -> Option<String> {
    node.attribute(name).map(str::to_owned)
}

/// All text directly inside `node`; a comment may split it.
fn text_of(node: Node<'_, '_>) -> String {
    node.children()
        .filter(Node::is_text)
        .filter_map(|text| text.text())
        .collect()
}

/// Place of a child element in the order that the schema fixes (XDR-5).
pub(super) fn schema_place(element: &str) -> u8 {
    match element {
        "Slot" => 0,
        "Name" => 1,
        "Description" => 2,
        "VersionInfo" => 3,
        "Classification" => 4,
        "ExternalIdentifier" => 5,
        _ => 6,
    }
}

fn is_in_schema_order(node: Node<'_, '_>) -> bool {
    node.children()
        .filter(Node::is_element)
        .map(|child| schema_place(child.tag_name().name()))
        .is_sorted()
}
