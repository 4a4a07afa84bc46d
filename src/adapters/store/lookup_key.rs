//! The table `lookup_key`: keyed hashes of the ids that exchanges are found by. The ids themselves are not kept.

use std::borrow::Cow;

use rusqlite::{Connection, params};

use super::{
    failure::{UnitError, read_failed},
    keys::{Key, KeyRing},
    row_id::RowId,
};
use crate::{
    flows::ports::{LookupKey, StoreError},
    formats::{document::hex, ids::ExchangeId},
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
pub(super) const FIND_ANY: &str = "SELECT DISTINCT exchange.id, exchange.accepted_at \
     FROM lookup_key JOIN exchange ON exchange.id = lookup_key.exchange \
     WHERE lookup_key.any_hash = ?1 ORDER BY exchange.accepted_at, exchange.id";

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
            any_hash: any_hash(current, &bare_text(key)),
        }
    }
}

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

/// The exchanges that carry `key`, hashed under whatever key was current then; oldest first.
pub(super) fn find(
    connection: &Connection,
    keys: &KeyRing,
    key: &LookupKey,
) -> Result<Vec<ExchangeId>, StoreError> {
    let mut found = Vec::new();
    // Keys change rarely and newer exchanges are hashed under newer keys: the oldest key comes first.
    let all: Vec<&Key> = keys.all().collect();
    for key_in_use in all.into_iter().rev() {
        let statement = match key {
            LookupKey::Any(_) => FIND_ANY,
            LookupKey::SoapMessageId { .. } | LookupKey::SubmissionSet { .. } => FIND_SOME,
            LookupKey::Submission { .. }
            | LookupKey::MessageId(_)
            | LookupKey::ReceivedMail(_)
            | LookupKey::Post { .. } => FIND,
        };
        let ids = ids(connection, statement, &hash(key_in_use, key)).map_err(read_failed)?;
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

fn hash(key: &Key, of: &LookupKey) -> [u8; 32] {
    match of {
        LookupKey::SoapMessageId { partner, id } => {
            key.lookups
                .of(&[b"soap", partner.as_bytes(), id.as_bytes()])
        }
        LookupKey::Submission { partner, digest } => {
            key.lookups.of(&[b"submission", partner.as_bytes(), digest])
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

fn bare_text(key: &LookupKey) -> Cow<'_, str> {
    match key {
        LookupKey::Submission { digest, .. } => hex(digest).into(),
        LookupKey::SoapMessageId { id, .. }
        | LookupKey::SubmissionSet { id, .. }
        | LookupKey::Post { id, .. } => id.into(),
        LookupKey::MessageId(id) | LookupKey::ReceivedMail(id) | LookupKey::Any(id) => id.into(),
    }
}
