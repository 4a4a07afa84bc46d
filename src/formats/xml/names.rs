//! Namespaces (soap.md section 1). Prefixes are free; matching is by URI and local name (SOAP-1).
#![expect(
    missing_docs,
    reason = "each constant is the namespace that its name says"
)]

pub const SOAP12: &str = "http://www.w3.org/2003/05/soap-envelope";
pub const SOAP11: &str = "http://schemas.xmlsoap.org/soap/envelope/";
pub const WSA: &str = "http://www.w3.org/2005/08/addressing";
pub const XOP: &str = "http://www.w3.org/2004/08/xop/include";
pub const XDS: &str = "urn:ihe:iti:xds-b:2007";
pub const LCM: &str = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0";
pub const RIM: &str = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0";
pub const RS: &str = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0";
pub const DIRECT: &str = "urn:direct:addressing";
pub const WSSE: &str =
    "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd";
pub const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";
