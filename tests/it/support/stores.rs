//! Behaviour that is tested on both stores. The tests of a file run on SQLite; those that it names in
//! [`on_postgresql_too`] run once more on PostgreSQL, as `on_postgresql::NAME`, by the same code: every bridge that the
//! grounds start meanwhile has a fresh database of a server that the test owns.
//!
//! Which ones: those whose course depends on what the store does, such as looking up by an id, refusing a second unit of
//! work, keeping an effect for later, completing it once, or giving back the same octets. What a mail, a request or a
//! certificate means is decided before the store and tested on one; what both stores answer to the same calls is tested by
//! the suite in `store.rs`.

use std::cell::RefCell;

use xdbridge::{
    adapters::store::{PostgresConfig, StoreConfig, StoreKind},
    formats::ids::ExchangeId,
};

use super::postgres::{PostgresServer, sql};

/// Longer than any test's clock is away from the database's.
const ANY_CLOCK: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 24 * 60 * 60);

thread_local! {
    static SERVER: RefCell<Option<PostgresConfig>> = const { RefCell::new(None) };
}

/// Runs a test whose bridges keep what they have in PostgreSQL.
pub(crate) fn on_postgresql(test: fn()) {
    // What survives a loss of power is tested elsewhere.
    let server = PostgresServer::start("fsync = off\n");
    SERVER.set(Some(server.settings()));
    test();
    SERVER.set(None);
}

/// The server whose databases the bridges of this thread's test are to have; `None` means SQLite.
pub(crate) fn server() -> Option<PostgresConfig> {
    SERVER.with_borrow(Clone::clone)
}

/// Puts the store of one bridge into a fresh database of the server.
pub(crate) fn put_on(server: &PostgresConfig, store: &mut StoreConfig) {
    store.kind = StoreKind::Postgres;
    store.postgres = PostgresConfig {
        max_clock_difference: ANY_CLOCK,
        poll_interval: std::time::Duration::from_millis(200),
        node_timeout: std::time::Duration::from_secs(1),
        database: fresh_database(server),
        ..server.clone()
    };
}

/// A database of its own, by its name.
fn fresh_database(server: &PostgresConfig) -> String {
    let name = format!("test_{}", ExchangeId::random().0.simple());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(sql(server, &format!("CREATE DATABASE {name}")));
    name
}

/// Runs tests of this file once more on PostgreSQL.
macro_rules! on_postgresql_too {
    ($($test:ident),+ $(,)?) => {
        mod on_postgresql {
            $(
                #[test]
                fn $test() {
                    $crate::support::stores::on_postgresql(super::$test);
                }
            )+
        }
    };
}

pub(crate) use on_postgresql_too;
