//! What this node knows of the outbox without asking the database: what was leased by the very commit that put it there.
//! Everything else any node may change.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::super::outbox_row::{Ready, Terms};
use crate::flows::ports::Claim;

#[derive(Default)]
pub(super) struct Queue {
    ready: Mutex<Ready>,
}

impl Queue {
    pub(super) fn set_terms(&self, terms: Terms) {
        self.ready().set_terms(terms);
    }

    pub(super) fn terms(&self) -> Terms {
        self.ready().terms()
    }

    pub(super) fn extend(&self, claims: Vec<Claim>) {
        self.ready().extend(claims);
    }

    pub(super) fn take(&self, now: Timestamp, limit: usize) -> Vec<Claim> {
        self.ready().take(now, limit)
    }

    fn ready(&self) -> MutexGuard<'_, Ready> {
        // Every change is one step: a panic elsewhere leaves it whole.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
