//! What a crossing from Direct to XDR costs, beside the cost of the cryptography alone: `cargo bench --bench to_xdr`.
//! What is measured, and how, stands in docs/benchmarks.md. `-- WORD` runs the rows whose name contains WORD, `-- quick`
//! takes one round of each, `-- intake` and `-- memory` measure those alone. `-- bridge=PATH bridge=PATH` measures other
//! builds' programs, which take turns.

mod support;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use xdbridge::formats::notification::mdn::Notice;

use support::{
    bridge::{Bridge, Ground, SHAKEN},
    documents::{Kind, SENDER, Sample},
    endpoint,
    floor::{self, ReceivedMail},
    load::Pattern,
    mails::{self, SealedMail},
    report::{MIB, Rounds, Wanted, say},
    sink::{self, Sink},
};

const KB: usize = 1000;
const MB: usize = 1000 * KB;

/// As peers that keep their connections do it.
const KEPT: usize = 50;

/// One row of the table.
struct Row {
    kind: Kind,
    bytes: usize,
    /// Mails of one round.
    mails: usize,
    /// Calls of the floor in one round.
    floor_calls: u32,
    /// Whether `dispatched` is asked for beside `processed`.
    wants_final_delivery: bool,
    pattern: Pattern,
    /// The highest ratio wanted.
    target: Option<f64>,
}

fn rows() -> Vec<Row> {
    let row = |kind, bytes, mails, floor_calls, connections, target| Row {
        kind,
        bytes,
        mails,
        floor_calls,
        wants_final_delivery: false,
        pattern: Pattern {
            connections,
            messages_per_connection: KEPT,
        },
        target: Some(target),
    };
    let small = |kind| row(kind, 10 * KB, 400, 200, 4, 2.5);
    vec![
        small(Kind::Xml),
        small(Kind::Incompressible),
        Row {
            wants_final_delivery: true,
            ..small(Kind::Xml)
        },
        Row {
            pattern: Pattern {
                connections: 4,
                messages_per_connection: 1,
            },
            target: None,
            ..small(Kind::Xml)
        },
        row(Kind::Xml, MB, 50, 40, 4, 1.8),
        row(Kind::Incompressible, MB, 50, 40, 4, 1.8),
        row(Kind::Xml, 25 * MB, 6, 4, 2, 1.8),
        row(Kind::Incompressible, 25 * MB, 6, 4, 2, 1.8),
    ]
}

impl Row {
    fn name(&self, sample: &Sample) -> String {
        let mut name = sample.name();
        if self.wants_final_delivery {
            name += ", dispatched too";
        }
        if self.has_handshakes() {
            name += ", handshakes each";
        }
        name
    }

    /// Whether every mail and every post has a connection of its own.
    fn has_handshakes(&self) -> bool {
        self.pattern.messages_per_connection == 1
    }

    fn recipient(&self) -> &'static str {
        if self.has_handshakes() {
            SHAKEN
        } else {
            SENDER
        }
    }

    /// The notices that its mails cause.
    fn notices(&self) -> &'static [Notice<'static>] {
        static NOTICES: [Notice<'static>; 2] =
            [Notice::Processed, Notice::Dispatched { is_requested: true }];
        if self.wants_final_delivery {
            &NOTICES
        } else {
            &NOTICES[..1]
        }
    }
}

/// One of the programs that are measured, and what is around it.
struct Side {
    label: String,
    ground: Ground,
    mailbox: Sink,
    endpoint: Sink,
}

impl Side {
    fn new(wanted: &Wanted, program: usize) -> anyhow::Result<Self> {
        let path = wanted.programs.get(program).context("a program")?;
        let name = format!("to_xdr-{}-{program}", std::process::id());
        let ground = Ground::of_program(&name, path)?;
        let mailbox = Sink::start_for(&ground)?;
        let endpoint = endpoint::start_for(&ground)?;
        ground.send_to(mailbox.address)?;
        ground.receive_for(endpoint.address)?;
        Ok(Self {
            label: wanted.label(program),
            ground,
            mailbox,
            endpoint,
        })
    }

    fn seal(&self, row: &Row, sample: &Sample) -> anyhow::Result<SealedMail> {
        let certificate = &self.ground.signer.certificate;
        let asks = row.wants_final_delivery;
        mails::seal(&self.ground, sample, row.recipient(), certificate, asks)
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [role, certificate, key] if role == sink::ROLE => {
            return sink::run(Path::new(certificate), Path::new(key));
        }
        [role, certificate, key, ca] if role == endpoint::ROLE => {
            return endpoint::run(Path::new(certificate), Path::new(key), Path::new(ca));
        }
        _ => {}
    }
    let wanted = Wanted::read(&arguments);
    let sides: Vec<Side> = (0..wanted.programs.len())
        .map(|program| Side::new(&wanted, program))
        .collect::<anyhow::Result<_>>()?;
    say(&format!("OpenSSL: {}", openssl::version::version()))?;

    Rounds::say_head()?;
    for row in rows() {
        let sample = Sample::new(row.kind, row.bytes)?;
        if wanted.has(&row.name(&sample)) {
            measure(&row, &sample, &sides, wanted.is_quick)?;
        }
    }
    for side in &sides {
        if wanted.has("intake") {
            intake(side)?;
        }
        if wanted.has("memory") {
            for kind in [Kind::Xml, Kind::Incompressible] {
                peak_memory(kind, side)?;
            }
        }
    }
    Ok(())
}

/// Rounds of floor and bridge in turn, so that both see the same machine; the first round warms up and is not counted.
fn measure(row: &Row, sample: &Sample, sides: &[Side], is_quick: bool) -> anyhow::Result<()> {
    let rounds = if is_quick { 1 } else { 5 };
    let notices: Vec<Vec<u8>> = row
        .notices()
        .iter()
        .map(|notice| mails::notice(*notice))
        .collect::<anyhow::Result<_>>()?;
    let mut bridges = Vec::new();
    for side in sides {
        let bridge = side.ground.start_empty()?;
        eprintln!("bridge{}: pid {}", side.label, bridge.pid());
        round(&bridge, side, sample, row, row.mails.div_ceil(4))?;
        let mail = side.seal(row, sample)?;
        let mail = ReceivedMail::new(mail.body(), &side.ground.signer, &side.ground.ca)?;
        bridges.push((side, bridge, mail, Rounds::default()));
    }
    for _ in 0..rounds {
        for (side, bridge, mail, measured) in &mut bridges {
            let (own, peer) = (&side.ground.signer, &side.ground.peer.certificate);
            let floor = floor::cpu_seconds(row.floor_calls, || {
                let mut bytes = mail.decrypt_and_verify(own)?;
                for notice in &notices {
                    bytes += floor::sign_and_encrypt(notice, own, peer)?;
                }
                Ok(bytes)
            })?;
            let (cost, rate) = round(bridge, side, sample, row, row.mails)?;
            measured.add(floor, cost, rate);
        }
    }
    for (side, _, _, measured) in bridges {
        measured.say(&(row.name(sample) + &side.label), row.target)?;
    }
    Ok(())
}

/// Sends `count` mails made before, waits for every post and every notice, and gives CPU seconds a mail and mails a
/// second.
fn round(
    bridge: &Bridge,
    side: &Side,
    sample: &Sample,
    row: &Row,
    count: usize,
) -> anyhow::Result<(f64, f64)> {
    let mails: Vec<SealedMail> = (0..count)
        .map(|_| side.seal(row, sample))
        .collect::<anyhow::Result<_>>()?;
    let address = bridge.mail.context("the bridge takes no mail")?;
    let before = bridge.cpu_seconds_at_rest()?;
    let started = Instant::now();
    let to = row.recipient();
    mails::send(&side.ground, address, &mails, to, row.pattern, "250")?;
    let posted = side.endpoint.take(count)?;
    side.mailbox.take(count * row.notices().len())?;
    let elapsed = started.elapsed();
    let after = bridge.cpu_seconds_at_rest()?;
    let smallest = posted.iter().min().context("no post")?;
    anyhow::ensure!(
        *smallest > sample.bytes as u64,
        "a post without its document"
    );
    Ok((
        (after - before) / count as f64,
        count as f64 / elapsed.as_secs_f64(),
    ))
}

/// Receiving alone, from MAIL to the answer: mails of 25 MB that are sealed to somebody else's key are recorded, looked
/// at, and refused without being opened.
fn intake(side: &Side) -> anyhow::Result<()> {
    const AT_ONCE: usize = 4;
    const EACH: usize = 3;
    /// Above the idle bridge, whatever the size of the mails.
    const TARGET_MIB: f64 = 16.0;
    let sample = Sample::new(Kind::Incompressible, 25 * MB)?;
    let stranger = &side.ground.peer.certificate;
    let mails: Vec<SealedMail> = (0..AT_ONCE * EACH)
        .map(|_| mails::seal(&side.ground, &sample, SENDER, stranger, false))
        .collect::<anyhow::Result<_>>()?;
    let megabytes = mails.iter().map(SealedMail::bytes).sum::<usize>() as f64 / 1e6;
    let bridge = side.ground.start_empty()?;
    let address = bridge.mail.context("the bridge takes no mail")?;
    thread::sleep(Duration::from_millis(300));
    let idle = bridge.memory_bytes("VmRSS")?;
    let before = bridge.cpu_seconds_at_rest()?;
    let started = Instant::now();
    let pattern = Pattern {
        connections: AT_ONCE,
        messages_per_connection: 1,
    };
    mails::send(&side.ground, address, &mails, SENDER, pattern, "550 5.7.5")?;
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = bridge.cpu_seconds_at_rest()? - before;
    let peak = bridge.memory_bytes("VmHWM")?.saturating_sub(idle) as f64 / MIB;
    say(&format!(
        "intake, {AT_ONCE} x {} at once{}: {peak:.1} MiB above idle, target {TARGET_MIB:.0} MiB; {:.0} MB/s, {:.2} ms of CPU a MB of wire",
        sample.name(),
        side.label,
        megabytes / elapsed,
        cpu * 1e3 / megabytes
    ))
}

/// The most memory that a fresh bridge took while several mails of 25 MB came at once and were opened.
fn peak_memory(kind: Kind, side: &Side) -> anyhow::Result<()> {
    const AT_ONCE: usize = 4;
    let row = Row {
        kind,
        bytes: 25 * MB,
        mails: AT_ONCE,
        floor_calls: 0,
        wants_final_delivery: false,
        pattern: Pattern {
            connections: AT_ONCE,
            messages_per_connection: 1,
        },
        target: None,
    };
    let sample = Sample::new(kind, row.bytes)?;
    let wire = side.seal(&row, &sample)?.bytes() as f64 / MIB;
    let bridge = side.ground.start_empty()?;
    round(&bridge, side, &sample, &row, AT_ONCE)?;
    let peak = bridge.memory_bytes("VmHWM")? as f64 / MIB;
    let opened = thread::available_parallelism()?.get().min(AT_ONCE) as f64;
    say(&format!(
        "peak memory, {AT_ONCE} x {}{}: {peak:.0} MiB; target {:.0} MiB (64 + {AT_ONCE} x {wire:.1} + 4 x {wire:.1} x {opened} opened at once)",
        sample.name(),
        side.label,
        64.0 + AT_ONCE as f64 * wire + 4.0 * wire * opened
    ))
}
