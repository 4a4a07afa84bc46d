//! BIND, as Debian has it, with one zone: run by an unprivileged user on a high port of loopback, its files in a folder
//! of its own, gone with the test.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use super::{folder::TestFolder, unprivileged::unprivileged};

/// Longest wait for the server to start: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(120);
/// The zone that it serves.
pub(crate) const ZONE: &str = "hisp.example";

/// A running server. Dropped, it is ended and its files are removed.
pub(crate) struct Bind {
    address: SocketAddr,
    server: Child,
    folder: TestFolder,
}

impl Bind {
    /// One that serves [`ZONE`] with `records`, lines of a zone file.
    pub(crate) fn serving(records: &str) -> Self {
        let folder = TestFolder::new();
        let root = folder.path();
        let zone = format!(
            "$ORIGIN {ZONE}.\n$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\n\
             ns IN A 127.0.0.1\n{records}"
        );
        fs::write(root.join("zone"), zone).unwrap();
        // A port that was free may be taken before the server has it.
        for _ in 0..10 {
            let address = free_address();
            if let Some(server) = start(root, address) {
                return Self {
                    address,
                    server,
                    folder,
                };
            }
        }
        panic!("BIND does not start: {}", log(root));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        log(self.folder.path())
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The server, once it serves its zone; `None` if its port is taken.
fn start(root: &Path, address: SocketAddr) -> Option<Child> {
    let port = address.port();
    let settings = format!(
        "options {{\n\
         \tdirectory \"{0}\";\n\
         \tlisten-on port {port} {{ 127.0.0.1; }};\n\
         \tlisten-on-v6 {{ none; }};\n\
         \tpid-file none;\n\
         \tsession-keyfile none;\n\
         \trecursion no;\n\
         \tnotify no;\n\
         \tdnssec-validation no;\n\
         \tallow-transfer {{ none; }};\n\
         }};\n\
         controls {{ }};\n\
         zone \"{ZONE}\" {{ type primary; file \"zone\"; }};\n",
        root.display()
    );
    fs::write(root.join("named.conf"), settings).unwrap();
    let program = ["/usr/sbin/named", "/usr/bin/named"];
    let program = program
        .map(Path::new)
        .into_iter()
        .find(|path| path.is_file());
    let program = program.expect("Debian's package bind9 is needed");
    let mut server = unprivileged(program, root, &[])
        .args(["-g", "-n", "1", "-c"])
        .arg(root.join("named.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(root.join("log")).unwrap())
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        let log = log(root);
        let is_listening = || TcpStream::connect(address).is_ok();
        if log.contains("all zones loaded") && log.contains("running") && is_listening() {
            assert!(log.contains(&format!("zone {ZONE}/IN: loaded")), "{log}");
            return Some(server);
        }
        if server.try_wait().unwrap().is_some() || log.contains("address in use") {
            assert!(log.contains("address in use"), "{log}");
            let _ = server.kill();
            let _ = server.wait();
            return None;
        }
        assert!(Instant::now() < end, "{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn log(root: &Path) -> String {
    fs::read_to_string(root.join("log")).unwrap_or_default()
}

/// A port that both protocols have free now.
fn free_address() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A CERT record of type PKIX, as RFC 4398 §2.2 has it in zone files.
pub(crate) fn cert_line(owner: &str, der: &[u8]) -> String {
    let base64 = base64_simd::STANDARD.encode_to_string(der);
    format!("{owner} IN CERT PKIX 0 0 {base64}\n")
}

/// A CERT record of any RDATA (RFC 3597 §5).
pub(crate) fn raw_line(owner: &str, rdata: &[u8]) -> String {
    let digits: String = rdata.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{owner} IN TYPE37 \\# {} {digits}\n", rdata.len())
}
