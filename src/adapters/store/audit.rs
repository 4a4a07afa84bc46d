//! The tables `audit` and `audit_chain`: who sent what, sealed, each row hashed together with the one before it, so
//! that a row that is changed, removed or put in is noticed (T-34, PHI-5).
//!
//! The hash of a row is SHA-256 over the hash before it and every column of the row, the sealed details included.
//! `audit_chain` says under a keyed hash where the chain begins (what its retention ended is cut off there) and where
//! it ends, so rows cut from an end are noticed too.

use jiff::Timestamp;
use openssl::sha::Sha256;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    failure::{UnitError, failed, read_failed},
    keys::KeyRing,
    row_id::RowId,
};
use crate::{
    flows::ports::StoreError,
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::ExchangeId,
    },
};

pub(super) const INSERT: &str = "INSERT INTO audit (node, sequence, at, kind, outcome, exchange, sealed, hash) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
pub(super) const CHAIN: &str = "SELECT node, sequence, at, kind, outcome, exchange, sealed, hash \
     FROM audit WHERE node = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
pub(super) const OF_EXCHANGE: &str = "SELECT node, sequence, at, kind, outcome, exchange, sealed, hash \
     FROM audit WHERE exchange = ?1 ORDER BY at, node, sequence";
pub(super) const LAST: &str = "SELECT MAX(sequence) FROM audit WHERE node = ?1";
pub(super) const DELETE_UP_TO: &str = "DELETE FROM audit WHERE node = ?1 AND sequence <= ?2";
pub(super) const NODES: &str = "SELECT node FROM audit UNION SELECT node FROM audit_chain";
pub(super) const LOAD_ENDS: &str = "SELECT first_sequence, first_previous, last_sequence, last_hash, key_id, mac \
     FROM audit_chain WHERE node = ?1";
pub(super) const SAVE_ENDS: &str = "INSERT INTO audit_chain \
     (node, first_sequence, first_previous, last_sequence, last_hash, key_id, mac) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
     ON CONFLICT (node) DO UPDATE SET first_sequence = ?2, first_previous = ?3, \
     last_sequence = ?4, last_hash = ?5, key_id = ?6, mac = ?7";

/// Rows read at once.
const PAGE: i64 = 1_000;
const UNKNOWN_KEY: &str = "its end was written under a key that store.key_files does not name";
const NO_ENDS: &str = "the row that says where the chain ends is missing";
/// What stands for the hash before the first row ever.
const NO_HASH: [u8; 32] = [0; 32];

/// What a check of the whole audit gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainVerdict {
    /// Every row is as it was written, and none is missing.
    Intact {
        /// How many there are.
        records: u64,
    },
    /// Something was changed, removed or put in.
    Broken {
        /// On which node's chain.
        node: String,
        /// The first row that does not fit.
        sequence: i64,
        /// What does not fit.
        what: &'static str,
    },
}

/// A record as its row has it, but for its place in the chain.
pub(super) struct Row {
    at: i64,
    kind: String,
    outcome: i64,
    exchange: Option<ExchangeId>,
    details: zeroize::Zeroizing<Vec<u8>>,
}

type Stored = (
    String,
    i64,
    i64,
    String,
    i64,
    Option<RowId>,
    Vec<u8>,
    Vec<u8>,
);

/// Where the chain of one node begins and ends.
#[derive(Clone)]
pub(super) struct Chain {
    node: String,
    first_sequence: i64,
    first_previous: [u8; 32],
    last_sequence: i64,
    last_hash: [u8; 32],
}

impl Row {
    pub(super) fn of(record: &AuditRecord) -> Result<Self, StoreError> {
        Ok(Self {
            at: record.at.as_microsecond(),
            kind: kind_text(record.kind)?,
            outcome: outcome_number(record.outcome),
            exchange: record.exchange,
            details: serde_json::to_vec(&record.details).map_err(failed)?.into(),
        })
    }
}

impl Chain {
    /// A chain without rows.
    pub(super) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            first_sequence: 1,
            first_previous: NO_HASH,
            last_sequence: 0,
            last_hash: NO_HASH,
        }
    }

    /// The chain of `node` as it was saved. `Err(what)` in the result if it is not as it was written.
    fn load(
        connection: &Connection,
        keys: &KeyRing,
        node: &str,
    ) -> rusqlite::Result<Result<Self, &'static str>> {
        type Ends = (i64, Vec<u8>, i64, Vec<u8>, Vec<u8>, Vec<u8>);
        let ends: Option<Ends> = connection
            .prepare_cached(LOAD_ENDS)?
            .query_row([node], |row| row.try_into())
            .optional()?;
        let Some((first_sequence, first_previous, last_sequence, last_hash, key_id, mac)) = ends
        else {
            return Ok(Err(NO_ENDS));
        };
        let (Ok(first_previous), Ok(last_hash)) = (first_previous.try_into(), last_hash.try_into())
        else {
            return Ok(Err("the row that says where the chain ends was changed"));
        };
        let chain = Self {
            node: node.to_owned(),
            first_sequence,
            first_previous,
            last_sequence,
            last_hash,
        };
        let Some(key) = keys.find(&key_id) else {
            return Ok(Err(UNKNOWN_KEY));
        };
        let expected = chain.mac(key);
        let is_ours = mac.len() == expected.len() && openssl::memcmp::eq(&mac, &expected);
        Ok(is_ours
            .then_some(chain)
            .ok_or("the row that says where the chain ends was changed"))
    }

    /// The chain to go on with at start; `None` if it was written under a key that is not known. A chain that was tampered with is gone on with too, since the bridge must
    /// keep recording; the break stays for [`verify`] to find, and is alarmed.
    pub(super) fn resume(
        connection: &Connection,
        keys: &KeyRing,
        node: &str,
    ) -> rusqlite::Result<Option<Self>> {
        let last: Option<i64> = connection.query_row(LAST, [node], |row| row.get(0))?;
        let last = last.unwrap_or(0);
        let what = match Self::load(connection, keys, node)? {
            Ok(chain) if chain.last_sequence >= last => return Ok(Some(chain)),
            Ok(mut chain) => {
                crate::flows::measures::count_alarm("audit");
                tracing::error!(
                    alarm = "audit",
                    "rows were added to the audit by somebody else"
                );
                // Their numbers are taken; their hashes do not fit, and so the break stays.
                chain.last_sequence = last;
                return Ok(Some(chain));
            }
            Err(UNKNOWN_KEY) => return Ok(None),
            Err(what) => what,
        };
        let mut chain = Self::new(node);
        if what == NO_ENDS && last == 0 {
            return Ok(Some(chain));
        }
        crate::flows::measures::count_alarm("audit");
        tracing::error!(alarm = "audit", "the audit chain is broken: {what}");
        // It begins before its first row now, so the break stays: nothing up to here can be vouched for.
        chain.first_sequence = 0;
        chain.last_sequence = last + 1;
        Ok(Some(chain))
    }

    /// Puts records at the end.
    pub(super) fn append(
        &mut self,
        connection: &Connection,
        keys: &KeyRing,
        rows: &[Row],
    ) -> Result<(), UnitError> {
        let mut insert = connection.prepare_cached(INSERT)?;
        for row in rows {
            let linked = self
                .link(keys, row)
                .map_err(|error| UnitError::Refused(failed(error)))?;
            let (node, sequence, at, kind, outcome, exchange, sealed, hash) = linked;
            insert.execute(params![
                node, sequence, at, kind, outcome, exchange, sealed, hash
            ])?;
        }
        Ok(())
    }

    /// Seals a record and makes it the chain's end.
    fn link(&mut self, keys: &KeyRing, row: &Row) -> Result<Stored, openssl::error::ErrorStack> {
        let sequence = self.last_sequence + 1;
        let mut stored = (
            self.node.clone(),
            sequence,
            row.at,
            row.kind.clone(),
            row.outcome,
            row.exchange.map(|id| RowId(id.0)),
            keys.seal(&context(&self.node, sequence), &row.details)?,
            Vec::new(),
        );
        self.last_hash = hash_of(&self.last_hash, &stored);
        self.last_sequence = sequence;
        stored.7 = self.last_hash.to_vec();
        Ok(stored)
    }

    /// Records where the chain begins and ends.
    pub(super) fn save(&self, connection: &Connection, keys: &KeyRing) -> rusqlite::Result<()> {
        let key = keys.current();
        connection.prepare_cached(SAVE_ENDS)?.execute(params![
            self.node,
            self.first_sequence,
            self.first_previous,
            self.last_sequence,
            self.last_hash,
            key.id,
            self.mac(key),
        ])?;
        Ok(())
    }

    /// Cuts off up to one page of records from before `before`; true if there may be more.
    pub(super) fn prune(
        &mut self,
        connection: &Connection,
        before: Timestamp,
    ) -> rusqlite::Result<bool> {
        let rows = chain_rows(connection, &self.node, self.first_sequence - 1, PAGE)?;
        let before = before.as_microsecond();
        let old = rows.iter().take_while(|(_, _, at, ..)| *at < before);
        let Some((_, sequence, .., hash)) = old.clone().last() else {
            return Ok(false);
        };
        let Ok(hash) = hash.as_slice().try_into() else {
            return Ok(false);
        };
        let is_page_full = old.count() == rows.len();
        connection
            .prepare_cached(DELETE_UP_TO)?
            .execute(params![self.node, sequence])?;
        self.first_sequence = sequence + 1;
        self.first_previous = hash;
        Ok(is_page_full)
    }

    /// Whether nothing was added or cut off since.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.last_sequence == other.last_sequence && self.first_sequence == other.first_sequence
    }

    fn mac(&self, key: &super::keys::Key) -> [u8; 32] {
        key.chain.of(&[
            self.node.as_bytes(),
            &self.first_sequence.to_be_bytes(),
            &self.first_previous,
            &self.last_sequence.to_be_bytes(),
            &self.last_hash,
        ])
    }
}

/// Checks the chains of all nodes from end to end. Every row is opened too, since details of another row, or written
/// without our keys, would not open.
pub(super) fn verify(
    connection: &mut Connection,
    keys: &KeyRing,
) -> Result<ChainVerdict, StoreError> {
    // One transaction sees one state: rows that are added meanwhile are not missed at the end.
    let reading = connection.transaction().map_err(read_failed)?;
    let nodes = nodes(&reading).map_err(read_failed)?;
    let mut records = 0;
    for node in nodes {
        match verify_node(&reading, keys, &node).map_err(read_failed)? {
            Ok(count) => records += count,
            Err((sequence, what)) => {
                return Ok(ChainVerdict::Broken {
                    node,
                    sequence,
                    what,
                });
            }
        }
    }
    Ok(ChainVerdict::Intact { records })
}

fn nodes(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(NODES)?;
    let nodes = statement.query_map([], |row| row.get(0))?;
    nodes.collect()
}

fn verify_node(
    connection: &Connection,
    keys: &KeyRing,
    node: &str,
) -> rusqlite::Result<Result<u64, (i64, &'static str)>> {
    let chain = match Chain::load(connection, keys, node)? {
        Ok(chain) => chain,
        Err(what) => return Ok(Err((0, what))),
    };
    let mut previous = chain.first_previous;
    let mut sequence = chain.first_sequence;
    let mut statement = connection.prepare_cached(CHAIN)?;
    let rows = statement.query_map(params![node, i64::MIN, i64::MAX], stored)?;
    for row in rows {
        let row = row?;
        if row.1 != sequence {
            return Ok(Err((sequence, "a row is missing here")));
        }
        let expected = hash_of(&previous, &row);
        if row.7 != expected {
            return Ok(Err((sequence, "the row was changed, or one before it")));
        }
        if keys.unseal(&context(node, sequence), &row.6).is_err() {
            return Ok(Err((sequence, "the details do not open")));
        }
        previous = expected;
        sequence += 1;
    }
    if chain.last_sequence != sequence - 1 || chain.last_hash != previous {
        return Ok(Err((
            sequence,
            "rows are missing from the end, or added to it",
        )));
    }
    Ok(Ok((sequence - chain.first_sequence).unsigned_abs()))
}

/// The records of one exchange, oldest first.
pub(super) fn of_exchange(
    connection: &Connection,
    keys: &KeyRing,
    exchange: ExchangeId,
) -> Result<Vec<AuditRecord>, StoreError> {
    let rows = rows_of_exchange(connection, exchange).map_err(read_failed)?;
    rows.iter().map(|row| unseal(keys, row)).collect()
}

fn rows_of_exchange(
    connection: &Connection,
    exchange: ExchangeId,
) -> rusqlite::Result<Vec<Stored>> {
    connection
        .prepare_cached(OF_EXCHANGE)?
        .query_map([RowId(exchange.0)], stored)?
        .collect()
}

/// Up to `limit` records of one node after the sequence number given, with theirs.
pub(super) fn page(
    connection: &Connection,
    keys: &KeyRing,
    node: &str,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, AuditRecord)>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX).min(PAGE);
    let rows = chain_rows(connection, node, after, limit).map_err(read_failed)?;
    rows.iter()
        .map(|row| Ok((row.1, unseal(keys, row)?)))
        .collect()
}

fn chain_rows(
    connection: &Connection,
    node: &str,
    after: i64,
    limit: i64,
) -> rusqlite::Result<Vec<Stored>> {
    connection
        .prepare_cached(CHAIN)?
        .query_map(params![node, after, limit], stored)?
        .collect()
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stored> {
    row.try_into()
}

fn unseal(keys: &KeyRing, row: &Stored) -> Result<AuditRecord, StoreError> {
    let (node, sequence, at, kind, outcome, exchange, sealed, _) = row;
    let plain = keys
        .unseal(&context(node, *sequence), sealed)
        .map_err(failed)?;
    let foreign = || {
        failed(format!(
            "audit row {sequence} is not of this release's form"
        ))
    };
    Ok(AuditRecord {
        at: Timestamp::from_microsecond(*at).map_err(failed)?,
        kind: serde_json::from_value(kind.as_str().into()).map_err(|_| foreign())?,
        outcome: outcome_of(*outcome).ok_or_else(foreign)?,
        exchange: exchange.map(|id| ExchangeId(id.0)),
        details: serde_json::from_slice(&plain).map_err(|_| foreign())?,
    })
}

fn hash_of(previous: &[u8; 32], row: &Stored) -> [u8; 32] {
    let (node, sequence, at, kind, outcome, exchange, sealed, _) = row;
    let mut hash = Sha256::new();
    let exchange = exchange.map(|id| id.0.into_bytes());
    let exchange = exchange
        .as_ref()
        .map_or(&[][..], |octets| octets.as_slice());
    for column in [
        previous.as_slice(),
        node.as_bytes(),
        &sequence.to_be_bytes(),
        &at.to_be_bytes(),
        kind.as_bytes(),
        &outcome.to_be_bytes(),
        exchange,
        sealed,
    ] {
        // The length first, so that no octet can pass from one column to the next.
        hash.update(&(column.len() as u64).to_be_bytes());
        hash.update(column);
    }
    hash.finish()
}

fn context(node: &str, sequence: i64) -> Vec<u8> {
    let mut context = b"audit".to_vec();
    context.extend_from_slice(&sequence.to_be_bytes());
    context.extend_from_slice(node.as_bytes());
    context
}

fn kind_text(kind: AuditKind) -> Result<String, StoreError> {
    match serde_json::to_value(kind).map_err(failed)? {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(failed("an audit kind is written as a text")),
    }
}

/// DICOM PS3.15 A.5, EventOutcomeIndicator.
fn outcome_number(outcome: AuditOutcome) -> i64 {
    match outcome {
        AuditOutcome::Success => 0,
        AuditOutcome::Minor => 4,
        AuditOutcome::Serious => 8,
        AuditOutcome::Major => 12,
    }
}

fn outcome_of(number: i64) -> Option<AuditOutcome> {
    match number {
        0 => Some(AuditOutcome::Success),
        4 => Some(AuditOutcome::Minor),
        8 => Some(AuditOutcome::Serious),
        12 => Some(AuditOutcome::Major),
        _ => None,
    }
}
