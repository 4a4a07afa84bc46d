//! Open: a recorded mail is decrypted, its signature checked, its sender trusted or not; then what is to be posted is
//! prepared.

use std::{borrow::Cow, io::Read, sync::Arc};

use jiff::Timestamp;
use openssl::sha::sha256;
use tracing::{error, info, warn};

use super::{
    ToXdr,
    duplicate::Earlier,
    prepare::{PrepareJob, Prepared},
    receive::identities,
};
use crate::{
    bridge::{
        exchange::{Event, EventKind, Exchange, Opening, Origin, Reason},
        notice::{NotUnderstood, Notice},
        own_domain::OwnDomain,
        received::{self, Trusted},
    },
    flows::{
        cpu::Urgency,
        deadlines, fault_points,
        intake::store_error,
        measures,
        ports::{Bodies, Claim, StoreError},
        records::alarm_damaged_body,
        transition::{self, Extras},
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{BodyId, CertificateFingerprint, DirectAddress},
        limits::Limits,
        mime::read::{self, Mail, MailError},
        notification::request::FinalDelivery,
        smime::{self, Legacy, Leniency, OpenOptions, Opened, SignerFault},
    },
};

/// Octets of memory that opening takes for each octet of the mail, at most (design.md section 5).
const MEMORY_TO_OPEN: u64 = 4;

/// A mail that was opened: its signed entity, and what was decided about it.
pub(super) struct OpenedMail {
    /// The signed MIME entity.
    pub(super) entity: Vec<u8>,
    /// The outer header, for an entity that wraps no message (WR-2).
    pub(super) outer_header: Vec<u8>,
    /// SHA-256 over the entity.
    pub(super) digest: [u8; 32],
    /// Who sent it, and who may have it.
    pub(super) trusted: Trusted,
    /// What it says, if it is a notice.
    notice: Option<Result<Notice, NotUnderstood>>,
    leniency: Leniency,
    legacy: Vec<Legacy>,
    failed_signers: Vec<SignerFault>,
}

impl OpenedMail {
    /// The message: what the entity wraps, or the entity itself under the outer header.
    pub(super) fn message(&self, limits: &Limits) -> Result<Message<'_>, MailError> {
        Message::of(&self.entity, &self.outer_header, limits)
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
enum NotOpened {
    Store(StoreError),
    /// In words for audit and log; the sender learns nothing (T-13, RCV-R2 to RCV-R5).
    Untrusted(String),
}

impl ToXdr {
    /// Runs `Open`.
    pub(super) async fn open(&self, claim: &Claim) -> Result<(), StoreError> {
        fault_points::pass("open.before").map_err(store_error)?;
        let Some(loaded) = self.store.load(claim.exchange).await? else {
            return deadlines::complete(&self.store, claim).await;
        };
        let exchange = loaded.exchange;
        let Origin::Direct {
            wire_bytes,
            envelope_from,
            from: None,
            ..
        } = &exchange.origin
        else {
            return deadlines::complete(&self.store, claim).await;
        };
        if exchange.is_final() {
            return deadlines::complete(&self.store, claim).await;
        }
        // The mail, its content and what is made of it are in memory at once, until the requests are stored.
        let bytes = wire_bytes.saturating_mul(MEMORY_TO_OPEN);
        let _reservation = self.budget.reserve(bytes).await;
        let job = OpenJob {
            bodies: Arc::clone(&self.bodies),
            limits: Arc::clone(&self.limits),
            body: exchange.body,
            envelope_from: envelope_from.clone(),
            recipients: addresses(&exchange),
            domains: self.domains_of(&addresses(&exchange)),
            now: self.clock.now(),
        };
        match self.cpu.run(Urgency::CanWait, move || job.run()).await {
            Ok(Ok(opened)) => self.go_on(claim, &exchange, opened).await,
            Ok(Err(NotOpened::Store(StoreError::DamagedBody { .. }))) => {
                alarm_damaged_body(claim, "recorded");
                let cause = "the recorded mail is damaged";
                self.reject(claim, &exchange, Reason::Internal, cause, Vec::new())
                    .await
            }
            Ok(Err(NotOpened::Store(failure))) => Err(failure),
            Ok(Err(NotOpened::Untrusted(cause))) => {
                self.reject(claim, &exchange, Reason::Untrusted, &cause, Vec::new())
                    .await
            }
            Err(panicked) => {
                error!(alarm = "panic", exchange.id = %claim.exchange, error = &panicked as &dyn std::error::Error, "opening the mail of exchange {} panicked", claim.exchange);
                measures::count_alarm("panic");
                self.reject(claim, &exchange, Reason::Internal, "panic", Vec::new())
                    .await
            }
        }
    }

    /// Nobody gets the mail, and nobody is told (DST-2).
    async fn reject(
        &self,
        claim: &Claim,
        exchange: &Exchange,
        reason: Reason,
        cause: &str,
        mut audit: Vec<AuditRecord>,
    ) -> Result<(), StoreError> {
        let at = self.clock.now();
        let events: Vec<Event> = addresses(exchange)
            .into_iter()
            .map(|recipient| Event {
                at,
                kind: EventKind::RecipientRefused { recipient, reason },
            })
            .collect();
        let record = AuditRecord::new(at, AuditKind::SecurityAlert, AuditOutcome::Serious)
            .of(claim.exchange)
            .with("error", cause);
        audit.push(record);
        self.finish(claim, &events, audit).await?;
        measures::count_mail("untrusted");
        info!(exchange.id = %claim.exchange, "the mail of exchange {} could not be opened or trusted", claim.exchange);
        Ok(())
    }

    async fn go_on(
        &self,
        claim: &Claim,
        exchange: &Exchange,
        opened: OpenedMail,
    ) -> Result<(), StoreError> {
        let at = self.clock.now();
        let welcome: Vec<DirectAddress> = opened.trusted.welcome().cloned().collect();
        if let Some(notice) = &opened.notice {
            let is_trusted = !welcome.is_empty() || notice.as_ref().is_ok_and(Notice::is_vouched);
            return self
                .take_in(claim, exchange, &opened, notice, is_trusted)
                .await;
        }
        let mut audit = verdicts(at, claim, &opened);
        if welcome.is_empty() {
            let cause = "no recipient trusts the sender";
            let reason = Reason::Untrusted;
            return self.reject(claim, exchange, reason, cause, audit).await;
        }
        let _place = match &opened.trusted.message_id {
            Some(id) => Some(self.under_way.enter(id).await),
            None => None,
        };
        let earlier = self
            .earlier(
                claim.exchange,
                opened.trusted.message_id.as_ref(),
                &opened.digest,
                &welcome,
            )
            .await?;
        if earlier.is_id_taken {
            warn!(exchange.id = %claim.exchange, "exchange {} has the Message-ID of another mail", claim.exchange);
            let record = AuditRecord::new(at, AuditKind::SecurityAlert, AuditOutcome::Minor);
            audit.push(
                record
                    .of(claim.exchange)
                    .with("error", "duplicate_message_id"),
            );
        }
        self.repeat(&earlier, at).await?;
        let fresh: Vec<DirectAddress> = welcome
            .into_iter()
            .filter(|address| !earlier.holds(address))
            .collect();
        if fresh.is_empty() {
            let kind = EventKind::Absorbed;
            self.finish(claim, &[Event { at, kind }], audit).await?;
            measures::count_mail("repeated");
            info!(exchange.id = %claim.exchange, "the mail of exchange {} came before", claim.exchange);
            return Ok(());
        }
        self.prepare(claim, opened, fresh, audit).await
    }

    /// Notices are sent again for the recipients that earlier exchanges serve (DST-6).
    async fn repeat(&self, earlier: &Earlier, at: Timestamp) -> Result<(), StoreError> {
        for (id, recipients) in &earlier.repeated {
            let kind = EventKind::MailRepeated {
                recipients: recipients.clone(),
            };
            let extras = Extras::default();
            transition::apply(&self.store, *id, &[Event { at, kind }], extras).await?;
        }
        Ok(())
    }

    /// A notice is never answered and never a document (RCV-8, XDR-112). What it says is recorded with the exchange that
    /// it is about before it is absorbed: a crash between the two repeats what changes nothing any more.
    async fn take_in(
        &self,
        claim: &Claim,
        exchange: &Exchange,
        opened: &OpenedMail,
        notice: &Result<Notice, NotUnderstood>,
        is_trusted: bool,
    ) -> Result<(), StoreError> {
        let mut audit = self.take_notice(claim.exchange, notice).await?;
        fault_points::pass("notice.taken").map_err(store_error)?;
        if !is_trusted {
            audit.extend(verdicts(self.clock.now(), claim, opened));
            let cause = "no recipient trusts the sender of the notice";
            return self
                .reject(claim, exchange, Reason::Untrusted, cause, audit)
                .await;
        }
        let (at, kind) = (self.clock.now(), EventKind::Absorbed);
        self.finish(claim, &[Event { at, kind }], audit).await?;
        measures::count_mail("notice");
        Ok(())
    }

    async fn prepare(
        &self,
        claim: &Claim,
        opened: OpenedMail,
        recipients: Vec<DirectAddress>,
        mut audit: Vec<AuditRecord>,
    ) -> Result<(), StoreError> {
        let at = self.clock.now();
        let signer = opened.trusted.signer();
        let signer = signer.and_then(|signer| signer.certificate.to_der().ok());
        let opening = Opening {
            from: opened.trusted.sender.clone(),
            message_id: opened.trusted.message_id.clone(),
            digest: opened.digest,
            signer: signer.unwrap_or_default(),
            wants_final_delivery: opened.trusted.final_delivery == FinalDelivery::Requested,
            legs: Vec::new(),
            failed: Vec::new(),
        };
        let job = PrepareJob {
            bodies: Arc::clone(&self.bodies),
            limits: Arc::clone(&self.limits),
            endpoints: Arc::clone(&self.endpoints),
            sources: Arc::clone(&self.sources),
            opened,
            recipients: recipients.clone(),
            now: at,
        };
        let prepared = match self.cpu.run(Urgency::CanWait, move || job.run()).await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(failure)) => return Err(failure),
            Err(panicked) => {
                error!(alarm = "panic", exchange.id = %claim.exchange, error = &panicked as &dyn std::error::Error, "preparing exchange {} panicked", claim.exchange);
                measures::count_alarm("panic");
                let reason = Reason::Internal;
                let failed = recipients.into_iter().map(|address| (address, reason));
                Prepared::failed(failed.collect())
            }
        };
        fault_points::pass("open.prepared").map_err(store_error)?;
        audit.extend(prepared.audit(at, claim.exchange));
        let posts = prepared.legs.len();
        let kind = EventKind::Opened(Opening {
            legs: prepared.legs,
            failed: prepared.failed,
            ..opening
        });
        let extras = Extras {
            done: Some(claim.clone()),
            // Held until the transition has adopted them.
            adopt: prepared.bodies.iter().map(|body| body.id).collect(),
            audit,
        };
        transition::apply(&self.store, claim.exchange, &[Event { at, kind }], extras).await?;
        fault_points::pass("open.recorded").map_err(store_error)?;
        measures::count_mail("opened");
        info!(exchange.id = %claim.exchange, posts, "opened the mail of exchange {}: {posts} requests to post", claim.exchange);
        Ok(())
    }

    async fn finish(
        &self,
        claim: &Claim,
        events: &[Event],
        audit: Vec<AuditRecord>,
    ) -> Result<(), StoreError> {
        let extras = Extras {
            done: Some(claim.clone()),
            audit,
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, events, extras).await?;
        Ok(())
    }
}

fn addresses(exchange: &Exchange) -> Vec<DirectAddress> {
    let recipients = exchange.recipients.iter();
    recipients
        .map(|recipient| recipient.address.clone())
        .collect()
}

/// What was decided about each recipient.
fn verdicts(at: Timestamp, claim: &Claim, opened: &OpenedMail) -> Vec<AuditRecord> {
    let trusted = &opened.trusted;
    let mut records = Vec::new();
    for (address, verdict) in &trusted.recipients {
        let (kind, outcome) = match verdict {
            Ok(_) => (AuditKind::Recipient, AuditOutcome::Success),
            Err(_) => (AuditKind::SecurityAlert, AuditOutcome::Serious),
        };
        let record = AuditRecord::new(at, kind, outcome)
            .of(claim.exchange)
            .with("recipient", address.to_string())
            .with("from", trusted.sender.to_string());
        records.push(match verdict {
            Ok(signer) => {
                let der = signer.certificate.to_der().unwrap_or_default();
                let signer = CertificateFingerprint::of_der(&der).to_string();
                record.with("signer", signer)
            }
            Err(cause) => record.with("error", cause.to_string()),
        });
    }
    if opened.leniency != Leniency::None || !opened.legacy.is_empty() {
        let record = AuditRecord::new(at, AuditKind::Secure, AuditOutcome::Minor)
            .of(claim.exchange)
            .with("leniency", format!("{:?}", opened.leniency))
            .with("legacy", format!("{:?}", opened.legacy));
        records.push(record);
    }
    // One good signer is enough; the others are told (SM-22).
    for fault in &opened.failed_signers {
        let record = AuditRecord::new(at, AuditKind::Secure, AuditOutcome::Minor)
            .of(claim.exchange)
            .with("failed-signer", fault.to_string());
        records.push(record);
    }
    records
}

/// Everything that opening a mail needs.
struct OpenJob {
    bodies: Arc<dyn Bodies>,
    limits: Arc<Limits>,
    body: BodyId,
    envelope_from: Option<DirectAddress>,
    recipients: Vec<DirectAddress>,
    domains: Vec<Arc<OwnDomain>>,
    now: Timestamp,
}

impl OpenJob {
    fn run(self) -> Result<OpenedMail, NotOpened> {
        let mut octets = Vec::new();
        let mut body = self.bodies.open(self.body).map_err(NotOpened::Store)?;
        let read = body.read_to_end(&mut octets);
        read.map_err(|error| NotOpened::Store(store_error(error)))?;
        drop(body);
        let allow_legacy = self.domains.iter().flat_map(|own| &own.allow_legacy);
        let options = OpenOptions {
            allow_legacy: allow_legacy.copied().collect(),
            limits: (*self.limits).clone(),
            ..OpenOptions::default()
        };
        let opened = smime::open(&octets, &identities(&self.domains), &options)
            .map_err(|error| NotOpened::Untrusted(error.to_string()))?;
        let outer_header = smime::outer_header(&octets).to_vec();
        drop(octets);
        self.judge(opened, outer_header)
    }

    fn judge(&self, opened: Opened, outer_header: Vec<u8>) -> Result<OpenedMail, NotOpened> {
        let (trusted, notice) = {
            let message = Message::of(&opened.entity, &outer_header, &self.limits);
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
            (trusted, notice)
        };
        Ok(OpenedMail {
            digest: sha256(&opened.entity),
            entity: opened.entity,
            outer_header,
            trusted,
            notice,
            leniency: opened.leniency,
            legacy: opened.legacy,
            failed_signers: opened.failed_signers,
        })
    }
}

/// A signed message that no mail program would read is not trusted either: nobody knows what was signed.
fn unreadable(error: MailError) -> NotOpened {
    NotOpened::Untrusted(error.to_string())
}
