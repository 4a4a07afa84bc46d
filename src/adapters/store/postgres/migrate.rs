//! How the tables come into being.

use tokio_postgres::Client;

/// What makes the tables, in the order in which releases brought it. `xdbridge_schema` counts those that were run.
const MIGRATIONS: [&str; 2] = [
    include_str!("migrations/0001_exchanges.sql"),
    include_str!("migrations/0002_lists.sql"),
];
const VERSION: i32 = MIGRATIONS.len() as i32;
/// The advisory lock that one node at a time migrates under: "xdbridge" in ASCII.
const LOCK: i64 = 0x7864_6272_6964_6765;

const IS_THERE: &str = "SELECT to_regclass('xdbridge_schema') IS NOT NULL";
const RUN: &str = "SELECT version FROM xdbridge_schema";
/// A node that waited for the lock may still believe that the table is not there: IF NOT EXISTS looks again.
const BEGIN: &str = "CREATE TABLE IF NOT EXISTS xdbridge_schema (version integer NOT NULL); \
     INSERT INTO xdbridge_schema (version) \
     SELECT 0 WHERE NOT EXISTS (SELECT FROM xdbridge_schema)";

/// Brings the tables to this release's form, all or nothing. False if a later release made them. Nodes that start
/// together wait for one another; one that finds the tables as it needs them changes nothing, so it needs no right to.
pub(super) async fn migrate(client: &mut Client) -> Result<bool, tokio_postgres::Error> {
    if run(client).await? == Some(VERSION) {
        return Ok(true);
    }
    let transaction = client.transaction().await?;
    // It may rewrite a large table.
    transaction
        .batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        .await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    transaction.batch_execute(BEGIN).await?;
    let run: i32 = transaction.query_one(RUN, &[]).await?.get(0);
    if run > VERSION {
        return Ok(false);
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(run).unwrap_or(0)) {
        transaction.batch_execute(migration).await?;
    }
    transaction
        .execute("UPDATE xdbridge_schema SET version = $1", &[&VERSION])
        .await?;
    transaction.commit().await?;
    Ok(true)
}

async fn run(client: &Client) -> Result<Option<i32>, tokio_postgres::Error> {
    let is_there: bool = client.query_one(IS_THERE, &[]).await?.get(0);
    if !is_there {
        return Ok(None);
    }
    Ok(Some(client.query_one(RUN, &[]).await?.get(0)))
}
