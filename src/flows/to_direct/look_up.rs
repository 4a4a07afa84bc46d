//! A certificate that was not found in time is looked for again, until the queue's lifetime ends.

use uuid::Uuid;

use super::{ToDirect, certificates::Decision};
use crate::{
    bridge::exchange::{Event, EventKind, Leg, Origin, Reason},
    flows::{
        ports::{Claim, StoreError},
        transition::{self, Extras},
    },
    formats::ids::{LegId, MessageId},
};

impl ToDirect {
    /// Runs `LookUp`: one attempt for one recipient.
    pub(super) async fn look_up(
        &self,
        claim: &Claim,
        recipient: usize,
        attempt: u32,
    ) -> Result<(), StoreError> {
        let Some(loaded) = self.store.load(claim.exchange).await? else {
            return self.drop_claim(claim).await;
        };
        let exchange = loaded.exchange;
        let (Some(recipient), Origin::Xdr { from, .. }) =
            (exchange.recipients.get(recipient), &exchange.origin)
        else {
            return self.drop_claim(claim).await;
        };
        if recipient.outcome.is_some() || !recipient.legs.is_empty() {
            return self.drop_claim(claim).await;
        }
        let Some(own) = self.own_domains.find(from.domain()) else {
            let kind = EventKind::RecipientRefused {
                recipient: recipient.address.clone(),
                reason: Reason::Internal,
            };
            return self.finish_look_up(claim, kind).await;
        };
        let limit = self.settings.background_lookup;
        let address = recipient.address.clone();
        match self.decide(&address, &own, limit).await {
            Decision::Found { certificate, .. } => {
                let message_id = MessageId::from_uuid(Uuid::new_v4(), from.domain());
                let policy = self.destinations.policy_of(&address).clone();
                let leg = Leg::mail(LegId::random(), message_id, policy);
                let kind = EventKind::CertificateFound {
                    recipient: address,
                    certificate,
                    leg,
                };
                self.finish_look_up(claim, kind).await
            }
            Decision::Refused(reason) => {
                let kind = EventKind::RecipientRefused {
                    recipient: address,
                    reason,
                };
                self.finish_look_up(claim, kind).await
            }
            Decision::Pending(reason) => {
                let retry_at = self.next_attempt(&exchange, attempt, self.clock.now());
                let kind = EventKind::LookUpDeferred {
                    recipient: address,
                    reason,
                    attempt,
                    retry_at,
                };
                self.finish_look_up(claim, kind).await
            }
        }
    }

    async fn finish_look_up(&self, claim: &Claim, kind: EventKind) -> Result<(), StoreError> {
        let event = Event {
            at: self.clock.now(),
            kind,
        };
        let extras = Extras {
            done: Some(claim.clone()),
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, &[event], extras).await?;
        Ok(())
    }
}
