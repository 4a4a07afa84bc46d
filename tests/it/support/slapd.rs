//! OpenLDAP's slapd, as Debian has it, with one directory: run by an unprivileged user on a high port of loopback, its
//! files in a folder of its own, gone with the test.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{folder::TestFolder, unprivileged::unprivileged};

/// Longest wait for the server to start: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(120);
/// What it serves.
pub(crate) const BASE: &str = "dc=hisp,dc=example";
/// Who may write, and by which password.
const WRITER: &str = "cn=writer,dc=hisp,dc=example";
const PASSWORD: &str = "only-in-tests";

/// A running server. Dropped, it is ended and its files are removed.
pub(crate) struct Slapd {
    address: SocketAddr,
    server: Child,
    _folder: TestFolder,
}

impl Slapd {
    /// One with an entry for [`BASE`] and whatever `records` say, in LDIF.
    pub(crate) fn serving(records: &str) -> Self {
        let folder = TestFolder::new();
        let root = folder.path();
        fs::create_dir(root.join("data")).unwrap();
        let settings = format!(
            "include /etc/ldap/schema/core.schema\n\
             include /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\n\
             modulepath /usr/lib/ldap\n\
             moduleload back_mdb\n\
             database mdb\n\
             suffix \"{BASE}\"\n\
             rootdn \"{WRITER}\"\n\
             rootpw {PASSWORD}\n\
             directory {}\n\
             maxsize 67108864\n\
             dbnosync\n",
            root.join("data").display()
        );
        fs::write(root.join("slapd.conf"), settings).unwrap();
        // A port that was free may be taken before the server has it.
        for _ in 0..10 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            if let Some(server) = start(root, address) {
                let server = Self {
                    address,
                    server,
                    _folder: folder,
                };
                server.add(&format!(
                    "dn: {BASE}\nobjectClass: domain\ndc: hisp\n\n{records}"
                ));
                return server;
            }
        }
        panic!("slapd does not start: {}", log(root));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds `records`, in LDIF, as an operator does.
    pub(crate) fn add(&self, records: &str) {
        let folder = TestFolder::new();
        let file = folder.path().join("records.ldif");
        fs::write(&file, records).unwrap();
        let output = Command::new("ldapadd")
            .args(["-x", "-D", WRITER, "-w", PASSWORD, "-H"])
            .arg(format!("ldap://{}", self.address))
            .arg("-f")
            .arg(&file)
            .output()
            .expect("Debian's package ldap-utils is needed");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}\n{records}");
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The server, once it answers; `None` if its port is taken.
fn start(root: &Path, address: SocketAddr) -> Option<Child> {
    let program = "/usr/sbin/slapd";
    assert!(
        Path::new(program).is_file(),
        "Debian's package slapd is needed"
    );
    let mut server = unprivileged(Path::new(program), root, &[&root.join("data")])
        // In the foreground, and quiet.
        .args(["-d", "0", "-h", &format!("ldap://{address}/"), "-f"])
        .arg(root.join("slapd.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(root.join("log")).unwrap())
        .spawn()
        .unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        if server.try_wait().unwrap().is_some() {
            return None;
        }
        // Whoever else has the port, it is not this one that lives on.
        if TcpStream::connect(address).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
            if server.try_wait().unwrap().is_none() {
                return Some(server);
            }
            return None;
        }
        assert!(Instant::now() < end, "{}", log(root));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn log(root: &Path) -> String {
    fs::read_to_string(root.join("log")).unwrap_or_default()
}

/// An entry for `mail` with values of `attribute`, named by it.
pub(crate) fn entry(mail: &str, attribute: &str, values: &[Vec<u8>]) -> String {
    let mut record = format!(
        "dn: cn={mail},{BASE}\nobjectClass: inetOrgPerson\ncn: {mail}\nsn: {mail}\nmail: {mail}\n"
    );
    for value in values {
        let base64 = base64_simd::STANDARD.encode_to_string(value);
        record.push_str(&format!("{attribute}:: {base64}\n"));
    }
    record + "\n"
}
