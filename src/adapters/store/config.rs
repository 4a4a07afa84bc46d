//! `[store]`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{flows::room::RoomConfig, formats::units::duration_text};

/// Where exchanges, bodies and the audit are kept: `[store]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Which store: `"sqlite"`, embedded, for one node alone, or `"postgres"`, shared by any number of equal nodes
    /// (`[store.postgres]`). Default `"sqlite"`.
    pub kind: StoreKind,
    /// The node's data directory: SQLite and body files, or with `"postgres"` only the mail for its postmaster. Owned
    /// by the user that the bridge runs as, mode 0700, used by one process at a time. Created if it is not there.
    /// Default `"/var/lib/xdbridge"`.
    pub path: PathBuf,
    /// Files with one key each: 32 random octets as 64 hexadecimal digits or as base64, mode 0600. The first one
    /// encrypts, all of them decrypt: to change the key, put a new file first and keep the old one until
    /// `audit_retention` is over. All nodes of one database need the same files. Default `["/etc/xdbridge/store.key"]`.
    pub key_files: Vec<PathBuf>,
    /// How long a final exchange can be looked up, and the same mail or submission is known for what has come before, such
    /// as `"30d"`; then its rows go. At least the 24 h for which a resubmission must be recognised (XDR-50). Default
    /// `"30d"` (T-22, audit.md section 9).
    #[serde(with = "duration_text")]
    pub exchange_retention: Duration,
    /// How long audit records are kept. Default `"2192d"`, six years (45 CFR 164.316(b)(2)).
    #[serde(with = "duration_text")]
    pub audit_retention: Duration,
    /// How often what is over its retention, and bodies that nobody adopted, are removed. Default `"1h"`.
    #[serde(with = "duration_text")]
    pub sweep_interval: Duration,
    /// Units of work that one transaction, and so one fsync, may join. Default 64.
    pub max_units_per_commit: usize,
    /// Connections for reading that SQLite keeps open; more are opened while more are needed. Default 2.
    pub read_connections: u32,
    /// When the store counts as full.
    pub room: RoomConfig,
    /// The database that nodes share, with `kind = "postgres"`.
    pub postgres: PostgresConfig,
}

/// Which store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// SQLite and files, in a data directory of one node.
    #[default]
    Sqlite,
    /// PostgreSQL, for several nodes.
    Postgres,
}

/// PostgreSQL 15 or later: `[store.postgres]`. A node keeps two connections beside those of the two numbers below: one
/// writes, one holds the node's name. They must not pass a pooler that lends connections by transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresConfig {
    /// Name or address of the server's host, or the folder of its Unix socket. Default `"/var/run/postgresql"`.
    pub host: String,
    /// The server's port; of a Unix socket, the number in its name. Default 5432.
    pub port: u16,
    /// The database. Default `"xdbridge"`.
    pub database: String,
    /// The role; it makes the tables at the first start, and needs rights on them later. Default `"xdbridge"`.
    pub user: String,
    /// File with the role's password in one line, mode 0600. Without it the environment variable
    /// `XDBRIDGE_STORE_PASSWORD` is taken, and without that no password is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// TLS to the server: `"require-verified"`, which names the host, or `"disable"`, for a loopback address only. On a
    /// Unix socket there is none. Default `"require-verified"`.
    pub tls: DatabaseTls,
    /// PEM file with the CAs that may vouch for the server. Without it the system's may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Most connections for questions and claims. Default 6.
    pub connections: usize,
    /// Most connections for large bodies, each taken for one chunk at a time. Default 4.
    pub body_connections: usize,
    /// Longest wait for a connection, a new one or a free one. Default `"10s"`.
    #[serde(with = "duration_text")]
    pub connect_timeout: Duration,
    /// The server ends a statement that runs longer. Default `"30s"`.
    #[serde(with = "duration_text")]
    pub statement_timeout: Duration,
    /// The server ends a statement that waits longer for a lock. Default `"10s"`.
    #[serde(with = "duration_text")]
    pub lock_timeout: Duration,
    /// The server ends a transaction in which nothing happens for longer. Default `"30s"`.
    #[serde(with = "duration_text")]
    pub idle_in_transaction_timeout: Duration,
    /// How often a node looks after the others, and for effects whose ring was lost. Default `"5s"`.
    #[serde(with = "duration_text")]
    pub poll_interval: Duration,
    /// A node without a session for this long is dead: the others take over what it had begun. Default `"20s"`.
    #[serde(with = "duration_text")]
    pub node_timeout: Duration,
    /// A node whose clock differs by more from the database's claims nothing, and is not ready. Default `"5s"`.
    #[serde(with = "duration_text")]
    pub max_clock_difference: Duration,
}

/// TLS to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatabaseTls {
    /// TLS 1.2 or later, and the certificate must name the host.
    #[default]
    RequireVerified,
    /// None.
    Disable,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            host: "/var/run/postgresql".to_owned(),
            port: 5432,
            database: "xdbridge".to_owned(),
            user: "xdbridge".to_owned(),
            password_file: None,
            tls: DatabaseTls::default(),
            ca_file: None,
            connections: 6,
            body_connections: 4,
            connect_timeout: seconds(10),
            statement_timeout: seconds(30),
            lock_timeout: seconds(10),
            idle_in_transaction_timeout: seconds(30),
            poll_interval: seconds(5),
            node_timeout: seconds(20),
            max_clock_difference: seconds(5),
        }
    }
}

impl PostgresConfig {
    /// Whether `host` is the folder of a Unix socket.
    pub(super) fn is_unix_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut refuse = |key: &str, accepted: &str| {
            problems.push(format!("store.postgres.{key}: {accepted}"));
        };
        for (key, text) in [
            ("host", &self.host),
            ("database", &self.database),
            ("user", &self.user),
        ] {
            if text.is_empty() || text.contains('\0') {
                refuse(key, "not empty");
            }
        }
        let is_loopback =
            self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if self.tls == DatabaseTls::Disable && !is_loopback && !self.is_unix_socket() {
            let accepted = "\"require-verified\", unless the host is a loopback address";
            refuse("tls", accepted);
        }
        for (key, count) in [
            ("connections", self.connections),
            ("body_connections", self.body_connections),
        ] {
            if !(1..=MAX_CONNECTIONS).contains(&count) {
                refuse(key, "1 to 500");
            }
        }
        for (key, time) in [
            ("connect_timeout", self.connect_timeout),
            ("statement_timeout", self.statement_timeout),
            ("lock_timeout", self.lock_timeout),
            (
                "idle_in_transaction_timeout",
                self.idle_in_transaction_timeout,
            ),
        ] {
            if !(SECOND..=HOUR).contains(&time) {
                refuse(key, "\"1s\" to \"1h\"");
            }
        }
        if self.poll_interval < Duration::from_millis(100) || self.poll_interval > HOUR {
            refuse("poll_interval", "\"100ms\" to \"1h\"");
        }
        if self.node_timeout < self.poll_interval.saturating_mul(2) {
            refuse(
                "node_timeout",
                "at least twice store.postgres.poll_interval",
            );
        }
        if self.max_clock_difference < SECOND {
            refuse("max_clock_difference", "at least \"1s\"");
        }
        problems
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const MAX_CONNECTIONS: usize = 500;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::default(),
            path: "/var/lib/xdbridge".into(),
            key_files: vec!["/etc/xdbridge/store.key".into()],
            exchange_retention: 30 * DAY,
            audit_retention: 2192 * DAY,
            sweep_interval: Duration::from_secs(60 * 60),
            max_units_per_commit: 64,
            read_connections: 2,
            room: RoomConfig::default(),
            postgres: PostgresConfig::default(),
        }
    }
}

impl StoreConfig {
    /// Everything that is wrong with the values: key and what would be accepted.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.key_files.is_empty() {
            problems.push("store.key_files: name one key file at least".to_owned());
        }
        if self.exchange_retention < DAY {
            problems.push("store.exchange_retention: at least \"24h\" (XDR-50)".to_owned());
        }
        if self.audit_retention < self.exchange_retention {
            problems.push("store.audit_retention: at least store.exchange_retention".to_owned());
        }
        if self.sweep_interval < Duration::from_secs(1) {
            problems.push("store.sweep_interval: at least \"1s\"".to_owned());
        }
        if self.max_units_per_commit == 0 {
            problems.push("store.max_units_per_commit: 1 or more".to_owned());
        }
        if self.read_connections == 0 {
            problems.push("store.read_connections: 1 or more".to_owned());
        }
        problems.extend(self.room.problems());
        if self.kind == StoreKind::Postgres {
            problems.extend(self.postgres.problems());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_without_problems_and_read_back() {
        let config = StoreConfig::default();
        assert!(config.problems().is_empty());
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<StoreConfig>(&text).unwrap(), config);
    }

    // rule: T-22
    #[test]
    fn by_default_a_mail_that_is_sent_again_is_known_for_thirty_days() {
        assert_eq!(StoreConfig::default().exchange_retention, 30 * DAY);
    }

    #[test]
    fn every_bad_value_is_named_at_once() {
        let config: StoreConfig = toml::from_str(
            "key_files = []\nexchange_retention = \"1h\"\nsweep_interval = \"0s\"\n\
             max_units_per_commit = 0\nread_connections = 0\naudit_retention = \"1m\"",
        )
        .unwrap();
        assert_eq!(config.problems().len(), 6);
        assert!(toml::from_str::<StoreConfig>("retention = \"1d\"").is_err());
    }
}
