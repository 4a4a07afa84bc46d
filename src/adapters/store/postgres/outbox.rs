//! The table `outbox`: effects that wait, and effects that are leased to a node.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    super::{
        failure::{UnitError, failed},
        outbox_row::{lease_end, outstanding},
    },
    connection::{Pool, Values},
};
use crate::{
    flows::ports::{Claim, Outstanding, StoreError},
    formats::ids::ExchangeId,
};

/// Ids are given in the order of the arrays: a sort comes before what is computed for each row.
pub(super) const INSERT: &str = "INSERT INTO outbox (exchange, effect, next_at, attempts, owner) \
     SELECT exchange, effect, next_at, attempts, owner \
     FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::integer[], $5::text[]) \
     WITH ORDINALITY AS new (exchange, effect, next_at, attempts, owner, place) ORDER BY place \
     RETURNING id, exchange";
/// What another node claims at this moment is left to it. An array is looked up by the index, whatever the planner
/// believes of its length. Nothing is claimed by a node whose tenure ($5) is over: its row is gone or another's, and
/// whoever ends a tenure waits for the lock on it and so finds every lease of it. It is locked only when something is
/// due: a lock is a write.
pub(super) const CLAIM: &str = "WITH tenure AS MATERIALIZED ( \
         SELECT 1 FROM node WHERE name = $2 \
         AND (extract(epoch FROM started_at) * 1000000)::bigint = $5 \
         AND (SELECT next_at FROM outbox ORDER BY next_at, id LIMIT 1) <= $1 FOR KEY SHARE) \
     UPDATE outbox SET owner = $2, next_at = $3, attempts = attempts + 1 \
     WHERE EXISTS (SELECT FROM tenure) \
     AND id = ANY (ARRAY (SELECT id FROM outbox WHERE next_at <= $1 \
                          ORDER BY next_at, id LIMIT $4 FOR UPDATE SKIP LOCKED)) \
     RETURNING id, exchange, effect, attempts - 1";
/// In a transaction that leases: as in a claim. Its first statement, since whoever ends a tenure takes the node's row
/// before those of the outbox.
pub(super) const TENURE: &str = "SELECT 1 FROM node WHERE name = $1 \
     AND (extract(epoch FROM started_at) * 1000000)::bigint = $2 FOR KEY SHARE";
const HAS_TENURE: &str = "SELECT 1 FROM node WHERE name = $1 \
     AND (extract(epoch FROM started_at) * 1000000)::bigint = $2";
// attempts tells this lease from every other one of the same effect. IS NOT DISTINCT FROM is no condition for an index:
// the row is found by its id and not among all that the node has leased.
pub(super) const COMPLETE: &str = "DELETE FROM outbox \
     USING unnest($1::bigint[], $2::integer[]) AS done (id, attempts) \
     WHERE outbox.id = done.id AND outbox.owner IS NOT DISTINCT FROM $3 AND outbox.attempts = done.attempts";
const HELD: &str = "SELECT 1 FROM outbox \
     WHERE id = $1 AND owner IS NOT DISTINCT FROM $2 AND attempts = $3";
/// In the transaction of a unit: nobody can claim the row until it is committed.
pub(super) const HOLD: &str = "SELECT outbox.id \
     FROM unnest($1::bigint[], $2::integer[]) AS held (id, attempts) JOIN outbox USING (id) \
     WHERE outbox.owner IS NOT DISTINCT FROM $3 AND outbox.attempts = held.attempts FOR UPDATE OF outbox";
pub(super) const GIVE_BACK: &str = "UPDATE outbox SET owner = NULL, next_at = $4 \
     WHERE id = $1 AND owner IS NOT DISTINCT FROM $2 AND attempts = $3";
/// What is leased is left out.
pub(super) const RESCHEDULE: &str = "UPDATE outbox SET next_at = new.at \
     FROM unnest($1::bigint[], $2::uuid[], $3::bigint[]) AS new (id, exchange, at) \
     WHERE outbox.id = new.id AND outbox.exchange = new.exchange AND outbox.owner IS NULL";
pub(super) const OF_EXCHANGE: &str = "SELECT id, effect, next_at, owner IS NOT NULL FROM outbox \
     WHERE exchange = $1 ORDER BY next_at, id";
pub(super) const RELEASE_ALL: &str =
    "UPDATE outbox SET owner = NULL, next_at = LEAST(next_at, $2) WHERE owner = $1";
pub(super) const FIRST: &str = "SELECT next_at FROM outbox ORDER BY next_at, id LIMIT 1";

/// Why a node leases nothing.
pub(super) const NO_TENURE: &str = "the node has lost its place among the nodes";

/// Who claims.
#[derive(Clone, Copy)]
pub(super) struct Claimant<'a> {
    pub(super) node: &'a str,
    pub(super) tenure: i64,
}

/// Leases up to `limit` effects that can be claimed. Refused if the tenure is over.
pub(super) async fn claim(
    pool: &Pool,
    by: Claimant<'_>,
    now: Timestamp,
    lease: Duration,
    limit: usize,
) -> Result<Vec<Claim>, StoreError> {
    let leased_until = lease_end(now, lease).map_err(UnitError::into_store_error)?;
    let until = leased_until.as_microsecond();
    let now = now.as_microsecond();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values: Values<'_> = &[&now, &by.node, &until, &limit, &by.tenure];
    let mut rows = pool.query(CLAIM, values).await?;
    if rows.is_empty() {
        let has_tenure = pool.query_opt(HAS_TENURE, &[&by.node, &by.tenure]).await?;
        if has_tenure.is_none() {
            return Err(failed(NO_TENURE));
        }
    }
    rows.sort_unstable_by_key(|row| row.get::<_, i64>(0));
    let mut claims = Vec::with_capacity(rows.len());
    for row in rows {
        let exchange = ExchangeId(row.get(1));
        let Ok(effect) = serde_json::from_str(row.get(2)) else {
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
            id: row.get(0),
            exchange,
            effect,
            attempts: u32::try_from(row.get::<_, i32>(3)).map_err(failed)?,
            leased_until,
        });
    }
    Ok(claims)
}

/// The attempts that the row of a claimed effect counts.
pub(super) fn attempts(claim: &Claim) -> i32 {
    i32::try_from(claim.attempts)
        .unwrap_or(i32::MAX)
        .saturating_add(1)
}

/// Whether a claim still stands. Refused if the lease is another one's by now.
pub(super) async fn confirm(pool: &Pool, owner: &str, claim: &Claim) -> Result<(), StoreError> {
    let values: Values<'_> = &[&claim.id, &owner, &attempts(claim)];
    let held = pool.query_opt(HELD, values).await?;
    held.map(|_| ()).ok_or(StoreError::LeaseLost)
}

/// Lets a claimed effect wait until `at`. Refused if the lease is another one's by now.
pub(super) async fn give_back(
    pool: &Pool,
    owner: &str,
    claim: &Claim,
    at: Timestamp,
) -> Result<(), StoreError> {
    let at = at.as_microsecond();
    let values: Values<'_> = &[&claim.id, &owner, &attempts(claim), &at];
    if pool.execute(GIVE_BACK, values).await? == 1 {
        Ok(())
    } else {
        Err(StoreError::LeaseLost)
    }
}

/// What is in the outbox for one exchange. What is not of this release's form is left out: a claim tells of it.
pub(super) async fn of_exchange(
    pool: &Pool,
    exchange: ExchangeId,
) -> Result<Vec<Outstanding>, StoreError> {
    let rows = pool.query(OF_EXCHANGE, &[&exchange.0]).await?;
    rows.iter()
        .filter_map(|row| outstanding(row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect()
}

/// When the next effect can be claimed, in microseconds.
pub(super) async fn first(pool: &Pool) -> Result<Option<i64>, StoreError> {
    Ok(pool.query_opt(FIRST, &[]).await?.map(|row| row.get(0)))
}
