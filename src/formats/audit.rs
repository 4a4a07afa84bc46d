//! The record of one event for the audit (audit.md): a sink apart from the log, with a retention of its own. It may
//! hold addresses; it holds no names, no document content, no subject (PHI-2).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::ExchangeId;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// What kind (audit.md section 7).
    pub kind: AuditKind,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// The exchange that it belongs to.
    pub exchange: Option<ExchangeId>,
    /// What audit.md section 7 asks for, by name.
    pub details: BTreeMap<String, String>,
}

/// The kinds of audit.md section 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AuditKind {
    /// ITI-41 Import: an XDR request was accepted or refused.
    Iti41Import,
    /// ITI-41 Export: an XDR request, response or status submission left.
    Iti41Export,
    /// ITI-32 Export: an SMTP attempt ended.
    Iti32Export,
    /// ITI-32 Import: an SMTP message was received.
    Iti32Import,
    /// A recipient was resolved or refused.
    Recipient,
    /// A message was signed and encrypted.
    Secure,
    /// An MDN or DSN came in.
    MdnIn,
    /// An MDN was sent.
    MdnOut,
    /// A timer decided.
    Timeout,
    /// A recipient was settled.
    Outcome,
    /// Somebody tried what they may not, or trust failed.
    SecurityAlert,
    /// The bridge started or stopped.
    Application,
}

/// The EventOutcomeIndicator of DICOM PS3.15 A.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditOutcome {
    /// 0.
    Success,
    /// 4: recoverable, or partial.
    Minor,
    /// 8: the transaction failed.
    Serious,
    /// 12: the system is unusable.
    Major,
}

impl AuditRecord {
    /// A record without details.
    pub fn new(at: Timestamp, kind: AuditKind, outcome: AuditOutcome) -> Self {
        Self {
            at,
            kind,
            outcome,
            exchange: None,
            details: BTreeMap::new(),
        }
    }

    /// The same record, tied to an exchange.
    #[must_use]
    pub fn of(mut self, exchange: ExchangeId) -> Self {
        self.exchange = Some(exchange);
        self
    }

    /// The same record with one more detail. Free text of a peer is cut and cleaned (PHI-3).
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.details.insert(name.to_owned(), clean(&value.into()));
        self
    }
}

/// Longest detail (PHI-3).
const MAX_DETAIL_CHARACTERS: usize = 256;

fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_DETAIL_CHARACTERS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: PHI-3
    #[test]
    fn a_detail_is_cut_and_has_no_control_characters() {
        let record = AuditRecord::new(
            Timestamp::UNIX_EPOCH,
            AuditKind::Recipient,
            AuditOutcome::Success,
        )
        .with("smtp-reply", format!("550 no\r\n{}", "x".repeat(400)));
        let detail = &record.details["smtp-reply"];
        assert_eq!(detail.chars().count(), 256);
        assert!(detail.starts_with("550 no  xx"));
    }
}
