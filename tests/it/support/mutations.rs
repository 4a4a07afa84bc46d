//! Every small damage that can be done to an XML document: one child, one attribute, one place at a time.

use roxmltree::{Document, Node};

/// One damaged document.
pub(crate) struct Mutation {
    pub(crate) kind: Kind,
    /// Local name of the element that was changed.
    pub(crate) parent: String,
    /// Local names of the children, or the attribute, that it was changed in.
    pub(crate) what: Vec<String>,
    /// Whether another child of that name is left.
    pub(crate) is_one_of_several: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ChildRemoved,
    ChildrenSwapped,
    AttributeRemoved,
    /// Of what comes now nothing is known beforehand but that two validators should agree.
    ChildDoubled,
    UnknownChild,
    UnknownAttribute,
    StrayText,
    Blank,
    AttributeEmptied,
    AttributeLengthened,
    TextEmptied,
    TextLengthened,
    TextReplaced,
}

/// All of them with their texts, in document order, of elements no deeper than `depth`; 1 is the root.
pub(crate) fn all(text: &str, depth: usize) -> Vec<(Mutation, String)> {
    let document = Document::parse(text).unwrap();
    let mut found = Vec::new();
    let is_meant = |node: &Node<'_, '_>| {
        node.is_element() && node.ancestors().filter(Node::is_element).count() <= depth
    };
    for node in document.descendants().filter(is_meant) {
        let mut push = |kind, what: Vec<String>, is_one_of_several, text: String| {
            let mutation = Mutation {
                kind,
                parent: local(node),
                what,
                is_one_of_several,
            };
            found.push((mutation, text));
        };
        let children: Vec<Node<'_, '_>> = node.children().filter(Node::is_element).collect();
        for child in &children {
            let same = children.iter().filter(|c| c.tag_name() == child.tag_name());
            let (range, several) = (child.range(), same.count() > 1);
            let without = [&text[..range.start], &text[range.end..]].concat();
            push(Kind::ChildRemoved, vec![local(*child)], several, without);
            let twice = [&text[..range.end], &text[range.clone()], &text[range.end..]].concat();
            push(Kind::ChildDoubled, vec![local(*child)], several, twice);
        }
        for pair in children.windows(2) {
            let [one, two] = pair else { continue };
            if one.tag_name() != two.tag_name() {
                let (a, b) = (one.range(), two.range());
                let swapped = [
                    &text[..a.start],
                    &text[b.clone()],
                    &text[a.end..b.start],
                    &text[a.clone()],
                    &text[b.end..],
                ];
                let what = vec![local(*one), local(*two)];
                push(Kind::ChildrenSwapped, what, false, swapped.concat());
            }
        }
        for attribute in node.attributes() {
            let (range, value) = (attribute.range(), attribute.range_value());
            let name = || vec![attribute.name().to_owned()];
            let without = [&text[..range.start], &text[range.end..]].concat();
            push(Kind::AttributeRemoved, name(), false, without);
            let valued = |with: &str| [&text[..value.start], with, &text[value.end..]].concat();
            push(Kind::AttributeEmptied, name(), false, valued(""));
            let long = valued(&"x".repeat(1025));
            push(Kind::AttributeLengthened, name(), false, long);
        }
        let tag_end = node.range().start + text[node.range()].find('>').unwrap();
        let is_empty = text[..tag_end].ends_with('/');
        let end_of_name = tag_end - usize::from(is_empty);
        let with = |inserted: &str| [&text[..end_of_name], inserted, &text[end_of_name..]].concat();
        push(Kind::UnknownAttribute, vec![], false, with(" colour='red'"));
        if !is_empty {
            let inside =
                |inserted: &str| [&text[..=tag_end], inserted, &text[tag_end + 1..]].concat();
            let unknown = "<colour xmlns='urn:example:colour'>red</colour>";
            push(Kind::UnknownChild, vec![], false, inside(unknown));
            push(Kind::StrayText, vec![], false, inside("red"));
            push(Kind::Blank, vec![], false, inside("\n"));
        }
        if children.is_empty()
            && let Some(only) = node.first_child().filter(Node::is_text)
        {
            let only = only.range();
            let replaced = |with: &str| [&text[..only.start], with, &text[only.end..]].concat();
            push(Kind::TextEmptied, vec![], false, replaced(""));
            push(
                Kind::TextLengthened,
                vec![],
                false,
                replaced(&"x".repeat(1025)),
            );
            push(Kind::TextReplaced, vec![], false, replaced("1 b:c"));
        }
    }
    found
}

fn local(node: Node<'_, '_>) -> String {
    node.tag_name().name().to_owned()
}
