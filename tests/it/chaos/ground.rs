//! What a chaos run is made of: configurations of bridges, where the living ones listen, and everybody around them.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    net::SocketAddr,
    ops::Range,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use openssl::{hash::MessageDigest, x509::X509};

use super::{
    dice::Dice,
    record::{Digest, Era, Record},
};
use crate::support::{
    crossing_ground::OWN_DOMAIN,
    process::{BridgeProcess, run},
};

/// Longest that a run goes on without anything new: only a run that fails gets there.
const PATIENCE: Duration = Duration::from_secs(120);

/// Everything that threads share.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) record: Mutex<Record>,
    troubles: Mutex<Troubles>,
    nodes: Mutex<Vec<Node>>,
    changed: Condvar,
    is_over: AtomicBool,
}

/// How much fails now for each node, and how much began to fail so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Troubles {
    now: BTreeMap<usize, usize>,
    so_far: usize,
}

impl Troubles {
    pub(super) fn is_any(&self) -> bool {
        !self.now.is_empty()
    }
}

/// Where a living bridge listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) xdr: SocketAddr,
    pub(super) smtp: SocketAddr,
}

impl Node {
    pub(super) fn of(bridge: &BridgeProcess) -> Self {
        let line = bridge.wait_for_line(|line| line.contains("\"smtp\":\"127.0.0.1:"));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self {
            xdr: bridge.xdr(),
            smtp: line["smtp"].as_str().unwrap().parse().unwrap(),
        }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let record = Record {
            eras: vec![Era::default()],
            ..Record::default()
        };
        Arc::new(Self {
            seed,
            record: Mutex::new(record),
            troubles: Mutex::default(),
            nodes: Mutex::default(),
            changed: Condvar::new(),
            is_over: AtomicBool::new(false),
        })
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// Notes what must not be.
    pub(super) fn complain(&self, what: String) {
        eprintln!("wrong: {what}");
        self.record().wrong.push(what);
    }

    /// A new time begins.
    pub(super) fn begin_era(&self) {
        self.change_troubles(|_| {});
    }

    /// From now on something fails for these nodes: their writes, or their way to the database.
    pub(super) fn begin_trouble(&self, nodes: Range<usize>) {
        self.change_troubles(|troubles| {
            for node in nodes {
                *troubles.now.entry(node).or_default() += 1;
            }
            troubles.so_far += 1;
        });
    }

    /// That is over.
    pub(super) fn end_trouble(&self, nodes: Range<usize>) {
        self.change_troubles(|troubles| {
            for node in nodes {
                *troubles.now.entry(node).or_default() -= 1;
            }
            troubles.now.retain(|_, count| *count > 0);
        });
    }

    fn change_troubles(&self, change: impl FnOnce(&mut Troubles)) {
        let mut troubles = self.troubles.lock().unwrap();
        change(&mut troubles);
        self.record().eras.push(Era {
            in_trouble: troubles.now.keys().copied().collect(),
            ..Era::default()
        });
    }

    pub(super) fn troubles(&self) -> Troubles {
        self.troubles.lock().unwrap().clone()
    }

    /// The node was killed now.
    pub(super) fn note_kill(&self, node: usize) {
        let mut record = self.record();
        let era = record.era();
        record.eras[era].killed.insert(node);
    }

    pub(super) fn add_node(&self, node: Node) {
        self.nodes.lock().unwrap().push(node);
        self.changed.notify_all();
    }

    pub(super) fn remove_node(&self, node: Node) {
        self.nodes.lock().unwrap().retain(|other| *other != node);
    }

    /// One of those that live, as a balancer would choose; waits for one. `None` once the run is over.
    pub(super) fn any_node(&self, dice: &Dice) -> Option<Node> {
        const LOOK: Duration = Duration::from_millis(100);
        let mut nodes = self.nodes.lock().unwrap();
        loop {
            if self.is_over() {
                return None;
            }
            if !nodes.is_empty() {
                return Some(dice.pick(&nodes));
            }
            (nodes, _) = self.changed.wait_timeout(nodes, LOOK).unwrap();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Waits until `is_so`, as long as there is something new now and then.
    pub(super) fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        const LOOK: Duration = Duration::from_millis(20);
        let state = || {
            let record = self.record();
            (record.told.len(), record.arrivals.len(), record.waiting())
        };
        let mut last = (state(), Instant::now());
        while !is_so() {
            let now = state();
            if now != last.0 {
                last = (now, Instant::now());
            }
            assert!(
                last.1.elapsed() < PATIENCE,
                "in vain: {what} (seed {})",
                self.seed
            );
            std::thread::sleep(LOOK);
        }
    }
}

/// Work that waits for threads, and the work that they have begun.
pub(super) struct Queue<T> {
    state: Mutex<(VecDeque<T>, usize)>,
    changed: Condvar,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new((VecDeque::new(), 0)),
            changed: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    pub(super) fn put(&self, work: T) {
        self.state.lock().unwrap().0.push_back(work);
        self.changed.notify_one();
    }

    /// Does what waits until the run is over.
    pub(super) fn work(&self, world: &World, mut work: impl FnMut(T)) {
        const LOOK: Duration = Duration::from_millis(100);
        let mut state = self.state.lock().unwrap();
        while !world.is_over() {
            if let Some(next) = state.0.pop_front() {
                state.1 += 1;
                drop(state);
                work(next);
                state = self.state.lock().unwrap();
                state.1 -= 1;
            } else {
                (state, _) = self.changed.wait_timeout(state, LOOK).unwrap();
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.0.is_empty() && state.1 == 0
    }
}

pub(super) fn digest(octets: &[u8]) -> Digest {
    let hash = openssl::hash::hash(MessageDigest::sha256(), octets).unwrap();
    hash.as_ref().try_into().unwrap()
}

/// Changes the configuration of a bridge in `folder`, which `init` made.
pub(super) fn change_settings(folder: &Path, change: impl FnOnce(&mut toml::Table)) {
    let path = folder.join("xdbridge.toml");
    let mut settings: toml::Table = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut settings);
    fs::write(&path, toml::to_string(&settings).unwrap()).unwrap();
}

/// Makes the bridge in `folder` receive mail, post to two endpoints, and tell its partner of outcomes.
pub(super) fn configure(folder: &Path, endpoint: &str, once: &str, status: &str) {
    let more = format!(
        r#"
[log]
level = "info"

[smtp.server]
bind = "127.0.0.1:0"
host_name = "{OWN_DOMAIN}"
certificate = "tls/server.pem"
key = "tls/server.key"
max_connections_per_address = 500
max_sessions_per_minute = 10000000

[receiving]
trusted_bounce_hosts = [{{ network = "127.0.0.1/32" }}]
postmaster_max_per_day = 1000000
postmaster_max_per_peer = 1000000

[soap.client]
certificate = "tls/trial-ehr.pem"
key = "tls/trial-ehr.key"
ca_files = ["relay-ca.pem"]

[sources]
gateway_oid = "2.999.1"

[[endpoint]]
name = "ehr"
url = "{endpoint}"
serves = ["{OWN_DOMAIN}"]
idempotent = true

[[endpoint]]
name = "once"
url = "{once}"
serves = ["{ONCE}@{OWN_DOMAIN}"]
"#
    );
    change_settings(folder, |settings| {
        let more: toml::Table = toml::from_str(&more).unwrap();
        for (name, table) in more {
            match (settings.get_mut(&name), table) {
                (Some(toml::Value::Table(old)), toml::Value::Table(new)) => old.extend(new),
                (_, table) => drop(settings.insert(name, table)),
            }
        }
        let client = settings["smtp"]["client"].as_table_mut().unwrap();
        client.remove("idle_timeout");
        let partner = settings["partner"][0].as_table_mut().unwrap();
        partner.insert("status_endpoint".to_owned(), status.into());
    });
}

/// Makes everybody see which node it is that talks to them: by the name in EHLO, and by the end of the URL.
pub(super) fn mark(folder: &Path, number: usize) {
    let marked = |url: &toml::Value| format!("{}/{number}", url.as_str().unwrap());
    change_settings(folder, |settings| {
        let client = settings["smtp"]["client"].as_table_mut().unwrap();
        client.insert("ehlo_name".to_owned(), ehlo_name(number).into());
        for endpoint in settings["endpoint"].as_array_mut().unwrap() {
            endpoint["url"] = marked(&endpoint["url"]).into();
        }
        let partner = &mut settings["partner"][0];
        partner["status_endpoint"] = marked(&partner["status_endpoint"]).into();
    });
}

fn ehlo_name(number: usize) -> String {
    format!("{number}.{OWN_DOMAIN}")
}

/// The node whose name in EHLO, or whose path of a request, this is.
pub(super) fn node_of(name: &str) -> usize {
    let number = name
        .strip_prefix("/xdr/")
        .or_else(|| name.strip_suffix(OWN_DOMAIN)?.strip_suffix('.'));
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no node is called {name}"))
}

/// The recipient of mail whose endpoint does not know its submissions.
pub(super) const ONCE: &str = "once.only";

/// The certificate that mail to the bridge is sealed to.
pub(super) fn direct_certificate(folder: &Path) -> X509 {
    X509::from_pem(&fs::read(folder.join("direct/domain.pem")).unwrap()).unwrap()
}

/// The senders of the mails that the postmaster of the bridge in `folder` has.
pub(super) fn postmaster_has(folder: &Path) -> Vec<String> {
    let config = folder.join("xdbridge.toml");
    let listed = run(&[
        "postmaster",
        "list",
        "--json",
        "--config",
        config.to_str().unwrap(),
    ]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let mails = listed.as_array().unwrap().iter();
    mails
        .map(|mail| mail["from"].as_str().unwrap().to_owned())
        .collect()
}
