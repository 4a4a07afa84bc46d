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

/// Most findings that are told of one message, unless the caller says otherwise (XDR-34).
pub const MAX_FINDINGS: usize = 50;

/// Collects the findings of one message, so many and no more (XDR-34). An error takes the place of a warning where there
/// is no more room: the verdict hangs on it. What is said of a recipient has room of its own, since the number of
/// recipients is limited.
#[derive(Clone, Debug)]
pub struct Findings {
    told: Vec<Finding>,
    max: usize,
    counted: usize,
    left_out_errors: usize,
    left_out_warnings: usize,
}

impl Findings {
    /// Room for `max` findings.
    pub fn up_to(max: usize) -> Self {
        Self {
            told: Vec::new(),
            max,
            counted: 0,
            left_out_errors: 0,
            left_out_warnings: 0,
        }
    }

    /// Takes one more.
    pub fn add(&mut self, finding: Finding) {
        if is_about_a_recipient(&finding) {
            self.told.push(finding);
        } else if self.counted < self.max {
            self.counted += 1;
            self.told.push(finding);
        } else if !finding.is_error() {
            self.left_out_warnings += 1;
        } else if self.drop_a_warning() {
            self.told.push(finding);
        } else {
            self.left_out_errors += 1;
        }
    }

    /// Makes room by leaving out the last warning, if there is one.
    fn drop_a_warning(&mut self) -> bool {
        let is_warning = |told: &Finding| !told.is_error() && !is_about_a_recipient(told);
        let at = self.told.iter().rposition(is_warning);
        if let Some(at) = at {
            self.told.remove(at);
            self.left_out_warnings += 1;
        }
        at.is_some()
    }

    /// What is told so far.
    pub fn told(&self) -> &[Finding] {
        &self.told
    }

    /// Whether the message is refused already.
    pub fn refuses(&self) -> bool {
        self.left_out_errors > 0 || refuses(&self.told)
    }

    /// What was found; the last finding says so if there was more. It is an error where errors were left out, so that
    /// the sender learns of them.
    pub fn finish(mut self) -> Vec<Finding> {
        let (errors, warnings) = (self.left_out_errors, self.left_out_warnings);
        if errors + warnings > 0 {
            let text = format!(
                "{errors} more errors and {warnings} more warnings are not listed; at most {} findings of a message are",
                self.max
            );
            self.told.push(match errors {
                0 => Finding::warning("XDR-34", "", text),
                _ => Finding::error("XDR-34", ErrorCode::XdsRepositoryMetadataError, "", text),
            });
        }
        self.told
    }
}

impl Extend<Finding> for Findings {
    fn extend<T: IntoIterator<Item = Finding>>(&mut self, findings: T) {
        for finding in findings {
            self.add(finding);
        }
    }
}

/// Whether it is one of the entries of XDR-32.
fn is_about_a_recipient(finding: &Finding) -> bool {
    use ErrorCode::{UnavailableRecipient, UnknownRecipient};
    matches!(finding.code, Some(UnknownRecipient | UnavailableRecipient))
}

/// Whether a message with these findings is refused (XDR-141).
pub fn refuses(findings: &[Finding]) -> bool {
    findings.iter().any(Finding::is_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: ErrorCode = ErrorCode::XdsRepositoryMetadataError;

    fn collected(max: usize, findings: impl IntoIterator<Item = Finding>) -> Vec<String> {
        let mut room = Findings::up_to(max);
        room.extend(findings);
        let word = |finding: &Finding| {
            if finding.is_error() {
                "error"
            } else {
                "warning"
            }
        };
        let told = room.finish();
        told.iter()
            .map(|finding| format!("{} {}", finding.rule, word(finding)))
            .collect()
    }

    fn error(rule: &'static str) -> Finding {
        Finding::error(rule, CODE, "", "wrong")
    }

    fn warning(rule: &'static str) -> Finding {
        Finding::warning(rule, "", "odd")
    }

    // rule: XDR-34, XDR-141
    #[test]
    fn what_is_left_out_is_told_last_and_no_error_hides_behind_warnings() {
        let odd = ["MD-1", "MD-4", "MD-8"].map(warning);
        assert_eq!(
            collected(3, odd.clone()),
            ["MD-1 warning", "MD-4 warning", "MD-8 warning"]
        );
        assert_eq!(
            collected(2, odd.clone()),
            ["MD-1 warning", "MD-4 warning", "XDR-34 warning"]
        );
        let then_wrong = odd.into_iter().chain(["MD-40", "MD-41"].map(error));
        assert_eq!(
            collected(3, then_wrong.clone()),
            [
                "MD-1 warning",
                "MD-40 error",
                "MD-41 error",
                "XDR-34 warning"
            ]
        );
        assert_eq!(collected(1, then_wrong), ["MD-40 error", "XDR-34 error"]);
    }

    // rule: XDR-32, XDR-34
    #[test]
    fn entries_about_recipients_have_room_of_their_own() {
        let refused = (0..80).map(|_| error("XDR-60").with_code(ErrorCode::UnknownRecipient));
        let told = collected(1, refused.chain([error("MD-40")]));
        assert_eq!(told.len(), 81);
        assert!(!told.iter().any(|one| one.starts_with("XDR-34")));
    }
}
