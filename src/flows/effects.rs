//! Which flow runs which effect.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    deadlines,
    outbox::{Prepared, RunEffect},
    ports::{Claim, Clock, Exchanges, StoreError},
    report::Reports,
    to_direct::ToDirect,
    to_xdr::ToXdr,
};
use crate::bridge::exchange::Effect;

/// Runs every kind of effect.
pub struct Effects {
    /// Runs those of the direction XDR to Direct.
    pub to_direct: Arc<ToDirect>,
    /// Runs those of the direction Direct to XDR; `None` where no mail is received.
    pub to_xdr: Option<Arc<ToXdr>>,
    /// Tells outcomes.
    pub reports: Arc<Reports>,
    /// Exchanges, outbox, audit.
    pub store: Arc<dyn Exchanges>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl RunEffect for Effects {
    async fn prepare(&self, claim: &Claim) -> Result<Prepared, StoreError> {
        match &self.to_xdr {
            Some(to_xdr) => to_xdr.before_hand_over(claim).await,
            None => Ok(Prepared::Ready),
        }
    }

    async fn run(&self, claim: &Claim) -> Result<(), StoreError> {
        match &claim.effect {
            Effect::LookUp { .. } | Effect::Seal { .. } | Effect::Send { .. } => {
                self.to_direct.deliver(claim).await
            }
            Effect::ReportOutcome { .. } | Effect::PostStatus { .. } => {
                self.reports.deliver(claim).await
            }
            Effect::DeadlineQueue | Effect::DeadlineTp | Effect::DeadlineTd => {
                deadlines::passed(&self.store, self.clock.as_ref(), claim).await
            }
            Effect::RemoveBodies => deadlines::remove_bodies(&self.store, claim).await,
            Effect::Open | Effect::Post { .. } | Effect::SendMdn { .. } => match &self.to_xdr {
                Some(to_xdr) => to_xdr.deliver(claim).await,
                // Mail of an earlier configuration: it waits for the next one that has an endpoint.
                None => Err(StoreError::Failed(
                    "the configuration has no [[endpoint]] any more".into(),
                )),
            },
        }
    }
}
