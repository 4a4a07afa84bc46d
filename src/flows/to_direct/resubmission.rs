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
/// answer waits for it.
pub type SubmissionsUnderWay = KeyedPlaces<[u8; 32]>;

/// What earlier submissions say about this one.
#[derive(Default)]
pub(super) struct Earlier {
    /// Exchanges of the same submission, oldest first.
    same: Vec<Exchange>,
    /// Whether its wsa:MessageID or its SubmissionSet.uniqueId was used for another submission.
    pub(super) id_was_used_otherwise: bool,
    /// Whether its wsa:MessageID was.
    pub(super) message_id_was_used_otherwise: bool,
}

impl Earlier {
    /// Looks for earlier exchanges of this partner with one of the keys.
    pub(super) async fn find(
        store: &dyn Exchanges,
        keys: &[LookupKey],
        digest: &[u8; 32],
        now: Timestamp,
        window: Duration,
    ) -> Result<Self, StoreError> {
        let mut earlier = Self::default();
        let mut seen: Vec<ExchangeId> = Vec::new();
        for key in keys {
            for id in store.find(key).await? {
                let is_same_seen = seen.contains(&id);
                let Some(found) = store.load(id).await? else {
                    continue;
                };
                let exchange = found.exchange;
                let is_recent = exchange
                    .final_at
                    .is_none_or(|at| is_within(at, now, window));
                let Origin::Xdr {
                    digest: of_earlier, ..
                } = &exchange.origin
                else {
                    continue;
                };
                if !is_recent {
                    continue;
                }
                if of_earlier != digest {
                    earlier.id_was_used_otherwise = true;
                    earlier.message_id_was_used_otherwise |=
                        matches!(key, LookupKey::SoapMessageId { .. });
                } else if !is_same_seen {
                    seen.push(id);
                    earlier.same.push(exchange);
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

    /// The latest earlier exchange.
    pub(super) fn latest(&self) -> Option<ExchangeId> {
        self.same.last().map(|exchange| exchange.id)
    }
}

fn is_within(at: Timestamp, now: Timestamp, window: Duration) -> bool {
    Duration::try_from(now.duration_since(at)).map_or(true, |age| age <= window)
}
