//! The tables `audit` and `audit_chain`: one chain for each node.

use jiff::Timestamp;
use tokio_postgres::Row;

use super::{
    super::{
        audit_chain::{Chain, ChainVerdict, Check, Ends, PAGE, Stored, unseal},
        keys::KeyRing,
    },
    connection::{Link, Pool},
    failure::read_failed,
};
use crate::{
    flows::ports::StoreError,
    formats::{audit::AuditRecord, ids::ExchangeId},
};

pub(super) const INSERT: &str = "INSERT INTO audit \
     (node, sequence, at, kind, outcome, exchange, sealed, hash) \
     SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::bigint[], \
     $6::uuid[], $7::bytea[], $8::bytea[])";
pub(super) const CHAIN: &str = "SELECT node, sequence, at, kind, outcome, exchange, sealed, hash \
     FROM audit WHERE node = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
pub(super) const OF_EXCHANGE: &str = "SELECT node, sequence, at, kind, outcome, exchange, sealed, hash \
     FROM audit WHERE exchange = $1 ORDER BY at, node, sequence";
pub(super) const LAST: &str = "SELECT MAX(sequence) FROM audit WHERE node = $1";
pub(super) const DELETE_UP_TO: &str = "DELETE FROM audit WHERE node = $1 AND sequence <= $2";
/// A node without a chain has rows that somebody else put there: each is looked for by its index.
pub(super) const NODES: &str = "WITH RECURSIVE named (node) AS ( \
     (SELECT node FROM audit ORDER BY node LIMIT 1) UNION ALL \
     SELECT (SELECT audit.node FROM audit WHERE audit.node > named.node ORDER BY audit.node LIMIT 1) \
     FROM named WHERE named.node IS NOT NULL) \
     SELECT node FROM named WHERE node IS NOT NULL UNION SELECT node FROM audit_chain";
pub(super) const LOAD_ENDS: &str = "SELECT first_sequence, first_previous, last_sequence, last_hash, key_id, mac \
     FROM audit_chain WHERE node = $1";
pub(super) const BEGIN_CHAIN: &str = "INSERT INTO audit_chain \
     (node, first_sequence, first_previous, last_sequence, last_hash, key_id, mac) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) \
     ON CONFLICT (node) DO UPDATE SET first_sequence = $2, first_previous = $3, \
     last_sequence = $4, last_hash = $5, key_id = $6, mac = $7";
/// Only as the node that writes knows the chain: two processes under one name do not tear it.
pub(super) const SAVE_ENDS: &str = "UPDATE audit_chain SET first_sequence = $2, \
     first_previous = $3, last_sequence = $4, last_hash = $5, key_id = $6, mac = $7 \
     WHERE node = $1 AND first_sequence = $8 AND last_sequence = $9";
pub(super) const CHAINS_OF_OTHERS: &str = "SELECT node FROM audit_chain WHERE node <> $1";

/// The chain to go on with; `None` if it was written under a key that is not known.
pub(super) async fn resume(
    link: &Link,
    keys: &KeyRing,
    node: &str,
) -> Result<Option<Chain>, tokio_postgres::Error> {
    let ends = link.query_opt(LOAD_ENDS, &[&node]).await?;
    let last = link.query_opt(LAST, &[&node]).await?;
    let last = last.and_then(|row| row.get(0));
    Ok(Chain::resume(keys, node, ends.as_ref().map(ends_of), last))
}

/// The chain of a node as it was saved. `Err(what)` in the result if it is not as it was written.
pub(super) async fn load(
    link: &Link,
    keys: &KeyRing,
    node: &str,
) -> Result<Result<Chain, &'static str>, tokio_postgres::Error> {
    let ends = link.query_opt(LOAD_ENDS, &[&node]).await?;
    Ok(Chain::of(keys, node, ends.as_ref().map(ends_of)))
}

/// Records the chain's ends as they are, whatever they were.
pub(super) async fn begin(
    link: &Link,
    keys: &KeyRing,
    chain: &Chain,
) -> Result<(), tokio_postgres::Error> {
    let key = keys.current();
    link.execute(
        BEGIN_CHAIN,
        &[
            &chain.node,
            &chain.first_sequence,
            &chain.first_previous.as_slice(),
            &chain.last_sequence,
            &chain.last_hash.as_slice(),
            &key.id.as_slice(),
            &chain.mac(key).as_slice(),
        ],
    )
    .await?;
    Ok(())
}

/// In an open transaction: cuts off up to one page of records from before `before`; true if there may be more.
pub(super) async fn prune(
    link: &Link,
    chain: &mut Chain,
    before: Timestamp,
) -> Result<bool, tokio_postgres::Error> {
    let from = chain.first_sequence - 1;
    let rows = link.query(CHAIN, &[&chain.node, &from, &PAGE]).await?;
    let rows: Vec<Stored> = rows.iter().map(stored).collect();
    let Some((up_to, is_all)) = chain.cut(&rows, before) else {
        return Ok(false);
    };
    link.execute(DELETE_UP_TO, &[&chain.node, &up_to]).await?;
    Ok(is_all)
}

/// Checks the chains of all nodes from end to end.
pub(super) async fn verify(pool: &Pool, keys: &KeyRing) -> Result<ChainVerdict, StoreError> {
    let mut taken = pool.take().await?;
    let verdict = verify_in(&mut taken.link, keys)
        .await
        .map_err(read_failed)?;
    taken.give_back();
    Ok(verdict)
}

async fn verify_in(link: &mut Link, keys: &KeyRing) -> Result<ChainVerdict, tokio_postgres::Error> {
    // One transaction sees one state: rows that are added meanwhile are not missed at the end.
    link.client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let mut records = 0;
    let mut broken = None;
    for row in link.query(NODES, &[]).await? {
        let node: String = row.get(0);
        match verify_node(link, keys, &node).await? {
            Ok(count) => records += count,
            Err((sequence, what)) => {
                broken = Some(ChainVerdict::Broken {
                    node,
                    sequence,
                    what,
                });
                break;
            }
        }
    }
    link.client.batch_execute("COMMIT").await?;
    Ok(broken.unwrap_or(ChainVerdict::Intact { records }))
}

async fn verify_node(
    link: &Link,
    keys: &KeyRing,
    node: &str,
) -> Result<Result<u64, (i64, &'static str)>, tokio_postgres::Error> {
    let chain = match load(link, keys, node).await? {
        Ok(chain) => chain,
        Err(what) => return Ok(Err((0, what))),
    };
    let mut check = Check::new(chain);
    let mut after = i64::MIN;
    loop {
        let rows = link.query(CHAIN, &[&node, &after, &PAGE]).await?;
        for row in rows.iter().map(stored) {
            after = row.sequence;
            if let Err(broken) = check.row(keys, &row) {
                return Ok(Err(broken));
            }
        }
        if rows.is_empty() {
            return Ok(check.end());
        }
    }
}

/// The records of one exchange, oldest first.
pub(super) async fn of_exchange(
    pool: &Pool,
    keys: &KeyRing,
    exchange: ExchangeId,
) -> Result<Vec<AuditRecord>, StoreError> {
    let rows = pool.query(OF_EXCHANGE, &[&exchange.0]).await?;
    rows.iter().map(|row| unseal(keys, &stored(row))).collect()
}

/// Up to `limit` records of one node after the sequence number given, with theirs.
pub(super) async fn page(
    pool: &Pool,
    keys: &KeyRing,
    node: &str,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, AuditRecord)>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX).min(PAGE);
    let rows = pool.query(CHAIN, &[&node, &after, &limit]).await?;
    rows.iter()
        .map(|row| {
            let row = stored(row);
            Ok((row.sequence, unseal(keys, &row)?))
        })
        .collect()
}

fn ends_of(row: &Row) -> Ends {
    Ends {
        first_sequence: row.get(0),
        first_previous: row.get(1),
        last_sequence: row.get(2),
        last_hash: row.get(3),
        key_id: row.get(4),
        mac: row.get(5),
    }
}

fn stored(row: &Row) -> Stored {
    Stored {
        node: row.get(0),
        sequence: row.get(1),
        at: row.get(2),
        kind: row.get(3),
        outcome: row.get(4),
        exchange: row.get(5),
        sealed: row.get(6),
        hash: row.get(7),
    }
}
