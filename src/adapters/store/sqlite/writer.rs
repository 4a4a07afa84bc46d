//! The writer: one thread with a connection of its own. It takes whatever is queued, writes it in one transaction, one
//! savepoint for each unit, commits once, and only then answers each. So a hundred messages that come together cost
//! one fsync, and one that conflicts fails alone.
//!
//! A thread and no task: SQLite blocks, and a statement that is handed to another thread and back costs several times
//! what it takes itself.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{
    super::{
        audit_chain::{self, Chain},
        bodies::Adoption,
        exchange_row, lookup_row,
        outbox_row::{self, Terms},
    },
    audit, body,
    body_files::BodyFiles,
    connection::Database,
    exchange,
    failure::{Failure, UnitError},
    keys::KeyRing,
    lookup_key, outbox,
    queue::{Change, Queue},
    recent::Recent,
};
use crate::{
    flows::{
        fault_points,
        ports::{Claim, Clock, Reschedule, StoreError, VersionedExchange},
    },
    formats::ids::{BodyId, ExchangeId},
};

const BEGIN: &str = "BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";
const SAVEPOINT: &str = "SAVEPOINT unit";
const RELEASE: &str = "RELEASE unit";
const UNDO_UNIT: &str = "ROLLBACK TO unit";
/// Exchanges that one transaction removes when their retention is over.
const EXPIRED_AT_ONCE: i64 = 200;

/// What the writer is asked for, and whom it answers.
pub(super) enum Command {
    Commit(Box<Prepared>, oneshot::Sender<Result<(), StoreError>>),
    Claim {
        now: Timestamp,
        lease: Duration,
        limit: usize,
        answer: oneshot::Sender<Result<Vec<Claim>, StoreError>>,
    },
    GiveBack {
        claim: Claim,
        at: Timestamp,
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Removes what is over its retention, a bounded number of rows; answers whether there may be more.
    Expire {
        final_before: Timestamp,
        audit_before: Timestamp,
        answer: oneshot::Sender<Result<bool, StoreError>>,
    },
    Close,
}

/// A unit of work with everything sealed and hashed that can be before its turn comes.
pub(super) struct Prepared {
    pub(super) exchange: Option<PreparedExchange>,
    pub(super) owner: Option<ExchangeId>,
    pub(super) adoption: Adoption,
    pub(super) remove: Vec<BodyId>,
    pub(super) effects: Vec<outbox_row::Row>,
    pub(super) done: Option<Claim>,
    pub(super) under: Option<Claim>,
    pub(super) reschedule: Vec<Reschedule>,
    pub(super) decided_on: Option<lookup_row::Decided>,
    pub(super) audit: Vec<audit_chain::Row>,
}

pub(super) struct PreparedExchange {
    pub(super) committed: VersionedExchange,
    pub(super) is_new: bool,
    pub(super) row: exchange_row::Row,
    pub(super) keys: Vec<lookup_row::Row>,
}

/// What is answered once the transaction is committed, or broken.
enum Pending {
    Unit {
        adoption: Option<Adoption>,
        /// What the exchange is from now on, and the octets of its row.
        exchange: Option<Box<(VersionedExchange, usize)>>,
        unlink: Vec<BodyId>,
        rings: bool,
        /// Effects that were leased as they were inserted.
        ready: Vec<Claim>,
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
    Claims(Vec<Claim>, oneshot::Sender<Result<Vec<Claim>, StoreError>>),
    Expired {
        expired: Expired,
        answer: oneshot::Sender<Result<bool, StoreError>>,
    },
}

/// What was over its retention.
struct Expired {
    exchanges: Vec<ExchangeId>,
    unlink: Vec<BodyId>,
    is_more: bool,
}

/// The writer's side of the store.
pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) connection: Option<Connection>,
    pub(super) keys: Arc<KeyRing>,
    pub(super) bodies: BodyFiles,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) node: String,
    pub(super) chain: Chain,
    pub(super) queue: Arc<Queue>,
    pub(super) recent: Arc<Recent>,
    pub(super) max_units: usize,
}

/// What the open transaction has done so far, beside its rows.
struct Batch {
    now: Timestamp,
    terms: Terms,
    changes: Vec<Change>,
    pending: Vec<Pending>,
    /// Whether one command is all there is: then it needs no savepoint.
    is_single: bool,
}

impl Writer {
    /// Serves `commands` until they end, then closes the connection.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(self.max_units);
        while commands.blocking_recv_many(&mut batch, self.max_units) > 0 {
            let is_closing = batch
                .iter()
                .any(|command| matches!(command, Command::Close));
            if is_closing {
                // What is queued is still served; nothing new comes in.
                commands.close();
            }
            self.serve(batch.drain(..));
        }
        if let Some(connection) = self.connection.take()
            && let Err((_, error)) = connection.close()
        {
            tracing::warn!(%error, "the store was not closed cleanly; it recovers at the next start");
        }
    }

    /// Writes one batch and answers it.
    fn serve(&mut self, batch: impl ExactSizeIterator<Item = Command>) {
        let chain_before = self.chain.clone();
        let mut open = Batch {
            now: self.clock.now(),
            terms: self.queue.terms(),
            changes: Vec::new(),
            pending: Vec::with_capacity(batch.len()),
            is_single: batch.len() == 1,
        };
        let mut commands = batch.filter(|command| !matches!(command, Command::Close));
        let mut outcome = self.begin();
        while outcome.is_ok() {
            let Some(command) = commands.next() else {
                outcome = self.commit(&chain_before);
                break;
            };
            outcome = self.execute(command, &mut open);
        }
        let Err(failure) = outcome else {
            self.answer(open);
            return;
        };
        self.chain = chain_before;
        self.roll_back();
        for waiting in open.pending {
            waiting.fail(&failure);
        }
        for command in commands {
            command.fail(&failure);
        }
    }

    fn begin(&mut self) -> Result<(), Failure> {
        if self.connection.is_none() {
            self.connection = Some(self.database.connect()?);
        }
        self.run_sql(BEGIN)
    }

    fn commit(&mut self, chain_before: &Chain) -> Result<(), Failure> {
        if !self.chain.is_same(chain_before) {
            audit::save(&self.chain, self.connection()?, &self.keys)?;
        }
        fault_points::pass("store.before_commit")?;
        self.run_sql(COMMIT)?;
        // Past this line the units are durable, whatever happens: only a kill means anything here.
        let _ = fault_points::pass("store.after_commit");
        Ok(())
    }

    fn roll_back(&mut self) {
        // SQLite rolls back by itself after some errors, and then there is nothing to undo. A connection that cannot
        // do it is given up; the next batch opens another.
        let Some(connection) = self.connection.take() else {
            return;
        };
        if connection.is_autocommit() || connection.execute_batch(ROLLBACK).is_ok() {
            self.connection = Some(connection);
        }
    }

    /// Executes one command in the open transaction. `Err` means that the transaction is broken.
    fn execute(&mut self, command: Command, open: &mut Batch) -> Result<(), Failure> {
        let chain_before = self.chain.clone();
        let changes_before = open.changes.len();
        // Whatever happens below, whoever asked is answered: a broken transaction by `fail`, a refusal here.
        if !open.is_single
            && let Err(failure) = self.run_sql(SAVEPOINT)
        {
            command.fail(&failure);
            return Err(failure);
        }
        let refusal = match command {
            Command::Commit(unit, answer) => match self.write(*unit, open) {
                Ok(written) => {
                    open.pending.push(written.into_pending(answer));
                    None
                }
                Err(error) => Some(refuse(error, answer)?),
            },
            Command::Claim {
                now,
                lease,
                limit,
                answer,
            } => match self.claim(now, lease, limit, open) {
                Ok(claims) => {
                    open.pending.push(Pending::Claims(claims, answer));
                    None
                }
                Err(error) => Some(refuse(error, answer)?),
            },
            Command::GiveBack { claim, at, answer } => match self.give_back(&claim, at, open) {
                Ok(()) => {
                    open.pending.push(Pending::Unit {
                        adoption: None,
                        exchange: None,
                        unlink: Vec::new(),
                        rings: true,
                        ready: Vec::new(),
                        answer,
                    });
                    None
                }
                Err(error) => Some(refuse(error, answer)?),
            },
            Command::Expire {
                final_before,
                audit_before,
                answer,
            } => match self.expire(final_before, audit_before) {
                Ok(expired) => {
                    open.pending.push(Pending::Expired { expired, answer });
                    None
                }
                Err(error) => Some(refuse(error, answer)?),
            },
            Command::Close => None,
        };
        if let Some(Refused) = refusal {
            self.chain = chain_before;
            open.changes.truncate(changes_before);
            if open.is_single {
                self.run_sql(ROLLBACK)?;
                return self.run_sql(BEGIN);
            }
            self.run_sql(UNDO_UNIT)?;
        }
        if open.is_single {
            return Ok(());
        }
        self.run_sql(RELEASE)
    }

    fn write(&mut self, unit: Prepared, open: &mut Batch) -> Result<Written, UnitError> {
        let mut chain = self.chain.clone();
        let connection = self.connection()?;
        if let Some(decided) = &unit.decided_on {
            lookup_key::check(connection, decided)?;
        }
        if let Some(claim) = &unit.done {
            outbox::complete(connection, &self.node, claim, &mut open.changes)?;
        }
        if let Some(claim) = &unit.under {
            outbox::check_held(connection, &self.node, claim)?;
        }
        let mut committed = None;
        if let Some(exchange) = unit.exchange {
            let id = exchange.committed.exchange.id;
            let sealed_bytes = exchange.row.sealed_bytes();
            if exchange.is_new {
                exchange.row.insert(connection)?;
            } else {
                exchange.row.update(connection)?;
            }
            lookup_key::insert(connection, id, &exchange.keys)?;
            committed = Some(Box::new((exchange.committed, sealed_bytes)));
        }
        for adopted in &unit.adoption.bodies {
            body::insert(connection, adopted, unit.owner)?;
        }
        let mut unlink = Vec::new();
        for id in unit.remove {
            if body::delete(connection, id)? {
                unlink.push(id);
            }
        }
        for to in &unit.reschedule {
            outbox::reschedule(connection, to, &mut open.changes)?;
        }
        let rings = !unit.effects.is_empty() || !unit.reschedule.is_empty();
        let mut ready = Vec::new();
        for effect in unit.effects {
            let (node, now) = (&self.node, open.now);
            ready.extend(effect.insert(
                connection,
                node,
                now,
                &mut open.terms,
                &mut open.changes,
            )?);
        }
        audit::append(&mut chain, connection, &self.keys, &unit.audit)?;
        self.chain = chain;
        Ok(Written {
            adoption: unit.adoption,
            exchange: committed,
            unlink,
            rings,
            ready,
        })
    }

    fn claim(
        &self,
        now: Timestamp,
        lease: Duration,
        limit: usize,
        open: &mut Batch,
    ) -> Result<Vec<Claim>, UnitError> {
        let connection = self.connection()?;
        outbox::claim(connection, &self.node, now, lease, limit, &mut open.changes)
    }

    fn give_back(&self, claim: &Claim, at: Timestamp, open: &mut Batch) -> Result<(), UnitError> {
        outbox::give_back(self.connection()?, &self.node, claim, at, &mut open.changes)
    }

    fn expire(
        &mut self,
        final_before: Timestamp,
        audit_before: Timestamp,
    ) -> Result<Expired, UnitError> {
        let mut chain = self.chain.clone();
        let connection = self.connection()?;
        let exchanges = exchange::expired(connection, final_before, EXPIRED_AT_ONCE)?;
        let is_more = i64::try_from(exchanges.len()) == Ok(EXPIRED_AT_ONCE);
        let mut unlink = Vec::new();
        for id in &exchanges {
            for body in body::of_exchange(connection, *id)? {
                if body::delete(connection, body)? {
                    unlink.push(body);
                }
            }
            exchange::delete(connection, *id)?;
        }
        let is_more_audit = audit::prune(&mut chain, connection, audit_before)?;
        self.chain = chain;
        Ok(Expired {
            exchanges,
            unlink,
            is_more: is_more || is_more_audit,
        })
    }

    /// The transaction is committed: memory follows the rows, and everybody is told.
    fn answer(&self, open: Batch) {
        let Batch {
            changes,
            mut pending,
            ..
        } = open;
        let mut ready = Vec::new();
        let mut rings = false;
        for waiting in &mut pending {
            rings |= waiting.rings();
            self.bodies.unlink(waiting.unlink());
            match waiting {
                Pending::Unit {
                    exchange,
                    ready: leased,
                    ..
                } => {
                    if let Some(committed) = exchange.take() {
                        let (exchange, sealed_bytes) = *committed;
                        self.recent.put(exchange, sealed_bytes);
                    }
                    ready.append(leased);
                }
                Pending::Expired { expired, .. } => {
                    for id in &expired.exchanges {
                        self.recent.remove(*id);
                    }
                }
                Pending::Claims(..) => {}
            }
        }
        self.queue.committed(changes, ready);
        if rings {
            self.queue.due.notify_one();
        }
        for waiting in pending {
            waiting.succeed();
        }
    }

    fn connection(&self) -> Result<&Connection, Failure> {
        self.connection
            .as_ref()
            .ok_or_else(|| Failure::Other("the store is not connected".to_owned()))
    }

    fn run_sql(&self, statement: &'static str) -> Result<(), Failure> {
        self.connection()?.prepare_cached(statement)?.execute([])?;
        Ok(())
    }
}

struct Written {
    adoption: Adoption,
    exchange: Option<Box<(VersionedExchange, usize)>>,
    unlink: Vec<BodyId>,
    rings: bool,
    ready: Vec<Claim>,
}

impl Written {
    fn into_pending(self, answer: oneshot::Sender<Result<(), StoreError>>) -> Pending {
        Pending::Unit {
            adoption: Some(self.adoption),
            exchange: self.exchange,
            unlink: self.unlink,
            rings: self.rings,
            ready: self.ready,
            answer,
        }
    }
}

/// A unit was refused and its caller told: its savepoint is to be undone.
struct Refused;

/// Answers the caller of a unit that was not written. `Err` passes on that the transaction is broken.
fn refuse<T>(
    error: UnitError,
    answer: oneshot::Sender<Result<T, StoreError>>,
) -> Result<Refused, Failure> {
    // The caller may have gone away: then nobody wants the answer.
    match error {
        UnitError::Refused(refusal) => {
            let _ = answer.send(Err(refusal));
            Ok(Refused)
        }
        UnitError::Broken(failure) => {
            let _ = answer.send(Err(failure.to_store_error()));
            Err(failure)
        }
    }
}

impl Pending {
    fn unlink(&self) -> &[BodyId] {
        match self {
            Self::Unit { unlink, .. } => unlink,
            Self::Expired { expired, .. } => &expired.unlink,
            Self::Claims(..) => &[],
        }
    }

    fn rings(&self) -> bool {
        matches!(self, Self::Unit { rings: true, .. })
    }

    fn succeed(self) {
        match self {
            Self::Unit {
                adoption, answer, ..
            } => {
                if let Some(adoption) = adoption {
                    adoption.settle();
                }
                let _ = answer.send(Ok(()));
            }
            Self::Claims(claims, answer) => {
                let _ = answer.send(Ok(claims));
            }
            Self::Expired { expired, answer } => {
                let _ = answer.send(Ok(expired.is_more));
            }
        }
    }

    fn fail(self, failure: &Failure) {
        match self {
            Self::Unit {
                adoption, answer, ..
            } => {
                // As before: staged bodies stay staged, so that the unit can be tried again.
                drop(adoption);
                let _ = answer.send(Err(failure.to_store_error()));
            }
            Self::Claims(_, answer) => {
                let _ = answer.send(Err(failure.to_store_error()));
            }
            Self::Expired { answer, .. } => {
                let _ = answer.send(Err(failure.to_store_error()));
            }
        }
    }
}

impl Command {
    fn fail(self, failure: &Failure) {
        let error = failure.to_store_error();
        match self {
            Self::Commit(_, answer) | Self::GiveBack { answer, .. } => {
                let _ = answer.send(Err(error));
            }
            Self::Claim { answer, .. } => {
                let _ = answer.send(Err(error));
            }
            Self::Expire { answer, .. } => {
                let _ = answer.send(Err(error));
            }
            Self::Close => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, path::PathBuf};

    use rusqlite::params;

    use super::{super::row_id::RowId, *};
    use crate::{
        adapters::store::{SqliteStore, StoreConfig, create_key_file},
        flows::ports::{Bodies, Clock, Exchanges, StagedBody, UnitOfWork},
        formats::audit::{AuditKind, AuditOutcome, AuditRecord},
    };

    struct Midnight;

    impl Clock for Midnight {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let name = format!("xdbridge-writer-{}", uuid::Uuid::new_v4());
            let folder = Self(std::env::temp_dir().join(name));
            std::fs::create_dir_all(&folder.0).unwrap();
            create_key_file(&folder.0.join("store.key")).unwrap();
            folder
        }

        fn config(&self) -> StoreConfig {
            StoreConfig {
                path: self.0.join("data"),
                key_files: vec![self.0.join("store.key")],
                ..StoreConfig::default()
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    async fn stage(store: &Arc<SqliteStore>) -> StagedBody {
        let store = Arc::clone(store);
        let staging = tokio::task::spawn_blocking(move || {
            let mut writer = store.create_encrypted().unwrap();
            writer.write_all(&[5; 30_000]).unwrap();
            writer.finish().unwrap()
        });
        staging.await.unwrap()
    }

    fn adopting(body: &StagedBody) -> UnitOfWork {
        let kind = AuditKind::Secure;
        let outcome = AuditOutcome::Success;
        UnitOfWork {
            adopt: vec![body.id],
            audit: vec![AuditRecord::new(Timestamp::UNIX_EPOCH, kind, outcome)],
            ..UnitOfWork::default()
        }
    }

    async fn read(store: &Arc<SqliteStore>, id: BodyId) -> usize {
        let store = Arc::clone(store);
        let reading = tokio::task::spawn_blocking(move || {
            let mut content = Vec::new();
            store.open(id).unwrap().read_to_end(&mut content).unwrap()
        });
        reading.await.unwrap()
    }

    async fn expire(store: &SqliteStore, before: Timestamp) -> bool {
        let ended = store.ask(|answer| Command::Expire {
            final_before: before,
            audit_before: before,
            answer,
        });
        ended.await.unwrap()
    }

    fn count(folder: &Folder, statement: &str) -> i64 {
        let database = Connection::open(folder.0.join("data/xdbridge.db")).unwrap();
        database.query_row(statement, [], |row| row.get(0)).unwrap()
    }

    // rule: T-34
    #[tokio::test(flavor = "multi_thread")]
    async fn one_transaction_removes_so_many_exchanges_and_records_and_no_more() {
        let folder = Folder::new();
        let store = SqliteStore::open(&folder.config(), Arc::new(Midnight), "node-a")
            .await
            .unwrap();
        let exchanges = EXPIRED_AT_ONCE + 50;
        let mut database = Connection::open(folder.0.join("data/xdbridge.db")).unwrap();
        database.busy_timeout(Duration::from_secs(60)).unwrap();
        let filling = database.transaction().unwrap();
        for number in 0..exchanges {
            let values = params![RowId(uuid::Uuid::new_v4()), number];
            let fill = "INSERT INTO exchange VALUES (?1, 1, NULL, ?2, 1, ?2, x'00')";
            filling.execute(fill, values).unwrap();
        }
        filling.commit().unwrap();
        let records = audit_chain::PAGE + 500;
        for _ in 0..records / 500 {
            let record = AuditRecord::new(
                Timestamp::UNIX_EPOCH,
                AuditKind::Secure,
                AuditOutcome::Success,
            );
            let unit = UnitOfWork {
                audit: vec![record; 500],
                ..UnitOfWork::default()
            };
            store.commit(unit).await.unwrap();
        }
        let left = || {
            (
                count(&folder, "SELECT count(*) FROM exchange"),
                count(&folder, "SELECT count(*) FROM audit"),
            )
        };
        let later = Timestamp::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(left(), (exchanges, records));
        assert!(!expire(&store, Timestamp::UNIX_EPOCH).await);
        assert_eq!(left(), (exchanges, records), "nothing is so old");
        assert!(expire(&store, later).await, "there is more");
        assert_eq!(left(), (50, 500));
        let verdict = store.verify_audit_chain().await.unwrap();
        let records = 500;
        assert_eq!(
            verdict,
            crate::adapters::store::ChainVerdict::Intact { records }
        );
        while expire(&store, later).await {}
        assert_eq!(left(), (0, 0));
        let verdict = store.verify_audit_chain().await.unwrap();
        let records = 0;
        assert_eq!(
            verdict,
            crate::adapters::store::ChainVerdict::Intact { records }
        );
        store.close().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_disk_fails_what_comes_and_harms_nothing_and_passes() {
        let folder = Folder::new();
        let config = folder.config();
        // Some 800 kB: SQLite itself answers SQLITE_FULL beyond.
        let store = SqliteStore::open_with(&config, Arc::new(Midnight), "node-a", Some(200))
            .await
            .unwrap();

        let mut kept = Vec::new();
        let refused = loop {
            let body = stage(&store).await;
            match store.commit(adopting(&body)).await {
                Ok(()) => kept.push(body.id),
                Err(StoreError::NoSpace) => break body,
                Err(other) => panic!("{other:?}"),
            }
            assert!(kept.len() < 50, "the disk must be full by now");
        };
        assert!(!kept.is_empty());
        assert!(matches!(
            store.commit(adopting(&refused)).await,
            Err(StoreError::NoSpace)
        ));
        assert_eq!(read(&store, refused.id).await, 30_000, "still staged");
        let records = kept.len() as u64;
        let intact = crate::adapters::store::ChainVerdict::Intact { records };
        assert_eq!(store.verify_audit_chain().await.unwrap(), intact);

        let room = UnitOfWork {
            remove: kept.split_off(kept.len() - 3),
            ..UnitOfWork::default()
        };
        store.commit(room).await.unwrap();
        store.commit(adopting(&refused)).await.unwrap();
        for id in kept {
            assert_eq!(read(&store, id).await, 30_000);
        }
        assert_eq!(read(&store, refused.id).await, 30_000);
        store.close().await;
    }
}
