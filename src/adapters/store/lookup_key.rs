//! The table `lookup_key`: keyed hashes of the ids that exchanges are found by. The ids themselves are not kept.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool};

use super::{
    failure::{UnitError, read_failed},
    keys::{Key, KeyRing},
    row_id::RowId,
    writer::MAX_ROWS_AT_ONCE,
};
use crate::{
    flows::ports::{LookupKey, StoreError},
    formats::ids::ExchangeId,
};

pub(super) const INSERT: &str = "INSERT INTO lookup_key (hash, exchange, any_hash) ";
pub(super) const UNLESS_THERE: &str = " ON CONFLICT DO NOTHING";
pub(super) const FIND: &str = "SELECT exchange.id FROM lookup_key \
     JOIN exchange ON exchange.id = lookup_key.exchange \
     WHERE lookup_key.hash = $1 ORDER BY exchange.accepted_at, exchange.id";
pub(super) const FIND_ANY: &str = "SELECT DISTINCT exchange.id, exchange.accepted_at \
     FROM lookup_key JOIN exchange ON exchange.id = lookup_key.exchange \
     WHERE lookup_key.any_hash = $1 ORDER BY exchange.accepted_at, exchange.id";

/// A key as its row has it.
pub(super) struct Row {
    hash: [u8; 32],
    any_hash: [u8; 32],
}

impl Row {
    /// Hashes `key` under the current key.
    pub(super) fn of(keys: &KeyRing, key: &LookupKey) -> Self {
        let current = keys.current();
        Self {
            hash: hash(current, key),
            any_hash: any_hash(current, bare_text(key)),
        }
    }
}

/// Adds keys to an exchange; those that it has already stay as they are.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    exchange: ExchangeId,
    rows: &[Row],
) -> Result<(), UnitError> {
    for rows in rows.chunks(MAX_ROWS_AT_ONCE) {
        QueryBuilder::<Sqlite>::new(INSERT)
            .push_values(rows, |mut columns, row| {
                columns
                    .push_bind(row.hash.to_vec())
                    .push_bind(RowId(exchange.0))
                    .push_bind(row.any_hash.to_vec());
            })
            .push(UNLESS_THERE)
            .build()
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The exchanges that carry `key`, hashed under whatever key was current then; oldest first.
pub(super) async fn find(
    pool: &SqlitePool,
    keys: &KeyRing,
    key: &LookupKey,
) -> Result<Vec<ExchangeId>, StoreError> {
    let mut found = Vec::new();
    // Keys change rarely and newer exchanges are hashed under newer keys: the oldest key comes first.
    let all: Vec<&Key> = keys.all().collect();
    for key_in_use in all.into_iter().rev() {
        let ids: Vec<RowId> = match key {
            LookupKey::Any(text) => sqlx::query_as(FIND_ANY)
                .bind(any_hash(key_in_use, text).as_slice().to_vec())
                .fetch_all(pool)
                .await
                .map(|rows: Vec<(RowId, i64)>| rows.into_iter().map(|(id, _)| id).collect()),
            _ => {
                sqlx::query_scalar(FIND)
                    .bind(hash(key_in_use, key).as_slice().to_vec())
                    .fetch_all(pool)
                    .await
            }
        }
        .map_err(read_failed)?;
        for id in ids.into_iter().map(|id| ExchangeId(id.0)) {
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    Ok(found)
}

fn hash(key: &Key, of: &LookupKey) -> [u8; 32] {
    match of {
        LookupKey::SoapMessageId { partner, id } => {
            key.lookups
                .of(&[b"soap", partner.as_bytes(), id.as_bytes()])
        }
        LookupKey::SubmissionSet { partner, id } => {
            key.lookups.of(&[b"set", partner.as_bytes(), id.as_bytes()])
        }
        LookupKey::MessageId(id) => key.lookups.of(&[b"mail", id.as_bytes()]),
        LookupKey::ReceivedMail(id) => key.lookups.of(&[b"received", id.as_bytes()]),
        LookupKey::Post { endpoint, id } => {
            key.lookups
                .of(&[b"post", endpoint.as_bytes(), id.as_bytes()])
        }
        LookupKey::Any(text) => any_hash(key, text),
    }
}

fn any_hash(key: &Key, text: &str) -> [u8; 32] {
    key.lookups.of(&[b"any", text.as_bytes()])
}

fn bare_text(key: &LookupKey) -> &str {
    match key {
        LookupKey::SoapMessageId { id, .. }
        | LookupKey::SubmissionSet { id, .. }
        | LookupKey::Post { id, .. } => id,
        LookupKey::MessageId(id) | LookupKey::ReceivedMail(id) | LookupKey::Any(id) => id,
    }
}
