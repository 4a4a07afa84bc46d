//! The table `outbox`: effects that wait, and effects that are leased to a worker.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::{
    super::outbox_row::{Row, Terms, lease_end, outstanding},
    failure::{UnitError, read_failed},
    queue::Change,
    row_id::RowId,
};
use crate::{
    flows::ports::{Claim, Outstanding, Reschedule, StoreError},
    formats::ids::ExchangeId,
};

pub(super) const INSERT: &str = "INSERT INTO outbox (exchange, effect, state, next_at, attempts, owner) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
pub(super) const LAPSE: &str =
    "UPDATE outbox SET state = 0, owner = NULL WHERE state = 1 AND next_at <= ?1";
// A writer alone claims here.
pub(super) const CLAIM: &str = "UPDATE outbox \
     SET state = 1, owner = ?2, next_at = ?3, attempts = attempts + 1 \
     WHERE id IN (SELECT id FROM outbox WHERE state = 0 AND next_at <= ?1 \
                  ORDER BY next_at, id LIMIT ?4) \
     RETURNING id, exchange, effect, attempts - 1";
// attempts tells this lease from every other one of the same effect.
pub(super) const COMPLETE: &str =
    "DELETE FROM outbox WHERE id = ?1 AND state = 1 AND owner = ?2 AND attempts = ?3";
pub(super) const GIVE_BACK: &str = "UPDATE outbox SET state = 0, owner = NULL, next_at = ?4 \
     WHERE id = ?1 AND state = 1 AND owner = ?2 AND attempts = ?3";
pub(super) const HELD: &str =
    "SELECT 1 FROM outbox WHERE id = ?1 AND state = 1 AND owner = ?2 AND attempts = ?3";
pub(super) const RELEASE_ALL: &str =
    "UPDATE outbox SET state = 0, owner = NULL, next_at = ?1 WHERE state = 1";
pub(super) const RESCHEDULE: &str =
    "UPDATE outbox SET next_at = ?3 WHERE id = ?1 AND exchange = ?2 AND state = 0";
pub(super) const OF_EXCHANGE: &str = "SELECT id, effect, next_at, state = 1 FROM outbox \
     WHERE exchange = ?1 ORDER BY next_at, id";
pub(super) const FIRST_WAITING: &str = "SELECT MIN(next_at) FROM outbox WHERE state = 0";

const WAITS: i64 = 0;
const LEASED: i64 = 1;

impl Row {
    /// Adds the effect. One that is due `now` is leased to `owner` at once while `terms` have room: work that follows
    /// a commit needs no second one to be claimed by.
    pub(super) fn insert(
        self,
        connection: &Connection,
        owner: &str,
        now: Timestamp,
        terms: &mut Terms,
        changes: &mut Vec<Change>,
    ) -> Result<Option<Claim>, UnitError> {
        let lease = (terms.room > 0 && self.due <= now)
            .then(|| lease_end(now, terms.lease))
            .transpose()?;
        let next_at = lease.unwrap_or(self.due).as_microsecond();
        let (state, attempts) = match lease {
            Some(_) => (LEASED, 1),
            None => (WAITS, 0),
        };
        connection.prepare_cached(INSERT)?.execute(params![
            RowId(self.exchange.0),
            self.text,
            state,
            next_at,
            attempts,
            lease.map(|_| owner),
        ])?;
        let Some(leased_until) = lease else {
            changes.push(Change::Waits(next_at));
            return Ok(None);
        };
        terms.room -= 1;
        let id = connection.last_insert_rowid();
        changes.push(Change::Leased {
            until: next_at,
            row: id,
        });
        Ok(Some(Claim {
            id,
            exchange: self.exchange,
            effect: self.effect,
            attempts: 0,
            leased_until,
        }))
    }
}

/// Leases up to `limit` due effects to `owner`. Lapsed leases are due.
pub(super) fn claim(
    connection: &Connection,
    owner: &str,
    now: Timestamp,
    lease: Duration,
    limit: usize,
    changes: &mut Vec<Change>,
) -> Result<Vec<Claim>, UnitError> {
    let leased_until = lease_end(now, lease)?;
    let until = leased_until.as_microsecond();
    let now = now.as_microsecond();
    connection.prepare_cached(LAPSE)?.execute([now])?;
    changes.push(Change::Lapsed(now));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(CLAIM)?;
    let mut rows: Vec<(i64, RowId, String, u32)> = statement
        .query_map(params![now, owner, until, limit], |row| row.try_into())?
        .collect::<Result<_, _>>()?;
    rows.sort_unstable_by_key(|(id, ..)| *id);
    let mut claims = Vec::with_capacity(rows.len());
    for (id, exchange, effect, attempts) in rows {
        changes.push(Change::Leased { until, row: id });
        let exchange = ExchangeId(exchange.0);
        let Ok(effect) = serde_json::from_str(&effect) else {
            // Left leased: it comes again, and stops none of the others.
            crate::flows::measures::count_alarm("store");
            tracing::error!(
                exchange.id = %exchange,
                alarm = "store",
                "an effect of exchange {exchange} is not of this release's form"
            );
            continue;
        };
        claims.push(Claim {
            id,
            exchange,
            effect,
            attempts,
            leased_until,
        });
    }
    changes.push(Change::Looked(first_waiting(connection)?));
    Ok(claims)
}

/// Removes a claimed effect: it is done. Refused if the lease is another one's by now.
pub(super) fn complete(
    connection: &Connection,
    owner: &str,
    claim: &Claim,
    changes: &mut Vec<Change>,
) -> Result<(), UnitError> {
    let attempts = i64::from(claim.attempts) + 1;
    let deleted = connection
        .prepare_cached(COMPLETE)?
        .execute(params![claim.id, owner, attempts])?;
    changes.push(ended(claim));
    held(deleted == 1)
}

/// Whether a claim still stands. Refused if the lease is another one's by now.
pub(super) fn check_held(
    connection: &Connection,
    owner: &str,
    claim: &Claim,
) -> Result<(), UnitError> {
    let attempts = i64::from(claim.attempts) + 1;
    let mut statement = connection.prepare_cached(HELD)?;
    held(statement.exists(params![claim.id, owner, attempts])?)
}

/// Lets a claimed effect wait until `at`. Refused if the lease is another one's by now.
pub(super) fn give_back(
    connection: &Connection,
    owner: &str,
    claim: &Claim,
    at: Timestamp,
    changes: &mut Vec<Change>,
) -> Result<(), UnitError> {
    let attempts = i64::from(claim.attempts) + 1;
    let at = at.as_microsecond();
    let updated = connection
        .prepare_cached(GIVE_BACK)?
        .execute(params![claim.id, owner, attempts, at])?;
    changes.extend([ended(claim), Change::Waits(at)]);
    held(updated == 1)
}

/// Gives an effect that waits another time. Refused if it does not wait any more.
pub(super) fn reschedule(
    connection: &Connection,
    to: &Reschedule,
    changes: &mut Vec<Change>,
) -> Result<(), UnitError> {
    let at = to.at.as_microsecond();
    let updated =
        connection
            .prepare_cached(RESCHEDULE)?
            .execute(params![to.id, RowId(to.exchange.0), at])?;
    changes.push(Change::Waits(at));
    if updated == 1 {
        Ok(())
    } else {
        Err(UnitError::conflict(to.exchange))
    }
}

/// What is in the outbox for one exchange. What is not of this release's form is left out: a claim tells of it.
pub(super) fn of_exchange(
    connection: &Connection,
    exchange: ExchangeId,
) -> Result<Vec<Outstanding>, StoreError> {
    let rows: Vec<(i64, String, i64, bool)> = connection
        .prepare_cached(OF_EXCHANGE)
        .and_then(|mut statement| {
            statement
                .query_map([RowId(exchange.0)], |row| row.try_into())?
                .collect()
        })
        .map_err(read_failed)?;
    let rows = rows.into_iter();
    rows.filter_map(|(id, effect, at, is_leased)| outstanding(id, &effect, at, is_leased))
        .collect()
}

fn ended(claim: &Claim) -> Change {
    Change::Ended {
        until: claim.leased_until.as_microsecond(),
        row: claim.id,
    }
}

/// Ends every lease: whoever held one is gone. Only for a store that one process has for itself.
pub(super) fn release_all(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection.execute(RELEASE_ALL, [now.as_microsecond()])?;
    Ok(())
}

/// When the first effect that is not leased becomes due.
pub(super) fn first_waiting(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(FIRST_WAITING)?
        .query_row([], |row| row.get(0))
}

fn held(is_held: bool) -> Result<(), UnitError> {
    if is_held {
        Ok(())
    } else {
        Err(UnitError::Refused(StoreError::LeaseLost))
    }
}
