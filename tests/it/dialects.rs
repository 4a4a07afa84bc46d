//! ITI-41 requests as the stacks of the field write them (`fixtures/xdr/dialects`): read octet by octet, and answered
//! over a real socket, however HTTP frames them.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
};

use openssl::sha::sha256;
use serde::Deserialize;
use xdbridge::{
    app::config::Config,
    formats::{
        document::{DocumentsInMemory, hex},
        limits::Limits,
        soap::FaultCode,
        xdr::{
            request::{ReadError, ReadOptions, read},
            response::{self, Answer, ReceivedAnswer, Status},
        },
    },
};

use crate::support::{
    bridge::{TestBridge, assert_plain_success, pki, registry_response},
    mailbox::{opened, received},
    request::Posted,
    saved::{as_posted, messages, root},
    scripted_smtp::ScriptedSmtp,
    soap_ground::as_chunk,
    tls::HttpAnswer,
};

const FOLDER: &str = "fixtures/xdr/dialects";
/// Fewer would mean that the folder is not what it was.
const LEAST: usize = 29;

/// What `NAME.expected` says about a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    packaging: String,
    message_id: Option<String>,
    answer: Outcome,
    status: u16,
    rule: Option<String>,
    told: Vec<String>,
    #[serde(default)]
    document: Vec<ExpectedDocument>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Success,
    Failure,
    Fault,
    Nothing,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedDocument {
    id: String,
    size: usize,
    sha256: String,
}

/// One request of the folder.
struct Dialect {
    name: String,
    posted: Posted,
    expected: Expected,
}

fn dialect(path: &str) -> Dialect {
    let expected = fs::read_to_string(root().join(format!("{path}.expected"))).unwrap();
    Dialect {
        posted: as_posted(&fs::read(root().join(path)).unwrap()),
        expected: toml::from_str(&expected).unwrap_or_else(|error| panic!("{path}: {error}")),
        name: path.to_owned(),
    }
}

fn dialects() -> Vec<Dialect> {
    let all: Vec<Dialect> = messages(&[FOLDER])
        .iter()
        .map(|path| dialect(path))
        .collect();
    assert!(all.len() >= LEAST, "only {} requests were found", all.len());
    all
}

/// Gives its octets in pieces of one length.
struct Pieces<'a> {
    octets: &'a [u8],
    length: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.length.min(out.len()) as u64;
        (&mut self.octets).take(length).read(out)
    }
}

// rule: SOAP-3, SOAP-4, SOAP-5, SOAP-6, SOAP-7, SOAP-8, SOAP-11, SOAP-20, SOAP-21, SOAP-22, SOAP-23, SOAP-25, SOAP-26
// rule: SOAP-29, SOAP-30, SOAP-32, SOAP-45, XDR-122, XDR-141, T-11b
#[test]
fn every_dialect_is_read_octet_by_octet_and_its_deviations_are_told() {
    for Dialect {
        name,
        posted,
        expected,
    } in dialects()
    {
        for length in [usize::MAX, 1, 7] {
            let mut documents = DocumentsInMemory::default();
            let mut body = Pieces {
                octets: &posted.body,
                length,
            };
            let (limits, options) = (Limits::default(), ReadOptions::default());
            let outcome = read(
                &posted.content_type,
                &mut body,
                &limits,
                &options,
                &mut documents,
            );
            let request = match (outcome, expected.answer) {
                (Ok(request), Outcome::Success | Outcome::Failure) => request,
                (Err(ReadError::Fault(fault)), Outcome::Fault) => {
                    assert_eq!(Some(fault.rule), expected.rule.as_deref(), "{name}");
                    assert_eq!(fault.packaging.as_str(), expected.packaging, "{name}");
                    continue;
                }
                (Err(ReadError::UnsupportedMediaType), Outcome::Nothing) => continue,
                (other, _) => panic!("{name}: {other:?}"),
            };
            assert_eq!(request.packaging.as_str(), expected.packaging, "{name}");
            let id = request
                .addressing
                .message_id
                .as_ref()
                .map(|id| id.as_str().to_owned());
            assert_eq!(id, expected.message_id, "{name}");
            let told = request
                .findings
                .iter()
                .filter(|finding| !finding.is_error());
            let told: Vec<&str> = told.map(|finding| finding.rule).collect();
            assert_eq!(told, expected.told, "{name}");
            let read: Vec<(&str, usize, String)> = request
                .documents
                .iter()
                .map(|part| {
                    let octets = documents.find(part.key).unwrap();
                    (
                        part.document_id.as_str(),
                        octets.len(),
                        hex(&sha256(octets)),
                    )
                })
                .collect();
            let said: Vec<(&str, usize, String)> = expected
                .document
                .iter()
                .map(|document| (document.id.as_str(), document.size, document.sha256.clone()))
                .collect();
            assert_eq!(read, said, "{name}");
        }
    }
}

/// How HTTP carries a body.
#[derive(Clone, Copy, Debug)]
enum Framing {
    /// Content-Length.
    Length,
    /// Content-Length, after the server has said that it wants the body.
    Expect,
    /// Chunks of so many octets.
    Chunks(usize),
}

const FRAMINGS: [Framing; 6] = [
    Framing::Length,
    Framing::Expect,
    Framing::Chunks(1),
    Framing::Chunks(7),
    Framing::Chunks(4096),
    Framing::Chunks(usize::MAX),
];

fn post(bridge: &TestBridge, posted: &Posted, framing: Framing) -> HttpAnswer {
    let mut connection = bridge.connect();
    let length = posted.body.len();
    let fields = match framing {
        Framing::Length => format!("Content-Length: {length}\r\n"),
        Framing::Expect => format!("Content-Length: {length}\r\nExpect: 100-continue\r\n"),
        Framing::Chunks(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
    };
    let head = format!(
        "POST /xdr HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\n{fields}Connection: close\r\n\r\n",
        posted.content_type
    );
    connection.send(head).unwrap();
    if let Framing::Expect = framing {
        assert!(connection.head().unwrap().starts_with("HTTP/1.1 100 "));
    }
    let body = match framing {
        Framing::Length | Framing::Expect => posted.body.clone(),
        Framing::Chunks(octets) => {
            let chunks = posted.body.chunks(octets).map(as_chunk);
            chunks.chain([b"0\r\n\r\n".to_vec()]).flatten().collect()
        }
    };
    connection.send(body).unwrap();
    connection.answer().unwrap()
}

fn read_answer(answer: &HttpAnswer) -> ReceivedAnswer {
    let content_type = answer.header("content-type").unwrap();
    response::read(
        content_type,
        &mut answer.body.as_slice(),
        &Limits::default(),
    )
    .unwrap()
}

fn check_answer(name: &str, expected: &Expected, answer: &HttpAnswer) {
    assert_eq!(answer.status, expected.status, "{name}");
    let content_type = answer.header("content-type").unwrap_or_default();
    if expected.answer == Outcome::Nothing {
        assert_eq!((content_type, answer.body.len()), ("", 0), "{name}");
        return;
    }
    let text = String::from_utf8(answer.body.clone()).unwrap();
    if expected.rule.as_deref() == Some("SOAP-45") {
        // In the version of the request, and never as a package: whoever speaks 1.1 may not read another.
        assert!(
            content_type.starts_with("text/xml"),
            "{name}: {content_type}"
        );
        assert!(
            text.contains("http://schemas.xmlsoap.org/soap/envelope/"),
            "{name}"
        );
        assert!(
            text.contains("SupportedEnvelope qname=\"soap:Envelope\""),
            "{name}"
        );
        let Answer::Fault(fault) = read_answer(answer).answer else {
            panic!("{name}: no fault")
        };
        assert_eq!(fault.code, Some(FaultCode::VersionMismatch), "{name}");
        return;
    }
    let packaging = match content_type.split(';').next().unwrap() {
        "multipart/related" => "mtom",
        "application/soap+xml" => "simple-soap",
        other => other,
    };
    assert_eq!(packaging, expected.packaging, "{name}");
    let received = read_answer(answer);
    if let Some(id) = &expected.message_id {
        let relates_to = received.addressing.unwrap().relates_to;
        assert_eq!(relates_to.as_ref(), Some(id), "{name}");
    }
    match (received.answer, expected.answer) {
        (Answer::Response(response), Outcome::Success) => {
            assert_eq!(
                (response.status, response.errors.len()),
                (Status::Success, 0),
                "{name}"
            );
        }
        (Answer::Response(response), Outcome::Failure) => {
            assert_eq!(response.status, Status::Failure, "{name}");
        }
        (Answer::Fault(_), Outcome::Fault) => {
            let rule = format!(">{}</rule>", expected.rule.as_deref().unwrap());
            assert!(text.contains(&rule), "{name}: {text}");
        }
        (other, _) => panic!("{name}: {other:?}"),
    }
}

fn start() -> (TestBridge, ScriptedSmtp) {
    start_with(|_| {})
}

fn start_with(change: impl FnOnce(&mut Config)) -> (TestBridge, ScriptedSmtp) {
    TestBridge::beside_a_hop(&["direct.harbor.example"], change)
}

/// The digests of each mail's documents, by the uniqueId of its SubmissionSet.
fn delivered(server: &ScriptedSmtp) -> BTreeMap<String, Vec<String>> {
    let mails = received(server).into_iter();
    mails
        .map(|mail| {
            let mail = opened(&mail.message, &pki().harbor);
            let set = mail.submission.metadata.submission_set().unwrap();
            let documents = mail.documents.iter();
            let digests = documents.map(|octets| hex(&sha256(octets))).collect();
            (set.unique_id.clone().unwrap(), digests)
        })
        .collect()
}

// rule: SOAP-9, SOAP-10, SOAP-11, SOAP-45, SOAP-67, SOAP-93, XDR-50, XDR-125
#[test]
fn every_dialect_is_answered_in_its_packaging_and_delivered_once_however_it_is_framed() {
    let (bridge, server) = start();
    let mut accepted = Vec::new();
    for Dialect {
        name,
        posted,
        expected,
    } in dialects()
    {
        for framing in FRAMINGS {
            let name = format!("{name}, {framing:?}");
            check_answer(&name, &expected, &post(&bridge, &posted, framing));
        }
        if expected.answer == Outcome::Success {
            let documents = expected.document.into_iter();
            accepted.push(
                documents
                    .map(|document| document.sha256)
                    .collect::<Vec<_>>(),
            );
        }
    }
    bridge.wait_until_sent();
    // A repetition in another framing has the same digest, or it would be an exchange of its own.
    assert_eq!(bridge.exchanges().len(), accepted.len());
    let mut arrived: Vec<Vec<String>> = delivered(&server).into_values().collect();
    arrived.sort();
    accepted.sort();
    assert_eq!(arrived, accepted);
}

// rule: SOAP-32, XDM-67
#[test]
fn one_part_for_two_documents_crosses_where_the_partner_may_share_parts() {
    let (bridge, server) = start_with(|config| config.partner[0].shared_parts = true);
    let shared = dialect(&format!("{FOLDER}/shared-part.http"));
    assert_plain_success(&registry_response(&bridge.post(&shared.posted)));
    bridge.wait_until_sent();
    let digest = shared.expected.document[0].sha256.clone();
    let documents: Vec<Vec<String>> = delivered(&server).into_values().collect();
    assert_eq!(documents, [[digest.clone(), digest]]);
}

// rule: SOAP-7
#[test]
fn a_content_type_on_folded_lines_is_told_to_be_a_bad_request() {
    let (bridge, _server) = start();
    let mut connection = bridge.connect();
    let head = "POST /xdr HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/soap+xml;\r\n charset=utf-8\r\n\
                Content-Length: 4\r\n\r\n<a/>";
    connection.send(head).unwrap();
    let answer = connection.answer().unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("content-type"), None);
}

// rule: SOAP-7
#[test]
fn a_content_type_that_is_missing_or_no_soap_gets_415_and_no_soap() {
    let (bridge, _server) = start();
    let envelope = dialect(&format!("{FOLDER}/simple-utf-8-bom.http"))
        .posted
        .body;
    let fields = [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/xml\r\n",
        "Content-Type: application/soap+xml; charset=iso-8859-1\r\n",
    ];
    for field in fields {
        let mut connection = bridge.connect();
        let length = envelope.len();
        let head = format!(
            "POST /xdr HTTP/1.1\r\nHost: localhost\r\n{field}Content-Length: {length}\r\n\r\n"
        );
        connection.send(head).unwrap();
        connection.send(&envelope).unwrap();
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, answer.body.len()), (415, 0), "{field}");
    }
    assert!(bridge.exchanges().is_empty());
}
