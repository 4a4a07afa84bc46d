//! SOAP faults (soap.md section 6): what is wrong with a message as a message. What is wrong with metadata or
//! documents is a RegistryResponse instead (SOAP-92).

use super::{Packaging, package};
use crate::formats::{
    ids::SoapMessageId,
    redacted::Redacted,
    soap::UNSPECIFIED,
    xml::{names, pull::XmlError, write::XmlWriter},
};

/// The Action of a fault that WS-Addressing defines (soap.md section 5).
const WSA_FAULT_ACTION: &str = "http://www.w3.org/2005/08/addressing/fault";
/// The Action of a fault that SOAP defines.
const SOAP_FAULT_ACTION: &str = "http://www.w3.org/2005/08/addressing/soap/fault";
/// Longest reason that is read from a peer's fault, in characters.
const MAX_REASON_CHARS: usize = 500;

/// The Value of soap:Code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultCode {
    /// The envelope is of another SOAP version (SOAP-81).
    VersionMismatch,
    /// A mandatory header is not understood (SOAP-82).
    MustUnderstand,
    /// The message is at fault: the same message fails again.
    Sender,
    /// The receiver is at fault: the same message may succeed later.
    Receiver,
}

impl FaultCode {
    fn as_str(self) -> &'static str {
        match self {
            Self::VersionMismatch => "soap:VersionMismatch",
            Self::MustUnderstand => "soap:MustUnderstand",
            Self::Sender => "soap:Sender",
            Self::Receiver => "soap:Receiver",
        }
    }
}

/// A subcode; the second of two is nested in the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the names are those of WS-Addressing and WS-Security"
)]
pub enum Subcode {
    MessageAddressingHeaderRequired,
    ActionNotSupported,
    InvalidAddressingHeader,
    InvalidCardinality,
    MissingAddressInEpr,
    ActionMismatch,
    OnlyAnonymousAddressSupported,
    DuplicateMessageId,
    InvalidSecurity,
}

impl Subcode {
    fn as_str(self) -> &'static str {
        match self {
            Self::MessageAddressingHeaderRequired => "wsa:MessageAddressingHeaderRequired",
            Self::ActionNotSupported => "wsa:ActionNotSupported",
            Self::InvalidAddressingHeader => "wsa:InvalidAddressingHeader",
            Self::InvalidCardinality => "wsa:InvalidCardinality",
            Self::MissingAddressInEpr => "wsa:MissingAddressInEPR",
            Self::ActionMismatch => "wsa:ActionMismatch",
            Self::OnlyAnonymousAddressSupported => "wsa:OnlyAnonymousAddressSupported",
            Self::DuplicateMessageId => "wsa:DuplicateMessageID",
            Self::InvalidSecurity => "wsse:InvalidSecurity",
        }
    }
}

/// The SOAP version that a fault is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoapVersion {
    /// 1.1: only to tell its sender that 1.2 is spoken here (SOAP-45).
    V11,
    /// 1.2.
    V12,
}

/// A fault that we answer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The rule that was broken; named in the Detail.
    pub rule: &'static str,
    /// The code.
    pub code: FaultCode,
    /// Subcodes, outermost first.
    pub subcodes: &'static [Subcode],
    /// One sentence without any received value (SOAP-93).
    pub reason: String,
    /// The header blocks that were not understood: namespace and local name (SOAP-82).
    pub not_understood: Vec<(String, String)>,
    /// The Action that is not supported, for the peer that sent it (SOAP-60).
    pub problem_action: Option<Box<Redacted<String>>>,
    /// The version to answer in.
    pub version: SoapVersion,
    /// The packaging of the request.
    pub packaging: Packaging,
    /// The MessageID of the request, if it could be read.
    pub relates_to: Option<SoapMessageId>,
    /// Its sender wants no answer, so that there is nobody to tell (SOAP-70).
    pub is_unwanted: bool,
}

impl Fault {
    /// A fault for a message in SOAP 1.2.
    pub fn new(code: FaultCode, rule: &'static str, reason: impl Into<String>) -> Self {
        Self {
            rule,
            code,
            subcodes: &[],
            reason: reason.into(),
            not_understood: Vec::new(),
            problem_action: None,
            version: SoapVersion::V12,
            packaging: Packaging::Mtom,
            relates_to: None,
            is_unwanted: false,
        }
    }

    /// A Sender fault.
    pub fn sender(rule: &'static str, reason: impl Into<String>) -> Self {
        Self::new(FaultCode::Sender, rule, reason)
    }

    /// A Receiver fault, for a failure of our own (SOAP-90).
    pub fn receiver(reason: impl Into<String>) -> Self {
        Self::new(FaultCode::Receiver, "SOAP-90", reason)
    }

    /// The same fault with subcodes, outermost first.
    #[must_use]
    pub fn with_subcodes(mut self, subcodes: &'static [Subcode]) -> Self {
        self.subcodes = subcodes;
        self
    }

    /// The HTTP status: 400 for Sender, else 500 (SOAP 1.2 part 2 table 20); security faults 500 (SOAP-88).
    pub fn http_status(&self) -> u16 {
        let is_security = self.subcodes.contains(&Subcode::InvalidSecurity);
        if self.code == FaultCode::Sender && !is_security {
            400
        } else {
            500
        }
    }

    /// Content-Type and body of the answer, in the packaging of the request (SOAP-93).
    pub fn write_answer(&self, message_id: &SoapMessageId) -> (String, Vec<u8>) {
        if self.version == SoapVersion::V11 {
            return (
                "text/xml; charset=UTF-8".to_owned(),
                self.write_soap11(message_id).into_bytes(),
            );
        }
        let is_wsa = self
            .subcodes
            .iter()
            .any(|code| code.as_str().starts_with("wsa:"));
        let action = if is_wsa {
            WSA_FAULT_ACTION
        } else {
            SOAP_FAULT_ACTION
        };
        let mut writer = XmlWriter::document();
        writer.start(
            "soap:Envelope",
            &[
                ("xmlns:soap", names::SOAP12),
                ("xmlns:wsa", names::WSA),
                ("xmlns:wsse", names::WSSE),
            ],
        );
        writer.start("soap:Header", &[]);
        writer.leaf("wsa:Action", &[("soap:mustUnderstand", "true")], action);
        writer.leaf("wsa:MessageID", &[], message_id.as_str());
        writer.leaf("wsa:RelatesTo", &[], self.relates_to());
        for (namespace, local) in &self.not_understood {
            if namespace.is_empty() {
                writer.empty("soap:NotUnderstood", &[("qname", local)]);
            } else {
                let qname = format!("nu:{local}");
                writer.empty(
                    "soap:NotUnderstood",
                    &[("qname", &qname), ("xmlns:nu", namespace)],
                );
            }
        }
        if self.code == FaultCode::VersionMismatch {
            writer.start("soap:Upgrade", &[]);
            writer.empty("soap:SupportedEnvelope", &[("qname", "soap:Envelope")]);
            writer.end();
        }
        writer.end();
        writer.start("soap:Body", &[]);
        writer.start("soap:Fault", &[]);
        writer.start("soap:Code", &[]);
        writer.leaf("soap:Value", &[], self.code.as_str());
        for subcode in self.subcodes {
            writer.start("soap:Subcode", &[]);
            writer.leaf("soap:Value", &[], subcode.as_str());
        }
        for _ in self.subcodes {
            writer.end();
        }
        writer.end();
        writer.start("soap:Reason", &[]);
        writer.leaf("soap:Text", &[("xml:lang", "en")], &self.reason);
        writer.end();
        writer.start("soap:Detail", &[]);
        if let Some(action) = &self.problem_action {
            writer.start("wsa:ProblemAction", &[]);
            writer.leaf("wsa:Action", &[], action.expose());
            writer.end();
        }
        writer.leaf("rule", &[("xmlns", "urn:xdbridge:2026")], self.rule);
        package::write_envelope(&writer.finish(), self.packaging, action, message_id)
    }

    fn relates_to(&self) -> &str {
        self.relates_to
            .as_ref()
            .map_or(UNSPECIFIED, SoapMessageId::as_str)
    }

    /// SOAP 1.1 VersionMismatch with the envelope that is supported (SOAP 1.2 part 1 appendix A).
    fn write_soap11(&self, message_id: &SoapMessageId) -> String {
        let mut writer = XmlWriter::document();
        writer.start(
            "soap11:Envelope",
            &[
                ("xmlns:soap11", names::SOAP11),
                ("xmlns:soap", names::SOAP12),
                ("xmlns:wsa", names::WSA),
            ],
        );
        writer.start("soap11:Header", &[]);
        writer.leaf("wsa:Action", &[], SOAP_FAULT_ACTION);
        writer.leaf("wsa:MessageID", &[], message_id.as_str());
        writer.leaf("wsa:RelatesTo", &[], self.relates_to());
        writer.start("soap:Upgrade", &[]);
        writer.empty("soap:SupportedEnvelope", &[("qname", "soap:Envelope")]);
        writer.end();
        writer.end();
        writer.start("soap11:Body", &[]);
        writer.start("soap11:Fault", &[]);
        writer.leaf("faultcode", &[], "soap11:VersionMismatch");
        writer.leaf("faultstring", &[], &self.reason);
        writer.finish()
    }
}

impl From<&XmlError> for Fault {
    fn from(error: &XmlError) -> Self {
        match error {
            XmlError::Refused { rule, text } => Self::sender(rule, text.clone()),
            XmlError::Io(_) => Self::receiver("the message could not be read"),
        }
    }
}

/// A fault that a peer answered with (SOAP-94).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedFault {
    /// The code, if it is one of SOAP 1.2 or its SOAP 1.1 counterpart.
    pub code: Option<FaultCode>,
    /// Local names of the subcodes, outermost first.
    pub subcodes: Vec<String>,
    /// The peer's own words, cut to 500 characters. They may quote what we sent.
    pub reason: Redacted<String>,
}

impl ReceivedFault {
    /// Whether the same request may succeed later (XDR-111).
    pub fn is_transient(&self) -> bool {
        self.code == Some(FaultCode::Receiver)
    }

    /// Reads a soap:Fault of either version.
    pub(crate) fn of(fault: &super::header::Element) -> Self {
        let first = |name: &str| fault.children.iter().find(|child| child.local == name);
        let local = |text: &str| {
            text.trim()
                .rsplit(':')
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let mut subcodes = Vec::new();
        let (code, reason) = match first("Code") {
            Some(code) => {
                let value = |of: &super::header::Element| {
                    of.children
                        .iter()
                        .find(|c| c.local == "Value")
                        .map(|v| local(&v.text))
                        .unwrap_or_default()
                };
                let mut next = code.children.iter().find(|c| c.local == "Subcode");
                while let Some(subcode) = next {
                    subcodes.push(value(subcode));
                    next = subcode.children.iter().find(|c| c.local == "Subcode");
                }
                let reason = first("Reason")
                    .and_then(|r| r.children.first())
                    .map(|t| t.trimmed());
                (value(code), reason)
            }
            None => (
                first("faultcode")
                    .map(|c| local(&c.text))
                    .unwrap_or_default(),
                first("faultstring").map(|s| s.trimmed()),
            ),
        };
        let code = match code.as_str() {
            "VersionMismatch" => Some(FaultCode::VersionMismatch),
            "MustUnderstand" => Some(FaultCode::MustUnderstand),
            "Sender" | "Client" => Some(FaultCode::Sender),
            "Receiver" | "Server" => Some(FaultCode::Receiver),
            _ => None,
        };
        let reason = reason
            .unwrap_or_default()
            .chars()
            .take(MAX_REASON_CHARS)
            .collect();
        Self {
            code,
            subcodes,
            reason: Redacted::new(reason),
        }
    }
}
