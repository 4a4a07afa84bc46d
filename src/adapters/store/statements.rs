//! Tests over the statements of all tables: none of them reads a whole table, however many rows there are.

use sqlx::{AssertSqlSafe, SqlitePool, sqlite::SqlitePoolOptions};

use super::{
    MIGRATIONS, audit, body, exchange,
    failure::{Failure, UnitError},
    lookup_key, outbox,
};
use crate::flows::ports::StoreError;

async fn database() -> SqlitePool {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect("sqlite::memory:")
        .await
        .unwrap();
    MIGRATIONS.run(&pool).await.unwrap();
    pool
}

/// What SQLite would do, one line for each step.
async fn plan(pool: &SqlitePool, statement: &str) -> Vec<String> {
    let rows: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
            .fetch_all(pool)
            .await
            .unwrap();
    rows.into_iter().map(|(.., step)| step).collect()
}

#[tokio::test]
async fn no_statement_of_a_flow_reads_a_whole_table() {
    let pool = database().await;
    for (statement, index) in [
        (exchange::LOAD, "sqlite_autoindex_exchange_1"),
        (exchange::UPDATE, "sqlite_autoindex_exchange_1"),
        (exchange::DELETE, "sqlite_autoindex_exchange_1"),
        (exchange::LIST, "exchange_by_time"),
        (exchange::LIST_OPEN, "exchange_open"),
        (exchange::LIST_OF_PARTNER, "exchange_by_partner"),
        (exchange::LIST_OPEN_OF_PARTNER, "exchange_open"),
        (exchange::EXPIRED, "exchange_final"),
        (lookup_key::FIND, "PRIMARY KEY"),
        (lookup_key::FIND_ANY, "lookup_key_any"),
        (outbox::LAPSE, "outbox_queue"),
        (outbox::CLAIM, "outbox_queue"),
        (outbox::NEXT_DUE, "outbox_queue"),
        (outbox::RELEASE_ALL, "outbox_queue"),
        (outbox::COMPLETE, "PRIMARY KEY"),
        (outbox::GIVE_BACK, "PRIMARY KEY"),
        (body::CONTENT, "sqlite_autoindex_body_1"),
        (body::EXISTS, "sqlite_autoindex_body_1"),
        (body::DELETE, "sqlite_autoindex_body_1"),
        (body::OF_EXCHANGE, "body_of_exchange"),
        (audit::OF_EXCHANGE, "audit_of_exchange"),
        (audit::CHAIN, "sqlite_autoindex_audit_1"),
        (audit::LAST, "sqlite_autoindex_audit_1"),
        (audit::DELETE_UP_TO, "sqlite_autoindex_audit_1"),
        (audit::LOAD_ENDS, "sqlite_autoindex_audit_chain_1"),
    ] {
        let steps = plan(&pool, statement).await;
        // `SCAN CONSTANT ROW` reads no table.
        let scans = |step: &&String| step.starts_with("SCAN ") && !step.contains("CONSTANT ROW");
        assert_eq!(steps.iter().find(scans), None, "{statement}\n{steps:#?}");
        let is_by_index = |step: &String| step.starts_with("SEARCH") && step.contains(index);
        assert!(steps.iter().any(is_by_index), "{statement}\n{steps:#?}");
    }
}

#[tokio::test]
async fn a_claim_and_a_page_are_read_in_order_without_sorting() {
    let pool = database().await;
    for statement in [
        exchange::LIST,
        exchange::LIST_OPEN,
        exchange::LIST_OF_PARTNER,
        exchange::LIST_OPEN_OF_PARTNER,
        exchange::EXPIRED,
        outbox::CLAIM,
        audit::CHAIN,
    ] {
        let steps = plan(&pool, statement).await;
        let sorts = |step: &String| step.contains("TEMP B-TREE");
        assert!(!steps.iter().any(sorts), "{statement}\n{steps:#?}");
    }
    // The test can fail: without an index there is a scan and a sort.
    let steps = plan(&pool, "SELECT id FROM outbox ORDER BY effect").await;
    assert!(steps.iter().any(|step| step.starts_with("SCAN ")));
    assert!(steps.iter().any(|step| step.contains("TEMP B-TREE")));
}

#[tokio::test]
async fn a_full_disk_is_told_apart_from_other_failures() {
    let pool = database().await;
    sqlx::query("PRAGMA max_page_count = 60")
        .execute(&pool)
        .await
        .unwrap();
    let fill = "INSERT INTO body (id, size, content) VALUES (randomblob(16), 0, zeroblob(1000000))";
    let error = sqlx::query(fill).execute(&pool).await.unwrap_err();
    let UnitError::Broken(failure) = UnitError::from(error) else {
        panic!("a full disk breaks the transaction");
    };
    assert!(matches!(failure.to_store_error(), StoreError::NoSpace));

    let absent = sqlx::query("SELECT nothing")
        .execute(&pool)
        .await
        .unwrap_err();
    assert!(matches!(Failure::from(absent), Failure::Other(_)));
    let null = sqlx::query("INSERT INTO body (id, size) VALUES (NULL, 0)");
    let error = null.execute(&pool).await.unwrap_err();
    assert!(matches!(UnitError::from(error), UnitError::Refused(_)));
}
