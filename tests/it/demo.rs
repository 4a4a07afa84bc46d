//! `xdbridge demo --once`, run as a command: a whole crossing between two bridges and their counterparts, and its exit
//! code.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::support::folder::TestFolder;

fn demo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xdbridge"))
        .arg("demo")
        .args(args)
        .output()
        .unwrap()
}

fn in_folder(dir: &Path) -> Output {
    demo(&["--once", "--dir", dir.to_str().unwrap()])
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

// rule: XDR-89, MDN-12, MDN-27, RCV-8, COR-4, STS-1, STS-2
#[test]
fn the_demo_exits_0_after_every_step_was_told_and_every_check_held() {
    let folder = TestFolder::new();
    let dir = folder.path().join("demo");
    let output = in_folder(&dir);
    let told = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{told}{}",
        text(&output.stderr)
    );
    assert_eq!(text(&output.stderr), "");

    // Each step has the time since the start, which never goes back, and its own duration.
    let mut steps = Vec::new();
    let mut last = 0.0;
    for line in told.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [at, took, name, ..] = words.as_slice() else {
            continue;
        };
        let (Ok(at), Ok(took)) = (at.parse::<f64>(), took.parse::<f64>()) else {
            continue;
        };
        assert!(at >= last && took <= at, "{line}");
        last = at;
        steps.push(*name);
    }
    let wanted = "keys DNS mailbox EHRs bridge bridge EHR mailbox opened unpacked compared EHR compared shown MDNs EHR \
                  bridge bridge";
    assert_eq!(steps.join(" "), wanted);
    for (check, times) in [
        ("RegistryResponse       Success", 1),
        ("document 1 octets      all ", 2),
        ("document 2 octets      all ", 2),
        ("document 1 SHA-1       ", 2),
        ("metadata               equal as exclusive canonical XML", 2),
        ("client                 xdr.harbor.example", 1),
        (
            "MDN processed          of rui.silva@direct.harbor.example, signed by",
            1,
        ),
        (
            "MDN dispatched         of rui.silva@direct.harbor.example, final delivery, signed by",
            1,
        ),
        (
            "disposition            success of rui.silva@direct.harbor.example",
            1,
        ),
        ("relatesTo              urn:uuid:", 1),
        ("statuses               one, of one recipient", 1),
        ("status                 Taken", 1),
        (
            "recipient              referrals@direct.oak.example Relayed",
            1,
        ),
        (
            "recipient              rui.silva@direct.harbor.example Dispatched",
            2,
        ),
        ("certificate            dns direct.harbor.example", 1),
        ("certificate            dns referrals.direct.oak.example", 1),
        ("TLS of mails           TLSv1", 1),
        ("TLS of MDNs            TLSv1", 1),
        ("posts                  one", 1),
    ] {
        let found = told.matches(&format!("ok  {check}")).count();
        assert!(found >= times, "{check}, {found} times:\n{told}");
    }
    assert!(!told.contains("DIFFERS"));
    assert!(told.contains("checks held"));
}

#[test]
fn a_named_directory_keeps_the_mail_the_package_and_a_log_without_patient_data() {
    let folder = TestFolder::new();
    let dir = folder.path().join("demo");
    let output = in_folder(&dir);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let mail = fs::read(dir.join("mail/1.eml")).unwrap();
    let readable = String::from_utf8_lossy(&mail);
    assert!(readable.contains("application/pkcs7-mime"));
    assert!(!readable.contains("Quill"));
    assert!(fs::read(dir.join("mail/1.zip")).unwrap().starts_with(b"PK"));
    let log = fs::read_to_string(dir.join("log.json")).unwrap();
    assert!(log.contains("accepted exchange") && log.contains("posted exchange"));
    for secret in ["Quill", "PT-7731", "rui.silva", "okafor", "Progress"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[test]
fn both_configurations_are_kept_and_check_finds_no_problem_in_them() {
    let folder = TestFolder::new();
    let dir = folder.path().join("demo");
    let output = in_folder(&dir);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    for bridge in ["a", "b"] {
        let config = dir.join(bridge).join("xdbridge.toml");
        let output = Command::new(env!("CARGO_BIN_EXE_xdbridge"))
            .args(["config", "check", "--config", config.to_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    }
}

#[test]
fn a_directory_with_files_of_others_is_refused_and_left_alone() {
    let folder = TestFolder::new();
    fs::write(folder.path().join("mine"), "kept").unwrap();
    let output = in_folder(folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is not empty"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
