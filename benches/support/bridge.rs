//! A bridge as operators run it: the program, with a directory that `init` wrote, as a process of its own.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use openssl::{pkey::PKey, x509::X509};
use rustix::process::{Pid, Signal, kill_process};
use xdbridge::{
    adapters::{clock::SystemClock, store::PostgresConfig},
    app::pki::{Authority, Profile},
    flows::ports::Clock,
    formats::{ids::DomainName, smime::SigningIdentity},
};

use super::documents::RECIPIENT;

/// Ticks of `/proc/PID/stat` in a second: `USER_HZ`, which is 100 on Linux whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;

/// Address of the endpoint's EHR whose posts each have a connection of their own, as endpoints do that are not
/// idempotent.
pub(crate) const SHAKEN: &str = "night.ward@direct.harbor.example";

/// A directory that a bridge serves from, and everyone's keys.
pub(crate) struct Ground {
    dir: PathBuf,
    /// The program that serves.
    program: PathBuf,
    /// The CA of recipient and sink; the bridge trusts it.
    pub(crate) ca: X509,
    /// The bridge's own signing identity.
    pub(crate) signer: SigningIdentity,
    /// The peer at another HISP: who gets mail, and in the other direction who sends it.
    pub(crate) peer: SigningIdentity,
    /// The sink's TLS identity.
    pub(crate) sink: SigningIdentity,
}

impl Ground {
    /// A fresh directory `name` for this build's program.
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        Self::of_program(name, Path::new(env!("CARGO_BIN_EXE_xdbridge")))
    }

    /// A fresh directory `name` for `program`.
    pub(crate) fn of_program(name: &str, program: &Path) -> anyhow::Result<Self> {
        let now = SystemClock.now();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&dir);
        let domain: DomainName = "direct.harbor.example".parse()?;
        let made = Command::new(program)
            .arg("init")
            .arg(&dir)
            .args(["--domain", domain.as_str()])
            .stdout(Stdio::null())
            .status()?;
        ensure!(made.success(), "init: {made}");

        let authority = Authority::root("bench CA", now)?;
        let peer = authority.issue(&Profile::address(&RECIPIENT.parse()?, now))?;
        let sink = authority.issue(&Profile::tls("sink.elm.example", now))?;
        let ca = authority.certificate.to_pem()?;
        fs::write(dir.join("anchors/bench-ca.pem"), &ca)?;
        fs::write(dir.join("tls/sink-ca.pem"), &ca)?;
        fs::write(dir.join("peers/peer.pem"), peer.certificate.to_pem()?)?;
        let own = fs::read(dir.join("direct/domain.pem"))?;
        let key = fs::read(dir.join("direct/domain.key"))?;
        Ok(Self {
            signer: SigningIdentity {
                certificate: X509::from_pem(&own)?,
                key: PKey::private_key_from_pem(&key)?,
                intermediates: Vec::new(),
            },
            ca: authority.certificate,
            peer,
            sink,
            program: program.to_owned(),
            dir,
        })
    }

    /// The file `name` of the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Configures the bridge as `init` left it, with mail going to `sink`.
    pub(crate) fn send_to(&self, sink: SocketAddr) -> anyhow::Result<()> {
        let path = self.file("xdbridge.toml");
        let text = fs::read_to_string(&path)?;
        let mail = format!(
            "[smtp.client]\nsmarthost = \"{sink}\"\nca_files = [\"tls/sink-ca.pem\"]\nehlo_name = \"bridge.harbor.example\"\n"
        );
        let edited = text
            .replace("127.0.0.1:8443", "127.0.0.1:0")
            .replace("127.0.0.1:9480", "127.0.0.1:0")
            .replace("[smtp.client]\n", &mail);
        Ok(fs::write(path, edited)?)
    }

    /// Makes the bridge receive mail, for an endpoint at `endpoint` that keeps its connections, and for [`SHAKEN`] at
    /// the same place without. Every other setting is at its default, but for the number of sessions in a minute.
    pub(crate) fn receive_for(&self, endpoint: SocketAddr) -> anyhow::Result<()> {
        self.configure(&format!(
            "[smtp.server]\nbind = \"127.0.0.1:0\"\nhost_name = \"bridge.harbor.example\"\n\
             max_sessions_per_minute = 100000\n\
             [soap.client]\n[sources]\ngateway_oid = \"2.999.1\"\n\
             [[endpoint]]\nname = \"kept\"\nurl = \"https://{endpoint}/xdr\"\nidempotent = true\n\
             serves = [\"direct.harbor.example\"]\n\
             [[endpoint]]\nname = \"shaken\"\nurl = \"https://{endpoint}/xdr\"\nserves = [\"{SHAKEN}\"]\n"
        ))
    }

    /// Adds tables to its configuration that `init` leaves out.
    pub(crate) fn configure(&self, tables: &str) -> anyhow::Result<()> {
        let path = self.file("xdbridge.toml");
        let text = fs::read_to_string(&path)?;
        Ok(fs::write(path, format!("{text}\n{tables}"))?)
    }

    /// A node with the same keys and settings, in the directory `name`, that keeps what it has in this database.
    pub(crate) fn node(&self, name: &str, database: &PostgresConfig) -> anyhow::Result<Self> {
        let dir = self.dir.with_file_name(name);
        let _ = fs::remove_dir_all(&dir);
        let copied = Command::new("cp")
            .arg("-a")
            .arg(&self.dir)
            .arg(&dir)
            .status()?;
        ensure!(copied.success(), "cp: {copied}");
        let path = dir.join("xdbridge.toml");
        let mut settings: toml::Table = toml::from_str(&fs::read_to_string(&path)?)?;
        let password_file = database.password_file.as_deref().context("a password")?;
        let store = toml::toml! {
            kind = "postgres"
            postgres = { tls = "disable" }
        };
        let place = settings.entry("store").or_insert(toml::Table::new().into());
        let place = place.as_table_mut().context("store is a table")?;
        place.extend(store);
        let postgres = place["postgres"].as_table_mut().context("a table")?;
        for (key, value) in [
            ("host", toml::Value::from(&*database.host)),
            ("port", i64::from(database.port).into()),
            ("database", (&*database.database).into()),
            ("user", (&*database.user).into()),
            (
                "password_file",
                password_file.to_string_lossy().as_ref().into(),
            ),
        ] {
            postgres.insert(key.to_owned(), value);
        }
        let node = toml::Table::from_iter([("name".to_owned(), name.into())]);
        settings.insert("node".to_owned(), node.into());
        fs::write(&path, toml::to_string(&settings)?)?;
        Ok(Self {
            dir,
            program: self.program.clone(),
            ca: self.ca.clone(),
            signer: self.signer.clone(),
            peer: self.peer.clone(),
            sink: self.sink.clone(),
        })
    }

    /// Starts the bridge with an empty store.
    pub(crate) fn start_empty(&self) -> anyhow::Result<Bridge> {
        let data = self.file("data");
        let _ = fs::remove_dir_all(&data);
        self.start()
    }

    /// Starts the bridge.
    pub(crate) fn start(&self) -> anyhow::Result<Bridge> {
        let started = Instant::now();
        let mut child = Command::new(&self.program)
            .arg("serve")
            .arg("--config")
            .arg(self.file("xdbridge.toml"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child.stderr.take().context("standard error is a pipe")?;
        let mut log = BufReader::new(log);
        let mut seen = String::new();
        let mut mail = None;
        let xdr = loop {
            let start = seen.len();
            if log.read_line(&mut seen)? == 0 {
                let _ = child.wait();
                anyhow::bail!("the bridge ended: {seen}");
            }
            let line = seen.get(start..).unwrap_or_default();
            mail = mail.or(listening(line, "smtp"));
            if let Some(address) = listening(line, "xdr") {
                break address;
            }
        };
        let ready_after = started.elapsed();
        // What is logged from here on must be taken, or the bridge would block; what is wrong is shown.
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if !line.contains("\"level\":\"INFO\"") {
                    eprintln!("bridge: {line}");
                }
            }
        });
        Ok(Bridge {
            child,
            xdr,
            mail,
            ready_after,
        })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn listening(line: &str, what: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get(what)?.as_str()?.parse().ok()
}

/// What `/proc/PID/stat` tells of a process.
struct Usage {
    parent: u32,
    /// CPU time, user and system, of its threads, those that ended included.
    own_seconds: f64,
    /// The same of its children that have ended.
    children_seconds: f64,
}

impl Usage {
    /// proc(5): fields 4 and 14 to 17; the name in field 2 may hold anything, and ends at the last parenthesis.
    fn read(stat: &str) -> anyhow::Result<Self> {
        let (_, fields) = stat.rsplit_once(") ").context("no name")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |number: usize| fields.get(number - 3).context("too few fields");
        let seconds = |number: usize| anyhow::Ok(field(number)?.parse::<f64>()? / TICKS_PER_SECOND);
        Ok(Self {
            parent: field(4)?.parse()?,
            own_seconds: seconds(14)? + seconds(15)?,
            children_seconds: seconds(16)? + seconds(17)?,
        })
    }
}

/// CPU time of a process and of all its children, as a database server has one for each connection.
pub(crate) fn family_cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let own = Usage::read(&fs::read_to_string(format!("/proc/{pid}/stat"))?)?;
    let mut sum = own.own_seconds + own.children_seconds;
    for entry in fs::read_dir("/proc")? {
        // Processes end while they are read.
        let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else {
            continue;
        };
        let usage = Usage::read(&stat)?;
        if usage.parent == pid {
            sum += usage.own_seconds;
        }
    }
    Ok(sum)
}

/// A running bridge; killed when it is dropped.
pub(crate) struct Bridge {
    child: Child,
    /// Where XDR is served.
    pub(crate) xdr: SocketAddr,
    /// Where mail is taken, if it is.
    pub(crate) mail: Option<SocketAddr>,
    /// From the start of the process to its first request served.
    pub(crate) ready_after: Duration,
}

impl Bridge {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of the whole process, user and system, threads that ended included.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/stat", self.pid());
        Ok(Usage::read(&fs::read_to_string(&path)?)?.own_seconds)
    }

    /// [`Bridge::cpu_seconds`] once the bridge has nothing left to do: after the sink took a mail, the bridge records that.
    pub(crate) fn cpu_seconds_at_rest(&self) -> anyhow::Result<f64> {
        const QUIET: Duration = Duration::from_millis(100);
        let mut last = self.cpu_seconds()?;
        loop {
            thread::sleep(QUIET);
            let now = self.cpu_seconds()?;
            if now <= last {
                return Ok(now);
            }
            last = now;
        }
    }

    /// A figure of `/proc/PID/status` in octets, such as `VmRSS` or `VmHWM`.
    pub(crate) fn memory_bytes(&self, name: &str) -> anyhow::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .context("no such line")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024)
    }
}

impl Bridge {
    /// Ends it in order, with nothing left open in its store.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the bridge ended with {status}");
        Ok(())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
