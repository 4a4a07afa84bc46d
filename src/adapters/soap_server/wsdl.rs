//! The WSDL of the service (soap.md section 8), with the address that the asker used.

/// As it stands in the repository, so that people and stub generators find it there as well.
const TEMPLATE: &str = include_str!("../../../wsdl/xdr.wsdl");

/// The address in the template.
const PLACEHOLDER: &str = "https://localhost:8443/xdr";

/// Longest host, with its port, that is put into the answer.
const MAX_HOST_BYTES: usize = 262;

/// The WSDL for a client that reached us as `host` (the Host header). A host that is none leaves the template's.
pub(super) fn at(host: &str) -> String {
    if !is_host(host) {
        return TEMPLATE.to_owned();
    }
    TEMPLATE.replace(PLACEHOLDER, &format!("https://{host}/xdr"))
}

/// Names, addresses and ports have nothing that XML would read as markup.
fn is_host(host: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    !host.is_empty() && host.len() <= MAX_HOST_BYTES && host.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: SOAP-2, SOAP-100
    #[test]
    fn both_roles_are_at_the_address_that_the_asker_used() {
        let wsdl = at("[2001:db8::7]:9443");
        assert_eq!(wsdl.matches("https://[2001:db8::7]:9443/xdr").count(), 2);
        assert!(!wsdl.contains("localhost"));
    }

    // rule: SOAP-162
    #[test]
    fn a_host_with_markup_is_not_repeated() {
        for host in ["", "a\"/><x", "a&b", "h\r\nx", &"h".repeat(300)] {
            assert_eq!(at(host), TEMPLATE);
        }
    }

    #[test]
    fn it_is_well_formed_and_names_what_section_8_of_soap_md_lists() {
        let wsdl = at("xdr.harbor.example");
        let tree = roxmltree::Document::parse(&wsdl).unwrap();
        let definitions = tree.root_element();
        assert_eq!(definitions.attribute("name"), Some("DocumentRepository"));
        assert_eq!(
            definitions.attribute("targetNamespace"),
            Some("urn:ihe:iti:xds-b:2007")
        );
        let names: Vec<(&str, &str)> = tree
            .descendants()
            .filter(|node| node.tag_name().namespace() == Some("http://schemas.xmlsoap.org/wsdl/"))
            .filter_map(|node| Some((node.tag_name().name(), node.attribute("name")?)))
            .collect();
        for expected in [
            ("message", "ProvideAndRegisterDocumentSet-b_Message"),
            ("message", "ProvideAndRegisterDocumentSet-bResponse_Message"),
            ("part", "body"),
            ("portType", "DocumentRepository_PortType"),
            (
                "operation",
                "DocumentRepository_ProvideAndRegisterDocumentSet-b",
            ),
            ("binding", "DocumentRepository_Binding_Soap12"),
            ("service", "DocumentRepository_Service"),
            ("port", "DocumentRepository_Port_Soap12"),
            ("portType", "DocumentSource_PortType"),
            (
                "operation",
                "DocumentSource_Async_ProvideAndRegisterDocumentSet-b",
            ),
            ("service", "DocumentSource_Service"),
        ] {
            assert!(names.contains(&expected), "{expected:?} is missing");
        }
        let elements: Vec<&str> = tree
            .descendants()
            .filter_map(|node| node.attribute("element"))
            .collect();
        assert_eq!(
            elements,
            [
                "xds:ProvideAndRegisterDocumentSetRequest",
                "rs:RegistryResponse"
            ]
        );
    }
}
