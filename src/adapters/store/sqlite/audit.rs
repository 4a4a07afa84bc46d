//! The tables `audit` and `audit_chain` (`audit_chain` beside this folder has the reasons).

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::audit_chain::{Chain, ChainVerdict, Check, Ends, PAGE, Row, Stored, unseal},
    failure::{UnitError, failed, read_failed},
    keys::KeyRing,
    row_id::RowId,
};
use crate::{
    flows::ports::StoreError,
    formats::{audit::AuditRecord, ids::ExchangeId},
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

/// The ends of a node's chain as they were saved.
fn ends(connection: &Connection, node: &str) -> rusqlite::Result<Option<Ends>> {
    connection
        .prepare_cached(LOAD_ENDS)?
        .query_row([node], |row| {
            Ok(Ends {
                first_sequence: row.get(0)?,
                first_previous: row.get(1)?,
                last_sequence: row.get(2)?,
                last_hash: row.get(3)?,
                key_id: row.get(4)?,
                mac: row.get(5)?,
            })
        })
        .optional()
}

/// The chain to go on with at start; `None` if it was written under a key that is not known.
pub(super) fn resume(
    connection: &Connection,
    keys: &KeyRing,
    node: &str,
) -> rusqlite::Result<Option<Chain>> {
    let last: Option<i64> = connection.query_row(LAST, [node], |row| row.get(0))?;
    Ok(Chain::resume(keys, node, ends(connection, node)?, last))
}

/// Puts records at the end.
pub(super) fn append(
    chain: &mut Chain,
    connection: &Connection,
    keys: &KeyRing,
    rows: &[Row],
) -> Result<(), UnitError> {
    let mut insert = connection.prepare_cached(INSERT)?;
    for row in rows {
        let linked = chain
            .link(keys, row)
            .map_err(|error| UnitError::Refused(failed(error)))?;
        insert.execute(params![
            linked.node,
            linked.sequence,
            linked.at,
            linked.kind,
            linked.outcome,
            linked.exchange.map(RowId),
            linked.sealed,
            linked.hash
        ])?;
    }
    Ok(())
}

/// Records where the chain begins and ends.
pub(super) fn save(chain: &Chain, connection: &Connection, keys: &KeyRing) -> rusqlite::Result<()> {
    let key = keys.current();
    connection.prepare_cached(SAVE_ENDS)?.execute(params![
        chain.node,
        chain.first_sequence,
        chain.first_previous,
        chain.last_sequence,
        chain.last_hash,
        key.id,
        chain.mac(key),
    ])?;
    Ok(())
}

/// Cuts off up to one page of records from before `before`; true if there may be more.
pub(super) fn prune(
    chain: &mut Chain,
    connection: &Connection,
    before: Timestamp,
) -> rusqlite::Result<bool> {
    let rows = chain_rows(connection, &chain.node, chain.first_sequence - 1, PAGE)?;
    let Some((up_to, is_all)) = chain.cut(&rows, before) else {
        return Ok(false);
    };
    connection
        .prepare_cached(DELETE_UP_TO)?
        .execute(params![chain.node, up_to])?;
    Ok(is_all)
}

/// Checks the chains of all nodes from end to end.
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
    let chain = match Chain::of(keys, node, ends(connection, node)?) {
        Ok(chain) => chain,
        Err(what) => return Ok(Err((0, what))),
    };
    let mut check = Check::new(chain);
    let mut statement = connection.prepare_cached(CHAIN)?;
    let rows = statement.query_map(params![node, i64::MIN, i64::MAX], stored)?;
    for row in rows {
        if let Err(broken) = check.row(keys, &row?) {
            return Ok(Err(broken));
        }
    }
    Ok(check.end())
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
        .map(|row| Ok((row.sequence, unseal(keys, row)?)))
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
    Ok(Stored {
        node: row.get(0)?,
        sequence: row.get(1)?,
        at: row.get(2)?,
        kind: row.get(3)?,
        outcome: row.get(4)?,
        exchange: row.get::<_, Option<RowId>>(5)?.map(|RowId(id)| id),
        sealed: row.get(6)?,
        hash: row.get(7)?,
    })
}
