//! The table `exchange`: one sealed aggregate each, with what lists are cut and sorted by.

use jiff::Timestamp;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    super::{
        exchange_row::{MAX_LIST, unseal},
        failure::failed,
        keys::KeyRing,
    },
    connection::Pool,
};
use crate::{
    bridge::exchange::Exchange,
    flows::ports::{ExchangeFilter, StoreError, VersionedExchange},
    formats::ids::ExchangeId,
};

/// Those whose id is taken are left out.
pub(super) const INSERT: &str = "INSERT INTO exchange \
     (id, version, partner, accepted_at, is_final, final_at, sealed) \
     SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::boolean[], \
     $6::bigint[], $7::bytea[]) ON CONFLICT DO NOTHING";
/// Those that are not of the version before are left out.
pub(super) const UPDATE: &str = "UPDATE exchange SET version = new.version, \
     is_final = new.is_final, final_at = new.final_at, sealed = new.sealed \
     FROM unnest($1::uuid[], $2::bigint[], $3::boolean[], $4::bigint[], $5::bytea[]) \
     AS new (id, version, is_final, final_at, sealed) \
     WHERE exchange.id = new.id AND exchange.version = new.version - 1";
pub(super) const LOAD: &str = "SELECT id, version, sealed FROM exchange WHERE id = $1";
// A page of $3 ends before the pair ($1, $2). One statement for each index: a page never passes over what it does not
// show.
pub(super) const LIST: &str = "SELECT id, version, sealed FROM exchange \
     WHERE (accepted_at, id) < ($1, $2) ORDER BY accepted_at DESC, id DESC LIMIT $3";
pub(super) const LIST_OPEN: &str = "SELECT id, version, sealed FROM exchange \
     WHERE (accepted_at, id) < ($1, $2) AND NOT is_final \
     ORDER BY accepted_at DESC, id DESC LIMIT $3";
pub(super) const LIST_FINAL: &str = "SELECT id, version, sealed FROM exchange \
     WHERE (accepted_at, id) < ($1, $2) AND is_final \
     ORDER BY accepted_at DESC, id DESC LIMIT $3";
pub(super) const LIST_OF_PARTNER: &str = "SELECT id, version, sealed FROM exchange \
     WHERE partner = $4 AND (accepted_at, id) < ($1, $2) \
     ORDER BY accepted_at DESC, id DESC LIMIT $3";
pub(super) const LIST_OPEN_OF_PARTNER: &str = "SELECT id, version, sealed FROM exchange \
     WHERE partner = $4 AND (accepted_at, id) < ($1, $2) AND NOT is_final \
     ORDER BY accepted_at DESC, id DESC LIMIT $3";
pub(super) const LIST_FINAL_OF_PARTNER: &str = "SELECT id, version, sealed FROM exchange \
     WHERE partner = $4 AND (accepted_at, id) < ($1, $2) AND is_final \
     ORDER BY accepted_at DESC, id DESC LIMIT $3";
// What still waits in the outbox keeps its exchange: a report to its sender may be under way. Keys and bodies go with
// it. What another node removes at this moment is left to it.
pub(super) const EXPIRE: &str = "DELETE FROM exchange WHERE id = ANY (ARRAY ( \
     SELECT id FROM exchange WHERE is_final AND final_at < $1 \
     AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.exchange = exchange.id) \
     ORDER BY final_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

pub(super) async fn load(
    pool: &Pool,
    keys: &KeyRing,
    id: ExchangeId,
) -> Result<Option<VersionedExchange>, StoreError> {
    let row = pool.query_opt(LOAD, &[&id.0]).await?;
    row.map(|row| unseal(keys, row.get(0), row.get(1), row.get(2)))
        .transpose()
}

pub(super) async fn list(
    pool: &Pool,
    keys: &KeyRing,
    filter: &ExchangeFilter,
) -> Result<Vec<Exchange>, StoreError> {
    let before = filter
        .accepted_before
        .map_or(i64::MAX, Timestamp::as_microsecond);
    // Without an id, nothing of that very time belongs to the page: no id is less than none.
    let before_id = filter.before_id.map_or(Uuid::nil(), |id| id.0);
    let limit = i64::try_from(filter.limit.min(MAX_LIST)).map_err(failed)?;
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&before, &before_id, &limit];
    if let Some(partner) = &filter.partner {
        values.push(partner);
    }
    let statement = match (&filter.partner, filter.is_final) {
        (None, None) => LIST,
        (None, Some(false)) => LIST_OPEN,
        (None, Some(true)) => LIST_FINAL,
        (Some(_), None) => LIST_OF_PARTNER,
        (Some(_), Some(false)) => LIST_OPEN_OF_PARTNER,
        (Some(_), Some(true)) => LIST_FINAL_OF_PARTNER,
    };
    let rows = pool.query(statement, &values).await?;
    rows.iter()
        .map(|row| unseal(keys, row.get(0), row.get(1), row.get(2)).map(|found| found.exchange))
        .collect()
}
