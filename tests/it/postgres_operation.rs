//! What operators do with bridges on PostgreSQL, by the database's own tools: copies and their restoration, and tables that
//! a later release adds to. And what a start makes of a body that is damaged there.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::runtime::Runtime;

use crate::{
    postgres_nodes::{node, start},
    support::{
        crossing_ground::{Answered, Letter, Workshop},
        postgres::PostgresServer,
        process::BridgeProcess,
        scripted_smtp::{Act, Builder},
        wait_until,
    },
};

/// What `exchange list` tells of a bridge that is stopped.
fn listed(folder: &Path) -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_xdbridge"))
        .args(["exchange", "list", "--json", "--config"])
        .arg(folder.join("xdbridge.toml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    list["exchanges"].as_array().unwrap().clone()
}

/// Puts off every mail until `is_open`.
fn puts_off_until(is_open: &Arc<AtomicBool>) -> impl FnOnce(Builder) -> Builder + use<> {
    let is_open = Arc::clone(is_open);
    move |hop| {
        hop.acts(move |_, step| {
            let puts_off = step == "END" && !is_open.load(Ordering::Relaxed);
            puts_off.then(|| Act::Say("451 4.3.0 later".to_owned()))
        })
    }
}

const LET_RETRIES_BE_DUE: &str = "UPDATE outbox SET next_at = 0, owner = NULL \
     WHERE effect NOT LIKE '%Deadline%' AND effect NOT LIKE '%RemoveBodies%'";
/// What is to be done beside deadlines and clearing up.
const OPEN_WORK: &str = "SELECT count(*) FROM outbox \
     WHERE effect NOT LIKE '%Deadline%' AND effect NOT LIKE '%RemoveBodies%'";

// rule: T-24, T-31
#[test]
fn a_dump_that_is_restored_to_a_new_database_has_all_that_was_accepted_and_is_finished_there() {
    let runtime = Runtime::new().unwrap();
    let server = PostgresServer::start("");
    let workshop = Workshop::new();
    let is_open = Arc::new(AtomicBool::new(false));
    let ground = workshop.ground_with(puts_off_until(&is_open));
    let folder = node(&ground, &server, "node-a");
    let bridge = start(&folder, "");
    for letter in [Letter::small(), Letter::large()] {
        assert_eq!(ground.post(&bridge, &letter), Answered::Success);
    }
    ground.wait_for_messages(2);
    let dump = folder.with_file_name("xdbridge.dump");
    let dump = dump.to_str().unwrap();
    // Beside the node at work.
    server.tool("pg_dump", &["--format=custom", "--file", dump, "postgres"]);
    // What comes later is lost with the database.
    assert_eq!(ground.post(&bridge, &Letter::small()), Answered::Success);
    ground.wait_for_messages(3);
    bridge.stop();
    runtime
        .block_on(server.sql("DROP TABLE outbox, lookup_key, body_chunk, body, exchange, audit"));

    server.tool("createdb", &["restored"]);
    server.tool(
        "pg_restore",
        &["--exit-on-error", "--no-owner", "--dbname=restored", dump],
    );
    let due = ["--dbname=restored", "--command", LET_RETRIES_BE_DUE];
    server.tool("psql", &due);
    let path = folder.join("xdbridge.toml");
    let text = fs::read_to_string(&path).unwrap();
    let elsewhere = text.replace("database = \"postgres\"", "database = \"restored\"");
    assert_ne!(text, elsewhere);
    fs::write(&path, elsewhere).unwrap();
    is_open.store(true, Ordering::Relaxed);
    let bridge = start(&folder, "");
    assert!(bridge.operator("/readyz").starts_with("HTTP/1.1 200"));
    let asked = [
        "--dbname=restored",
        "--tuples-only",
        "--no-align",
        "--command",
        OPEN_WORK,
    ];
    wait_until("the restored node finishes", || {
        server.tool("psql", &asked).trim() == "0"
    });
    bridge.stop();
    assert_eq!(ground.arrived().len(), 3 + 2, "once more each");
    assert_eq!(listed(&folder).len(), 2);
}

// rule: Q-1
#[test]
fn a_node_works_on_while_a_later_release_adds_to_the_tables_and_does_not_start_on_them() {
    let runtime = Runtime::new().unwrap();
    let server = PostgresServer::start("");
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let folder = node(&ground, &server, "node-a");
    let bridge = start(&folder, "");
    let is_over = AtomicBool::new(false);
    let accepted = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut accepted = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(ground.post(&bridge, &Letter::small()), Answered::Success);
                accepted += 1;
            }
            // And with the tables as they are then, all connections included.
            for letter in [Letter::small(), Letter::large()] {
                assert_eq!(ground.post(&bridge, &letter), Answered::Success);
            }
            accepted + 2
        });
        ground.wait_for_messages(1);
        // What a migration may do: columns that may be null, tables, indexes; and it counts itself.
        for step in [
            "ALTER TABLE exchange ADD COLUMN later text",
            "ALTER TABLE outbox ADD COLUMN later bigint",
            "ALTER TABLE body ADD COLUMN later bytea",
            "ALTER TABLE audit ADD COLUMN later integer",
            "CREATE TABLE later (id bigint PRIMARY KEY)",
            "UPDATE xdbridge_schema SET version = version + 1",
            "CREATE INDEX CONCURRENTLY later_body ON body (size)",
            "CREATE INDEX CONCURRENTLY later_exchange ON exchange (later, accepted_at)",
        ] {
            runtime.block_on(server.sql(step));
        }
        is_over.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    ground.wait_for_messages(accepted);
    assert!(bridge.operator("/readyz").starts_with("HTTP/1.1 200"));
    assert!(
        !bridge.log_text().contains("\"alarm\""),
        "{}",
        bridge.log_text()
    );
    bridge.stop();
    let mut refused = BridgeProcess::start(&folder, "");
    assert!(!refused.is_listening());
    assert_eq!(refused.ended().code(), Some(1));
    let said = refused.log_text();
    assert!(
        said.contains("the database was written by a later release"),
        "{said}"
    );
    runtime.block_on(server.sql("UPDATE xdbridge_schema SET version = version - 1"));
    assert_eq!(listed(&folder).len(), accepted);
}

// rule: T-26
#[test]
fn a_database_without_space_refuses_what_comes_keeps_what_it_has_and_takes_more_once_there_is_room()
{
    let runtime = Runtime::new().unwrap();
    let server = PostgresServer::start("");
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let folder = node(&ground, &server, "node-a");
    let bridge = start(&folder, "");
    assert_eq!(ground.post(&bridge, &Letter::small()), Answered::Success);
    ground.wait_for_messages(1);
    // The error that a server gives whose disk is full, from the place where it would come.
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' \
         USING ERRCODE = '53100'; END $$";
    runtime.block_on(server.sql(full));
    let of_rows = "CREATE TRIGGER full_disk BEFORE INSERT ON exchange EXECUTE FUNCTION full_disk()";
    runtime.block_on(server.sql(of_rows));
    let letter = Letter::large();
    let Answered::Refused(200, text) = ground.post(&bridge, &letter) else {
        panic!("it cannot be recorded");
    };
    assert!(text.contains("XDSRepositoryOutOfResources"), "{text}");
    bridge.wait_for_line(|line| line.contains("\"alarm\":\"store\""));
    runtime.block_on(server.sql("DROP TRIGGER full_disk ON exchange"));
    assert_eq!(ground.post(&bridge, &letter), Answered::Success);
    ground.wait_for_messages(2);
    bridge.stop();
    assert_eq!(listed(&folder).len(), 2);
}

// rule: T-24
#[test]
fn a_mail_whose_chunks_are_damaged_is_not_sent_again_and_its_sender_is_told() {
    let runtime = Runtime::new().unwrap();
    let server = PostgresServer::start("");
    let workshop = Workshop::new();
    for damage in [
        "DELETE FROM body_chunk WHERE position > 0",
        "DELETE FROM body_chunk",
        "UPDATE body_chunk SET content = substr(content, 1, length(content) - 1)",
    ] {
        let is_open = Arc::new(AtomicBool::new(false));
        let ground = workshop.ground_with(puts_off_until(&is_open));
        let folder = node(&ground, &server, "node-a");
        let bridge = start(&folder, "");
        assert_eq!(ground.post(&bridge, &Letter::large()), Answered::Success);
        ground.wait_for_messages(1);
        bridge.stop();
        runtime.block_on(server.sql(damage));
        runtime.block_on(server.sql(LET_RETRIES_BE_DUE));
        is_open.store(true, Ordering::Relaxed);
        let bridge = start(&folder, "");
        bridge.wait_for_line(|line| line.contains("\"alarm\":\"body_damaged\""));
        wait_until("it is settled", || {
            runtime.block_on(server.sql(OPEN_WORK)) == ["0"]
        });
        bridge.stop();
        assert_eq!(ground.arrived().len(), 1, "{damage}");
        let exchange = &listed(&folder)[0];
        assert_eq!(exchange["state"], "failed", "{damage}");
        assert_eq!(exchange["reasons"], serde_json::json!(["internal"]));
    }
}
