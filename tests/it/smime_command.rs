//! `xdbridge smime seal` and `open` as scripts call them, against each other and against `openssl cms`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use xdbridge::{
    adapters::clock::SystemClock,
    app::pki::{Authority, Profile},
    flows::ports::Clock,
    formats::smime::SigningIdentity,
};

use crate::support::{folder::TestFolder, keys, saved::root};

/// A folder with the keys of a sender's domain and of a recipient, and two anchors.
struct Ground {
    folder: TestFolder,
}

impl Ground {
    fn new() -> Self {
        let ground = Self {
            folder: TestFolder::new(),
        };
        let now = SystemClock.now();
        let authority = Authority::root("Trial CA", now).unwrap();
        let elm = Profile::domain(&"direct.elm.example".parse().unwrap(), now);
        let rui = "rui.silva@direct.harbor.example".parse().unwrap();
        ground.keep("elm", &keys::issue(&authority, &elm));
        let rui = Profile::address(&rui, now);
        ground.keep("rui", &keys::issue(&authority, &rui));
        let other = Authority::root("Other CA", now).unwrap();
        for (name, authority) in [("ca", authority), ("other", other)] {
            let pem = authority.certificate.to_pem().unwrap();
            fs::write(ground.path(&format!("{name}.pem")), pem).unwrap();
        }
        ground
    }

    fn keep(&self, name: &str, identity: &SigningIdentity) {
        let pem = identity.certificate.to_pem().unwrap();
        fs::write(self.path(&format!("{name}.pem")), pem).unwrap();
        let key = identity.key.private_key_to_pem_pkcs8().unwrap();
        let path = self.path(&format!("{name}.key"));
        fs::write(&path, key).unwrap();
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(path, own).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, program: &str, line: &str) -> Output {
        Command::new(program)
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .unwrap_or_else(|error| panic!("{program} is needed, tests/run installs it: {error}"))
    }

    /// `xdbridge smime`: exit code, what it printed, and what it complained of.
    fn smime(&self, line: &str) -> (Option<i32>, String, String) {
        let line = format!("smime {line}");
        let output = self.run(env!("CARGO_BIN_EXE_xdbridge"), &line);
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn openssl(&self, line: &str) {
        let output = self.run("openssl", line);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {line}: {stderr}");
    }

    /// A plain mail from the sender to the recipient.
    fn letter(&self, name: &str) -> PathBuf {
        let letter = "From: ngozi.okafor@direct.elm.example\nTo: rui.silva@direct.harbor.example\n\
                      Date: Sun, 22 Nov 2026 07:59:00 +0000\nMessage-ID: <m1@direct.elm.example>\n\
                      MIME-Version: 1.0\nContent-Type: text/plain\n\nAs agreed.\n";
        let path = self.path(name);
        fs::write(&path, letter).unwrap();
        path
    }
}

const SEAL: &str = "--certificate elm.pem --key elm.key --recipient rui.pem -o sealed.eml";
const OPEN: &str = "open sealed.eml --certificate rui.pem --key rui.key";

// rule: SND-4, SND-5, WR-1
#[test]
fn what_is_sealed_is_opened_by_its_recipient_and_trusted_by_its_anchor_alone() {
    let ground = Ground::new();
    ground.letter("letter.eml");
    let (code, _, stderr) = ground.smime(&format!("seal letter.eml {SEAL}"));
    assert_eq!(code, Some(0), "{stderr}");
    let sealed = fs::read_to_string(ground.path("sealed.eml")).unwrap();
    assert!(sealed.contains("application/pkcs7-mime") && !sealed.contains("As agreed"));

    let (code, told, stderr) = ground.smime(&format!("{OPEN} --anchor ca.pem -o inside.eml"));
    assert_eq!(code, Some(0), "{told}{stderr}");
    assert!(
        told.starts_with(
            "signed, and trusted for ngozi.okafor@direct.elm.example by a certificate of the domain\nmail (minimal)\n"
        ),
        "{told}"
    );
    let inside = fs::read_to_string(ground.path("inside.eml")).unwrap();
    assert!(inside.ends_with("\r\n\r\nAs agreed.\r\n"), "{inside}");

    let (code, told, _) = ground.smime(&format!("{OPEN} --anchor other.pem"));
    assert_eq!(code, Some(1));
    assert!(told.starts_with("signed, and not trusted for "), "{told}");
    // In two years the certificates are over.
    let (code, told, _) =
        ground.smime(&format!("{OPEN} --anchor ca.pem --at 2099-01-01T00:00:00Z"));
    assert_eq!(code, Some(1));
    assert!(told.contains("not trusted"), "{told}");
    // By a key that it is not sealed for, nothing is opened.
    let other = "open sealed.eml --certificate elm.pem --key elm.key --anchor ca.pem";
    let (code, told, stderr) = ground.smime(other);
    assert_eq!((code, &*told), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("SM-37"), "{stderr}");
}

// rule: SM-1, SM-30
#[test]
fn openssl_opens_what_is_sealed_and_what_it_seals_is_opened() {
    let ground = Ground::new();
    ground.letter("letter.eml");
    ground.smime(&format!("seal letter.eml {SEAL}"));
    ground.openssl("cms -decrypt -in sealed.eml -recip rui.pem -inkey rui.key -out signed.eml");
    ground.openssl("cms -verify -in signed.eml -CAfile ca.pem -purpose any -out entity.txt");
    let entity = fs::read_to_string(ground.path("entity.txt")).unwrap();
    assert!(
        entity.starts_with("Content-Type: message/rfc822"),
        "{entity}"
    );

    let letter = fs::read_to_string(ground.path("letter.eml")).unwrap();
    let wrapped = format!("Content-Type: message/rfc822\n\n{letter}").replace('\n', "\r\n");
    fs::write(ground.path("wrapped.txt"), wrapped).unwrap();
    ground.openssl("cms -sign -in wrapped.txt -signer elm.pem -inkey elm.key -out signed.eml");
    ground.openssl(
        "cms -encrypt -aes256 -in signed.eml -from ngozi.okafor@direct.elm.example -out sealed.eml rui.pem",
    );
    let (code, told, stderr) = ground.smime(&format!("{OPEN} --anchor ca.pem --json"));
    assert_eq!(code, Some(0), "{told}{stderr}");
    let document: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(document["kind"], "mail");
    assert_eq!(document["from"], "ngozi.okafor@direct.elm.example");
}

#[test]
fn a_sealed_notice_is_told_as_what_it_is() {
    let ground = Ground::new();
    for (file, kind) in [("mdn-dispatched", "mdn"), ("dsn-failed", "dsn")] {
        // The notices of the fixtures, as if the sender's domain had written them.
        let notice = root().join(format!("fixtures/mail/{file}.eml"));
        let notice = fs::read_to_string(notice).unwrap();
        let (_, rest) = notice.split_once('\n').unwrap();
        let notice = format!("From: care.team@direct.elm.example\n{rest}");
        fs::write(ground.path("notice.eml"), notice).unwrap();
        let (code, _, stderr) = ground.smime(&format!("seal notice.eml {SEAL}"));
        assert_eq!(code, Some(0), "{stderr}");
        let (code, told, stderr) = ground.smime(&format!("{OPEN} --anchor ca.pem --json"));
        assert_eq!(code, Some(0), "{told}{stderr}");
        let document: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(document["kind"], kind);
        let about = &document["notification"]["relates_to"];
        assert_eq!(about, "m7@direct.elm.example");
    }
}

#[test]
fn keys_that_others_may_read_and_what_is_no_sealed_mail_are_refused() {
    let ground = Ground::new();
    let letter = ground.letter("sealed.eml");
    let (code, told, stderr) = ground.smime(&format!("{OPEN} --anchor ca.pem"));
    assert_eq!((code, &*told), (Some(1), ""));
    assert!(stderr.contains("RCV-2"), "{stderr}");
    let (code, _, _) =
        ground.smime("open missing --certificate rui.pem --key rui.key --anchor ca.pem");
    assert_eq!(code, Some(2));
    let (code, _, stderr) = ground.smime(OPEN);
    assert_eq!(
        code,
        Some(2),
        "without an anchor nobody could be trusted: {stderr}"
    );
    // The wrong key, then one for everybody.
    fs::copy(ground.path("elm.key"), ground.path("rui.key")).unwrap();
    let (code, _, stderr) = ground.smime(&format!("{OPEN} --anchor ca.pem"));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("is not the key of"), "{stderr}");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(ground.path("rui.key"), everybody).unwrap();
    let (code, _, stderr) = ground.smime(&format!("{OPEN} --anchor ca.pem"));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("KEY-1"), "{stderr}");
    assert!(Path::new(&letter).exists());
}
