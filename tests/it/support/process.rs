//! The real program as a child process: started, listened to, signalled, and gone when the test is over.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::tls::{Connection, Identity};

/// Longest wait for what must come: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the program to its end and gives what it wrote to standard output.
pub(crate) fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xdbridge"))
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// `xdbridge serve` on one configuration directory.
pub(crate) struct BridgeProcess {
    child: Child,
    log: Arc<Log>,
    addresses: Option<Addresses>,
}

#[derive(Clone, Copy)]
struct Addresses {
    xdr: SocketAddr,
    operator: SocketAddr,
}

/// The lines of the log so far, and whether the process has closed it.
#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    is_closed: bool,
}

impl BridgeProcess {
    /// Starts it with `faults` in `XDBRIDGE_FAULTS`, with `folder/tmp` as its folder for temporary files, and appends
    /// its log to `folder/log`. Returns once it listens, or has ended: see [`BridgeProcess::is_listening`].
    pub(crate) fn start(folder: &Path, faults: &str) -> Self {
        Self::start_in(folder, &[("XDBRIDGE_FAULTS", faults)])
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_in(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let temporary = folder.join("tmp");
        fs::create_dir_all(&temporary).unwrap();
        // One CA in place of the machine's: no peer of a test has a certificate of theirs, and reading them all takes
        // longer than the rest of a start.
        let public_cas = temporary.join("public-cas.pem");
        fs::write(&public_cas, Identity::ca("Public CA").certificate_pem()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_xdbridge"))
            .arg("serve")
            .arg("--config")
            .arg(folder.join("xdbridge.toml"))
            .envs(variables.iter().copied())
            .env("TMPDIR", &temporary)
            .env("SSL_CERT_FILE", &public_cas)
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        let file = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .unwrap();
        let (from, to) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || copy_lines(from, file, &to));

        let mut bridge = Self {
            child,
            log,
            addresses: None,
        };
        let line = bridge.wait_or_end(|line| line.contains("\"operator\":\"127.0.0.1:"));
        bridge.addresses = line.map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let address = |field: &str| line[field].as_str().unwrap().parse().unwrap();
            Addresses {
                xdr: address("xdr"),
                operator: address("operator"),
            }
        });
        bridge
    }

    /// Whether it came as far as to listen.
    pub(crate) fn is_listening(&self) -> bool {
        self.addresses.is_some()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves XDR.
    pub(crate) fn xdr(&self) -> SocketAddr {
        self.addresses.expect("the bridge listens").xdr
    }

    /// Where it answers operators.
    pub(crate) fn operator_address(&self) -> SocketAddr {
        self.addresses.expect("the bridge listens").operator
    }

    /// What `GET path` on the operators' listener gives.
    pub(crate) fn operator(&self, path: &str) -> String {
        let mut connection = Connection::plain(self.operator_address());
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        connection.send(request).unwrap();
        String::from_utf8(connection.rest().unwrap()).unwrap()
    }

    /// Waits until the measures are as asked: an event is counted a moment after its log line, or before it.
    pub(crate) fn wait_for_measures(&self, is_so: impl Fn(&str) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let measures = self.operator("/metrics");
            if is_so(&measures) {
                return;
            }
            assert!(Instant::now() < end, "{measures}");
        }
    }

    /// Waits for a log line.
    pub(crate) fn wait_for_line(&self, is_it: impl Fn(&str) -> bool) -> String {
        let line = self.wait_or_end(is_it);
        line.unwrap_or_else(|| panic!("the line does not come\n{}", self.log_text()))
    }

    /// The log so far.
    pub(crate) fn log_text(&self) -> String {
        self.log.state.lock().unwrap().lines.join("\n")
    }

    /// Waits for a log line, or for the end of the process.
    fn wait_or_end(&self, is_it: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + PATIENCE;
        let mut seen = 0;
        let mut state = self.log.state.lock().unwrap();
        loop {
            if let Some(line) = state.lines.iter().skip(seen).find(|line| is_it(line)) {
                return Some(line.clone());
            }
            seen = state.lines.len();
            let left = end.saturating_duration_since(Instant::now());
            if state.is_closed || left.is_zero() {
                return None;
            }
            (state, _) = self.log.changed.wait_timeout(state, left).unwrap();
        }
    }

    /// Waits until the process has ended by itself, and tells how.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let status = self.ended_within(PATIENCE);
        status.unwrap_or_else(|| panic!("it goes on:\n{}", self.log_text()))
    }

    /// The same within a time; `None` if it goes on.
    pub(crate) fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let state = self.log.state.lock().unwrap();
        let waiting = self
            .log
            .changed
            .wait_timeout_while(state, time, |state| !state.is_closed);
        let (state, _) = waiting.unwrap();
        if !state.is_closed {
            return None;
        }
        drop(state);
        Some(self.child.wait().unwrap())
    }

    /// Whether the process is there.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Drains it by SIGTERM: it must end well.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert!(status.success(), "{status}\n{}", self.log_text());
    }
}

impl Drop for BridgeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy_lines(from: impl std::io::Read, mut file: File, to: &Log) {
    for line in BufReader::new(from).lines() {
        let Ok(line) = line else { break };
        writeln!(file, "{line}").unwrap();
        to.state.lock().unwrap().lines.push(line);
        to.changed.notify_all();
    }
    to.state.lock().unwrap().is_closed = true;
    to.changed.notify_all();
}
