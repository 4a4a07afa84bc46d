//! What is told of sessions and mails: to the audit with addresses, to the log and the metrics without (PHI-1).

use tracing::{error, info};

use super::{Shared, reply::Reply, session::Mail};
use crate::{
    flows::{
        measures,
        ports::{MailRecipient, SmtpPeer},
    },
    formats::audit::{AuditKind, AuditOutcome, AuditRecord},
};

/// What happened.
pub(super) struct Incident {
    pub(super) kind: AuditKind,
    pub(super) outcome: AuditOutcome,
    /// In fixed words.
    pub(super) reason: String,
}

/// A mail as the audit wants it (audit.md section 7).
pub(super) struct MailAccount<'a> {
    pub(super) id: &'a str,
    pub(super) mail: &'a Mail,
    pub(super) size_bytes: u64,
    pub(super) reply: String,
}

/// Records an incident. A store that cannot take it is an operator's matter: the peer is refused all the same.
pub(super) async fn audit(
    shared: &Shared,
    peer: &SmtpPeer,
    incident: Incident,
    mail: Option<&MailAccount<'_>>,
) {
    let mut record = AuditRecord::new(shared.parts.clock.now(), incident.kind, incident.outcome)
        .with("reason", incident.reason)
        .with("peer", peer.address.to_string())
        .with("helo", peer.helo.clone());
    if let Some(tls) = &peer.tls {
        record = record
            .with("tls", tls.version.clone())
            .with("cipher", tls.cipher.clone());
        if let Some(certificate) = &tls.certificate {
            record = record.with("certificate", certificate.to_string());
        }
    }
    if let Some(account) = mail {
        let from = account.mail.from.as_ref();
        record = record
            .with("smtp-queue-id", account.id)
            .with(
                "from",
                from.map_or_else(|| "<>".to_owned(), ToString::to_string),
            )
            .with("recipients", recipients(account.mail))
            .with("recipient-count", account.mail.recipients.len().to_string())
            .with("size-bytes", account.size_bytes.to_string())
            .with("smtp-reply", account.reply.clone());
    }
    if let Err(error) = shared.parts.audit.record(record).await {
        error!(%error, "what was refused could not be audited: {error}");
    }
}

/// The addresses, as far as a detail holds them.
fn recipients(mail: &Mail) -> String {
    let name = |recipient: &MailRecipient| match recipient {
        MailRecipient::Address { address, .. } => address.to_string(),
        MailRecipient::Postmaster => "postmaster".to_owned(),
    };
    mail.recipients
        .iter()
        .map(name)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Counts and logs a mail that was answered, or that broke off (`None`).
pub(super) fn tell(id: &str, mail: &Mail, size_bytes: u64, reply: Option<&Reply>) {
    let result = match reply.map(|reply| reply.code) {
        Some(250) => "accepted",
        Some(400..500) => "deferred",
        Some(_) => "refused",
        None => "interrupted",
    };
    metrics::counter!(measures::SMTP_MESSAGES, "result" => result).increment(1);
    metrics::histogram!(measures::SMTP_MESSAGE_BYTES).record(size_bytes as f64);
    let from = mail.from.as_ref();
    let domain = from.map_or("<>", |from| from.domain().as_str());
    let code = reply.map_or(0, |reply| reply.code);
    info!(
        smtp.queue_id = id,
        from.domain = domain,
        recipients = mail.recipients.len(),
        size_bytes,
        smtp.code = code,
        "a mail from {domain} was {result}"
    );
}
