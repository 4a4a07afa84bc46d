//! The table `outbox`: effects that wait, and effects that are leased to a worker.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool};

use super::{
    failure::{UnitError, failed, read_failed},
    row_id::RowId,
    writer::MAX_ROWS_AT_ONCE,
};
use crate::{
    bridge::exchange::Scheduled,
    flows::ports::{Claim, StoreError},
    formats::ids::ExchangeId,
};

pub(super) const INSERT: &str = "INSERT INTO outbox (exchange, effect, next_at) ";
pub(super) const LAPSE: &str =
    "UPDATE outbox SET state = 0, owner = NULL WHERE state = 1 AND next_at <= $1";
// A writer alone claims here; PostgreSQL adds FOR UPDATE SKIP LOCKED to the inner SELECT.
pub(super) const CLAIM: &str = "UPDATE outbox \
     SET state = 1, owner = $2, next_at = $3, attempts = attempts + 1 \
     WHERE id IN (SELECT id FROM outbox WHERE state = 0 AND next_at <= $1 \
                  ORDER BY next_at, id LIMIT $4) \
     RETURNING id, exchange, effect, attempts - 1";
// attempts tells this lease from every other one of the same effect.
pub(super) const COMPLETE: &str =
    "DELETE FROM outbox WHERE id = $1 AND state = 1 AND owner = $2 AND attempts = $3";
pub(super) const GIVE_BACK: &str = "UPDATE outbox SET state = 0, owner = NULL, next_at = $4 \
     WHERE id = $1 AND state = 1 AND owner = $2 AND attempts = $3";
pub(super) const RELEASE_ALL: &str =
    "UPDATE outbox SET state = 0, owner = NULL, next_at = $1 WHERE state = 1";
// One look into the index for each state; MIN over both at once would read them whole.
pub(super) const NEXT_DUE: &str = "SELECT (SELECT MIN(next_at) FROM outbox WHERE state = 0), \
            (SELECT MIN(next_at) FROM outbox WHERE state = 1)";

/// An effect as its row has it.
pub(super) struct Row {
    exchange: ExchangeId,
    effect: String,
    next_at: i64,
}

impl Row {
    pub(super) fn of(exchange: ExchangeId, scheduled: &Scheduled) -> Result<Self, StoreError> {
        Ok(Self {
            exchange,
            effect: serde_json::to_string(&scheduled.effect).map_err(failed)?,
            next_at: scheduled.at.as_microsecond(),
        })
    }
}

/// Adds effects.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    rows: &[Row],
) -> Result<(), UnitError> {
    for rows in rows.chunks(MAX_ROWS_AT_ONCE) {
        QueryBuilder::<Sqlite>::new(INSERT)
            .push_values(rows, |mut columns, row| {
                columns
                    .push_bind(RowId(row.exchange.0))
                    .push_bind(row.effect.clone())
                    .push_bind(row.next_at);
            })
            .build()
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Leases up to `limit` due effects to `owner`. Lapsed leases are due.
pub(super) async fn claim(
    connection: &mut SqliteConnection,
    owner: &str,
    now: Timestamp,
    lease: Duration,
    limit: usize,
) -> Result<Vec<Claim>, UnitError> {
    let refused = |error: jiff::Error| UnitError::Refused(failed(error));
    let leased_until = now.checked_add(lease).map_err(refused)?.as_microsecond();
    let leased_until = Timestamp::from_microsecond(leased_until).map_err(refused)?;
    let now = now.as_microsecond();
    sqlx::query(LAPSE)
        .bind(now)
        .execute(&mut *connection)
        .await?;
    let mut rows: Vec<(i64, RowId, String, u32)> = sqlx::query_as(CLAIM)
        .bind(now)
        .bind(owner)
        .bind(leased_until.as_microsecond())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    rows.sort_unstable_by_key(|(id, ..)| *id);
    let mut claims = Vec::with_capacity(rows.len());
    for (id, exchange, effect, attempts) in rows {
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
    Ok(claims)
}

/// Removes a claimed effect: it is done. Refused if the lease is another one's by now.
pub(super) async fn complete(
    connection: &mut SqliteConnection,
    owner: &str,
    claim: &Claim,
) -> Result<(), UnitError> {
    let deleted = sqlx::query(COMPLETE)
        .bind(claim.id)
        .bind(owner)
        .bind(i64::from(claim.attempts) + 1)
        .execute(connection)
        .await?;
    held(deleted.rows_affected() == 1)
}

/// Lets a claimed effect wait until `at`. Refused if the lease is another one's by now.
pub(super) async fn give_back(
    connection: &mut SqliteConnection,
    owner: &str,
    claim: &Claim,
    at: Timestamp,
) -> Result<(), UnitError> {
    let updated = sqlx::query(GIVE_BACK)
        .bind(claim.id)
        .bind(owner)
        .bind(i64::from(claim.attempts) + 1)
        .bind(at.as_microsecond())
        .execute(connection)
        .await?;
    held(updated.rows_affected() == 1)
}

/// Ends every lease: whoever held one is gone. Only for a store that one process has for itself.
pub(super) async fn release_all(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(RELEASE_ALL)
        .bind(now.as_microsecond())
        .execute(connection)
        .await?;
    Ok(())
}

/// When the next effect can be claimed.
pub(super) async fn next_due(pool: &SqlitePool) -> Result<Option<Timestamp>, StoreError> {
    let (waiting, leased): (Option<i64>, Option<i64>) = sqlx::query_as(NEXT_DUE)
        .fetch_one(pool)
        .await
        .map_err(read_failed)?;
    let earliest = waiting.into_iter().chain(leased).min();
    earliest
        .map(Timestamp::from_microsecond)
        .transpose()
        .map_err(failed)
}

fn held(is_held: bool) -> Result<(), UnitError> {
    if is_held {
        Ok(())
    } else {
        Err(UnitError::Refused(StoreError::LeaseLost))
    }
}
