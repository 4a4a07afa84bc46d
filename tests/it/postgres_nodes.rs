//! Real bridges on one PostgreSQL: what one has accepted another delivers.

use std::{fs, sync::Barrier, thread, time::Duration};

use rustix::process::Signal;
use xdbridge::{
    adapters::store::{StoreKind, create_key_file},
    bridge::exchange::Exchange,
};

use super::support::{
    bridge::pki,
    crossing_ground::{Answered, CrossingGround, Letter, Workshop},
    folder::TestFolder,
    postgres::{PostgresServer, node_folder},
    process::{BridgeProcess, run},
    receiving_ground::{ADA, ReceivingGround, SENDER, letter, sealed, success},
    wait_until,
};

pub(crate) fn node(
    ground: &CrossingGround<'_>,
    server: &PostgresServer,
    name: &str,
) -> std::path::PathBuf {
    node_with(ground, server, name, "")
}

/// The same with further settings of `[store.postgres]`.
fn node_with(
    ground: &CrossingGround<'_>,
    server: &PostgresServer,
    name: &str,
    settings_of_database: &str,
) -> std::path::PathBuf {
    let folder = node_folder(ground, &server.settings(), name);
    let path = folder.join("xdbridge.toml");
    let text = fs::read_to_string(&path).unwrap();
    let mut settings: toml::Table = toml::from_str(&text).unwrap();
    let more: toml::Table = toml::from_str(settings_of_database).unwrap();
    let database = settings["store"]["postgres"].as_table_mut().unwrap();
    database.extend(more);
    fs::write(&path, toml::to_string(&settings).unwrap()).unwrap();
    folder
}

pub(crate) fn start(folder: &std::path::Path, faults: &str) -> BridgeProcess {
    let bridge = BridgeProcess::start(folder, faults);
    assert!(bridge.is_listening(), "{}", bridge.log_text());
    bridge
}

/// Whether the process is stopped, as by SIGSTOP.
#[cfg(feature = "fault-points")]
fn is_stopped(process: &BridgeProcess) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    // The state comes after the name, which is in brackets.
    stat.rsplit_once(')').unwrap().1.starts_with(" T")
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

// rule: XDR-50
#[test]
fn a_submission_that_reaches_two_nodes_at_once_is_one_exchange() {
    const ROUNDS: usize = 12;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = PostgresServer::start("");
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let nodes = ["node-a", "node-b"].map(|name| start(&node(&ground, &server, name), ""));
    for _ in 0..ROUNDS {
        let letter = Letter::small();
        let together = Barrier::new(nodes.len());
        thread::scope(|scope| {
            for node in &nodes {
                let (ground, letter, together) = (&ground, &letter, &together);
                scope.spawn(move || {
                    together.wait();
                    assert_eq!(ground.post(node, letter), Answered::Success);
                });
            }
        });
    }
    ground.wait_for_messages(ROUNDS);
    let count = "SELECT (SELECT count(*) FROM exchange), count(*) FROM outbox \
         WHERE effect LIKE '%LookUp%' OR effect LIKE '%Seal%' OR effect LIKE '%Send%'";
    wait_until("all are sent", || {
        runtime.block_on(server.sql(count)) == [format!("{ROUNDS}|0")]
    });
    assert_eq!(ground.arrived().len(), ROUNDS);
    nodes.into_iter().for_each(BridgeProcess::stop);
}

// rule: DST-6
#[test]
fn a_mail_that_reaches_two_nodes_at_once_is_posted_once() {
    const ROUNDS: usize = 8;
    let server = PostgresServer::start("");
    let keys = TestFolder::new();
    let key = keys.path().join("store.key");
    create_key_file(&key).unwrap();
    let nodes = ["node-a", "node-b"].map(|name| {
        ReceivingGround::configured(
            |_| success(),
            |config| {
                config.store.kind = StoreKind::Postgres;
                config.store.key_files = vec![key.clone()];
                config.store.postgres = server.settings();
                config.store.postgres.poll_interval = Duration::from_millis(200);
                config.store.postgres.node_timeout = Duration::from_secs(1);
                config.node.name = name.to_owned();
            },
        )
    });
    for round in 0..ROUNDS {
        let text = letter(&format!("{round}@direct.harbor.example"), &[ADA], "");
        let mail = sealed(&text, &[&pki().harbor], &pki().direct_elm);
        let together = Barrier::new(nodes.len());
        thread::scope(|scope| {
            for node in &nodes {
                let (mail, together) = (&mail, &together);
                scope.spawn(move || {
                    together.wait();
                    let reply = node.send(SENDER, &[ADA], mail);
                    assert!(reply.starts_with("250 "), "{reply}");
                });
            }
        });
    }
    let [a, b] = &nodes;
    // What came before is absorbed: final, and without a post.
    wait_until("all are final", || {
        let exchanges = a.bridge.exchanges();
        exchanges.len() == 2 * ROUNDS && exchanges.iter().all(Exchange::is_final)
    });
    assert_eq!(a.posted().len() + b.posted().len(), ROUNDS);
    let posting = |exchange: &&Exchange| !exchange.legs.is_empty();
    assert_eq!(a.bridge.exchanges().iter().filter(posting).count(), ROUNDS);
}

// rule: Q-1
#[cfg(feature = "fault-points")]
#[test]
fn what_a_killed_node_had_accepted_the_other_delivers() {
    use std::collections::BTreeSet;

    use super::support::crossing_ground::message_id;

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

// rule: Q-1
#[cfg(feature = "fault-points")]
#[test]
fn a_node_that_hung_until_it_was_thought_dead_does_not_send_what_another_has_sent() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = PostgresServer::start("");
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let hanging = node(&ground, &server, "node-a");
    let first = start(&hanging, "deliver.before_send@1=stop");
    assert_eq!(ground.post(&first, &Letter::small()), Answered::Success);
    wait_until("the first hangs", || is_stopped(&first));
    // As the server does by itself once the host has not answered for long enough.
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'xdbridge'";
    runtime.block_on(server.sql(cut));
    let second = start(&node(&ground, &server, "node-b"), "");
    ground.wait_for_messages(1);
    let open = "SELECT count(*) FROM outbox WHERE effect LIKE '%Send%'";
    wait_until("the second is done with it", || {
        runtime.block_on(server.sql(open)) == ["0"]
    });

    first.signal(Signal::CONT);
    wait_until("the first works again", || {
        first.operator("/readyz").contains(" 200 ")
    });
    // What it had begun it goes on with before it ends.
    first.stop();
    second.stop();
    assert_eq!(ground.arrived().len(), 1);
}

// rule: Q-1
#[cfg(feature = "fault-points")]
#[test]
fn a_node_that_hangs_within_a_transaction_holds_another_up_no_longer_than_the_server_lets_it() {
    let server = PostgresServer::start("");
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let impatient = "idle_in_transaction_timeout = \"1s\"\n";
    // The first transaction records the start.
    let hanging = start(
        &node_with(&ground, &server, "node-a", impatient),
        "store.before_commit@2=stop",
    );
    let second = start(&node(&ground, &server, "node-b"), "");
    let letter = Letter::small();
    thread::scope(|scope| {
        let by_first = scope.spawn(|| ground.post(&hanging, &letter));
        wait_until("the first hangs", || is_stopped(&hanging));
        // The first one's transaction has the lock on this submission.
        assert_eq!(ground.post(&second, &letter), Answered::Success);
        hanging.signal(Signal::CONT);
        // Its transaction is gone, and with it what it had recorded: it says so, or finds what the second has.
        let answered = by_first.join().unwrap();
        assert!(
            matches!(answered, Answered::Refused(..) | Answered::Success),
            "{answered:?}"
        );
    });
    ground.wait_for_messages(1);
    hanging.stop();
    second.stop();
    assert_eq!(ground.arrived().len(), 1);
}

// rule: KEY-1
#[test]
fn the_password_may_come_by_the_environment_and_is_in_no_log_and_no_printed_setting() {
    let server = PostgresServer::start("");
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let folder = node(&ground, &server, "node-a");
    let path = folder.join("xdbridge.toml");
    let file = server.settings().password_file.unwrap();
    let password = fs::read_to_string(&file).unwrap().trim().to_owned();
    let text = fs::read_to_string(&path).unwrap();
    let without: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("password_file"))
        .collect();
    assert_eq!(without.len() + 1, text.lines().count());
    fs::write(&path, without.join("\n")).unwrap();

    let bridge = BridgeProcess::start_in(&folder, &[]);
    assert!(!bridge.is_listening(), "no password, no connection");
    drop(bridge);
    let bridge = BridgeProcess::start_in(&folder, &[("XDBRIDGE_STORE_PASSWORD", &password)]);
    assert!(bridge.is_listening(), "{}", bridge.log_text());
    assert_eq!(ground.post(&bridge, &Letter::small()), Answered::Success);
    ground.wait_for_messages(1);
    assert!(!bridge.log_text().contains(&password));
    bridge.stop();
    let printed = run(&["config", "print", "--config", path.to_str().unwrap()]);
    assert!(!printed.contains(&password));
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
