//! Real bridges on one PostgreSQL: what one has accepted another delivers.

use std::fs;

use rustix::process::Signal;

use super::support::{
    crossing_ground::{Answered, CrossingGround, Letter, Workshop},
    postgres::PostgresServer,
    process::BridgeProcess,
};

/// A copy of the ground's configuration for one node on the shared database, with the times of a test.
pub(crate) fn node(
    ground: &CrossingGround<'_>,
    server: &PostgresServer,
    name: &str,
) -> std::path::PathBuf {
    let folder = ground.path().with_file_name(name);
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(ground.path())
        .arg(&folder)
        .status();
    assert!(copied.unwrap().success());
    let path = folder.join("xdbridge.toml");
    let text = fs::read_to_string(&path).unwrap();
    let mut settings: toml::Table = toml::from_str(&text).unwrap();
    let database = server.settings();
    let more = format!(
        "[store]\nkind = \"postgres\"\n[store.postgres]\nhost = {:?}\ndatabase = {:?}\nuser = {:?}\n\
         password_file = {:?}\npoll_interval = \"200ms\"\nnode_timeout = \"1s\"\n[node]\nname = {name:?}\n",
        database.host,
        database.database,
        database.user,
        database.password_file.unwrap().to_str().unwrap(),
    );
    let more: toml::Table = toml::from_str(&more).unwrap();
    let store = settings["store"].as_table_mut().unwrap();
    store.extend(more["store"].as_table().unwrap().clone());
    settings.insert("node".into(), more["node"].clone());
    fs::write(&path, toml::to_string(&settings).unwrap()).unwrap();
    folder
}

pub(crate) fn start(folder: &std::path::Path, faults: &str) -> BridgeProcess {
    let bridge = BridgeProcess::start(folder, faults);
    assert!(bridge.is_listening(), "{}", bridge.log_text());
    bridge
}

#[test]
fn a_letter_crosses_over_postgresql_and_stays_in_no_file_of_the_node() {
    let server = PostgresServer::start("");
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let folder = node(&ground, &server, "node-a");
    let bridge = start(&folder, "");
    for letter in [Letter::small(), Letter::large()] {
        assert_eq!(ground.post(&bridge, &letter), Answered::Success);
    }
    ground.wait_for_messages(2);
    assert!(bridge.operator("/readyz").contains("200"));
    bridge.stop();
    // The mail for its postmaster may lie there, and nothing else.
    for name in ["xdbridge.db", "bodies"] {
        assert!(!folder.join("data").join(name).exists(), "{name}");
    }
}

// rule: Q-1
#[cfg(feature = "fault-points")]
#[test]
fn what_a_killed_node_had_accepted_the_other_delivers() {
    use std::collections::BTreeSet;

    use super::support::{crossing_ground::message_id, wait_until};

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = PostgresServer::start("");
    let workshop = Workshop::new();
    for point in [
        "accept.before_answer",
        "deliver.before_seal",
        "deliver.seal_recorded",
        "deliver.sent",
    ] {
        let ground = workshop.ground();
        let second = start(&node(&ground, &server, "node-b"), "");
        // It serves nothing: the second one alone is asked to, once the first is dead.
        let mut first = start(&node(&ground, &server, "node-a"), &format!("{point}=kill"));
        let answered = ground.post(&first, &Letter::large());
        first.ended();
        assert!(
            matches!(answered, Answered::Success | Answered::Nothing),
            "{point}: {answered:?}"
        );
        ground.wait_for_messages(1);
        // It finishes whatever the first had begun, a repeat included.
        let open = "SELECT count(*) FROM outbox \
             WHERE effect LIKE '%LookUp%' OR effect LIKE '%Seal%' OR effect LIKE '%Send%'";
        wait_until("the second finishes", || {
            runtime.block_on(server.sql(open)) == ["0"]
        });
        second.stop();
        let arrived = ground.arrived();
        let ids: BTreeSet<String> = arrived.iter().map(|mail| message_id(mail)).collect();
        assert_eq!(ids.len(), 1, "{point}");
        assert!(arrived.iter().all(|mail| *mail == arrived[0]), "{point}");
    }
}

#[test]
fn a_second_process_under_one_name_does_not_start() {
    let server = PostgresServer::start("");
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let folder = node(&ground, &server, "node-a");
    let first = start(&folder, "");
    let mut second = BridgeProcess::start(&folder, "");
    assert!(!second.is_listening());
    assert!(!second.ended().success());
    assert!(second.log_text().contains("is in use by another process"));
    // Killed, it leaves its name at once.
    first.signal(Signal::KILL);
    drop(first);
    start(&folder, "").stop();
}
