//! Effects on their way into the outbox, and those that were leased as they were committed.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

use super::failure::{UnitError, failed};
use crate::{
    bridge::exchange::{Effect, Scheduled},
    flows::ports::{Claim, Outstanding, StoreError},
    formats::ids::ExchangeId,
};

/// An effect on its way into its row.
pub(super) struct Row {
    pub(super) exchange: ExchangeId,
    pub(super) effect: Effect,
    pub(super) text: String,
    pub(super) due: Timestamp,
}

impl Row {
    pub(super) fn of(exchange: ExchangeId, scheduled: Scheduled) -> Result<Self, StoreError> {
        Ok(Self {
            exchange,
            text: serde_json::to_string(&scheduled.effect).map_err(failed)?,
            effect: scheduled.effect,
            due: scheduled.at,
        })
    }
}

/// A row as operators see it; `None` if its effect is not of this release's form.
pub(super) fn outstanding(
    id: i64,
    effect: &str,
    at: i64,
    is_under_way: bool,
) -> Option<Result<Outstanding, StoreError>> {
    let effect = serde_json::from_str(effect).ok()?;
    let due = Timestamp::from_microsecond(at).map_err(failed);
    Some(due.map(|due| Outstanding {
        id,
        effect,
        due,
        is_under_way,
    }))
}

/// When a lease from `now` on ends, as a row can tell it.
pub(super) fn lease_end(now: Timestamp, lease: Duration) -> Result<Timestamp, UnitError> {
    let refused = |error: jiff::Error| UnitError::Refused(failed(error));
    let end = now.checked_add(lease).map_err(refused)?;
    Timestamp::from_microsecond(end.as_microsecond()).map_err(refused)
}

/// How effects are leased as they are committed.
#[derive(Clone, Copy, Default)]
pub(super) struct Terms {
    /// For how long.
    pub(super) lease: Duration,
    /// How many may wait to be taken.
    pub(super) room: usize,
}

/// Effects that were leased as they were committed; nobody has taken them yet.
#[derive(Default)]
pub(super) struct Ready {
    terms: Terms,
    claims: VecDeque<Claim>,
}

impl Ready {
    /// Sets how effects are leased as they are committed.
    pub(super) fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// The terms, with the room that is left.
    pub(super) fn terms(&self) -> Terms {
        Terms {
            room: self.terms.room.saturating_sub(self.claims.len()),
            ..self.terms
        }
    }

    /// These were leased by a transaction that is committed.
    pub(super) fn extend(&mut self, claims: Vec<Claim>) {
        self.claims.extend(claims);
    }

    /// Up to `limit` of them. One whose lease has lapsed meanwhile is left to the database, which gives it to whoever
    /// claims next.
    pub(super) fn take(&mut self, now: Timestamp, limit: usize) -> Vec<Claim> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(claim) = self.claims.pop_front()
        {
            if claim.leased_until > now {
                taken.push(claim);
            }
        }
        taken
    }
}
