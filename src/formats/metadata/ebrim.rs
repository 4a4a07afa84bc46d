//! The ebRIM spelling of metadata (ebXML RIM 3.0; metadata.md section 1), read as it stands: every registry object
//! with its slots, classifications and external identifiers in document order. Nothing is judged here.

use std::collections::HashMap;

use roxmltree::Node;

use super::{
    super::xml::names::{LCM, RIM, RS, XML},
    MetadataError, id_key,
    uuids::{self, document_entry, folder, submission_set},
};

/// Most children of RegistryObjectLists. 100 DocumentEntries (LIM-4) with a folder and ten Associations each are
/// about a tenth of it; a view of each object is some kilobytes.
pub(super) const MAX_OBJECTS: usize = 10_000;
/// More lines than these are never told (XDR-34).
const MAX_STRAY_LINES: usize = 100;

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
    /// What labels this object, from inside it and from beside it (MD-6).
    pub(super) labels: Labels,
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
    /// The lines of other children of the request, but for a RequestSlotList before the list (XDR-3).
    pub(super) stray_lines: Vec<usize>,
}

impl RegistryObject {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn is_labelled(&self, node: &str) -> bool {
        self.labels.contains(node)
    }
}

/// The classification nodes that mean something as a label (MD-6, MD-21).
const LABELS: [&str; 5] = [
    submission_set::NODE,
    submission_set::LIMITED_METADATA,
    document_entry::LIMITED_METADATA,
    folder::NODE,
    folder::LIMITED_METADATA,
];

/// A set of [`LABELS`]. It takes one octet however many Classifications repeat a label: thousands of them may name
/// one id, and thousands of objects may bear it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels(u8);

impl Labels {
    /// The flag of `node`; none if it is no label.
    fn flag(node: &str) -> u8 {
        LABELS
            .iter()
            .position(|label| uuids::is(node, label))
            .map_or(0, |at| 1 << at)
    }

    fn add(&mut self, node: Option<&str>) {
        self.0 |= node.map_or(0, Self::flag);
    }

    fn contains(self, node: &str) -> bool {
        self.0 & Self::flag(node) != 0
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

/// Reads the content of the request whose element is `root`.
pub(super) fn read(root: Node<'_, '_>) -> Result<Registry, MetadataError> {
    if object_lists(root).is_none() {
        return Err(MetadataError::NotSubmitObjectsRequest);
    }
    let mut registry = Registry::default();
    let mut lines = Lines {
        text: root.document().input_text(),
        counted: 0,
        line: 1,
    };
    let mut count = 0;
    for child in root.children().filter(Node::is_element) {
        if is_rim(&child, "RegistryObjectList") {
            read_list(child, &mut registry, &mut lines, &mut count)?;
        } else if !(is_slot_list(&child) && registry.lists == 0)
            && registry.stray_lines.len() < MAX_STRAY_LINES
        {
            registry.stray_lines.push(lines.of(child.range().start));
        }
    }
    apply_loose_labels(&mut registry);
    Ok(registry)
}

/// Whether it is the `rs:RequestSlotList` that may stand before the objects.
fn is_slot_list(node: &Node<'_, '_>) -> bool {
    node.tag_name().name() == "RequestSlotList" && node.tag_name().namespace() == Some(RS)
}

fn read_list(
    list: Node<'_, '_>,
    registry: &mut Registry,
    lines: &mut Lines<'_>,
    count: &mut usize,
) -> Result<(), MetadataError> {
    registry.lists += 1;
    for node in list.children().filter(Node::is_element) {
        *count += 1;
        if *count > MAX_OBJECTS {
            return Err(MetadataError::TooManyObjects { limit: MAX_OBJECTS });
        }
        if is_rim(&node, "Classification") {
            registry
                .loose_classifications
                .push(read_classification(node));
        } else if !is_rim(&node, "ObjectRef") {
            let line = lines.of(node.range().start);
            registry.objects.push(read_object(node, line));
        }
    }
    Ok(())
}

/// Gives each object the labels that stand beside it (MD-6). An object without id cannot be named.
fn apply_loose_labels(registry: &mut Registry) {
    let mut labels: HashMap<_, Labels> = HashMap::new();
    for loose in &registry.loose_classifications {
        if let Some(target) = loose
            .classified_object
            .as_deref()
            .filter(|id| !id.is_empty())
        {
            let of_target = labels.entry(id_key(target)).or_default();
            of_target.add(loose.node.as_deref());
        }
    }
    for object in &mut registry.objects {
        if let Some(found) = labels.get(&id_key(&object.id)) {
            object.labels.0 |= found.0;
        }
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
        labels: Labels::default(),
        is_in_schema_order: is_in_schema_order(node),
        line,
    };
    for child in node.children() {
        if is_rim(&child, "Classification") {
            let classification = read_classification(child);
            object.labels.add(classification.node.as_deref());
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn read_content(content: &str) -> Result<Registry, MetadataError> {
        let text = format!(
            "<l:SubmitObjectsRequest xmlns:l='{LCM}' xmlns='{RIM}'><RegistryObjectList>{content}\
             </RegistryObjectList></l:SubmitObjectsRequest>"
        );
        read(roxmltree::Document::parse(&text).unwrap().root_element())
    }

    fn label(object: &str, node: &str) -> String {
        format!("<Classification classifiedObject='{object}' classificationNode='{node}'/>")
    }

    // rule: MD-6
    #[test]
    fn labels_stand_inside_an_object_or_beside_it_in_any_case() {
        let id = "urn:uuid:AAAAAAAA-0000-4000-8000-000000000001";
        let registry = read_content(&format!(
            "<RegistryPackage id='{id}'>{}</RegistryPackage>{}{}",
            label("other", folder::LIMITED_METADATA),
            label(&id.to_lowercase(), &folder::NODE.to_uppercase()),
            label("Elsewhere", submission_set::NODE),
        ))
        .unwrap();
        let [package] = registry.objects.as_slice() else {
            panic!("one package was written");
        };
        for node in LABELS {
            let is_given = [folder::NODE, folder::LIMITED_METADATA].contains(&node);
            assert_eq!(package.is_labelled(node), is_given, "{node}");
        }
        assert!(!package.is_labelled("urn:uuid:no-label-at-all"));
    }

    // rule: MD-6
    #[test]
    fn a_label_for_no_id_labels_no_object_without_one() {
        for id in ["", " id=''"] {
            let package = format!("<RegistryPackage{id}/>");
            let registry = read_content(&(package + &label("", submission_set::NODE))).unwrap();
            assert_eq!(registry.objects[0].labels, Labels::default());
        }
    }

    // rule: T-10
    #[test]
    fn many_labels_of_many_objects_of_one_id_take_no_more_room_than_one() {
        let half = MAX_OBJECTS / 2;
        let registry = read_content(
            &("<RegistryPackage id='x'/>".repeat(half)
                + &label("x", submission_set::NODE).repeat(half)),
        )
        .unwrap();
        assert_eq!(registry.objects.len(), half);
        for object in &registry.objects {
            assert!(object.is_labelled(submission_set::NODE));
            assert_eq!(size_of_val(&object.labels), 1, "a set holds a label once");
        }
    }

    // rule: T-10
    #[test]
    fn more_objects_than_the_limit_are_refused_wherever_they_stand() {
        let objects = "<ExtrinsicObject/>".repeat(MAX_OBJECTS);
        assert!(read_content(&objects).is_ok());
        for more in ["<a/>", "<ObjectRef/>", "<Classification/>"] {
            let mut content = objects.clone();
            let _ = write!(content, "</RegistryObjectList><RegistryObjectList>{more}");
            assert_eq!(
                read_content(&content).unwrap_err(),
                MetadataError::TooManyObjects { limit: MAX_OBJECTS }
            );
        }
    }
}
