//! Reading 50 MB of inline base64, and what memory that takes: `cargo bench --bench inline_base64`. `-- read` measures
//! the reader alone, fed by a generator, `-- bridge` a bridge that is sent such a request.

mod support;

use std::{
    fs,
    io::{Read, Write, stdout},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use xdbridge::formats::{
    document::{DocumentKey, DocumentSink},
    limits::Limits,
    xdr::request::{self, ReadOptions},
};

use support::{
    bridge::Ground,
    documents::{Kind, Sample},
    load::{self, Pattern},
    sink::{self, Sink},
};

/// Characters of base64 in a request.
const TEXT_CHARS: u64 = 50_000_000;
/// Octets of the document that they are.
const DOCUMENT_BYTES: usize = 37_500_000;
/// More than this above the start is too much.
const TARGET_MIB: f64 = 20.0;
const MIB: f64 = 1024.0 * 1024.0;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, certificate, key] = arguments.as_slice()
        && role == sink::ROLE
    {
        return sink::run(Path::new(certificate), Path::new(key));
    }
    let words: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let wants = |name: &str| words.is_empty() || words.contains(&name);
    if wants("read") {
        let forms = [
            ("one line", ""),
            ("lines of 76, CRLF", "\r\n"),
            ("lines of 76, &#13; and LF", "&#13;\n"),
        ];
        for (name, line_end) in forms {
            read(name, line_end)?;
        }
    }
    if wants("bridge") {
        bridge()?;
    }
    Ok(())
}

/// Reads a request that is made while it is read, into a sink that drops it.
fn read(name: &str, line_end: &str) -> anyhow::Result<()> {
    let (content_type, head, tail) = envelope()?;
    let baseline = own_memory("VmRSS")?;
    // proc(5): 5 sets the peak back to what is used now.
    fs::write("/proc/self/clear_refs", "5")?;
    let text = Lines::new(line_end);
    let mut body = head.as_bytes().chain(text).chain(tail.as_bytes());
    let (limits, options) = (Limits::default(), ReadOptions::default());
    let mut counted = Counted::default();
    let started = Instant::now();
    request::read(&content_type, &mut body, &limits, &options, &mut counted)?;
    let seconds = started.elapsed().as_secs_f64();
    ensure!(
        counted.bytes == TEXT_CHARS / 4 * 3,
        "{} octets came out",
        counted.bytes
    );
    let grown = own_memory("VmHWM")?.saturating_sub(baseline) as f64 / MIB;
    say(&format!(
        "read, {name:<26} {:>6.0} MB/s of base64, {grown:>5.1} MiB above the start; target {TARGET_MIB:.0} MiB",
        TEXT_CHARS as f64 / 1e6 / seconds
    ))
}

/// A simple SOAP request, cut where the text of its document stands.
fn envelope() -> anyhow::Result<(String, String, String)> {
    let (content_type, body) = Sample::new(Kind::Xml, 300)?.inline().request()?;
    let body = String::from_utf8(body)?;
    let end = body.rfind("</xds:Document>").context("a document")?;
    let start = body
        .get(..end)
        .and_then(|before| before.rfind('>'))
        .context("a start tag")?;
    let (head, tail) = (body.get(..=start), body.get(end..));
    let (head, tail) = head.zip(tail).context("a text between tags")?;
    Ok((content_type, head.to_owned(), tail.to_owned()))
}

/// Base64 text in lines, made as it is asked for.
struct Lines {
    line: Vec<u8>,
    at: usize,
    left_lines: u64,
    /// The last line is shorter.
    last: Vec<u8>,
}

impl Lines {
    fn new(line_end: &str) -> Self {
        const LINE_CHARS: u64 = 76;
        let line = |chars: u64| -> Vec<u8> {
            let text = b"UXVpbGwh".iter().cycle();
            let chars = usize::try_from(chars).unwrap_or(usize::MAX);
            text.copied().take(chars).chain(line_end.bytes()).collect()
        };
        Self {
            line: line(LINE_CHARS),
            at: 0,
            left_lines: TEXT_CHARS / LINE_CHARS,
            last: line(TEXT_CHARS % LINE_CHARS),
        }
    }
}

impl Read for Lines {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let mut given = 0;
        while given < out.len() {
            if self.at == self.line.len() {
                self.at = 0;
                self.left_lines = self.left_lines.saturating_sub(1);
                if self.left_lines == 0 {
                    self.line = std::mem::take(&mut self.last);
                }
                if self.line.is_empty() {
                    break;
                }
            }
            let (rest, room) = (self.line.get(self.at..), out.get_mut(given..));
            let mut rest = rest.unwrap_or_default();
            let taken = rest.read(room.unwrap_or_default())?;
            self.at += taken;
            given += taken;
        }
        Ok(given)
    }
}

/// Counts octets and keeps none.
#[derive(Default)]
struct Counted {
    bytes: u64,
}

impl DocumentSink for Counted {
    fn begin(&mut self, _: DocumentKey) -> std::io::Result<()> {
        Ok(())
    }
    fn write(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.bytes += octets.len() as u64;
        Ok(())
    }
    fn end(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a fresh bridge takes above its idle memory while one such request crosses.
fn bridge() -> anyhow::Result<()> {
    let ground = Ground::new(&format!("inline_base64-{}", std::process::id()))?;
    let sink = Sink::start_for(&ground)?;
    ground.send_to(sink.address)?;
    // The mail is larger than the default allows (LIM-14); reading is what is measured.
    ground.configure("[limits]\nmax_sealed_bytes = 200_000_000\n")?;
    for kind in [Kind::Xml, Kind::Incompressible] {
        let bridge = ground.start_empty()?;
        std::thread::sleep(Duration::from_millis(300));
        let idle = bridge.memory_bytes("VmRSS")?;
        let sample = Sample::new(kind, DOCUMENT_BYTES)?.inline();
        let pattern = Pattern {
            connections: 1,
            messages_per_connection: 1,
        };
        load::submit(&ground, bridge.xdr, &sample, 1, pattern)?;
        let answered = bridge.memory_bytes("VmHWM")?.saturating_sub(idle) as f64 / MIB;
        sink.take(1)?;
        let sent = bridge.memory_bytes("VmHWM")?.saturating_sub(idle) as f64 / MIB;
        say(&format!(
            "bridge, {:<24} {answered:>5.1} MiB above idle when answered, {sent:.1} when sent; target {TARGET_MIB:.0} MiB and the body",
            sample.name()
        ))?;
    }
    Ok(())
}

/// A figure of this process in octets.
fn own_memory(name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .context("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
