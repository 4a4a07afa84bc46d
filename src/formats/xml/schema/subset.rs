//! The part of XSD that schemas may be written in.

use roxmltree::{Document, Node};

use super::compile::{SchemaError, is, outside};

/// The attributes that are read of each element of XSD. Whatever else is written there would change what the schema
/// means, and is not passed over.
const READ: [(&str, &[&str]); 22] = [
    (
        "any",
        &["minOccurs", "maxOccurs", "namespace", "processContents"],
    ),
    ("anyAttribute", &["namespace", "processContents"]),
    ("attribute", &["name", "ref", "type", "use"]),
    ("choice", &["minOccurs", "maxOccurs"]),
    ("complexContent", &[]),
    ("complexType", &["name"]),
    (
        "element",
        &["minOccurs", "maxOccurs", "name", "ref", "type"],
    ),
    ("enumeration", &["value"]),
    ("extension", &["base"]),
    ("field", &["xpath"]),
    ("import", &["namespace", "schemaLocation"]),
    ("key", &["name"]),
    ("maxLength", &["value"]),
    ("minLength", &["value"]),
    ("pattern", &["value"]),
    ("restriction", &["base"]),
    ("schema", &["targetNamespace", "elementFormDefault"]),
    ("selector", &["xpath"]),
    ("sequence", &[]),
    ("simpleContent", &[]),
    ("simpleType", &["name"]),
    ("annotation", &[]),
];

/// What is written is what is read, and the defaults are those that are assumed.
pub(super) fn check_subset(document: &Document<'_>) -> Result<(), SchemaError> {
    for node in document.descendants().filter(Node::is_element) {
        let name = node.tag_name().name();
        let read = READ.iter().find(|(known, _)| is(node, known));
        let (_, read) = read.ok_or_else(|| outside(node))?;
        let mut attributes = node.attributes();
        let is_qualified = node.attribute("elementFormDefault") == Some("qualified");
        let is_lax = node.attribute("processContents") == Some("lax");
        let is_right = attributes.all(|each| read.contains(&each.name()))
            && match name {
                // No element is declared where the namespace has attributes alone.
                "schema" => is_qualified || !node.descendants().any(|each| is(each, "element")),
                "anyAttribute" => is_lax,
                _ => true,
            };
        if !is_right {
            return Err(outside(node));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{compile::SchemaError, model::Schemas};

    const NAMESPACES: &str =
        "xmlns:xsd='http://www.w3.org/2001/XMLSchema' xmlns:t='urn:t' targetNamespace='urn:t'";

    fn compiled(inside: &str) -> Result<Schemas, SchemaError> {
        let schema = format!(
            "<xsd:schema {NAMESPACES} elementFormDefault='qualified'>{inside}</xsd:schema>"
        );
        Schemas::compile(&[&schema])
    }

    fn of_type(inside: &str) -> String {
        format!("<xsd:complexType name='T'>{inside}</xsd:complexType>")
    }

    // rule: MD-99
    #[test]
    fn what_the_subset_does_not_have_is_no_schema_instead_of_being_passed_over() {
        let sequence = |inside: &str| of_type(&format!("<xsd:sequence>{inside}</xsd:sequence>"));
        let restricted = |facet: &str| {
            format!(
                "<xsd:simpleType name='S'><xsd:restriction base='xsd:string'>{facet}</xsd:restriction></xsd:simpleType>"
            )
        };
        let good = [
            sequence("<xsd:element name='a' type='xsd:string' minOccurs='0'/>"),
            of_type("<xsd:attribute name='a' type='xsd:boolean' use='required'/>"),
            restricted("<xsd:pattern value='a+'/><xsd:maxLength value='2'/>"),
            "<xsd:annotation/><xsd:element name='a' type='xsd:string'/>".to_owned(),
        ];
        for inside in good {
            assert!(compiled(&inside).is_ok(), "{inside}");
        }
        let bad = [
            // Constructs.
            of_type("<xsd:all><xsd:element name='a' type='xsd:string'/></xsd:all>"),
            sequence("<xsd:sequence><xsd:element name='a' type='xsd:string'/></xsd:sequence>"),
            sequence(
                "<xsd:choice><xsd:element name='a' type='xsd:string' minOccurs='0'/></xsd:choice>",
            ),
            sequence("<xsd:any namespace='urn:other' processContents='lax'/>"),
            sequence("<xsd:any namespace='##any' processContents='skip'/>"),
            of_type("<xsd:anyAttribute namespace='##other'/>"),
            restricted("<xsd:pattern value='[a-z]*'/>"),
            restricted("<xsd:pattern value='a'/><xsd:pattern value='b'/>"),
            restricted("<xsd:totalDigits value='2'/>"),
            "<xsd:element name='a' type='xsd:string'><xsd:unique name='u'/></xsd:element>"
                .to_owned(),
            "<xsd:group name='g'/>".to_owned(),
            // Attributes that would say more.
            "<xsd:element name='a' type='xsd:string' nillable='true'/>".to_owned(),
            "<xsd:element name='a' type='xsd:string' substitutionGroup='t:b'/>".to_owned(),
            "<xsd:complexType name='T' mixed='true'/>".to_owned(),
            of_type("<xsd:attribute name='a' type='xsd:string' fixed='x'/>"),
            of_type("<xsd:attribute name='a' type='xsd:string' use='prohibited'/>"),
            of_type("<xsd:sequence minOccurs='0'/>"),
            // Names of nothing.
            "<xsd:element name='a' type='t:T'/>".to_owned(),
            "<xsd:element name='a' type='xsd:decimal'/>".to_owned(),
            sequence("<xsd:element ref='t:nothing'/>"),
            of_type("<xsd:attribute ref='t:nothing'/>"),
        ];
        for inside in bad {
            assert!(compiled(&inside).is_err(), "{inside}");
        }
        let unqualified = format!(
            "<xsd:schema {NAMESPACES}><xsd:element name='a' type='xsd:string'/></xsd:schema>"
        );
        assert!(Schemas::compile(&[&unqualified]).is_err());
    }
}
