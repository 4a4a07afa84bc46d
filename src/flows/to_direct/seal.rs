//! A leg's bytes are made: packaged, signed, encrypted and stored in one pass on a CPU thread.

use std::{io, sync::Arc};

use jiff::Timestamp;
use openssl::x509::X509;
use tracing::{error, info};

use super::{ToDirect, readings::Reading};
use crate::{
    bridge::{
        destination::MailPolicy,
        exchange::{Event, EventKind, Exchange, Origin, Reason, RecipientState, SealedMail},
        own_domain::OwnDomain,
        to_direct::{self, Conversion, ConversionError},
        trust::Chosen,
    },
    flows::{
        cpu::Urgency,
        fault_points,
        intake::store_error,
        measures,
        ports::{Bodies, Claim, StagedBody, StoreError},
        records::{alarm_revocation_unknown, doubted, secured},
        transition::{self, Extras},
    },
    formats::{
        document::{DocumentFacts, DocumentSink, DocumentSource, DocumentsInMemory, NoDocuments},
        ids::{BodyId, DirectAddress, DomainName, LegId, MessageId},
        limits::Limits,
        metadata::{Metadata, MetadataError},
        smime::{self, SealError, SealOptions, SigningIdentity},
        xdm::{Institution, PackError},
        xdr::request::{self, ReadError, ReadOptions},
    },
};

/// Documents up to this size together are held while their message is made, in place of reading the request twice.
const MAX_KEPT_BYTES: u64 = 256 * 1024;

impl ToDirect {
    /// Runs `Seal`. The certificates are judged again: days may lie between accept and now.
    pub(super) async fn seal(&self, claim: &Claim, leg: LegId) -> Result<(), StoreError> {
        fault_points::pass("deliver.before_seal").map_err(store_error)?;
        let Some(loaded) = self.store.load(claim.exchange).await? else {
            return self.drop_claim(claim).await;
        };
        let exchange = loaded.exchange;
        let (Some(mail), Origin::Xdr { from, .. }) = (exchange.mail_leg(leg), &exchange.origin)
        else {
            return self.drop_claim(claim).await;
        };
        if mail.sealed.is_some() {
            return self.drop_claim(claim).await;
        }
        let Some(own) = self.own_domains.find(from.domain()) else {
            alarm_domain_gone(claim, from.domain());
            return self.fail_leg(claim, leg, Reason::Internal).await;
        };
        let now = self.clock.now();
        let checked = self.check_again(&exchange, leg, None, &own, now).await;
        let mut events = checked.refused;
        events.extend(checked.undecided);
        let doubt = checked.served.iter().find_map(|chosen| chosen.1.doubt);
        if checked.served.is_empty() {
            let extras = Extras {
                done: Some(claim.clone()),
                ..Extras::default()
            };
            transition::apply(&self.store, claim.exchange, &events, extras).await?;
            return Ok(());
        }
        let served = checked.served.into_iter();
        let (recipients, certificates): (Vec<_>, Vec<_>) = served
            .map(|(address, chosen)| (address, chosen.certificate))
            .unzip();
        let signers = own.signers(from, now);
        let audit = secured(now, claim, &mail.message_id, &signers, recipients.len());
        let audit = doubted(audit, doubt);
        let job = SealJob {
            bodies: Arc::clone(&self.bodies),
            limits: Arc::clone(&self.limits),
            message_id: mail.message_id.clone(),
            recipients: recipients.clone(),
            certificates,
            signers,
            policy: mail.policy.clone(),
            outer_subject: self.settings.outer_subject.clone(),
            institution: Arc::clone(&self.institution),
            reading: self.readings.take(exchange.body),
            exchange: exchange.clone(),
            now,
        };
        match self.cpu.run(Urgency::CanWait, move || job.run()).await {
            // The staged body is held until the transition below has adopted it.
            Ok(Ok((sealed, staged))) => {
                fault_points::pass("deliver.sealed").map_err(store_error)?;
                let size_bytes = sealed.wire_bytes;
                events.push(Event {
                    at: now,
                    kind: EventKind::LegSealed {
                        leg,
                        recipients,
                        sealed,
                    },
                });
                let extras = Extras {
                    done: Some(claim.clone()),
                    adopt: vec![staged.id],
                    audit: vec![audit],
                    ..Extras::default()
                };
                transition::apply(&self.store, claim.exchange, &events, extras).await?;
                fault_points::pass("deliver.seal_recorded").map_err(store_error)?;
                info!(exchange.id = %claim.exchange, leg.id = %leg, size_bytes, "sealed a mail of exchange {}", claim.exchange);
                Ok(())
            }
            Ok(Err(SealFailure::Store(StoreError::DamagedBody { .. }))) => {
                self.report_damaged_body(claim, leg).await
            }
            Ok(Err(SealFailure::Store(failure))) => Err(failure),
            Ok(Err(SealFailure::Cannot { reason, error })) => {
                error!(alarm = "seal", exchange.id = %claim.exchange, leg.id = %leg, reason = reason.token(), error = &*error, "a mail of exchange {} cannot be made", claim.exchange);
                measures::count_alarm("seal");
                self.fail_leg(claim, leg, reason).await
            }
            Err(panicked) => {
                error!(alarm = "panic", exchange.id = %claim.exchange, leg.id = %leg, error = &panicked as &dyn std::error::Error, "making a mail of exchange {} panicked", claim.exchange);
                measures::count_alarm("panic");
                self.fail_leg(claim, leg, Reason::Internal).await
            }
        }
    }

    /// The waiting recipients of a leg, all or those of one domain, whose certificate still serves, and an event for each
    /// whose does not (SND-6).
    pub(super) async fn check_again(
        &self,
        exchange: &Exchange,
        leg: LegId,
        domain: Option<&DomainName>,
        own: &Arc<OwnDomain>,
        now: Timestamp,
    ) -> Checked {
        let mut checked = Checked::default();
        for recipient in exchange.recipients_of(leg) {
            let is_asked = domain.is_none_or(|domain| recipient.address.domain() == domain);
            if recipient.state != RecipientState::Queued || !is_asked {
                continue;
            }
            let address = recipient.address.clone();
            let candidate = recipient.certificate.clone();
            let verdict = match candidate {
                Some(der) => self.judge_stored(&address, der, own).await,
                None => Err(Reason::NoCertificate.into()),
            };
            let (at, recipient) = (now, address.clone());
            match verdict {
                Ok(chosen) => checked.served.push((address, chosen)),
                Err(refusal) if refusal.is_temporary => {
                    alarm_revocation_unknown(&own.name);
                    let reason = refusal.reason;
                    let kind = EventKind::TrustUndecided { recipient, reason };
                    checked.undecided.push(Event { at, kind });
                }
                Err(refusal) => {
                    let reason = refusal.reason;
                    let kind = EventKind::RecipientRefused { recipient, reason };
                    checked.refused.push(Event { at, kind });
                }
            }
        }
        checked
    }
}

/// What became of the recipients whose certificates were judged again.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) served: Vec<(DirectAddress, Chosen)>,
    /// Those that will not be served.
    pub(super) refused: Vec<Event>,
    /// Those of whom it cannot be said now: they take no part in what is made or sent now (REV-4).
    pub(super) undecided: Vec<Event>,
}

/// The sender's domain was served at accept and is not any more: nothing more is sent for it.
pub(super) fn alarm_domain_gone(claim: &Claim, domain: &DomainName) {
    error!(alarm = "no_domain", exchange.id = %claim.exchange, domain = %domain, "the domain {domain} is no longer served");
    measures::count_alarm("no_domain");
}

/// Everything that making a leg's bytes needs.
struct SealJob {
    bodies: Arc<dyn Bodies>,
    limits: Arc<Limits>,
    exchange: Exchange,
    message_id: MessageId,
    recipients: Vec<DirectAddress>,
    certificates: Vec<X509>,
    signers: Vec<SigningIdentity>,
    policy: MailPolicy,
    outer_subject: String,
    institution: Arc<Institution>,
    reading: Option<Arc<Reading>>,
    now: Timestamp,
}

/// Why a leg was not sealed.
enum SealFailure {
    /// The store: another attempt may succeed, unless the body is damaged.
    Store(StoreError),
    /// It cannot be made.
    Cannot {
        reason: Reason,
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl SealFailure {
    fn cannot(reason: Reason, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Cannot {
            reason,
            error: Box::new(error),
        }
    }
}

impl SealJob {
    fn run(self) -> Result<(SealedMail, StagedBody), SealFailure> {
        let Origin::Xdr {
            from,
            content_type,
            documents,
            level,
            ..
        } = &self.exchange.origin
        else {
            unreachable!("only exchanges from XDR have mail legs");
        };
        let mut recorded = RecordedDocuments {
            bodies: Arc::clone(&self.bodies),
            limits: Arc::clone(&self.limits),
            body: self.exchange.body,
            content_type: content_type.clone(),
        };
        let reading = match &self.reading {
            Some(reading) => Arc::clone(reading),
            None => Arc::new(recorded.read_whole(documents)?),
        };
        let (request, metadata) = (&reading.request, &reading.metadata);
        let bound: Vec<(String, DocumentFacts)> = request
            .documents
            .iter()
            .filter_map(|part| {
                let facts = documents.iter().find(|facts| facts.key == part.key)?;
                Some((part.document_id.clone(), facts.clone()))
            })
            .collect();
        let conversion = Conversion {
            level: *level,
            metadata,
            documents: &bound,
            from,
            to: &self.recipients,
            message_id: &self.message_id,
            date: self.exchange.accepted_at,
            policy: &self.policy,
            wants_final_delivery: self.exchange.wants_final_delivery,
            institution: &self.institution,
        };
        let options = SealOptions {
            max_recipient_infos: self.limits.max_recipient_infos,
            ..SealOptions::default()
        };
        let fields =
            to_direct::outer_header_fields(&conversion, &self.outer_subject, options.cipher);
        let header = smime::seal_header(&fields);
        let boundary = smime::signature_boundary(&self.message_id);
        let mut held = reading.documents.as_ref();
        let source: &mut dyn DocumentSource = match &mut held {
            Some(documents) => documents,
            None => &mut recorded,
        };
        let mut writer = self.bodies.create_sealed().map_err(SealFailure::Store)?;
        let mut conversion_error = None;
        let sealing = smime::seal(
            &mut writer,
            &self.signers,
            &self.certificates,
            &options,
            self.now,
            &boundary,
            &mut |out| {
                to_direct::write_message(&conversion, source, out).map_err(|error| match error {
                    ConversionError::Io(error) | ConversionError::Pack(PackError::Io(error)) => {
                        error
                    }
                    error => {
                        conversion_error = Some(error);
                        io::Error::other("the message could not be converted")
                    }
                })
            },
        );
        if let Some(error) = conversion_error {
            return Err(SealFailure::cannot(error.reason(), error));
        }
        sealing.map_err(from_seal)?;
        let staged = writer.finish().map_err(SealFailure::Store)?;
        let wire_bytes = staged.size + header.len() as u64;
        if wire_bytes > self.limits.max_sealed_bytes {
            return Err(SealFailure::cannot(
                Reason::TooLarge,
                SealedTooLarge { wire_bytes },
            ));
        }
        Ok((
            SealedMail {
                header,
                body: staged.id,
                wire_bytes,
            },
            staged,
        ))
    }
}

/// The mail came out larger than the limit.
#[derive(Debug, thiserror::Error)]
#[error("the sealed mail has {wire_bytes} octets, more than LIM-14 allows")]
struct SealedTooLarge {
    wire_bytes: u64,
}

fn from_io(error: io::Error) -> SealFailure {
    SealFailure::Store(store_error(error))
}

fn from_seal(error: SealError) -> SealFailure {
    match error {
        SealError::Entity(error) | SealError::Output(error) => from_io(error),
        error => SealFailure::cannot(Reason::Internal, error),
    }
}

/// The documents of a recorded XDR request: each pouring reads the body anew.
struct RecordedDocuments {
    bodies: Arc<dyn Bodies>,
    limits: Arc<Limits>,
    body: BodyId,
    content_type: String,
}

impl RecordedDocuments {
    /// Reads the request. Small documents are held from this reading; large ones are read again when their turn comes.
    fn read_whole(&self, documents: &[DocumentFacts]) -> Result<Reading, SealFailure> {
        let documents_bytes: u64 = documents.iter().map(|facts| facts.size).sum();
        let mut held = DocumentsInMemory::default();
        let is_small = documents_bytes <= MAX_KEPT_BYTES;
        let request = if is_small {
            self.read(&mut held)
        } else {
            self.read(&mut NoDocuments)
        };
        let request = request.map_err(from_read)?;
        let metadata = Metadata::read(request.metadata.clone(), &self.limits)
            .map_err(|error: MetadataError| SealFailure::cannot(Reason::ConversionFailed, error))?;
        Ok(Reading {
            request,
            metadata,
            documents: is_small.then_some(held),
        })
    }

    fn read(&self, sink: &mut dyn DocumentSink) -> Result<request::ReceivedRequest, ReadError> {
        let mut body = self
            .bodies
            .open(self.body)
            .map_err(|error| ReadError::Io(io::Error::other(error)))?;
        let options = ReadOptions {
            saml_ignored: true,
            shared_parts: true,
            ..ReadOptions::default()
        };
        request::read(&self.content_type, &mut *body, &self.limits, &options, sink)
    }
}

impl DocumentSource for RecordedDocuments {
    fn pour(&mut self, sink: &mut dyn DocumentSink) -> io::Result<()> {
        match self.read(sink) {
            Ok(_) => Ok(()),
            Err(ReadError::Io(error) | ReadError::Sink(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// The store keeps octets as they were, so a request that was accepted and is refused now meets limits that were
/// lowered meanwhile.
fn from_read(error: ReadError) -> SealFailure {
    match error {
        ReadError::Io(error) | ReadError::Sink(error) => from_io(error),
        error => SealFailure::cannot(Reason::ConversionFailed, error),
    }
}
