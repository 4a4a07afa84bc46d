//! Connections to the database: how one is made, and a bounded number that is kept for statements of their own.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::poll_fn;
use openssl::ssl::{SslConnector, SslMethod, SslVersion};
use postgres_openssl::MakeTlsConnector;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tokio_postgres::{
    AsyncMessage, Client, NoTls, Notification, Row, Statement,
    config::SslMode,
    tls::{MakeTlsConnect, TlsConnect},
    types::ToSql,
};

use super::{
    super::{
        config::{DatabaseTls, PostgresConfig},
        failure::{closed, failed},
    },
    failure::{read_failed, told},
};
use crate::flows::ports::StoreError;

/// What the password is called in the environment.
const PASSWORD_VARIABLE: &str = "XDBRIDGE_STORE_PASSWORD";
/// Longest password file, in octets.
const MAX_PASSWORD_BYTES: u64 = 4096;
/// When a connection without traffic asks whether its peer is still there, how often it repeats that, and how many
/// times. The same is asked of the server, so that the session of a node that is gone ends, and with it its lock.
const KEEPALIVE_IDLE_SECONDS: u64 = 10;
const KEEPALIVE_INTERVAL_SECONDS: u64 = 5;
const KEEPALIVE_RETRIES: u32 = 3;
/// Octets that nobody acknowledges end a connection after this time.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(25);

/// A statement's values.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Why the database cannot be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The password file cannot be read.
    #[error("store.postgres.password_file {} cannot be read", path.display())]
    PasswordUnreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than its owner may read the password file (KEY-1).
    #[error("store.postgres.password_file {} has mode {mode:04o}: others may read it; allowed are 0600 and 0400", path.display())]
    PasswordExposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The certificates that the database's is verified by cannot be used.
    #[error("store.postgres.ca_file cannot be used")]
    Tls(#[source] openssl::error::ErrorStack),
    /// The server does not answer in time.
    #[error("the database did not answer within store.postgres.connect_timeout")]
    TimedOut,
    /// The server cannot be reached, or refuses us.
    #[error("the database cannot be connected to: {what}")]
    Refused {
        /// What it said, without values.
        what: String,
    },
}

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// It returns once it is on disk.
    Commit,
    /// It is on disk at the latest with the next commit that waits: the log has one order.
    LaterCommit,
}

/// Where the database is, and how it is connected to.
#[derive(Clone)]
pub(super) struct Database {
    config: Arc<tokio_postgres::Config>,
    tls: Option<SslConnector>,
    connect_timeout: Duration,
}

impl Database {
    pub(super) fn new(settings: &PostgresConfig) -> Result<Self, ConnectError> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&settings.host)
            .port(settings.port)
            .dbname(&settings.database)
            .user(&settings.user)
            .application_name("xdbridge")
            .connect_timeout(settings.connect_timeout)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(KEEPALIVE_IDLE_SECONDS))
            .keepalives_interval(Duration::from_secs(KEEPALIVE_INTERVAL_SECONDS))
            .keepalives_retries(KEEPALIVE_RETRIES);
        let milliseconds = |time: Duration| time.as_millis();
        config.options(format!(
            "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout={} \
             -c tcp_keepalives_idle={KEEPALIVE_IDLE_SECONDS} \
             -c tcp_keepalives_interval={KEEPALIVE_INTERVAL_SECONDS} \
             -c tcp_keepalives_count={KEEPALIVE_RETRIES} \
             -c default_transaction_isolation=read\\ committed",
            milliseconds(settings.statement_timeout),
            milliseconds(settings.lock_timeout),
            milliseconds(settings.idle_in_transaction_timeout),
        ));
        if let Some(password) = password(settings)? {
            config.password(password.expose_secret());
        }
        let is_local = settings.is_unix_socket();
        let tls = match settings.tls {
            DatabaseTls::RequireVerified if !is_local => {
                config.ssl_mode(SslMode::Require);
                Some(connector(settings).map_err(ConnectError::Tls)?)
            }
            DatabaseTls::RequireVerified | DatabaseTls::Disable => {
                config.ssl_mode(SslMode::Disable);
                None
            }
        };
        Ok(Self {
            config: Arc::new(config),
            tls,
            connect_timeout: settings.connect_timeout,
        })
    }

    /// A connection. `hear` is told of notifications.
    pub(super) async fn connect(
        &self,
        durability: Durability,
        hear: impl FnMut(Notification) + Send + 'static,
    ) -> Result<Link, ConnectError> {
        let connecting = async {
            match &self.tls {
                Some(tls) => self.open(MakeTlsConnector::new(tls.clone()), hear).await,
                None => self.open(NoTls, hear).await,
            }
        };
        let link = tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| ConnectError::TimedOut)?
            .map_err(|error| ConnectError::Refused { what: told(&error) })?;
        // Whatever the server's default is: a commit that is answered is on disk.
        let setting = match durability {
            Durability::Commit => "SET synchronous_commit = on",
            Durability::LaterCommit => "SET synchronous_commit = off",
        };
        link.client
            .batch_execute(setting)
            .await
            .map_err(|error| ConnectError::Refused { what: told(&error) })?;
        Ok(link)
    }

    async fn open<T>(
        &self,
        tls: T,
        mut hear: impl FnMut(Notification) + Send + 'static,
    ) -> Result<Link, tokio_postgres::Error>
    where
        T: MakeTlsConnect<tokio_postgres::Socket>,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<tokio_postgres::Socket>>::Future: Send,
    {
        let (client, mut connection) = self.config.connect(tls).await?;
        let driver = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notification(notification)) => hear(notification),
                    Ok(_) => {}
                    // Whoever waits for an answer is told that the connection is closed.
                    Err(_) => return,
                }
            }
        });
        Ok(Link {
            client,
            statements: Mutex::default(),
            driver,
        })
    }
}

fn connector(settings: &PostgresConfig) -> Result<SslConnector, openssl::error::ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    if let Some(file) = &settings.ca_file {
        // These and no others: the system's CAs vouch for names of the public net.
        let store = openssl::x509::store::X509StoreBuilder::new()?;
        builder.set_cert_store(store.build());
        builder.set_ca_file(file)?;
    }
    Ok(builder.build())
}

fn password(settings: &PostgresConfig) -> Result<Option<SecretString>, ConnectError> {
    let Some(path) = &settings.password_file else {
        return Ok(std::env::var(PASSWORD_VARIABLE).ok().map(Into::into));
    };
    let unreadable = |source| ConnectError::PasswordUnreadable {
        path: path.clone(),
        source,
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.clone();
        return Err(ConnectError::PasswordExposed { path, mode });
    }
    if metadata.len() > MAX_PASSWORD_BYTES {
        return Err(unreadable(std::io::Error::other(format!(
            "it is longer than {MAX_PASSWORD_BYTES} octets"
        ))));
    }
    let text = zeroize::Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
    let line = text.trim_end_matches(['\r', '\n']);
    Ok(Some(SecretString::from(line.to_owned())))
}

/// One connection, with the statements that it has prepared.
pub(super) struct Link {
    pub(super) client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    pub(super) async fn prepared(
        &self,
        statement: &'static str,
    ) -> Result<Statement, tokio_postgres::Error> {
        let known = self.statements().get(statement).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let prepared = self.client.prepare(statement).await?;
        self.statements().insert(statement, prepared.clone());
        Ok(prepared)
    }

    pub(super) async fn query(
        &self,
        statement: &'static str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let prepared = self.prepared(statement).await?;
        self.client.query(&prepared, values).await
    }

    pub(super) async fn query_opt(
        &self,
        statement: &'static str,
        values: Values<'_>,
    ) -> Result<Option<Row>, tokio_postgres::Error> {
        let prepared = self.prepared(statement).await?;
        self.client.query_opt(&prepared, values).await
    }

    pub(super) async fn execute(
        &self,
        statement: &'static str,
        values: Values<'_>,
    ) -> Result<u64, tokio_postgres::Error> {
        let prepared = self.prepared(statement).await?;
        self.client.execute(&prepared, values).await
    }

    fn statements(&self) -> MutexGuard<'_, HashMap<&'static str, Statement>> {
        self.statements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections of which there are so many at the most. Each is taken for one statement, or for one transaction, and
/// never while a peer is waited for.
pub(super) struct Pool {
    database: Database,
    durability: Durability,
    idle: Mutex<Vec<Link>>,
    places: Arc<Semaphore>,
    wait: Duration,
    is_closed: AtomicBool,
}

/// A connection of a pool. It goes back only by [`Taken::give_back`]: one whose statement failed, or was given up
/// midway, may be at fault itself.
pub(super) struct Taken<'a> {
    pool: &'a Pool,
    pub(super) link: Link,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(
        database: Database,
        durability: Durability,
        most: usize,
        wait: Duration,
    ) -> Self {
        Self {
            database,
            durability,
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(most)),
            wait,
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) async fn take(&self) -> Result<Taken<'_>, StoreError> {
        let place = Arc::clone(&self.places).acquire_owned();
        let place = tokio::time::timeout(self.wait, place)
            .await
            .map_err(|_| failed("no connection to the database became free in time"))?
            .map_err(|_| closed())?;
        if self.is_closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let link = loop {
            let idle = self.idle().pop();
            match idle {
                Some(link) if link.client.is_closed() => {}
                Some(link) => break link,
                None => {
                    let connecting = self.database.connect(self.durability, |_| {});
                    break connecting.await.map_err(failed)?;
                }
            }
        };
        Ok(Taken {
            pool: self,
            link,
            _place: place,
        })
    }

    pub(super) async fn query(
        &self,
        statement: &'static str,
        values: Values<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let taken = self.take().await?;
        let rows = taken.link.query(statement, values).await;
        let rows = rows.map_err(read_failed)?;
        taken.give_back();
        Ok(rows)
    }

    pub(super) async fn query_opt(
        &self,
        statement: &'static str,
        values: Values<'_>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.query(statement, values).await?.into_iter().next())
    }

    pub(super) async fn execute(
        &self,
        statement: &'static str,
        values: Values<'_>,
    ) -> Result<u64, StoreError> {
        let taken = self.take().await?;
        let count = taken.link.execute(statement, values).await;
        let count = count.map_err(read_failed)?;
        taken.give_back();
        Ok(count)
    }

    /// Ends what nobody uses, and every later statement.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.places.close();
        self.idle().clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken<'_> {
    /// It did what it was taken for, and is in no transaction.
    pub(super) fn give_back(self) {
        if !self.pool.is_closed() && !self.link.client.is_closed() {
            self.pool.idle().push(self.link);
        }
    }
}
