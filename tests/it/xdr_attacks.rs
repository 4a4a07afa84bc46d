//! Hostile requests of a partner against the real program over TLS: each gets a clear answer, nothing of it is kept or
//! sent, and the memory of the process stays within a bound that is stated here.

mod packages;
mod traces;
mod transport;
mod values;
mod xml;

use std::{fs, sync::LazyLock};

use super::support::{
    crossing_ground::{Answered, CrossingGround, Letter, Workshop, files_below},
    process::BridgeProcess,
};

/// The most memory that the process may ever have had, in MiB. It took 30 to 54 in a build without optimization and with
/// a trace of everything; the largest message alone may have 64, and goes to disk as it comes.
const MAX_RESIDENT_MIB: u64 = 112;

/// Keys and a configuration, made once.
static WORKSHOP: LazyLock<Workshop> = LazyLock::new(Workshop::new);

/// What a request is answered with.
#[derive(Debug)]
enum Expected {
    /// A Sender fault by this rule.
    Fault(&'static str),
    /// Failure with an entry of this code.
    Failure(&'static str),
}
use Expected::{Failure, Fault};

/// A bridge under attack.
struct Siege<'a> {
    ground: CrossingGround<'a>,
    bridge: BridgeProcess,
    files: usize,
}

impl Siege<'_> {
    fn begin() -> Self {
        let ground = WORKSHOP.ground();
        let bridge = ground.start();
        let files = files_below(&ground.path().join("data")).len();
        Self {
            ground,
            bridge,
            files,
        }
    }

    fn post(&self, content_type: &str, body: &[u8], expected: &Expected, what: &str) {
        let answered = self
            .ground
            .post_octets(&self.bridge, "/xdr", content_type, body);
        let Answered::Refused(status, text) = answered else {
            panic!("{what}: {answered:?}");
        };
        let shown: String = text.chars().take(2_000).collect();
        match expected {
            Fault(rule) => {
                assert_eq!(status, 400, "{what}: {shown}");
                assert!(text.contains(&format!(">{rule}</rule>")), "{what}: {shown}");
                assert!(text.contains(">soap:Sender<"), "{what}: {shown}");
            }
            Failure(code) => {
                assert_eq!(status, 200, "{what}: {shown}");
                assert!(
                    text.contains("ResponseStatusType:Failure"),
                    "{what}: {shown}"
                );
                assert!(
                    text.contains(&format!("errorCode=\"{code}\"")),
                    "{what}: {shown}"
                );
            }
        }
        // However many things are wrong with it, the answer has its bounds.
        assert!(text.len() < 200_000, "{what}: {}", text.len());
    }

    /// Posts octets over a connection of their own and gives everything that comes back, until it is closed.
    fn exchange(&self, octets: &[u8]) -> String {
        let mut connection = self.ground.connect(&self.bridge).unwrap();
        let _ = connection.send(octets);
        let answered = connection.rest().unwrap_or_default();
        String::from_utf8(answered).unwrap()
    }

    /// The most memory so far, in MiB.
    fn peak_mib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.bridge.pid());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB").trim();
        kib.parse::<u64>().unwrap() / 1024
    }

    /// Nothing is kept and nothing was sent; the memory is within its bound; and the bridge serves on.
    fn end(self) {
        let peak = self.peak_mib();
        assert!(peak < MAX_RESIDENT_MIB, "{peak} MiB");
        assert_eq!(
            files_below(&self.ground.path().join("data")).len(),
            self.files
        );
        assert!(self.ground.sink.transcripts().is_empty());
        let log = self.bridge.log_text();
        assert!(!log.contains("panicked"), "a request panicked");

        assert_eq!(
            self.ground.post(&self.bridge, &Letter::small()),
            Answered::Success
        );
        self.ground.wait_for_messages(1);
        let Self { ground, bridge, .. } = self;
        bridge.stop();
        assert_eq!(ground.exchanges().len(), 1, "the good one alone");
    }
}

/// The MTOM request of a letter as text: its documents are texts too.
fn letter() -> (String, String) {
    let (content_type, body) = Letter::small().request();
    (content_type, String::from_utf8(body).unwrap())
}

/// The same request as a simple envelope.
fn simple(change: impl Fn(String) -> String) -> String {
    let (_, body) = letter();
    let start = body.find("<?xml").unwrap();
    let end = body.find("</soap:Envelope>").unwrap() + "</soap:Envelope>".len();
    let mut envelope = body[start..end].to_owned();
    for document in Letter::small().documents {
        let include = envelope.find("<xop:Include").unwrap();
        let stop = include + envelope[include..].find("/>").unwrap() + 2;
        let text = openssl::base64::encode_block(&document);
        envelope.replace_range(include..stop, &text);
    }
    change(envelope)
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "nothing to replace: {from}");
    text.replacen(from, to, 1)
}
