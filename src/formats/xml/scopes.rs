//! Which namespace a prefix stands for (Namespaces in XML 1.0).

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use super::names;

/// The prefixes in scope.
#[derive(Default)]
pub(super) struct Scopes {
    bindings: HashMap<String, Vec<Binding>>,
    /// The prefixes that each open element declares, outermost first.
    declared: Vec<Vec<String>>,
    /// Elements at this depth and below are kept as text of their own.
    kept_depth: Option<usize>,
    /// What kept elements took from outside.
    taken: BTreeMap<String, Rc<str>>,
}

struct Binding {
    namespace: Rc<str>,
    depth: usize,
}

impl Scopes {
    /// Opens an element.
    pub(super) fn open(&mut self) {
        self.declared.push(Vec::new());
    }

    /// Closes the innermost element.
    pub(super) fn close(&mut self) {
        for prefix in self.declared.pop().unwrap_or_default() {
            if let Some(bindings) = self.bindings.get_mut(&prefix) {
                bindings.pop();
                if bindings.is_empty() {
                    self.bindings.remove(&prefix);
                }
            }
        }
    }

    /// How many elements are open.
    pub(super) fn depth(&self) -> usize {
        self.declared.len()
    }

    /// A declaration on the innermost element; the empty prefix is the default namespace. An error says which rule
    /// of Namespaces in XML it breaks.
    pub(super) fn declare(&mut self, prefix: &str, namespace: &str) -> Result<(), &'static str> {
        match prefix {
            "xml" if namespace == names::XML => return Ok(()),
            "xml" => return Err("the prefix xml cannot be bound to another namespace"),
            "xmlns" => return Err("the prefix xmlns cannot be declared"),
            _ if namespace == names::XML || namespace == names::XMLNS => {
                return Err("the namespaces of xml and xmlns cannot have another prefix");
            }
            "" => {}
            _ if namespace.is_empty() => return Err("a prefix cannot be bound to no namespace"),
            _ => {}
        }
        let depth = self.declared.len();
        let Some(declared) = self.declared.last_mut() else {
            return Err("a declaration needs an element");
        };
        declared.push(prefix.to_owned());
        self.bindings
            .entry(prefix.to_owned())
            .or_default()
            .push(Binding {
                namespace: namespace.into(),
                depth,
            });
        Ok(())
    }

    /// The namespace of `prefix`; the empty text is no namespace. `None`: the prefix is not declared.
    pub(super) fn resolve(&mut self, prefix: &str) -> Option<Rc<str>> {
        if prefix == "xml" {
            return Some(names::XML.into());
        }
        let Some(binding) = self.bindings.get(prefix).and_then(|all| all.last()) else {
            return prefix.is_empty().then(|| "".into());
        };
        let namespace = Rc::clone(&binding.namespace);
        let is_from_outside = self.kept_depth.is_some_and(|kept| binding.depth < kept);
        if is_from_outside && !namespace.is_empty() && !self.taken.contains_key(prefix) {
            self.taken.insert(prefix.to_owned(), Rc::clone(&namespace));
        }
        Some(namespace)
    }

    /// The innermost element is kept: what it and its content take from outside is noted from here on.
    pub(super) fn keep(&mut self) {
        self.kept_depth = Some(self.depth());
        self.taken.clear();
    }

    /// The kept element has ended: what it took from outside.
    pub(super) fn end_keep(&mut self) -> BTreeMap<String, Rc<str>> {
        self.kept_depth = None;
        std::mem::take(&mut self.taken)
    }
}
