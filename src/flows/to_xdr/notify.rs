//! Notify: the sender of a mail is told of one recipient, by an MDN that is made once, stored, and handed to the next
//! hop.

use std::sync::Arc;

use jiff::Timestamp;
use openssl::x509::X509;
use tokio::time::Instant;
use tracing::{error, info};
use uuid::Uuid;

use super::ToXdr;
use crate::{
    bridge::{
        exchange::{
            Effect, Event, EventKind, Exchange, MdnToSend, Origin, Reason, Recipient, SealedMail,
        },
        own_domain::OwnDomain,
        retry,
        trust::{CertificateCandidate, Chosen, Judgement},
    },
    flows::{
        cpu::Urgency,
        deadlines, fault_points,
        intake::store_error,
        measures,
        outbox::{self, Prepared},
        ports::{
            Bodies, Claim, OutgoingMail, SendMail, SendResult, StagedBody, StoreError, StoredBody,
        },
        records::{alarm_damaged_body, alarm_revocation_unknown, doubted, is_damaged, secured},
        settings::MdnEnvelopeSender,
        transition::{self, Extras},
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{DirectAddress, DomainName, ExchangeId, MessageId},
        notification::mdn::{Mdn, Notice},
        smime::{self, SealError, SealHeader, SealOptions, SigningIdentity},
    },
};

/// Longest look-up of the sender's certificate.
const LOOK_UP_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// What is due to be told.
#[derive(Clone, Copy)]
pub(super) struct Due {
    /// Position of the recipient whom it is about.
    pub(super) recipient: usize,
    pub(super) disposition: MdnToSend,
    /// When it is dropped, if no next hop has taken it by then (LOOP-2).
    pub(super) until: Timestamp,
}

impl Due {
    /// `None`: the effect tells nobody anything.
    pub(super) fn of(effect: &Effect) -> Option<Self> {
        match *effect {
            Effect::SendMdn {
                recipient,
                disposition,
                until,
                ..
            } => Some(Self {
                recipient,
                disposition,
                until,
            }),
            _ => None,
        }
    }
}

/// What a notice is about.
struct Subject<'a> {
    exchange: &'a Exchange,
    recipient: &'a Recipient,
    /// The sender of the mail.
    to: &'a DirectAddress,
    message_id: Option<&'a MessageId>,
    signer: Option<&'a [u8]>,
    disposition: MdnToSend,
    until: Timestamp,
}

impl<'a> Subject<'a> {
    fn of(exchange: &'a Exchange, due: Due) -> Option<Self> {
        let Origin::Direct {
            from: Some(to),
            message_id,
            signer,
            ..
        } = &exchange.origin
        else {
            return None;
        };
        Some(Self {
            exchange,
            recipient: exchange.recipients.get(due.recipient)?,
            to,
            message_id: message_id.as_ref(),
            signer: signer.as_deref(),
            disposition: due.disposition,
            until: due.until,
        })
    }

    /// Whether the recipient turned out to be nobody's.
    fn is_unknown(&self) -> bool {
        let outcome = self.recipient.outcome.as_ref();
        outcome.is_some_and(|outcome| outcome.failure == Some(Reason::UnknownRecipient))
    }

    /// The notice's own Message-ID, the same whenever it is made (MDN-15).
    fn own_message_id(&self) -> MessageId {
        let address = &self.recipient.address;
        let name = format!("{} {}", word(self.disposition), address);
        let uuid = Uuid::new_v5(&self.exchange.id.0, name.to_lowercase().as_bytes());
        MessageId::from_uuid(uuid, address.domain())
    }

    /// What is handed over, once it is made.
    fn sealed(&self) -> Option<&'a SealedMail> {
        self.recipient.mdns.sealed(self.disposition)
    }

    /// When what it tells happened.
    fn date(&self) -> Timestamp {
        let outcome = self.recipient.outcome.as_ref().map(|outcome| outcome.at);
        match self.disposition {
            MdnToSend::Processed => self.exchange.accepted_at,
            MdnToSend::Dispatched | MdnToSend::Failed => {
                outcome.unwrap_or(self.exchange.accepted_at)
            }
        }
    }

    /// The reason, and the errorCode that an endpoint gave for it; nothing else of what it said (table RT).
    fn reason(&self) -> String {
        let outcome = self.recipient.outcome.as_ref();
        let Some(reason) = outcome.and_then(|outcome| outcome.failure) else {
            return String::new();
        };
        let legs = self.recipient.legs.iter();
        let code = legs
            .filter_map(|leg| self.exchange.leg(*leg)?.as_xdr()?.error_code.as_deref())
            .next();
        match code {
            Some(code) if matches!(reason, Reason::XdrRefused | Reason::XdrUnavailable) => {
                format!("{} [{code}]", reason.context())
            }
            _ => reason.context(),
        }
    }
}

impl ToXdr {
    /// Makes the notice that `SendMdn` hands over, unless it is made already. It may wait long for name servers and
    /// directories of the sender's domain, and holds none of the places of hand-overs while it does.
    pub(super) async fn make_ready(&self, claim: &Claim, due: Due) -> Result<Prepared, StoreError> {
        fault_points::pass("notify.before_seal").map_err(store_error)?;
        let exchange = self.store.load(claim.exchange).await?;
        let exchange = exchange.map(|loaded| loaded.exchange);
        let subject = exchange.as_ref().and_then(|known| Subject::of(known, due));
        let Some(subject) = subject else {
            deadlines::complete(&self.store, claim).await?;
            return Ok(Prepared::Settled);
        };
        if subject.sealed().is_some() {
            return Ok(Prepared::Ready);
        }
        let (domain, now) = (subject.to.domain(), self.clock.now());
        let Some(_place) = self.look_ups.try_enter_among_all(domain, now) else {
            let at = now + outbox::delay(claim.attempts);
            self.store.give_back(claim, at).await?;
            return Ok(Prepared::Settled);
        };
        match self.make(claim, &subject).await? {
            Ok(_) => return Ok(Prepared::Ready),
            Err(NotMade::Never(cause)) => self.give_up(claim, &subject, cause).await?,
            Err(NotMade::NotNow(cause)) => self.later(claim, &subject, cause).await?,
        }
        Ok(Prepared::Settled)
    }

    /// Runs `SendMdn`: hands over what [`Self::make_ready`] has made.
    pub(super) async fn notify(&self, claim: &Claim, due: Due) -> Result<(), StoreError> {
        let exchange = self.store.load(claim.exchange).await?;
        let exchange = exchange.map(|loaded| loaded.exchange);
        let subject = exchange.as_ref().and_then(|known| Subject::of(known, due));
        let Some(subject) = subject else {
            return deadlines::complete(&self.store, claim).await;
        };
        match subject.sealed().cloned() {
            Some(sealed) => self.send(claim, &subject, &sealed).await,
            // It was made, and is gone: it is made anew when it comes again.
            None => Err(StoreError::Failed("the notice is not made".into())),
        }
    }

    /// Makes and stores the notice; the inner error says why nobody can be told.
    async fn make(
        &self,
        claim: &Claim,
        subject: &Subject<'_>,
    ) -> Result<Result<SealedMail, NotMade>, StoreError> {
        let never = |cause| Ok(Err(NotMade::Never(cause)));
        let speaker = &subject.recipient.address;
        let Some(own) = self.own_domains.find(speaker.domain()) else {
            return never("the recipient's domain is not served");
        };
        let now = self.clock.now();
        let signers = own.signers(speaker, now);
        // An address that nobody has, taken by `rcpt_verify = "late"` in a domain whose keys are single addresses'.
        if signers.is_empty() && subject.is_unknown() {
            return never("no key signs for an address that is not known");
        }
        if signers.is_empty() {
            error!(alarm = "no_key", exchange.id = %claim.exchange, domain = %own.name, "no key signs for {}", own.name);
            measures::count_alarm("no_key");
            return never("no key signs for the recipient");
        }
        let (certificate, doubt) = match self.certificate_of(subject, &own).await {
            Ok(chosen) => (chosen.certificate, chosen.doubt),
            Err(cause) => return Ok(Err(cause)),
        };
        let job = SealJob {
            bodies: Arc::clone(&self.bodies),
            host: self.host.clone(),
            recipient: speaker.clone(),
            to: subject.to.clone(),
            original_message_id: subject.message_id.cloned(),
            message_id: subject.own_message_id(),
            date: subject.date(),
            disposition: subject.disposition,
            is_requested: subject.exchange.wants_final_delivery,
            reason: subject.reason(),
            signers,
            certificate,
            now,
        };
        let secured = secured(now, claim, &job.message_id, &job.signers, 1);
        let secured = doubted(secured, doubt);
        let (sealed, staged) = match self.cpu.run(Urgency::CanWait, move || job.run()).await {
            Ok(Ok(made)) => made,
            Ok(Err(SealError::Output(failure))) => return Err(store_error(failure)),
            Ok(Err(failure)) => {
                error!(alarm = "seal", exchange.id = %claim.exchange, error = &failure as &dyn std::error::Error, "a notice about exchange {} cannot be made", claim.exchange);
                measures::count_alarm("seal");
                return never("the notice cannot be sealed");
            }
            Err(panicked) => {
                error!(alarm = "panic", exchange.id = %claim.exchange, error = &panicked as &dyn std::error::Error, "making a notice about exchange {} panicked", claim.exchange);
                measures::count_alarm("panic");
                return never("making the notice panicked");
            }
        };
        fault_points::pass("notify.sealed").map_err(store_error)?;
        let event = Event {
            at: now,
            kind: EventKind::MdnSealed {
                recipient: speaker.clone(),
                disposition: subject.disposition,
                sealed: sealed.clone(),
            },
        };
        let extras = Extras {
            adopt: vec![staged.id],
            audit: vec![secured],
            ..Extras::default()
        };
        let after = transition::apply(&self.store, claim.exchange, &[event], extras).await?;
        fault_points::pass("notify.seal_recorded").map_err(store_error)?;
        // Another worker may have been first: its bytes are the notice's then.
        let kept = after
            .recipient(speaker)
            .and_then(|recipient| recipient.mdns.sealed(subject.disposition));
        Ok(Ok(kept.cloned().unwrap_or(sealed)))
    }

    /// The certificate that a notice to the sender is encrypted to: one that is found and trusted, else that of the
    /// mail's own signer, if it may encrypt (MDN-28).
    async fn certificate_of(
        &self,
        subject: &Subject<'_>,
        own: &Arc<OwnDomain>,
    ) -> Result<Chosen, NotMade> {
        let (to, urgency) = (subject.to, Urgency::CanWait);
        let begun = Instant::now();
        let search = self.directory.search(to, own, LOOK_UP_LIMIT, urgency).await;
        let (took, now) = (begun.elapsed(), self.clock.now());
        self.look_ups.tell(to.domain(), &search, took, now);
        let not_found = match search.outcome() {
            Ok(found) => return Ok(found.chosen.clone()),
            Err(not_found) => not_found,
        };
        let signer = subject.signer.map(|der| CertificateCandidate {
            der: der.to_vec(),
            origin: "signer".to_owned(),
        });
        let signer: Vec<CertificateCandidate> = signer.into_iter().collect();
        let judging = self
            .directory
            .judge(to, &signer, own, LOOK_UP_LIMIT, urgency);
        let judgement = judging.await;
        let refusal = match judgement {
            Ok(Judgement {
                chosen: Some(chosen),
                ..
            }) => return Ok(chosen),
            Ok(judgement) => judgement.refusal,
            Err(_) => None,
        };
        let waits = refusal.is_some_and(|refusal| refusal.is_temporary);
        if not_found.waits_for_revocation || waits {
            alarm_revocation_unknown(&own.name);
            let cause = "no revocation list told of the sender's certificate in time";
            return Err(NotMade::NotNow(cause));
        }
        if not_found.is_transient {
            let cause =
                "neither name servers nor directories told of the sender's certificate in time";
            return Err(NotMade::NotNow(cause));
        }
        let cause = "no certificate of the sender may be encrypted to";
        Err(NotMade::Never(cause))
    }

    async fn send(
        &self,
        claim: &Claim,
        subject: &Subject<'_>,
        sealed: &SealedMail,
    ) -> Result<(), StoreError> {
        let mail = OutgoingMail {
            domain: subject.to.domain().clone(),
            deadline: subject.until,
            envelope_from: match self.settings.mdn_envelope_sender {
                MdnEnvelopeSender::Recipient => Some(subject.recipient.address.clone()),
                MdnEnvelopeSender::Null => None,
            },
            recipients: vec![subject.to.clone()],
            header: sealed.header.clone(),
            body: StoredBody {
                store: self.bodies.clone(),
                id: sealed.body,
                size: sealed.wire_bytes - sealed.header.len() as u64,
            },
        };
        fault_points::pass("notify.before_send").map_err(store_error)?;
        self.store.confirm(claim).await?;
        let results = SendMail::send(self, &mail).await;
        fault_points::pass("notify.sent").map_err(store_error)?;
        match results.into_iter().next() {
            Some(SendResult::Accepted(receipt)) => {
                let record = self
                    .mdn_out(claim, subject, AuditOutcome::Success)
                    .with("peer", &receipt.peer)
                    .with("tls", &receipt.tls)
                    .with("smtp-reply", &receipt.reply);
                self.done(claim, subject, record, "sent").await
            }
            Some(refused) if is_damaged(&refused) => {
                alarm_damaged_body(claim, "sealed");
                let cause = "the stored notice is damaged";
                self.give_up(claim, subject, cause).await
            }
            Some(SendResult::Refused { detail, .. }) => {
                let record = self
                    .mdn_out(claim, subject, AuditOutcome::Serious)
                    .with("smtp-reply", detail);
                self.done(claim, subject, record, "dropped").await
            }
            Some(SendResult::Deferred { .. }) | None => {
                let cause = "no next hop took the notice in time";
                self.later(claim, subject, cause).await
            }
        }
    }

    /// Tries again, unless it was tried for long enough (LOOP-2): then `cause` is why it was not sent in time.
    async fn later(
        &self,
        claim: &Claim,
        subject: &Subject<'_>,
        cause: &'static str,
    ) -> Result<(), StoreError> {
        let attempts = claim.attempts.saturating_add(1);
        let random = Uuid::new_v4().as_u64_pair().0;
        match retry::next_attempt(self.clock.now(), attempts, subject.until, random) {
            Some(at) => {
                info!(exchange.id = %claim.exchange, domain = %subject.to.domain(), "a notice about exchange {} is tried again later", claim.exchange);
                self.store.give_back(claim, at).await
            }
            None => self.give_up(claim, subject, cause).await,
        }
    }

    /// Nobody can be told: that is recorded, and never bounced (LOOP-2).
    async fn give_up(
        &self,
        claim: &Claim,
        subject: &Subject<'_>,
        cause: &'static str,
    ) -> Result<(), StoreError> {
        let record = self
            .mdn_out(claim, subject, AuditOutcome::Serious)
            .with("error", cause);
        self.done(claim, subject, record, "dropped").await
    }

    async fn done(
        &self,
        claim: &Claim,
        subject: &Subject<'_>,
        record: AuditRecord,
        result: &'static str,
    ) -> Result<(), StoreError> {
        let event = Event {
            at: self.clock.now(),
            kind: EventKind::MdnDone {
                recipient: subject.recipient.address.clone(),
                disposition: subject.disposition,
            },
        };
        let extras = Extras {
            done: Some(claim.clone()),
            audit: vec![record],
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, &[event], extras).await?;
        fault_points::pass("notify.recorded").map_err(store_error)?;
        let disposition = word(subject.disposition);
        metrics::counter!(measures::NOTICES, "disposition" => disposition, "result" => result)
            .increment(1);
        info!(exchange.id = %claim.exchange, domain = %subject.to.domain(), disposition, result, "a notice about exchange {}: {disposition}, {result}", claim.exchange);
        Ok(())
    }

    fn mdn_out(&self, claim: &Claim, subject: &Subject<'_>, outcome: AuditOutcome) -> AuditRecord {
        let id: ExchangeId = claim.exchange;
        AuditRecord::new(self.clock.now(), AuditKind::MdnOut, outcome)
            .of(id)
            .with("disposition", word(subject.disposition))
            .with("message-id", subject.own_message_id().as_str())
            .with("from", subject.recipient.address.to_string())
            .with("destination", subject.to.to_string())
            .with(
                "original-message-id",
                subject.message_id.map_or("", MessageId::as_str),
            )
    }
}

fn word(disposition: MdnToSend) -> &'static str {
    match disposition {
        MdnToSend::Processed => "processed",
        MdnToSend::Dispatched => "dispatched",
        MdnToSend::Failed => "failed",
    }
}

/// Why a notice is not made.
enum NotMade {
    /// It never can be.
    Never(&'static str),
    /// It may be later; the cause, if it cannot in time (REV-4).
    NotNow(&'static str),
}

/// Everything that making a notice needs.
struct SealJob {
    bodies: Arc<dyn Bodies>,
    host: DomainName,
    recipient: DirectAddress,
    to: DirectAddress,
    original_message_id: Option<MessageId>,
    message_id: MessageId,
    date: Timestamp,
    disposition: MdnToSend,
    is_requested: bool,
    reason: String,
    signers: Vec<SigningIdentity>,
    certificate: X509,
    now: Timestamp,
}

impl SealJob {
    fn run(self) -> Result<(SealedMail, StagedBody), SealError> {
        let mdn = Mdn {
            recipient: &self.recipient,
            to: &self.to,
            message_id: &self.message_id,
            date: self.date,
            original_message_id: self.original_message_id.as_ref(),
            reporting_host: &self.host,
            notice: match self.disposition {
                MdnToSend::Processed => Notice::Processed,
                MdnToSend::Dispatched => Notice::Dispatched {
                    is_requested: self.is_requested,
                },
                MdnToSend::Failed => Notice::Failed {
                    reason: &self.reason,
                },
            },
        };
        let references: Vec<MessageId> = self.original_message_id.iter().cloned().collect();
        let options = SealOptions::default();
        let header = smime::seal_header(&SealHeader {
            from: &self.recipient,
            to: std::slice::from_ref(&self.to),
            cc: &[],
            date: self.date,
            message_id: &self.message_id,
            in_reply_to: self.original_message_id.as_ref(),
            references: &references,
            subject: smime::OUTER_SUBJECT,
            cipher: options.cipher,
        });
        let output = |failure: StoreError| SealError::Output(std::io::Error::other(failure));
        let mut writer = self.bodies.create_sealed().map_err(output)?;
        let boundary = smime::signature_boundary(&self.message_id);
        smime::seal(
            &mut writer,
            &self.signers,
            &[self.certificate],
            &options,
            self.now,
            &boundary,
            &mut |out| mdn.write(out),
        )?;
        let staged = writer.finish().map_err(output)?;
        let sealed = SealedMail {
            body: staged.id,
            wire_bytes: staged.size + header.len() as u64,
            header,
        };
        Ok((sealed, staged))
    }
}
