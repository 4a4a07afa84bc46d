//! The same submission again (XDR-50): a client that did not hear our answer repeats its request, and must not cause a
//! second mail.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    bridge::exchange::{Exchange, Origin, Recipient},
    flows::{
        keyed::KeyedPlaces,
        ports::{Exchanges, LookupKey, StoreError},
    },
    formats::ids::{DirectAddress, ExchangeId},
};

/// Lets one request at a time decide about one submission, known by its digest: a repetition that overtakes the first
/// answer waits for it, and does nothing twice. It spares work and is no safeguard: another node does not know of it,
/// so the commit itself refuses what was decided without the other.
pub type SubmissionsUnderWay = KeyedPlaces<[u8; 32]>;

/// What earlier submissions say about this one.
#[derive(Default)]
pub(super) struct Earlier {
    /// Exchanges of the same submission, oldest first.
    same: Vec<Exchange>,
    /// Every exchange of this partner that carries this submission, whenever it was.
    pub(super) found: Vec<ExchangeId>,
    /// Whether its wsa:MessageID or its SubmissionSet.uniqueId was used for another submission.
    pub(super) id_was_used_otherwise: bool,
    /// Whether its wsa:MessageID was.
    pub(super) message_id_was_used_otherwise: bool,
}

impl Earlier {
    /// Looks for earlier exchanges of this partner with one of the keys: every one of the same submission, and some of
    /// those that share an id with it.
    pub(super) async fn find(
        store: &dyn Exchanges,
        keys: &[LookupKey],
        digest: &[u8; 32],
        now: Timestamp,
        window: Duration,
    ) -> Result<Self, StoreError> {
        let mut earlier = Self::default();
        let is_recent = |exchange: &Exchange| {
            let final_at = exchange.final_at;
            final_at.is_none_or(|at| is_within(at, now, window))
        };
        for key in keys {
            let found = store.find(key).await?;
            if matches!(key, LookupKey::Submission { .. }) {
                earlier.found.clone_from(&found);
            }
            for id in found {
                if earlier.same.iter().any(|exchange| exchange.id == id) {
                    continue;
                }
                let Some(found) = store.load(id).await? else {
                    continue;
                };
                let Origin::Xdr {
                    digest: of_earlier, ..
                } = &found.exchange.origin
                else {
                    continue;
                };
                if !is_recent(&found.exchange) {
                    continue;
                }
                if of_earlier == digest {
                    earlier.same.push(found.exchange);
                } else {
                    earlier.id_was_used_otherwise = true;
                    earlier.message_id_was_used_otherwise |=
                        matches!(key, LookupKey::SoapMessageId { .. });
                }
            }
        }
        earlier.same.sort_by_key(|exchange| exchange.accepted_at);
        Ok(earlier)
    }

    /// The recipient as an earlier exchange holds it, if it must not be sent to again: it is open, or has the message.
    pub(super) fn still_holds(&self, address: &DirectAddress) -> Option<&Recipient> {
        self.same.iter().rev().find_map(|exchange| {
            let recipient = exchange.recipient(address)?;
            let has_failed = recipient
                .outcome
                .as_ref()
                .is_some_and(|outcome| outcome.failure.is_some());
            (!has_failed).then_some(recipient)
        })
    }

    /// Whether an earlier exchange has this recipient.
    pub(super) fn names(&self, address: &DirectAddress) -> bool {
        let mut all = self.same.iter();
        all.any(|exchange| exchange.recipient(address).is_some())
    }

    /// The latest earlier exchange.
    pub(super) fn latest(&self) -> Option<ExchangeId> {
        self.same.last().map(|exchange| exchange.id)
    }
}

fn is_within(at: Timestamp, now: Timestamp, window: Duration) -> bool {
    Duration::try_from(now.duration_since(at)).map_or(true, |age| age <= window)
}
