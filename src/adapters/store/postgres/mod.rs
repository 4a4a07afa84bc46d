//! The store on PostgreSQL: exchanges, their outbox, bodies and the audit, in one database of any number of equal nodes.
//!
//! - **Durable** means: a commit is answered once it is on disk (`synchronous_commit`, whatever the server's default is).
//!   The server must not run with `fsync = off`; that is alarmed.
//! - **Written together**: one task writes (`writer`), many units in one transaction, each in the same order of
//!   statements. Everything else has a bounded number of connections (`connection`), each taken for one statement.
//! - **Shared**: nodes claim effects with SKIP LOCKED, ring one another, and take over what a dead one had begun
//!   (`session`). Whoever holds a lease is told from whoever held it before by the count of claims, so a node that was
//!   thought dead changes nothing when it comes back.
//! - **Nothing in clear** that may name a person, as on SQLite: the sealed rows and chunks are the same.

mod audit;
mod body;
mod connection;
mod exchange;
mod failure;
mod lookup_key;
mod migrate;
mod outbox;
mod session;
mod state;
mod writer;

use std::{
    collections::HashMap,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};

pub use self::connection::ConnectError;
use self::{
    body::BodyRows,
    connection::{Database, Durability, Link, Pool},
    failure::{read_failed, told},
    outbox::Claimant,
    session::{Session, Shared, Standing},
    state::Queue,
    writer::{Command, Prepared, PreparedExchange, Writer},
};
use super::{
    ChainVerdict, StoreConfig,
    audit_chain::{self, Chain},
    bodies::BodyStore,
    chunks::Protection,
    exchange_row,
    failure::{closed, failed},
    keys::{KeyFileError, KeyRing},
    lookup_row,
    outbox_row::{self, Terms},
};
use crate::{
    bridge::exchange::Exchange,
    flows::ports::{
        Bodies, BodyWriter, Claim, Clock, ExchangeFilter, ExchangeWrite, Exchanges, LookupKey,
        Outstanding, Readiness, StoreError, UnitOfWork, VersionedExchange,
    },
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        ids::{BodyId, ExchangeId},
        keyed_hash::KeyedHash,
    },
};

/// Commands that may wait for the writer; further callers wait before they hand theirs over.
const MAX_QUEUED_COMMANDS: usize = 1024;
/// Exchanges that one statement removes when their retention is over, with their keys and bodies.
const EXPIRED_AT_ONCE: i64 = 50;
/// The oldest server whose behaviour is tested: 15.
const MIN_SERVER_VERSION: i32 = 150_000;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PostgresOpenError {
    /// A setting cannot be used.
    #[error("{}", problems.join("; "))]
    Config {
        /// Key and what would be accepted, each.
        problems: Vec<String>,
    },
    /// A key file cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// What is stored was written under another key.
    #[error("store.key_files does not name the key that the store was written under")]
    UnknownKey,
    /// The database cannot be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server is too old.
    #[error(
        "the database's server has version number {version}: 150000 (PostgreSQL 15) or later is needed"
    )]
    OldServer {
        /// `server_version_num`.
        version: i32,
    },
    /// The database does not do as it is asked.
    #[error("the database cannot be opened: {what}")]
    Database {
        /// What it said, without values.
        what: String,
    },
    /// The tables are of another form.
    #[error(
        "the database was written by a later release: start that one, or restore a copy from before it"
    )]
    LaterRelease,
    /// Another process is at work under this node's name.
    #[error(
        "node.name {node:?} is in use by another process on this database: each node needs its own"
    )]
    NodeInUse {
        /// The name.
        node: String,
    },
}

impl From<tokio_postgres::Error> for PostgresOpenError {
    fn from(error: tokio_postgres::Error) -> Self {
        let what = told(&error);
        Self::Database { what }
    }
}

/// The store of one of several nodes, in PostgreSQL.
pub struct PostgresStore {
    commands: mpsc::Sender<Command>,
    pool: Arc<Pool>,
    body_pool: Arc<Pool>,
    rows: Arc<BodyRows>,
    bodies: Arc<BodyStore>,
    keys: Arc<KeyRing>,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    node: String,
    /// What this node keeps beside the database.
    folder: PathBuf,
    exchange_retention: Duration,
    audit_retention: Duration,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    writer: Option<JoinHandle<()>>,
    session: Option<JoinHandle<()>>,
    sweeper: Option<JoinHandle<()>>,
}

impl PostgresStore {
    /// Connects, makes the tables, takes the node's name and starts the writer. What an earlier process of this name had
    /// begun is due at once: it is gone, since the name is free. `node` names this node in leases and in the audit; it
    /// must be another one on every node.
    pub async fn open(
        config: &StoreConfig,
        clock: Arc<dyn Clock>,
        node: &str,
    ) -> Result<Arc<Self>, PostgresOpenError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(PostgresOpenError::Config { problems });
        }
        let settings = &config.postgres;
        let keys = Arc::new(KeyRing::read(&config.key_files)?);
        let database = Database::new(settings)?;
        let mut link = database.connect(Durability::Commit, |_| {}).await?;
        check_server(&link).await?;
        if !migrate::migrate(&mut link.client).await? {
            return Err(PostgresOpenError::LaterRelease);
        }

        let shared = Arc::new(Shared::new());
        let mut session = Session {
            database: database.clone(),
            shared: Arc::clone(&shared),
            clock: Arc::clone(&clock),
            node: node.to_owned(),
            instance: uuid::Uuid::new_v4().to_string(),
            poll_interval: settings.poll_interval,
            node_timeout: settings.node_timeout,
            max_clock_difference: settings.max_clock_difference,
            silent: HashMap::new(),
        };
        let Some(standing) = session.begin().await? else {
            let node = node.to_owned();
            return Err(PostgresOpenError::NodeInUse { node });
        };
        let now = clock.now().as_microsecond();
        link.execute(outbox::RELEASE_ALL, &[&node, &now]).await?;
        link.execute(body::GIVE_UP_ALL, &[&node]).await?;
        let chain = audit::resume(&link, &keys, node).await?;
        let chain = chain.ok_or(PostgresOpenError::UnknownKey)?;
        // Saved even when nothing was recorded yet: by it the next start knows whether it has the right key.
        audit::begin(&link, &keys, &chain).await?;

        let pool = |durability, most| {
            let database = database.clone();
            Arc::new(Pool::new(
                database,
                durability,
                most,
                settings.connect_timeout,
            ))
        };
        let body_pool = pool(Durability::LaterCommit, settings.body_connections);
        let rows = Arc::new(BodyRows {
            pool: Arc::clone(&body_pool),
            runtime: Handle::current(),
            node: node.into(),
        });
        let queue = Arc::new(Queue::default());
        let (commands, waiting) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let writer = Writer {
            database: database.clone(),
            link: Some(link),
            keys: Arc::clone(&keys),
            clock: Arc::clone(&clock),
            node: node.to_owned(),
            chain,
            queue: Arc::clone(&queue),
            shared: Arc::clone(&shared),
            max_units: config.max_units_per_commit,
        };
        let store = Arc::new(Self {
            commands,
            pool: pool(Durability::Commit, settings.connections),
            body_pool,
            bodies: Arc::new(BodyStore::new(rows.clone(), Arc::clone(&keys))),
            rows,
            keys,
            queue,
            shared,
            clock,
            node: node.to_owned(),
            folder: config.path.clone(),
            exchange_retention: config.exchange_retention,
            audit_retention: config.audit_retention,
            tasks: Mutex::default(),
        });
        let sweeper = sweep_every(config.sweep_interval, Arc::downgrade(&store));
        *store.tasks() = Tasks {
            writer: Some(tokio::spawn(writer.run(waiting))),
            session: Some(tokio::spawn(session.run(standing))),
            sweeper: Some(tokio::spawn(sweeper)),
        };
        Ok(store)
    }

    /// Writes what is queued, gives the node's name back and closes all connections. Every later call fails.
    pub async fn close(&self) {
        let Tasks {
            writer,
            session,
            sweeper,
        } = std::mem::take(&mut *self.tasks());
        if let Some(sweeper) = sweeper {
            sweeper.abort();
            let _ = sweeper.await;
        }
        // An error means that the writer is gone already.
        let _ = self.commands.send(Command::Close).await;
        if let Some(writer) = writer
            && writer.await.is_err()
        {
            crate::flows::measures::count_alarm("store");
            tracing::error!(alarm = "store", "the writer of the store ended early");
        }
        self.pool.close();
        self.body_pool.close();
        // Last: until then nobody takes over what this node holds.
        if let Some(session) = session {
            session.abort();
            let _ = session.await;
        }
    }

    /// Removes what is over its retention, and bodies of this node that nobody will adopt. The store does it by itself at
    /// every `sweep_interval`; several nodes do it side by side.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let before = |retention: Duration| now.checked_sub(retention).map_err(failed);
        let final_before = before(self.exchange_retention)?.as_microsecond();
        let audit_before = before(self.audit_retention)?;
        loop {
            let values: connection::Values<'_> = &[&final_before, &EXPIRED_AT_ONCE];
            let expired = self.pool.execute(exchange::EXPIRE, values).await?;
            if i64::try_from(expired) != Ok(EXPIRED_AT_ONCE) {
                break;
            }
        }
        while self.prune_own(audit_before).await? {}
        self.prune_others(audit_before).await?;
        self.give_up_left_over().await
    }

    async fn prune_own(&self, before: Timestamp) -> Result<bool, StoreError> {
        let place = self.commands.reserve().await.map_err(|_| closed())?;
        let (answer, result) = oneshot::channel();
        place.send(Command::Prune { before, answer });
        result.await.map_err(|_| closed())?
    }

    /// Cuts the chains of nodes that are no more at work: nobody else would.
    async fn prune_others(&self, before: Timestamp) -> Result<(), StoreError> {
        let taken = self.pool.take().await?;
        let link = &taken.link;
        let others = link.query(audit::CHAINS_OF_OTHERS, &[&self.node]).await;
        for row in others.map_err(read_failed)? {
            let other: String = row.get(0);
            let is_idle = session::try_lock(link, &other).await;
            if !is_idle.map_err(read_failed)? {
                continue;
            }
            let chain = audit::load(link, &self.keys, &other).await;
            // A chain that is broken, or under another key, is left as evidence.
            if let Ok(mut chain) = chain.map_err(read_failed)? {
                self.prune_whole(link, &mut chain, before).await?;
            }
            session::unlock(link, &other).await.map_err(read_failed)?;
        }
        taken.give_back();
        Ok(())
    }

    async fn prune_whole(
        &self,
        link: &Link,
        chain: &mut Chain,
        before: Timestamp,
    ) -> Result<(), StoreError> {
        loop {
            let pruned = writer::prune_on(link, &self.keys, chain, before).await;
            if !pruned.map_err(|failure| failure.to_store_error())? {
                return Ok(());
            }
        }
    }

    async fn give_up_left_over(&self) -> Result<(), StoreError> {
        let mut count = 0;
        for id in self.rows.staged().await? {
            // Its writer knows it from before its row was there until after it is adopted or removed.
            if !self.bodies.is_open(id) {
                self.rows.give_up(id).await?;
                count += 1;
            }
        }
        if count > 0 {
            tracing::info!(count, "removed bodies that nobody adopted");
        }
        Ok(())
    }

    /// What this node keeps beside the database.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Octets of all bodies of all nodes.
    pub(super) async fn sum_of_bodies(&self) -> Result<i64, StoreError> {
        let row = self.pool.query_opt(body::SUM, &[]).await?;
        Ok(row.map_or(0, |row| row.get(0)))
    }

    /// Checks the audit of all nodes from end to end: whether a record was changed, removed or put in.
    pub async fn verify_audit_chain(&self) -> Result<ChainVerdict, StoreError> {
        audit::verify(&self.pool, &self.keys).await
    }

    /// The audit records of one exchange, of all nodes, oldest first. That `reader` (an operator's or a command's name)
    /// read them is recorded first (PHI-4).
    pub async fn read_audit_of(
        &self,
        reader: &str,
        exchange: ExchangeId,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        self.record_reading(reader, Some(exchange)).await?;
        audit::of_exchange(&self.pool, &self.keys, exchange).await
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
        audit::page(&self.pool, &self.keys, &self.node, after, limit).await
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
        let now = self.clock.now();
        let record = AuditRecord::new(now, AuditKind::AuditLogUsed, AuditOutcome::Success);
        let mut record = record.with("reader", reader);
        record.exchange = exchange;
        self.commit(UnitOfWork {
            audit: vec![record],
            ..UnitOfWork::default()
        })
        .await
    }

    /// The tenure that the node has now; refused while it has none, or its clock is wrong.
    fn stands(&self) -> Result<i64, StoreError> {
        match self.shared.tenure() {
            (Standing::Good, tenure) => Ok(tenure),
            (standing, _) => Err(failed(told_of(standing))),
        }
    }

    fn prepare(&self, unit: UnitOfWork) -> Result<Prepared, StoreError> {
        let exchange = unit
            .exchange
            .map(|write| self.prepare_exchange(write))
            .transpose()?;
        let owner = exchange.as_ref().map(|write| write.row.id);
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
        })
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn check_server(link: &Link) -> Result<(), PostgresOpenError> {
    let asked = "SELECT current_setting('server_version_num')::integer, \
         current_setting('fsync')::boolean";
    let row = link.client.query_one(asked, &[]).await?;
    let version: i32 = row.get(0);
    if version < MIN_SERVER_VERSION {
        return Err(PostgresOpenError::OldServer { version });
    }
    if !row.get::<_, bool>(1) {
        crate::flows::measures::count_alarm("store");
        tracing::error!(
            alarm = "store",
            "the database's server runs with fsync = off: what is accepted is lost with its power"
        );
    }
    Ok(())
}

#[async_trait]
impl Exchanges for PostgresStore {
    async fn commit(&self, unit: UnitOfWork) -> Result<(), StoreError> {
        if unit.under.is_some() {
            self.stands()?;
        }
        // A place in the queue first: from the adoption to the hand-over nothing can be interrupted.
        let place = self.commands.reserve().await.map_err(|_| closed())?;
        let unit = self.prepare(unit)?;
        let (answer, result) = oneshot::channel();
        place.send(Command::Commit(Box::new(unit), answer));
        result.await.map_err(|_| closed())?
    }

    async fn load(&self, id: ExchangeId) -> Result<Option<VersionedExchange>, StoreError> {
        exchange::load(&self.pool, &self.keys, id).await
    }

    async fn find(&self, key: &LookupKey) -> Result<Vec<ExchangeId>, StoreError> {
        let LookupKey::Any(text) = key else {
            return lookup_key::find(&self.pool, &self.keys, key).await;
        };
        // Operators paste ids as they see them: the exchange's own, or a Message-ID with its angle brackets.
        if let Ok(id) = text.trim().parse().map(ExchangeId)
            && self.load(id).await?.is_some()
        {
            return Ok(vec![id]);
        }
        let bare = LookupKey::Any(lookup_row::bare_id(text).to_owned());
        lookup_key::find(&self.pool, &self.keys, &bare).await
    }

    async fn claim(
        &self,
        now: Timestamp,
        lease: Duration,
        limit: usize,
    ) -> Result<Vec<Claim>, StoreError> {
        if self.pool.is_closed() {
            return Err(closed());
        }
        // A node that has lost its name may be taken for dead, and one with a wrong clock would take leases that have
        // not lapsed: others do the work. What it has leased already waits for it, or for its end.
        let tenure = self.stands()?;
        let mut claims = self.queue.take(now, limit);
        if claims.len() == limit {
            return Ok(claims);
        }
        let limit = limit - claims.len();
        let by = Claimant {
            node: &self.node,
            tenure,
        };
        match outbox::claim(&self.pool, by, now, lease, limit).await {
            Ok(more) => claims.extend(more),
            // What is taken already must be worked on: the failure shows at the next call.
            Err(error) if claims.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(claims)
    }

    fn lease_on_commit(&self, lease: Duration, room: usize) {
        self.queue.set_terms(Terms { lease, room });
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let next = outbox::first(&self.pool).await?;
        next.map(Timestamp::from_microsecond)
            .transpose()
            .map_err(failed)
    }

    fn due_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.due)
    }

    async fn give_back(&self, claim: &Claim, at: Timestamp) -> Result<(), StoreError> {
        outbox::give_back(&self.pool, &self.node, claim, at).await?;
        self.shared.due.notify_one();
        Ok(())
    }

    async fn confirm(&self, claim: &Claim) -> Result<(), StoreError> {
        // A node without its name will be taken for dead before long: it begins nothing any more.
        self.stands()?;
        outbox::confirm(&self.pool, &self.node, claim).await
    }

    async fn outstanding(&self, id: ExchangeId) -> Result<Vec<Outstanding>, StoreError> {
        outbox::of_exchange(&self.pool, id).await
    }

    async fn list(&self, filter: &ExchangeFilter) -> Result<Vec<Exchange>, StoreError> {
        exchange::list(&self.pool, &self.keys, filter).await
    }
}

impl Bodies for PostgresStore {
    fn create_encrypted(&self) -> Result<Box<dyn BodyWriter>, StoreError> {
        Ok(self.bodies.create(Protection::Encrypted))
    }

    fn create_sealed(&self) -> Result<Box<dyn BodyWriter>, StoreError> {
        Ok(self.bodies.create(Protection::Authenticated))
    }

    fn open(&self, id: BodyId) -> Result<Box<dyn Read + Send>, StoreError> {
        self.bodies.open(id)?.ok_or(StoreError::DamagedBody {
            body: id,
            what: "there is no such body",
        })
    }
}

#[async_trait]
impl Readiness for PostgresStore {
    fn part(&self) -> &'static str {
        "store"
    }

    /// Asks the writer for an empty transaction and the pool for an exchange that there is not, and whether the node has
    /// its name and the right time.
    async fn check(&self) -> Result<(), &'static str> {
        self.commit(UnitOfWork::default())
            .await
            .map_err(|failure| match failure {
                StoreError::NoSpace => "no space is left for the store",
                _ => "the store cannot be written",
            })?;
        self.load(ExchangeId(uuid::Uuid::nil()))
            .await
            .map_err(|_| "the store cannot be read")?;
        match self.shared.standing() {
            Standing::Good => Ok(()),
            standing => Err(told_of(standing)),
        }
    }
}

fn told_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Good => "the node works",
        Standing::Apart => "the node does not have its name in the database yet",
        Standing::NameTaken => "another process works under this node's name",
        Standing::ClockOff => "this node's clock differs from the database's",
    }
}

async fn sweep_every(interval: Duration, store: Weak<PostgresStore>) {
    loop {
        let Some(open) = store.upgrade() else { return };
        if let Err(error) = open.sweep().await {
            tracing::warn!(%error, "the store could not be swept; it is tried again");
        }
        drop(open);
        tokio::time::sleep(interval).await;
    }
}
