//! What was decided about every recipient becomes an exchange, in one transaction.

use tracing::info;
use uuid::Uuid;

use super::{
    ToDirect,
    accept::Caller,
    answer::{self, ReplyTo},
    certificates::{Decision, fingerprint},
    refuse::{Stop, unique_id},
    resubmission::Earlier,
    understand::Understood,
};
use crate::{
    bridge::exchange::{Event, EventKind, Exchange, Leg, Origin, Reason, Recipient, step},
    flows::{
        measures,
        ports::{ExchangeWrite, Found, LookupKey, UnitOfWork, XdrAnswer},
        records::doubted,
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        finding::Severity,
        ids::{DirectAddress, ExchangeId, LegId, MessageId},
        redacted::Redacted,
        xdr::response::RegistryError,
    },
};

/// One recipient as accept leaves it.
pub(super) enum Decided {
    /// It will be served, or is refused, now.
    New {
        address: DirectAddress,
        decision: Decision,
    },
    /// An earlier exchange of the same submission holds it.
    Before { address: DirectAddress },
    /// It was refused, or failed, in an earlier exchange of the same submission, and is refused again: that was told
    /// before, and nothing new is to be recorded.
    Again {
        address: DirectAddress,
        reason: Reason,
    },
    /// A value that is no address.
    NoAddress {
        written: Redacted<String>,
        reason: Reason,
    },
}

impl Decided {
    pub(super) fn as_new(&self) -> Option<(&DirectAddress, &Decision)> {
        match self {
            Self::New { address, decision } => Some((address, decision)),
            Self::Before { .. } | Self::Again { .. } | Self::NoAddress { .. } => None,
        }
    }

    /// Whether an earlier exchange holds it.
    pub(super) fn is_held(&self) -> bool {
        matches!(self, Self::Before { .. })
    }

    pub(super) fn refusal(&self) -> Option<Reason> {
        match self {
            Self::New {
                decision: Decision::Refused(reason, _),
                ..
            }
            | Self::Again { reason, .. }
            | Self::NoAddress { reason, .. } => Some(*reason),
            Self::New { .. } | Self::Before { .. } => None,
        }
    }

    /// The address, or the value that should have been one: it goes back to its sender alone.
    pub(super) fn location(&self) -> String {
        match self {
            Self::New { address, .. } | Self::Before { address } | Self::Again { address, .. } => {
                address.to_string()
            }
            Self::NoAddress { written, .. } => written.expose().clone(),
        }
    }
}

pub(super) fn refusals(decided: &[Decided], severity: Severity) -> Vec<RegistryError> {
    decided
        .iter()
        .filter_map(|recipient| {
            let reason = recipient.refusal()?;
            Some(answer::refused_recipient(
                &recipient.location(),
                reason,
                severity,
            ))
        })
        .collect()
}

impl ToDirect {
    /// Writes the exchange with its body, keys, effects and audit rows in one transaction.
    pub(super) async fn record(
        &self,
        caller: &Caller,
        understood: &Understood,
        from: &DirectAddress,
        decided: &[Decided],
        keys: Vec<LookupKey>,
        earlier: Vec<ExchangeId>,
    ) -> Result<ExchangeId, Stop> {
        let now = self.clock.now();
        let new: Vec<(&DirectAddress, &Decision)> =
            decided.iter().filter_map(Decided::as_new).collect();
        let legs = self.legs(from, &new);
        let exchange = Exchange {
            id: ExchangeId::random(),
            origin: Origin::Xdr {
                partner: caller.partner.name.clone(),
                soap_message_id: understood.reading.request.addressing.message_id.clone(),
                submission_set_unique_id: unique_id(understood).to_owned(),
                digest: understood.digest,
                content_type: caller.content_type.clone(),
                from: from.clone(),
                level: understood.level,
                documents: understood.documents.clone(),
            },
            is_begun: false,
            accepted_at: now,
            deadlines: self.timers.deadlines(now),
            body: understood.body.id,
            wants_final_delivery: self.wants_final_delivery(caller, understood),
            displayed_is_delivery: caller.partner.displayed_is_delivery,
            legs: legs.iter().map(|(leg, _)| leg.clone()).collect(),
            recipients: new
                .iter()
                .map(|(address, decision)| recipient(address, decision, &legs))
                .collect(),
            final_at: None,
            hold: None,
        };
        let id = exchange.id;
        let (exchange, effects) = step(
            &exchange,
            &Event {
                at: now,
                kind: EventKind::Accepted,
            },
        );
        let of_submission = |key: &&LookupKey| matches!(key, LookupKey::Submission { .. });
        let decided_on = keys.iter().find(of_submission).map(|key| Found {
            key: key.clone(),
            exchanges: earlier,
        });
        let mut keys = keys;
        keys.extend(exchange.legs.iter().filter_map(|leg| {
            let mail = exchange.mail_leg(leg.id)?;
            Some(LookupKey::MessageId(mail.message_id.as_str().to_owned()))
        }));
        let outcome = if decided
            .iter()
            .any(|recipient| recipient.refusal().is_some())
        {
            AuditOutcome::Minor
        } else {
            AuditOutcome::Success
        };
        let mut audit = vec![self.import_of(caller, understood, outcome).of(id)];
        audit.extend(
            new.iter()
                .map(|(address, decision)| resolved(now, id, address, decision)),
        );
        self.store
            .commit(UnitOfWork {
                exchange: Some(ExchangeWrite::Insert { exchange, keys }),
                adopt: vec![understood.body.id],
                effects: effects.into_iter().map(|effect| (id, effect)).collect(),
                audit,
                decided_on,
                ..UnitOfWork::default()
            })
            .await?;
        Ok(id)
    }

    /// Answers a repetition of what is under way or delivered: nothing is sent again (XDR-50).
    pub(super) async fn repeated(
        &self,
        caller: &Caller,
        understood: &Understood,
        reply: &ReplyTo,
        earlier: &Earlier,
        errors: Vec<RegistryError>,
    ) -> Result<XdrAnswer, Stop> {
        let mut record = self
            .import_of(caller, understood, AuditOutcome::Success)
            .with("repeated", "true");
        record.exchange = earlier.latest();
        let unit = UnitOfWork {
            audit: vec![record],
            ..UnitOfWork::default()
        };
        self.store.commit(unit).await?;
        metrics::counter!(measures::SUBMISSIONS, "result" => "repeated").increment(1);
        info!(exchange.id = ?earlier.latest(), partner = caller.partner.name.as_str(), "answered a repeated submission as before");
        Ok(reply.respond(errors))
    }

    /// One leg for all recipients of one policy whose certificate is known, as few as one envelope's RecipientInfos allow
    /// (SND-6, XDR-81).
    pub(super) fn legs(
        &self,
        from: &DirectAddress,
        new: &[(&DirectAddress, &Decision)],
    ) -> Vec<(Leg, Vec<DirectAddress>)> {
        let found: Vec<DirectAddress> = new
            .iter()
            .filter(|(_, decision)| matches!(decision, Decision::Found { .. }))
            .map(|(address, _)| (*address).clone())
            .collect();
        let mut legs = Vec::new();
        for (policy, members) in self.destinations.group(&found) {
            legs.extend(
                members
                    .chunks(self.limits.max_recipient_infos)
                    .map(|addresses| {
                        let message_id = MessageId::from_uuid(Uuid::new_v4(), from.domain());
                        let leg = Leg::mail(LegId::random(), message_id, policy.clone());
                        (leg, addresses.to_vec())
                    }),
            );
        }
        legs
    }

    pub(super) fn wants_final_delivery(&self, caller: &Caller, understood: &Understood) -> bool {
        let asked = understood
            .reading
            .request
            .address_block
            .as_ref()
            .is_some_and(|block| block.final_delivery);
        asked || self.settings.always_request_dispatched || caller.partner.always_request_dispatched
    }
}

fn recipient(
    address: &DirectAddress,
    decision: &Decision,
    legs: &[(Leg, Vec<DirectAddress>)],
) -> Recipient {
    let served_by = legs.iter().filter(|(_, served)| served.contains(address));
    let legs = served_by.map(|(leg, _)| leg.id).collect();
    match decision {
        Decision::Found { certificate, .. } => {
            Recipient::queued(address.clone(), legs, Some(certificate.clone()))
        }
        Decision::Pending(reason) => Recipient {
            reason: Some(*reason),
            ..Recipient::queued(address.clone(), legs, None)
        },
        Decision::Refused(reason, _) => Recipient::refused(address.clone(), *reason),
    }
}

/// The audit record of what was decided about a recipient.
pub(super) fn resolved(
    now: jiff::Timestamp,
    exchange: ExchangeId,
    address: &DirectAddress,
    decision: &Decision,
) -> AuditRecord {
    let record = |outcome| {
        AuditRecord::new(now, AuditKind::Recipient, outcome)
            .of(exchange)
            .with("recipient", address.to_string())
    };
    match decision {
        Decision::Found {
            certificate,
            origin,
            doubt,
        } => {
            let record = record(AuditOutcome::Success)
                .with("certificate", fingerprint(certificate))
                .with("origin", origin);
            doubted(record, *doubt)
        }
        Decision::Pending(reason) => record(AuditOutcome::Minor).with("pending", reason.token()),
        Decision::Refused(reason, cause) => {
            let record = record(AuditOutcome::Serious).with("reason", reason.token());
            match cause {
                Some(cause) => record.with("cause", cause),
                None => record,
            }
        }
    }
}

/// What a repetition is recognised by, and ids that should not be used for anything else; they never match across partners (XDR-50).
pub(super) fn lookup_keys(caller: &Caller, understood: &Understood) -> Vec<LookupKey> {
    let partner = caller.partner.name.clone();
    let mut keys = vec![
        LookupKey::Submission {
            partner: partner.clone(),
            digest: understood.digest,
        },
        LookupKey::SubmissionSet {
            partner: partner.clone(),
            id: unique_id(understood).to_owned(),
        },
    ];
    if let Some(id) = &understood.reading.request.addressing.message_id {
        keys.push(LookupKey::SoapMessageId {
            partner,
            id: id.as_str().to_owned(),
        });
    }
    keys
}
