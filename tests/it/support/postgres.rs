//! Bridges and stores on a PostgreSQL server of a test's own.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use xdbridge::adapters::store::{
    DatabaseTls, PostgresConfig, PostgresStore, StoreConfig, StoreKind, create_key_file,
};

pub(crate) use super::postgres_server::{PostgresServer, sql};
use super::{
    crossing_ground::CrossingGround,
    folder::TestFolder,
    postgres_server::{owner, run},
    store::StandingClock,
    tls::Identity,
};

impl PostgresServer {
    /// Starts one that also listens on a loopback address, with TLS by the certificate that `identify` gives for it.
    pub(crate) fn start_over_tcp(identify: impl FnOnce(&str) -> Option<Identity>) -> Self {
        // All of 127.0.0.0/8 is this host's, so the usual port is free.
        let [a, b, c, ..] = *uuid::Uuid::new_v4().as_bytes();
        let address = format!("127.{}.{b}.{}", a.max(1), c.clamp(1, 254));
        let identity = identify(&address);
        let ssl = if identity.is_some() { "on" } else { "off" };
        let settings = format!("listen_addresses = '{address}'\nssl = {ssl}\n");
        let mut server = Self::start_prepared(&settings, |data| {
            let hba = data.join("pg_hba.conf");
            let rules = fs::read_to_string(&hba).unwrap();
            fs::write(hba, rules + "host all all 127.0.0.0/8 scram-sha-256\n").unwrap();
            let Some(identity) = identity else { return };
            let (user, group) = owner(data);
            let (certificate, key) = identity.write(data, "server");
            fs::rename(certificate, data.join("server.crt")).unwrap();
            chown(key, Some(user), Some(group)).unwrap();
        });
        server.address = Some(address);
        server
    }
}

/// A copy of the ground's configuration for one node on the shared database, with the times of a test.
pub(crate) fn node_folder(
    ground: &CrossingGround<'_>,
    database: &PostgresConfig,
    name: &str,
) -> PathBuf {
    let folder = ground.path().with_file_name(name);
    run(Command::new("cp").arg("-a").arg(ground.path()).arg(&folder));
    set_database(&folder, database, Some(name));
    folder
}

/// Makes the bridge in `folder` keep what it has in this database, under this name of its node if it needs one.
pub(crate) fn set_database(folder: &Path, database: &PostgresConfig, name: Option<&str>) {
    let path = folder.join("xdbridge.toml");
    let text = fs::read_to_string(&path).unwrap();
    let mut settings: toml::Table = toml::from_str(&text).unwrap();
    let tls = match database.tls {
        DatabaseTls::RequireVerified => "require-verified",
        DatabaseTls::Disable => "disable",
    };
    let more = format!(
        "[store]\nkind = \"postgres\"\n[store.postgres]\nhost = {:?}\nport = {}\ntls = {tls:?}\ndatabase = {:?}\n\
         user = {:?}\npassword_file = {:?}\npoll_interval = \"200ms\"\nnode_timeout = \"1s\"\n",
        database.host,
        database.port,
        database.database,
        database.user,
        database.password_file.as_ref().unwrap().to_str().unwrap(),
    );
    let more: toml::Table = toml::from_str(&more).unwrap();
    let store = settings["store"].as_table_mut().unwrap();
    store.extend(more["store"].as_table().unwrap().clone());
    if let Some(name) = name {
        let node = toml::Table::from_iter([("name".to_owned(), name.into())]);
        settings.insert("node".into(), node.into());
    }
    fs::write(&path, toml::to_string(&settings).unwrap()).unwrap();
}

/// A server and keys for the store on PostgreSQL, and the time there.
pub(crate) struct PostgresGround {
    pub(crate) server: PostgresServer,
    pub(crate) clock: Arc<StandingClock>,
    pub(crate) config: StoreConfig,
    _keys: TestFolder,
}

impl PostgresGround {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// With settings of the server.
    pub(crate) fn with(settings: &str) -> Self {
        Self::on(PostgresServer::start(settings))
    }

    /// On this server.
    pub(crate) fn on(server: PostgresServer) -> Self {
        let keys = TestFolder::new();
        let key = keys.path().join("store.key");
        create_key_file(&key).unwrap();
        let config = StoreConfig {
            kind: StoreKind::Postgres,
            key_files: vec![key],
            postgres: PostgresConfig {
                // The test's clock stands, far from the database's.
                max_clock_difference: Duration::from_secs(100 * 365 * 24 * 60 * 60),
                poll_interval: Duration::from_millis(200),
                node_timeout: Duration::from_secs(1),
                ..server.settings()
            },
            ..StoreConfig::default()
        };
        Self {
            server,
            clock: StandingClock::new(),
            config,
            _keys: keys,
        }
    }

    pub(crate) async fn open(&self) -> Arc<PostgresStore> {
        self.open_as("node-a").await
    }

    pub(crate) async fn open_as(&self, node: &str) -> Arc<PostgresStore> {
        PostgresStore::open(&self.config, self.clock.clone(), node)
            .await
            .unwrap()
    }
}
