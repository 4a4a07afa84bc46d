//! Time passes: deadlines become events, and bodies go when their retention is over.

use std::sync::Arc;

use super::{
    ports::{Claim, Clock, Exchanges, StoreError, UnitOfWork},
    transition::{self, Extras},
};
use crate::{
    bridge::exchange::{Effect, Event, EventKind},
    formats::audit::{AuditKind, AuditOutcome, AuditRecord},
};

/// Feeds a deadline to its exchange.
pub async fn passed(
    store: &Arc<dyn Exchanges>,
    clock: &dyn Clock,
    claim: &Claim,
) -> Result<(), StoreError> {
    let (kind, timer) = match claim.effect {
        Effect::DeadlineQueue => (EventKind::DeadlineQueue, "queue"),
        Effect::DeadlineTp => (EventKind::DeadlineTp, "processed"),
        Effect::DeadlineTd => (EventKind::DeadlineTd, "dispatched"),
        _ => return complete(store, claim).await,
    };
    let at = clock.now();
    let Some(loaded) = store.load(claim.exchange).await? else {
        return complete(store, claim).await;
    };
    let mut extras = Extras {
        done: Some(claim.clone()),
        ..Extras::default()
    };
    if !loaded.exchange.is_final() {
        let record = AuditRecord::new(at, AuditKind::Timeout, AuditOutcome::Minor)
            .of(claim.exchange)
            .with("timer", timer);
        extras.audit.push(record);
    }
    transition::apply(store, claim.exchange, &[Event { at, kind }], extras).await?;
    Ok(())
}

/// Removes the bodies of an exchange that is final and whose retention is over. A status submission that is still under
/// way keeps its own until it is given up.
pub async fn remove_bodies(store: &Arc<dyn Exchanges>, claim: &Claim) -> Result<(), StoreError> {
    let Some(loaded) = store.load(claim.exchange).await? else {
        return complete(store, claim).await;
    };
    let open = || loaded.exchange.open_reports();
    let mut remove = loaded.exchange.bodies();
    remove.retain(|body| open().all(|report| report.request.body != *body));
    let last = open().map(|report| report.until).max();
    let unit = UnitOfWork {
        remove,
        done: last.is_none().then(|| claim.clone()),
        ..UnitOfWork::default()
    };
    store.commit(unit).await?;
    match last {
        Some(until) => store.give_back(claim, until).await,
        None => Ok(()),
    }
}

/// Completes a claimed effect that has nothing left to do.
pub async fn complete(store: &Arc<dyn Exchanges>, claim: &Claim) -> Result<(), StoreError> {
    store
        .commit(UnitOfWork {
            done: Some(claim.clone()),
            ..UnitOfWork::default()
        })
        .await
}
