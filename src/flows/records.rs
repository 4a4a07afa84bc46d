//! Audit records and alarms that both directions have in common (audit.md section 7).

use jiff::Timestamp;
use tracing::error;

use super::{
    measures,
    ports::{Claim, SendResult},
};
use crate::{
    bridge::{exchange::Reason, trust::Doubt},
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{CertificateFingerprint, DomainName, MessageId},
        smime::SigningIdentity,
    },
};

/// A message was signed and encrypted.
pub(in crate::flows) fn secured(
    now: Timestamp,
    claim: &Claim,
    message_id: &MessageId,
    signers: &[SigningIdentity],
    recipients: usize,
) -> AuditRecord {
    let fingerprints: Vec<String> = signers
        .iter()
        .filter_map(|signer| signer.certificate.to_der().ok())
        .map(|der| CertificateFingerprint::of_der(&der).to_string())
        .collect();
    AuditRecord::new(now, AuditKind::Secure, AuditOutcome::Success)
        .of(claim.exchange)
        .with("message-id", message_id.as_str())
        .with("signers", fingerprints.join(" "))
        .with("recipients", recipients.to_string())
}

/// The record, with what no revocation list told of the certificate that was used all the same (REV-4).
pub(in crate::flows) fn doubted(record: AuditRecord, doubt: Option<Doubt>) -> AuditRecord {
    match doubt {
        Some(doubt) => record.with("revocation", doubt.word()),
        None => record,
    }
}

/// An operator has to look: a message waits for what tells of a certificate's revocation, or of its issuer (REV-4, TA-7).
pub(in crate::flows) fn alarm_revocation_unknown(domain: &DomainName) {
    error!(
        alarm = "revocation_unknown",
        domain = %domain,
        "no CRL or OCSP answer in date tells whether a certificate is revoked, or its issuer's certificate is not to be had now, and {domain} must know: the message waits for it"
    );
    measures::count_alarm("revocation_unknown");
}

/// An operator has to look: what was written is not what is read. `which` body it is, in a fixed word.
pub(in crate::flows) fn alarm_damaged_body(claim: &Claim, which: &'static str) {
    error!(
        alarm = "body_damaged",
        exchange.id = %claim.exchange,
        which,
        "the {which} body of exchange {} is damaged on disk; its recipients are reported as failed",
        claim.exchange
    );
    measures::count_alarm("body_damaged");
}

/// Whether a mail was not sent because its stored octets are damaged.
pub(in crate::flows) fn is_damaged(result: &SendResult) -> bool {
    matches!(
        result,
        SendResult::Refused {
            reason: Reason::Internal,
            ..
        }
    )
}
