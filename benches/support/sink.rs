//! The next hop: an SMTP server with STARTTLS that takes every mail and forgets it, as a process of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};

use super::bridge::Ground;

/// The argument that makes a bench a sink.
pub(crate) const ROLE: &str = "--be-the-sink";

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the sink: its address on the first line of standard output, then a line with its size for each mail.
pub(crate) fn run(certificate: &Path, key: &Path) -> anyhow::Result<()> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_certificate_chain_file(certificate)?;
    acceptor.set_private_key_file(key, SslFiletype::PEM)?;
    let acceptor = Arc::new(acceptor.build());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    tell(&listener.local_addr()?.to_string())?;
    for stream in listener.incoming() {
        let (stream, acceptor) = (stream?, Arc::clone(&acceptor));
        thread::spawn(move || {
            if let Err(error) = converse(stream, &acceptor) {
                eprintln!("sink: {error:#}");
            }
        });
    }
    Ok(())
}

/// Writes a line of standard output at once.
pub(super) fn tell(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn converse(stream: TcpStream, acceptor: &SslAcceptor) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut plain = BufReader::new(stream);
    plain.get_mut().write_all(b"220 sink.elm.example\r\n")?;
    if !commands(&mut plain, true)? {
        return Ok(());
    }
    let stream = acceptor.accept(plain.into_inner())?;
    let mut secured = BufReader::with_capacity(64 * 1024, stream);
    commands(&mut secured, false)?;
    Ok(())
}

/// Answers commands until the peer leaves (false) or wants TLS (true).
fn commands<S: Read + Write>(stream: &mut BufReader<S>, offers_tls: bool) -> anyhow::Result<bool> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return Ok(false);
        }
        let word = String::from_utf8_lossy(line.get(..4).unwrap_or(&line)).to_ascii_uppercase();
        let answer: &[u8] = match word.as_str() {
            "EHLO" if offers_tls => b"250-sink.elm.example\r\n250-SIZE\r\n250 STARTTLS\r\n",
            "EHLO" => b"250-sink.elm.example\r\n250-SIZE\r\n250-8BITMIME\r\n250 PIPELINING\r\n",
            "STAR" => {
                stream.get_mut().write_all(b"220 go on\r\n")?;
                return Ok(true);
            }
            "DATA" => {
                stream.get_mut().write_all(b"354 go on\r\n")?;
                let bytes = data(stream)?;
                tell(&bytes.to_string())?;
                b"250 taken\r\n"
            }
            "QUIT" => {
                stream.get_mut().write_all(b"221 bye\r\n")?;
                return Ok(false);
            }
            _ => b"250 fine\r\n",
        };
        stream.get_mut().write_all(answer)?;
    }
}

fn data<S: Read + Write>(stream: &mut BufReader<S>) -> anyhow::Result<u64> {
    let mut line = Vec::new();
    let mut bytes = 0;
    loop {
        line.clear();
        ensure!(stream.read_until(b'\n', &mut line)? > 0, "cut in DATA");
        if line == b".\r\n" {
            return Ok(bytes);
        }
        bytes += line.len() as u64;
    }
}

/// A process that takes what the bridge sends, seen from the bench; killed when it is dropped.
pub(crate) struct Sink {
    child: Child,
    pub(crate) address: SocketAddr,
    taken: Arc<Taken>,
}

#[derive(Default)]
struct Taken {
    sizes: Mutex<Vec<u64>>,
    more: Condvar,
}

impl Sink {
    /// Starts this program once more, as the next hop of the bridge of `ground`.
    pub(crate) fn start_for(ground: &Ground) -> anyhow::Result<Self> {
        let (certificate, key) = (ground.file("tls/sink.pem"), ground.file("tls/sink.key"));
        fs::write(&certificate, ground.sink.certificate.to_pem()?)?;
        fs::write(&key, ground.sink.key.private_key_to_pem_pkcs8()?)?;
        Self::start_as(ROLE, &[certificate, key])
    }

    /// Starts this program once more, in `role`.
    pub(crate) fn start_as(role: &str, files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(role)
            .args(files)
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("standard output is a pipe")?;
        let mut lines = BufReader::new(out).lines();
        let address = lines.next().context("the sink ended")??.parse()?;
        let taken = Arc::new(Taken::default());
        let told = Arc::clone(&taken);
        thread::spawn(move || {
            for size in lines.map_while(Result::ok).filter_map(|l| l.parse().ok()) {
                let mut sizes = told.sizes.lock().unwrap_or_else(PoisonError::into_inner);
                sizes.push(size);
                told.more.notify_all();
            }
        });
        Ok(Self {
            child,
            address,
            taken,
        })
    }

    /// Waits until `count` of them came since the last call, and gives their sizes.
    pub(crate) fn take(&self, count: usize) -> anyhow::Result<Vec<u64>> {
        let until = Instant::now() + PATIENCE;
        let lock = &self.taken.sizes;
        let mut sizes = lock.lock().unwrap_or_else(PoisonError::into_inner);
        while sizes.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{} of {count} came", sizes.len());
            let waited = self.taken.more.wait_timeout(sizes, left);
            sizes = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        ensure!(sizes.len() == count, "more came than there should");
        Ok(std::mem::take(&mut *sizes))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
