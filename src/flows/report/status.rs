//! A status submission goes to its partner, and what comes of it becomes an event.

use jiff::Timestamp;
use tracing::{error, info};
use uuid::Uuid;

use super::Reports;
use crate::{
    bridge::{
        exchange::{
            Event, EventKind, Exchange, Origin, Recipient, StatusEnd, StatusReport, StatusResult,
        },
        retry,
        status::{self, StatusVerdict},
    },
    flows::{
        deadlines, fault_points,
        intake::store_error,
        measures,
        ports::{Claim, PostReport, StoreError},
        posting,
        records::alarm_damaged_body,
        transition::{self, Extras},
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::SoapMessageId,
    },
};

/// One attempt.
struct Attempt<'a> {
    claim: &'a Claim,
    index: usize,
    number: u32,
    partner: &'a str,
    recipient: &'a Recipient,
    report: &'a StatusReport,
    relates_to: Option<&'a SoapMessageId>,
}

impl<'a> Attempt<'a> {
    /// `None` where there is nothing to tell, or nothing more.
    fn of(claim: &'a Claim, exchange: &'a Exchange, index: usize, number: u32) -> Option<Self> {
        let Origin::Xdr {
            partner,
            soap_message_id,
            ..
        } = &exchange.origin
        else {
            return None;
        };
        let recipient = exchange.recipients.get(index)?;
        let report = recipient.status.as_ref()?;
        report.end.is_none().then_some(Self {
            claim,
            index,
            number,
            partner,
            recipient,
            report,
            relates_to: soap_message_id.as_ref(),
        })
    }
}

impl Reports {
    /// Runs `PostStatus`: one attempt.
    pub(super) async fn post_status(
        &self,
        claim: &Claim,
        index: usize,
        number: u32,
    ) -> Result<(), StoreError> {
        let Some(loaded) = self.store.load(claim.exchange).await? else {
            return deadlines::complete(&self.store, claim).await;
        };
        let Some(attempt) = Attempt::of(claim, &loaded.exchange, index, number) else {
            return deadlines::complete(&self.store, claim).await;
        };
        let report = attempt.report;
        fault_points::pass("status.before_post").map_err(store_error)?;
        self.store.confirm(claim).await?;
        let (posts, bodies) = (&self.posts, &self.bodies);
        let target = status::target_of(attempt.partner);
        let posting = posting::attempt(posts, bodies, &target, &report.request, report.until);
        let Some(ended) = posting.await else {
            return self.damaged(&attempt).await;
        };
        fault_points::pass("status.posted").map_err(store_error)?;
        let now = self.clock.now();
        let random = Uuid::new_v4().as_u64_pair().0;
        let next = retry::next_attempt(now, number, report.until, random);
        let retry_at = next.unwrap_or(report.until);
        let verdict = status::judge(&ended.end, retry_at, report.answer_lost, &self.limits);
        self.conclude(now, &attempt, &verdict, &ended).await
    }

    async fn conclude(
        &self,
        now: Timestamp,
        attempt: &Attempt<'_>,
        verdict: &StatusVerdict,
        ended: &PostReport,
    ) -> Result<(), StoreError> {
        let code = verdict.code.as_ref().map_or("", |code| code.known_name());
        let record = exported(now, attempt, verdict.result)
            .with("cause", verdict.cause)
            .with("code", code)
            .with("detail", &ended.detail);
        let after = self.feed(now, attempt, verdict.result, record).await?;
        // What is recorded stays so: only a kill means anything here.
        let _ = fault_points::pass("status.recorded");
        tell(attempt, verdict, &after);
        Ok(())
    }

    /// The stored submission is damaged: it cannot be posted, now or ever.
    async fn damaged(&self, attempt: &Attempt<'_>) -> Result<(), StoreError> {
        alarm_damaged_body(attempt.claim, "status");
        let now = self.clock.now();
        let result = StatusResult::Refused;
        let record =
            exported(now, attempt, result).with("error", "the stored status submission is damaged");
        self.feed(now, attempt, result, record).await?;
        count(attempt.partner, "dead");
        Ok(())
    }

    async fn feed(
        &self,
        at: Timestamp,
        attempt: &Attempt<'_>,
        result: StatusResult,
        record: AuditRecord,
    ) -> Result<Exchange, StoreError> {
        let kind = EventKind::StatusPosted {
            recipient: attempt.index,
            attempt: attempt.number,
            result,
        };
        let extras = Extras {
            done: Some(attempt.claim.clone()),
            audit: vec![record],
            ..Extras::default()
        };
        transition::apply(
            &self.store,
            attempt.claim.exchange,
            &[Event { at, kind }],
            extras,
        )
        .await
    }
}

fn tell(attempt: &Attempt<'_>, verdict: &StatusVerdict, after: &Exchange) {
    let (id, partner) = (attempt.claim.exchange, attempt.partner);
    let code = verdict.code.as_ref().map_or("", |code| code.known_name());
    let report = after.recipients.get(attempt.index);
    let end = report.and_then(|recipient| recipient.status.as_ref()?.end);
    match end {
        Some(StatusEnd::Refused | StatusEnd::Expired) => {
            // The outcome stays in the exchange: an operator must see that its sender learns of it in another way.
            error!(alarm = "status_dead_letter", exchange.id = %id, partner, code, cause = verdict.cause, "the status of a recipient of exchange {id} was never taken by partner {partner}: {}", verdict.cause);
            measures::count_alarm("status_dead_letter");
            count(partner, "dead");
        }
        Some(StatusEnd::Taken) => {
            info!(exchange.id = %id, partner, cause = verdict.cause, "told partner {partner} the status of a recipient of exchange {id}");
            count(partner, "taken");
        }
        None if verdict.is_alarming => {
            error!(alarm = "status_endpoint", exchange.id = %id, partner, code, cause = verdict.cause, "the status endpoint of partner {partner} and exchange {id}: {}", verdict.cause);
            measures::count_alarm("status_endpoint");
            count(partner, "retried");
        }
        None => {
            info!(exchange.id = %id, partner, code, cause = verdict.cause, "the status of a recipient of exchange {id} is told to partner {partner} again later: {}", verdict.cause);
            count(partner, "retried");
        }
    }
}

fn count(partner: &str, result: &'static str) {
    let partner = partner.to_owned();
    metrics::counter!(measures::STATUS_SUBMISSIONS, "partner" => partner, "result" => result)
        .increment(1);
}

fn exported(at: Timestamp, attempt: &Attempt<'_>, result: StatusResult) -> AuditRecord {
    let (outcome, word) = match result {
        StatusResult::Taken => (AuditOutcome::Success, "taken"),
        StatusResult::Refused => (AuditOutcome::Serious, "refused"),
        StatusResult::Unknown { .. } => (AuditOutcome::Minor, "unknown"),
    };
    let told = attempt.recipient.outcome.as_ref();
    let failure = told.and_then(|outcome| outcome.failure);
    let relates_to = attempt.relates_to.map_or("", SoapMessageId::as_str);
    AuditRecord::new(at, AuditKind::Iti41Export, outcome)
        .of(attempt.claim.exchange)
        .with("recipient", attempt.recipient.address.to_string())
        .with("status", failure.map_or("success", |reason| reason.token()))
        .with("relates-to", relates_to)
        .with("partner", attempt.partner)
        .with("message-id", attempt.report.soap_message_id.as_str())
        .with("attempt", attempt.number.to_string())
        .with("result", word)
}
