//! `inspect` and `convert` as scripts call them: the binary, its output and its exit codes, over every fixture.
//! `UPDATE_EXPECT=1` writes the readings in `fixtures/expected` anew: look at the difference.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use xdbridge::{
    bridge::rules::rules,
    formats::{
        document::DocumentsInMemory,
        limits::Limits,
        metadata::equal_metadata,
        xdr::request::{ReadOptions, ReceivedRequest, read_file},
    },
};

use crate::support::{
    folder::TestFolder,
    saved::{self, root},
};

const EXAMPLES: &str = "docs/spec/examples";
const FULL: &str = "docs/spec/examples/01-request-full-inline.xml";
const MINIMAL: &str = "docs/spec/examples/02-request-direct-minimal-mtom.http";

fn xdbridge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xdbridge"))
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// Every message of the fixtures and the examples, relative to the project.
fn messages() -> Vec<String> {
    let mut found = saved::messages(&["fixtures", EXAMPLES]);
    found.retain(|message| !message.starts_with("fixtures/expected/"));
    assert!(
        found.len() >= 23,
        "only {} messages were found",
        found.len()
    );
    found
}

/// Exit code, then the JSON document or the error line.
fn reading_of(message: &str) -> String {
    let output = xdbridge(&["inspect", message, "--json"]);
    let code = output.status.code().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    match code {
        0 | 1 => {
            assert_eq!(stderr, "", "{message}");
            let document: Value = serde_json::from_str(&stdout).unwrap();
            let verdict = if code == 0 { "accept" } else { "refuse" };
            assert_eq!(document["verdict"], verdict, "{message}");
        }
        2 => {
            assert_eq!(stdout, "", "{message}");
            assert_eq!(stderr.lines().count(), 1, "{message}: {stderr}");
        }
        other => panic!("{message}: exit code {other}"),
    }
    format!("exit code {code}\n{stdout}{stderr}")
}

// rule: XDR-21, XDR-24, XDR-34, XDR-44, XDR-60, XDR-65, XDR-100, XDR-125, SOAP-40, XDM-40, XDM-41
#[test]
fn every_fixture_and_example_is_inspected_as_expected() {
    let folder = root().join("fixtures/expected");
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut expected_names = Vec::new();
    for message in messages() {
        let reading = reading_of(&message);
        let name = format!("{}.expected", message.replace('/', "--"));
        let path = folder.join(&name);
        expected_names.push(name);
        if update {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &reading).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(reading, expected, "{message}");
    }
    for item in fs::read_dir(folder).unwrap() {
        let name = item.unwrap().file_name().into_string().unwrap();
        let is_known = name == "README.md" || expected_names.contains(&name);
        assert!(is_known, "{name} is the reading of no message");
    }
}

// rule: XDR-140
#[test]
fn every_finding_about_a_fixture_says_what_would_be_accepted() {
    const WORDS: [&str; 8] = [
        "accepted", "must", "should", "needs", "may ", "required", "left out", "give ",
    ];
    let mut count = 0;
    for item in fs::read_dir(root().join("fixtures/expected")).unwrap() {
        let path = item.unwrap().path();
        let reading = fs::read_to_string(&path).unwrap();
        let Some((_, document)) = reading.split_once('\n') else {
            continue;
        };
        let Ok(document) = serde_json::from_str::<Value>(document) else {
            continue;
        };
        for finding in document["findings"].as_array().unwrap() {
            let text = finding["text"].as_str().unwrap();
            // The entries of an answer are its contents, and what becomes of mail beside a package is no defect.
            if ["XDR-44", "XDR-101"].contains(&finding["rule"].as_str().unwrap()) {
                continue;
            }
            count += 1;
            let is_told = WORDS.iter().any(|word| text.contains(word));
            assert!(is_told, "{}: {text}", path.display());
        }
    }
    assert!(count > 150, "{count} findings");
}

#[test]
fn the_json_document_has_every_name_of_the_contract() {
    let output = xdbridge(&["inspect", FULL, "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = |value: &Value| -> Vec<String> {
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&document),
        [
            "findings",
            "from",
            "kind",
            "level",
            "notification",
            "packaging",
            "recipients",
            "submissions",
            "verdict"
        ]
    );
    let submission = &document["submissions"][0];
    assert_eq!(
        names(submission),
        ["associations", "documents", "folders", "submission_set"]
    );
    let entry = &submission["documents"][0];
    assert_eq!(
        names(entry),
        [
            "creation_time",
            "format_code",
            "hash",
            "mime_type",
            "patient_id",
            "size",
            "title",
            "type_code",
            "unique_id"
        ]
    );
    assert_eq!(names(&entry["type_code"]), ["code", "display", "scheme"]);
    assert_eq!(
        names(&document["findings"][0]),
        ["code", "location", "rule", "severity", "text"]
    );
}

#[test]
fn a_level_on_the_command_line_takes_the_place_of_the_claimed_one() {
    let output = xdbridge(&["inspect", MINIMAL, "--json", "--level", "full"]);
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["level"], "full");
    let findings = document["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["rule"] == "MD-94"));
}

#[test]
fn people_get_the_same_verdict_in_words() {
    let output = xdbridge(&["inspect", MINIMAL]);
    assert_eq!(output.status.code(), Some(0));
    let printed = text(&output.stdout);
    assert!(
        printed.starts_with("xdr-request (mtom, minimal)\n"),
        "{printed}"
    );
    assert!(printed.ends_with("verdict: accept\n"), "{printed}");
}

// rule: SOAP-30, SOAP-80, XDM-41
#[test]
fn what_is_cut_short_or_no_message_at_all_ends_with_exit_code_2_and_one_line() {
    let folder = TestFolder::new();
    let path = folder.path().join("cut");
    let name = path.to_str().unwrap();
    let whole = [
        FULL,
        MINIMAL,
        "docs/spec/examples/04-response-success-with-warning.xml",
        "docs/spec/examples/IHE_XDM/SUBSET01/METADATA.XML",
        "fixtures/xdr/bad-soap-header.xml",
        "fixtures/xdm/two-documents.zip",
    ];
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for message in whole {
        let octets = fs::read(root().join(message)).unwrap();
        for quarters in 1..4 {
            let length = octets.len() * quarters / 4;
            cases.push((
                format!("{message}, {length} octets"),
                octets[..length].to_vec(),
            ));
        }
    }
    cases.push(("nothing".into(), Vec::new()));
    cases.push(("words".into(), b"no message at all".to_vec()));
    cases.push(("html".into(), b"<html><body/></html>".to_vec()));
    cases.push((
        "noise".into(),
        (0..4096u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect(),
    ));
    for (what, octets) in cases {
        fs::write(&path, octets).unwrap();
        for arguments in [vec!["inspect", name, "--json"], vec!["inspect", name]] {
            let output = xdbridge(&arguments);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{what}: {stderr}");
            assert_eq!(text(&output.stdout), "", "{what}");
            assert_eq!(stderr.lines().count(), 1, "{what}: {stderr}");
        }
    }
}

fn inspected(file: &str) -> (Option<i32>, Value) {
    let output = xdbridge(&["inspect", file, "--json"]);
    let stdout = text(&output.stdout);
    let document = serde_json::from_str(&stdout);
    let document = document.unwrap_or_else(|_| panic!("{file}: {stdout}{}", text(&output.stderr)));
    (output.status.code(), document)
}

// rule: RCV-R1, RCV-2
#[test]
fn smime_is_told_by_form_and_recipients_without_a_key() {
    for (file, form, recipients, code) in [
        ("smime-enveloped.eml", "enveloped", 2, 0),
        ("smime-enveloped.p7m", "enveloped", 1, 0),
        ("smime-signed.eml", "signed", 0, 1),
    ] {
        let (exit, document) = inspected(&format!("fixtures/mail/{file}"));
        assert_eq!(document["kind"], "smime", "{file}");
        assert_eq!(document["smime"]["form"], form, "{file}");
        assert_eq!(document["smime"]["recipient_infos"], recipients, "{file}");
        assert_eq!(exit, Some(code), "{file}");
    }
    let (_, document) = inspected("fixtures/mail/smime-enveloped.eml");
    assert_eq!(document["from"], "ngozi.okafor@direct.elm.example");
    assert_eq!(document["recipients"].as_array().unwrap().len(), 2);
    let (_, document) = inspected("fixtures/mail/smime-signed.eml");
    assert_eq!(document["findings"][0]["rule"], "RCV-R1");
    let printed = xdbridge(&["inspect", "fixtures/mail/smime-enveloped.eml"]);
    let printed = text(&printed.stdout);
    assert!(printed.starts_with("smime (enveloped)\n"), "{printed}");
    assert!(printed.contains("sealed for 2 recipients"), "{printed}");

    // Another content type: id-digestedData.
    let folder = TestFolder::new();
    let path = folder.path().join("digested.p7m");
    let oid = [0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 5];
    let content = [0xA0, 2, 0x30, 0];
    let length = u8::try_from(oid.len() + content.len()).unwrap();
    fs::write(&path, [&[0x30, 0x81, length][..], &oid, &content].concat()).unwrap();
    let (exit, document) = inspected(path.to_str().unwrap());
    assert_eq!(exit, Some(1));
    assert_eq!(document["findings"][0]["rule"], "RCV-2");
}

// rule: LIM-16
#[test]
fn a_cms_bomb_is_refused_and_one_that_is_cut_is_unreadable() {
    let folder = TestFolder::new();
    let path = folder.path().join("mail");
    let der = fs::read(root().join("fixtures/mail/smime-enveloped.p7m")).unwrap();
    let sequence = |tag: u8, content: &[u8]| -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x84], &length[..], content].concat()
    };
    // The one RecipientInfo again and again.
    let set = der.windows(2).position(|two| two == [0x31, 0x82]).unwrap();
    let length = usize::from(u16::from_be_bytes([der[set + 2], der[set + 3]]));
    let (info, rest) = der[set + 4..].split_at(length);
    let body = [&[2, 1, 0][..], &sequence(0x31, &info.repeat(65)), rest].concat();
    let oid = [0x06, 9, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 3];
    let content = sequence(0xA0, &sequence(0x30, &body));
    let bomb = sequence(0x30, &[&oid[..], &content].concat());
    fs::write(&path, &bomb).unwrap();
    let (exit, document) = inspected(path.to_str().unwrap());
    assert_eq!(exit, Some(1));
    assert_eq!(document["findings"][0]["rule"], "LIM-16", "{document}");

    fs::write(&path, &der[..der.len() / 2]).unwrap();
    let output = xdbridge(&["inspect", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert_eq!(text(&output.stderr).lines().count(), 1);
}

// rule: MDN-20, MDN-22, MDN-27, MDN-43, MDN-44, MDN-50, SRC-3
#[test]
fn an_mdn_tells_its_disposition_and_the_message_it_is_about() {
    for (file, disposition, about, is_final, rule) in [
        ("dispatched", Some("dispatched"), Some("m7"), true, None),
        (
            "no-original-id",
            Some("failed"),
            Some("m7"),
            false,
            Some("MDN-50"),
        ),
        ("no-disposition", None, Some("m7"), false, Some("MDN-44")),
    ] {
        let (exit, document) = inspected(&format!("fixtures/mail/mdn-{file}.eml"));
        assert_eq!((exit, &document["kind"]), (Some(0), &"mdn".into()));
        let told = &document["notification"];
        assert_eq!(told["disposition"].as_str(), disposition, "{file}");
        let about = about.map(|id| format!("{id}@direct.elm.example"));
        assert_eq!(told["relates_to"].as_str(), about.as_deref(), "{file}");
        assert_eq!(told["final_delivery"], is_final, "{file}");
        assert_eq!(told["recipients"].as_array().unwrap().len(), 1, "{file}");
        let found = document["findings"].as_array().unwrap();
        let rules: Vec<_> = found.iter().map(|one| one["rule"].as_str()).collect();
        assert!(rule.is_none() || rules.contains(&rule), "{file}: {rules:?}");
    }
    let (_, document) = inspected("fixtures/mail/mdn-no-report.eml");
    assert_eq!(document["notification"], Value::Null);
    assert_eq!(document["findings"][0]["rule"], "MDN-20");
}

// rule: DSN-1, DSN-2
#[test]
fn a_dsn_tells_what_was_done_about_each_recipient() {
    let (exit, document) = inspected("fixtures/mail/dsn-failed.eml");
    assert_eq!((exit, &document["kind"]), (Some(0), &"dsn".into()));
    let told = &document["notification"];
    assert_eq!(told["relates_to"], "m7@direct.elm.example");
    // A DSN has no field for the message's id of its own: the returned header is where it is looked for.
    assert_eq!(document["findings"].as_array().unwrap().len(), 0);
    let recipients = told["recipients"].as_array().unwrap().iter();
    let recipients: Vec<_> = recipients
        .map(|one| [&one["address"], &one["action"], &one["status"]].map(|v| v.as_str().unwrap()))
        .collect();
    assert_eq!(
        recipients,
        [
            ["nobody@direct.oak.example", "failed", "5.1.1"],
            ["referrals@direct.oak.example", "delayed", "4.2.2"]
        ]
    );
}

#[test]
fn what_is_not_there_or_cannot_be_converted_ends_with_exit_code_2() {
    let output = xdbridge(&["inspect", "no/such/file"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(xdbridge(&["inspect"]).status.code(), Some(2));
    let folder = TestFolder::new();
    let out = folder.path().join("out");
    for (file, to, why) in [
        ("smime-enveloped.eml", "xdr", "S/MIME"),
        ("smime-enveloped.p7m", "mail", "S/MIME"),
        ("mdn-dispatched.eml", "xdm", "a notice"),
        ("dsn-failed.eml", "xdr", "a notice"),
        ("xdm.eml", "mail", "a mail already"),
        ("xdm-two-sets.eml", "xdm", "several submissions"),
    ] {
        let output = convert(&format!("fixtures/mail/{file}"), to, &out, &[]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{file}: {stderr}");
        assert!(stderr.contains(why), "{file}: {stderr}");
        assert!(!out.exists());
    }
}

// rule: XDR-100, XDR-106, XDM-20
#[test]
fn a_plain_mail_and_one_with_a_package_become_packages_that_are_accepted() {
    let folder = TestFolder::new();
    for name in ["documents", "xdm", "text-only"] {
        let mail = format!("fixtures/mail/{name}.eml");
        let package = folder.path().join("package.zip");
        let output = convert(&mail, "xdm", &package, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let zip = package.to_str().unwrap();
        passes("unzip", &["-t", zip], Stdio::null());
        let (exit, document) = inspected(zip);
        assert_eq!((exit, &document["kind"]), (Some(0), &"xdm".into()));

        // The request that would be posted for the mail holds the same documents.
        let request = folder.path().join("request.http");
        let output = convert(&mail, "xdr", &request, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let (_, posted) = inspected(request.to_str().unwrap());
        let hashes = |document: &Value| -> Vec<String> {
            let documents = document["submissions"][0]["documents"].as_array().unwrap();
            let hashes = documents.iter().map(|one| one["hash"].as_str().unwrap());
            hashes.map(str::to_owned).collect()
        };
        assert!(!hashes(&posted).is_empty());
        assert_eq!(hashes(&document), hashes(&posted), "{name}");
    }
}

// rule: XDR-100, XDR-106
#[test]
fn a_plain_mail_and_one_with_a_package_become_requests_that_are_accepted() {
    let folder = TestFolder::new();
    for name in ["documents", "xdm"] {
        let mail = format!("fixtures/mail/{name}.eml");
        let request = folder.path().join("request.http");
        let output = convert(&mail, "xdr", &request, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let (received, _) = request_in(&request);
        assert_eq!(received.documents.len(), 2, "{name}");
        let output = xdbridge(&["inspect", request.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    }
}

fn request_in(path: &Path) -> (ReceivedRequest, DocumentsInMemory) {
    let mut documents = DocumentsInMemory::default();
    let mut file = fs::File::open(path).unwrap();
    let options = ReadOptions::default();
    let request = read_file(&mut file, &Limits::default(), &options, &mut documents).unwrap();
    (request, documents)
}

fn convert(file: &str, to: &str, out: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["convert", file, "--to", to, "-o", out.to_str().unwrap()];
    arguments.extend(more);
    xdbridge(&arguments)
}

/// Runs a tool of the system that must take `input` without a complaint.
fn passes(tool: &str, arguments: &[&str], input: Stdio) -> Output {
    let output = Command::new(tool)
        .args(arguments)
        .stdin(input)
        .output()
        .unwrap_or_else(|error| panic!("{tool} is needed, tests/run installs it: {error}"));
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}: {stderr}");
    output
}

// rule: XDR-80, XDR-82, XDR-89, XDR-103, XDR-104, XDM-20, XDM-21
#[test]
fn a_request_becomes_a_package_that_others_read_and_comes_back_as_it_was() {
    let folder = TestFolder::new();
    for message in [FULL, MINIMAL, "fixtures/xdr/mtom-four-ways.mime"] {
        let package = folder.path().join("package.zip");
        let output = convert(message, "xdm", &package, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let zip = package.to_str().unwrap();
        passes("unzip", &["-t", zip], Stdio::null());
        for member in ["INDEX.HTM", "IHE_XDM/SUBSET01/METADATA.XML"] {
            let octets = passes("unzip", &["-p", zip, member], Stdio::null()).stdout;
            let unpacked = folder.path().join("member");
            fs::write(&unpacked, octets).unwrap();
            let input = fs::File::open(&unpacked).unwrap();
            passes("xmllint", &["--noout", "--nonet", "-"], input.into());
        }
        assert_eq!(xdbridge(&["inspect", zip]).status.code(), Some(0));

        let again = folder.path().join("again.http");
        let output = convert(zip, "xdr", &again, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let (before, documents_before) = request_in(&root().join(message));
        let (after, documents_after) = request_in(&again);
        assert!(
            equal_metadata(&before.metadata, &after.metadata),
            "{message}"
        );
        let block = |request: &ReceivedRequest| {
            let block = request.address_block.as_ref().unwrap();
            (block.from.clone(), block.to.clone())
        };
        assert_eq!(block(&before), block(&after));
        assert_eq!(before.documents.len(), after.documents.len());
        for part in &before.documents {
            let twin = after
                .documents
                .iter()
                .find(|p| p.document_id == part.document_id);
            assert_eq!(
                documents_before.find(part.key).unwrap(),
                documents_after.find(twin.unwrap().key).unwrap()
            );
        }
        let output = xdbridge(&["inspect", again.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
        check_length(&again);
    }
}

/// The HTTP head's Content-Length is that of what follows it.
fn check_length(path: &Path) {
    let octets = fs::read(path).unwrap();
    let gap = octets
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = text(&octets[..gap]);
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    assert_eq!(length, Some((octets.len() - gap - 4).to_string().as_str()));
}

// rule: XDR-81, XDR-86
#[test]
fn a_request_becomes_a_plain_mail_to_whom_the_command_line_says() {
    let folder = TestFolder::new();
    let mail = folder.path().join("mail.eml");
    let addresses = [
        "--from",
        "ada.quill@direct.elm.example",
        "--recipient",
        "ngozi.okafor@hisp.example",
    ];
    let output = convert(MINIMAL, "mail", &mail, &addresses);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let octets = fs::read(&mail).unwrap();
    let message = mail_parser::MessageParser::default()
        .parse(&octets)
        .unwrap();
    let only = |list: Option<&mail_parser::Address<'_>>| {
        let list = list.unwrap().clone().into_list();
        assert_eq!(list.len(), 1);
        list[0].address.as_ref().unwrap().to_string()
    };
    assert_eq!(only(message.from()), "ada.quill@direct.elm.example");
    assert_eq!(only(message.to()), "ngozi.okafor@hisp.example");
    let package = folder.path().join("attached.zip");
    let attachment = message.attachments().next().unwrap();
    fs::write(&package, attachment.contents()).unwrap();
    let output = xdbridge(&["inspect", package.to_str().unwrap(), "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["kind"], "xdm");
    assert_eq!(document["verdict"], "accept");
}

// rule: XDR-85, XDR-86, XDR-87, XDR-28, XDR-29, CC-3
#[test]
fn a_mail_is_packaged_as_the_command_line_says_and_what_it_loses_is_told() {
    let folder = TestFolder::new();
    let relationship = "<rim:Association id=\"Rel01\" \
        associationType=\"urn:ihe:iti:2007:AssociationType:XFRM\" sourceObject=\"urn:uuid:0f4a6c1e-2d3b-4c5d-8e6f-7a8b9c0d1e2f\" \
        targetObject=\"urn:uuid:0b3f6f9e-3f0c-4a53-9d0d-6f3a1f2b7c11\"/></rim:RegistryObjectList>";
    let full = fs::read_to_string(root().join(FULL)).unwrap();
    let request = folder.path().join("request.xml");
    let with_relationship = full.replacen("</rim:RegistryObjectList>", relationship, 1);
    fs::write(&request, with_relationship).unwrap();
    let (received, documents) = request_in(&request);
    let octets = documents.find(received.documents[0].key).unwrap();

    let mail = folder.path().join("mail.eml");
    for (packaging, packages, copies) in
        [("xdm", 1, 0), ("xdm+documents", 1, 1), ("documents", 0, 1)]
    {
        let more = ["--packaging", packaging, "--subject-title"];
        let output = convert(request.to_str().unwrap(), "mail", &mail, &more);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        let lost = "warning XDR-28 PartialTransformNotProcessed at Association(Rel01)";
        assert_eq!(
            stderr.matches(lost).count(),
            usize::from(packages == 0),
            "{stderr}"
        );
        let written = fs::read(&mail).unwrap();
        let message = mail_parser::MessageParser::default()
            .parse(&written)
            .unwrap();
        let subject = message.subject().unwrap();
        assert_eq!(
            subject.ends_with(" - XDM/1.0/DDM"),
            packages == 1,
            "{subject}"
        );
        assert_eq!(subject.contains("XDM"), packages == 1, "{subject}");
        let attached: Vec<&[u8]> = message.attachments().map(|part| part.contents()).collect();
        assert_eq!(attached.len(), packages + copies, "{packaging}");
        for copy in &attached[packages..] {
            assert_eq!(*copy, octets);
        }
    }
    let bad = convert(MINIMAL, "mail", &mail, &["--packaging", "zip"]);
    assert_eq!(bad.status.code(), Some(2));
}

// rule: XDR-80, XDR-89, XDR-103
#[test]
fn a_package_becomes_a_mail_that_carries_the_same_metadata_and_documents() {
    let folder = TestFolder::new();
    let path = |name: &str| folder.path().join(name);
    let given = path("given.zip");
    assert_eq!(convert(MINIMAL, "xdm", &given, &[]).status.code(), Some(0));
    let addresses = [
        "--from",
        "ada.quill@direct.elm.example",
        "--recipient",
        "ngozi.okafor@hisp.example",
    ];
    let mail = path("mail.eml");
    let output = convert(given.to_str().unwrap(), "mail", &mail, &addresses);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let written = fs::read(&mail).unwrap();
    let message = mail_parser::MessageParser::default()
        .parse(&written)
        .unwrap();
    let attached = path("attached.zip");
    fs::write(&attached, message.attachment(0).unwrap().contents()).unwrap();
    passes("unzip", &["-t", attached.to_str().unwrap()], Stdio::null());

    let (before, documents_before) = request_in(&root().join(MINIMAL));
    let again = path("again.http");
    let output = convert(attached.to_str().unwrap(), "xdr", &again, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let (after, documents_after) = request_in(&again);
    assert!(equal_metadata(&before.metadata, &after.metadata));
    for part in &before.documents {
        let mut twins = after.documents.iter();
        let twin = twins
            .find(|own| own.document_id == part.document_id)
            .unwrap();
        assert_eq!(
            documents_before.find(part.key),
            documents_after.find(twin.key)
        );
    }
}

#[test]
fn what_would_be_refused_or_makes_no_sense_is_not_converted_and_leaves_no_file() {
    let folder = TestFolder::new();
    let out = folder.path().join("out");
    for (file, to, code) in [
        (
            "docs/spec/examples/03-request-delivery-notification.xml",
            "xdm",
            1,
        ),
        ("fixtures/xdm/wrong-hash-and-missing-file.zip", "xdr", 1),
        ("fixtures/xdm/two-sets.zip", "xdr", 2),
        ("fixtures/xdm/two-documents.zip", "mail", 2),
        ("fixtures/metadata/full-with-folder.xml", "xdm", 2),
        ("docs/spec/examples/05-response-failure.xml", "xdm", 2),
        (MINIMAL, "xdr", 2),
        ("README.md", "xdm", 2),
    ] {
        let output = convert(file, to, &out, &[]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{file}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{file}: {stderr}");
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 0, "{file} left something behind");
    }
    let unwritable = folder.path().join("no/such/folder/out");
    assert_eq!(
        convert(MINIMAL, "xdm", &unwritable, &[]).status.code(),
        Some(1)
    );
    let bad_address = convert(MINIMAL, "xdm", &out, &["--from", "nobody"]);
    assert_eq!(bad_address.status.code(), Some(2));
}

#[test]
fn the_command_lines_of_the_readme_work() {
    let folder = TestFolder::new();
    for name in ["docs", "fixtures"] {
        std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).unwrap();
    }
    fs::create_dir(folder.path().join("target")).unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let lines = readme.lines().filter_map(|line| {
        let command = line.strip_prefix("cargo run --release -- ")?;
        let is_ours = command.starts_with("inspect ") || command.starts_with("convert ");
        is_ours.then_some(command)
    });
    let mut count = 0;
    for line in lines {
        count += 1;
        let output = Command::new(env!("CARGO_BIN_EXE_xdbridge"))
            .args(line.split_whitespace())
            .current_dir(folder.path())
            .output()
            .unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}: {stderr}");
    }
    assert!(count >= 3, "the README shows {count} command lines");
}

// --- the table of rules ------------------------------------------------------------------------

#[test]
fn the_table_of_rules_is_printed_for_people_and_for_scripts() {
    let output = xdbridge(&["inspect", "--rules", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.len(), rules().count());
    for (row, rule) in rows.iter().zip(rules()) {
        let names: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert_eq!(row["rule"], rule.id);
        assert_eq!(row["object"], rule.object.as_str());
        assert_eq!(row["asks"], rule.asks);
        assert_eq!(row["severity"], rule.consequence.severity());
        assert_eq!(row["levels"].as_array().unwrap().len(), rule.levels.len());
        let is_refusal_with_code = row["code"].is_string();
        assert_eq!(is_refusal_with_code, rule.consequence.code().is_some());
    }
    let metadata_error = "XDSRepositoryMetadataError";
    let find = |id: &str| rows.iter().find(|row| row["rule"] == id).unwrap();
    assert_eq!(find("MD-94")["code"], metadata_error);
    assert_eq!(find("MD-92")["code"], "XDSPatientIdDoesNotMatch");
    assert_eq!(find("MD-21")["levels"], serde_json::json!(["limited"]));
    assert_eq!(find("MD-36")["severity"], "warning");

    let printed = text(&xdbridge(&["inspect", "--rules"]).stdout);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), rows.len() + 1);
    let column = lines[0].find("ASKS FOR").unwrap();
    for (line, rule) in lines[1..].iter().zip(rules()) {
        assert!(line.starts_with(&format!("{} ", rule.id)), "{line}");
        assert_eq!(&line[column..], rule.asks, "aligned");
    }
}

#[test]
fn a_file_or_a_level_beside_the_table_of_rules_is_bad_usage() {
    for arguments in [
        vec!["inspect", "--rules", FULL],
        vec!["inspect", "--rules", "--level", "full"],
        vec!["inspect", "--json"],
    ] {
        let output = xdbridge(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "");
    }
}

// rule: XDR-140
#[test]
fn every_rule_that_a_reading_names_is_in_the_table() {
    let mut named = 0;
    for item in fs::read_dir(root().join("fixtures/expected")).unwrap() {
        let reading = fs::read_to_string(item.unwrap().path()).unwrap();
        let rules_named = reading.lines().filter_map(|line| {
            let value = line.trim().strip_prefix("\"rule\": \"")?;
            value.split('"').next()
        });
        for id in rules_named {
            named += 1;
            assert!(rules().any(|rule| rule.id == id), "{id} has no row");
        }
    }
    assert!(named > 30, "only {named} findings in the readings");
}
