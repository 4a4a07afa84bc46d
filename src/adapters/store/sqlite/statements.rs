//! Tests over the statements of all tables: none of them reads a whole table, however many rows there are.

use rusqlite::Connection;

use super::{
    audit, body,
    connection::migrate,
    exchange,
    failure::{Failure, UnitError},
    lookup_key, outbox,
};
use crate::flows::ports::StoreError;

fn database() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    assert!(migrate(&mut connection).unwrap());
    connection
}

/// What SQLite would do, one line for each step.
fn plan(database: &Connection, statement: &str) -> Vec<String> {
    let mut explained = database
        .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
        .unwrap();
    // Values that were not given are NULL, and change no plan.
    let mut rows = explained.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get(3).unwrap());
    }
    steps
}

#[test]
fn no_statement_of_a_flow_reads_a_whole_table() {
    let database = database();
    for (statement, index) in [
        (exchange::LOAD, "sqlite_autoindex_exchange_1"),
        (exchange::UPDATE, "sqlite_autoindex_exchange_1"),
        (exchange::DELETE, "sqlite_autoindex_exchange_1"),
        (exchange::LIST, "exchange_by_time"),
        (exchange::LIST_OPEN, "exchange_open"),
        (exchange::LIST_OF_PARTNER, "exchange_by_partner"),
        (exchange::LIST_OPEN_OF_PARTNER, "exchange_open_of_partner"),
        (exchange::LIST_FINAL, "exchange_final_by_time"),
        (exchange::LIST_FINAL_OF_PARTNER, "exchange_final_of_partner"),
        (exchange::EXPIRED, "exchange_final"),
        (lookup_key::FIND, "PRIMARY KEY"),
        (lookup_key::FIND_SOME, "PRIMARY KEY"),
        (lookup_key::CARRIERS, "PRIMARY KEY"),
        (lookup_key::FIND_ANY, "lookup_key_any"),
        (outbox::LAPSE, "outbox_queue"),
        (outbox::CLAIM, "outbox_queue"),
        (outbox::FIRST_WAITING, "outbox_queue"),
        (outbox::RELEASE_ALL, "outbox_queue"),
        (outbox::COMPLETE, "PRIMARY KEY"),
        (outbox::GIVE_BACK, "PRIMARY KEY"),
        (outbox::HELD, "PRIMARY KEY"),
        (outbox::RESCHEDULE, "PRIMARY KEY"),
        (outbox::OF_EXCHANGE, "outbox_of_exchange"),
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
        let steps = plan(&database, statement);
        // `SCAN CONSTANT ROW` reads no table, nor does what passes over the few rows that an index has given.
        let scans = |step: &&String| {
            let reads_none = step.contains("CONSTANT ROW") || *step == "SCAN found";
            step.starts_with("SCAN ") && !reads_none
        };
        assert_eq!(steps.iter().find(scans), None, "{statement}\n{steps:#?}");
        let is_by_index = |step: &String| step.starts_with("SEARCH") && step.contains(index);
        assert!(steps.iter().any(is_by_index), "{statement}\n{steps:#?}");
    }
}

#[test]
fn what_is_told_of_all_bodies_is_told_without_reading_one() {
    let database = database();
    for (statement, index) in [
        (body::SUM, "body_by_size"),
        (body::IN_FILES, "body_in_file"),
    ] {
        let expected = format!("SCAN body USING COVERING INDEX {index}");
        assert_eq!(plan(&database, statement), [expected]);
    }
}

#[test]
fn a_claim_and_a_page_are_read_in_order_without_sorting() {
    let database = database();
    for statement in [
        exchange::LIST,
        exchange::LIST_OPEN,
        exchange::LIST_OF_PARTNER,
        exchange::LIST_OPEN_OF_PARTNER,
        exchange::LIST_FINAL,
        exchange::LIST_FINAL_OF_PARTNER,
        exchange::EXPIRED,
        outbox::CLAIM,
        audit::CHAIN,
    ] {
        let steps = plan(&database, statement);
        let sorts = |step: &String| step.contains("TEMP B-TREE");
        assert!(!steps.iter().any(sorts), "{statement}\n{steps:#?}");
    }
    // The test can fail: without an index there is a scan and a sort.
    let steps = plan(&database, "SELECT id FROM outbox ORDER BY effect");
    assert!(steps.iter().any(|step| step.starts_with("SCAN ")));
    assert!(steps.iter().any(|step| step.contains("TEMP B-TREE")));
}

#[test]
fn a_full_disk_is_told_apart_from_other_failures() {
    let database = database();
    database
        .execute_batch("PRAGMA max_page_count = 60")
        .unwrap();
    let fill = "INSERT INTO body (id, size, content) VALUES (randomblob(16), 0, zeroblob(1000000))";
    let error = database.execute(fill, []).unwrap_err();
    let UnitError::Broken(failure) = UnitError::from(error) else {
        panic!("a full disk breaks the transaction");
    };
    assert!(matches!(failure.to_store_error(), StoreError::NoSpace));

    let absent = database.execute("SELECT nothing", []).unwrap_err();
    assert!(matches!(Failure::from(absent), Failure::Other(_)));
    let null = "INSERT INTO body (id, size) VALUES (NULL, 0)";
    let error = database.execute(null, []).unwrap_err();
    assert!(matches!(UnitError::from(error), UnitError::Refused(_)));
}
