//! The store on SQLite where it shows: its files, its keys, its audit, and what it does about damage.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::Connection;
use xdbridge::{
    adapters::store::{ChainVerdict, SqliteStore, StoreOpenError, create_key_file},
    bridge::exchange::Origin,
    flows::ports::{Exchanges, LookupKey, StoreError, UnitOfWork},
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::BodyId,
    },
};

use crate::support::store::{SqliteGround, exchange, insert, look_up, octets, read, stage, time};

const HOUR: Duration = Duration::from_secs(60 * 60);

async fn refusal(ground: &SqliteGround) -> StoreOpenError {
    let opened = SqliteStore::open(&ground.config, ground.clock.clone(), "node-a").await;
    opened.err().expect("the store must not open")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn change(ground: &SqliteGround, statement: &'static str) {
    let database = Connection::open(ground.config.path.join("xdbridge.db")).unwrap();
    let changed = database.execute(statement, []).unwrap();
    assert!(changed > 0, "{statement}");
    database.close().unwrap();
}

fn record(detail: &str) -> AuditRecord {
    AuditRecord::new(time(0), AuditKind::Recipient, AuditOutcome::Success).with("address", detail)
}

fn audit_of(details: &[&str]) -> UnitOfWork {
    UnitOfWork {
        audit: details.iter().map(|detail| record(detail)).collect(),
        ..UnitOfWork::default()
    }
}

// --- the data directory and its keys -----------------------------------------------------------

// rule: T-31, KEY-1
#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_others_may_read_is_refused() {
    let ground = SqliteGround::new();
    for mode in [0o644, 0o640, 0o604] {
        set_mode(&ground.config.key_files[0], mode);
        let error = refusal(&ground).await.to_string();
        assert!(
            error.contains("store.key") && error.contains("0600"),
            "{error}"
        );
    }
    set_mode(&ground.config.key_files[0], 0o400);
    ground.open().await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_without_a_key_is_refused_and_not_quoted() {
    let mut ground = SqliteGround::new();
    for text in [
        "",
        "secret-words",
        &"0".repeat(63),
        &"+f".repeat(32),
        &"0".repeat(5000),
    ] {
        fs::write(&ground.config.key_files[0], text).unwrap();
        let error = refusal(&ground).await.to_string();
        assert!(error.contains("64 hexadecimal digits"), "{error}");
        assert!(!error.contains("secret-words"));
    }
    fs::write(
        &ground.config.key_files[0],
        "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=\n",
    )
    .unwrap();
    ground.open().await.close().await;
    ground
        .config
        .key_files
        .push(ground.config.key_files[0].clone());
    assert!(refusal(&ground).await.to_string().contains("repeats"));
    ground.config.key_files.clear();
    assert!(
        refusal(&ground)
            .await
            .to_string()
            .contains("store.key_files")
    );
}

// rule: T-32
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_others_may_look_into_is_refused() {
    let ground = SqliteGround::new();
    ground.open().await.close().await;
    set_mode(&ground.config.path, 0o750);
    let error = refusal(&ground).await.to_string();
    assert!(error.contains("0750") && error.contains("0700"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_is_open_in_one_place_at_a_time() {
    let ground = SqliteGround::new();
    let store = ground.open().await;
    assert!(refusal(&ground).await.to_string().contains("in use"));
    store.close().await;
    ground.open().await.close().await;
}

// rule: T-32
#[tokio::test(flavor = "multi_thread")]
async fn every_file_and_folder_is_for_the_owner_alone() {
    let ground = SqliteGround::new();
    let store = ground.open().await;
    let staged = stage(&store, octets(100_000), false).await;
    store.commit(audit_of(&["x"])).await.unwrap();
    let files = ground.files();
    assert!(files.iter().any(|path| path.ends_with("xdbridge.db-wal")));
    for path in files {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
        let folder = fs::metadata(path.parent().unwrap()).unwrap();
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    }
    drop(staged);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_new_key_is_put_first_the_old_one_still_reads() {
    let mut ground = SqliteGround::new();
    let key = LookupKey::MessageId("1@a.example".into());
    let old = exchange("edge", time(0));
    let store = ground.open().await;
    let mut unit = insert(&old, vec![key.clone()]);
    let bodies = [
        stage(&store, octets(50), false).await,
        stage(&store, octets(50_000), true).await,
    ];
    unit.adopt = bodies.iter().map(|body| body.id).collect();
    unit.audit = vec![record("old").of(old.id)];
    store.commit(unit).await.unwrap();
    store.close().await;

    let new_key = ground.folder.path().join("new.key");
    create_key_file(&new_key).unwrap();
    ground.config.key_files.insert(0, new_key);
    let store = ground.open().await;
    let new = exchange("edge", time(1));
    store.commit(insert(&new, vec![key.clone()])).await.unwrap();
    assert_eq!(store.find(&key).await.unwrap(), [old.id, new.id]);
    assert_eq!(store.load(old.id).await.unwrap().unwrap().exchange, old);
    assert_eq!(read(&store, bodies[0].id).await.unwrap(), octets(50));
    assert_eq!(read(&store, bodies[1].id).await.unwrap(), octets(50_000));
    let told = store.read_audit_of("test", old.id).await.unwrap();
    assert_eq!(told[0], record("old").of(old.id));
    assert!(matches!(
        store.verify_audit_chain().await.unwrap(),
        ChainVerdict::Intact { .. }
    ));
    store.close().await;

    // Without the key that it was last written under, the store says so at once.
    ground.config.key_files.remove(0);
    assert!(matches!(refusal(&ground).await, StoreOpenError::UnknownKey));
}

// --- nothing in clear --------------------------------------------------------------------------

// rule: PHI-5, T-30, Q-6
#[tokio::test(flavor = "multi_thread")]
async fn no_file_shows_what_was_stored() {
    const CANARIES: [&str; 7] = [
        "CanaryDocument",
        "canary-local-part",
        "urn:canary:message-id",
        "canary.unique.id",
        "CanaryAuditDetail",
        "CanaryContentType",
        "canary-mail-id",
    ];
    let ground = SqliteGround::new();
    let store = ground.open().await;
    let mut planted = exchange("edge", time(0));
    planted.origin = Origin::Xdr {
        partner: "edge".into(),
        soap_message_id: Some("urn:canary:message-id".parse().unwrap()),
        submission_set_unique_id: "canary.unique.id".into(),
        digest: [0; 32],
        content_type: "CanaryContentType".into(),
        from: "canary-local-part@clinic.example".parse().unwrap(),
        level: xdbridge::formats::metadata::Level::Full,
        documents: Vec::new(),
    };
    let id = |id: &str| LookupKey::SoapMessageId {
        partner: "edge".into(),
        id: id.into(),
    };
    let set = LookupKey::SubmissionSet {
        partner: "edge".into(),
        id: "canary.unique.id".into(),
    };
    let mail = LookupKey::MessageId("canary-mail-id@hisp.example".into());
    let keys = vec![id("urn:canary:message-id"), set, mail];
    let mut unit = insert(&planted, keys);
    let small = stage(&store, b"CanaryDocument ".repeat(100), false).await;
    let large = stage(&store, b"CanaryDocument ".repeat(10_000), false).await;
    unit.adopt = vec![small.id, large.id];
    unit.effects = vec![look_up(&planted, 0, time(0))];
    unit.audit = vec![record("CanaryAuditDetail")];
    store.commit(unit).await.unwrap();
    let never_adopted = stage(&store, b"CanaryDocument ".repeat(10_000), false).await;

    let look = |when: &str| {
        let files = ground.files();
        assert!(files.len() > 2);
        for path in files {
            let content = fs::read(&path).unwrap();
            for canary in CANARIES {
                let found = content
                    .windows(canary.len())
                    .any(|window| window.eq_ignore_ascii_case(canary.as_bytes()));
                assert!(!found, "{canary} in {} {when}", path.display());
            }
        }
    };
    look("while open");
    drop(never_adopted);
    store.close().await;
    look("when closed");
    // The search can fail: what is in clear on purpose is found by it, in the database or still in its log.
    let is_shown = |path: &PathBuf| {
        let content = fs::read(path).unwrap();
        content.windows(6).any(|window| window == b"LookUp")
    };
    assert!(ground.files().iter().any(is_shown));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_was_put_in_anothers_row_or_version_is_not_read() {
    let ground = SqliteGround::new();
    let store = ground.open().await;
    let victim = exchange("edge", time(0));
    let other = exchange("edge", time(1));
    for written in [&victim, &other] {
        store.commit(insert(written, vec![])).await.unwrap();
    }
    store.close().await;
    change(
        &ground,
        "UPDATE exchange SET sealed = (SELECT sealed FROM exchange ORDER BY accepted_at LIMIT 1)",
    );
    let store = ground.open().await;
    assert!(store.load(victim.id).await.is_ok());
    assert!(matches!(
        store.load(other.id).await,
        Err(StoreError::Failed(_))
    ));
    store.close().await;
    change(&ground, "UPDATE exchange SET version = 2");
    let store = ground.open().await;
    assert!(matches!(
        store.load(victim.id).await,
        Err(StoreError::Failed(_))
    ));
    store.close().await;
}

// --- damaged and left-over bodies --------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_body_file_that_was_torn_altered_or_lost_is_damaged_and_never_short() {
    let ground = SqliteGround::new();
    let store = ground.open().await;
    for is_sealed in [false, true] {
        let staged = stage(&store, octets(200_000), is_sealed).await;
        let mut unit = insert(&exchange("edge", time(0)), vec![]);
        unit.adopt = vec![staged.id];
        store.commit(unit).await.unwrap();
        let files = ground.body_files();
        let path = files
            .iter()
            .find(|path| path.ends_with(staged.id.to_string()))
            .unwrap();
        let whole = fs::read(path).unwrap();
        let mut flipped = whole.clone();
        flipped[150_000] ^= 1;
        let chunk = 65_536 + 16;
        for damaged in [
            &whole[..whole.len() - 100],
            &whole[..32 + 2 * chunk],
            &whole[..10],
            &[],
            &flipped,
        ] {
            fs::write(path, damaged).unwrap();
            let error = read(&store, staged.id).await.unwrap_err();
            assert!(
                matches!(error, StoreError::DamagedBody { body, .. } if body == staged.id),
                "{error}"
            );
            assert!(!error.is_transient());
        }
        fs::write(path, &whole).unwrap();
        assert_eq!(read(&store, staged.id).await.unwrap(), octets(200_000));
        fs::remove_file(path).unwrap();
        let error = read(&store, staged.id).await.unwrap_err();
        assert!(matches!(error, StoreError::DamagedBody { .. }), "{error}");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_removes_files_that_no_row_owns_and_no_others() {
    let ground = SqliteGround::new();
    let store = ground.open().await;
    let adopted = stage(&store, octets(100_000), false).await;
    let mut unit = insert(&exchange("edge", time(0)), vec![]);
    unit.adopt = vec![adopted.id];
    store.commit(unit).await.unwrap();
    let staged = stage(&store, octets(100_000), false).await;
    let bodies = ground.config.path.join("bodies");
    let left = BodyId::random().to_string();
    let folder = bodies.join(&left[..2]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&left), b"left by a process that was killed").unwrap();
    fs::write(folder.join(format!("{left}.part")), b"half a body").unwrap();
    // A link out of the folder is removed, and what it leads to is not.
    symlink(&ground.config.key_files[0], folder.join("link")).unwrap();

    store.sweep().await.unwrap();

    assert_eq!(ground.body_files().len(), 2);
    for body in [&adopted, &staged] {
        assert_eq!(read(&store, body.id).await.unwrap(), octets(100_000));
    }
    assert!(ground.config.key_files[0].exists());
    store.close().await;
}

// rule: Q-6, LOOP-5
#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_its_retention_goes_and_what_still_waits_stays() {
    let ground = SqliteGround::new();
    let store = ground.open().await;
    let mut units = Vec::new();
    for number in 0..3 {
        let mut written = exchange("edge", time(0));
        // 0 is final and done, 1 is final with an effect that waits, 2 is open.
        written.final_at = (number < 2).then(|| time(5));
        let staged = stage(&store, octets(100_000), false).await;
        let mut unit = insert(
            &written,
            vec![LookupKey::MessageId(format!("{number}@a.example"))],
        );
        unit.adopt = vec![staged.id];
        if number == 1 {
            unit.effects = vec![look_up(&written, 0, time(0))];
        }
        store.commit(unit).await.unwrap();
        units.push((written.id, staged.id));
    }
    store.sweep().await.unwrap();
    assert_eq!(
        ground.body_files().len(),
        3,
        "nothing is over its retention yet"
    );

    // Thirty days to the last microsecond: a late notice, or the mail once more, still finds what it is about (LOOP-5).
    ground.clock.set(time(5) + 30 * 24 * HOUR);
    store.sweep().await.unwrap();
    let key = LookupKey::MessageId("0@a.example".into());
    assert_eq!(store.find(&key).await.unwrap(), [units[0].0]);
    assert_eq!(ground.body_files().len(), 3);

    ground.clock.advance(HOUR);
    store.sweep().await.unwrap();
    let [done, waiting, open] = units.as_slice() else {
        unreachable!("three were written")
    };
    assert!(store.load(done.0).await.unwrap().is_none());
    assert!(read(&store, done.1).await.is_err());
    let key = LookupKey::MessageId("0@a.example".into());
    assert!(store.find(&key).await.unwrap().is_empty());
    for (kept, body) in [waiting, open] {
        assert!(store.load(*kept).await.unwrap().is_some());
        assert!(read(&store, *body).await.is_ok());
    }
    assert_eq!(ground.body_files().len(), 2);
    store.close().await;
}

// --- audit -------------------------------------------------------------------------------------

// rule: PHI-5, T-34
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_changed_removed_or_added_breaks_the_audit_chain() {
    for tampering in [
        "UPDATE audit SET at = at + 1 WHERE sequence = 2",
        "UPDATE audit SET outcome = 8 WHERE sequence = 4",
        "UPDATE audit SET kind = 'SECURE' WHERE sequence = 1",
        "UPDATE audit SET exchange = X'00112233445566778899AABBCCDDEEFF' WHERE sequence = 3",
        "UPDATE audit SET sealed = (SELECT sealed FROM audit WHERE sequence = 1) WHERE sequence = 2",
        "UPDATE audit SET hash = zeroblob(32) WHERE sequence = 4",
        "UPDATE audit SET sequence = 9 WHERE sequence = 4",
        "DELETE FROM audit WHERE sequence = 1",
        "DELETE FROM audit WHERE sequence = 2",
        "DELETE FROM audit WHERE sequence = 4",
        "DELETE FROM audit",
        "INSERT INTO audit SELECT node, 5, at, kind, outcome, exchange, sealed, hash \
         FROM audit WHERE sequence = 4",
        "INSERT INTO audit SELECT 'node-b', sequence, at, kind, outcome, exchange, sealed, hash \
         FROM audit WHERE sequence = 1",
        "UPDATE audit_chain SET last_sequence = 3, \
         last_hash = (SELECT hash FROM audit WHERE sequence = 3)",
        "UPDATE audit_chain SET mac = zeroblob(32)",
        "DELETE FROM audit_chain",
    ] {
        let ground = SqliteGround::new();
        let store = ground.open().await;
        store.commit(audit_of(&["a", "b"])).await.unwrap();
        store.commit(audit_of(&["c", "d"])).await.unwrap();
        let verdict = store.verify_audit_chain().await.unwrap();
        assert_eq!(verdict, ChainVerdict::Intact { records: 4 });
        // Once while it is open; then it must stay broken after a restart that goes on with the chain.
        change(&ground, tampering);
        let verdict = store.verify_audit_chain().await.unwrap();
        assert!(
            matches!(verdict, ChainVerdict::Broken { .. }),
            "{tampering}"
        );
        store.close().await;

        let store = ground.open().await;
        store.commit(audit_of(&["e"])).await.unwrap();
        let verdict = store.verify_audit_chain().await.unwrap();
        assert!(
            matches!(verdict, ChainVerdict::Broken { .. }),
            "{tampering}, restarted"
        );
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_goes_on_over_restarts_and_over_the_end_of_a_retention() {
    let ground = SqliteGround::new();
    let store = ground.open().await;
    store.commit(audit_of(&["a", "b", "c"])).await.unwrap();
    store.close().await;
    let store = ground.open().await;
    let mut late = audit_of(&["d"]);
    late.audit[0].at = time(1_000_000);
    store.commit(late).await.unwrap();
    let verdict = store.verify_audit_chain().await.unwrap();
    assert_eq!(verdict, ChainVerdict::Intact { records: 4 });

    ground.clock.advance(ground.config.audit_retention + HOUR);
    store.sweep().await.unwrap();
    let verdict = store.verify_audit_chain().await.unwrap();
    assert_eq!(verdict, ChainVerdict::Intact { records: 1 });
    change(&ground, "DELETE FROM audit");
    let verdict = store.verify_audit_chain().await.unwrap();
    assert!(matches!(verdict, ChainVerdict::Broken { .. }));
    store.close().await;
}

// rule: PHI-4
#[tokio::test(flavor = "multi_thread")]
async fn reading_the_audit_is_recorded_before_it_is_read() {
    let ground = SqliteGround::new();
    let store = ground.open().await;
    let about = exchange("edge", time(0));
    let mut unit = insert(&about, vec![]);
    unit.audit = vec![record("ada.quill@hisp.example").of(about.id)];
    store.commit(unit).await.unwrap();

    let read = store.read_audit_of("operator-1", about.id).await.unwrap();
    assert_eq!(read[0].details["address"], "ada.quill@hisp.example");
    assert_eq!(read[1].kind, AuditKind::AuditLogUsed);
    assert_eq!(read[1].details["reader"], "operator-1");

    let pages = store.read_audit("operator-2", 1, 10).await.unwrap();
    let kinds: Vec<_> = pages
        .iter()
        .map(|(number, record)| (*number, record.kind))
        .collect();
    assert_eq!(
        kinds,
        [(2, AuditKind::AuditLogUsed), (3, AuditKind::AuditLogUsed)]
    );
    store.close().await;
}

// --- ends --------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn closing_waits_for_what_is_queued_and_refuses_what_comes_later() {
    let ground = SqliteGround::new();
    let store = ground.open().await;
    let mut queued = Vec::new();
    for number in 0..100 {
        let written = exchange("edge", time(number));
        let store = Arc::clone(&store);
        let unit = insert(&written, vec![]);
        queued.push((
            written.id,
            tokio::spawn(async move { store.commit(unit).await }),
        ));
    }
    store.close().await;
    assert!(store.commit(audit_of(&["late"])).await.is_err());
    let store = ground.open().await;
    for (id, unit) in queued {
        let is_written = unit.await.unwrap().is_ok();
        assert_eq!(store.load(id).await.unwrap().is_some(), is_written);
    }
    store.close().await;
}
