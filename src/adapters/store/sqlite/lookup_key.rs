//! The table `lookup_key`: keyed hashes of the ids that exchanges are found by. The ids themselves are not kept.

use rusqlite::{Connection, params};

use super::{
    super::lookup_row::{Decided, Reach, Row, hashes},
    failure::{UnitError, read_failed},
    keys::KeyRing,
    row_id::RowId,
};
use crate::{
    flows::ports::{LookupKey, StoreError},
    formats::ids::ExchangeId,
};

pub(super) const INSERT: &str = "INSERT INTO lookup_key (hash, exchange, any_hash) VALUES (?1, ?2, ?3) \
     ON CONFLICT DO NOTHING";
pub(super) const FIND: &str = "SELECT exchange.id FROM lookup_key \
     JOIN exchange ON exchange.id = lookup_key.exchange \
     WHERE lookup_key.hash = ?1 ORDER BY exchange.accepted_at, exchange.id";
/// An id that a sender chose may be one constant for all that it ever sends (NHIN-54): the index gives some of them,
/// and none of the others is looked at.
pub(super) const FIND_SOME: &str = "SELECT exchange.id FROM \
     (SELECT exchange FROM lookup_key WHERE hash = ?1 LIMIT 16) AS found \
     JOIN exchange ON exchange.id = found.exchange ORDER BY exchange.accepted_at, exchange.id";
/// Alone on its index: whether others carry a key is asked before every unit that was decided on one.
pub(super) const CARRIERS: &str = "SELECT exchange FROM lookup_key WHERE hash = ?1";
pub(super) const FIND_ANY: &str = "SELECT DISTINCT exchange.id, exchange.accepted_at \
     FROM lookup_key JOIN exchange ON exchange.id = lookup_key.exchange \
     WHERE lookup_key.any_hash = ?1 ORDER BY exchange.accepted_at, exchange.id";

/// Adds keys to an exchange; those that it has already stay as they are.
pub(super) fn insert(
    connection: &Connection,
    exchange: ExchangeId,
    rows: &[Row],
) -> Result<(), UnitError> {
    let mut insert = connection.prepare_cached(INSERT)?;
    for row in rows {
        insert.execute(params![row.hash, RowId(exchange.0), row.any_hash])?;
    }
    Ok(())
}

/// Refuses a unit that was decided on less than what there is. The writer alone adds keys, so this stands until the
/// transaction ends.
pub(super) fn check(connection: &Connection, decided: &Decided) -> Result<(), UnitError> {
    let mut carriers = connection.prepare_cached(CARRIERS)?;
    for hash in &decided.hashes {
        let mut rows = carriers.query([hash.as_slice()])?;
        while let Some(row) = rows.next()? {
            let carrier: RowId = row.get(0)?;
            if !decided.known.contains(&ExchangeId(carrier.0)) {
                return Err(UnitError::Refused(StoreError::Overtaken));
            }
        }
    }
    Ok(())
}

/// The exchanges that carry `key`, hashed under whatever key was current then; oldest first.
pub(super) fn find(
    connection: &Connection,
    keys: &KeyRing,
    key: &LookupKey,
) -> Result<Vec<ExchangeId>, StoreError> {
    let statement = match Reach::of(key) {
        Reach::Any => FIND_ANY,
        Reach::Some => FIND_SOME,
        Reach::All => FIND,
    };
    let mut found = Vec::new();
    for hash in hashes(keys, key) {
        let ids = ids(connection, statement, &hash).map_err(read_failed)?;
        for id in ids.into_iter().map(|id| ExchangeId(id.0)) {
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    Ok(found)
}

fn ids(connection: &Connection, statement: &str, hash: &[u8; 32]) -> rusqlite::Result<Vec<RowId>> {
    connection
        .prepare_cached(statement)?
        .query_map([hash.as_slice()], |row| row.get(0))?
        .collect()
}
