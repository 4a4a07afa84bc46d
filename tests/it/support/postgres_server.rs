//! A PostgreSQL server of one's own: a cluster in a temporary folder, run by an unprivileged user, reached by a Unix
//! socket, gone with whoever started it. The benches take it as well.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::NoTls;
use xdbridge::adapters::store::PostgresConfig;

use super::folder::TestFolder;

/// Longest wait for the server to start: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(120);
/// The role that owns everything, and its password.
const USER: &str = "bridge";
const PASSWORD: &str = "only-in-tests";
const PASSWORD_FILE: &str = "postgres.password";
/// In the name of the socket.
const PORT: u16 = 5432;
const SETTINGS: &str = "listen_addresses = ''\n\
     max_connections = 60\n\
     shared_buffers = 16MB\n\
     fsync = on\n\
     log_min_messages = warning\n\
     log_line_prefix = ''\n";

/// A running server. Dropped, it is ended and its files are removed.
pub(crate) struct PostgresServer {
    folder: TestFolder,
    /// Where it listens beside its socket.
    pub(super) address: Option<String>,
    server: Option<Child>,
}

impl PostgresServer {
    /// Starts one with `settings` beside the usual ones. To be called on the thread that the test ends on: the server is
    /// killed with the thread that started it, so it never outlives a test that is killed.
    pub(crate) fn start(settings: &str) -> Self {
        Self::start_prepared(settings, |_| {})
    }

    /// Starts one whose files `prepare` has changed, in the folder of its cluster.
    pub(super) fn start_prepared(settings: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = TestFolder::new();
        let data = folder.path().join("data");
        let model = model();
        run(Command::new("cp").arg("-a").arg(&model).arg(&data));
        let configuration = data.join("postgresql.conf");
        let socket = format!("unix_socket_directories = '{}'\n", folder.path().display());
        fs::write(&configuration, [SETTINGS, &socket, settings].concat()).unwrap();
        prepare(&data);
        let owner = owner(&data);
        chown(folder.path(), Some(owner.0), Some(owner.1)).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
        let password = folder.path().join(PASSWORD_FILE);
        fs::write(&password, format!("{PASSWORD}\n")).unwrap();
        fs::set_permissions(&password, Permissions::from_mode(0o600)).unwrap();
        let mut server = Self {
            folder,
            address: None,
            server: None,
        };
        server.start_again();
        server
    }

    /// Starts the server on the files that it has.
    pub(crate) fn start_again(&mut self) {
        let data = self.folder.path().join("data");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut server = unprivileged(&data, &program("postgres"), true)
            .arg("-D")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let end = Instant::now() + PATIENCE;
        let socket = self.folder.path().join(format!(".s.PGSQL.{PORT}"));
        while !is_ready(self.folder.path()) {
            assert_eq!(server.try_wait().unwrap(), None, "{}", self.log());
            assert!(Instant::now() < end, "{} {}", socket.display(), self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.server = Some(server);
    }

    /// Kills it as a loss of power would: nothing is written any more.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::QUIT);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut server) = self.server.take() {
            // SIGINT and SIGQUIT end the server's processes with it, so none is left behind.
            let _ = kill_process(Pid::from_child(&server), signal);
            let _ = server.wait();
        }
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// The folder of the cluster.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The socket that it listens on.
    #[cfg(feature = "fault-points")]
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join(format!(".s.PGSQL.{PORT}"))
    }

    /// How a bridge gets to it: by its address, if it has one.
    pub(crate) fn settings(&self) -> PostgresConfig {
        let socket = self.folder.path().to_str().unwrap();
        PostgresConfig {
            host: self.address.as_deref().unwrap_or(socket).to_owned(),
            port: PORT,
            database: "postgres".to_owned(),
            user: USER.to_owned(),
            password_file: Some(self.folder.path().join(PASSWORD_FILE)),
            ..PostgresConfig::default()
        }
    }

    /// A tool of the server's, such as `pg_dump`, that finds the server by itself.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program(name));
        command
            .args(arguments)
            .env("PGHOST", self.folder.path())
            .env("PGPORT", PORT.to_string())
            .env("PGUSER", USER)
            .env("PGPASSWORD", PASSWORD);
        output(&mut command)
    }

    /// Runs statements as their owner; gives what the last one says, each row's columns joined by `|`.
    pub(crate) async fn sql(&self, statements: &str) -> Vec<String> {
        let (client, driver) = self.session().await;
        let rows = answer(&client, statements).await;
        drop(client);
        driver.await.unwrap();
        rows
    }

    /// A session of their owner that stays, with the task that drives it.
    pub(crate) async fn session(&self) -> (tokio_postgres::Client, tokio::task::JoinHandle<()>) {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.folder.path())
            .port(PORT)
            .user(USER)
            .password(PASSWORD)
            .dbname("postgres")
            .application_name("test");
        let (client, connection) = config.connect(NoTls).await.unwrap();
        let driver = tokio::spawn(async move { connection.await.unwrap() });
        (client, driver)
    }
}

/// As [`PostgresServer::sql`], in any database of a server that is reached by its socket.
pub(crate) async fn sql(database: &PostgresConfig, statements: &str) -> Vec<String> {
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(&database.host)
        .port(database.port)
        .user(USER)
        .password(PASSWORD)
        .dbname(&database.database)
        .application_name("test");
    let (client, connection) = config.connect(NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let rows = answer(&client, statements).await;
    drop(client);
    driver.await.unwrap().unwrap();
    rows
}

/// What the last of the statements says, each row's columns joined by `|`.
async fn answer(client: &tokio_postgres::Client, statements: &str) -> Vec<String> {
    let mut rows = Vec::new();
    for message in client.simple_query(statements).await.unwrap() {
        match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                let columns: Vec<_> = (0..row.len())
                    .map(|n| row.get(n).unwrap_or("null").to_owned())
                    .collect();
                rows.push(columns.join("|"));
            }
            tokio_postgres::SimpleQueryMessage::RowDescription(_) => rows.clear(),
            _ => {}
        }
    }
    rows
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.end(Signal::QUIT);
    }
}

/// A cluster as initdb leaves it, made once and copied: kept beside the test's executables, and made anew for another
/// version of the server.
fn model() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(place).unwrap();
    let lock = File::create(place.join("postgres-model.lock")).unwrap();
    lock.lock().unwrap();
    let version = output(Command::new(program("postgres")).arg("--version"));
    let version: String = version
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .collect();
    let model = place.join(format!("postgres-model-{version}"));
    if model.join("PG_VERSION").exists() {
        return model;
    }
    let _ = fs::remove_dir_all(&model);
    // The server's user cannot get to the place of a root's build: it is made in a temporary folder and moved.
    let folder = TestFolder::new();
    if is_root() {
        let (user, group) = unprivileged_ids();
        chown(folder.path(), Some(user), Some(group)).unwrap();
    }
    let password = folder.path().join("password");
    fs::write(&password, PASSWORD).unwrap();
    fs::set_permissions(&password, Permissions::from_mode(0o644)).unwrap();
    let data = folder.path().join("data");
    let mut initdb = unprivileged(folder.path(), &program("initdb"), false);
    run(initdb
        .args([
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ])
        .arg(format!("--username={USER}"))
        .arg(format!("--pwfile={}", password.display()))
        .arg("-D")
        .arg(&data));
    let part = model.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    run(Command::new("cp").arg("-a").arg(&data).arg(&part));
    fs::rename(&part, &model).unwrap();
    model
}

/// A program of the server, wherever Debian has put it.
fn program(name: &str) -> PathBuf {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    versions.sort();
    let installed = versions
        .iter()
        .rev()
        .map(|version| version.join("bin").join(name));
    installed
        .chain([
            Path::new("/usr/local/bin").join(name),
            Path::new("/usr/bin").join(name),
        ])
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is not there: install the package postgresql"))
}

/// A command as whoever owns `owned`, since the server refuses to be root's. `dies_with_us`: it is killed with this
/// thread.
fn unprivileged(owned: &Path, program: &Path, dies_with_us: bool) -> Command {
    let (user, group) = owner(owned);
    let mut command = Command::new("setpriv");
    if is_root() {
        command
            .arg(format!("--reuid={user}"))
            .arg(format!("--regid={group}"))
            .arg("--clear-groups");
    }
    if dies_with_us {
        command.args(["--pdeathsig", "QUIT"]);
    }
    command.arg("--").arg(program).current_dir("/");
    command
}

/// User and group that a file belongs to.
pub(super) fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The user that the package made, or nobody.
fn unprivileged_ids() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = passwd.lines().find(|line| line.starts_with(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    of("postgres:").or_else(|| of("nobody:")).unwrap()
}

fn is_ready(folder: &Path) -> bool {
    let asked = Command::new(program("pg_isready"))
        .args(["-q", "-h"])
        .arg(folder)
        .arg("-p")
        .arg(PORT.to_string())
        .status();
    asked.unwrap().success()
}

pub(super) fn run(command: &mut Command) {
    output(command);
}

fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}
