//! A certificate that was not found in time is looked for again, until the queue's lifetime ends.

use uuid::Uuid;

use super::{ToDirect, certificates::Decision, record::resolved};
use crate::{
    bridge::exchange::{Event, EventKind, Leg, Origin, Reason},
    flows::{
        outbox,
        ports::{Claim, StoreError},
        transition::{self, Extras},
    },
    formats::{
        audit::AuditRecord,
        ids::{LegId, MessageId},
    },
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
            return self.finish_look_up(claim, kind, Vec::new()).await;
        };
        let address = recipient.address.clone();
        let now = self.clock.now();
        let Some(_place) = self.look_ups.try_enter(address.domain(), now) else {
            let at = now + outbox::delay(claim.attempts);
            return self.store.give_back(claim, at).await;
        };
        let limit = self.settings.background_lookup;
        let decision = self.decide(&address, &own, limit).await;
        let audit = match &decision {
            // Where it was found, as the audit has it of those that are found at accept.
            Decision::Found { .. } => {
                let now = self.clock.now();
                vec![resolved(now, claim.exchange, &address, &decision)]
            }
            Decision::Refused(..) | Decision::Pending(_) => Vec::new(),
        };
        let kind = match decision {
            Decision::Found { certificate, .. } => {
                let message_id = MessageId::from_uuid(Uuid::new_v4(), from.domain());
                let policy = self.destinations.policy_of(&address).clone();
                let leg = Leg::mail(LegId::random(), message_id, policy);
                EventKind::CertificateFound {
                    recipient: address,
                    certificate,
                    leg,
                }
            }
            Decision::Refused(reason, _) => EventKind::RecipientRefused {
                recipient: address,
                reason,
            },
            Decision::Pending(reason) => EventKind::LookUpDeferred {
                recipient: address,
                reason,
                attempt,
                retry_at: self.next_attempt(&exchange, attempt, self.clock.now()),
            },
        };
        self.finish_look_up(claim, kind, audit).await
    }

    async fn finish_look_up(
        &self,
        claim: &Claim,
        kind: EventKind,
        audit: Vec<AuditRecord>,
    ) -> Result<(), StoreError> {
        let event = Event {
            at: self.clock.now(),
            kind,
        };
        let extras = Extras {
            done: Some(claim.clone()),
            audit,
            ..Extras::default()
        };
        transition::apply(&self.store, claim.exchange, &[event], extras).await?;
        Ok(())
    }
}
