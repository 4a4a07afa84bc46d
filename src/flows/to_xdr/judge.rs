//! Judge: a mail is decrypted, its signature checked, its sender trusted or not. [`super::open`] asks it of what is
//! recorded, [`super::inline`] before the final reply: what a mail is is decided by this code alone.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use openssl::sha::Sha256;
use tokio::{sync::oneshot, time::Instant};

use super::{ToXdr, receive::identities};
use crate::{
    bridge::{
        notice::{NotUnderstood, Notice},
        own_domain::OwnDomain,
        received::{self, Trusted},
        trust::Wants,
    },
    flows::{
        budget::Reservation,
        cpu::{JobPanicked, Urgency},
        intake::store_error,
        material::Errand,
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
    #[expect(dead_code, reason = "held for as long as the mail is in memory")]
    memory: Reservation,
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
    /// The memory that it takes, until it is done: whether or not somebody waits for it.
    pub(super) memory: Reservation,
    /// Closed when nobody waits any more: a job that has not begun by then does nothing.
    pub(super) waiter: Option<oneshot::Sender<()>>,
}

/// A mail that was decrypted, and what is known of it so far.
struct Judged {
    job: OpenJob,
    opened: Opened,
    trusted: Trusted,
    notice: Option<Result<Notice, NotUnderstood>>,
    digest: [u8; 32],
    /// What might be fetched, so that more is known of its signers.
    wants: Wants,
}

impl ToXdr {
    /// Decrypts, verifies and judges, on the CPU threads; what is lacking about the signers is fetched until `end`. `None`:
    /// nobody waits any more.
    pub(super) async fn judge_mail(
        &self,
        job: OpenJob,
        urgency: Urgency,
        end: Instant,
    ) -> Result<Result<Option<OpenedMail>, NotOpened>, JobPanicked> {
        let mut judged = match self.cpu.run(urgency, move || job.run()).await? {
            Ok(Some(judged)) => judged,
            Ok(None) => return Ok(Ok(None)),
            Err(not_opened) => return Ok(Err(not_opened)),
        };
        let mut errand = Errand::until(end);
        while !judged.wants.is_empty() && self.directory.fetch(&judged.wants, &mut errand).await {
            let Judged { job, opened, .. } = judged;
            judged = match self.cpu.run(urgency, move || job.judge(opened)).await? {
                Ok(judged) => judged,
                Err(not_opened) => return Ok(Err(not_opened)),
            };
        }
        Ok(Ok(Some(judged.into_opened_mail())))
    }
}

impl OpenJob {
    /// Decrypts, verifies and judges: the work of a CPU thread. It takes [`MEMORY_TO_OPEN`] times the mail's octets.
    fn run(self) -> Result<Option<Judged>, NotOpened> {
        if self.waiter.as_ref().is_some_and(oneshot::Sender::is_closed) {
            return Ok(None);
        }
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
        self.judge(opened).map(Some)
    }

    fn judge(self, opened: Opened) -> Result<Judged, NotOpened> {
        let (trusted, notice, digest, wants) = {
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
            let mut trusted =
                received::judge(&opened, &mail.header, &envelope, &domain_of, self.now)
                    .map_err(|rejected| NotOpened::Untrusted(rejected.to_string()))?;
            let mut wants = std::mem::take(&mut trusted.wants);
            let notice = mail.report().map(|_| {
                let recipients = &self.recipients;
                Notice::read(&mail, &opened, recipients, &domain_of, self.now, &mut wants)
            });
            let digest = match &message {
                Message::Unwrapped { .. } if trusted.message_id.is_none() => {
                    digest_with_header(&opened.entity, &trusted.sender, &mail.header)
                }
                _ => opened.sha256,
            };
            (trusted, notice, digest, wants)
        };
        Ok(Judged {
            job: self,
            opened,
            trusted,
            notice,
            digest,
            wants,
        })
    }
}

impl Judged {
    fn into_opened_mail(self) -> OpenedMail {
        let opened = self.opened;
        OpenedMail {
            digest: self.digest,
            entity: opened.entity,
            outer_header: opened.outer_header,
            trusted: self.trusted,
            notice: self.notice,
            leniency: opened.leniency,
            legacy: opened.legacy,
            failed_signers: opened.failed_signers,
            memory: self.job.memory,
        }
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
