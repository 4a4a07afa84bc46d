//! The record of one event for the audit (audit.md): a sink apart from the log, with a retention of its own. It may
//! hold addresses; it holds no names, no document content, no subject (PHI-2).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{document::hex, ids::ExchangeId, keyed_hash::KeyedHash};

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
    /// Somebody read the audit (PHI-4; DCM 110101).
    AuditLogUsed,
    /// An operator looked at exchanges, or did something to one.
    Operator,
    /// Somebody listed, read or removed mail of the postmaster.
    PostmasterMail,
}

/// How much of a patient identifier the audit keeps: `audit.patient_id` (PHI-2, AUD-3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PatientIdPolicy {
    /// As it was received.
    Full,
    /// A keyed hash: the same patient is recognised again, and not named.
    #[default]
    Opaque,
    /// Nothing.
    None,
}

impl PatientIdPolicy {
    /// What the audit keeps of the identifier `patient_id` (a CX value).
    pub fn kept(self, patient_id: &str, key: &KeyedHash) -> Option<String> {
        match self {
            Self::Full => Some(patient_id.to_owned()),
            Self::Opaque => Some(hex(&key.of(&[b"patient id", patient_id.as_bytes()]))),
            Self::None => None,
        }
    }
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

impl AuditOutcome {
    /// The indicator as DICOM has it.
    pub fn indicator(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Minor => 4,
            Self::Serious => 8,
            Self::Major => 12,
        }
    }
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

    // rule: PHI-2, AUD-3
    #[test]
    fn an_opaque_patient_id_is_recognised_again_and_names_nobody() {
        let key = KeyedHash::new(&[1; 32]);
        let kept = |policy: PatientIdPolicy, id| policy.kept(id, &key);
        let ada = "Q-77^^^&2.999.1&ISO";
        let opaque = kept(PatientIdPolicy::Opaque, ada).unwrap();
        assert_eq!(kept(PatientIdPolicy::Opaque, ada).unwrap(), opaque);
        assert_ne!(
            kept(PatientIdPolicy::Opaque, "Q-78^^^&2.999.1&ISO").unwrap(),
            opaque
        );
        assert_ne!(
            PatientIdPolicy::Opaque
                .kept(ada, &KeyedHash::new(&[2; 32]))
                .unwrap(),
            opaque
        );
        assert!(!opaque.contains("Q-77"));
        assert_eq!(kept(PatientIdPolicy::Full, ada).unwrap(), ada);
        assert_eq!(kept(PatientIdPolicy::None, ada), None);
    }
}
