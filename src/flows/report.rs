//! A recipient of a submission is settled: its one outcome is told to audit, log and metrics, and to the partner that has
//! a `status_endpoint` (STS-1 to STS-4). A status submission is made once and stored with the record of the outcome;
//! every attempt posts the same octets.

mod status;

use std::sync::Arc;

use tracing::{error, info, warn};

use super::{
    deadlines, fault_points,
    intake::store_error,
    measures,
    ports::{Bodies, Claim, Clock, Exchanges, PostXdr, StagedBody, StoreError, UnitOfWork},
    transition::{self, Extras},
};
use crate::{
    bridge::{
        endpoint::SourcesConfig,
        exchange::{
            Effect, Event, EventKind, Exchange, Origin, Outcome, PreparedRequest, Recipient,
        },
        partner::{Partner, Partners},
        status::StatusSubmission,
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        limits::Limits,
    },
};

/// Tells outcomes, with everything that this needs of the world.
pub struct Reports {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Exchanges, outbox, audit.
    pub store: Arc<dyn Exchanges>,
    /// Bodies.
    pub bodies: Arc<dyn Bodies>,
    /// The XDR systems that submit.
    pub partners: Arc<Partners>,
    /// What senders' domains are called as sources.
    pub sources: Arc<SourcesConfig>,
    /// Posts to status endpoints.
    pub posts: Arc<dyn PostXdr>,
    /// Limits on what comes from outside.
    pub limits: Arc<Limits>,
}

impl Reports {
    /// Runs one of this flow's effects.
    pub async fn deliver(&self, claim: &Claim) -> Result<(), StoreError> {
        match &claim.effect {
            Effect::ReportOutcome { recipient } => self.outcome(claim, *recipient).await,
            Effect::PostStatus {
                recipient, attempt, ..
            } => self.post_status(claim, *recipient, *attempt).await,
            _ => deadlines::complete(&self.store, claim).await,
        }
    }

    /// Tells one recipient's outcome. A failure of which nobody else is told raises an alarm: operators are who must
    /// learn of it.
    async fn outcome(&self, claim: &Claim, index: usize) -> Result<(), StoreError> {
        let Some(loaded) = self.store.load(claim.exchange).await? else {
            return deadlines::complete(&self.store, claim).await;
        };
        let exchange = loaded.exchange;
        let Some((recipient, outcome)) = exchange
            .recipients
            .get(index)
            .and_then(|recipient| Some((recipient, recipient.outcome.as_ref()?)))
        else {
            return deadlines::complete(&self.store, claim).await;
        };
        let record = self.recorded(&exchange, recipient, outcome);
        let made = self.make(&exchange, index).await?;
        let is_told = made.is_some();
        match made {
            Some((event, staged)) => {
                fault_points::pass("report.made").map_err(store_error)?;
                let extras = Extras {
                    done: Some(claim.clone()),
                    adopt: vec![staged.id],
                    audit: vec![record],
                    ..Extras::default()
                };
                transition::apply(&self.store, exchange.id, &[event], extras).await?;
                // What is recorded stays so: only a kill means anything here.
                let _ = fault_points::pass("report.recorded");
            }
            None => {
                let unit = UnitOfWork {
                    done: Some(claim.clone()),
                    audit: vec![record],
                    ..UnitOfWork::default()
                };
                self.store.commit(unit).await?;
            }
        }
        tell(&exchange, recipient, outcome, is_told);
        Ok(())
    }

    fn recorded(
        &self,
        exchange: &Exchange,
        recipient: &Recipient,
        outcome: &Outcome,
    ) -> AuditRecord {
        let result = match outcome.failure {
            None => AuditOutcome::Success,
            Some(_) => AuditOutcome::Serious,
        };
        AuditRecord::new(self.clock.now(), AuditKind::Outcome, result)
            .of(exchange.id)
            .with("recipient", recipient.address.to_string())
            .with("outcome", token(outcome))
    }

    /// The partner that submitted the exchange, and where it is told of outcomes; `None` where it is not.
    fn told<'a>(&self, exchange: &'a Exchange) -> Option<(Arc<Partner>, String, &'a Origin)> {
        let origin = &exchange.origin;
        let Origin::Xdr { partner, .. } = origin else {
            return None;
        };
        let partner = self.partners.find(partner)?;
        let endpoint = partner.status_endpoint.clone()?;
        Some((partner, endpoint, origin))
    }

    /// Makes and stages the status submission, if the partner gets one.
    async fn make(
        &self,
        exchange: &Exchange,
        index: usize,
    ) -> Result<Option<(Event, StagedBody)>, StoreError> {
        let Some((partner, endpoint, Origin::Xdr { from, .. })) = self.told(exchange) else {
            return Ok(None);
        };
        let planned = self.sources.source_id(from.domain()).and_then(|source_id| {
            crate::bridge::status::plan(exchange, index, partner.status_from, &source_id)
        });
        let Some(submission) = planned else {
            error!(alarm = "status", exchange.id = %exchange.id, partner = partner.name.as_str(), "no status submission can be made for exchange {}", exchange.id);
            measures::count_alarm("status");
            return Ok(None);
        };
        let soap_message_id = submission.message_id.clone();
        let bodies = Arc::clone(&self.bodies);
        let writing = tokio::task::spawn_blocking(move || write(&submission, &endpoint, &*bodies));
        let failed = |panicked| StoreError::Failed(Box::new(panicked));
        let (request, staged) = writing.await.map_err(failed)??;
        let event = Event {
            at: self.clock.now(),
            kind: EventKind::StatusMade {
                recipient: index,
                soap_message_id,
                request,
            },
        };
        Ok(Some((event, staged)))
    }
}

/// Writes the submission into the store, as it will be posted to `endpoint`.
fn write(
    submission: &StatusSubmission,
    endpoint: &str,
    bodies: &dyn Bodies,
) -> Result<(PreparedRequest, StagedBody), StoreError> {
    let mut writer = bodies.create_encrypted()?;
    submission
        .write(endpoint, &mut writer)
        .map_err(store_error)?;
    let staged = writer.finish()?;
    let request = PreparedRequest {
        body: staged.id,
        content_type: submission.content_type(endpoint),
        wire_bytes: staged.size,
    };
    Ok((request, staged))
}

fn token(outcome: &Outcome) -> &'static str {
    outcome.failure.map_or("success", |reason| reason.token())
}

fn tell(exchange: &Exchange, recipient: &Recipient, outcome: &Outcome, is_told: bool) {
    let (id, token, domain) = (exchange.id, token(outcome), recipient.address.domain());
    metrics::counter!(measures::RECIPIENT_OUTCOMES, "outcome" => token).increment(1);
    if outcome.failure.is_none() {
        info!(exchange.id = %id, domain = %domain, outcome = token, "a recipient of exchange {id} at {domain} has the message");
    } else if is_told {
        warn!(exchange.id = %id, domain = %domain, outcome = token, "a recipient of exchange {id} at {domain} failed: {token}");
    } else {
        measures::count_alarm("recipient_failed");
        warn!(alarm = "recipient_failed", exchange.id = %id, domain = %domain, outcome = token, "a recipient of exchange {id} at {domain} failed: {token}");
    }
}
