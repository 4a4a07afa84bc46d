//! The gate's own set-up: what `tests/run` says and does about missing packages, seen by running it where `dpkg-query`,
//! `apt-get`, `sudo` and `id` are ours. It never gets further than the search for cargo, which is not there.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::support::folder::TestFolder;

/// Says that postfix and unzip are missing, and everything else is installed.
const DPKG_QUERY: &str = r#"#!/bin/sh
for package; do :; done
case $package in
postfix) exit 1 ;;
unzip) printf 'deinstall ok config-files' ;;
*) printf 'install ok installed' ;;
esac
"#;
const COMPLETE_DPKG_QUERY: &str = "#!/bin/sh\nprintf 'install ok installed'\n";
const APT_LINE: &str = "apt-get install -y --no-install-recommends postfix unzip";

/// A folder that is the whole PATH of the script.
struct Machine {
    root: TestFolder,
}

impl Machine {
    fn new(dpkg_query: &str, uid: &str) -> Self {
        let machine = Self {
            root: TestFolder::new(),
        };
        fs::create_dir(machine.bin()).unwrap();
        for program in ["bash", "sh", "dirname", "env", "tee", "chmod", "rm", "cat"] {
            let real = ["/usr/bin", "/bin"]
                .map(|folder| Path::new(folder).join(program))
                .into_iter()
                .find(|path| path.exists())
                .unwrap();
            symlink(real, machine.bin().join(program)).unwrap();
        }
        machine.program("dpkg-query", dpkg_query);
        machine.program("id", &format!("#!/bin/sh\necho {uid}\n"));
        machine
    }

    /// An apt-get that writes down how it was called and which policy it met, and ends with `code`.
    fn with_apt_get(self, code: u8) -> Self {
        self.program(
            "apt-get",
            &format!(
                "#!/bin/sh\necho \"$DEBIAN_FRONTEND apt-get $*\" >>'{log}'\ncat '{policy}' >>'{log}'\n\
                 [ -x '{policy}' ] && echo executable >>'{log}'\nexit {code}\n",
                log = self.log().display(),
                policy = self.policy().display(),
            ),
        );
        self
    }

    fn with_sudo(self, script: &str) -> Self {
        self.program("sudo", script);
        self
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.bin().join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn bin(&self) -> PathBuf {
        self.root.path().join("bin")
    }

    fn log(&self) -> PathBuf {
        self.root.path().join("log")
    }

    fn policy(&self) -> PathBuf {
        self.root.path().join("policy-rc.d")
    }

    fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(self.bin().join("bash"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run"))
            .args(arguments)
            .env_clear()
            .env("PATH", self.bin())
            .env("HOME", self.root.path())
            .env("XDBRIDGE_POLICY_RC_D", self.policy())
            .output()
            .unwrap()
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A newcomer without Debian learns from README.md which peers the tests want.
#[test]
fn the_readme_names_every_peer_that_the_gate_installs() {
    let script = fs::read_to_string("tests/run").unwrap();
    let (_, list) = script.split_once("packages=(").unwrap();
    let (list, _) = list.split_once(')').unwrap();
    let readme = fs::read_to_string("README.md").unwrap();
    // The compiler and OpenSSL come before the first of them.
    let peers: Vec<&str> = list
        .split_whitespace()
        .skip_while(|package| *package != "postfix")
        .collect();
    assert!(peers.len() > 5, "{peers:?}");
    for peer in peers {
        assert!(readme.contains(&format!("`{peer}`")), "README.md: {peer}");
    }
}

#[test]
fn an_unknown_flag_ends_the_gate_with_its_usage() {
    let output = Machine::new(COMPLETE_DPKG_QUERY, "0").run(&["--fast"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(errors(&output), "usage: tests/run [--no-install]\n");
}

#[test]
fn without_leave_to_install_the_apt_line_is_printed_and_nothing_is_done() {
    let machine = Machine::new(DPKG_QUERY, "0").with_apt_get(0);
    let output = machine.run(&["--no-install"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        errors(&output),
        format!("missing Debian packages: postfix unzip; to be run as root:\n{APT_LINE}\n")
    );
    assert_eq!(machine.logged(), "");
}

#[test]
fn without_the_right_to_install_the_apt_line_is_printed() {
    let alone = Machine::new(DPKG_QUERY, "1000").with_apt_get(0);
    let asks_for_a_password = Machine::new(DPKG_QUERY, "1000")
        .with_apt_get(0)
        .with_sudo("#!/bin/sh\nexit 1\n");
    for machine in [alone, asks_for_a_password] {
        let output = machine.run(&[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(errors(&output).ends_with(&format!("{APT_LINE}\n")));
        assert_eq!(machine.logged(), "");
    }
}

#[test]
fn missing_packages_are_installed_while_services_are_kept_from_starting() {
    let as_root = Machine::new(DPKG_QUERY, "0").with_apt_get(0);
    let by_sudo = Machine::new(DPKG_QUERY, "1000").with_apt_get(0).with_sudo(
        "#!/bin/sh\n[ \"$1\" = -n ] || exit 1\nshift\n[ \"$1\" = true ] || exec \"$@\"\n",
    );
    for machine in [as_root, by_sudo] {
        let output = machine.run(&[]);
        let policy = "#!/bin/sh\nexit 101\nexecutable\n";
        assert_eq!(
            machine.logged(),
            format!(
                "noninteractive apt-get -o DPkg::Lock::Timeout=300 update -q\n{policy}\
                 noninteractive {APT_LINE} -o DPkg::Lock::Timeout=300\n{policy}"
            )
        );
        assert!(!machine.policy().exists(), "the policy stays behind");
        let printed = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(
            printed,
            "missing Debian packages, being installed: postfix unzip\n"
        );
        assert!(errors(&output).starts_with("cargo is not on the PATH"));
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn the_policy_goes_again_where_apt_fails_and_one_of_the_machine_stays() {
    let failing = Machine::new(DPKG_QUERY, "0").with_apt_get(100);
    assert_eq!(failing.run(&[]).status.code(), Some(100));
    assert!(!failing.policy().exists());

    let with_policy = Machine::new(DPKG_QUERY, "0").with_apt_get(0);
    fs::write(with_policy.policy(), "of the machine").unwrap();
    with_policy.run(&[]);
    assert_eq!(
        fs::read_to_string(with_policy.policy()).unwrap(),
        "of the machine"
    );
}

#[test]
fn a_complete_machine_needs_no_leave_and_the_server_calls_the_same_gate() {
    let output = Machine::new(COMPLETE_DPKG_QUERY, "1000").run(&["--no-install"]);
    assert!(errors(&output).starts_with("cargo is not on the PATH"));
    let ci = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run")).unwrap();
    let commands: Vec<&str> = ci.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(commands, [r#"exec "$(dirname "$0")/../tests/run""#]);
}
