//! Stores that hold a thousand times what a bridge has put into them.

use std::path::Path;

use anyhow::Context;
use openssl::sha::sha256;
use rusqlite::{Connection, params_from_iter, types::Value};

/// By how much each copy of an exchange is older than the one before it: more than the run that made them took, and all
/// copies together less than the shortest retention.
const OLDER_MILLISECONDS: i64 = 60_000;

/// The columns of a table that differ from copy to copy.
struct Table {
    name: &'static str,
    /// UUIDs of version 7: they begin with the time.
    ids: &'static [usize],
    /// Hashes, which are anything.
    hashes: &'static [usize],
    /// Microseconds.
    times: &'static [usize],
    /// What a copy has in place of a body's octets, which no message reads that is not its own.
    emptied: &'static [usize],
    /// Rows that are numbered are numbered by the table.
    numbered: Option<usize>,
}

/// What a finished message has left. The audit's copies are another node's.
const TABLES: [Table; 5] = [
    Table {
        name: "exchange",
        ids: &[0],
        hashes: &[],
        times: &[3, 5],
        emptied: &[],
        numbered: None,
    },
    Table {
        name: "lookup_key",
        ids: &[1],
        hashes: &[0, 2],
        times: &[],
        emptied: &[],
        numbered: None,
    },
    Table {
        name: "outbox",
        ids: &[1],
        hashes: &[],
        times: &[],
        emptied: &[],
        numbered: Some(0),
    },
    Table {
        name: "body",
        ids: &[0, 1],
        hashes: &[],
        times: &[],
        emptied: &[3],
        numbered: None,
    },
    Table {
        name: "audit",
        ids: &[5],
        hashes: &[],
        times: &[2],
        emptied: &[],
        numbered: None,
    },
];

/// Copies what the database at `path` holds until it is there `times` times. No bridge may have it open.
pub(crate) fn multiply_sqlite(path: &Path, times: i64) -> anyhow::Result<()> {
    let mut database = Connection::open(path)?;
    database.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -500000;")?;
    for table in &TABLES {
        let rows = rows(&database, table)?;
        let columns = rows.first().map_or(0, Vec::len);
        let places = vec!["?"; columns].join(", ");
        let work = database.transaction()?;
        {
            let insert = format!("INSERT INTO {} VALUES ({places})", table.name);
            let mut insert = work.prepare(&insert)?;
            for copy in 1..times {
                for row in &rows {
                    insert.execute(params_from_iter(copied(table, row, copy)))?;
                }
            }
        }
        work.commit()?;
    }
    database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize;")?;
    Ok(())
}

fn rows(database: &Connection, table: &Table) -> anyhow::Result<Vec<Vec<Value>>> {
    let mut all = database.prepare(&format!("SELECT * FROM {}", table.name))?;
    let columns = all.column_count();
    let rows = all.query_map([], |row| {
        (0..columns).map(|column| row.get(column)).collect()
    })?;
    rows.collect::<Result<_, _>>().context(table.name)
}

fn copied(table: &Table, row: &[Value], copy: i64) -> Vec<Value> {
    let columns = row.iter().enumerate();
    let columns = columns.map(|(column, value)| match value {
        Value::Blob(id) if table.ids.contains(&column) => Value::Blob(older(id, copy)),
        Value::Blob(hash) if table.hashes.contains(&column) => {
            Value::Blob(sha256(&[hash.as_slice(), &copy.to_be_bytes()].concat()).to_vec())
        }
        Value::Integer(time) if table.times.contains(&column) => {
            Value::Integer(time - copy * OLDER_MILLISECONDS * 1000)
        }
        Value::Blob(_) if table.emptied.contains(&column) => Value::Blob(vec![0]),
        _ if table.numbered == Some(column) => Value::Null,
        Value::Text(node) if table.name == "audit" && column == 0 => {
            Value::Text(format!("{node}, copy {copy}"))
        }
        value => value.clone(),
    });
    columns.collect()
}

/// The UUID with its time, its first six octets, set back.
fn older(id: &[u8], copy: i64) -> Vec<u8> {
    let mut octets = [0; 8];
    let (time, rest) = id.split_at_checked(6).unwrap_or((id, &[]));
    octets[8 - time.len()..].copy_from_slice(time);
    let time = i64::from_be_bytes(octets) - copy * OLDER_MILLISECONDS;
    [&time.to_be_bytes()[2..], rest].concat()
}

/// The same as statements for PostgreSQL. The tables are to be vacuumed then, as the server would do by itself.
pub(crate) fn multiply_postgres(times: i64) -> String {
    let older = |column: &str| {
        format!(
            "(lpad(to_hex(('x' || substr(replace({column}::text, '-', ''), 1, 12))::bit(48)::bigint \
             - copy * {OLDER_MILLISECONDS}), 12, '0') || substr(replace({column}::text, '-', ''), 13))::uuid"
        )
    };
    let hashed = |column: &str| format!("sha256({column} || int8send(copy))");
    let earlier = |column: &str| format!("{column} - copy * {OLDER_MILLISECONDS} * 1000");
    let copies = format!("generate_series(1::bigint, {}) AS copy", times - 1);
    let (id, exchange) = (older("id"), older("exchange"));
    format!(
        "SET synchronous_commit = off; SET session_replication_role = replica; \
         INSERT INTO exchange SELECT {id}, version, partner, {}, is_final, {}, sealed FROM exchange, {copies}; \
         INSERT INTO lookup_key SELECT {}, {exchange}, {} FROM lookup_key, {copies}; \
         INSERT INTO outbox (exchange, effect, next_at, attempts, owner) \
           SELECT {exchange}, effect, next_at, attempts, owner FROM outbox, {copies}; \
         INSERT INTO body SELECT {id}, {exchange}, size, 'x', 1, NULL FROM body, {copies}; \
         INSERT INTO audit SELECT node || ', copy ' || copy, sequence, {}, kind, outcome, {exchange}, sealed, hash \
           FROM audit, {copies}",
        earlier("accepted_at"),
        earlier("final_at"),
        hashed("hash"),
        hashed("any_hash"),
        earlier("at"),
    )
}
