//! A recipient is settled: its one outcome is told.

use std::sync::Arc;

use tracing::{info, warn};

use super::{
    deadlines, measures,
    ports::{Claim, Clock, Exchanges, StoreError, UnitOfWork},
};
use crate::formats::audit::{AuditKind, AuditOutcome, AuditRecord};

/// Tells one recipient's outcome to audit, log and metrics. A failure raises an alarm: until status submissions are
/// built, operators are who must learn of it.
pub async fn outcome(
    store: &Arc<dyn Exchanges>,
    clock: &dyn Clock,
    claim: &Claim,
    recipient: usize,
) -> Result<(), StoreError> {
    let Some(loaded) = store.load(claim.exchange).await? else {
        return deadlines::complete(store, claim).await;
    };
    let exchange = loaded.exchange;
    let Some((recipient, outcome)) = exchange
        .recipients
        .get(recipient)
        .and_then(|recipient| Some((recipient, recipient.outcome.as_ref()?)))
    else {
        return deadlines::complete(store, claim).await;
    };
    let result = match outcome.failure {
        None => AuditOutcome::Success,
        Some(_) => AuditOutcome::Serious,
    };
    let token = outcome.failure.map_or("success", |reason| reason.token());
    let record = AuditRecord::new(clock.now(), AuditKind::Outcome, result)
        .of(exchange.id)
        .with("recipient", recipient.address.to_string())
        .with("outcome", token);
    let unit = UnitOfWork {
        done: Some(claim.clone()),
        audit: vec![record],
        ..UnitOfWork::default()
    };
    store.commit(unit).await?;
    metrics::counter!(measures::RECIPIENT_OUTCOMES, "outcome" => token).increment(1);
    let domain = recipient.address.domain();
    if outcome.failure.is_some() {
        measures::count_alarm("recipient_failed");
        warn!(alarm = "recipient_failed", exchange.id = %exchange.id, domain = %domain, outcome = token, "a recipient of exchange {} at {domain} failed: {token}", exchange.id);
    } else {
        info!(exchange.id = %exchange.id, domain = %domain, outcome = token, "a recipient of exchange {} at {domain} has the message", exchange.id);
    }
    Ok(())
}
