//! What one node and two carry, on either store, and whether a full store costs more than an empty one:
//! `cargo bench --bench nodes`. What is measured, and how, stands in docs/benchmarks.md. `-- throughput` and `-- stored`
//! measure one of the two, `-- quick` takes one round of each and ten thousand stored exchanges in place of a million.

#[path = "../tests/it/support/folder.rs"]
mod folder;
#[path = "../tests/it/support/postgres_server.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is the tests'")]
mod postgres_server;
mod support;

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use tokio::runtime::Runtime;

use postgres_server::PostgresServer;
use support::{
    bridge::{Bridge, Ground, family_cpu_seconds},
    documents::{Kind, Sample},
    load::{self, Pattern},
    many::{multiply_postgres, multiply_sqlite},
    report::{Wanted, say, spread},
    sink::{self, Sink},
};

/// Octets of the document in each message.
const DOCUMENT: usize = 10_000;
/// Connections at the same time, over all nodes.
const CONNECTIONS: usize = 8;
/// Messages of one round.
const MESSAGES: usize = 400;
/// Exchanges that are there before the cost of a store is measured, and the times of as many in the large one.
const STORED: usize = 1000;
const TIMES: i64 = 1000;

/// As a server of one's own is set up on such a machine; the tests' takes less memory.
const SETTINGS: &str = "shared_buffers = 512MB\nmax_wal_size = 4GB\n";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, certificate, key] = arguments.as_slice()
        && role == sink::ROLE
    {
        return sink::run(Path::new(certificate), Path::new(key));
    }
    let wanted = Wanted::read(&arguments);
    let sample = Sample::new(Kind::Xml, DOCUMENT)?;
    if wanted.has("throughput") {
        throughput(&sample, wanted.is_quick)?;
    }
    if wanted.has("stored") {
        stored(&sample, wanted.is_quick)?;
    }
    Ok(())
}

/// A number of nodes on one store.
struct Side {
    name: String,
    bridges: Vec<Bridge>,
    grounds: Vec<Ground>,
    sink: Sink,
    database: Option<PostgresServer>,
    figures: Figures,
}

/// What the rounds gave: messages a second, and CPU milliseconds a message of all nodes, and of the database.
#[derive(Clone, Default)]
struct Figures {
    rates: Vec<f64>,
    nodes: Vec<f64>,
    database: Vec<f64>,
}

impl Figures {
    /// Tells them under this name, with the ratio of the CPU time to that of `base` in the same rounds: one came right
    /// after the other, so the machine was the same.
    fn say(&self, name: &str, base: &Self) -> anyhow::Result<()> {
        let shown = |values: &[f64], digits: usize| {
            let (low, middle, high) = spread(&mut values.to_vec())?;
            anyhow::Ok(format!(
                "{middle:.digits$} ({low:.digits$}-{high:.digits$})"
            ))
        };
        let sums = |figures: &Self| -> Vec<f64> {
            let both = figures.nodes.iter().zip(&figures.database);
            both.map(|(nodes, database)| nodes + database).collect()
        };
        let ratios = sums(self)
            .iter()
            .zip(sums(base))
            .map(|(own, base)| own / base)
            .collect::<Vec<_>>();
        say(&format!(
            "{name:<36} {:>18} {:>16} {:>16} {:>17}",
            shown(&self.rates, 0)?,
            shown(&self.nodes, 1)?,
            shown(&self.database, 1)?,
            shown(&ratios, 2)?,
        ))
    }
}

impl Side {
    /// One node on SQLite.
    fn sqlite(name: &str) -> anyhow::Result<Self> {
        let ground = Ground::new(&folder_name(name))?;
        let sink = Sink::start_for(&ground)?;
        ground.send_to(sink.address)?;
        Ok(Self::of(name, vec![ground], sink, None))
    }

    /// So many nodes on a PostgreSQL server of their own.
    fn postgres(name: &str, nodes: usize) -> anyhow::Result<Self> {
        let server = PostgresServer::start(SETTINGS);
        let first = Ground::new(&folder_name(name))?;
        let sink = Sink::start_for(&first)?;
        first.send_to(sink.address)?;
        let grounds = (0..nodes)
            .map(|node| {
                let name = format!("{}-{node}", folder_name(name));
                first.node(&name, &server.settings())
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self::of(name, grounds, sink, Some(server)))
    }

    fn of(name: &str, grounds: Vec<Ground>, sink: Sink, database: Option<PostgresServer>) -> Self {
        Self {
            name: name.to_owned(),
            bridges: Vec::new(),
            grounds,
            sink,
            database,
            figures: Figures::default(),
        }
    }

    /// Starts the nodes on what is stored.
    fn start(&mut self) -> anyhow::Result<()> {
        for ground in &self.grounds {
            self.bridges.push(ground.start()?);
        }
        Ok(())
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.bridges.drain(..).try_for_each(Bridge::stop)
    }

    /// Once nothing is left to do: CPU seconds of the nodes, and of the database.
    fn cpu_seconds(&self) -> anyhow::Result<(f64, f64)> {
        let mut nodes = 0.0;
        for bridge in &self.bridges {
            nodes += bridge.cpu_seconds_at_rest()?;
        }
        let server = self.database.as_ref().map(server_cpu_seconds).transpose()?;
        Ok((nodes, server.unwrap_or_default()))
    }

    /// Submits so many messages, each node its share, and waits for every mail.
    fn submit(&self, sample: &Sample, messages: usize) -> anyhow::Result<()> {
        let nodes = self.bridges.len();
        let pattern = Pattern {
            connections: CONNECTIONS / nodes,
            messages_per_connection: messages,
        };
        thread::scope(|scope| {
            let nodes: Vec<_> = self.grounds.iter().zip(&self.bridges).collect();
            let clients: Vec<_> = nodes
                .into_iter()
                .map(|(ground, bridge)| {
                    let share = messages / self.bridges.len();
                    scope.spawn(move || load::submit(ground, bridge.xdr, sample, share, pattern))
                })
                .collect();
            clients
                .into_iter()
                .try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
        })?;
        self.sink.take(messages / nodes * nodes)?;
        Ok(())
    }

    /// One round, which counts.
    fn round(&mut self, sample: &Sample) -> anyhow::Result<()> {
        let before = self.cpu_seconds()?;
        let begun = Instant::now();
        self.submit(sample, MESSAGES)?;
        let took = begun.elapsed().as_secs_f64();
        let after = self.cpu_seconds()?;
        let each = |seconds: f64| seconds * 1e3 / MESSAGES as f64;
        self.figures.rates.push(MESSAGES as f64 / took);
        self.figures.nodes.push(each(after.0 - before.0));
        self.figures.database.push(each(after.1 - before.1));
        Ok(())
    }
}

/// CPU time of the server with all its processes.
fn server_cpu_seconds(server: &PostgresServer) -> anyhow::Result<f64> {
    let pid = fs::read_to_string(server.data().join("postmaster.pid"))?;
    family_cpu_seconds(pid.lines().next().context("a process id")?.parse()?)
}

fn folder_name(name: &str) -> String {
    let name = name.replace([' ', ','], "-");
    format!("nodes-{}-{name}", std::process::id())
}

/// Rounds of all sides in turn, and the table, whose ratios are those to the first.
fn measure(sides: &mut [Side], sample: &Sample, is_quick: bool) -> anyhow::Result<()> {
    let rounds = if is_quick { 1 } else { 5 };
    for _ in 0..rounds {
        for side in &mut *sides {
            side.round(sample)?;
        }
    }
    say(&format!(
        "\n{:<36} {:>18} {:>16} {:>16} {:>17}",
        "", "messages/s", "nodes, CPU ms", "database, CPU ms", "CPU, ratio"
    ))?;
    let base = sides.first().context("a side")?.figures.clone();
    sides
        .iter()
        .try_for_each(|side| side.figures.say(&side.name, &base))
}

/// One node on SQLite, one and two on PostgreSQL.
fn throughput(sample: &Sample, is_quick: bool) -> anyhow::Result<()> {
    let mut sides = [
        Side::sqlite("one node, SQLite")?,
        Side::postgres("one node, PostgreSQL", 1)?,
        Side::postgres("two nodes, PostgreSQL", 2)?,
    ];
    for side in &mut sides {
        side.start()?;
        side.submit(sample, MESSAGES / 4)?;
    }
    measure(&mut sides, sample, is_quick)
}

/// The same work in a store of a thousand exchanges, and in one of a million.
fn stored(sample: &Sample, is_quick: bool) -> anyhow::Result<()> {
    let times = if is_quick { 10 } else { TIMES };
    let runtime = Runtime::new()?;
    let name = |store: &str, times: i64| format!("{} stored, {store}", STORED as i64 * times);
    let mut sqlite = [
        Side::sqlite(&name("SQLite", 1))?,
        Side::sqlite(&name("SQLite", times))?,
    ];
    let mut postgres = [
        Side::postgres(&name("PostgreSQL", 1), 1)?,
        Side::postgres(&name("PostgreSQL", times), 1)?,
    ];
    for side in sqlite.iter_mut().chain(&mut postgres) {
        side.start()?;
        side.submit(sample, STORED)?;
        side.cpu_seconds()?;
    }
    let begun = Instant::now();
    let [_, large] = &mut sqlite;
    large.stop()?;
    let ground = large.grounds.first().context("a node")?;
    multiply_sqlite(&ground.file("data/xdbridge.db"), times)?;
    large.start()?;
    let [_, large] = &mut postgres;
    large.stop()?;
    let server = large.database.as_ref().context("a server")?;
    runtime.block_on(server.sql(&multiply_postgres(times)));
    runtime.block_on(server.sql("VACUUM ANALYZE"));
    large.start()?;
    let took = begun.elapsed().as_secs();
    say(&format!("filled in {took} s"))?;
    for side in sqlite.iter_mut().chain(&mut postgres) {
        // What lies in no cache after a start is not what is asked.
        side.submit(sample, MESSAGES)?;
        thread::sleep(Duration::from_secs(1));
    }
    measure(&mut sqlite, sample, is_quick)?;
    measure(&mut postgres, sample, is_quick)
}
