//! A sealed leg goes to the next hop of one domain; each recipient's reply is an event of its own.

use jiff::{SignedDuration, Timestamp};
use tracing::info;
use uuid::Uuid;

use super::{
    ToDirect,
    seal::{Checked, alarm_domain_gone},
};
use crate::{
    bridge::{
        exchange::{Event, EventKind, Exchange, Origin, Reason, Recipient, RecipientState},
        retry,
    },
    flows::{
        fault_points,
        intake::store_error,
        ports::{Claim, OutgoingMail, SendResult, StoreError, StoredBody},
        records::{alarm_damaged_body, doubted, is_damaged},
        transition::{self, Extras},
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{DirectAddress, DomainName, LegId},
    },
};

/// Attempts end this long before the queue's lifetime does, so that their results are recorded before it decides.
const MARGIN: SignedDuration = SignedDuration::from_secs(15);

impl ToDirect {
    /// Runs `Send`: one attempt for one domain. Certificates are judged once more before it: a recipient whose
    /// certificate fell meanwhile is refused, and the others get the sealed bytes as they are (SND-6).
    pub(super) async fn send(
        &self,
        claim: &Claim,
        leg: LegId,
        domain: &DomainName,
        attempt: u32,
    ) -> Result<(), StoreError> {
        let Some(loaded) = self.store.load(claim.exchange).await? else {
            return self.drop_claim(claim).await;
        };
        let mut exchange = loaded.exchange;
        let Origin::Xdr { from, .. } = &exchange.origin else {
            return self.drop_claim(claim).await;
        };
        if exchange.hold.is_some() {
            return transition::withhold(&self.store, claim, self.clock.now()).await;
        }
        let Some(own) = self.own_domains.find(from.domain()) else {
            alarm_domain_gone(claim, from.domain());
            return self.fail_leg(claim, leg, Reason::Internal).await;
        };
        let now = self.clock.now();
        let checked = self
            .check_again(&exchange, leg, Some(domain), &own, now)
            .await;
        if !checked.refused.is_empty() {
            // Another node may be sending to them, should this one have been taken for dead: then nothing is said here.
            let extras = Extras {
                under: Some(claim.clone()),
                ..Extras::default()
            };
            let fallen = &checked.refused;
            exchange = transition::apply(&self.store, claim.exchange, fallen, extras).await?;
        }
        let Some(mail) = self.waiting_mail(&exchange, leg, domain, &checked) else {
            if checked.undecided.is_empty() {
                return self.drop_claim(claim).await;
            }
            let mut events = vec![self.deferred(&exchange, leg, domain, attempt)];
            events.extend(checked.undecided);
            let extras = Extras {
                done: Some(claim.clone()),
                ..Extras::default()
            };
            transition::apply(&self.store, claim.exchange, &events, extras).await?;
            return Ok(());
        };
        fault_points::pass("deliver.before_send").map_err(store_error)?;
        self.store.confirm(claim).await?;
        let results = self.mail.send(&mail).await;
        fault_points::pass("deliver.sent").map_err(store_error)?;
        if results.iter().any(is_damaged) {
            alarm_damaged_body(claim, "sealed");
        }
        let sent = Sent {
            leg,
            attempt,
            mail: &mail,
            results: &results,
            checked: &checked,
        };
        self.record_results(claim, &exchange, &sent).await
    }

    /// The sealed mail for those recipients of the domain that wait for it and may have it now, if there are any.
    fn waiting_mail(
        &self,
        exchange: &Exchange,
        leg: LegId,
        domain: &DomainName,
        checked: &Checked,
    ) -> Option<OutgoingMail> {
        let mut recipients = waiting_recipients(exchange, leg, domain);
        recipients.retain(|address| checked.served.iter().any(|(served, _)| served == address));
        let sealed = exchange.mail_leg(leg)?.sealed.as_ref()?;
        let Origin::Xdr { from, .. } = &exchange.origin else {
            return None;
        };
        (!recipients.is_empty()).then(|| OutgoingMail {
            domain: domain.clone(),
            deadline: exchange
                .deadlines
                .queue
                .saturating_sub(MARGIN)
                .unwrap_or(exchange.deadlines.queue),
            envelope_from: Some(from.clone()),
            recipients,
            header: sealed.header.clone(),
            body: StoredBody {
                store: self.bodies.clone(),
                id: sealed.body,
                size: sealed.wire_bytes - sealed.header.len() as u64,
            },
        })
    }

    /// The attempt is to be made again, for whoever is still queued then.
    fn deferred(
        &self,
        exchange: &Exchange,
        leg: LegId,
        domain: &DomainName,
        attempt: u32,
    ) -> Event {
        let at = self.clock.now();
        let kind = EventKind::SmtpDeferred {
            leg,
            domain: domain.clone(),
            attempt,
            retry_at: self.next_attempt(exchange, attempt, at),
        };
        Event { at, kind }
    }

    async fn record_results(
        &self,
        claim: &Claim,
        exchange: &Exchange,
        sent: &Sent<'_>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let (mail, results) = (sent.mail, sent.results);
        let domain = &mail.domain;
        let (mut events, mut is_deferred) = events(now, &mail.recipients, results);
        is_deferred |= !sent.checked.undecided.is_empty();
        if is_deferred {
            events.push(self.deferred(exchange, sent.leg, domain, sent.attempt));
        }
        events.extend(sent.checked.undecided.iter().cloned());
        let each = mail.recipients.iter().zip(results);
        let audit = each
            .map(|(recipient, result)| {
                let mut served = sent.checked.served.iter();
                let chosen = served.find(|(address, _)| address == recipient);
                let record = audit_record(now, claim, exchange, sent.leg, recipient, result);
                doubted(record, chosen.and_then(|(_, chosen)| chosen.doubt))
            })
            .collect();
        let extras = Extras {
            done: Some(claim.clone()),
            audit,
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, &events, extras).await?;
        fault_points::pass("deliver.send_recorded").map_err(store_error)?;
        let is_accepted = |result: &&SendResult| matches!(result, SendResult::Accepted(_));
        let accepted = results.iter().filter(is_accepted).count();
        let recipients = mail.recipients.len();
        info!(
            exchange.id = %claim.exchange,
            domain = %domain,
            recipients,
            accepted,
            "the next hop of {domain} took exchange {} for {accepted} of {recipients} recipients",
            claim.exchange
        );
        Ok(())
    }

    /// When to try again what failed the `attempt`-th time. Where no time is left, the queue's deadline: the state asks
    /// for no attempt then, and the deadline's own event settles what is left.
    pub(super) fn next_attempt(
        &self,
        exchange: &Exchange,
        attempt: u32,
        now: Timestamp,
    ) -> Timestamp {
        let end = exchange.deadlines.queue;
        let random = Uuid::new_v4().as_u64_pair().0;
        retry::next_attempt(now, attempt, end, random).unwrap_or(end)
    }

    /// The leg cannot be made, since the recorded body is damaged: its recipients are reported as failed.
    pub(super) async fn report_damaged_body(
        &self,
        claim: &Claim,
        leg: LegId,
    ) -> Result<(), StoreError> {
        alarm_damaged_body(claim, "recorded");
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

/// One attempt and what came of it.
struct Sent<'a> {
    leg: LegId,
    attempt: u32,
    mail: &'a OutgoingMail,
    results: &'a [SendResult],
    checked: &'a Checked,
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

/// What the results say, and whether there must be another attempt.
fn events(
    at: Timestamp,
    recipients: &[DirectAddress],
    results: &[SendResult],
) -> (Vec<Event>, bool) {
    let mut events: Vec<Event> = Vec::new();
    let mut is_deferred = results.len() < recipients.len();
    for (recipient, result) in recipients.iter().cloned().zip(results) {
        let kind = match result {
            SendResult::Accepted(receipt) => EventKind::SmtpAccepted {
                recipient,
                by: receipt.next_hop.clone(),
            },
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
    (events, is_deferred)
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
