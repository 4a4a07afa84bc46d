//! Judge: a mail is decrypted, its signature checked, its sender trusted or not. [`super::open`] asks it of what is
//! recorded, [`super::inline`] before the final reply: what a mail is is decided by this code alone.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use openssl::sha::Sha256;

use super::receive::identities;
use crate::{
    bridge::{
        notice::{NotUnderstood, Notice},
        own_domain::OwnDomain,
        received::{self, Trusted},
    },
    flows::{
        intake::store_error,
        ports::{Bodies, StoreError},
        records::doubted,
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{BodyId, CertificateFingerprint, DirectAddress},
        limits::Limits,
        mime::read::{self, Mail, MailError, MailHeader},
        smime::{self, Legacy, Leniency, OpenError, OpenOptions, Opened, SignerFault},
    },
};

/// Octets of memory that opening takes for each octet of the mail, at most (design.md section 5).
pub(super) const MEMORY_TO_OPEN: u64 = 4;

/// A mail that was opened: its signed entity, and what was decided about it.
pub(super) struct OpenedMail {
    /// The signed MIME entity.
    pub(super) entity: Vec<u8>,
    /// The outer header, for an entity that wraps no message (WR-2).
    pub(super) outer_header: Vec<u8>,
    /// What tells it from another mail with its Message-ID, or from any other if it has none (DST-6).
    pub(super) digest: [u8; 32],
    /// Who sent it, and who may have it.
    pub(super) trusted: Trusted,
    /// What it says, if it is a notice.
    pub(super) notice: Option<Result<Notice, NotUnderstood>>,
    leniency: Leniency,
    legacy: Vec<Legacy>,
    failed_signers: Vec<SignerFault>,
}

impl OpenedMail {
    /// The message: what the entity wraps, or the entity itself under the outer header.
    pub(super) fn message(&self, limits: &Limits) -> Result<Message<'_>, MailError> {
        Message::of(&self.entity, &self.outer_header, limits)
    }

    /// Why nobody gets the mail, if nobody does (RCV-R6). A notice counts too if somebody vouches for what it says
    /// (MDN-46).
    pub(super) fn refusal(&self) -> Option<&'static str> {
        if self.trusted.welcome().next().is_some() {
            return None;
        }
        match &self.notice {
            None => Some("no recipient trusts the sender"),
            Some(Ok(notice)) if notice.is_vouched() => None,
            Some(_) => Some("no recipient trusts the sender of the notice"),
        }
    }

    /// Whether a revocation list that comes may still make somebody trust it (REV-4).
    pub(super) fn is_undecided(&self) -> bool {
        let notice = self.notice.as_ref().and_then(|notice| notice.as_ref().ok());
        self.trusted.undecided().next().is_some()
            || notice.is_some_and(|notice| notice.is_undecided)
    }

    /// What was decided about each recipient, for the audit.
    pub(super) fn verdicts(&self, at: Timestamp) -> Vec<AuditRecord> {
        let trusted = &self.trusted;
        let mut records = Vec::new();
        for (address, verdict) in &trusted.recipients {
            let (kind, outcome) = match verdict {
                Ok(_) => (AuditKind::Recipient, AuditOutcome::Success),
                Err(_) => (AuditKind::SecurityAlert, AuditOutcome::Serious),
            };
            let record = AuditRecord::new(at, kind, outcome)
                .with("recipient", address.to_string())
                .with("from", trusted.sender.to_string());
            records.push(match verdict {
                Ok(signer) => {
                    let der = signer.certificate.to_der().unwrap_or_default();
                    let fingerprint = CertificateFingerprint::of_der(&der).to_string();
                    doubted(record.with("signer", fingerprint), signer.doubt)
                }
                Err(cause) => record.with("error", cause.to_string()),
            });
        }
        if self.leniency != Leniency::None || !self.legacy.is_empty() {
            let record = AuditRecord::new(at, AuditKind::Secure, AuditOutcome::Minor)
                .with("leniency", format!("{:?}", self.leniency))
                .with("legacy", format!("{:?}", self.legacy));
            records.push(record);
        }
        // One good signer is enough; the others are told (SM-22).
        for fault in &self.failed_signers {
            let record = AuditRecord::new(at, AuditKind::Secure, AuditOutcome::Minor)
                .with("failed-signer", fault.to_string());
            records.push(record);
        }
        records
    }
}

/// The octets of a signed message.
pub(super) enum Message<'a> {
    Wrapped(Cow<'a, [u8]>),
    Unwrapped { header: &'a [u8], entity: &'a [u8] },
}

impl<'a> Message<'a> {
    fn of(entity: &'a [u8], header: &'a [u8], limits: &Limits) -> Result<Self, MailError> {
        Ok(match read::wrapped_message(entity, limits)? {
            Some(message) => Self::Wrapped(message),
            None => Self::Unwrapped { header, entity },
        })
    }

    pub(super) fn read(&self, limits: &Limits) -> Result<Mail<'_>, MailError> {
        match self {
            Self::Wrapped(message) => read::read(message, limits),
            Self::Unwrapped { header, entity } => read::read_unwrapped(header, entity, limits),
        }
    }
}

/// Why a mail is nobody's.
pub(super) enum NotOpened {
    Store(StoreError),
    /// In words for audit and log; the sender learns nothing (T-13, RCV-R2 to RCV-R5).
    Untrusted(String),
}

/// Everything that opening a mail needs.
pub(super) struct OpenJob {
    pub(super) bodies: Arc<dyn Bodies>,
    pub(super) limits: Arc<Limits>,
    pub(super) body: BodyId,
    /// Its length.
    pub(super) mail_bytes: u64,
    pub(super) envelope_from: Option<DirectAddress>,
    pub(super) recipients: Vec<DirectAddress>,
    pub(super) domains: Vec<Arc<OwnDomain>>,
    pub(super) now: Timestamp,
}

impl OpenJob {
    /// Decrypts, verifies and judges: the work of a CPU thread. It takes [`MEMORY_TO_OPEN`] times the mail's octets.
    pub(super) fn run(self) -> Result<OpenedMail, NotOpened> {
        let mail = self.bodies.open(self.body).map_err(NotOpened::Store)?;
        let allow_legacy = self.domains.iter().flat_map(|own| &own.allow_legacy);
        let options = OpenOptions {
            allow_legacy: allow_legacy.copied().collect(),
            limits: (*self.limits).clone(),
            ..OpenOptions::default()
        };
        let mail_bytes = usize::try_from(self.mail_bytes).unwrap_or(usize::MAX);
        let opened = smime::open_from(mail, mail_bytes, &identities(&self.domains), &options)
            .map_err(|error| match error {
                OpenError::Read(failure) => NotOpened::Store(store_error(failure)),
                refusal => NotOpened::Untrusted(refusal.to_string()),
            })?;
        self.judge(opened)
    }

    fn judge(&self, opened: Opened) -> Result<OpenedMail, NotOpened> {
        let (trusted, notice, digest) = {
            let message = Message::of(&opened.entity, &opened.outer_header, &self.limits);
            let message = message.map_err(unreadable)?;
            let mail = message.read(&self.limits).map_err(unreadable)?;
            let envelope = received::Envelope {
                from: self.envelope_from.as_ref(),
                recipients: &self.recipients,
            };
            let domain_of = |address: &DirectAddress| {
                let mut domains = self.domains.iter();
                domains.find(|own| own.name == *address.domain()).cloned()
            };
            let trusted = received::judge(&opened, &mail.header, &envelope, &domain_of, self.now)
                .map_err(|rejected| NotOpened::Untrusted(rejected.to_string()))?;
            let notice = mail
                .report()
                .map(|_| Notice::read(&mail, &opened, &self.recipients, &domain_of, self.now));
            let digest = match &message {
                Message::Unwrapped { .. } if trusted.message_id.is_none() => {
                    digest_with_header(&opened.entity, &trusted.sender, &mail.header)
                }
                _ => opened.sha256,
            };
            (trusted, notice, digest)
        };
        Ok(OpenedMail {
            digest,
            entity: opened.entity,
            outer_header: opened.outer_header,
            trusted,
            notice,
            leniency: opened.leniency,
            legacy: opened.legacy,
            failed_signers: opened.failed_signers,
        })
    }
}

/// SHA-256 over the signed content and what the outer header says of its sending. Two mails without a Message-ID may well
/// carry the same document; where the header is not part of the signed content (WR-2), the digest of that does not tell
/// them apart.
fn digest_with_header(entity: &[u8], sender: &DirectAddress, header: &MailHeader) -> [u8; 32] {
    let date = header.date.map(|date| date.as_second());
    let fields = format!("{sender}\n{date:?}\n{:?}\n", header.subject);
    let mut digest = Sha256::new();
    digest.update(fields.as_bytes());
    digest.update(entity);
    digest.finish()
}

/// A signed message that no mail program would read is not trusted either: nobody knows what was signed.
fn unreadable(error: MailError) -> NotOpened {
    NotOpened::Untrusted(error.to_string())
}
