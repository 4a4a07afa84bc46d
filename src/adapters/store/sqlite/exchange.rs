//! The table `exchange`: one sealed aggregate each, with what lists are cut and sorted by.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::exchange_row::{MAX_LIST, Row, unseal},
    failure::{UnitError, conflict_if_unique, failed, read_failed},
    keys::KeyRing,
    row_id::RowId,
};
use crate::{
    bridge::exchange::Exchange,
    flows::ports::{ExchangeFilter, StoreError, VersionedExchange},
    formats::ids::ExchangeId,
};

pub(super) const INSERT: &str = "INSERT INTO exchange (id, version, partner, accepted_at, is_final, final_at, sealed) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const UPDATE: &str = "UPDATE exchange SET version = ?2, is_final = ?3, final_at = ?4, sealed = ?5 \
     WHERE id = ?1 AND version = ?6";
pub(super) const LOAD: &str = "SELECT id, version, sealed FROM exchange WHERE id = ?1";
// A page of ?3 ends before the pair (?1, ?2). One statement for each index: a page never passes over what it does not
// show.
pub(super) const LIST: &str = "SELECT id, version, sealed FROM exchange \
     WHERE (accepted_at, id) < (?1, ?2) ORDER BY accepted_at DESC, id DESC LIMIT ?3";
pub(super) const LIST_OPEN: &str = "SELECT id, version, sealed FROM exchange \
     WHERE (accepted_at, id) < (?1, ?2) AND is_final = 0 \
     ORDER BY accepted_at DESC, id DESC LIMIT ?3";
pub(super) const LIST_FINAL: &str = "SELECT id, version, sealed FROM exchange \
     WHERE (accepted_at, id) < (?1, ?2) AND is_final = 1 \
     ORDER BY accepted_at DESC, id DESC LIMIT ?3";
pub(super) const LIST_OF_PARTNER: &str = "SELECT id, version, sealed FROM exchange \
     WHERE partner = ?4 AND (accepted_at, id) < (?1, ?2) \
     ORDER BY accepted_at DESC, id DESC LIMIT ?3";
// The index is named: without statistics SQLite takes the one over all partners.
pub(super) const LIST_OPEN_OF_PARTNER: &str = "SELECT id, version, sealed FROM exchange \
     INDEXED BY exchange_open_of_partner \
     WHERE partner = ?4 AND (accepted_at, id) < (?1, ?2) AND is_final = 0 \
     ORDER BY accepted_at DESC, id DESC LIMIT ?3";
pub(super) const LIST_FINAL_OF_PARTNER: &str = "SELECT id, version, sealed FROM exchange \
     INDEXED BY exchange_final_of_partner \
     WHERE partner = ?4 AND (accepted_at, id) < (?1, ?2) AND is_final = 1 \
     ORDER BY accepted_at DESC, id DESC LIMIT ?3";
// What still waits in the outbox keeps its exchange: a report to its sender may be under way.
pub(super) const EXPIRED: &str = "SELECT id FROM exchange \
     WHERE is_final = 1 AND final_at < ?1 \
     AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.exchange = exchange.id) \
     ORDER BY final_at LIMIT ?2";
pub(super) const DELETE: &str = "DELETE FROM exchange WHERE id = ?1";

type Sealed = (RowId, i64, Vec<u8>);

impl Row {
    /// A new row. One with the same id is a conflict.
    pub(super) fn insert(self, connection: &Connection) -> Result<(), UnitError> {
        let id = self.id;
        connection
            .prepare_cached(INSERT)?
            .execute(params![
                RowId(id.0),
                self.version,
                self.partner,
                self.accepted_at,
                self.is_final,
                self.final_at,
                self.sealed,
            ])
            .map_err(|error| conflict_if_unique(error, id))?;
        Ok(())
    }

    /// Replaces the version before this one, and no other.
    pub(super) fn update(self, connection: &Connection) -> Result<(), UnitError> {
        let updated = connection.prepare_cached(UPDATE)?.execute(params![
            RowId(self.id.0),
            self.version,
            self.is_final,
            self.final_at,
            self.sealed,
            self.version - 1,
        ])?;
        if updated == 1 {
            Ok(())
        } else {
            Err(UnitError::conflict(self.id))
        }
    }
}

pub(super) fn load(
    connection: &Connection,
    keys: &KeyRing,
    id: ExchangeId,
) -> Result<Option<VersionedExchange>, StoreError> {
    let row: Option<Sealed> = connection
        .prepare_cached(LOAD)
        .and_then(|mut statement| statement.query_row([RowId(id.0)], sealed).optional())
        .map_err(read_failed)?;
    row.map(|(RowId(id), version, sealed)| unseal(keys, id, version, &sealed))
        .transpose()
}

pub(super) fn list(
    connection: &Connection,
    keys: &KeyRing,
    filter: &ExchangeFilter,
) -> Result<Vec<Exchange>, StoreError> {
    let before = filter
        .accepted_before
        .map_or(i64::MAX, Timestamp::as_microsecond);
    // Without an id, nothing of that very time belongs to the page: no id is less than none.
    let before_id = RowId(filter.before_id.map_or(uuid::Uuid::nil(), |id| id.0));
    let limit = i64::try_from(filter.limit.min(MAX_LIST)).map_err(failed)?;
    let statement = match (&filter.partner, filter.is_final) {
        (None, None) => LIST,
        (None, Some(false)) => LIST_OPEN,
        (None, Some(true)) => LIST_FINAL,
        (Some(_), None) => LIST_OF_PARTNER,
        (Some(_), Some(false)) => LIST_OPEN_OF_PARTNER,
        (Some(_), Some(true)) => LIST_FINAL_OF_PARTNER,
    };
    let rows = match &filter.partner {
        None => rows(connection, statement, params![before, before_id, limit]),
        Some(partner) => {
            let values = params![before, before_id, limit, partner];
            rows(connection, statement, values)
        }
    };
    let rows = rows.map_err(read_failed)?;
    rows.into_iter()
        .map(|(RowId(id), version, sealed)| {
            unseal(keys, id, version, &sealed).map(|found| found.exchange)
        })
        .collect()
}

fn rows(
    connection: &Connection,
    statement: &str,
    values: &[&dyn rusqlite::ToSql],
) -> rusqlite::Result<Vec<Sealed>> {
    connection
        .prepare_cached(statement)?
        .query_map(values, sealed)?
        .collect()
}

fn sealed(row: &rusqlite::Row<'_>) -> rusqlite::Result<Sealed> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

/// Final exchanges whose retention ended before `before`, the oldest first.
pub(super) fn expired(
    connection: &Connection,
    before: Timestamp,
    limit: i64,
) -> rusqlite::Result<Vec<ExchangeId>> {
    connection
        .prepare_cached(EXPIRED)?
        .query_map([before.as_microsecond(), limit], |row| row.get(0))?
        .map(|id| id.map(|RowId(id)| ExchangeId(id)))
        .collect()
}

/// Removes an exchange with its keys. Its bodies must be gone before.
pub(super) fn delete(connection: &Connection, id: ExchangeId) -> rusqlite::Result<()> {
    connection.prepare_cached(DELETE)?.execute([RowId(id.0)])?;
    Ok(())
}
