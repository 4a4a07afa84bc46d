//! Connections to the database: how one is opened, how the tables come into being, and a few that are kept for reading.

use std::{
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::failure::read_failed;
use crate::flows::ports::StoreError;

/// What makes the tables, in the order in which releases brought it. `PRAGMA user_version` counts those that were run.
const MIGRATIONS: [&str; 3] = [
    include_str!("migrations/0001_exchanges.sql"),
    include_str!("migrations/0002_bodies.sql"),
    include_str!("migrations/0003_lists.sql"),
];
const VERSION: u32 = MIGRATIONS.len() as u32;

/// Longest wait for another connection's lock. The writer is alone, so only a checkpoint can hold it up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The log is cut to this size, in octets, after a checkpoint.
const MAX_IDLE_LOG_BYTES: u32 = 16 * 1024 * 1024;
/// Statements that one connection keeps prepared: more than there are.
const KEPT_STATEMENTS: usize = 64;

/// Where the database is, and how it is connected to.
#[derive(Clone)]
pub(super) struct Database {
    path: PathBuf,
    /// For tests of what goes wrong: the most pages that the database may have.
    pub(super) max_pages: Option<u32>,
}

impl Database {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            max_pages: None,
        }
    }

    /// A connection that writes.
    pub(super) fn connect(&self) -> rusqlite::Result<Connection> {
        // A connection is used by one thread at a time, which the borrow checker sees to.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(KEPT_STATEMENTS);
        // FULL: the log is fsynced at every commit. NORMAL would lose the last commits with the power.
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; \
             PRAGMA journal_size_limit = {MAX_IDLE_LOG_BYTES};"
        ))?;
        if let Some(pages) = self.max_pages {
            connection.execute_batch(&format!("PRAGMA max_page_count = {pages};"))?;
        }
        Ok(connection)
    }

    fn connect_to_read(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect()?;
        connection.execute_batch("PRAGMA query_only = ON;")?;
        Ok(connection)
    }
}

/// Whether this release knows the form of the tables, or an earlier form of them.
pub(super) fn is_known(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(run(connection)? <= VERSION)
}

fn run(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings the tables to this release's form, all or nothing. False if a later release made them.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    let run = run(&transaction)?;
    if run > VERSION {
        return Ok(false);
    }
    for migration in MIGRATIONS.iter().skip(run as usize) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(true)
}

/// Connections that read. A question takes one that nobody uses, or opens another: none ever waits.
pub(super) struct Readers {
    database: Database,
    idle: Mutex<Vec<Connection>>,
    kept: usize,
    is_closed: AtomicBool,
}

impl Readers {
    /// Readers of which `kept` stay connected between questions.
    pub(super) fn new(database: Database, kept: usize) -> Self {
        Self {
            database,
            idle: Mutex::default(),
            kept,
            is_closed: AtomicBool::new(false),
        }
    }

    /// Asks `question`. It blocks for as long as SQLite reads: some microseconds for rows found by their index, which a
    /// task may wait for where it is; longer ones belong on a thread for blocking.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(super::closed());
        }
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.database.connect_to_read().map_err(read_failed)?,
        };
        // A connection whose question failed may be at fault itself: it is not used again.
        let answer = question(&mut connection)?;
        let mut idle = self.idle();
        if idle.len() < self.kept && !self.is_closed.load(Ordering::Acquire) {
            idle.push(connection);
        }
        Ok(answer)
    }

    /// Ends what nobody uses, and every later question.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_a_later_release_are_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(migrate(&mut connection).unwrap());
        assert!(migrate(&mut connection).unwrap(), "nothing is run twice");
        connection
            .pragma_update(None, "user_version", VERSION + 1)
            .unwrap();
        assert!(!migrate(&mut connection).unwrap());
    }
}
