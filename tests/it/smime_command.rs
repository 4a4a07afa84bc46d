//! `xdbridge smime seal|open`: files in, files out, and the exit codes that scripts rely on.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use jiff::Timestamp;
use xdbridge::app::pki::{Authority, Profile};

use crate::support::folder::TestFolder;

const AT: &str = "2026-11-22T12:00:00Z";
const MESSAGE: &str = "From: rui@direct.harbor.example\nTo: ngozi@direct.quay.example\n\
    Date: Sun, 22 Nov 2026 11:59:00 +0000\nMessage-ID: <1@direct.harbor.example>\nMIME-Version: 1.0\n\
    Subject: results of Ada Quill\n\nThe results are attached.\n";

struct Desk {
    folder: TestFolder,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            folder: TestFolder::new(),
        };
        let now: Timestamp = AT.parse().unwrap();
        let root = Authority::root("Harbor Root", now).unwrap();
        desk.put("root.pem", &root.certificate.to_pem().unwrap());
        for name in ["rui@direct.harbor.example", "ngozi@direct.quay.example"] {
            let identity = root
                .issue(&Profile::address(&name.parse().unwrap(), now))
                .unwrap();
            let short = name.split('@').next().unwrap();
            desk.put(
                &format!("{short}.pem"),
                &identity.certificate.to_pem().unwrap(),
            );
            desk.put(
                &format!("{short}.key"),
                &identity.key.private_key_to_pem_pkcs8().unwrap(),
            );
        }
        desk.put("message.eml", MESSAGE.as_bytes());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, octets: &[u8]) {
        fs::write(self.path(name), octets).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xdbridge"))
            .args(["smime"])
            .args(arguments.split(' '))
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }
}

const SEAL: &str = "seal message.eml --signer rui.pem --key rui.key --recipient ngozi.pem";
const OPEN: &str = "open sealed.eml --certificate ngozi.pem --key ngozi.key";

// rule: WR-1, WR-3, WR-4, T-2
#[test]
fn a_message_is_sealed_and_opened_again_on_the_command_line() {
    let desk = Desk::new();
    let sealed = desk.run(&format!("{SEAL} --at {AT} -o sealed.eml"));
    assert!(
        sealed.status.success(),
        "{}",
        String::from_utf8_lossy(&sealed.stderr)
    );
    let mail = fs::read_to_string(desk.path("sealed.eml")).unwrap();
    assert!(mail.contains("Subject: Encrypted message\r\n") && !mail.contains("Quill"));
    let opened = desk.run(&format!("{OPEN} --anchor root.pem --at {AT}"));
    assert!(
        opened.status.success(),
        "{}",
        String::from_utf8_lossy(&opened.stderr)
    );
    let wrapped = format!(
        "Content-Type: message/rfc822\r\n\r\n{}",
        MESSAGE.replace('\n', "\r\n")
    );
    assert_eq!(String::from_utf8(opened.stdout).unwrap(), wrapped);
}

// rule: TA-2
#[test]
fn exit_codes_tell_refused_from_unreadable() {
    let desk = Desk::new();
    assert!(
        desk.run(&format!("{SEAL} --at {AT} -o sealed.eml"))
            .status
            .success()
    );
    let code = |arguments: &str| {
        let output = desk.run(arguments);
        if !output.status.success() {
            assert!(
                output.stdout.is_empty(),
                "nothing unverified is shown: {arguments}"
            );
        }
        output.status.code()
    };
    assert_eq!(code(&format!("{OPEN} --at {AT}")), Some(1), "no anchor");
    assert_eq!(
        code(&format!(
            "{OPEN} --anchor root.pem --at 2036-01-01T00:00:00Z"
        )),
        Some(1),
        "expired"
    );
    let stranger = "open sealed.eml --certificate rui.pem --key rui.key --anchor root.pem";
    assert_eq!(code(stranger), Some(1), "not for this key");
    assert_eq!(
        code(&OPEN.replace("sealed", "message")),
        Some(2),
        "plain mail"
    );
    assert_eq!(code(&OPEN.replace("sealed", "absent")), Some(2), "no file");
    assert_eq!(
        code(&SEAL.replace("rui.key", "ngozi.key")),
        Some(2),
        "another's key"
    );
    assert_eq!(code("seal message.eml"), Some(2), "bad usage");
}
