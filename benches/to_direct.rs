//! What a crossing from XDR to Direct costs, beside the cost of the cryptography alone: `cargo bench --bench to_direct`.
//! What is measured, and how, stands in docs/benchmarks.md. `-- WORD` runs the rows whose name contains WORD, `-- quick`
//! takes few messages, `-- memory` and `-- start` measure those alone.

mod support;

use std::{
    io::{Write, stdout},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;

use support::{
    bridge::{Bridge, Ground},
    documents::{Kind, Sample},
    floor,
    load::{self, Pattern},
    sink::{self, Sink},
};

const KB: usize = 1000;
const MB: usize = 1000 * KB;
const MIB: f64 = 1024.0 * 1024.0;

/// As clients that keep their connections do it.
const KEPT: usize = 50;

/// One row of the table.
struct Row {
    kind: Kind,
    bytes: usize,
    /// Messages of one round.
    messages: usize,
    /// Calls of the floor in one round.
    floor_calls: u32,
    pattern: Pattern,
    /// The highest ratio wanted.
    target: Option<f64>,
}

fn rows() -> Vec<Row> {
    let row = |kind, bytes, messages, floor_calls, connections, target| Row {
        kind,
        bytes,
        messages,
        floor_calls,
        pattern: Pattern {
            connections,
            messages_per_connection: KEPT,
        },
        target: Some(target),
    };
    let mut rows = vec![
        row(Kind::Xml, 10 * KB, 400, 200, 4, 2.5),
        row(Kind::Incompressible, 10 * KB, 400, 200, 4, 2.5),
        row(Kind::Xml, MB, 50, 40, 4, 1.8),
        row(Kind::Incompressible, MB, 50, 40, 4, 1.8),
        row(Kind::Xml, 25 * MB, 6, 4, 2, 1.8),
        row(Kind::Incompressible, 25 * MB, 6, 4, 2, 1.8),
    ];
    let mut shaken = row(Kind::Xml, 10 * KB, 400, 200, 4, 2.5);
    shaken.pattern.messages_per_connection = 1;
    shaken.target = None;
    rows.push(shaken);
    rows
}

impl Row {
    fn name(&self, sample: &Sample) -> String {
        match self.pattern.messages_per_connection {
            1 => format!("{}, a handshake each", sample.name()),
            _ => sample.name(),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, certificate, key] = arguments.as_slice()
        && role == sink::ROLE
    {
        return sink::run(Path::new(certificate), Path::new(key));
    }
    // `cargo bench` passes --bench, and cargo test --benches passes --test.
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    words.retain(|word| !word.starts_with("--"));
    let is_quick = words.contains(&"quick") || arguments.iter().any(|a| a == "--test");
    words.retain(|word| *word != "quick");
    let wants = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));

    let ground = Ground::new(&format!("to_direct-{}", std::process::id()))?;
    let (certificate, key) = (ground.file("tls/sink.pem"), ground.file("tls/sink.key"));
    std::fs::write(&certificate, ground.sink.certificate.to_pem()?)?;
    std::fs::write(&key, ground.sink.key.private_key_to_pem_pkcs8()?)?;
    let sink = Sink::start(&certificate, &key)?;
    ground.send_to(sink.address)?;
    say(&format!("OpenSSL: {}", openssl::version::version()))?;

    if wants("start") {
        start(&ground)?;
    }
    say(&format!(
        "\n{:<28} {:>9} {:>9} {:>18} {:>7} {:>8}",
        "row", "floor ms", "bridge ms", "ratio (spread)", "target", "msg/s"
    ))?;
    for row in rows() {
        let sample = Sample::new(row.kind, row.bytes)?;
        if wants(&row.name(&sample)) {
            measure(&row, &sample, &ground, &sink, is_quick)?;
        }
    }
    if wants("memory") {
        for kind in [Kind::Xml, Kind::Incompressible] {
            peak_memory(kind, &ground, &sink)?;
        }
    }
    Ok(())
}

/// Rounds of floor and bridge in turn, so that both see the same machine; the first round warms up and is not counted.
fn measure(
    row: &Row,
    sample: &Sample,
    ground: &Ground,
    sink: &Sink,
    is_quick: bool,
) -> anyhow::Result<()> {
    let rounds = if is_quick { 1 } else { 5 };
    let entity = sample.entity()?;
    let bridge = ground.start_empty()?;
    eprintln!("bridge: pid {}", bridge.pid());
    round(&bridge, ground, sink, sample, row, row.messages.div_ceil(4))?;
    let (mut floors, mut costs, mut ratios, mut rates) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let (signer, recipient) = (&ground.signer, &ground.recipient);
        let floor = floor::cpu_seconds(&entity, signer, recipient, row.floor_calls)?;
        let (cost, rate) = round(&bridge, ground, sink, sample, row, row.messages)?;
        floors.push(floor * 1e3);
        costs.push(cost * 1e3);
        ratios.push(cost / floor);
        rates.push(rate);
    }
    let (low, ratio, high) = spread(&mut ratios)?;
    let target = row
        .target
        .map_or("-".to_owned(), |target| format!("{target:.1}"));
    say(&format!(
        "{:<28} {:>9.3} {:>9.3} {:>18} {:>7} {:>8.1}",
        row.name(sample),
        spread(&mut floors)?.1,
        spread(&mut costs)?.1,
        format!("{ratio:.2} ({low:.2}-{high:.2})"),
        target,
        spread(&mut rates)?.1,
    ))
}

/// Submits `messages`, waits for every mail, and gives CPU seconds a message and messages a second.
fn round(
    bridge: &Bridge,
    ground: &Ground,
    sink: &Sink,
    sample: &Sample,
    row: &Row,
    messages: usize,
) -> anyhow::Result<(f64, f64)> {
    let before = bridge.cpu_seconds_at_rest()?;
    let started = Instant::now();
    load::submit(ground, bridge.xdr, sample, messages, row.pattern)?;
    let sizes = sink.take(messages)?;
    let elapsed = started.elapsed();
    let after = bridge.cpu_seconds_at_rest()?;
    if sample.kind == Kind::Incompressible {
        let smallest = sizes.iter().min().context("no mail")?;
        anyhow::ensure!(
            *smallest > sample.bytes as u64,
            "a mail without its document"
        );
    }
    Ok((
        (after - before) / messages as f64,
        messages as f64 / elapsed.as_secs_f64(),
    ))
}

/// From the start of the process to "listening", and the memory of a bridge that has nothing to do.
fn start(ground: &Ground) -> anyhow::Result<()> {
    const RUNS: usize = 7;
    let first = ground.start_empty()?;
    let with_new_store = first.ready_after;
    drop(first);
    let (mut milliseconds, mut mebibytes) = (vec![], vec![]);
    for _ in 0..RUNS {
        let bridge = ground.start()?;
        milliseconds.push(bridge.ready_after.as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(300));
        mebibytes.push(bridge.memory_bytes("VmRSS")? as f64 / MIB);
    }
    let (low, middle, high) = spread(&mut milliseconds)?;
    say(&format!(
        "start to ready: {middle:.0} ms ({low:.0}-{high:.0}), with a new store {:.0} ms; target 300 ms",
        with_new_store.as_secs_f64() * 1e3
    ))?;
    let (low, middle, high) = spread(&mut mebibytes)?;
    say(&format!(
        "idle memory: {middle:.1} MiB ({low:.1}-{high:.1}); target 40 MiB"
    ))
}

/// The most memory that a fresh bridge took while eight messages of 25 MB were in flight at once.
fn peak_memory(kind: Kind, ground: &Ground, sink: &Sink) -> anyhow::Result<()> {
    const AT_ONCE: usize = 8;
    let sample = Sample::new(kind, 25 * MB)?;
    let bridge = ground.start_empty()?;
    let pattern = Pattern {
        connections: AT_ONCE,
        messages_per_connection: 1,
    };
    load::submit(ground, bridge.xdr, &sample, AT_ONCE, pattern)?;
    sink.take(AT_ONCE)?;
    let peak = bridge.memory_bytes("VmHWM")? as f64 / MIB;
    let in_flight = (AT_ONCE * sample.bytes) as f64 / MIB;
    say(&format!(
        "peak memory, {AT_ONCE} x {}: {peak:.0} MiB; target {:.0} MiB",
        sample.name(),
        64.0 + 1.5 * in_flight
    ))
}

/// Lowest, median and highest.
fn spread(values: &mut [f64]) -> anyhow::Result<(f64, f64, f64)> {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().context("no values");
    Ok((
        at(0)?,
        at(values.len() / 2)?,
        at(values.len().saturating_sub(1))?,
    ))
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
