//! The table `body`: which bodies are adopted, by whom, and the octets of the small ones.

use std::collections::HashSet;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::bodies::AdoptedBody,
    failure::{UnitError, read_failed},
    row_id::RowId,
};
use crate::{
    flows::ports::StoreError,
    formats::ids::{BodyId, ExchangeId},
};

pub(super) const INSERT: &str =
    "INSERT INTO body (id, exchange, size, content) VALUES (?1, ?2, ?3, ?4)";
pub(super) const CONTENT: &str = "SELECT content FROM body WHERE id = ?1";
pub(super) const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM body WHERE id = ?1)";
pub(super) const DELETE: &str = "DELETE FROM body WHERE id = ?1 RETURNING content IS NULL";
pub(super) const SUM: &str = "SELECT coalesce(sum(size), 0) FROM body";
pub(super) const IN_FILES: &str = "SELECT id, exchange FROM body WHERE content IS NULL";
pub(super) const OF_EXCHANGE: &str = "SELECT id FROM body WHERE exchange = ?1";

pub(super) fn insert(
    connection: &Connection,
    body: &AdoptedBody,
    exchange: Option<ExchangeId>,
) -> Result<(), UnitError> {
    connection.prepare_cached(INSERT)?.execute(params![
        RowId(body.id.0),
        exchange.map(|id| RowId(id.0)),
        i64::try_from(body.size).unwrap_or(i64::MAX),
        body.octets.as_deref(),
    ])?;
    Ok(())
}

/// Removes a row; true if a file is to be unlinked after the commit. One that is gone already is no error: the effect
/// that removes bodies may run twice.
pub(super) fn delete(connection: &Connection, id: BodyId) -> rusqlite::Result<bool> {
    let is_in_file: Option<bool> = connection
        .prepare_cached(DELETE)?
        .query_row([RowId(id.0)], |row| row.get(0))
        .optional()?;
    Ok(is_in_file.unwrap_or(false))
}

pub(super) fn of_exchange(
    connection: &Connection,
    exchange: ExchangeId,
) -> rusqlite::Result<Vec<BodyId>> {
    connection
        .prepare_cached(OF_EXCHANGE)?
        .query_map([RowId(exchange.0)], |row| row.get(0))?
        .map(|id| id.map(|RowId(id)| BodyId(id)))
        .collect()
}

/// Every adopted body that lies in a file, with the exchange that owns it.
pub(super) fn in_files(
    connection: &Connection,
) -> rusqlite::Result<Vec<(BodyId, Option<ExchangeId>)>> {
    let owned = |row: &rusqlite::Row<'_>| {
        let exchange: Option<RowId> = row.get(1)?;
        let RowId(id) = row.get(0)?;
        Ok((BodyId(id), exchange.map(|RowId(id)| ExchangeId(id))))
    };
    connection
        .prepare_cached(IN_FILES)?
        .query_map([], owned)?
        .collect()
}

/// Octets of all adopted bodies, as they were handed over.
pub(super) fn sum(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(SUM)?
        .query_row([], |row| row.get(0))
}

/// The sealed octets of a small adopted body.
pub(super) fn content(connection: &Connection, id: BodyId) -> Result<Bytes, StoreError> {
    let damaged = |what| StoreError::DamagedBody { body: id, what };
    let row: Option<Option<Vec<u8>>> = connection
        .prepare_cached(CONTENT)
        .and_then(|mut statement| {
            statement
                .query_row([RowId(id.0)], |row| row.get(0))
                .optional()
        })
        .map_err(read_failed)?;
    match row {
        Some(Some(octets)) => Ok(octets.into()),
        Some(None) => Err(damaged("its file is missing")),
        None => Err(damaged("there is no such body")),
    }
}

/// Those of `ids` that are adopted.
pub(super) fn adopted(
    connection: &Connection,
    ids: Vec<BodyId>,
) -> rusqlite::Result<HashSet<BodyId>> {
    let mut exists = connection.prepare_cached(EXISTS)?;
    let mut adopted = HashSet::new();
    for id in ids {
        if exists.query_row([RowId(id.0)], |row| row.get(0))? {
            adopted.insert(id);
        }
    }
    Ok(adopted)
}
