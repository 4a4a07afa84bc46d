//! Post: a prepared request goes to its endpoint, and what comes of it becomes an event.

use jiff::{SignedDuration, Timestamp};
use tracing::{error, info};
use uuid::Uuid;

use super::ToXdr;
use crate::{
    bridge::{
        exchange::{Event, EventKind, Exchange, LegState, PostResult, Reason, XdrLeg},
        post::{self, PostEnd, PostTerms, PostVerdict},
        retry,
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
        ids::{DirectAddress, LegId},
        xdr::ErrorCode,
    },
};

/// Attempts end this long before the queue's lifetime does, so that their results are recorded before it decides.
const MARGIN: SignedDuration = SignedDuration::from_secs(15);

impl ToXdr {
    /// Runs `Post`: one attempt.
    pub(super) async fn post(
        &self,
        claim: &Claim,
        leg: LegId,
        attempt: u32,
    ) -> Result<(), StoreError> {
        let Some(loaded) = self.store.load(claim.exchange).await? else {
            return deadlines::complete(&self.store, claim).await;
        };
        let exchange = loaded.exchange;
        let Some(xdr) = exchange.leg(leg).and_then(|leg| leg.as_xdr()).cloned() else {
            return deadlines::complete(&self.store, claim).await;
        };
        let is_held = |exchange: &Exchange| exchange.hold.is_some();
        let is_lost = match xdr.state {
            LegState::Opened if is_held(&exchange) => {
                return transition::withhold(&self.store, claim, self.clock.now()).await;
            }
            LegState::Opened => false,
            // It was under way when the process died: whether it arrived nobody knows.
            LegState::Posting => true,
            _ => return deadlines::complete(&self.store, claim).await,
        };
        let report = if is_lost {
            PostReport {
                end: PostEnd::AnswerLost,
                detail: "the bridge stopped while it posted".to_owned(),
            }
        } else {
            // An operator, or the endpoint itself, may have been faster.
            let begun = self.begin(claim, leg).await?;
            if is_held(&begun) {
                return transition::withhold(&self.store, claim, self.clock.now()).await;
            }
            if !is_posting(&begun, leg) {
                return deadlines::complete(&self.store, claim).await;
            }
            fault_points::pass("post.started").map_err(store_error)?;
            let end = exchange.deadlines.queue;
            let end = end.saturating_sub(MARGIN).unwrap_or(end);
            let request = &xdr.request;
            let posting = posting::attempt(&self.posts, &self.bodies, &xdr.endpoint, request, end);
            let Some(report) = posting.await else {
                return self.damaged(claim, leg).await;
            };
            fault_points::pass("post.ended").map_err(store_error)?;
            report
        };
        self.conclude(claim, &exchange, &xdr, leg, attempt, &report)
            .await
    }

    /// Recorded before the first octet leaves: after a crash nobody would know otherwise. Only while the claim stands:
    /// otherwise another node may be posting, or find a start that nobody follows up.
    async fn begin(&self, claim: &Claim, leg: LegId) -> Result<Exchange, StoreError> {
        let event = Event {
            at: self.clock.now(),
            kind: EventKind::PostStarted { leg },
        };
        let extras = Extras {
            under: Some(claim.clone()),
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, &[event], extras).await
    }

    async fn conclude(
        &self,
        claim: &Claim,
        exchange: &Exchange,
        xdr: &XdrLeg,
        leg: LegId,
        attempt: u32,
        report: &PostReport,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let recipients: Vec<DirectAddress> = exchange
            .recipients_of(leg)
            .map(|recipient| recipient.address.clone())
            .collect();
        let end = exchange.deadlines.queue;
        let random = Uuid::new_v4().as_u64_pair().0;
        let terms = PostTerms {
            recipients: &recipients,
            was_answer_lost: xdr.answer_lost,
            retry_at: retry::next_attempt(now, attempt, end, random).unwrap_or(end),
            limits: &self.limits,
        };
        let verdict = post::judge(&report.end, &terms);
        self.tell(claim, xdr, &verdict);
        let record = exported(now, claim, xdr, attempt, &verdict, report);
        let event = Event {
            at: now,
            kind: EventKind::Posted {
                leg,
                attempt,
                result: verdict.result,
                code: verdict.code.as_ref().and_then(known),
            },
        };
        let extras = Extras {
            done: Some(claim.clone()),
            audit: vec![record],
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, &[event], extras).await?;
        fault_points::pass("post.recorded").map_err(store_error)?;
        Ok(())
    }

    fn tell(&self, claim: &Claim, xdr: &XdrLeg, verdict: &PostVerdict) {
        let endpoint = xdr.endpoint.as_str();
        let code = verdict.code.as_ref().map_or("", |code| code.known_name());
        metrics::counter!(measures::POSTS, "endpoint" => xdr.endpoint.clone(), "result" => word(&verdict.result)).increment(1);
        let is_in_doubt =
            matches!(verdict.result, PostResult::AnswerLost { .. }) && !xdr.idempotent;
        if verdict.is_alarming || is_in_doubt {
            let alarm = if is_in_doubt { "in_doubt" } else { "endpoint" };
            error!(alarm, exchange.id = %claim.exchange, endpoint, code, cause = verdict.cause, "endpoint {endpoint} and exchange {}: {}", claim.exchange, verdict.cause);
            measures::count_alarm(alarm);
        } else {
            info!(exchange.id = %claim.exchange, endpoint, code, cause = verdict.cause, "posted exchange {} to endpoint {endpoint}: {}", claim.exchange, verdict.cause);
        }
    }

    /// The stored request is damaged: it cannot be posted, now or ever.
    async fn damaged(&self, claim: &Claim, leg: LegId) -> Result<(), StoreError> {
        alarm_damaged_body(claim, "prepared");
        let at = self.clock.now();
        let kind = EventKind::LegFailed {
            leg,
            reason: Reason::Internal,
        };
        let record = AuditRecord::new(at, AuditKind::Iti41Export, AuditOutcome::Serious);
        let extras = Extras {
            done: Some(claim.clone()),
            audit: vec![
                record
                    .of(claim.exchange)
                    .with("error", "the stored request is damaged"),
            ],
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, &[Event { at, kind }], extras).await?;
        Ok(())
    }
}

fn is_posting(exchange: &Exchange, leg: LegId) -> bool {
    let post = exchange.leg(leg).and_then(|leg| leg.as_xdr());
    post.is_some_and(|post| post.state == LegState::Posting)
}

/// The name of a code that the specification has; an endpoint may write anything into one (PHI-3).
fn known(code: &ErrorCode) -> Option<String> {
    let is_known = !matches!(code, ErrorCode::Other(_));
    is_known.then(|| code.known_name().to_owned())
}

fn word(result: &PostResult) -> &'static str {
    match result {
        PostResult::Success => "success",
        PostResult::Partial { .. } => "partial",
        PostResult::Refused => "refused",
        PostResult::Unavailable { .. } => "unavailable",
        PostResult::Deferred => "deferred",
        PostResult::AnswerLost { .. } => "lost",
    }
}

fn exported(
    at: Timestamp,
    claim: &Claim,
    xdr: &XdrLeg,
    attempt: u32,
    verdict: &PostVerdict,
    report: &PostReport,
) -> AuditRecord {
    let outcome = match &verdict.result {
        PostResult::Success | PostResult::Deferred => AuditOutcome::Success,
        PostResult::Unavailable { .. } | PostResult::Partial { .. } => AuditOutcome::Minor,
        PostResult::Refused | PostResult::AnswerLost { .. } => AuditOutcome::Serious,
    };
    let record = AuditRecord::new(at, AuditKind::Iti41Export, outcome)
        .of(claim.exchange)
        .with("endpoint", &xdr.endpoint)
        .with("message-id", xdr.soap_message_id.as_str())
        .with("attempt", attempt.to_string())
        .with("result", word(&verdict.result))
        .with("cause", verdict.cause)
        .with("detail", &report.detail);
    match &verdict.code {
        Some(code) => record.with("code", code.known_name()),
        None => record,
    }
}
