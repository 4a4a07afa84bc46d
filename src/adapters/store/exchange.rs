//! The table `exchange`: one sealed aggregate each, with what lists are cut and sorted by.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    failure::{UnitError, failed, read_failed},
    keys::KeyRing,
    row_id::RowId,
};
use crate::{
    bridge::exchange::{Exchange, Origin},
    flows::ports::{ExchangeFilter, StoreError, VersionedExchange},
    formats::ids::ExchangeId,
};

pub(super) const INSERT: &str = "INSERT INTO exchange (id, version, partner, accepted_at, is_final, final_at, sealed) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const UPDATE: &str = "UPDATE exchange SET version = ?2, is_final = ?3, final_at = ?4, sealed = ?5 \
     WHERE id = ?1 AND version = ?6";
pub(super) const LOAD: &str = "SELECT id, version, sealed FROM exchange WHERE id = ?1";
// A page ends before the pair (?1, ?2). ?3: final ones only. One statement for each index.
pub(super) const LIST: &str = "SELECT id, version, sealed FROM exchange \
     WHERE (accepted_at, id) < (?1, ?2) AND is_final >= ?3 \
     ORDER BY accepted_at DESC, id DESC LIMIT ?4";
pub(super) const LIST_OPEN: &str = "SELECT id, version, sealed FROM exchange \
     WHERE (accepted_at, id) < (?1, ?2) AND is_final = 0 \
     ORDER BY accepted_at DESC, id DESC LIMIT ?3";
pub(super) const LIST_OF_PARTNER: &str = "SELECT id, version, sealed FROM exchange \
     WHERE partner = ?4 AND (accepted_at, id) < (?1, ?2) AND is_final >= ?3 \
     ORDER BY accepted_at DESC, id DESC LIMIT ?5";
pub(super) const LIST_OPEN_OF_PARTNER: &str = "SELECT id, version, sealed FROM exchange \
     WHERE +partner = ?3 AND (accepted_at, id) < (?1, ?2) AND is_final = 0 \
     ORDER BY accepted_at DESC, id DESC LIMIT ?4";
// What still waits in the outbox keeps its exchange: a report to its sender may be under way.
pub(super) const EXPIRED: &str = "SELECT id FROM exchange \
     WHERE is_final = 1 AND final_at < ?1 \
     AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.exchange = exchange.id) \
     ORDER BY final_at LIMIT ?2";
pub(super) const DELETE: &str = "DELETE FROM exchange WHERE id = ?1";

/// Most exchanges that one list gives.
const MAX_LIST: usize = 10_000;

/// An exchange as its row has it.
pub(super) struct Row {
    id: ExchangeId,
    version: i64,
    partner: Option<String>,
    accepted_at: i64,
    is_final: bool,
    final_at: Option<i64>,
    sealed: Vec<u8>,
}

type Sealed = (RowId, i64, Vec<u8>);

impl Row {
    /// Seals `exchange` as this version.
    pub(super) fn seal(
        keys: &KeyRing,
        exchange: &Exchange,
        version: u64,
    ) -> Result<Self, StoreError> {
        let version = i64::try_from(version).map_err(failed)?;
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(exchange).map_err(failed)?);
        let sealed = keys
            .seal(&context(exchange.id, version), &plain)
            .map_err(failed)?;
        let partner = match &exchange.origin {
            Origin::Xdr { partner, .. } => Some(partner.clone()),
            Origin::Direct { .. } => None,
        };
        Ok(Self {
            id: exchange.id,
            version,
            partner,
            accepted_at: exchange.accepted_at.as_microsecond(),
            is_final: exchange.is_final(),
            final_at: exchange.final_at.map(Timestamp::as_microsecond),
            sealed,
        })
    }

    /// Octets of the sealed aggregate.
    pub(super) fn sealed_bytes(&self) -> usize {
        self.sealed.len()
    }

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
            .map_err(|error| UnitError::conflict_if_unique(error, id))?;
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
    row.map(|row| unseal(keys, row)).transpose()
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
    let is_final = filter.is_final.unwrap_or(false);
    let rows = match (&filter.partner, filter.is_final) {
        (None, Some(false)) => rows(connection, LIST_OPEN, params![before, before_id, limit]),
        (Some(partner), Some(false)) => {
            let values = params![before, before_id, partner, limit];
            rows(connection, LIST_OPEN_OF_PARTNER, values)
        }
        (None, _) => {
            let values = params![before, before_id, is_final, limit];
            rows(connection, LIST, values)
        }
        (Some(partner), _) => {
            let values = params![before, before_id, is_final, partner, limit];
            rows(connection, LIST_OF_PARTNER, values)
        }
    };
    let rows = rows.map_err(read_failed)?;
    rows.into_iter()
        .map(|row| unseal(keys, row).map(|found| found.exchange))
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

fn unseal(
    keys: &KeyRing,
    (RowId(id), version, sealed): Sealed,
) -> Result<VersionedExchange, StoreError> {
    let plain = keys
        .unseal(&context(ExchangeId(id), version), &sealed)
        .map_err(failed)?;
    // A serde error may quote what it could not read, and that may name a person: only its place is told.
    let exchange = serde_json::from_slice(&plain).map_err(|error| {
        failed(format!(
            "exchange {id} is not of this release's form (column {})",
            error.column()
        ))
    })?;
    let version = u64::try_from(version).map_err(failed)?;
    Ok(VersionedExchange { exchange, version })
}

fn context(id: ExchangeId, version: i64) -> Vec<u8> {
    let mut context = b"exchange".to_vec();
    context.extend_from_slice(id.0.as_bytes());
    context.extend_from_slice(&version.to_be_bytes());
    context
}
