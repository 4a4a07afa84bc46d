//! Exchanges as the writer last committed them: the steps of a delivery follow one another within seconds, and each
//! would otherwise read, decrypt and parse what the one before it wrote. This process alone writes, so what is here is
//! what the database holds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{flows::ports::VersionedExchange, formats::ids::ExchangeId};

/// How many are kept. With [`MAX_SEALED_BYTES`], 8 MiB at the most and some 1 MiB as a rule.
const KEPT: usize = 256;
/// An exchange that takes more octets in its row is not kept.
const MAX_SEALED_BYTES: usize = 32 * 1024;

/// The exchanges that were committed last.
#[derive(Default)]
pub(super) struct Recent {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    exchanges: HashMap<ExchangeId, VersionedExchange>,
    /// Oldest first.
    order: VecDeque<ExchangeId>,
}

impl Recent {
    pub(super) fn get(&self, id: ExchangeId) -> Option<VersionedExchange> {
        self.state().exchanges.get(&id).cloned()
    }

    /// An exchange was committed, and its row has `sealed_bytes`.
    pub(super) fn put(&self, committed: VersionedExchange, sealed_bytes: usize) {
        let id = committed.exchange.id;
        let mut state = self.state();
        if sealed_bytes > MAX_SEALED_BYTES {
            state.remove(id);
            return;
        }
        if state.exchanges.insert(id, committed).is_none() {
            state.order.push_back(id);
        }
        if state.order.len() > KEPT
            && let Some(oldest) = state.order.pop_front()
        {
            state.exchanges.remove(&oldest);
        }
    }

    /// An exchange was removed.
    pub(super) fn remove(&self, id: ExchangeId) {
        self.state().remove(id);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere may leave an id in one place and not in the other: it is then read from the database, or
        // forgotten in its turn.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, id: ExchangeId) {
        if self.exchanges.remove(&id).is_some() {
            self.order.retain(|known| *known != id);
        }
    }
}
