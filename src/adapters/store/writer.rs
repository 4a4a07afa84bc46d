//! The writer: one task with a connection of its own. It takes whatever is queued, writes it in one transaction, one
//! savepoint for each unit, commits once, and only then answers each. So a hundred messages that come together cost
//! one fsync, and one that conflicts fails alone.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    audit,
    bodies::{Adoption, BodyStore},
    body, exchange,
    failure::{Failure, UnitError},
    keys::KeyRing,
    lookup_key, outbox,
};
use crate::{
    flows::{
        fault_points,
        ports::{Claim, StoreError},
    },
    formats::ids::{BodyId, ExchangeId},
};

const BEGIN: &str = "BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT";
const ROLLBACK: &str = "ROLLBACK";
const SAVEPOINT: &str = "SAVEPOINT unit";
const RELEASE: &str = "RELEASE unit";
const UNDO_UNIT: &str = "ROLLBACK TO unit";
/// Rows that one statement inserts: each statement is a trip to the thread of its connection and back.
pub(super) const MAX_ROWS_AT_ONCE: usize = 32;
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
    pub(super) effects: Vec<outbox::Row>,
    pub(super) done: Option<Claim>,
    pub(super) audit: Vec<audit::Row>,
}

pub(super) struct PreparedExchange {
    pub(super) id: ExchangeId,
    pub(super) is_new: bool,
    pub(super) row: exchange::Row,
    pub(super) keys: Vec<lookup_key::Row>,
}

/// What is answered once the transaction is committed, or broken.
enum Pending {
    Unit {
        adoption: Option<Adoption>,
        unlink: Vec<BodyId>,
        rings: bool,
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
    Claims(Vec<Claim>, oneshot::Sender<Result<Vec<Claim>, StoreError>>),
    Expired {
        unlink: Vec<BodyId>,
        is_more: bool,
        answer: oneshot::Sender<Result<bool, StoreError>>,
    },
}

/// The writer's side of the store.
pub(super) struct Writer {
    pub(super) options: SqliteConnectOptions,
    pub(super) connection: Option<SqliteConnection>,
    pub(super) keys: Arc<KeyRing>,
    pub(super) bodies: Arc<BodyStore>,
    pub(super) node: String,
    pub(super) chain: audit::Chain,
    pub(super) due: Arc<Notify>,
    pub(super) max_units: usize,
}

impl Writer {
    /// Serves `commands` until they end, then closes the connection.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::with_capacity(self.max_units);
        while commands.recv_many(&mut batch, self.max_units).await > 0 {
            let is_closing = batch
                .iter()
                .any(|command| matches!(command, Command::Close));
            if is_closing {
                // What is queued is still served; nothing new comes in.
                commands.close();
            }
            self.serve(batch.drain(..)).await;
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the store was not closed cleanly; it recovers at the next start");
        }
    }

    /// Writes one batch and answers it.
    async fn serve(&mut self, batch: impl ExactSizeIterator<Item = Command>) {
        let chain_before = self.chain.clone();
        let mut pending = Vec::with_capacity(batch.len());
        let mut commands = batch.filter(|command| !matches!(command, Command::Close));
        let mut outcome = self.begin().await;
        while outcome.is_ok() {
            let Some(command) = commands.next() else {
                outcome = self.commit(&chain_before).await;
                break;
            };
            outcome = self.execute(command, &mut pending).await;
        }
        let Err(failure) = outcome else {
            self.answer(pending).await;
            return;
        };
        self.chain = chain_before;
        self.roll_back().await;
        for waiting in pending {
            waiting.fail(&failure);
        }
        for command in commands {
            command.fail(&failure);
        }
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        if self.connection.is_none() {
            self.connection = Some(self.options.connect().await?);
        }
        self.run_sql(BEGIN).await
    }

    async fn commit(&mut self, chain_before: &audit::Chain) -> Result<(), Failure> {
        if !self.chain.is_same(chain_before) {
            let keys = Arc::clone(&self.keys);
            let chain = self.chain.clone();
            chain.save(self.connection()?, &keys).await?;
        }
        fault_points::pass("store.before_commit")?;
        self.run_sql(COMMIT).await?;
        // Past this line the units are durable, whatever happens: only a kill means anything here.
        let _ = fault_points::pass("store.after_commit");
        Ok(())
    }

    async fn roll_back(&mut self) {
        // SQLite rolls back by itself after some errors, and then there is nothing to undo. A connection that cannot
        // even say so is given up; the next batch opens another.
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let undone = sqlx::query(ROLLBACK).execute(&mut connection).await;
        let is_usable = match undone {
            Ok(_) => true,
            Err(sqlx::Error::Database(_)) => connection.ping().await.is_ok(),
            Err(_) => false,
        };
        if is_usable {
            self.connection = Some(connection);
        }
    }

    /// Executes one command in the open transaction. `Err` means that the transaction is broken.
    async fn execute(
        &mut self,
        command: Command,
        pending: &mut Vec<Pending>,
    ) -> Result<(), Failure> {
        let chain_before = self.chain.clone();
        // Whatever happens below, whoever asked is answered: a broken transaction by `fail`, a refusal here.
        if let Err(failure) = self.run_sql(SAVEPOINT).await {
            command.fail(&failure);
            return Err(failure);
        }
        let refusal = match command {
            Command::Commit(unit, answer) => match self.write(*unit).await {
                Ok(written) => {
                    pending.push(written.into_pending(answer));
                    None
                }
                Err(error) => Some(refuse(error, answer)?),
            },
            Command::Claim {
                now,
                lease,
                limit,
                answer,
            } => match self.claim(now, lease, limit).await {
                Ok(claims) => {
                    pending.push(Pending::Claims(claims, answer));
                    None
                }
                Err(error) => Some(refuse(error, answer)?),
            },
            Command::GiveBack { claim, at, answer } => match self.give_back(&claim, at).await {
                Ok(()) => {
                    pending.push(Pending::Unit {
                        adoption: None,
                        unlink: Vec::new(),
                        rings: true,
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
            } => match self.expire(final_before, audit_before).await {
                Ok((unlink, is_more)) => {
                    pending.push(Pending::Expired {
                        unlink,
                        is_more,
                        answer,
                    });
                    None
                }
                Err(error) => Some(refuse(error, answer)?),
            },
            Command::Close => None,
        };
        if let Some(Refused) = refusal {
            self.chain = chain_before;
            self.run_sql(UNDO_UNIT).await?;
        }
        self.run_sql(RELEASE).await
    }

    async fn write(&mut self, unit: Prepared) -> Result<Written, UnitError> {
        let keys = Arc::clone(&self.keys);
        let node = self.node.clone();
        let mut chain = self.chain.clone();
        let connection = self.connection()?;
        if let Some(claim) = &unit.done {
            outbox::complete(&mut *connection, &node, claim).await?;
        }
        if let Some(exchange) = unit.exchange {
            if exchange.is_new {
                exchange.row.insert(&mut *connection).await?;
            } else {
                exchange.row.update(&mut *connection).await?;
            }
            lookup_key::insert(&mut *connection, exchange.id, &exchange.keys).await?;
        }
        for adopted in &unit.adoption.bodies {
            body::insert(&mut *connection, adopted, unit.owner).await?;
        }
        let mut unlink = Vec::new();
        for id in unit.remove {
            if body::delete(&mut *connection, id).await? {
                unlink.push(id);
            }
        }
        let rings = !unit.effects.is_empty();
        outbox::insert(&mut *connection, &unit.effects).await?;
        chain.append(connection, &keys, &unit.audit).await?;
        self.chain = chain;
        Ok(Written {
            adoption: unit.adoption,
            unlink,
            rings,
        })
    }

    async fn claim(
        &mut self,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Claim>, UnitError> {
        let node = self.node.clone();
        outbox::claim(self.connection()?, &node, now, lease, limit).await
    }

    async fn give_back(&mut self, claim: &Claim, at: Timestamp) -> Result<(), UnitError> {
        let node = self.node.clone();
        outbox::give_back(self.connection()?, &node, claim, at).await
    }

    async fn expire(
        &mut self,
        final_before: Timestamp,
        audit_before: Timestamp,
    ) -> Result<(Vec<BodyId>, bool), UnitError> {
        let connection = self.connection()?;
        let expired = exchange::expired(&mut *connection, final_before, EXPIRED_AT_ONCE).await?;
        let is_more = i64::try_from(expired.len()) == Ok(EXPIRED_AT_ONCE);
        let mut unlink = Vec::new();
        for id in expired {
            for body in body::of_exchange(&mut *connection, id).await? {
                if body::delete(&mut *connection, body).await? {
                    unlink.push(body);
                }
            }
            exchange::delete(&mut *connection, id).await?;
        }
        let mut chain = self.chain.clone();
        let is_more_audit = chain.prune(self.connection()?, audit_before).await?;
        self.chain = chain;
        Ok((unlink, is_more || is_more_audit))
    }

    async fn answer(&self, pending: Vec<Pending>) {
        let unlink: Vec<BodyId> = pending.iter().flat_map(Pending::unlink).copied().collect();
        if !unlink.is_empty() {
            let bodies = Arc::clone(&self.bodies);
            // A file that stays is found by the next sweep.
            let _ = tokio::task::spawn_blocking(move || bodies.unlink(&unlink)).await;
        }
        if pending.iter().any(Pending::rings) {
            self.due.notify_one();
        }
        for waiting in pending {
            waiting.succeed();
        }
    }

    fn connection(&mut self) -> Result<&mut SqliteConnection, Failure> {
        self.connection
            .as_mut()
            .ok_or_else(|| Failure::Other("the store is not connected".to_owned()))
    }

    async fn run_sql(&mut self, statement: &'static str) -> Result<(), Failure> {
        sqlx::query(statement).execute(self.connection()?).await?;
        Ok(())
    }
}

struct Written {
    adoption: Adoption,
    unlink: Vec<BodyId>,
    rings: bool,
}

impl Written {
    fn into_pending(self, answer: oneshot::Sender<Result<(), StoreError>>) -> Pending {
        Pending::Unit {
            adoption: Some(self.adoption),
            unlink: self.unlink,
            rings: self.rings,
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
            Self::Unit { unlink, .. } | Self::Expired { unlink, .. } => unlink,
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
            Self::Expired {
                is_more, answer, ..
            } => {
                let _ = answer.send(Ok(is_more));
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

    use super::*;
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

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_disk_fails_what_comes_and_harms_nothing_and_passes() {
        let folder = std::env::temp_dir().join(format!("xdbridge-full-{}", uuid::Uuid::new_v4()));
        let folder = Folder(folder);
        std::fs::create_dir_all(&folder.0).unwrap();
        let key = folder.0.join("store.key");
        create_key_file(&key).unwrap();
        let config = StoreConfig {
            path: folder.0.join("data"),
            key_files: vec![key],
            ..StoreConfig::default()
        };
        // Some 800 kB: SQLite itself answers SQLITE_FULL beyond.
        let store = SqliteStore::open_with(&config, Arc::new(Midnight), "node-a", |options| {
            options.pragma("max_page_count", "200")
        })
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
