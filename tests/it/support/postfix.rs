//! A real Postfix (Debian package `postfix`), with its own configuration, queue and data under a folder of the test:
//! STARTTLS with a certificate of its own CA, mailboxes as Maildirs. Starting it needs root, as Postfix does.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::{folder::TestFolder, tls::Identity};

/// Longest wait for mail: only a test that fails gets there.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a Maildir is looked at: Postfix does not tell when it has delivered.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The largest mail that it takes, in octets.
const MESSAGE_SIZE_LIMIT: u64 = 100 * 1024 * 1024;
/// Its `nobody`, who owns the mailboxes.
const NOBODY: u32 = 65_534;

/// A running Postfix. It is stopped when it is dropped.
pub(crate) struct Postfix {
    folder: TestFolder,
    host: String,
    domain: String,
    port: u16,
}

impl Postfix {
    /// Starts one that calls itself `mx.<domain>` and has a mailbox for each of `mailboxes`, the parts before the @;
    /// RCPT to any other address of the domain is refused with 550 5.1.1.
    pub(crate) fn start(domain: &str, mailboxes: &[&str]) -> Self {
        let postfix = Self {
            folder: TestFolder::new(),
            host: format!("mx.{domain}"),
            domain: domain.to_owned(),
            port: free_port(),
        };
        postfix.write_folders();
        postfix.write_settings(mailboxes);
        let started = postfix.command("start");
        assert!(
            started.status.success(),
            "Postfix needs root and the Debian package postfix: {}{}",
            String::from_utf8_lossy(&started.stderr),
            postfix.log(),
        );
        postfix
    }

    /// The host name that its certificate bears.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The loopback port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The CA of its certificate, as a PEM file.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.path("etc/ca.pem")
    }

    /// The mails in a mailbox, as they lie there: with LF line ends and the header lines that Postfix added.
    pub(crate) fn messages(&self, mailbox: &str) -> Vec<Vec<u8>> {
        // A mail moves from `tmp` to `new` once it is whole.
        let Ok(entries) = fs::read_dir(self.path("mail").join(mailbox).join("new")) else {
            return Vec::new();
        };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// Waits until `count` mails lie in a mailbox, and gives them.
    pub(crate) async fn wait_for(&self, mailbox: &str, count: usize) -> Vec<Vec<u8>> {
        let end = Instant::now() + PATIENCE;
        loop {
            let messages = self.messages(mailbox);
            if messages.len() >= count {
                return messages;
            }
            let so_far = messages.len();
            assert!(
                Instant::now() < end,
                "{so_far} of {count} mails came to {mailbox}: {}",
                self.log()
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What Postfix logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log/postfix.log")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, verb: &str) -> std::process::Output {
        let mut command = Command::new("/usr/sbin/postfix");
        command.arg("-c").arg(self.path("etc")).arg(verb);
        command
            .output()
            .expect("the Debian package postfix is installed")
    }

    fn write_folders(&self) {
        for name in ["etc", "queue", "data", "mail", "log"] {
            fs::create_dir(self.path(name)).unwrap();
        }
        let needs_root = "Postfix can be started by root only";
        chown(self.path("data"), Some(user_id("postfix")), None).expect(needs_root);
        chown(self.path("mail"), Some(NOBODY), Some(NOBODY)).expect(needs_root);
    }

    fn write_settings(&self, mailboxes: &[&str]) {
        let etc = self.path("etc");
        let ca = Identity::ca("Postfix Test CA");
        let certificate = ca.issue(&self.host);
        let chain = [certificate.key_pem(), certificate.certificate_pem()].concat();
        fs::write(etc.join("chain.pem"), chain).unwrap();
        fs::write(etc.join("ca.pem"), ca.certificate_pem()).unwrap();
        let domain = &self.domain;
        let lines = mailboxes
            .iter()
            .map(|name| format!("{name}@{domain} {name}/\n"));
        fs::write(etc.join("mailboxes"), lines.collect::<String>()).unwrap();
        fs::write(etc.join("main.cf"), self.main_cf(self.folder.path())).unwrap();
        fs::write(etc.join("master.cf"), master_cf(self.port)).unwrap();
    }

    fn main_cf(&self, folder: &Path) -> String {
        let (folder, host, domain) = (folder.display(), &self.host, &self.domain);
        format!(
            "compatibility_level = 3.6\n\
             queue_directory = {folder}/queue\n\
             data_directory = {folder}/data\n\
             command_directory = /usr/sbin\n\
             daemon_directory = /usr/lib/postfix/sbin\n\
             mail_owner = postfix\n\
             setgid_group = postdrop\n\
             maillog_file = {folder}/log/postfix.log\n\
             maillog_file_prefixes = {folder}/log\n\
             myhostname = {host}\n\
             mydestination =\n\
             mynetworks =\n\
             inet_interfaces = loopback-only\n\
             inet_protocols = ipv4\n\
             local_header_rewrite_clients =\n\
             disable_dns_lookups = yes\n\
             smtpd_peername_lookup = no\n\
             alias_maps =\n\
             virtual_mailbox_domains = {domain}\n\
             virtual_mailbox_base = {folder}/mail\n\
             virtual_mailbox_maps = texthash:{folder}/etc/mailboxes\n\
             virtual_uid_maps = static:{NOBODY}\n\
             virtual_gid_maps = static:{NOBODY}\n\
             virtual_mailbox_limit = 0\n\
             message_size_limit = {MESSAGE_SIZE_LIMIT}\n\
             smtpd_relay_restrictions = reject_unauth_destination\n\
             smtpd_tls_security_level = may\n\
             smtpd_tls_chain_files = {folder}/etc/chain.pem\n\
             smtpd_tls_received_header = yes\n"
        )
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.command("stop");
    }
}

/// The services that receiving and delivering take; none in a chroot.
fn master_cf(port: u16) -> String {
    format!(
        "127.0.0.1:{port} inet n - n - - smtpd\n\
         cleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         rewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\n\
         proxymap unix - - n - - proxymap\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         virtual unix - n n - - virtual\n\
         anvil unix - - n - 1 anvil\n\
         postlog unix-dgram n - n - 1 postlogd\n"
    )
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn user_id(name: &str) -> u32 {
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let mut ids = accounts.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let is_wanted = fields.next() == Some(name);
        is_wanted.then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    ids.next()
        .expect("the Debian package postfix makes its user")
}
