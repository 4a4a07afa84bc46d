//! What is wrong, or merely odd, about a message: one [`Finding`] for each violated rule (XDR-140).

use super::{redacted::Redacted, xdr::ErrorCode};

/// How bad a finding is. One `Error` refuses the message (XDR-141).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A tolerated deviation: told, never silent.
    Warning,
    /// The message is refused.
    Error,
}

/// One violated rule. All texts are free of patient data; the offending value itself is in `value`, which goes
/// only into the answer to the peer that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule's ID in `docs/spec`, such as `MD-92`.
    pub rule: &'static str,
    /// Whether the message is refused because of it.
    pub severity: Severity,
    /// The XDS code that it raises in an XDR answer; `None` for rules of mail alone.
    pub code: Option<ErrorCode>,
    /// `Object(id).attribute`, a MIME part path, or a zip entry.
    pub location: String,
    /// One sentence: what is wrong and what would be accepted.
    pub text: String,
    /// The value as it was received.
    pub value: Option<Redacted<String>>,
}

impl Finding {
    /// A finding that refuses the message with `code`.
    pub fn error(
        rule: &'static str,
        code: ErrorCode,
        location: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        Self::new(rule, Severity::Error, Some(code), location, text)
    }

    /// A tolerated deviation.
    pub fn warning(
        rule: &'static str,
        location: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        Self::new(rule, Severity::Warning, None, location, text)
    }

    fn new(
        rule: &'static str,
        severity: Severity,
        code: Option<ErrorCode>,
        location: impl Into<String>,
        text: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            severity,
            code,
            location: location.into(),
            text: text.into(),
            value: None,
        }
    }

    /// The same finding with the XDS code that a peer may be told with it.
    #[must_use]
    pub fn with_code(mut self, code: ErrorCode) -> Self {
        self.code = Some(code);
        self
    }

    /// The same finding with the value that was received.
    #[must_use]
    pub fn with_value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(Redacted::new(value.into()));
        self
    }

    /// Whether it refuses the message.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Whether a message with these findings is refused (XDR-141).
pub fn refuses(findings: &[Finding]) -> bool {
    findings.iter().any(Finding::is_error)
}
