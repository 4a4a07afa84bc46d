//! The store on PostgreSQL where it shows: its tables, several nodes on them, its audit, and what it does when
//! connections, nodes and servers die.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use tokio::runtime::Runtime;
use xdbridge::{
    adapters::store::{ChainVerdict, ConnectError, PostgresOpenError, PostgresStore},
    bridge::exchange::Origin,
    flows::ports::{
        ExchangeFilter, Exchanges, Found, LookupKey, Readiness, Reschedule, StagedBody, StoreError,
        UnitOfWork,
    },
    formats::audit::{AuditKind, AuditOutcome, AuditRecord},
};

use crate::support::{
    postgres::PostgresGround,
    store::{done, exchange, insert, look_up, octets, read, stage, time, update},
    wait_until,
};

const LEASE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// Longest wait for what must come: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(60);

fn record(detail: &str) -> AuditRecord {
    AuditRecord::new(time(0), AuditKind::Recipient, AuditOutcome::Success).with("address", detail)
}

fn audit_of(details: &[&str]) -> UnitOfWork {
    UnitOfWork {
        audit: details.iter().map(|detail| record(detail)).collect(),
        ..UnitOfWork::default()
    }
}

async fn refusal(ground: &PostgresGround, node: &str) -> PostgresOpenError {
    let opened = PostgresStore::open(&ground.config, ground.clock.clone(), node).await;
    opened.err().expect("the store must not open")
}

async fn intact(store: &PostgresStore) -> u64 {
    match store.verify_audit_chain().await.unwrap() {
        ChainVerdict::Intact { records } => records,
        broken => panic!("{broken:?}"),
    }
}

/// Waits for what must come soon.
async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.unwrap()
}

// --- opening -----------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_a_later_release_are_left_alone() {
    let ground = PostgresGround::new();
    ground.open().await.close().await;
    ground
        .server
        .sql("UPDATE xdbridge_schema SET version = 99")
        .await;
    let error = refusal(&ground, "node-a").await;
    assert!(matches!(error, PostgresOpenError::LaterRelease), "{error}");
    assert!(error.to_string().contains("later release"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_make_the_tables_once() {
    let ground = Arc::new(PostgresGround::new());
    let starting: Vec<_> = (0..4)
        .map(|number| {
            let ground = Arc::clone(&ground);
            tokio::spawn(async move { ground.open_as(&format!("node-{number}")).await })
        })
        .collect();
    for node in starting {
        node.await.unwrap().close().await;
    }
}

// rule: KEY-1
#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_needed_and_its_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let mut ground = PostgresGround::new();
    let password = ground.config.postgres.password_file.clone().unwrap();
    let folder = password.parent().unwrap();
    let wrong = folder.join("wrong.password");
    fs::write(&wrong, "canary-password\n").unwrap();
    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).unwrap();
    ground.config.postgres.password_file = Some(wrong.clone());
    let error = refusal(&ground, "node-a").await;
    let text = format!("{error} {error:?}");
    assert!(text.contains("28P01"), "{text}");
    assert!(!text.contains("canary-password"));

    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o640)).unwrap();
    let error = refusal(&ground, "node-a").await;
    assert!(
        matches!(
            error,
            PostgresOpenError::Connect(ConnectError::PasswordExposed { mode: 0o640, .. })
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_that_it_was_written_under_the_store_says_so() {
    let mut ground = PostgresGround::new();
    let store = ground.open().await;
    store.commit(audit_of(&["x"])).await.unwrap();
    store.close().await;
    let other = ground.config.key_files[0].with_file_name("other.key");
    xdbridge::adapters::store::create_key_file(&other).unwrap();
    ground.config.key_files = vec![other];
    let error = refusal(&ground, "node-a").await;
    assert!(matches!(error, PostgresOpenError::UnknownKey), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_name_is_one_process_s() {
    let ground = PostgresGround::new();
    let first = ground.open_as("node-a").await;
    let error = refusal(&ground, "node-a").await;
    assert!(
        error.to_string().contains("node.name \"node-a\" is in use"),
        "{error}"
    );
    let second = ground.open_as("node-b").await;
    first.close().await;
    ground.open_as("node-a").await.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_wrong_clock_claims_nothing_and_is_not_ready() {
    let mut ground = PostgresGround::new();
    let right = ground.open_as("node-a").await;
    right.check().await.unwrap();
    ground.config.postgres.max_clock_difference = Duration::from_secs(5);
    let wrong = ground.open_as("node-b").await;
    let written = exchange("edge", time(0));
    let mut unit = insert(&written, vec![]);
    unit.effects = vec![look_up(&written, 0, time(0))];
    right.commit(unit).await.unwrap();
    assert!(wrong.claim(time(0), LEASE, 9).await.is_err());
    // Nor does it lease by its own commits, or begin what it has leased.
    wrong.lease_on_commit(LEASE, 9);
    let another = exchange("edge", time(0));
    let mut unit = insert(&another, vec![]);
    unit.effects = vec![look_up(&another, 0, time(0))];
    wrong.commit(unit).await.unwrap();
    assert_eq!(
        wrong.check().await,
        Err("this node's clock differs from the database's")
    );
    let claims = right.claim(time(0), LEASE, 9).await.unwrap();
    assert_eq!(claims.len(), 2);
    assert!(wrong.confirm(&claims[0]).await.is_err());
    right.confirm(&claims[0]).await.unwrap();
    wrong.close().await;
    right.close().await;
}

// --- several nodes -----------------------------------------------------------------------------

// rule: Q-1
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_claim_at_once_share_what_is_due_and_none_gets_the_same() {
    const EFFECTS: usize = 300;
    let ground = PostgresGround::new();
    let nodes = [
        ground.open_as("node-a").await,
        ground.open_as("node-b").await,
    ];
    let written = exchange("edge", time(0));
    let mut unit = insert(&written, vec![]);
    unit.effects = (0..EFFECTS)
        .map(|n| look_up(&written, n, time(0)))
        .collect();
    nodes[0].commit(unit).await.unwrap();

    let claiming = nodes.each_ref().map(|node| {
        let node = Arc::clone(node);
        tokio::spawn(async move {
            let mut ids = Vec::new();
            loop {
                let claims = node.claim(time(0), LEASE, 7).await.unwrap();
                if claims.is_empty() {
                    return ids;
                }
                for claim in claims {
                    ids.push(claim.id);
                    node.commit(done(&claim)).await.unwrap();
                }
            }
        })
    });
    let mut ids = Vec::new();
    for claimed in claiming {
        ids.extend(claimed.await.unwrap());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), EFFECTS);
    assert_eq!(nodes[1].next_due().await.unwrap(), None);
    for node in nodes {
        node.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_writes_the_other_reads_and_a_stale_version_conflicts_across_them() {
    let ground = PostgresGround::new();
    let (a, b) = (
        ground.open_as("node-a").await,
        ground.open_as("node-b").await,
    );
    let mut written = exchange("edge", time(0));
    let body = stage(&a, octets(200_000), false).await;
    assert!(read(&b, body.id).await.is_err(), "staged on the other node");
    let mut unit = insert(&written, vec![LookupKey::MessageId("1@a.example".into())]);
    unit.adopt = vec![body.id];
    unit.audit = vec![record("by a").of(written.id)];
    a.commit(unit).await.unwrap();

    assert_eq!(read(&b, body.id).await.unwrap(), octets(200_000));
    let key = LookupKey::MessageId("1@a.example".into());
    assert_eq!(b.find(&key).await.unwrap(), [written.id]);
    let seen = b.load(written.id).await.unwrap().unwrap();
    assert_eq!(seen.exchange, written);
    written.final_at = Some(time(5));
    let mut by_b = update(&written, seen.version);
    by_b.audit = vec![record("by b").of(written.id)];
    b.commit(by_b).await.unwrap();
    let late = a.commit(update(&written, seen.version)).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })));
    assert_eq!(a.load(written.id).await.unwrap().unwrap().version, 2);

    // Each node has a chain of its own; what became of an exchange is told from all of them.
    let told = a.read_audit_of("test", written.id).await.unwrap();
    let details: Vec<_> = told
        .iter()
        .filter_map(|one| one.details.get("address"))
        .collect();
    assert_eq!(details.len(), 2, "{told:?}");
    assert_eq!(intact(&b).await, 3);
    a.close().await;
    b.close().await;
}

// rule: XDR-50, DST-6
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_nodes_that_take_the_same_for_the_first_at_once_one_is_refused() {
    const ROUNDS: u8 = 60;
    let mut ground = PostgresGround::new();
    // While keys are changed, nodes differ in which of them is current.
    let newer = ground.config.key_files[0].with_file_name("newer.key");
    xdbridge::adapters::store::create_key_file(&newer).unwrap();
    ground.config.key_files.push(newer);
    let a = ground.open_as("node-a").await;
    ground.config.key_files.reverse();
    let b = ground.open_as("node-b").await;
    for round in 0..ROUNDS {
        let key = LookupKey::ReceivedContent([round; 32]);
        let committing = [&a, &b].map(|node| {
            let mut unit = insert(&exchange("edge", time(0)), vec![key.clone()]);
            unit.decided_on = Some(Found {
                key: key.clone(),
                exchanges: Vec::new(),
            });
            let node = Arc::clone(node);
            tokio::spawn(async move { node.commit(unit).await })
        });
        let mut refused = Vec::new();
        for unit in committing {
            refused.extend(unit.await.unwrap().err());
        }
        assert!(
            matches!(refused.as_slice(), [StoreError::Overtaken]),
            "{refused:?}"
        );
        assert_eq!(a.find(&key).await.unwrap().len(), 1);
    }
    a.close().await;
    b.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_leaves_to_the_others_rings_there() {
    let mut ground = PostgresGround::new();
    // No look comes in the way: only the ring can wake.
    ground.config.postgres.poll_interval = HOUR / 2;
    ground.config.postgres.node_timeout = HOUR;
    let (a, b) = (
        ground.open_as("node-a").await,
        ground.open_as("node-b").await,
    );
    let rings = b.due_changed();
    // The first look rings once.
    within(rings.notified()).await;
    let written = exchange("edge", time(0));
    let mut unit = insert(&written, vec![]);
    unit.effects = vec![look_up(&written, 0, time(0))];
    a.commit(unit).await.unwrap();
    within(rings.notified()).await;
    assert_eq!(b.claim(time(0), LEASE, 9).await.unwrap().len(), 1);
    a.close().await;
    b.close().await;
}

/// A node on a runtime of its own: dropped with it, it ends as a process that is killed.
struct DyingNode {
    runtime: Option<Runtime>,
    store: Option<Arc<PostgresStore>>,
}

impl DyingNode {
    fn open(ground: &PostgresGround, node: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(ground.open_as(node));
        Self {
            runtime: Some(runtime),
            store: Some(store),
        }
    }

    fn run<T>(&self, what: impl AsyncFnOnce(&Arc<PostgresStore>) -> T) -> T {
        let runtime = self.runtime.as_ref().unwrap();
        runtime.block_on(what(self.store.as_ref().unwrap()))
    }

    fn die(mut self) {
        self.runtime.take().unwrap().shutdown_background();
        drop(self.store.take());
    }
}

// rule: Q-1
#[test]
fn what_a_dead_node_had_begun_another_takes_over_long_before_its_lease_lapses() {
    let ground = PostgresGround::new();
    let survivor = DyingNode::open(&ground, "node-b");
    let dying = DyingNode::open(&ground, "node-a");
    let written = exchange("edge", time(0));
    let kept = dying.run(async |store| {
        let mut unit = insert(&written, vec![]);
        unit.effects = vec![look_up(&written, 0, time(0))];
        store.commit(unit).await.unwrap();
        let claims = store.claim(time(0), HOUR, 9).await.unwrap();
        assert_eq!(claims.len(), 1);
        // Held until after its death: nobody gives the body up.
        stage(store, octets(100_000), false).await
    });
    survivor.run(async |store| {
        assert!(store.claim(time(0), LEASE, 9).await.unwrap().is_empty());
        assert_eq!(ground.server.sql("SELECT count(*) FROM body").await, ["1"]);
    });
    dying.die();
    survivor.run(async |store| {
        let rings = store.due_changed();
        let claim = loop {
            let claims = store.claim(time(0), LEASE, 9).await.unwrap();
            if let Some(claim) = claims.into_iter().next() {
                break claim;
            }
            within(rings.notified()).await;
        };
        assert_eq!(claim.attempts, 1);
        store.commit(done(&claim)).await.unwrap();
        assert_eq!(
            ground.server.sql("SELECT count(*) FROM body_chunk").await,
            ["0"]
        );
        assert_eq!(ground.server.sql("SELECT name FROM node").await, ["node-b"]);
    });
    drop::<StagedBody>(kept);
    // The name is free again.
    let back = DyingNode::open(&ground, "node-a");
    back.run(async |store| store.close().await);
    survivor.run(async |store| store.close().await);
}

#[test]
fn a_node_that_comes_back_after_it_was_thought_dead_changes_nothing() {
    let ground = PostgresGround::new();
    let first = DyingNode::open(&ground, "node-a");
    let second = DyingNode::open(&ground, "node-b");
    let written = exchange("edge", time(0));
    let claim = first.run(async |store| {
        let mut unit = insert(&written, vec![]);
        unit.effects = vec![look_up(&written, 0, time(0))];
        store.commit(unit).await.unwrap();
        store.claim(time(0), HOUR, 1).await.unwrap().remove(0)
    });
    // As when node-a was cut off for longer than node_timeout.
    second.run(async |store| {
        ground
            .server
            .sql("UPDATE outbox SET owner = NULL, next_at = 0")
            .await;
        let taken = store.claim(time(1), LEASE, 1).await.unwrap().remove(0);
        assert_eq!(taken.id, claim.id);
    });
    first.run(async |store| {
        let mut late = done(&claim);
        late.audit = vec![record("late")];
        let refused = store.commit(late).await;
        assert!(matches!(refused, Err(StoreError::LeaseLost)), "{refused:?}");
        let refused = store.give_back(&claim, time(2)).await;
        assert!(matches!(refused, Err(StoreError::LeaseLost)), "{refused:?}");
        assert_eq!(intact(store).await, 0);
        store.close().await;
    });
    second.run(async |store| store.close().await);
}

/// Two nodes that look after one another once, at their start, and never again.
async fn nodes_that_do_not_look(ground: &mut PostgresGround) -> [Arc<PostgresStore>; 2] {
    ground.config.postgres.poll_interval = HOUR / 2;
    ground.config.postgres.node_timeout = HOUR;
    let nodes = [
        ground.open_as("node-a").await,
        ground.open_as("node-b").await,
    ];
    for node in &nodes {
        within(node.due_changed().notified()).await;
    }
    nodes
}

// rule: Q-1
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_buried_alive_leases_nothing_more() {
    let mut ground = PostgresGround::new();
    let [a, b] = nodes_that_do_not_look(&mut ground).await;
    a.lease_on_commit(HOUR, 9);
    let unit = || {
        let written = exchange("edge", time(0));
        let mut unit = insert(&written, vec![]);
        unit.effects = vec![look_up(&written, 0, time(0))];
        unit
    };
    a.commit(unit()).await.unwrap();
    assert!(b.claim(time(0), LEASE, 9).await.unwrap().is_empty());
    // Another node ends its tenure while it commits: the commit waits, and then leases nothing.
    let bury = ground.server.sql(
        "BEGIN; DELETE FROM node WHERE name = 'node-a'; SELECT pg_advisory_xact_lock(4711); \
         DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted) LOOP \
         PERFORM pg_sleep(0.01); END LOOP; END $$; \
         UPDATE outbox SET owner = NULL, next_at = 0 WHERE owner = 'node-a'; COMMIT",
    );
    let commit = async {
        let is_ended = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711";
        within(async { while ground.server.sql(is_ended).await == ["0"] {} }).await;
        a.commit(unit()).await
    };
    let (committed, _) = tokio::join!(commit, bury);
    committed.unwrap();
    assert_eq!(b.claim(time(0), LEASE, 9).await.unwrap().len(), 2);
    // What it accepts from then on is everybody's as well, and it claims nothing.
    a.commit(unit()).await.unwrap();
    let ready = a.claim(time(0), LEASE, 1).await.unwrap();
    assert_eq!(ready.len(), 1, "leased before it was buried");
    let stale = a.confirm(&ready[0]).await;
    assert!(matches!(stale, Err(StoreError::LeaseLost)), "{stale:?}");
    assert!(a.claim(time(0), LEASE, 9).await.is_err());
    assert_eq!(b.claim(time(0), LEASE, 9).await.unwrap().len(), 1);
    a.close().await;
    b.close().await;
}

// rule: Q-1
#[test]
fn a_node_without_a_session_begins_nothing_not_even_what_it_has_leased() {
    let mut ground = PostgresGround::new();
    let node = DyingNode::open(&ground, "node-a");
    node.run(async |store| {
        store.lease_on_commit(HOUR, 9);
        let written = exchange("edge", time(0));
        let mut unit = insert(&written, vec![]);
        unit.effects = vec![look_up(&written, 0, time(0)), look_up(&written, 1, time(0))];
        store.commit(unit).await.unwrap();
        let begun = store.claim(time(0), LEASE, 1).await.unwrap().remove(0);
        store.confirm(&begun).await.unwrap();
        ground.server.kill();
        within(async {
            while store.claim(time(0), LEASE, 0).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(store.claim(time(0), LEASE, 1).await.is_err());
        assert!(store.confirm(&begun).await.is_err());
        ground.server.start_again();
        within(async {
            while store.claim(time(0), LEASE, 0).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        // Nobody had it meanwhile.
        store.confirm(&begun).await.unwrap();
        assert_eq!(store.claim(time(0), LEASE, 9).await.unwrap().len(), 1);
        store.close().await;
    });
}

// --- failures ----------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_lose_nothing_that_was_answered_and_come_again() {
    let ground = PostgresGround::new();
    let store = ground.open().await;
    let mut kept = Vec::new();
    for round in 0..5 {
        for number in 0..20 {
            let written = exchange("edge", time(round * 100 + number));
            let mut unit = insert(&written, vec![]);
            unit.audit = vec![record("x")];
            if store.commit(unit).await.is_ok() {
                kept.push(written.id);
            }
        }
        ground
            .server
            .sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name = 'xdbridge'",
            )
            .await;
    }
    assert!(kept.len() >= 50, "{}", kept.len());
    // What failed once goes on with the next connection, and the node has its name again.
    within(async {
        while store.commit(UnitOfWork::default()).await.is_err() || store.check().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let filter = ExchangeFilter {
        limit: 1000,
        ..ExchangeFilter::default()
    };
    let listed: Vec<_> = store.list(&filter).await.unwrap();
    for id in &kept {
        assert!(listed.iter().any(|one| one.id == *id), "{id}");
    }
    // Whoever was not answered may have been written: exchange and record together, or neither.
    assert_eq!(intact(&store).await, listed.len() as u64);
    store.close().await;
}

#[test]
fn a_server_that_is_killed_and_started_again_has_all_that_was_answered() {
    let mut ground = PostgresGround::new();
    let node = DyingNode::open(&ground, "node-a");
    let written = exchange("edge", time(0));
    let body = node.run(async |store| {
        let body = stage(store, octets(500_000), true).await;
        let mut unit = insert(&written, vec![]);
        unit.adopt = vec![body.id];
        unit.audit = vec![record("x")];
        store.commit(unit).await.unwrap();
        body.id
    });
    ground.server.kill();
    node.run(async |store| {
        assert!(store.commit(audit_of(&["lost"])).await.is_err());
        assert!(store.check().await.is_err());
    });
    ground.server.start_again();
    node.run(async |store| {
        within(async {
            while store.check().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert_eq!(
            store.load(written.id).await.unwrap().unwrap().exchange,
            written
        );
        assert_eq!(read(store, body).await.unwrap(), octets(500_000));
        assert_eq!(intact(store).await, 1);
        store.close().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_torn_altered_or_lost_is_damaged_and_never_short() {
    let ground = PostgresGround::new();
    let store = ground.open().await;
    for damage in [
        "UPDATE body_chunk SET content = set_byte(content, 5000, get_byte(content, 5000) # 1) \
         WHERE position = 1",
        "DELETE FROM body_chunk WHERE position = (SELECT max(position) FROM body_chunk)",
        "DELETE FROM body_chunk WHERE position = 1",
        "UPDATE body_chunk SET content = substr(content, 1, octet_length(content) - 100) \
         WHERE position = 3",
        "DELETE FROM body_chunk",
        "DELETE FROM body",
    ] {
        for is_sealed in [false, true] {
            let staged = stage(&store, octets(200_000), is_sealed).await;
            let mut unit = insert(&exchange("edge", time(0)), vec![]);
            unit.adopt = vec![staged.id];
            store.commit(unit).await.unwrap();
            assert_eq!(read(&store, staged.id).await.unwrap(), octets(200_000));
            ground.server.sql(damage).await;
            let error = read(&store, staged.id).await.unwrap_err();
            assert!(
                matches!(error, StoreError::DamagedBody { .. }),
                "{damage}: {error}"
            );
            ground.server.sql("DELETE FROM body").await;
        }
    }
    // A staged body that the database has lost cannot be adopted.
    let staged = stage(&store, octets(200_000), false).await;
    ground.server.sql("DELETE FROM body").await;
    let mut unit = insert(&exchange("edge", time(0)), vec![]);
    unit.adopt = vec![staged.id];
    let refused = store.commit(unit).await;
    assert!(
        matches!(refused, Err(StoreError::DamagedBody { .. })),
        "{refused:?}"
    );
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_written_and_read_by_many_at_once_over_few_connections() {
    let mut ground = PostgresGround::new();
    ground.config.postgres.body_connections = 1;
    ground.config.postgres.connections = 1;
    let store = ground.open().await;
    let staging: Vec<_> = (0..6)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { stage(&store, octets(3_000_000), true).await })
        })
        .collect();
    for staged in staging {
        let staged = staged.await.unwrap();
        assert_eq!(read(&store, staged.id).await.unwrap(), octets(3_000_000));
    }
    store.close().await;
}

// --- the audit and what is over ----------------------------------------------------------------

// rule: T-34, PHI-5
#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_audit_is_found() {
    let ground = PostgresGround::new();
    for (change, undo) in [
        (
            "UPDATE audit SET at = at + 1 WHERE sequence = 2",
            "UPDATE audit SET at = at - 1 WHERE sequence = 2",
        ),
        (
            "UPDATE audit SET node = 'node-x' WHERE sequence = 3",
            "UPDATE audit SET node = 'node-a'",
        ),
        (
            "UPDATE audit_chain SET last_sequence = 2",
            "UPDATE audit_chain SET last_sequence = 3",
        ),
    ] {
        let store = ground.open().await;
        if intact(&store).await == 0 {
            store.commit(audit_of(&["a", "b", "c"])).await.unwrap();
        }
        assert_eq!(intact(&store).await, 3);
        ground.server.sql(change).await;
        let verdict = store.verify_audit_chain().await.unwrap();
        assert!(matches!(verdict, ChainVerdict::Broken { .. }), "{change}");
        ground.server.sql(undo).await;
        assert_eq!(intact(&store).await, 3, "{undo}");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_its_retention_goes_of_all_nodes_and_what_still_waits_stays() {
    let ground = PostgresGround::new();
    let gone = ground.open_as("node-gone").await;
    gone.commit(audit_of(&["old of a node that is gone"]))
        .await
        .unwrap();
    gone.close().await;
    let store = ground.open().await;
    store.commit(audit_of(&["old"])).await.unwrap();
    let mut ids = Vec::new();
    // More than one statement removes, and the last still has work.
    for number in 0..120 {
        let mut written = exchange("edge", time(0));
        written.final_at = Some(time(1));
        let mut unit = insert(&written, vec![]);
        if number == 119 {
            unit.effects = vec![look_up(&written, 0, time(0))];
        }
        ids.push(written.id);
        store.commit(unit).await.unwrap();
    }
    let body = stage(&store, octets(100_000), false).await;
    let mut with_body = exchange("edge", time(0));
    with_body.final_at = Some(time(1));
    let mut unit = insert(&with_body, vec![LookupKey::MessageId("1@a.example".into())]);
    unit.adopt = vec![body.id];
    store.commit(unit).await.unwrap();

    store.sweep().await.unwrap();
    assert!(store.load(ids[0]).await.unwrap().is_some(), "not yet over");
    ground
        .clock
        .advance(ground.config.exchange_retention + HOUR);
    store.sweep().await.unwrap();
    for (number, id) in ids.iter().enumerate() {
        let is_there = store.load(*id).await.unwrap().is_some();
        assert_eq!(is_there, number == 119);
    }
    assert!(store.load(with_body.id).await.unwrap().is_none());
    let counts = "SELECT (SELECT count(*) FROM body), (SELECT count(*) FROM body_chunk), \
         (SELECT count(*) FROM lookup_key), (SELECT count(*) FROM audit)";
    assert_eq!(ground.server.sql(counts).await, ["0|0|0|2"]);

    ground.clock.advance(ground.config.audit_retention);
    store.commit(audit_of(&["new"])).await.unwrap();
    store.sweep().await.unwrap();
    let left = ground.server.sql("SELECT node FROM audit").await;
    assert!(!left.contains(&"node-gone".to_owned()), "{left:?}");
    intact(&store).await;
    store.close().await;
}

// --- nothing in clear --------------------------------------------------------------------------

fn files_below(folder: PathBuf) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

// rule: PHI-5, T-30, Q-6
#[test]
fn no_file_of_the_server_shows_what_was_stored() {
    const CANARIES: [&str; 6] = [
        "CanaryDocument",
        "canary-local-part",
        "urn:canary:message-id",
        "canary.unique.id",
        "CanaryAuditDetail",
        "canary-mail-id",
    ];
    let mut ground = PostgresGround::with("log_statement = all\n");
    let node = DyingNode::open(&ground, "node-a");
    node.run(async |store| {
        let mut planted = exchange("edge", time(0));
        planted.origin = Origin::Xdr {
            partner: "edge".into(),
            soap_message_id: Some("urn:canary:message-id".parse().unwrap()),
            submission_set_unique_id: "canary.unique.id".into(),
            digest: [0; 32],
            content_type: "multipart/related".into(),
            from: "canary-local-part@clinic.example".parse().unwrap(),
            level: xdbridge::formats::metadata::Level::Full,
            documents: Vec::new(),
        };
        let id = LookupKey::SoapMessageId {
            partner: "edge".into(),
            id: "urn:canary:message-id".into(),
        };
        let mail = LookupKey::MessageId("canary-mail-id@hisp.example".into());
        let mut unit = insert(&planted, vec![id, mail]);
        let small = stage(store, b"CanaryDocument ".repeat(100), false).await;
        let large = stage(store, b"CanaryDocument ".repeat(10_000), false).await;
        unit.adopt = vec![small.id, large.id];
        unit.effects = vec![look_up(&planted, 0, time(0))];
        unit.audit = vec![record("CanaryAuditDetail")];
        store.commit(unit).await.unwrap();
        ground.server.sql("CHECKPOINT").await;
        store.close().await;
    });
    ground.server.kill();
    let mut files = files_below(ground.server.data());
    assert!(files.len() > 100);
    files.push(ground.server.data().with_file_name("server.log"));
    let mut is_shown = false;
    for path in files {
        let content = fs::read(&path).unwrap();
        for canary in CANARIES {
            let found = memchr::memmem::find(&content, canary.as_bytes());
            assert_eq!(found, None, "{canary} in {}", path.display());
        }
        // The search can fail: what is in clear on purpose is found by it.
        is_shown |= memchr::memmem::find(&content, b"LookUp").is_some();
    }
    assert!(is_shown);
}

// --- volume ------------------------------------------------------------------------------------

/// What the server logs of every plan that it ran, with the rows that each step gave and threw away.
const EXPLAIN: &str = "session_preload_libraries = 'auto_explain'\n\
     auto_explain.log_min_duration = 0\n\
     auto_explain.log_analyze = on\n\
     auto_explain.log_timing = off\n\
     auto_explain.log_nested_statements = on\n\
     autovacuum = off\n";
/// Rows that one step may read: a page, what one sweep removes, and what leases and removed rows leave in an index until
/// the vacuum.
const MOST_ROWS: u64 = 400;
/// Finished exchanges that the tables hold, and one open one for ten of them. The long form sets
/// `XDBRIDGE_TEST_FINISHED` to 1000000.
const FINISHED: u64 = 200_000;
const FINISHED_VARIABLE: &str = "XDBRIDGE_TEST_FINISHED";

/// Fills the tables as `finished` exchanges leave them, and a tenth as many open ones, which are the newest. One partner
/// has but five, among the oldest; some are over their retention.
fn fill(finished: u64) -> String {
    let all = finished + finished / 10;
    format!(
        "SET auto_explain.log_min_duration = -1; SET synchronous_commit = off; \
         SET session_replication_role = replica; \
         INSERT INTO exchange SELECT gen_random_uuid(), 1, \
           CASE WHEN n BETWEEN 121 AND 125 THEN 'rare' WHEN n % 2 = 0 THEN 'edge' ELSE 'other' END, \
           1790000000000000 + n, n <= {finished}, \
           CASE WHEN n <= 120 THEN 0 WHEN n <= {finished} THEN 1790000000000000 + n END, 'x' \
           FROM generate_series(1, {all}) AS n; \
         INSERT INTO lookup_key SELECT sha256(id::text::bytea), id, sha256(('any' || id)::bytea) FROM exchange; \
         INSERT INTO body (id, exchange, size, content, sealed_bytes) \
           SELECT gen_random_uuid(), id, 1, 'x', 1 FROM exchange; \
         INSERT INTO body_chunk SELECT id, 0, 'x' FROM body LIMIT 20000; \
         INSERT INTO outbox (exchange, effect, next_at, attempts) \
           SELECT id, '\"RemoveBodies\"', 4000000000000000, 0 FROM exchange WHERE NOT is_final; \
         INSERT INTO audit SELECT 'node-x', row_number() OVER (), 0, 'x', 0, id, 'x', 'x' FROM exchange; \
         ANALYZE"
    )
}

/// The rows that each step of a logged plan read: those that it gave, each time, and those that it threw away.
fn rows_read(plan: &str) -> impl Iterator<Item = u64> {
    let number = |text: &str| -> u64 {
        let digits = text.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap().parse().unwrap()
    };
    plan.lines().filter_map(move |line| {
        if let Some((_, removed)) = line.split_once("Rows Removed by Filter: ") {
            return Some(number(removed));
        }
        let (_, actual) = line.split_once("(actual rows=")?;
        let (_, loops) = actual.split_once("loops=")?;
        Some(number(actual) * number(loops))
    })
}

#[test]
fn no_statement_of_a_flow_reads_a_whole_table_however_many_rows_there_are() {
    let ground = PostgresGround::with(EXPLAIN);
    let node = DyingNode::open(&ground, "node-a");
    node.run(async |store| {
        let finished =
            std::env::var(FINISHED_VARIABLE).map_or(FINISHED, |count| count.parse().unwrap());
        ground.server.sql(&fill(finished)).await;
        let before = ground.server.log().len();

        let written = exchange("edge", time(0));
        let key = LookupKey::MessageId("1@a.example".into());
        let soap = LookupKey::SoapMessageId {
            partner: "edge".into(),
            id: "urn:1".into(),
        };
        let mut unit = insert(&written, vec![key.clone(), soap.clone()]);
        let bodies = [
            stage(store, octets(10), false).await,
            stage(store, octets(99_999), true).await,
        ];
        unit.adopt = bodies.iter().map(|body| body.id).collect();
        unit.effects = (0..3).map(|n| look_up(&written, n, time(0))).collect();
        unit.audit = vec![record("x").of(written.id)];
        store.commit(unit).await.unwrap();
        // Often enough that statements are planned for any values, too.
        for round in 0..8 {
            for key in [&key, &soap, &LookupKey::Any("1@a.example".into())] {
                assert_eq!(store.find(key).await.unwrap().len(), 1);
            }
            let loaded = store.load(written.id).await.unwrap().unwrap();
            let mut unit = update(&loaded.exchange, loaded.version);
            let claim = store.claim(time(9), LEASE, 1).await.unwrap().remove(0);
            store.confirm(&claim).await.unwrap();
            let step = UnitOfWork {
                under: Some(claim.clone()),
                decided_on: Some(Found {
                    key: key.clone(),
                    exchanges: vec![written.id],
                }),
                ..UnitOfWork::default()
            };
            store.commit(step).await.unwrap();
            unit.done = Some(claim);
            unit.effects = vec![look_up(&written, round, time(0))];
            unit.audit = vec![record("x").of(written.id)];
            store.commit(unit).await.unwrap();
            store.next_due().await.unwrap();
            let claim = store.claim(time(9), LEASE, 1).await.unwrap().remove(0);
            store.give_back(&claim, time(1)).await.unwrap();
            let outstanding = store.outstanding(written.id).await.unwrap();
            let waits = outstanding.iter().find(|one| !one.is_under_way).unwrap();
            let unit = UnitOfWork {
                reschedule: vec![Reschedule {
                    exchange: written.id,
                    id: waits.id,
                    at: time(2),
                }],
                ..UnitOfWork::default()
            };
            store.commit(unit).await.unwrap();
            for partner in [None, Some("edge"), Some("rare")] {
                for is_final in [None, Some(true), Some(false)] {
                    let partner = partner.map(str::to_owned);
                    // What the rows hold cannot be opened; that comes after they were read.
                    let _ = store
                        .list(&ExchangeFilter {
                            partner,
                            is_final,
                            limit: 20,
                            ..ExchangeFilter::default()
                        })
                        .await;
                }
            }
            for body in &bodies {
                read(store, body.id).await.unwrap();
            }
            store.read_audit_of("test", written.id).await.unwrap();
            store.read_audit("test", 0, 10).await.unwrap();
            store.sweep().await.unwrap();
        }
        let unit = UnitOfWork {
            remove: bodies.iter().map(|body| body.id).collect(),
            ..UnitOfWork::default()
        };
        store.commit(unit).await.unwrap();
        store.close().await;

        let log = ground.server.log().split_off(before);
        let plans: Vec<&str> = log.split("duration: ").skip(1).collect();
        assert!(plans.len() > 200, "{} plans\n{log}", plans.len());
        for plan in &plans {
            // The handful of nodes and chains is read as a whole.
            let whole = [
                "exchange",
                "lookup_key",
                "outbox",
                "body",
                "body_chunk",
                "audit",
            ]
            .iter()
            .any(|table| plan.contains(&format!("Seq Scan on {table} ")));
            assert!(!whole, "{plan}");
            let most = rows_read(plan).max().unwrap_or(0);
            assert!(most <= MOST_ROWS, "{most} rows in one step\n{plan}");
        }
        assert!(
            plans
                .iter()
                .any(|plan| rows_read(plan).any(|rows| rows == 20)),
            "pages were read"
        );
        // The test can fail.
        ground
            .server
            .sql("SELECT count(*) FROM exchange WHERE version = 7")
            .await;
        wait_until("the plan of a whole table is logged", || {
            ground.server.log().contains("Seq Scan on exchange ")
        });
    });
}
