//! Reading schema files into what documents are checked against.

use std::collections::HashMap;

use roxmltree::{Document, Node};

use super::{
    Name,
    datatype::{BuiltIn, Simple},
    model::{
        Attribute, ByName, Complex, Content, Element, Form, Item, Namespaces, Schemas, Term, Type,
    },
    pattern::Pattern,
    subset::check_subset,
};
use crate::formats::xml::names;

const XSD: &str = "http://www.w3.org/2001/XMLSchema";

/// Why a schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema, line {line}: {text}")]
pub(super) struct SchemaError {
    /// The line in its file, from 1; 0 for what concerns no one place.
    line: u32,
    /// What is wrong, or outside the subset that is read.
    text: String,
}

impl Schemas {
    /// Compiles files that may name one another's declarations. They are ours: what only a careless hand could write,
    /// such as a type that extends itself, is not looked for, and xmllint would tell in the tests.
    pub(super) fn compile(files: &[&str]) -> Result<Self, SchemaError> {
        let documents: Vec<Document<'_>> = files
            .iter()
            .map(|text| {
                Document::parse(text).map_err(|error| SchemaError {
                    line: error.pos().row,
                    text: "not well-formed XML".to_owned(),
                })
            })
            .collect::<Result<_, _>>()?;
        for document in &documents {
            check_subset(document)?;
        }
        let mut compiler = Compiler {
            named: HashMap::new(),
            attributes: HashMap::new(),
            types: Vec::new(),
        };
        compiler.register(&documents)?;
        let mut schemas = Self {
            elements: compiler.compile(&documents)?,
            attributes: compiler.attributes,
            types: Vec::new(),
        };
        for slot in compiler.types {
            schemas.types.extend(slot);
        }
        schemas.check_references()?;
        Ok(schemas)
    }

    /// Every element that a content model names is declared.
    fn check_references(&self) -> Result<(), SchemaError> {
        let models = self.types.iter().filter_map(|each| match &each.form {
            Form::Complex(Complex {
                content: Content::Items(items),
                ..
            }) => Some(items),
            _ => None,
        });
        for term in models.flatten().flat_map(|item| &item.terms) {
            if let Term::Global(name) = term
                && self.element(&name.namespace, &name.local).is_none()
            {
                return Err(SchemaError {
                    line: 0,
                    text: format!("the element {name} is not declared"),
                });
            }
        }
        Ok(())
    }
}

struct Compiler<'a> {
    /// Named types and where they stand.
    named: HashMap<(String, String), (usize, Node<'a, 'a>)>,
    attributes: ByName<Simple>,
    types: Vec<Option<Type>>,
}

impl<'a> Compiler<'a> {
    /// Gives every named type its place, so that types may name one another in any order.
    fn register(&mut self, documents: &'a [Document<'_>]) -> Result<(), SchemaError> {
        for document in documents {
            let schema = document.root_element();
            if !is(schema, "schema") {
                return Err(outside(schema));
            }
            for node in parts(schema) {
                if is(node, "complexType") || is(node, "simpleType") {
                    let name = own_name(node)?;
                    let key = (name.namespace, name.local);
                    self.named.insert(key, (self.types.len(), node));
                    self.types.push(None);
                }
            }
        }
        Ok(())
    }

    fn compile(&mut self, documents: &'a [Document<'_>]) -> Result<ByName<Element>, SchemaError> {
        let tops = || documents.iter().flat_map(|d| parts(d.root_element()));
        // Types ask for attributes by name.
        for node in tops().filter(|node| is(*node, "attribute")) {
            let name = own_name(node)?;
            let simple = self.simple_named(node, "type")?;
            let of_namespace = self.attributes.entry(name.namespace).or_default();
            of_namespace.insert(name.local, simple);
        }
        let mut elements: ByName<Element> = HashMap::new();
        for node in tops() {
            match node.tag_name().name() {
                "attribute" | "import" => {}
                "element" => {
                    let element = self.element(node)?;
                    let of_namespace = elements.entry(element.name.namespace.clone()).or_default();
                    of_namespace.insert(element.name.local.clone(), element);
                }
                "complexType" | "simpleType" => {
                    let name = own_name(node)?;
                    let form = self.form(node)?;
                    let key = (name.namespace.clone(), name.local.clone());
                    if let Some((type_id, _)) = self.named.get(&key) {
                        let named = Type {
                            name: Some(name),
                            form,
                        };
                        self.types[*type_id] = Some(named);
                    }
                }
                _ => return Err(outside(node)),
            }
        }
        Ok(elements)
    }

    fn element(&mut self, node: Node<'a, 'a>) -> Result<Element, SchemaError> {
        let mut once = Vec::new();
        for part in parts(node) {
            let path = |name: &str| {
                let child = parts(part).find(|child| is(*child, name));
                child.and_then(|child| child.attribute("xpath"))
            };
            let step = path("field").filter(|path| !path.contains(['/', '@', '*', '.', '|']));
            match step.and_then(|step| qualified(part, step)) {
                Some(name) if is(part, "key") && path("selector") == Some(".") => once.push(name),
                _ => return Err(outside(part)),
            }
        }
        Ok(Element {
            name: own_name(node)?,
            type_id: self.type_named(node)?,
            once,
        })
    }

    /// The type that an element declares by name.
    fn type_named(&mut self, node: Node<'a, 'a>) -> Result<usize, SchemaError> {
        let name = attribute(node, "type")?;
        let name = qualified(node, name).ok_or_else(|| outside(node))?;
        if name.namespace == XSD {
            let form = Form::Simple(self.simple(node, &name)?);
            self.types.push(Some(Type { name: None, form }));
            return Ok(self.types.len() - 1);
        }
        let key = (name.namespace, name.local);
        let known = self.named.get(&key).map(|(type_id, _)| *type_id);
        known.ok_or_else(|| fault(node, "a type that is not declared"))
    }

    fn form(&mut self, node: Node<'a, 'a>) -> Result<Form, SchemaError> {
        if is(node, "simpleType") {
            self.restriction(node).map(Form::Simple)
        } else {
            self.complex(node).map(Form::Complex)
        }
    }

    fn simple_named(&self, node: Node<'a, 'a>, by: &'static str) -> Result<Simple, SchemaError> {
        let name = qualified(node, attribute(node, by)?).ok_or_else(|| outside(node))?;
        self.simple(node, &name)
    }

    fn simple(&self, node: Node<'a, 'a>, name: &Name) -> Result<Simple, SchemaError> {
        if name.namespace == XSD {
            let built_in = BuiltIn::named(&name.local).ok_or_else(|| outside(node))?;
            return Ok(Simple::of(built_in));
        }
        let key = (name.namespace.clone(), name.local.clone());
        match self.named.get(&key) {
            Some((_, declared)) if is(*declared, "simpleType") => self.restriction(*declared),
            _ => Err(fault(node, "a simple type that is not declared")),
        }
    }

    fn restriction(&self, node: Node<'a, 'a>) -> Result<Simple, SchemaError> {
        let restriction = only_part(node, "restriction")?;
        let mut simple = self.simple_named(restriction, "base")?;
        for facet in parts(restriction) {
            let value = attribute(facet, "value")?;
            let number = || value.parse().map_err(|_| outside(facet));
            match facet.tag_name().name() {
                "minLength" => simple.min_chars = number()?,
                "maxLength" => simple.max_chars = Some(number()?),
                "enumeration" => simple.values.push(value.to_owned()),
                "pattern" if simple.pattern.is_none() => {
                    simple.pattern = Some(Pattern::read(value).ok_or_else(|| outside(facet))?);
                }
                _ => return Err(outside(facet)),
            }
        }
        Ok(simple)
    }

    fn complex(&mut self, node: Node<'a, 'a>) -> Result<Complex, SchemaError> {
        let mut complex = Complex::default();
        let mut inside = node;
        if let Some(content) = parts(node).find(|part| is(*part, "simpleContent")) {
            inside = only_part(content, "extension")?;
            complex.content = Content::Text(self.simple_named(inside, "base")?);
        } else if let Some(content) = parts(node).find(|part| is(*part, "complexContent")) {
            inside = only_part(content, "extension")?;
            let base = qualified(inside, attribute(inside, "base")?);
            let key = base.map(|name| (name.namespace, name.local));
            let base = key.and_then(|key| self.named.get(&key));
            let (_, base) = *base.ok_or_else(|| fault(inside, "a base that is not declared"))?;
            complex = self.complex(base)?;
        }
        for part in parts(inside) {
            match part.tag_name().name() {
                "sequence" => {
                    let mut more = self.sequence(part)?;
                    match &mut complex.content {
                        Content::Items(items) => items.append(&mut more),
                        Content::Text(_) => return Err(outside(part)),
                    }
                }
                "attribute" => {
                    let attribute = self.attribute_use(part)?;
                    complex.attributes.push(attribute);
                }
                "anyAttribute" => complex.other_attributes = Some(namespaces(part)?),
                _ => return Err(outside(part)),
            }
        }
        Ok(complex)
    }

    fn attribute_use(&self, node: Node<'a, 'a>) -> Result<Attribute, SchemaError> {
        let is_required = match node.attribute("use") {
            Some("required") => true,
            None => false,
            Some(_) => return Err(outside(node)),
        };
        if let Some(reference) = node.attribute("ref") {
            let name = qualified(node, reference).ok_or_else(|| outside(node))?;
            let declared = self.attributes.get(&name.namespace);
            let simple = declared.and_then(|declared| declared.get(&name.local));
            let simple = simple.ok_or_else(|| fault(node, "an attribute that is not declared"))?;
            return Ok(Attribute {
                simple: simple.clone(),
                name,
                is_required,
            });
        }
        Ok(Attribute {
            name: Name {
                namespace: String::new(),
                local: attribute(node, "name")?.to_owned(),
            },
            simple: self.simple_named(node, "type")?,
            is_required,
        })
    }

    fn sequence(&mut self, node: Node<'a, 'a>) -> Result<Vec<Item>, SchemaError> {
        let mut items = Vec::new();
        for part in parts(node) {
            let (min, max) = occurrences(part)?;
            let terms = if is(part, "choice") {
                let mut terms = Vec::new();
                for each in parts(part) {
                    if occurrences(each)? != (1, 1) {
                        return Err(outside(each));
                    }
                    terms.push(self.term(each)?);
                }
                terms
            } else {
                vec![self.term(part)?]
            };
            items.push(Item { terms, min, max });
        }
        Ok(items)
    }

    fn term(&mut self, node: Node<'a, 'a>) -> Result<Term, SchemaError> {
        if is(node, "any") {
            let is_strict = match node.attribute("processContents") {
                Some("strict") => true,
                Some("lax") => false,
                _ => return Err(outside(node)),
            };
            return Ok(Term::Any {
                namespaces: namespaces(node)?,
                is_strict,
            });
        }
        if !is(node, "element") {
            return Err(outside(node));
        }
        match node.attribute("ref") {
            Some(reference) => {
                let name = qualified(node, reference).ok_or_else(|| outside(node))?;
                Ok(Term::Global(name))
            }
            None => Ok(Term::Local(own_name(node)?, self.type_named(node)?)),
        }
    }
}

/// Child elements of XSD that say something.
fn parts<'a>(node: Node<'a, 'a>) -> impl Iterator<Item = Node<'a, 'a>> {
    node.children().filter(|child| {
        child.is_element() && child.tag_name().namespace() == Some(XSD) && !is(*child, "annotation")
    })
}

fn only_part<'a>(node: Node<'a, 'a>, name: &str) -> Result<Node<'a, 'a>, SchemaError> {
    let mut parts = parts(node);
    match (parts.next(), parts.next()) {
        (Some(only), None) if is(only, name) => Ok(only),
        _ => Err(outside(node)),
    }
}

pub(super) fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.tag_name().name() == name && node.tag_name().namespace() == Some(XSD)
}

/// The name that a declaration gives, in the target namespace: elementFormDefault is `qualified` everywhere.
fn own_name(node: Node<'_, '_>) -> Result<Name, SchemaError> {
    let schema = node.document().root_element();
    Ok(Name {
        namespace: schema
            .attribute("targetNamespace")
            .unwrap_or_default()
            .to_owned(),
        local: attribute(node, "name")?.to_owned(),
    })
}

/// A QName in an attribute value.
fn qualified(node: Node<'_, '_>, text: &str) -> Option<Name> {
    let (prefix, local) = match text.split_once(':') {
        Some((prefix, local)) => (Some(prefix), local),
        None => (None, text),
    };
    let namespace = match prefix {
        // Bound everywhere, without a declaration.
        Some("xml") => Some(names::XML),
        _ => node.lookup_namespace_uri(prefix),
    };
    Some(Name {
        namespace: match prefix {
            Some(_) => namespace?.to_owned(),
            None => namespace.unwrap_or_default().to_owned(),
        },
        local: local.to_owned(),
    })
}

fn namespaces(node: Node<'_, '_>) -> Result<Namespaces, SchemaError> {
    match node.attribute("namespace") {
        Some("##any") => Ok(Namespaces::Any),
        Some("##other") => {
            let schema = node.document().root_element();
            let own = schema.attribute("targetNamespace").unwrap_or_default();
            Ok(Namespaces::OtherThan(own.to_owned()))
        }
        _ => Err(outside(node)),
    }
}

fn occurrences(node: Node<'_, '_>) -> Result<(usize, usize), SchemaError> {
    let number = |name| match node.attribute(name) {
        None => Ok(1),
        Some("unbounded") => Ok(usize::MAX),
        Some(text) => text.parse().map_err(|_| outside(node)),
    };
    Ok((number("minOccurs")?, number("maxOccurs")?))
}

fn attribute<'a>(node: Node<'a, '_>, name: &'static str) -> Result<&'a str, SchemaError> {
    let missing = || fault(node, &format!("the attribute {name} is missing"));
    node.attribute(name).ok_or_else(missing)
}

pub(super) fn outside(node: Node<'_, '_>) -> SchemaError {
    fault(node, "outside the subset of XSD that is read here")
}

fn fault(node: Node<'_, '_>, text: &str) -> SchemaError {
    SchemaError {
        line: node.document().text_pos_at(node.range().start).row,
        text: format!("xsd:{}: {text}", node.tag_name().name()),
    }
}
