//! The answer: rs:RegistryResponse (xdr.md section 4), read from a peer and written to one.

mod read;

pub use read::{Answer, AnswerError, ReceivedAnswer, read, read_file};

use super::ErrorCode;
use crate::formats::{
    finding::{Finding, MAX_FINDINGS, Severity},
    ids::SoapMessageId,
    soap::{Packaging, RESPONSE_ACTION, UNSPECIFIED, package},
    xml::{names, write::XmlWriter},
};

const SUCCESS: &str = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success";
const FAILURE: &str = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure";
const PARTIAL_SUCCESS: &str = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess";
const ERROR: &str = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error";
const WARNING: &str = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning";
/// RegistryErrors that one answer carries: findings, and one that says how many more there were (XDR-34).
const MAX_ERRORS: usize = MAX_FINDINGS + 1;
/// Characters of a received value that go back to its sender.
const MAX_VALUE_CHARS: usize = 200;
/// Characters of a codeContext that is made of a finding (metadata.md section 6).
const MAX_CONTEXT_CHARS: usize = 256;
/// What stands around a received value in a codeContext.
const VALUE_FRAME_CHARS: usize = " (received: \"\")".len();

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

    /// The answer that these entries ask for: Failure as soon as one is an error (XDR-30, XDR-42). Of more than 51
    /// entries the errors come first and the rest is left out (XDR-34), but none that tells of a recipient (XDR-32):
    /// of those there are at most as many as recipients (LIM-9).
    pub fn from_errors(errors: Vec<RegistryError>) -> Self {
        let mut errors: Vec<RegistryError> =
            errors.into_iter().map(RegistryError::on_one_line).collect();
        let is_error = |entry: &RegistryError| entry.severity == Severity::Error;
        let status = if errors.iter().any(is_error) {
            Status::Failure
        } else {
            Status::Success
        };
        if errors.len() > MAX_ERRORS {
            errors.sort_by_key(|entry| !is_error(entry));
            let mut others = 0;
            errors.retain(|entry| {
                let is_of_recipient = matches!(
                    entry.code,
                    ErrorCode::UnknownRecipient | ErrorCode::UnavailableRecipient
                );
                others += usize::from(!is_of_recipient);
                is_of_recipient || others <= MAX_ERRORS
            });
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
        if let (true, Some(value)) = (is_about_a_recipient(&code), &finding.value) {
            // The form of every refused recipient: what is wrong, and whom it is about (XDR-32).
            return Some(Self {
                code,
                severity: finding.severity,
                context: finding.text.clone(),
                location: Some(value.expose().clone()),
            });
        }
        let mut context = match finding.location.as_str() {
            "" => finding.text.clone(),
            location => format!("{location}: {}", finding.text),
        };
        if let Some(value) = &finding.value {
            let room =
                MAX_CONTEXT_CHARS.saturating_sub(context.chars().count() + VALUE_FRAME_CHARS);
            let most = room.min(MAX_VALUE_CHARS);
            if most > 0 {
                let shown: String = value.expose().chars().take(most).collect();
                context.push_str(&format!(" (received: \"{shown}\")"));
            }
        }
        let entry = Self {
            code,
            severity: finding.severity,
            context,
            location: (!finding.location.is_empty()).then(|| finding.location.clone()),
        };
        Some(entry.on_one_line())
    }

    /// The same with texts as they may stand in an attribute: of bounded length, without line ends (metadata.md section
    /// 6). A location may be a value that was received (XDR-32).
    fn on_one_line(self) -> Self {
        let tidy = |text: String| -> String {
            let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
            plain.take(MAX_CONTEXT_CHARS).collect()
        };
        Self {
            context: tidy(self.context),
            location: self.location.map(tidy),
            ..self
        }
    }
}

fn is_about_a_recipient(code: &ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UnknownRecipient | ErrorCode::UnavailableRecipient
    )
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::formats::{finding::Findings, limits::Limits};

    const WARNED: &str =
        include_str!("../../../docs/spec/examples/04-response-success-with-warning.xml");
    const FAILED: &str = include_str!("../../../docs/spec/examples/05-response-failure.xml");

    fn response_of(text: &str) -> RegistryResponse {
        match read_file(&mut Cursor::new(text), &Limits::default())
            .unwrap()
            .answer
        {
            Answer::Response(response) => response,
            Answer::Fault(fault) => panic!("{fault:?}"),
        }
    }

    // rule: XDR-40, XDR-41, XDR-42, XDR-43, XDR-44, SOAP-10, SOAP-67
    #[test]
    fn an_answer_reads_back_in_the_packaging_of_its_request() {
        let id: SoapMessageId = "urn:uuid:1".parse().unwrap();
        let request: SoapMessageId = "urn:uuid:<&>".parse().unwrap();
        for text in [WARNED, FAILED] {
            let response = response_of(text);
            for (packaging, start) in [
                (Packaging::Mtom, "multipart/related"),
                (Packaging::SimpleSoap, "application/soap+xml"),
            ] {
                let (content_type, body) = write_answer(&response, packaging, Some(&request), &id);
                assert!(content_type.starts_with(start));
                let again =
                    read(&content_type, &mut Cursor::new(&body), &Limits::default()).unwrap();
                assert_eq!(again.answer, Answer::Response(response.clone()));
                let addressing = again.addressing.unwrap();
                assert_eq!(addressing.action, RESPONSE_ACTION);
                assert_eq!(addressing.relates_to.as_deref(), Some(request.as_str()));
            }
        }
        let (content_type, body) = write_answer(
            &RegistryResponse::success(),
            Packaging::SimpleSoap,
            None,
            &id,
        );
        let addressing = read(&content_type, &mut Cursor::new(&body), &Limits::default())
            .unwrap()
            .addressing;
        assert_eq!(addressing.unwrap().relates_to.as_deref(), Some(UNSPECIFIED));
    }

    // rule: XDR-44, XDR-45, NHIN-21
    #[test]
    fn only_the_status_success_without_an_error_is_success() {
        assert!(response_of(WARNED).is_success());
        let failed = response_of(FAILED);
        assert!(!failed.is_success() && !failed.is_transient());
        assert_eq!(failed.errors.len(), 2);
        assert!(
            !response_of(
                &FAILED.replace("ResponseStatusType:Failure", "ResponseStatusType:Success")
            )
            .is_success()
        );
        let bare = |inside: &str, status: &str| {
            response_of(&format!(
                "<r:RegistryResponse xmlns:r='{}' status='{status}'>{inside}</r:RegistryResponse>",
                names::RS
            ))
        };
        assert!(bare("", SUCCESS).is_success());
        assert!(!bare("", FAILURE).is_success());
        assert!(!bare("", PARTIAL_SUCCESS).is_success());
        assert!(
            !bare(
                "",
                "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:RequestAccepted"
            )
            .is_success()
        );
        let busy = "<r:RegistryErrorList><r:RegistryError errorCode='XDSRegistryBusy' codeContext='' location=''/></r:RegistryErrorList>";
        let busy = bare(busy, FAILURE);
        assert!(busy.is_transient());
        assert_eq!(
            (busy.errors[0].severity, &busy.errors[0].location),
            (Severity::Error, &None)
        );
    }

    // rule: SOAP-94
    #[test]
    fn faults_of_either_version_are_read() {
        let soap11 = "<e:Envelope xmlns:e='http://schemas.xmlsoap.org/soap/envelope/'><e:Body><e:Fault><faultcode>e:Server</faultcode><faultstring>busy</faultstring></e:Fault></e:Body></e:Envelope>";
        let answer = read("text/xml", &mut Cursor::new(soap11), &Limits::default())
            .unwrap()
            .answer;
        let Answer::Fault(fault) = answer else {
            panic!("a fault")
        };
        assert!(fault.is_transient());
        assert_eq!(fault.reason.expose(), "busy");
        assert!(read("text/html", &mut Cursor::new("<html/>"), &Limits::default()).is_err());
        assert!(read_file(&mut Cursor::new("<a/>"), &Limits::default()).is_err());
    }

    // rule: XDR-30, XDR-34, XDR-42, XDR-142
    #[test]
    fn findings_become_entries_and_an_error_makes_it_failure() {
        let odd = Finding::warning("SOAP-11", "Content-Type", "not MTOM");
        let lost = Finding::warning("XDR-27", "Folder(a)", "left out")
            .with_code(ErrorCode::PartialFolderContentNotProcessed);
        let wrong = Finding::error(
            "XDR-21",
            ErrorCode::XdsRepositoryMetadataError,
            "DocumentEntry(a).hash",
            "does not match",
        )
        .with_value("ab".repeat(500));
        let response = RegistryResponse::from_findings(&[odd.clone(), lost.clone()]);
        assert_eq!(
            (response.status.clone(), response.errors.len()),
            (Status::Success, 1)
        );
        let many: Vec<Finding> = std::iter::repeat_n(lost, 80).chain([wrong]).collect();
        let response = RegistryResponse::from_findings(&many);
        assert_eq!(
            (response.status.clone(), response.errors.len()),
            (Status::Failure, MAX_ERRORS)
        );
        let first = &response.errors[0];
        assert_eq!(first.severity, Severity::Error);
        assert!(
            first
                .context
                .starts_with("DocumentEntry(a).hash: does not match (received: \"abab")
        );
        assert!(first.context.len() < 300);
        assert!(!format!("{response:?}").contains("abab"));
    }

    // rule: XDR-34
    #[test]
    fn that_errors_were_left_out_is_never_left_out() {
        let wrong = |_| {
            let code = ErrorCode::XdsRepositoryMetadataError;
            Finding::error("MD-40", code, "DocumentEntry(a).creationTime", "wrong")
        };
        let mut findings = Findings::up_to(MAX_FINDINGS);
        findings.extend((0..80).map(wrong));
        let errors = RegistryResponse::from_findings(&findings.finish()).errors;
        assert_eq!(errors.len(), 51);
        assert!(errors[50].context.starts_with("30 more errors "));
    }

    // rule: XDR-44
    #[test]
    fn a_context_has_256_characters_at_most_and_the_value_is_cut_first() {
        let finding = |text: &str| {
            Finding::error(
                "XDR-21",
                ErrorCode::XdsRepositoryMetadataError,
                "DocumentEntry(a).hash",
                text,
            )
            .with_value("\u{e4}".repeat(500))
        };
        let context = |text: &str| RegistryError::from_finding(&finding(text)).unwrap().context;
        let cut = context(&"t".repeat(100));
        assert_eq!(cut.chars().count(), 256);
        assert!(cut.ends_with("\u{e4}\")") && cut.contains(&"t".repeat(100)));
        assert_eq!(context(&"\u{f6}".repeat(400)).chars().count(), 256);
    }

    // rule: XDR-32, LIM-9
    #[test]
    fn every_refused_recipient_keeps_its_entry() {
        let of = |code: ErrorCode, number: usize| RegistryError {
            code,
            severity: Severity::Error,
            context: "refused".into(),
            location: Some(format!("r{number}@harbor.example")),
        };
        let refused = (0..100).map(|number| match number % 2 {
            0 => of(ErrorCode::UnknownRecipient, number),
            _ => of(ErrorCode::UnavailableRecipient, number),
        });
        let wrong = (0..80).map(|number| of(ErrorCode::XdsRepositoryMetadataError, number));
        let errors = RegistryResponse::from_errors(wrong.chain(refused).collect()).errors;
        let others = errors
            .iter()
            .filter(|entry| entry.code == ErrorCode::XdsRepositoryMetadataError)
            .count();
        assert_eq!((others, errors.len()), (MAX_ERRORS, 100 + MAX_ERRORS));
    }
}
