//! Going through a content model from left to right: which child stands where, what is missing, what has no place.

use roxmltree::Node;

use super::{
    super::{
        Name,
        model::{Item, Namespaces, Term},
    },
    Check, listed,
};
use crate::formats::xml::chars::is_blank;

impl<'s> Check<'s> {
    pub(super) fn items(
        &mut self,
        node: Node<'_, '_>,
        name: &Name,
        items: &'s [Item],
        depth: usize,
    ) {
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
