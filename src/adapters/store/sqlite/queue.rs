//! What this process knows of the outbox without asking the database. It has the data directory for itself, so every
//! change of the outbox passes through its writer, and two questions need no transaction of their own: when the next
//! effect can be claimed, and what became due by the very commit that put it there.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::super::outbox_row::{Ready, Terms};
use crate::flows::ports::Claim;

/// The outbox as the last commit left it.
pub(super) struct Queue {
    state: Mutex<State>,
    /// Rung when effects were committed or given back.
    pub(super) due: Arc<Notify>,
}

struct State {
    ready: Ready,
    /// When the first effect that is not leased becomes due, in microseconds.
    waiting: Option<i64>,
    /// When each lease lapses, in microseconds, with its row.
    leased: BTreeSet<(i64, i64)>,
}

/// What a transaction does to the outbox; true once it is committed.
pub(super) enum Change {
    /// An effect waits until then.
    Waits(i64),
    /// A row is leased until then.
    Leased { until: i64, row: i64 },
    /// A row's lease until then is over: it is done, or given back.
    Ended { until: i64, row: i64 },
    /// Leases up to then were ended.
    Lapsed(i64),
    /// The database was asked what waits: this is the first.
    Looked(Option<i64>),
}

impl Queue {
    /// A queue without leases, whose first effect is due at `waiting`.
    pub(super) fn new(waiting: Option<i64>) -> Self {
        Self {
            state: Mutex::new(State {
                ready: Ready::default(),
                waiting,
                leased: BTreeSet::new(),
            }),
            due: Arc::default(),
        }
    }

    /// Sets how effects are leased as they are committed.
    pub(super) fn set_terms(&self, terms: Terms) {
        self.state().ready.set_terms(terms);
    }

    /// The terms, with the room that is left.
    pub(super) fn terms(&self) -> Terms {
        self.state().ready.terms()
    }

    /// A transaction is committed: these are its changes, and the effects that it leased.
    pub(super) fn committed(&self, changes: Vec<Change>, ready: Vec<Claim>) {
        let mut state = self.state();
        for change in changes {
            state.apply(change);
        }
        state.ready.extend(ready);
    }

    /// Up to `limit` effects that were leased as they were committed.
    pub(super) fn take(&self, now: Timestamp, limit: usize) -> Vec<Claim> {
        self.state().ready.take(now, limit)
    }

    /// When the next effect can be claimed, in microseconds.
    pub(super) fn next_due(&self) -> Option<i64> {
        let state = self.state();
        let lapse = state.leased.first().map(|(until, _)| *until);
        state.waiting.into_iter().chain(lapse).min()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one step: a panic elsewhere leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Waits(at) => {
                self.waiting = Some(self.waiting.map_or(at, |first| first.min(at)));
            }
            Change::Leased { until, row } => {
                self.leased.insert((until, row));
            }
            Change::Ended { until, row } => {
                self.leased.remove(&(until, row));
            }
            Change::Lapsed(now) => {
                self.leased = self.leased.split_off(&(now.saturating_add(1), i64::MIN));
            }
            Change::Looked(waiting) => self.waiting = waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{bridge::exchange::Effect, formats::ids::ExchangeId};

    fn claim(id: i64, until: i64) -> Claim {
        Claim {
            id,
            exchange: ExchangeId::random(),
            effect: Effect::RemoveBodies,
            attempts: 0,
            leased_until: Timestamp::from_microsecond(until).unwrap(),
        }
    }

    #[test]
    fn the_next_due_time_is_that_of_what_waits_or_of_a_lease_that_lapses() {
        let queue = Queue::new(Some(90));
        assert_eq!(queue.next_due(), Some(90));
        let leased = |until, row| Change::Leased { until, row };
        let changes = vec![Change::Waits(95), leased(50, 1), leased(50, 2)];
        queue.committed(changes, Vec::new());
        assert_eq!(queue.next_due(), Some(50));
        queue.committed(vec![Change::Ended { until: 50, row: 1 }], Vec::new());
        assert_eq!(queue.next_due(), Some(50), "the other lease");
        queue.committed(vec![Change::Lapsed(50)], Vec::new());
        assert_eq!(queue.next_due(), Some(90));
        queue.committed(vec![Change::Looked(None)], Vec::new());
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn what_is_ready_is_taken_once_in_its_order_and_not_after_its_lease() {
        let queue = Queue::new(None);
        let lease = Duration::from_secs(1);
        queue.set_terms(Terms { lease, room: 3 });
        queue.committed(Vec::new(), vec![claim(1, 10), claim(2, 99), claim(3, 99)]);
        assert_eq!(queue.terms().room, 0);
        let now = Timestamp::from_microsecond(10).unwrap();
        let ids = |claims: Vec<Claim>| -> Vec<i64> { claims.iter().map(|c| c.id).collect() };
        assert_eq!(ids(queue.take(now, 1)), [2]);
        assert_eq!(ids(queue.take(now, 9)), [3]);
        assert_eq!(queue.terms().room, 3);
    }
}
