//! `xdbridge backup`: what is copied beside a working bridge, and that another one goes on with it.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use xdbridge::{
    adapters::store::{BackupError, ChainVerdict, SqliteStore, StoreConfig, StoreKind, back_up},
    bridge::exchange::{Exchange, Origin, RecipientState},
    flows::ports::{Exchanges, UnitOfWork},
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::BodyId,
    },
};

use crate::support::{
    crossing_ground::{Answered, CrossingGround, Letter, Workshop, files_below},
    scripted_smtp::Act,
    store::{SqliteGround, exchange, insert, octets, read, stage, time},
};

fn backup(ground: &CrossingGround<'_>, destination: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xdbridge"))
        .arg("backup")
        .arg(destination)
        .arg("--config")
        .arg(ground.path().join("xdbridge.toml"))
        .output()
        .unwrap()
}

fn said(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

fn unique_id(exchange: &Exchange) -> String {
    match &exchange.origin {
        Origin::Xdr {
            submission_set_unique_id,
            ..
        } => submission_set_unique_id.clone(),
        Origin::Direct { .. } => panic!("nothing comes by mail"),
    }
}

/// A small letter or a large one, by turns.
fn letter(number: usize) -> Letter {
    if number.is_multiple_of(2) {
        Letter::large()
    } else {
        Letter::small()
    }
}

fn assert_private(folder: &Path) {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    for path in files_below(folder) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        assert_eq!(mode(path.parent().unwrap()), 0o700, "{}", path.display());
    }
}

// rule: T-24, T-31
#[test]
fn a_copy_taken_under_load_has_all_that_was_accepted_and_another_bridge_finishes_it() {
    let workshop = Workshop::new();
    let is_open = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&is_open);
    let ground = workshop.ground_with(move |hop| {
        hop.acts(move |_, step| {
            let puts_off = step == "END" && !opened.load(Ordering::Relaxed);
            puts_off.then(|| Act::Say("451 4.3.0 later".to_owned()))
        })
    });
    let bridge = ground.start();
    let mut before = HashSet::new();
    for number in 0..4 {
        let letter = letter(number);
        assert_eq!(ground.post(&bridge, &letter), Answered::Success);
        before.insert(letter.unique_id);
    }
    let destination = ground.path().with_file_name("copy");
    let is_over = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut accepted = 0;
            while accepted < 40 && !is_over.load(Ordering::Relaxed) {
                assert_eq!(ground.post(&bridge, &letter(accepted)), Answered::Success);
                accepted += 1;
            }
        });
        let output = backup(&ground, &destination);
        is_over.store(true, Ordering::Relaxed);
        load.join().unwrap();
        output
    });
    assert_eq!(output.status.code(), Some(0), "{}", said(&output.stderr));
    let told = said(&output.stdout);
    assert!(
        told.contains("exchanges,") && told.contains("store.key"),
        "{told}"
    );
    assert_private(&destination);
    let key = fs::read_to_string(ground.path().join("store.key")).unwrap();
    for path in files_below(&destination) {
        let content = fs::read(&path).unwrap();
        let key = key.trim().as_bytes();
        assert!(!content.windows(key.len()).any(|window| window == key));
    }
    assert!(!destination.with_file_name("copy.partial").exists());
    // The bridge is lost with its disk.
    bridge.signal(Signal::KILL);
    drop(bridge);
    let again = backup(&ground, &destination);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again.stderr).contains("is there already"));

    let data = ground.path().join("data");
    fs::rename(&data, data.with_file_name("lost")).unwrap();
    let restored = Command::new("cp")
        .arg("-a")
        .arg(&destination)
        .arg(&data)
        .status();
    assert!(restored.unwrap().success());
    let listed = Command::new(env!("CARGO_BIN_EXE_xdbridge"))
        .args(["exchange", "list", "--json", "--config"])
        .arg(ground.path().join("xdbridge.toml"))
        .output()
        .unwrap();
    assert_eq!(listed.status.code(), Some(0), "{}", said(&listed.stderr));
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(listed["exchanges"].as_array().unwrap().len() >= before.len());

    ground.let_retries_be_due();
    is_open.store(true, Ordering::Relaxed);
    let bridge = ground.start();
    ground.wait_until_quiet();
    bridge.stop();
    let exchanges = ground.exchanges();
    for exchange in &exchanges {
        for recipient in &exchange.recipients {
            assert_eq!(recipient.state, RecipientState::Relayed);
        }
    }
    let there: HashSet<String> = exchanges.iter().map(unique_id).collect();
    assert!(before.is_subset(&there));
}

/// A config for the copy, under the keys of the original.
fn config_of(ground: &SqliteGround, copy: &Path) -> StoreConfig {
    StoreConfig {
        path: copy.to_owned(),
        ..ground.config.clone()
    }
}

/// Every body that a row of the copy speaks of.
fn bodies_of(copy: &Path) -> Vec<BodyId> {
    let database = rusqlite::Connection::open(copy.join("xdbridge.db")).unwrap();
    let mut statement = database.prepare("SELECT id FROM body").unwrap();
    let ids = statement.query_map([], |row| row.get::<_, [u8; 16]>(0));
    let ids = ids
        .unwrap()
        .map(|id| BodyId(uuid::Uuid::from_bytes(id.unwrap())));
    ids.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_come_and_go_while_they_are_copied_are_all_there_or_not_spoken_of() {
    const LIVING: usize = 200;
    let ground = SqliteGround::new();
    let store = ground.open().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let (busy, over) = (Arc::clone(&store), Arc::clone(&is_over));
    let churn = tokio::spawn(async move {
        let mut kept = std::collections::VecDeque::new();
        let mut number = 0;
        while !over.load(Ordering::Relaxed) {
            let staged = stage(&busy, octets(70_000), false).await;
            let mut unit = insert(&exchange("edge", time(number)), vec![]);
            unit.adopt = vec![staged.id];
            unit.audit = vec![AuditRecord::new(
                time(number),
                AuditKind::Secure,
                AuditOutcome::Success,
            )];
            busy.commit(unit).await.unwrap();
            kept.push_back(staged.id);
            if kept.len() > LIVING {
                let remove = vec![kept.pop_front().unwrap()];
                let unit = UnitOfWork {
                    remove,
                    ..UnitOfWork::default()
                };
                busy.commit(unit).await.unwrap();
            }
            number += 1;
            // Bodies live long against the time that a copy takes, as they do where it counts.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        number
    });
    while bodies_of(&ground.config.path).len() < LIVING {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for round in 0..5 {
        let copy = ground.folder.path().join(format!("copy-{round}"));
        let (config, destination) = (ground.config.clone(), copy.clone());
        let made = tokio::task::spawn_blocking(move || back_up(&config, &destination)).await;
        let made = made.unwrap().unwrap();
        assert_eq!(made.missing, []);
        let bodies = bodies_of(&copy);
        assert!(!bodies.is_empty());
        assert_eq!(made.body_files, bodies.len() as u64);
        let config = config_of(&ground, &copy);
        let restored = SqliteStore::open(&config, ground.clock.clone(), "node-a")
            .await
            .unwrap();
        for body in bodies {
            assert_eq!(read(&restored, body).await.unwrap(), octets(70_000));
        }
        let verdict = restored.verify_audit_chain().await.unwrap();
        assert!(
            matches!(verdict, ChainVerdict::Intact { .. }),
            "{verdict:?}"
        );
        restored.close().await;
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(churn.await.unwrap() > LIVING as i64);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_made_of_a_store_alone_and_over_nothing() {
    let mut ground = SqliteGround::new();
    let folder = ground.folder.path().to_owned();
    let refused = |ground: &SqliteGround, to: &Path| {
        let error = back_up(&ground.config, to).unwrap_err();
        assert!(!to.with_extension("partial").exists());
        error
    };
    let error = refused(&ground, &folder.join("copy"));
    assert!(matches!(error, BackupError::NoStore { .. }), "{error}");
    let store = ground.open().await;
    let staged = stage(&store, octets(70_000), false).await;
    let mut unit = insert(&exchange("edge", time(0)), vec![]);
    unit.adopt = vec![staged.id];
    store.commit(unit).await.unwrap();

    let error = refused(&ground, &ground.config.path.join("copy"));
    assert!(matches!(error, BackupError::Inside { .. }), "{error}");
    for full in [&folder, &ground.config.key_files[0]] {
        let error = refused(&ground, full);
        assert!(matches!(error, BackupError::Exists { .. }), "{error}");
    }
    let error = refused(&ground, &folder.join("no-such-folder/copy"));
    assert!(matches!(error, BackupError::File { .. }), "{error}");
    // Left by a copy that was killed, or the work of one that still goes on.
    let part = folder.join("copy.partial");
    fs::create_dir(&part).unwrap();
    let error = back_up(&ground.config, &folder.join("copy")).unwrap_err();
    assert!(matches!(error, BackupError::Unfinished { .. }), "{error}");
    fs::remove_dir(&part).unwrap();
    // A folder that is there and empty will do.
    fs::create_dir(folder.join("copy")).unwrap();
    assert_eq!(
        back_up(&ground.config, &folder.join("copy"))
            .unwrap()
            .body_files,
        1
    );

    // What the store itself has lost is told, and the rest is copied.
    let lost = ground.body_files().pop().unwrap();
    fs::remove_file(lost).unwrap();
    let made = back_up(&ground.config, &folder.join("damaged")).unwrap();
    assert_eq!((made.exchanges, made.missing), (1, vec![staged.id]));
    store.close().await;

    let database = rusqlite::Connection::open(ground.config.path.join("xdbridge.db")).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    database.close().unwrap();
    let error = refused(&ground, &folder.join("later"));
    assert!(matches!(error, BackupError::LaterRelease), "{error}");
    ground.config.kind = StoreKind::Postgres;
    let error = refused(&ground, &folder.join("other"));
    assert!(error.to_string().contains("pg_dump"), "{error}");
}
