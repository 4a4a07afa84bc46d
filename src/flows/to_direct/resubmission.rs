//! The same submission again (XDR-50): a client that did not hear our answer repeats its request, and must not cause a
//! second mail.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::OwnedMutexGuard;

use crate::{
    bridge::exchange::{Exchange, Origin, Recipient},
    flows::ports::{Exchanges, LookupKey, StoreError},
    formats::ids::{DirectAddress, ExchangeId},
};

/// One lock for each submission that is being decided, by digest.
type Locks = HashMap<[u8; 32], Arc<tokio::sync::Mutex<()>>>;

/// Lets one request at a time decide about one submission: a repetition that overtakes the first answer waits for it.
#[derive(Clone, Default)]
pub struct SubmissionsUnderWay {
    locks: Arc<Mutex<Locks>>,
}

/// Held while a submission is being decided.
pub(super) struct UnderWay {
    locks: SubmissionsUnderWay,
    digest: [u8; 32],
    guard: Option<OwnedMutexGuard<()>>,
}

impl SubmissionsUnderWay {
    /// Waits until nobody else decides about the submission with this digest.
    pub(super) async fn enter(&self, digest: [u8; 32]) -> UnderWay {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(digest).or_default())
        };
        let guard = Some(lock.lock_owned().await);
        UnderWay {
            locks: self.clone(),
            digest,
            guard,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.guard = None;
        let mut locks = self
            .locks
            .locks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The map's own reference is the last one: nobody waits.
        if locks
            .get(&self.digest)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&self.digest);
        }
    }
}

/// What earlier submissions say about this one.
#[derive(Default)]
pub(super) struct Earlier {
    /// Exchanges of the same submission, oldest first.
    same: Vec<Exchange>,
    /// Whether one of the ids was used for another submission.
    pub(super) id_was_used_otherwise: bool,
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
        let mut ids: Vec<ExchangeId> = Vec::new();
        for key in keys {
            for id in store.find(key).await? {
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
        }
        let mut earlier = Self::default();
        for id in ids {
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
            match (is_recent, of_earlier == digest) {
                (false, _) => {}
                (true, true) => earlier.same.push(exchange),
                (true, false) => earlier.id_was_used_otherwise = true,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_submission_that_is_being_decided_holds_up_its_repetition_and_nothing_else() {
        let under_way = SubmissionsUnderWay::default();
        let first = under_way.enter([1; 32]).await;
        let _other = under_way.enter([2; 32]).await;
        let repetition = tokio::spawn({
            let under_way = under_way.clone();
            async move { under_way.enter([1; 32]).await }
        });
        tokio::task::yield_now().await;
        assert!(!repetition.is_finished());
        drop(first);
        drop(repetition.await.unwrap());
        assert!(!under_way.locks.lock().unwrap().contains_key(&[1; 32]));
    }
}
