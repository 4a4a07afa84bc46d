//! `xdbridge init` and `xdbridge config`, run as commands: what they write, what they say, and how they exit.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use xdbridge::app::{config::Config, pki::Authority};

use crate::support::{
    bridge::now,
    crl::{crl_of, place},
    folder::TestFolder,
};

const DOMAIN: &str = "direct.harbor.example";

fn xdbridge(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xdbridge"))
        .args(args)
        .output()
        .unwrap()
}

fn init(dir: &Path) -> Output {
    xdbridge(&["init", dir.to_str().unwrap(), "--domain", DOMAIN])
}

fn check(config: &Path) -> Output {
    xdbridge(&["config", "check", "--config", config.to_str().unwrap()])
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// A fresh configuration, and where its file is.
fn initialised(folder: &TestFolder) -> PathBuf {
    let dir = folder.path().join("bridge");
    let output = init(&dir);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    dir.join("xdbridge.toml")
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        }
        files.push(path);
    }
    files
}

#[test]
fn init_writes_a_configuration_in_which_check_finds_no_problem() {
    let folder = TestFolder::new();
    let config = initialised(&folder);
    let output = check(&config);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("no problem found"));
}

#[test]
fn what_init_shows_of_receiving_mail_is_complete_and_comments_say_the_rest() {
    let folder = TestFolder::new();
    let config = initialised(&folder);
    let written = fs::read_to_string(&config).unwrap();
    let taken_up: String = written
        .lines()
        .map(|line| {
            let setting = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
            format!("{}\n", setting.unwrap_or(line))
        })
        .collect();
    fs::write(&config, &taken_up).unwrap();
    let output = check(&config);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let config = Config::read(&config).unwrap();
    assert_eq!(config.endpoint[0].serves, [DOMAIN]);
    let bind = config.smtp.server.unwrap().bind;
    assert!(bind.ip().is_loopback(), "nobody else is let in by default");
    for word in ["sources", "soap.client", "MX", "sealed", "notices"] {
        assert!(written.contains(word), "{word}");
    }
}

// rule: T-31
#[test]
fn init_writes_secrets_for_their_owner_alone_and_none_twice() {
    let folder = TestFolder::new();
    let config = initialised(&folder);
    let dir = config.parent().unwrap();
    for path in files_below(dir) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}", path.display());
    }
    let other = TestFolder::new();
    let other_dir = initialised(&other).parent().unwrap().to_owned();
    for secret in [
        "store.key",
        "ca/ca.key",
        "tls/server.key",
        "tls/client.key",
        "direct/domain.key",
    ] {
        let first = fs::read(dir.join(secret)).unwrap();
        let second = fs::read(other_dir.join(secret)).unwrap();
        assert_ne!(first, second, "{secret} is made on the spot");
    }
}

#[test]
fn init_touches_nothing_in_a_folder_that_is_not_empty() {
    let folder = TestFolder::new();
    fs::write(folder.path().join("kept"), "mine").unwrap();
    let output = init(folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("not empty"));
    assert_eq!(files_below(folder.path()).len(), 1);
}

#[test]
fn init_takes_an_empty_folder_and_refuses_what_is_no_domain() {
    let folder = TestFolder::new();
    let dir = folder.path().to_str().unwrap();
    let output = xdbridge(&["init", dir, "--domain", "localhost"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(files_below(folder.path()).is_empty());
    let output = init(folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn check_tells_every_problem_of_values_and_files_at_once() {
    let folder = TestFolder::new();
    let config = initialised(&folder);
    let dir = config.parent().unwrap();
    let written = fs::read_to_string(&config).unwrap();
    let broken = written
        .replace("bind = \"127.0.0.1:8443\"", "bnid = \"127.0.0.1:8443\"")
        .replace("127.0.0.1:9480", "0.0.0.0:9480")
        .replace("send_as = [", "send_as = [\"direct.elm.example\", ")
        .replace(
            "[[certificates.domains.identities]]",
            "[certificates.domains.demands]\nmin_rsa_bits = 1024\n[[certificates.domains.identities]]",
        );
    fs::write(&config, broken).unwrap();
    // Another certificate's key, a key for everybody, no certificate, and no key.
    fs::copy(dir.join("tls/trial-ehr.key"), dir.join("tls/server.key")).unwrap();
    let exposed = fs::Permissions::from_mode(0o644);
    fs::set_permissions(dir.join("direct/domain.key"), exposed).unwrap();
    fs::write(dir.join("tls/clients.pem"), "nothing").unwrap();
    fs::remove_file(dir.join("store.key")).unwrap();
    let output = check(&config);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    for problem in [
        "soap.server.bnid: unknown field",
        "operator.bind: ",
        "partner[0].send_as[0]: ",
        "certificates.domains[0].demands.min_rsa_bits: ",
        "soap.server.key: ",
        "certificates: ",
        "soap.server.client_cas[0]: ",
        "store.key_files[0]: ",
    ] {
        let found = told.lines().filter(|line| line.contains(problem));
        assert_eq!(found.count(), 1, "{problem} in\n{told}");
    }
    for line in told.lines() {
        assert!(line.starts_with(config.to_str().unwrap()), "{line}");
    }
    assert_eq!(told.lines().count(), 8, "{told}");
}

// rule: REV-2
#[test]
fn check_and_serve_refuse_a_path_of_crls_without_a_sound_one() {
    let folder = TestFolder::new();
    let config = initialised(&folder);
    let dir = config.parent().unwrap();
    let written = fs::read_to_string(&config).unwrap();
    let anchors = "anchors = [\"anchors\"]\n";
    let by_lists = written.replace(anchors, "anchors = [\"anchors\"]\ncrls = [\"crls\"]\n");
    assert_ne!(by_lists, written);
    fs::write(&config, by_lists).unwrap();
    let ca = Authority::root("Other CA", now()).unwrap();
    let stranger = Authority::root("Stranger", now()).unwrap();
    let anchor = ca.certificate.to_pem().unwrap();
    fs::write(dir.join("anchors/other.pem"), anchor).unwrap();
    let lists = dir.join("crls");

    let assert_refused = |words: &str| {
        let output = check(&config);
        assert_eq!(output.status.code(), Some(1));
        let told = text(&output.stdout);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(
            told.contains("certificates: ") && told.contains(words),
            "{told}"
        );
        let serve = xdbridge(&["serve", "--config", config.to_str().unwrap()]);
        assert_eq!(serve.status.code(), Some(1));
    };
    assert_refused("crls: cannot be read");
    fs::create_dir(&lists).unwrap();
    assert_refused("crls: holds no file whose name ends in");
    place(&lists.join("list.pem"), &crl_of(&stranger).pem());
    assert_refused("list.pem: a CRL is signed by none");
    let whole = [crl_of(&ca).pem(), crl_of(&ca).pem()].concat();
    place(&lists.join("list.pem"), &whole[..whole.len() - 40]);
    assert_refused("list.pem: is not a readable CRL: its PEM form breaks off");
    place(&lists.join("list.pem"), &whole);
    let output = check(&config);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn an_unreadable_configuration_is_told_apart_from_a_wrong_one() {
    let folder = TestFolder::new();
    let missing = folder.path().join("missing.toml");
    assert_eq!(check(&missing).status.code(), Some(2));
    let broken = folder.path().join("broken.toml");
    fs::write(&broken, "[soap").unwrap();
    let output = check(&broken);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("line 1"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn print_states_every_setting_and_reads_back() {
    let folder = TestFolder::new();
    let config = initialised(&folder);
    let print = |config: &Path| {
        let path = config.to_str().unwrap();
        let output = xdbridge(&["config", "print", "--config", path]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let printed = print(&config);
    assert!(printed.contains("max_message_bytes = 67108864"));
    fs::write(&config, &printed).unwrap();
    assert_eq!(print(&config), printed);
    assert_eq!(check(&config).status.code(), Some(0));
}

#[test]
fn check_online_tells_an_address_that_is_taken() {
    let folder = TestFolder::new();
    let config = initialised(&folder);
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let written = fs::read_to_string(&config).unwrap();
    let written = written
        .replace("127.0.0.1:8443", &taken)
        .replace("127.0.0.1:9480", "127.0.0.1:0");
    fs::write(&config, written).unwrap();
    assert_eq!(check(&config).status.code(), Some(0));
    let path = config.to_str().unwrap();
    let output = xdbridge(&["config", "check", "--config", path, "--online"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("soap.server.bind: "));
}

#[test]
fn serve_refuses_what_check_refuses_and_names_the_key() {
    let folder = TestFolder::new();
    let config = initialised(&folder);
    let mut settings: toml::Table = fs::read_to_string(&config).unwrap().parse().unwrap();
    let delivery = settings
        .entry("delivery")
        .or_insert_with(|| toml::Table::new().into());
    let delivery = delivery.as_table_mut().unwrap();
    delivery.insert("workers".to_owned(), 0.into());
    fs::write(&config, settings.to_string()).unwrap();

    let checked = check(&config);
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stdout).contains("delivery.workers"));
    let served = xdbridge(&["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(served.status.code(), Some(1));
    assert!(text(&served.stderr).contains("delivery.workers"));
}
