//! A sealed leg goes to the next hop of one domain; each recipient's reply is an event of its own.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info};
use uuid::Uuid;

use super::ToDirect;
use crate::{
    bridge::{
        exchange::{
            Event, EventKind, Exchange, Origin, Reason, Recipient, RecipientState, SealedMail,
        },
        retry,
    },
    flows::{
        fault_points,
        ports::{Claim, OutgoingMail, SendResult, StoreError, StoredBody},
        to_direct::intake::store_error,
        transition::{self, Extras},
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{DirectAddress, DomainName, LegId},
    },
};

impl ToDirect {
    /// Runs `Send`: one attempt for one domain.
    pub(super) async fn send(
        &self,
        claim: &Claim,
        leg: LegId,
        domain: &DomainName,
    ) -> Result<(), StoreError> {
        let Some(loaded) = self.store.load(claim.exchange).await? else {
            return self.drop_claim(claim).await;
        };
        let exchange = loaded.exchange;
        let waiting = waiting_recipients(&exchange, leg, domain);
        let (Some(sealed), Origin::Xdr { from, .. }) =
            (sealed_mail(&exchange, leg), &exchange.origin)
        else {
            return self.drop_claim(claim).await;
        };
        if waiting.is_empty() {
            return self.drop_claim(claim).await;
        }
        let mail = OutgoingMail {
            domain: domain.clone(),
            envelope_from: Some(from.clone()),
            recipients: waiting.clone(),
            header: sealed.header.clone(),
            body: StoredBody {
                store: self.bodies.clone(),
                id: sealed.body,
                size: sealed.wire_bytes - sealed.header.len() as u64,
            },
        };
        fault_points::pass("deliver.before_send").map_err(store_error)?;
        let results = self.mail.send(&mail).await;
        fault_points::pass("deliver.sent").map_err(store_error)?;

        let now = self.clock.now();
        let is_damaged = |result: &SendResult| {
            matches!(
                result,
                SendResult::Refused {
                    reason: Reason::Internal,
                    ..
                }
            )
        };
        if results.iter().any(is_damaged) {
            return self.report_damaged_body(claim, leg, "sealed").await;
        }
        let retry_at = self.next_attempt(exchange.accepted_at, now);
        let events = events(now, leg, domain, &waiting, &results, retry_at);
        let audit = waiting
            .iter()
            .zip(&results)
            .map(|(recipient, result)| audit_record(now, claim, &exchange, leg, recipient, result))
            .collect();
        let extras = Extras {
            done: Some(claim.clone()),
            audit,
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, &events, extras).await?;
        fault_points::pass("deliver.send_recorded").map_err(store_error)?;
        let accepted = results
            .iter()
            .filter(|r| matches!(r, SendResult::Accepted(_)))
            .count();
        info!(
            exchange.id = %claim.exchange,
            domain = %domain,
            recipients = waiting.len(),
            accepted,
            "the next hop of {domain} took exchange {} for {accepted} of {} recipients",
            claim.exchange, waiting.len()
        );
        Ok(())
    }

    /// When an attempt for an exchange of this age is repeated. At the end of the lifetime the deadline's own event
    /// settles what is left, so an attempt due then finds nobody waiting.
    pub(super) fn next_attempt(&self, accepted_at: Timestamp, now: Timestamp) -> Timestamp {
        let age = Duration::try_from(now.duration_since(accepted_at)).unwrap_or_default();
        let lifetime = self.timers.queue_lifetime;
        let random = Uuid::new_v4().as_u64_pair().0;
        let attempts = retry::attempts_at_age(age);
        retry::next_attempt(accepted_at, now, attempts, lifetime, random)
            .unwrap_or(accepted_at + lifetime)
    }

    /// The leg cannot be delivered, since its stored bytes are damaged: its recipients are reported as failed.
    pub(super) async fn report_damaged_body(
        &self,
        claim: &Claim,
        leg: LegId,
        which: &'static str,
    ) -> Result<(), StoreError> {
        error!(
            alarm = "body_damaged",
            exchange.id = %claim.exchange,
            leg.id = %leg,
            "the {which} body of exchange {} is damaged on disk; its recipients are reported as failed",
            claim.exchange
        );
        metrics::counter!("xdbridge_alarms_total", "alarm" => "body_damaged").increment(1);
        self.fail_leg(claim, leg, Reason::Internal).await
    }

    /// Settles a leg that cannot be made or sent.
    pub(super) async fn fail_leg(
        &self,
        claim: &Claim,
        leg: LegId,
        reason: Reason,
    ) -> Result<(), StoreError> {
        let event = Event {
            at: self.clock.now(),
            kind: EventKind::LegFailed { leg, reason },
        };
        let extras = Extras {
            done: Some(claim.clone()),
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, &[event], extras).await?;
        Ok(())
    }
}

fn sealed_mail(exchange: &Exchange, leg: LegId) -> Option<&SealedMail> {
    exchange.mail_leg(leg)?.sealed.as_ref()
}

fn waiting_recipients(exchange: &Exchange, leg: LegId, domain: &DomainName) -> Vec<DirectAddress> {
    let waits = |recipient: &&Recipient| {
        recipient.state == RecipientState::Queued && recipient.address.domain() == domain
    };
    exchange
        .recipients_of(leg)
        .filter(waits)
        .map(|recipient| recipient.address.clone())
        .collect()
}

fn events(
    at: Timestamp,
    leg: LegId,
    domain: &DomainName,
    recipients: &[DirectAddress],
    results: &[SendResult],
    retry_at: Timestamp,
) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut is_deferred = results.len() < recipients.len();
    for (recipient, result) in recipients.iter().cloned().zip(results) {
        let kind = match result {
            SendResult::Accepted(_) => EventKind::SmtpAccepted { recipient },
            SendResult::Refused { reason, .. } => EventKind::SmtpRefused {
                recipient,
                reason: *reason,
            },
            SendResult::Deferred { .. } => {
                is_deferred = true;
                continue;
            }
        };
        events.push(Event { at, kind });
    }
    if is_deferred {
        let kind = EventKind::SmtpDeferred {
            leg,
            domain: domain.clone(),
            retry_at,
        };
        events.push(Event { at, kind });
    }
    events
}

fn audit_record(
    at: Timestamp,
    claim: &Claim,
    exchange: &Exchange,
    leg: LegId,
    recipient: &DirectAddress,
    result: &SendResult,
) -> AuditRecord {
    let outcome = match result {
        SendResult::Accepted(_) => AuditOutcome::Success,
        SendResult::Deferred { .. } => AuditOutcome::Minor,
        SendResult::Refused { .. } => AuditOutcome::Serious,
    };
    let record = AuditRecord::new(at, AuditKind::Iti32Export, outcome)
        .of(claim.exchange)
        .with("destination", recipient.to_string());
    let record = match exchange.mail_leg(leg) {
        Some(mail) => record.with("message-id", mail.message_id.as_str()),
        None => record,
    };
    match result {
        SendResult::Accepted(receipt) => record
            .with("peer", &receipt.peer)
            .with("tls", &receipt.tls)
            .with("smtp-reply", &receipt.reply),
        SendResult::Refused { reason, detail } => record
            .with("reason", reason.token())
            .with("smtp-reply", detail),
        SendResult::Deferred { detail } => record.with("smtp-reply", detail),
    }
}
