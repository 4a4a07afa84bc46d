//! A SOAP answer as a peer of another make reads it: by its packaging, with every QName resolved.

use roxmltree::{Document, Node};
use xdbridge::formats::xdr::request::Packaging;

use super::tls::HttpAnswer;

const SOAP12: &str = "http://www.w3.org/2003/05/soap-envelope";
const WSA: &str = "http://www.w3.org/2005/08/addressing";

/// A name with its namespace, written `{namespace}local`.
pub(crate) type Name = String;

/// An envelope and how it came.
#[derive(Debug)]
pub(crate) struct SoapAnswer {
    pub(crate) status: u16,
    /// `None` for SOAP 1.1.
    pub(crate) packaging: Option<Packaging>,
    pub(crate) envelope: String,
}

/// A fault of SOAP 1.2.
#[derive(Debug)]
pub(crate) struct SoapFault {
    pub(crate) code: Name,
    /// Outermost first, nested as they must be.
    pub(crate) subcodes: Vec<Name>,
    pub(crate) reason: String,
    /// The rule that the Detail names.
    pub(crate) rule: String,
    /// `wsa:ProblemAction/wsa:Action`.
    pub(crate) problem_action: Option<String>,
}

impl SoapAnswer {
    /// Takes the envelope out of its package, which must be as SOAP-3 to SOAP-5 say.
    pub(crate) fn of(answer: &HttpAnswer) -> Self {
        let content_type = answer.header("content-type").unwrap();
        let body = String::from_utf8(answer.body.clone()).unwrap();
        let (packaging, envelope) = if content_type.starts_with("multipart/related") {
            assert_eq!(parameter(content_type, "type"), "application/xop+xml");
            assert_eq!(
                parameter(content_type, "start-info"),
                "application/soap+xml"
            );
            let (boundary, start) = (
                parameter(content_type, "boundary"),
                parameter(content_type, "start"),
            );
            let part = body.strip_prefix(&format!("--{boundary}\r\n")).unwrap();
            let (head, rest) = part.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-ID: {start}")), "{head}");
            assert!(head.contains("Content-Type: application/xop+xml"), "{head}");
            let (envelope, end) = rest.split_once(&format!("\r\n--{boundary}--")).unwrap();
            assert_eq!(end.trim(), "", "there is one part");
            (Some(Packaging::Mtom), envelope.to_owned())
        } else if content_type.starts_with("application/soap+xml") {
            (Some(Packaging::SimpleSoap), body)
        } else {
            assert_eq!(content_type, "text/xml; charset=UTF-8");
            (None, body)
        };
        Self {
            status: answer.status,
            packaging,
            envelope,
        }
    }

    /// The text of a WS-Addressing header, which must be there once.
    pub(crate) fn addressing(&self, local: &str) -> String {
        let tree = Document::parse(&self.envelope).unwrap();
        let mut found = tree
            .descendants()
            .filter(|node| node.has_tag_name((WSA, local)));
        let text = found.next().unwrap().text().unwrap().to_owned();
        assert!(found.next().is_none(), "one wsa:{local}");
        text
    }

    /// The qname attributes of these header blocks of the SOAP 1.2 namespace, or of what is in them, resolved.
    pub(crate) fn qnames(&self, block: &str) -> Vec<Name> {
        let tree = Document::parse(&self.envelope).unwrap();
        tree.descendants()
            .filter(|node| node.has_tag_name((SOAP12, block)))
            .map(|node| resolved(node, node.attribute("qname").unwrap()))
            .collect()
    }

    /// The fault that the body holds, in the order of elements that SOAP 1.2 part 1 §5.4 gives.
    pub(crate) fn fault(&self) -> SoapFault {
        let tree = Document::parse(&self.envelope).unwrap();
        let root = tree.root_element();
        assert!(root.has_tag_name((SOAP12, "Envelope")));
        let of = |node: Node<'_, '_>| -> Vec<String> {
            let elements = node.children().filter(Node::is_element);
            elements
                .map(|child| child.tag_name().name().to_owned())
                .collect()
        };
        assert_eq!(of(root), ["Header", "Body"]);
        let body = root.last_element_child().unwrap();
        assert_eq!(of(body), ["Fault"]);
        let fault = body.first_element_child().unwrap();
        assert!(fault.has_tag_name((SOAP12, "Fault")));
        assert_eq!(of(fault), ["Code", "Reason", "Detail"]);
        let inside = |node: Node<'_, '_>, local: &str| {
            node.children()
                .find(|child| child.has_tag_name((SOAP12, local)))
                .map(|child| child.id())
        };
        let get = |id| tree.get_node(id).unwrap();
        let value = |node: Node<'_, '_>| {
            let value = get(inside(node, "Value").unwrap());
            resolved(value, value.text().unwrap())
        };
        let code = get(inside(fault, "Code").unwrap());
        let mut subcodes = Vec::new();
        let mut next = inside(code, "Subcode");
        while let Some(id) = next {
            subcodes.push(value(get(id)));
            next = inside(get(id), "Subcode");
        }
        let text = get(inside(get(inside(fault, "Reason").unwrap()), "Text").unwrap());
        let xml = "http://www.w3.org/XML/1998/namespace";
        assert_eq!(text.attribute((xml, "lang")), Some("en"));
        let detail = get(inside(fault, "Detail").unwrap());
        let of_detail = |name: &str| detail.descendants().find(|n| n.tag_name().name() == name);
        SoapFault {
            code: value(code),
            subcodes,
            reason: text.text().unwrap().to_owned(),
            rule: of_detail("rule").unwrap().text().unwrap().to_owned(),
            problem_action: of_detail("ProblemAction").map(|problem| {
                let action = problem.first_element_child().unwrap();
                assert!(action.has_tag_name((WSA, "Action")));
                action.text().unwrap_or_default().to_owned()
            }),
        }
    }
}

/// A parameter of a Content-Type, which must be quoted.
fn parameter<'a>(content_type: &'a str, name: &str) -> &'a str {
    let (_, rest) = content_type.split_once(&format!("; {name}=\"")).unwrap();
    rest.split('"').next().unwrap()
}

fn resolved(node: Node<'_, '_>, qname: &str) -> Name {
    match qname.split_once(':') {
        Some((prefix, local)) => {
            let namespace = node.lookup_namespace_uri(Some(prefix));
            format!("{{{}}}{local}", namespace.expect("the prefix is declared"))
        }
        None => format!(
            "{{{}}}{qname}",
            node.lookup_namespace_uri(None).unwrap_or("")
        ),
    }
}
