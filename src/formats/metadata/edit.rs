//! Changes to kept metadata, spliced into its text (XDR-89): only what an edit names is touched.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use roxmltree::Node;

use super::{
    super::{
        ids::DirectAddress,
        xml::{kept::KeptXml, names::RIM, start_tag_at},
    },
    Code, Metadata, MetadataError,
    ebrim::{self, is_rim, schema_place},
    hl7::{IntendedRecipient, Xtn},
    id_key, parse, same_id,
    uuids::{self, CLASSIFICATION_OBJECT_TYPE, document_entry, folder, submission_set},
};

/// Collects changes and applies them together. An object is named by its id as it is written; of several objects
/// with one id the first is meant.
#[derive(Debug)]
pub struct MetadataEdit<'a> {
    metadata: &'a Metadata,
    /// In the order in which the objects were first named.
    objects: Vec<ObjectChanges>,
    /// Whether every limitedMetadata label is taken off.
    removes_limited_labels: bool,
    /// Whether a change named the SubmissionSet where there is none.
    lacks_submission_set: bool,
}

#[derive(Debug)]
struct ObjectChanges {
    id: String,
    /// In the order in which the slots were first named.
    slots: Vec<SlotChange>,
    /// Old and new slot names.
    renames: Vec<(String, String)>,
    /// Author Classifications to add to a SubmissionSet: one authorTelecommunication each.
    author_telecommunications: Vec<String>,
    /// Codes to add: the scheme of each attribute, and its value.
    codes: Vec<(&'static str, Code)>,
    /// The classification node of a label to add.
    label: Option<&'static str>,
    /// Whether the author Classifications that an earlier edit added are removed.
    removes_added_authors: bool,
}

#[derive(Debug)]
struct SlotChange {
    name: String,
    /// `None` removes the slot.
    values: Option<Vec<String>>,
}

/// Longest white space that is repeated before an added element. More of it is no indentation, and megabytes of it would be
/// copied for every addition.
const MAX_INDENT_BYTES: usize = 256;

/// A replacement of a piece of the text.
struct Splice {
    range: Range<usize>,
    text: String,
}

impl<'a> MetadataEdit<'a> {
    pub(super) fn of(metadata: &'a Metadata) -> Self {
        Self {
            metadata,
            objects: Vec::new(),
            removes_limited_labels: false,
            lacks_submission_set: false,
        }
    }

    /// Gives the slot `name` of an object these values: in its place if the object has it, else after the object's
    /// last slot. No values is the same as [`Self::remove_slot`], since an empty slot is not legal.
    pub fn set_slot(&mut self, object_id: &str, name: &str, values: &[&str]) -> &mut Self {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        self.change_slot(object_id, name, Some(values))
    }

    /// Removes the slot `name` of an object, and the white space before it.
    pub fn remove_slot(&mut self, object_id: &str, name: &str) -> &mut Self {
        self.change_slot(object_id, name, None)
    }

    /// Gives the slot `from` of an object another name, in its place; nothing happens if the object has no such slot.
    /// Renames come before all other changes: a slot that is set under the old name is a new one.
    pub fn rename_slot(&mut self, object_id: &str, from: &str, to: &str) -> &mut Self {
        let rename = (from.to_owned(), to.to_owned());
        self.object(object_id).renames.push(rename);
        self
    }

    fn change_slot(
        &mut self,
        object_id: &str,
        name: &str,
        values: Option<Vec<String>>,
    ) -> &mut Self {
        let values = values.filter(|values| !values.is_empty());
        let slots = &mut self.object(object_id).slots;
        match slots.iter_mut().find(|change| change.name == name) {
            Some(earlier) => earlier.values = values,
            None => slots.push(SlotChange {
                name: name.to_owned(),
                values,
            }),
        }
        self
    }

    fn object(&mut self, id: &str) -> &mut ObjectChanges {
        let at = self
            .objects
            .iter()
            .position(|object| same_id(&object.id, id))
            .unwrap_or(self.objects.len());
        if at == self.objects.len() {
            self.objects.push(ObjectChanges {
                id: id.to_owned(),
                slots: Vec::new(),
                renames: Vec::new(),
                author_telecommunications: Vec::new(),
                codes: Vec::new(),
                label: None,
                removes_added_authors: false,
            });
        }
        &mut self.objects[at]
    }

    /// Adds a recipient to the SubmissionSet's intendedRecipient, in the Direct-only form (XDR-62, XDR-84).
    pub fn add_intended_recipient(&mut self, address: &DirectAddress) -> &mut Self {
        const INTENDED_RECIPIENT: &str = "intendedRecipient";
        let Some(set) = self.metadata.submission_sets().first() else {
            self.lacks_submission_set = true;
            return self;
        };
        let earlier = self
            .object(&set.id)
            .slots
            .iter()
            .find(|change| change.name == INTENDED_RECIPIENT);
        let mut values = match earlier {
            Some(change) => change.values.clone().unwrap_or_default(),
            None => set.slot(INTENDED_RECIPIENT).unwrap_or_default().to_vec(),
        };
        values.push(IntendedRecipient::for_address(address).to_string());
        self.change_slot(&set.id, INTENDED_RECIPIENT, Some(values))
    }

    /// Adds an author to the SubmissionSet who has nothing but this authorTelecommunication (XDR-84).
    pub fn add_submission_set_author_telecommunication(
        &mut self,
        address: &DirectAddress,
    ) -> &mut Self {
        match self.metadata.submission_sets().first() {
            Some(set) => self
                .object(&set.id)
                .author_telecommunications
                .push(Xtn::for_address(address).to_string()),
            None => self.lacks_submission_set = true,
        }
        self
    }

    /// Labels SubmissionSet, DocumentEntries and Folders as limitedMetadata where they are not (XDR-83).
    pub fn add_limited_labels(&mut self) -> &mut Self {
        let metadata = self.metadata;
        let entries = metadata.document_entries().iter();
        let sets = metadata.submission_sets().iter();
        let folders = metadata.folders().iter();
        let unlabelled = entries
            .filter(|entry| !entry.is_limited)
            .map(|entry| (&entry.id, document_entry::LIMITED_METADATA))
            .chain(
                sets.filter(|set| !set.is_limited)
                    .map(|set| (&set.id, submission_set::LIMITED_METADATA)),
            )
            .chain(
                folders
                    .filter(|folder| !folder.is_limited)
                    .map(|folder| (&folder.id, folder::LIMITED_METADATA)),
            );
        for (id, node) in unlabelled {
            self.object(id).label = Some(node);
        }
        self
    }

    /// Takes every limitedMetadata label off, inside the objects and beside them (MD-177).
    pub fn remove_limited_labels(&mut self) -> &mut Self {
        self.removes_limited_labels = true;
        self
    }

    /// Adds a code to an object: `scheme` is the UUID of the attribute (MD-2).
    pub fn add_code(&mut self, object_id: &str, scheme: &'static str, code: &Code) -> &mut Self {
        let code = (scheme, code.clone());
        self.object(object_id).codes.push(code);
        self
    }

    /// Removes the author Classifications that [`Self::add_submission_set_author_telecommunication`] added.
    pub(super) fn remove_added_authors(&mut self, object_id: &str) -> &mut Self {
        self.object(object_id).removes_added_authors = true;
        self
    }

    /// Applies the changes and reads the result.
    pub fn finish(&self) -> Result<Metadata, MetadataError> {
        let text = self.metadata.xml().as_str();
        let splices = self.splices(text)?;
        let text = apply(text, splices);
        // The limit is on what a peer sends; what the bridge adds does not count.
        let limits = &self.metadata.limits;
        let mut grown = limits.clone();
        grown.max_metadata_bytes = limits.max_metadata_bytes.max(text.len() as u64);
        let mut metadata = Metadata::read(KeptXml::from_checked(text), &grown)?;
        metadata.limits = limits.clone();
        Ok(metadata)
    }

    fn splices(&self, text: &str) -> Result<Vec<Splice>, MetadataError> {
        if self.lacks_submission_set {
            return Err(MetadataError::NothingToEdit {
                object: "SubmissionSet",
            });
        }
        let document = parse(text)?;
        let lists = ebrim::object_lists(document.root_element())
            .ok_or(MetadataError::NotSubmitObjectsRequest)?;
        let mut nodes: HashMap<_, Node<'_, '_>> = HashMap::new();
        for node in lists.flat_map(|list| list.children()).filter(is_object) {
            nodes
                .entry(id_key(node.attribute("id").unwrap_or_default()))
                .or_insert(node);
        }
        let mut ids = self
            .objects
            .iter()
            .any(|changes| {
                !changes.author_telecommunications.is_empty()
                    || changes.label.is_some()
                    || !changes.codes.is_empty()
            })
            .then(|| UnusedIds::of(&document));
        let mut splices = Vec::new();
        for changes in &self.objects {
            let node = nodes
                .get(&id_key(&changes.id))
                .ok_or(MetadataError::NothingToEdit {
                    object: "object of that id",
                })?;
            let object = Element::at(text, *node)?;
            rename_slots(&object, &changes.renames, &mut splices)?;
            let slots = change_slots(&object, changes, &mut splices)?;
            if changes.removes_added_authors {
                let added = object.node.children().filter(|child| {
                    is_rim(child, "Classification")
                        && child
                            .attribute("id")
                            .is_some_and(|id| id.starts_with(ADDED_AUTHOR))
                });
                splices.extend(added.map(|author| object.removal(author)));
            }
            let mut added = String::new();
            let values = changes.author_telecommunications.iter();
            for (value, number) in values.zip(ids.iter_mut().flatten()) {
                added.push_str(&object.indented(&object.author(number, value)?));
            }
            for (node, number) in changes.label.iter().zip(ids.iter_mut().flatten()) {
                added.push_str(&object.indented(&object.label(number, node)?));
            }
            for ((scheme, code), number) in changes.codes.iter().zip(ids.iter_mut().flatten()) {
                added.push_str(&object.indented(&object.code(number, scheme, code)?));
            }
            object.insert(&[("Slot", slots), ("Classification", added)], &mut splices);
        }
        if self.removes_limited_labels {
            let labels = document.descendants().filter(is_limited_label);
            for label in labels {
                let parent = label
                    .parent_element()
                    .map(|parent| Element::at(text, parent));
                splices.extend(parent.transpose()?.map(|parent| parent.removal(label)));
            }
        }
        Ok(splices)
    }
}

/// Whether a child of a RegistryObjectList is an object that a change can mean. An ObjectRef bears the id of another
/// object, and a Classification beside the objects is part of the one that it names.
fn is_object(node: &Node<'_, '_>) -> bool {
    node.is_element()
        && node.tag_name().namespace() == Some(RIM)
        && !matches!(node.tag_name().name(), "ObjectRef" | "Classification")
}

/// Gives slots other names: only the attribute is touched. It is written whole, since the tree's range of the value
/// alone is wrong where much white space stands around the equals sign.
fn rename_slots(
    object: &Element<'_, '_, '_>,
    renames: &[(String, String)],
    splices: &mut Vec<Splice>,
) -> Result<(), MetadataError> {
    for slot in object.node.children().filter(|child| is_rim(child, "Slot")) {
        let Some(name) = slot.attribute_node("name") else {
            continue;
        };
        if let Some((_, to)) = renames.iter().find(|(from, _)| from == name.value()) {
            splices.push(Splice {
                range: name.range(),
                text: format!("name=\"{}\"", escape(to)?),
            });
        }
    }
    Ok(())
}

/// Changes the slots that are there, and gives back those to add.
fn change_slots(
    object: &Element<'_, '_, '_>,
    changes: &ObjectChanges,
    splices: &mut Vec<Splice>,
) -> Result<String, MetadataError> {
    let mut added = String::new();
    for change in &changes.slots {
        let is_renamed = changes.renames.iter().any(|(from, _)| *from == change.name);
        let mut present = object.node.children().filter(|child| {
            !is_renamed && is_rim(child, "Slot") && child.attribute("name") == Some(&change.name)
        });
        if let Some(values) = &change.values {
            match present.next() {
                Some(slot) => Element::at(object.text, slot)?.refill(values, splices)?,
                None => added.push_str(&object.indented(&object.slot(&change.name, values)?)),
            }
        }
        // A slot name may occur once (MD-1): what is left of the name would contradict the change.
        for superfluous in present {
            splices.push(object.removal(superfluous));
        }
    }
    Ok(added)
}

/// An element and its place in the text.
struct Element<'t, 'a, 'input> {
    text: &'t str,
    node: Node<'a, 'input>,
    /// Its name as it is written.
    written_name: &'t str,
    /// `rim:` or what else stands for the namespace here, with its colon; empty for the default namespace.
    prefix: &'t str,
    /// Offset after the start tag.
    content: usize,
    is_empty: bool,
}

impl<'t, 'a, 'input> Element<'t, 'a, 'input> {
    fn at(text: &'t str, node: Node<'a, 'input>) -> Result<Self, MetadataError> {
        // The tree was made from this very text, so that the tag is there; an error is still better than a panic.
        let tag =
            start_tag_at(text, node.range().start).ok_or(MetadataError::NotXml { line: 0 })?;
        let prefix = tag
            .name
            .find(':')
            .and_then(|colon| tag.name.get(..=colon))
            .unwrap_or_default();
        Ok(Self {
            text,
            node,
            written_name: tag.name,
            prefix,
            content: tag.end,
            is_empty: tag.is_empty,
        })
    }

    /// Puts each addition behind the last child that stands before or at the place of its kind (XDR-5), else first.
    fn insert(&self, additions: &[(&str, String)], splices: &mut Vec<Splice>) {
        if self.is_empty {
            // `<a/>` becomes `<a>…</a>`: the splice takes the place of `/>`.
            let added: String = additions.iter().map(|(_, text)| text.as_str()).collect();
            if !added.is_empty() {
                splices.push(Splice {
                    range: self.content.saturating_sub(2)..self.content,
                    text: format!(">{added}</{}>", self.written_name),
                });
            }
            return;
        }
        for (kind, added) in additions.iter().filter(|(_, text)| !text.is_empty()) {
            let place = schema_place(kind);
            let at = self
                .node
                .children()
                .rfind(|child| child.is_element() && schema_place(child.tag_name().name()) <= place)
                .map_or(self.content, |child| child.range().end);
            splices.push(Splice {
                range: at..at,
                text: added.clone(),
            });
        }
    }

    /// `element` on a line of its own if the children of this element stand so.
    fn indented(&self, element: &str) -> String {
        let rest = self.text.get(self.content..).unwrap_or_default();
        let length = rest.len() - rest.trim_start_matches(is_xml_space).len();
        let is_before_child = rest
            .get(length..)
            .is_some_and(|next| next.starts_with('<') && !next.starts_with("</") && !self.is_empty);
        let is_indent = is_before_child && length <= MAX_INDENT_BYTES;
        let space = rest.get(..length).filter(|_| is_indent);
        format!("{}{element}", space.unwrap_or_default())
    }

    /// Takes `child` out, with the white space before it.
    fn removal(&self, child: Node<'_, '_>) -> Splice {
        let range = child.range();
        let before = self.text.get(..range.start).unwrap_or_default();
        Splice {
            range: before.trim_end_matches(is_xml_space).len()..range.end,
            text: String::new(),
        }
    }

    /// Gives this slot other values: its ValueList is replaced, and what else it carries stays.
    fn refill(&self, values: &[String], splices: &mut Vec<Splice>) -> Result<(), MetadataError> {
        let list = self.value_list(values)?;
        let mut lists = self
            .node
            .children()
            .filter(|child| is_rim(child, "ValueList"));
        match lists.next() {
            Some(first) => splices.push(Splice {
                range: first.range().start..lists.next_back().unwrap_or(first).range().end,
                text: list,
            }),
            None => self.insert(&[("ValueList", list)], splices),
        }
        Ok(())
    }

    fn slot(&self, name: &str, values: &[String]) -> Result<String, MetadataError> {
        let prefix = self.prefix;
        let list = self.value_list(values)?;
        let name = escape(name)?;
        Ok(format!(
            "<{prefix}Slot name=\"{name}\">{list}</{prefix}Slot>"
        ))
    }

    fn value_list(&self, values: &[String]) -> Result<String, MetadataError> {
        let prefix = self.prefix;
        let mut list = format!("<{prefix}ValueList>");
        for value in values {
            let value = escape(value)?;
            list.push_str(&format!("<{prefix}Value>{value}</{prefix}Value>"));
        }
        list.push_str(&format!("</{prefix}ValueList>"));
        Ok(list)
    }

    /// An author Classification of this SubmissionSet (MD-3).
    fn author(&self, number: u64, telecommunication: &str) -> Result<String, MetadataError> {
        let prefix = self.prefix;
        let slot = self.slot("authorTelecommunication", &[telecommunication.to_owned()])?;
        let scheme = submission_set::AUTHOR;
        let object = escape(self.node.attribute("id").unwrap_or_default())?;
        Ok(format!(
            "<{prefix}Classification id=\"{ADDED_AUTHOR}{number}\" classificationScheme=\"{scheme}\" \
             classifiedObject=\"{object}\" nodeRepresentation=\"\" \
             objectType=\"{CLASSIFICATION_OBJECT_TYPE}\">{slot}</{prefix}Classification>"
        ))
    }

    /// A Classification that gives this object a code (MD-2).
    fn code(&self, number: u64, scheme: &str, code: &Code) -> Result<String, MetadataError> {
        let prefix = self.prefix;
        let object = escape(self.node.attribute("id").unwrap_or_default())?;
        let value = escape(&code.code)?;
        let name = escape(code.display.as_deref().unwrap_or(&code.code))?;
        let slot = match &code.scheme {
            Some(scheme) => self.slot("codingScheme", std::slice::from_ref(scheme))?,
            None => String::new(),
        };
        Ok(format!(
            "<{prefix}Classification id=\"{ADDED_CODE}{number}\" classificationScheme=\"{scheme}\" \
             classifiedObject=\"{object}\" nodeRepresentation=\"{value}\" \
             objectType=\"{CLASSIFICATION_OBJECT_TYPE}\">{slot}<{prefix}Name>\
             <{prefix}LocalizedString value=\"{name}\"/></{prefix}Name></{prefix}Classification>"
        ))
    }

    /// A Classification that labels this object (MD-6).
    fn label(&self, number: u64, node: &str) -> Result<String, MetadataError> {
        let prefix = self.prefix;
        let object = escape(self.node.attribute("id").unwrap_or_default())?;
        Ok(format!(
            "<{prefix}Classification id=\"{ADDED_LABEL}{number}\" classificationNode=\"{node}\" \
             classifiedObject=\"{object}\" objectType=\"{CLASSIFICATION_OBJECT_TYPE}\"/>"
        ))
    }
}

/// Whether a Classification marks an object as limited metadata (MD-6).
fn is_limited_label(node: &Node<'_, '_>) -> bool {
    const NODES: [&str; 3] = [
        submission_set::LIMITED_METADATA,
        document_entry::LIMITED_METADATA,
        folder::LIMITED_METADATA,
    ];
    is_rim(node, "Classification")
        && node
            .attribute("classificationNode")
            .is_some_and(|written| NODES.iter().any(|known| uuids::is(written, known)))
}

/// What the ids of added codes begin with.
const ADDED_CODE: &str = "xdbridge-code-";
/// What the ids of added labels begin with.
const ADDED_LABEL: &str = "xdbridge-label-";
/// What the ids of added author Classifications begin with.
const ADDED_AUTHOR: &str = "xdbridge-author-";

/// Numbers for the ids of added elements that no element has yet, the lowest first.
struct UnusedIds {
    used: HashSet<u64>,
    next: u64,
}

impl UnusedIds {
    /// Looks at each id once: a peer may send a great many that look like ours.
    fn of(document: &roxmltree::Document<'_>) -> Self {
        let used = document
            .descendants()
            .filter_map(|node| {
                let id = node.attribute("id")?;
                let number = id.strip_prefix(ADDED_AUTHOR);
                number
                    .or_else(|| id.strip_prefix(ADDED_LABEL))
                    .or_else(|| id.strip_prefix(ADDED_CODE))?
                    .parse()
                    .ok()
            })
            .collect();
        Self { used, next: 1 }
    }
}

impl Iterator for UnusedIds {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        while self.used.contains(&self.next) {
            self.next += 1;
        }
        let number = self.next;
        self.next += 1;
        Some(number)
    }
}

fn is_xml_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

/// Escapes `value` for element content and for attributes in double quotes.
fn escape(value: &str) -> Result<String, MetadataError> {
    let mut escaped = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // A reader would turn these into something else (XML 1.0 sections 2.11 and 3.3.3).
            '\r' => escaped.push_str("&#xD;"),
            '\n' => escaped.push_str("&#xA;"),
            '\t' => escaped.push_str("&#x9;"),
            // XML 1.0 section 2.2: no other character outside `Char`.
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => return Err(MetadataError::ValueNotXml),
            other => escaped.push(other),
        }
    }
    Ok(escaped)
}

/// Applies splices that do not overlap.
fn apply(text: &str, mut splices: Vec<Splice>) -> String {
    splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for splice in splices {
        result.push_str(text.get(done..splice.range.start).unwrap_or_default());
        result.push_str(&splice.text);
        done = splice.range.end.max(done);
    }
    result.push_str(text.get(done..).unwrap_or_default());
    result
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::{limits::Limits, xml::names::LCM},
        *,
    };

    fn metadata(content: &str) -> Metadata {
        let text = format!(
            "<l:SubmitObjectsRequest xmlns:l='{LCM}' xmlns='{RIM}'><RegistryObjectList>{content}\
             </RegistryObjectList></l:SubmitObjectsRequest>"
        );
        Metadata::read(KeptXml::from_checked(text), &Limits::default()).unwrap()
    }

    // rule: XDR-82, XDR-89
    #[test]
    fn a_change_means_the_object_and_not_what_bears_its_id_before_it() {
        for other in ["<ObjectRef id='d'/>", "<Classification id='d'/>"] {
            let metadata = metadata(&format!("{other}<ExtrinsicObject id='d'/>"));
            let mut edit = metadata.edit();
            edit.set_slot("d", "URI", &["DOC00001.XML"]);
            let edited = edit.finish().unwrap();
            let uri = edited.document_entries()[0].uri.as_deref();
            assert_eq!(uri, Some("DOC00001.XML"), "{other}");
            assert!(edited.xml().as_str().contains(other));
        }
    }

    // rule: XDR-84, T-10
    #[test]
    fn an_added_author_takes_the_lowest_id_that_is_free_among_very_many() {
        const TAKEN: u64 = 60_000;
        let taken: String = (2..=TAKEN)
            .map(|number| format!("<Classification id='{ADDED_AUTHOR}{number}'/>"))
            .collect();
        // A character reference is the character; a number out of range is no number of ours.
        let metadata = metadata(&format!(
            "<RegistryPackage id='s'><Classification id='xdbridge&#45;author-1' \
             classificationNode='{}'/>{taken}<Classification id='{ADDED_AUTHOR}{}0'/></RegistryPackage>",
            submission_set::NODE,
            u64::MAX
        ));
        let from = "ngozi@direct.elm.example".parse().unwrap();
        let mut edit = metadata.edit();
        edit.add_submission_set_author_telecommunication(&from);
        edit.add_submission_set_author_telecommunication(&from);
        let edited = edit.finish().unwrap();
        let text = edited.xml().as_str();
        for number in [TAKEN + 1, TAKEN + 2] {
            let id = format!("id=\"{ADDED_AUTHOR}{number}\"");
            assert_eq!(text.matches(&id).count(), 1, "{id}");
        }
        assert_eq!(edited.submission_sets()[0].authors.len(), 2);
    }

    // rule: T-10
    #[test]
    fn white_space_is_not_multiplied_by_what_is_added() {
        let space = " ".repeat(1_000_000);
        let metadata = metadata(&format!(
            "<ExtrinsicObject id='d'>{space}<Slot name='a'/></ExtrinsicObject>"
        ));
        let mut edit = metadata.edit();
        for name in ["URI", "hash", "size"] {
            edit.set_slot("d", name, &["x"]);
        }
        let edited = edit.finish().unwrap();
        let grown_bytes = edited.xml().as_str().len() - metadata.xml().as_str().len();
        assert!(grown_bytes < 1_000, "{grown_bytes}");
    }
}
