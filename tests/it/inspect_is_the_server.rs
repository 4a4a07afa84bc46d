//! For every request that there is as a fixture or an example, POST /xdr answers with the verdict and the codes that
//! `xdbridge inspect --json` prints for its file. A new fixture enters by lying in its folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    sync::Arc,
};

use serde_json::Value;
use xdbridge::{
    adapters::{certificates::DomainConfig, clock::SystemClock},
    app::{config::Config, pki::Profile},
    flows::ports::Clock,
    formats::{
        finding::Severity,
        ids::DomainName,
        limits::Limits,
        soap::FaultCode,
        xdr::response::{self, Answer, RegistryResponse, Status},
    },
};

use crate::support::{
    bridge::{TestBridge, as_tls, pki, runtime, write_identity},
    folder::TestFolder,
    keys,
    saved::{as_posted, messages, root},
    scripted_smtp::ScriptedSmtp,
    tls::HttpAnswer,
};

/// Everything in here is a request.
const REQUESTS: &str = "fixtures/xdr/";

/// What `inspect` says about a file.
enum Inspected {
    /// A whole request: its JSON document.
    Request(Value),
    /// It is no whole message, by this rule.
    Damaged(String),
    /// Something else, by its name.
    Other(String),
}

fn inspect(message: &str) -> Inspected {
    let output = Command::new(env!("CARGO_BIN_EXE_xdbridge"))
        .args(["inspect", message, "--json"])
        .current_dir(root())
        .output()
        .unwrap();
    let Ok(document) = serde_json::from_slice::<Value>(&output.stdout) else {
        assert_eq!(output.status.code(), Some(2), "{message}");
        let told = String::from_utf8(output.stderr).unwrap();
        let rule = told
            .split_once("by rule ")
            .and_then(|(_, rest)| rest.split_once(':'));
        return match rule {
            Some((rule, _)) => Inspected::Damaged(rule.to_owned()),
            None => Inspected::Other("unreadable".to_owned()),
        };
    };
    let kind = document["kind"].as_str().unwrap();
    match document["packaging"].as_str() {
        // A fault comes before the packaging is told.
        Some("mtom" | "simple-soap") | None if kind == "xdr-request" => {
            Inspected::Request(document)
        }
        part => Inspected::Other(part.unwrap_or(kind).to_owned()),
    }
}

/// One entry of an answer: severity, code, location.
type Entry = (Severity, String, String);

fn entry(severity: Severity, code: &str, location: &str) -> Entry {
    // What is wrong with a recipient is told by the refused value, which `inspect` does not print.
    let is_recipient = ["UnknownRecipient", "UnavailableRecipient"].contains(&code);
    let location = if is_recipient { "" } else { location };
    (severity, code.to_owned(), location.to_owned())
}

/// The entries that the findings of a document make: every error, and the warnings that have a code.
fn entries_of(document: &Value) -> Vec<Entry> {
    let findings = document["findings"].as_array().unwrap().iter();
    let mut entries: Vec<Entry> = findings
        .filter_map(|finding| {
            let severity = match finding["severity"].as_str().unwrap() {
                "error" => Severity::Error,
                _ => Severity::Warning,
            };
            let code = finding["code"].as_str()?;
            Some(entry(severity, code, finding["location"].as_str().unwrap()))
        })
        .collect();
    entries.sort();
    entries
}

fn entries_in(response: &RegistryResponse) -> Vec<Entry> {
    let errors = response.errors.iter();
    let mut entries: Vec<Entry> = errors
        .map(|error| {
            let location = error.location.as_deref().unwrap_or_default();
            entry(error.severity, &error.code.to_string(), location)
        })
        .collect();
    entries.sort();
    entries
}

/// How the bridge answered; for the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answered {
    Success,
    Failure,
    Fault,
    HttpStatus,
}

fn compare(message: &str, inspected: &Inspected, answer: &HttpAnswer) -> Answered {
    let Some(content_type) = answer.header("content-type") else {
        let is_told = matches!(inspected, Inspected::Damaged(rule) if rule == "SOAP-7");
        assert!(is_told, "{message}: {answer:?}");
        assert_eq!(answer.status, 415, "{message}");
        return Answered::HttpStatus;
    };
    let mut body = answer.body.as_slice();
    let received = response::read(content_type, &mut body, &Limits::default()).unwrap();
    let document = match (inspected, &received.answer) {
        (Inspected::Request(document), _) => document,
        (Inspected::Damaged(rule), Answer::Fault(fault)) => {
            assert_eq!(answer.status, 400, "{message}");
            assert_eq!(fault.code, Some(FaultCode::Sender), "{message}");
            let text = String::from_utf8_lossy(&answer.body);
            assert!(
                text.contains(&format!(">{rule}</rule>")),
                "{message}: {text}"
            );
            return Answered::Fault;
        }
        _ => panic!("{message}: {:?}", received.answer),
    };
    match received.answer {
        Answer::Response(response) => {
            assert_eq!(answer.status, 200, "{message}");
            assert_eq!(entries_in(&response), entries_of(document), "{message}");
            let (verdict, answered) = match response.status {
                Status::Success => ("accept", Answered::Success),
                _ => ("refuse", Answered::Failure),
            };
            assert_eq!(document["verdict"], verdict, "{message}");
            answered
        }
        Answer::Fault(_) => {
            assert_eq!(document["verdict"], "refuse", "{message}");
            let findings = document["findings"].as_array().unwrap();
            let [finding] = findings.as_slice() else {
                panic!("{message}: {findings:?}");
            };
            assert_eq!(finding["code"], Value::Null, "{message}");
            let rule = finding["rule"].as_str().unwrap();
            let text = String::from_utf8(answer.body.clone()).unwrap();
            // A fault in SOAP 1.1 has no room for the rule: it is the rule.
            let is_named = text.contains(&format!(">{rule}</rule>"));
            let is_soap11 = rule == "SOAP-45" && content_type.starts_with("text/xml");
            assert!(is_named || is_soap11, "{message}, {rule}: {text}");
            Answered::Fault
        }
    }
}

fn domain_of(address: &Value) -> Option<DomainName> {
    let (_, domain) = address.as_str()?.rsplit_once('@')?;
    Some(domain.parse().unwrap())
}

/// The domains of all senders, and of all recipients elsewhere.
fn domains(inspected: &[(String, Inspected)]) -> (BTreeSet<DomainName>, BTreeSet<DomainName>) {
    let documents = || {
        inspected
            .iter()
            .filter_map(|(_, inspected)| match inspected {
                Inspected::Request(document) => Some(document),
                _ => None,
            })
    };
    let own: BTreeSet<DomainName> = documents().filter_map(|d| domain_of(&d["from"])).collect();
    let recipients = documents().flat_map(|d| d["recipients"].as_array().unwrap());
    let others = recipients
        .filter_map(domain_of)
        .filter(|domain| !own.contains(domain));
    let others = others.collect();
    (own, others)
}

/// Makes the senders' domains those of partner `elm`, and lets the bridge know everybody whom they write to, so that
/// nothing but the message itself is left to judge.
fn know_everybody(
    config: &mut Config,
    own: &BTreeSet<DomainName>,
    others: &BTreeSet<DomainName>,
    folder: &TestFolder,
) {
    let issue = |domain: &DomainName| {
        let profile = Profile::domain(domain, SystemClock.now());
        keys::issue(&pki().authority, &profile)
    };
    config.partner[0].send_as = own
        .iter()
        .map(|domain| domain.as_str().to_owned())
        .collect();
    let anchors = config.certificates.domains[0].anchors.clone();
    for domain in own {
        if config
            .certificates
            .domains
            .iter()
            .any(|known| known.name == *domain)
        {
            continue;
        }
        config.certificates.domains.push(DomainConfig::new(
            domain.clone(),
            vec![write_identity(
                folder.path(),
                domain.as_str(),
                &issue(domain),
            )],
            anchors.clone(),
        ));
    }
    let peers = folder.path().join("peers");
    fs::create_dir(&peers).unwrap();
    for domain in others {
        let certificate = issue(domain).certificate.to_pem().unwrap();
        fs::write(peers.join(format!("{}.pem", domain.as_str())), certificate).unwrap();
    }
    config.certificates.recipients = vec![peers];
}

// rule: SOAP-92, XDR-30, XDR-125, XDR-140, XDR-141, XDR-142
#[test]
fn every_request_is_answered_with_the_verdict_and_the_codes_of_inspect() {
    let all = messages(&["fixtures", "docs/spec/examples"]).into_iter();
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut inspected = Vec::new();
    for message in all.filter(|message| !message.starts_with("fixtures/expected/")) {
        match inspect(&message) {
            Inspected::Other(what) => skipped.entry(what).or_default().push(message),
            request => inspected.push((message, request)),
        }
    }

    let (own, others) = domains(&inspected);
    let runtime = runtime();
    let builder = ScriptedSmtp::builder().tls(&as_tls(&pki().mail_host));
    let server = runtime.block_on(builder.start());
    let next_hops: Vec<_> = others
        .iter()
        .map(|d| (d.as_str(), server.address()))
        .collect();
    let folder = TestFolder::new();
    let bridge = TestBridge::start_with(runtime, &next_hops, Arc::new(SystemClock), |config| {
        know_everybody(config, &own, &others, &folder);
    });
    let mut counts: BTreeMap<Answered, usize> = BTreeMap::new();
    for (message, inspected) in &inspected {
        let posted = as_posted(&fs::read(root().join(message)).unwrap());
        let answered = compare(message, inspected, &bridge.post(&posted));
        *counts.entry(answered).or_default() += 1;
    }

    // What is passed over is known by name, and nothing that is a request is among it.
    for (what, passed_over) in &skipped {
        for message in passed_over {
            assert!(
                !message.starts_with(REQUESTS),
                "{message} is no request but {what}"
            );
        }
    }
    let kinds: Vec<(&str, usize)> = skipped
        .iter()
        .map(|(k, all)| (k.as_str(), all.len()))
        .collect();
    let at_least = |answered, least| {
        let count = counts.get(&answered).copied().unwrap_or_default();
        assert!(
            count >= least,
            "{answered:?}: {count}; passed over: {kinds:?}"
        );
    };
    at_least(Answered::Success, 25);
    at_least(Answered::Failure, 3);
    at_least(Answered::Fault, 5);
    at_least(Answered::HttpStatus, 1);
    assert!(
        skipped["xdm"].len() >= 9 && skipped["bare-submission"].len() >= 2,
        "{kinds:?}"
    );
}

// rule: SOAP-3, SOAP-7, SOAP-26, SOAP-30, SOAP-80
#[test]
fn a_damaged_request_is_refused_by_the_rule_that_inspect_tells() {
    let folder = TestFolder::new();
    let runtime = runtime();
    let bridge = TestBridge::start(runtime, &[]);
    let whole = fs::read_to_string(root().join("fixtures/xdr/dialects/node.http")).unwrap();
    let at = whole.find("<soap:Body").unwrap();
    let binary = "Content-Transfer-Encoding: binary";
    let boundary = "boundary=";
    for (what, damaged, rule) in [
        ("cut in the envelope", whole[..at].to_owned(), "SOAP-30"),
        (
            "no boundary",
            whole.replacen(boundary, "x-boundary=", 1),
            "SOAP-3",
        ),
        (
            "no known encoding",
            whole.replacen(binary, "Content-Transfer-Encoding: x-uu", 1),
            "SOAP-26",
        ),
        (
            "not well-formed",
            whole.replacen("</soap:Body>", "</soap:Bodx>", 1),
            "SOAP-80",
        ),
        (
            "no media type",
            whole.replacen("multipart/related", "multipart", 1),
            "SOAP-7",
        ),
        (
            "another media type",
            whole.replacen("multipart/related", "application/json", 1),
            "SOAP-7",
        ),
    ] {
        assert_ne!(damaged, whole, "{what}");
        let path = folder.path().join("damaged.http");
        fs::write(&path, &damaged).unwrap();
        let inspected = inspect(path.to_str().unwrap());
        let answer = bridge.post(&as_posted(damaged.as_bytes()));
        assert!(
            matches!(&inspected, Inspected::Damaged(told) if told == rule),
            "{what}"
        );
        let expected = if rule == "SOAP-7" {
            Answered::HttpStatus
        } else {
            Answered::Fault
        };
        assert_eq!(compare(what, &inspected, &answer), expected, "{what}");
    }
    bridge.assert_nothing_stored();
}
