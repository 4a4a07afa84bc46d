//! The answer: rs:RegistryResponse (xdr.md section 4), read from a peer and written to one.

mod read;

pub use read::{Answer, AnswerError, ReceivedAnswer, read, read_file};

use super::ErrorCode;
use crate::formats::{
    finding::{Finding, Severity},
    ids::SoapMessageId,
    soap::{Packaging, RESPONSE_ACTION, UNSPECIFIED, package},
    xml::{names, write::XmlWriter},
};

const SUCCESS: &str = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success";
const FAILURE: &str = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure";
const PARTIAL_SUCCESS: &str = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess";
const ERROR: &str = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error";
const WARNING: &str = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning";
/// RegistryErrors that one answer carries (XDR-34).
const MAX_ERRORS: usize = 50;
/// Characters of a received value that go back to its sender.
const MAX_VALUE_CHARS: usize = 200;

/// `@status` (XDR-41).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything was taken.
    Success,
    /// Nothing was taken.
    Failure,
    /// Never sent for ITI-41; read as failure (XDR-45).
    PartialSuccess,
    /// Any other, such as NHIN's RequestAccepted (NHIN-21).
    Other(String),
}

impl Status {
    /// The URN on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Success => SUCCESS,
            Self::Failure => FAILURE,
            Self::PartialSuccess => PARTIAL_SUCCESS,
            Self::Other(urn) => urn,
        }
    }

    fn of(urn: &str) -> Self {
        match urn {
            SUCCESS => Self::Success,
            FAILURE => Self::Failure,
            PARTIAL_SUCCESS => Self::PartialSuccess,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// One `rs:RegistryError` (XDR-44). Its texts go only to the peer that sent the request: they may quote it.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// `@errorCode`.
    pub code: ErrorCode,
    /// `@severity`.
    pub severity: Severity,
    /// `@codeContext`: what is wrong.
    pub context: String,
    /// `@location`: where; a Direct address for a recipient (XDR-32).
    pub location: Option<String>,
}

/// Without the texts, which may name people.
impl std::fmt::Debug for RegistryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RegistryError({} {:?})", self.code, self.severity)
    }
}

/// An `rs:RegistryResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryResponse {
    /// `@status`.
    pub status: Status,
    /// `@requestId`.
    pub request_id: Option<String>,
    /// The error list, in its order.
    pub errors: Vec<RegistryError>,
}

impl RegistryResponse {
    /// Success without a word more.
    pub fn success() -> Self {
        Self {
            status: Status::Success,
            request_id: None,
            errors: Vec::new(),
        }
    }

    /// The answer that these entries ask for: Failure as soon as one is an error (XDR-30, XDR-42). Of more than 50
    /// entries the errors come first and the rest is left out (XDR-34).
    pub fn from_errors(mut errors: Vec<RegistryError>) -> Self {
        let is_error = |entry: &RegistryError| entry.severity == Severity::Error;
        let status = if errors.iter().any(is_error) {
            Status::Failure
        } else {
            Status::Success
        };
        if errors.len() > MAX_ERRORS {
            errors.sort_by_key(|entry| !is_error(entry));
            errors.truncate(MAX_ERRORS);
        }
        Self {
            status,
            request_id: None,
            errors,
        }
    }

    /// The answer to a submission with these findings: one entry for each that a peer is told (XDR-142).
    pub fn from_findings(findings: &[Finding]) -> Self {
        Self::from_errors(
            findings
                .iter()
                .filter_map(RegistryError::from_finding)
                .collect(),
        )
    }

    /// Whether it means that the submission was taken (XDR-45): Success, and no entry of severity Error.
    pub fn is_success(&self) -> bool {
        self.status == Status::Success
            && self
                .errors
                .iter()
                .all(|error| error.severity == Severity::Warning)
    }

    /// Whether it asks for the same request once more (XDR-111): a failure for passing reasons alone.
    pub fn is_transient(&self) -> bool {
        let mut errors = self
            .errors
            .iter()
            .filter(|entry| entry.severity == Severity::Error)
            .peekable();
        !self.is_success()
            && errors.peek().is_some()
            && errors.all(|entry| entry.code.is_transient())
    }

    fn write(&self, writer: &mut XmlWriter) {
        let mut attributes = vec![("xmlns:rs", names::RS), ("status", self.status.as_str())];
        if let Some(request_id) = &self.request_id {
            attributes.push(("requestId", request_id));
        }
        writer.start("rs:RegistryResponse", &attributes);
        if let Some(worst) = self.errors.iter().map(|error| error.severity).max() {
            writer.start(
                "rs:RegistryErrorList",
                &[("highestSeverity", severity_urn(worst))],
            );
            for error in &self.errors {
                let mut attributes = vec![
                    ("errorCode", error.code.as_str()),
                    ("codeContext", error.context.as_str()),
                    ("severity", severity_urn(error.severity)),
                ];
                if let Some(location) = &error.location {
                    attributes.push(("location", location));
                }
                writer.empty("rs:RegistryError", &attributes);
            }
            writer.end();
        }
        writer.end();
    }
}

impl RegistryError {
    /// The entry for a finding. `None` where the peer is not told: rules of mail alone, and warnings that have no
    /// warning code (XDR-142).
    pub fn from_finding(finding: &Finding) -> Option<Self> {
        let code = match (&finding.code, finding.severity) {
            (Some(code), Severity::Error) => code.clone(),
            (None, Severity::Error) => ErrorCode::XdsRepositoryError,
            (Some(code), Severity::Warning) if is_warning_code(code) => code.clone(),
            (_, Severity::Warning) => return None,
        };
        let mut context = match finding.location.as_str() {
            "" => finding.text.clone(),
            location => format!("{location}: {}", finding.text),
        };
        if let Some(value) = &finding.value {
            let shown: String = value.expose().chars().take(MAX_VALUE_CHARS).collect();
            context.push_str(&format!(" (received: \"{shown}\")"));
        }
        Some(Self {
            code,
            severity: finding.severity,
            context,
            location: (!finding.location.is_empty()).then(|| finding.location.clone()),
        })
    }
}

/// The codes that xdr.md section 5 lists with severity W.
fn is_warning_code(code: &ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownRecipient
            | ErrorCode::UnavailableRecipient
            | ErrorCode::DocumentQueued
            | ErrorCode::PartialFolderContentNotProcessed
            | ErrorCode::PartialAppendContentNotProcessed
            | ErrorCode::PartialReplaceContentNotProcessed
            | ErrorCode::PartialTransformNotProcessed
            | ErrorCode::PartialTransformReplaceNotProcessed
            | ErrorCode::PartialRelationshipContentNotProcessed
            | ErrorCode::XdsExtraMetadataNotSaved
    )
}

fn severity_urn(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => ERROR,
        Severity::Warning => WARNING,
    }
}

/// Content-Type and body of an answer in the packaging of its request (SOAP-10). `relates_to` is the request's
/// MessageID, if it had one (SOAP-67).
pub fn write_answer(
    response: &RegistryResponse,
    packaging: Packaging,
    relates_to: Option<&SoapMessageId>,
    message_id: &SoapMessageId,
) -> (String, Vec<u8>) {
    let mut writer = XmlWriter::document();
    writer.start(
        "soap:Envelope",
        &[("xmlns:soap", names::SOAP12), ("xmlns:wsa", names::WSA)],
    );
    writer.start("soap:Header", &[]);
    writer.leaf(
        "wsa:Action",
        &[("soap:mustUnderstand", "true")],
        RESPONSE_ACTION,
    );
    writer.leaf("wsa:MessageID", &[], message_id.as_str());
    writer.leaf(
        "wsa:RelatesTo",
        &[],
        relates_to.map_or(UNSPECIFIED, SoapMessageId::as_str),
    );
    writer.end();
    writer.start("soap:Body", &[]);
    response.write(&mut writer);
    package::write_envelope(&writer.finish(), packaging, RESPONSE_ACTION, message_id)
}
