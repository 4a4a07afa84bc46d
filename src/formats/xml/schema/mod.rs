//! Validation against our own schemas (`schemas/`), for the strict mode of a partner (MD-99, XDR-5).
//!
//! The schemas are XSD 1.0, in a subset that every validator agrees on and that this one reads whole: sequences of
//! elements, choices of elements and wildcards; extensions; simple types by length, enumeration and a plain pattern; keys of one step.
//! What is outside the subset does not compile, and tests do compile them all (ADR 0008). A document is judged as a tree that the
//! hardened reader has passed; the cost is linear in its size, and every violation is told with its line.

mod check;
mod compile;
mod datatype;
mod model;
mod pattern;
mod subset;

use std::sync::LazyLock;

pub use model::Schemas;

use super::names;
use crate::formats::{finding::Finding, redacted::Redacted, xdr::ErrorCode};

/// Each file of `schemas/` that declares something, by its name there.
pub const FILES: [(&str, &str); 9] = [
    ("xml.xsd", include_str!("../../../../schemas/xml.xsd")),
    ("rim.xsd", include_str!("../../../../schemas/rim.xsd")),
    ("rs.xsd", include_str!("../../../../schemas/rs.xsd")),
    ("lcm.xsd", include_str!("../../../../schemas/lcm.xsd")),
    ("xds.xsd", include_str!("../../../../schemas/xds.xsd")),
    ("xop.xsd", include_str!("../../../../schemas/xop.xsd")),
    (
        "addressing.xsd",
        include_str!("../../../../schemas/addressing.xsd"),
    ),
    ("soap.xsd", include_str!("../../../../schemas/soap.xsd")),
    ("direct.xsd", include_str!("../../../../schemas/direct.xsd")),
];

/// The schemas of this program, compiled at the first use and once.
pub fn embedded() -> &'static Schemas {
    static EMBEDDED: LazyLock<Schemas> = LazyLock::new(|| {
        Schemas::compile(&FILES.map(|(_, text)| text))
            .expect("they are constants of this program, and a test compiles them")
    });
    &EMBEDDED
}

/// One place where a document is not as the schemas say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The nearest element that the schemas know, such as `rim:Slot`.
    pub element: String,
    /// The line in the document, from 1.
    pub line: u32,
    /// What is wrong and what would be accepted; no received value in it.
    pub text: String,
    /// The value, or the name that is not known.
    pub value: Option<Redacted<String>>,
}

impl Violation {
    /// The finding for a peer that is held to the schemas (MD-99); `root` is the element that lines are counted from.
    pub(in crate::formats) fn into_finding(self, code: ErrorCode, root: &str) -> Finding {
        let location = format!("{}, line {} of {root}", self.element, self.line);
        Finding {
            value: self.value,
            ..Finding::error("MD-99", code, location, self.text)
        }
    }
}

/// An expanded name of the schemas. `Display` writes it with the prefix that soap.md section 1 gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    namespace: String,
    local: String,
}

impl Name {
    fn is(&self, namespace: &str, local: &str) -> bool {
        self.local == local && self.namespace == namespace
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let prefix = match self.namespace.as_str() {
            names::SOAP12 => "soap:",
            names::WSA => "wsa:",
            names::XOP => "xop:",
            names::XDS => "xds:",
            names::LCM => "lcm:",
            names::RIM => "rim:",
            names::RS => "rs:",
            names::DIRECT => "direct:",
            names::XML => "xml:",
            _ => "",
        };
        write!(f, "{prefix}{}", self.local)
    }
}
