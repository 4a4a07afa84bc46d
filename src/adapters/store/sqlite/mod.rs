//! The store on SQLite: exchanges, their outbox, bodies and the audit, in one data directory of one node.
//!
//! - **Durable** means: WAL with `synchronous=FULL`, so a commit returns after its log is fsynced; a body file is
//!   fsynced, and so is its folder, before the unit that adopts it can be committed.
//! - **Written together**: one thread writes (`writer`), many units in one transaction. Reading has connections of its
//!   own and never waits for a writer. What was just written, and what became due by it, is still known in memory
//!   (`recent`, `queue`): one process has the directory for itself.
//! - **Nothing in clear** that may name a person: aggregates and audit details are sealed (`keys`), the ids that
//!   exchanges are found by are keyed hashes (`lookup_key`), bodies are chunks under AES-256-GCM or, for what is
//!   ciphertext already, under GMAC (`chunks`).

mod audit;
mod backup;
mod body;
mod body_files;
mod connection;
mod exchange;
mod failure;
mod lookup_key;
mod outbox;
mod queue;
mod readiness;
mod recent;
mod row_id;
#[cfg(test)]
mod statements;
#[cfg(test)]
mod volume;
mod writer;

pub use self::backup::{BackedUp, BackupError, back_up};

use std::{
    io::Read,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};

use self::{
    body_files::BodyFiles,
    connection::{Database, Readers},
    failure::{UnitError, failed, read_failed},
    queue::Queue,
    recent::Recent,
    writer::{Command, Prepared, PreparedExchange, Writer},
};
use super::{
    ChainVerdict, StoreConfig, audit_chain,
    bodies::BodyStore,
    chunks::Protection,
    data_dir::{DataDir, DataDirError},
    exchange_row,
    failure::{closed, store_error},
    keys::{self, KeyFileError, KeyRing},
    lookup_row,
    outbox_row::{self, Terms},
};
use crate::{
    flows::ports::{
        Bodies, BodyWriter, Claim, Clock, ExchangeFilter, ExchangeWrite, Exchanges, LookupKey,
        Outstanding, StoreError, UnitOfWork, VersionedExchange,
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{BodyId, ExchangeId},
        keyed_hash::KeyedHash,
    },
};

/// Commands that may wait for the writer; further callers wait before they hand theirs over.
const MAX_QUEUED_COMMANDS: usize = 1024;
/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// A setting cannot be used.
    #[error("{}", problems.join("; "))]
    Config {
        /// Key and what would be accepted, each.
        problems: Vec<String>,
    },
    /// The data directory is not ours alone.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A key file cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// What is stored was written under another key.
    #[error("store.key_files does not name the key that the store was written under")]
    UnknownKey,
    /// SQLite cannot open the database, or it is no database of ours.
    #[error("the database cannot be opened")]
    Database(#[from] rusqlite::Error),
    /// The tables are of another form.
    #[error(
        "the database was written by a later release: start that one, or restore a copy from before it"
    )]
    LaterRelease,
    /// The writer's thread cannot be started.
    #[error("the thread that writes to the store cannot be started")]
    Thread(#[source] std::io::Error),
}

/// The store of one node, in SQLite and files.
pub struct SqliteStore {
    commands: mpsc::Sender<Command>,
    readers: Arc<Readers>,
    bodies: Arc<BodyStore>,
    files: BodyFiles,
    keys: Arc<KeyRing>,
    queue: Arc<Queue>,
    recent: Arc<Recent>,
    clock: Arc<dyn Clock>,
    node: String,
    exchange_retention: Duration,
    audit_retention: Duration,
    data_dir: DataDir,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    writer: Option<std::thread::JoinHandle<()>>,
    sweeper: Option<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the data directory, makes the tables and starts the writer. Leases of an earlier process end: it is gone,
    /// since the directory is locked. `node` names this node in leases and in the audit; it must not change while
    /// the directory is in use.
    pub async fn open(
        config: &StoreConfig,
        clock: Arc<dyn Clock>,
        node: &str,
    ) -> Result<Arc<Self>, StoreOpenError> {
        Self::open_with(config, clock, node, None).await
    }

    /// As [`SqliteStore::open`]; with `max_pages` the database is full at that size, for tests.
    async fn open_with(
        config: &StoreConfig,
        clock: Arc<dyn Clock>,
        node: &str,
        max_pages: Option<u32>,
    ) -> Result<Arc<Self>, StoreOpenError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(StoreOpenError::Config { problems });
        }
        let keys = Arc::new(KeyRing::read(&config.key_files)?);
        let data_dir = DataDir::open(&config.path)?;
        let files = BodyFiles::new(data_dir.bodies());
        let bodies = Arc::new(BodyStore::new(Arc::new(files.clone()), Arc::clone(&keys)));
        let mut database = Database::new(data_dir.database());
        database.max_pages = max_pages;

        let mut connection = database.connect()?;
        if !connection::migrate(&mut connection)? {
            return Err(StoreOpenError::LaterRelease);
        }
        outbox::release_all(&connection, clock.now())?;
        let chain = audit::resume(&connection, &keys, node)?.ok_or(StoreOpenError::UnknownKey)?;
        // Saved even when nothing was recorded yet: by it the next start knows whether it has the right key.
        audit::save(&chain, &connection, &keys)?;
        let queue = Arc::new(Queue::new(outbox::first_waiting(&connection)?));
        let kept = usize::try_from(config.read_connections).unwrap_or(usize::MAX);
        let readers = Arc::new(Readers::new(database.clone(), kept));
        let recent = Arc::new(Recent::default());

        let (commands, waiting) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let writer = Writer {
            database,
            connection: Some(connection),
            keys: Arc::clone(&keys),
            bodies: files.clone(),
            clock: Arc::clone(&clock),
            node: node.to_owned(),
            chain,
            queue: Arc::clone(&queue),
            recent: Arc::clone(&recent),
            max_units: config.max_units_per_commit,
        };
        let writer = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(StoreOpenError::Thread)?;
        let store = Arc::new(Self {
            commands,
            readers,
            bodies,
            files,
            keys,
            queue,
            recent,
            clock,
            node: node.to_owned(),
            exchange_retention: config.exchange_retention,
            audit_retention: config.audit_retention,
            data_dir,
            tasks: Mutex::default(),
        });
        let sweeper = sweep_every(config.sweep_interval, Arc::downgrade(&store));
        *store.tasks() = Tasks {
            writer: Some(writer),
            sweeper: Some(tokio::spawn(sweeper)),
        };
        Ok(store)
    }

    /// Writes what is queued, closes the database and unlocks the directory. Every later call fails.
    pub async fn close(&self) {
        let Tasks { writer, sweeper } = std::mem::take(&mut *self.tasks());
        if let Some(sweeper) = sweeper {
            sweeper.abort();
            let _ = sweeper.await;
        }
        // An error means that the writer is gone already.
        let _ = self.commands.send(Command::Close).await;
        // Readers first: the last connection to close moves the log into the database.
        self.readers.close();
        let ended = tokio::task::spawn_blocking(move || writer.map(std::thread::JoinHandle::join));
        if !matches!(ended.await, Ok(None | Some(Ok(())))) {
            crate::flows::measures::count_alarm("store");
            tracing::error!(alarm = "store", "the writer of the store ended early");
        }
        self.data_dir.unlock();
    }

    /// Removes what is over its retention, and body files that no row speaks of. The store does it by itself at every
    /// `sweep_interval`.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let before = |retention: Duration| now.checked_sub(retention).map_err(failed);
        let final_before = before(self.exchange_retention)?;
        let audit_before = before(self.audit_retention)?;
        loop {
            let is_more = self
                .ask(|answer| Command::Expire {
                    final_before,
                    audit_before,
                    answer,
                })
                .await?;
            if !is_more {
                break;
            }
        }
        self.remove_orphans().await
    }

    /// The data directory.
    pub(super) fn folder(&self) -> &Path {
        self.data_dir.path()
    }

    /// Octets of all adopted bodies.
    pub(super) async fn sum_of_bodies(&self) -> Result<i64, StoreError> {
        self.ask_long(|connection| body::sum(connection).map_err(read_failed))
            .await
    }

    /// Checks the audit from end to end: whether a record was changed, removed or put in.
    pub async fn verify_audit_chain(&self) -> Result<ChainVerdict, StoreError> {
        let keys = Arc::clone(&self.keys);
        self.ask_long(move |connection| audit::verify(connection, &keys))
            .await
    }

    /// The audit records of one exchange, oldest first. That `reader` (an operator's or a command's name) read them is
    /// recorded first (PHI-4).
    pub async fn read_audit_of(
        &self,
        reader: &str,
        exchange: ExchangeId,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        self.record_reading(reader, Some(exchange)).await?;
        let keys = Arc::clone(&self.keys);
        self.ask_long(move |connection| audit::of_exchange(connection, &keys, exchange))
            .await
    }

    /// A page of this node's audit records with their numbers: those after number `after`, in their order. That
    /// `reader` read them is recorded first (PHI-4).
    pub async fn read_audit(
        &self,
        reader: &str,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, AuditRecord)>, StoreError> {
        self.record_reading(reader, None).await?;
        let (keys, node) = (Arc::clone(&self.keys), self.node.clone());
        self.ask_long(move |connection| audit::page(connection, &keys, &node, after, limit))
            .await
    }

    /// A keyed hash for `purpose`, such as opaque patient identifiers. It changes when the first key file does.
    pub fn keyed_hash(&self, purpose: &str) -> KeyedHash {
        self.keys.current().other.derive(purpose)
    }

    async fn record_reading(
        &self,
        reader: &str,
        exchange: Option<ExchangeId>,
    ) -> Result<(), StoreError> {
        let mut record = AuditRecord::new(
            self.clock.now(),
            AuditKind::AuditLogUsed,
            AuditOutcome::Success,
        )
        .with("reader", reader);
        record.exchange = exchange;
        self.commit(UnitOfWork {
            audit: vec![record],
            ..UnitOfWork::default()
        })
        .await
    }

    /// Asks a question that may read many rows.
    async fn ask_long<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut rusqlite::Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = Arc::clone(&self.readers);
        tokio::task::spawn_blocking(move || readers.ask(question))
            .await
            .map_err(failed)?
    }

    /// Hands a command to the writer and waits for its answer.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let place = self.commands.reserve().await.map_err(|_| closed())?;
        let (answer, result) = oneshot::channel();
        place.send(command(answer));
        result.await.map_err(|_| closed())?
    }

    fn prepare(&self, unit: UnitOfWork) -> Result<Prepared, StoreError> {
        let exchange = unit
            .exchange
            .map(|write| self.prepare_exchange(write))
            .transpose()?;
        let owner = exchange.as_ref().map(|write| write.committed.exchange.id);
        let effects = unit.effects.into_iter();
        let audit = unit.audit.iter();
        Ok(Prepared {
            owner: owner.or(unit.done.as_ref().map(|claim| claim.exchange)),
            effects: effects
                .map(|(exchange, scheduled)| outbox_row::Row::of(exchange, scheduled))
                .collect::<Result<_, _>>()?,
            audit: audit.map(audit_chain::Row::of).collect::<Result<_, _>>()?,
            exchange,
            remove: unit.remove,
            done: unit.done,
            under: unit.under,
            reschedule: unit.reschedule,
            decided_on: unit
                .decided_on
                .map(|found| lookup_row::Decided::of(&self.keys, &found))
                .transpose()?,
            // Last: what is taken here is given back only when the unit is dropped.
            adoption: self.bodies.begin_adoption(&unit.adopt)?,
        })
    }

    fn prepare_exchange(&self, write: ExchangeWrite) -> Result<PreparedExchange, StoreError> {
        let (exchange, version, keys, is_new) = match write {
            ExchangeWrite::Insert { exchange, keys } => (exchange, 1, keys, true),
            ExchangeWrite::Update {
                exchange,
                version,
                keys,
            } => (exchange, version.saturating_add(1), keys, false),
        };
        Ok(PreparedExchange {
            is_new,
            row: exchange_row::Row::seal(&self.keys, &exchange, version)?,
            keys: keys
                .iter()
                .map(|key| lookup_row::Row::of(&self.keys, key))
                .collect(),
            committed: VersionedExchange { exchange, version },
        })
    }

    async fn remove_orphans(&self) -> Result<(), StoreError> {
        let (bodies, looked) = (Arc::clone(&self.bodies), self.files.clone());
        let files = tokio::task::spawn_blocking(move || looked.settled(&bodies))
            .await
            .map_err(failed)?
            .map_err(store_error)?;
        // A file that was not open a moment ago is adopted by a committed row, or by none ever.
        let ids: Vec<BodyId> = files.iter().filter_map(|(id, _)| *id).collect();
        let adopted = self
            .ask_long(move |connection| body::adopted(connection, ids).map_err(read_failed))
            .await?;
        let orphans = files
            .into_iter()
            .filter(|(id, _)| id.is_none_or(|id| !adopted.contains(&id)));
        let orphans: Vec<_> = orphans.map(|(_, path)| path).collect();
        if orphans.is_empty() {
            return Ok(());
        }
        tracing::info!(count = orphans.len(), "removing bodies that nobody adopted");
        let files = self.files.clone();
        tokio::task::spawn_blocking(move || {
            orphans.iter().for_each(|path| files.unlink_path(path));
        })
        .await
        .map_err(failed)
    }

    /// Alarms each adopted body whose file is gone. Whatever needs it fails when its turn comes, and its sender is told;
    /// an operator should know before.
    async fn tell_of_lost_bodies(&self) -> Result<(), StoreError> {
        let files = self.files.clone();
        let looked = self.ask_long(move |connection| {
            let owned = body::in_files(connection).map_err(read_failed)?;
            let mut gone: Vec<_> = owned
                .into_iter()
                .filter(|(id, _)| !files.is_there(*id))
                .collect();
            // The file of one that was removed meanwhile went after its row.
            let ids = gone.iter().map(|(id, _)| *id).collect();
            let adopted = body::adopted(connection, ids).map_err(read_failed)?;
            gone.retain(|(id, _)| adopted.contains(id));
            Ok(gone)
        });
        for (body, exchange) in looked.await? {
            let exchange = exchange.map_or_else(String::new, |id| id.to_string());
            crate::flows::measures::count_alarm("body_lost");
            tracing::error!(
                alarm = "body_lost",
                body.id = %body,
                exchange.id = exchange,
                "the file of a body of exchange {exchange} is gone"
            );
        }
        Ok(())
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Exchanges for SqliteStore {
    async fn commit(&self, unit: UnitOfWork) -> Result<(), StoreError> {
        // A place in the queue first: from the adoption to the hand-over nothing can be interrupted.
        let place = self.commands.reserve().await.map_err(|_| closed())?;
        let unit = self.prepare(unit)?;
        let (answer, result) = oneshot::channel();
        place.send(Command::Commit(Box::new(unit), answer));
        result.await.map_err(|_| closed())?
    }

    async fn load(&self, id: ExchangeId) -> Result<Option<VersionedExchange>, StoreError> {
        if let Some(recent) = self.recent.get(id) {
            return Ok(Some(recent));
        }
        self.readers
            .ask(|connection| exchange::load(connection, &self.keys, id))
    }

    async fn find(&self, key: &LookupKey) -> Result<Vec<ExchangeId>, StoreError> {
        let find = |key: &LookupKey| {
            self.readers
                .ask(|connection| lookup_key::find(connection, &self.keys, key))
        };
        let LookupKey::Any(text) = key else {
            return find(key);
        };
        // Operators paste ids as they see them: the exchange's own, or a Message-ID with its angle brackets.
        if let Ok(id) = text.trim().parse().map(ExchangeId)
            && self.load(id).await?.is_some()
        {
            return Ok(vec![id]);
        }
        find(&LookupKey::Any(lookup_row::bare_id(text).to_owned()))
    }

    async fn claim(
        &self,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        if self.commands.is_closed() {
            return Err(closed());
        }
        let mut claims = self.queue.take(now, limit);
        let is_more_due = self
            .queue
            .next_due()
            .is_some_and(|at| at <= now.as_microsecond());
        if claims.len() < limit && is_more_due {
            let limit = limit - claims.len();
            let asked = self.ask(|answer| Command::Claim {
                now,
                lease,
                limit,
                answer,
            });
            match asked.await {
                Ok(more) => claims.extend(more),
                // What is taken already must be worked on: the failure shows at the next call.
                Err(error) if claims.is_empty() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(claims)
    }

    fn lease_on_commit(&self, lease: Duration, room: usize) {
        self.queue.set_terms(Terms { lease, room });
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let next = self.queue.next_due();
        next.map(Timestamp::from_microsecond)
            .transpose()
            .map_err(failed)
    }

    fn due_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.queue.due)
    }

    async fn give_back(&self, claim: &Claim, at: Timestamp) -> Result<(), StoreError> {
        let claim = claim.clone();
        self.ask(|answer| Command::GiveBack { claim, at, answer })
            .await
    }

    async fn confirm(&self, claim: &Claim) -> Result<(), StoreError> {
        self.readers.ask(|connection| {
            outbox::check_held(connection, &self.node, claim).map_err(UnitError::into_store_error)
        })
    }

    async fn outstanding(&self, id: ExchangeId) -> Result<Vec<Outstanding>, StoreError> {
        self.readers
            .ask(|connection| outbox::of_exchange(connection, id))
    }

    async fn list(
        &self,
        filter: &ExchangeFilter,
    ) -> Result<Vec<crate::bridge::exchange::Exchange>, StoreError> {
        let (keys, filter) = (Arc::clone(&self.keys), filter.clone());
        self.ask_long(move |connection| exchange::list(connection, &keys, &filter))
            .await
    }
}

impl Bodies for SqliteStore {
    fn create_encrypted(&self) -> Result<Box<dyn BodyWriter>, StoreError> {
        Ok(self.bodies.create(Protection::Encrypted))
    }

    fn create_sealed(&self) -> Result<Box<dyn BodyWriter>, StoreError> {
        Ok(self.bodies.create(Protection::Authenticated))
    }

    fn open(&self, id: BodyId) -> Result<Box<dyn Read + Send>, StoreError> {
        if let Some(reader) = self.bodies.open(id)? {
            return Ok(reader);
        }
        let octets = self
            .readers
            .ask(|connection| body::content(connection, id))?;
        self.bodies.open_octets(id, octets)
    }
}

async fn sweep_every(interval: Duration, store: Weak<SqliteStore>) {
    if let Some(open) = store.upgrade()
        && let Err(error) = open.tell_of_lost_bodies().await
    {
        tracing::warn!(%error, "the store could not be searched for bodies that are lost");
    }
    loop {
        let Some(open) = store.upgrade() else { return };
        if let Err(error) = open.sweep().await {
            tracing::warn!(%error, "the store could not be swept; it is tried again");
        }
        drop(open);
        tokio::time::sleep(interval).await;
    }
}
