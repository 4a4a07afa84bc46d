//! A real Postfix on loopback: configuration, queue and mailboxes of its own in a folder. It must be started as root,
//! so another user needs sudo without a password.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use xdbridge::formats::smime::SigningIdentity;

use super::{bridge::write_identity, folder::TestFolder, wait_until};

/// A recipient that it refuses with 550.
pub(crate) const REFUSED: &str = "refused@direct.harbor.example";

const SERVICES: &str = "\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
virtual unix - n n - - virtual
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
";

/// A running Postfix. Dropped, it stops.
pub(crate) struct Postfix {
    address: SocketAddr,
    root: PathBuf,
    _folder: TestFolder,
}

impl Postfix {
    /// One that offers STARTTLS with `identity` and has a mailbox for each of `mailboxes`.
    pub(crate) fn start(identity: &SigningIdentity, mailboxes: &[&str]) -> Self {
        Self::with(identity, mailboxes, "")
    }

    /// One that takes mail for `domain` from everybody, in clear too, and relays it to `to` over TLS.
    pub(crate) fn relaying(identity: &SigningIdentity, domain: &str, to: SocketAddr) -> Self {
        let (ip, port) = (to.ip(), to.port());
        let settings = format!(
            "virtual_mailbox_domains =
relay_domains = {domain}
transport_maps = inline:{{ {{ {domain} = smtp:[{ip}]:{port} }} }}
smtp_tls_security_level = encrypt
smtpd_tls_security_level = may
smtpd_recipient_restrictions = reject_unauth_destination
"
        );
        Self::with(identity, &[], &settings)
    }

    /// A smarthost: it takes mail for each of these domains from everybody, over TLS alone, and hands it to the host
    /// beside it.
    pub(crate) fn smarthost(identity: &SigningIdentity, routes: &[(&str, SocketAddr)]) -> Self {
        let domains: Vec<&str> = routes.iter().map(|(domain, _)| *domain).collect();
        let transports: Vec<String> = routes
            .iter()
            .map(|(domain, to)| format!("{{ {domain} = smtp:[{}]:{} }}", to.ip(), to.port()))
            .collect();
        let settings = format!(
            "virtual_mailbox_domains =
relay_domains = {}
transport_maps = inline:{{ {} }}
smtp_tls_security_level = encrypt
smtpd_recipient_restrictions = reject_unauth_destination
",
            domains.join(", "),
            transports.join(", ")
        );
        Self::with(identity, &[], &settings)
    }

    /// `settings` override those that stand in `main_cf`.
    fn with(identity: &SigningIdentity, mailboxes: &[&str], settings: &str) -> Self {
        let folder = TestFolder::new();
        let root = folder.path().to_owned();
        for name in ["etc", "queue", "data", "log", "mail"] {
            fs::create_dir(root.join(name)).unwrap();
        }
        // Its delivery agent runs as nobody, or as the user that must read the mail.
        fs::set_permissions(root.join("mail"), fs::Permissions::from_mode(0o777)).unwrap();
        let user = fs::metadata(&root).unwrap().uid();
        let owner = if user == 0 { 65_534 } else { user };
        let tls = write_identity(&root, "mx", identity);
        let address = free_address();
        let main = main_cf(&root, &tls.certificate, &tls.key, mailboxes, owner) + settings;
        fs::write(root.join("etc/main.cf"), main).unwrap();
        let master = format!("{address} inet n - n - - smtpd\n{SERVICES}");
        fs::write(root.join("etc/master.cf"), master).unwrap();
        as_root("chown", &["postfix", path_text(&root.join("data"))]);
        let postfix = Self {
            address,
            root,
            _folder: folder,
        };
        postfix.control("start");
        // Its log is written by a process of its own. Were it spoken to before that one reads, its processes could fill
        // the log's queue and wait for each other for ever.
        wait_until("Postfix logs", || postfix.log().contains("daemon started"));
        wait_until("Postfix listens", || {
            std::net::TcpStream::connect(address).is_ok()
        });
        postfix
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every mail in the mailbox of `address`, as it was delivered.
    pub(crate) fn mailbox(&self, address: &str) -> Vec<Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.root.join("mail").join(address).join("new")) else {
            return Vec::new();
        };
        entries
            .map(|entry| fs::read(entry.unwrap().path()).unwrap())
            .collect()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.root.join("log/mail.log")).unwrap_or_default()
    }

    fn control(&self, what: &str) {
        as_root("postfix", &["-c", path_text(&self.root.join("etc")), what]);
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        // One that hangs is not waited for: the test must end.
        let etc = self.root.join("etc");
        as_root(
            "timeout",
            &[
                "--preserve-status",
                "30",
                "postfix",
                "-c",
                path_text(&etc),
                "stop",
            ],
        );
        // Its queue belongs to it: another user than root could not remove the folder.
        as_root("rm", &["-rf", path_text(&self.root)]);
    }
}

fn main_cf(root: &Path, certificate: &Path, key: &Path, mailboxes: &[&str], owner: u32) -> String {
    let root = path_text(root);
    let map: Vec<String> = mailboxes
        .iter()
        .chain([&REFUSED])
        .map(|address| format!("{{ {address} = {address}/ }}"))
        .collect();
    let map = map.join(", ");
    let (certificate, key) = (path_text(certificate), path_text(key));
    format!(
        "compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/log/mail.log
maillog_file_prefixes = {root}
myhostname = mx.harbor.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
message_size_limit = 67108864
mailbox_size_limit = 0
virtual_mailbox_limit = 0
virtual_mailbox_domains = direct.harbor.example, direct.quay.example
virtual_mailbox_base = {root}/mail
virtual_mailbox_maps = inline:{{ {map} }}
virtual_uid_maps = static:{owner}
virtual_gid_maps = static:{owner}
virtual_alias_maps =
alias_maps =
alias_database =
local_recipient_maps =
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_security_level = encrypt
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{ {REFUSED} = 550 5.7.1 not here }} }}, reject_unauth_destination
"
    )
}

/// An address where nobody listens now.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("test folders have plain names")
}

/// Runs a command that must succeed, as root.
fn as_root(command: &str, arguments: &[&str]) {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut run = if is_root {
        Command::new(command)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", command]);
        sudo
    };
    let output = run.args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{command} cannot be run: {error}"));
    assert!(
        output.status.success(),
        "{command} {arguments:?} failed: {output:?}"
    );
}
