//! What a crossing from XDR to Direct costs, beside the cost of the cryptography alone: `cargo bench --bench to_direct`.
//! What is measured, and how, stands in docs/benchmarks.md. `-- WORD` runs the rows whose name contains WORD, `-- quick`
//! takes one round of each, `-- memory` and `-- start` measure those alone. `-- bridge=PATH bridge=PATH` measures other
//! builds' programs, which take turns.

mod support;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;

use support::{
    bridge::{Bridge, Ground},
    documents::{Kind, Sample},
    floor,
    load::{self, Pattern},
    report::{MIB, Rounds, Wanted, say, spread},
    sink::{self, Sink},
};

const KB: usize = 1000;
const MB: usize = 1000 * KB;

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
    let wanted = Wanted::read(&arguments);
    let sides: Vec<Side> = (0..wanted.programs.len())
        .map(|program| Side::new(&wanted, program))
        .collect::<anyhow::Result<_>>()?;
    say(&format!("OpenSSL: {}", openssl::version::version()))?;

    if wanted.has("start") {
        for side in &sides {
            start(side)?;
        }
    }
    Rounds::say_head()?;
    for row in rows() {
        let sample = Sample::new(row.kind, row.bytes)?;
        if wanted.has(&row.name(&sample)) {
            measure(&row, &sample, &sides, wanted.is_quick)?;
        }
    }
    if wanted.has("memory") {
        for side in &sides {
            for kind in [Kind::Xml, Kind::Incompressible] {
                peak_memory(kind, side)?;
            }
        }
    }
    Ok(())
}

/// One of the programs that are measured, and what is around it.
struct Side {
    label: String,
    ground: Ground,
    sink: Sink,
}

impl Side {
    fn new(wanted: &Wanted, program: usize) -> anyhow::Result<Self> {
        let path = wanted.programs.get(program).context("a program")?;
        let name = format!("to_direct-{}-{program}", std::process::id());
        let ground = Ground::of_program(&name, path)?;
        let sink = Sink::start_for(&ground)?;
        ground.send_to(sink.address)?;
        Ok(Self {
            label: wanted.label(program),
            ground,
            sink,
        })
    }
}

/// Rounds of floor and bridge in turn, so that both see the same machine; the first round warms up and is not counted.
fn measure(row: &Row, sample: &Sample, sides: &[Side], is_quick: bool) -> anyhow::Result<()> {
    let rounds = if is_quick { 1 } else { 5 };
    let entity = sample.entity()?;
    let mut bridges = Vec::new();
    for side in sides {
        let bridge = side.ground.start_empty()?;
        eprintln!("bridge{}: pid {}", side.label, bridge.pid());
        round(&bridge, side, sample, row, row.messages.div_ceil(4))?;
        bridges.push((side, bridge, Rounds::default()));
    }
    for _ in 0..rounds {
        for (side, bridge, measured) in &mut bridges {
            let (signer, recipient) = (&side.ground.signer, &side.ground.peer.certificate);
            let floor = floor::cpu_seconds(row.floor_calls, || {
                floor::sign_and_encrypt(&entity, signer, recipient)
            })?;
            let (cost, rate) = round(bridge, side, sample, row, row.messages)?;
            measured.add(floor, cost, rate);
        }
    }
    for (side, _, measured) in bridges {
        measured.say(&(row.name(sample) + &side.label), row.target)?;
    }
    Ok(())
}

/// Submits `messages`, waits for every mail, and gives CPU seconds a message and messages a second.
fn round(
    bridge: &Bridge,
    side: &Side,
    sample: &Sample,
    row: &Row,
    messages: usize,
) -> anyhow::Result<(f64, f64)> {
    let before = bridge.cpu_seconds_at_rest()?;
    let started = Instant::now();
    load::submit(&side.ground, bridge.xdr, sample, messages, row.pattern)?;
    let sizes = side.sink.take(messages)?;
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
fn start(side: &Side) -> anyhow::Result<()> {
    const RUNS: usize = 7;
    let first = side.ground.start_empty()?;
    let with_new_store = first.ready_after;
    drop(first);
    let (mut milliseconds, mut mebibytes) = (vec![], vec![]);
    for _ in 0..RUNS {
        let bridge = side.ground.start()?;
        milliseconds.push(bridge.ready_after.as_secs_f64() * 1e3);
        std::thread::sleep(Duration::from_millis(300));
        mebibytes.push(bridge.memory_bytes("VmRSS")? as f64 / MIB);
    }
    let (low, middle, high) = spread(&mut milliseconds)?;
    say(&format!(
        "start to ready{}: {middle:.0} ms ({low:.0}-{high:.0}), with a new store {:.0} ms; target 300 ms",
        side.label,
        with_new_store.as_secs_f64() * 1e3
    ))?;
    let (low, middle, high) = spread(&mut mebibytes)?;
    say(&format!(
        "idle memory{}: {middle:.1} MiB ({low:.1}-{high:.1}); target 40 MiB",
        side.label
    ))
}

/// The most memory that a fresh bridge took while eight messages of 25 MB were in flight at once.
fn peak_memory(kind: Kind, side: &Side) -> anyhow::Result<()> {
    const AT_ONCE: usize = 8;
    let sample = Sample::new(kind, 25 * MB)?;
    let bridge = side.ground.start_empty()?;
    let pattern = Pattern {
        connections: AT_ONCE,
        messages_per_connection: 1,
    };
    load::submit(&side.ground, bridge.xdr, &sample, AT_ONCE, pattern)?;
    side.sink.take(AT_ONCE)?;
    let peak = bridge.memory_bytes("VmHWM")? as f64 / MIB;
    let in_flight = (AT_ONCE * sample.bytes) as f64 / MIB;
    say(&format!(
        "peak memory, {AT_ONCE} x {}{}: {peak:.0} MiB; target {:.0} MiB",
        sample.name(),
        side.label,
        64.0 + 1.5 * in_flight
    ))
}
