//! What is wrong with a message as a message: each row of soap.md section 6, as a peer of another make sees it over
//! TLS, for an MTOM request and for a simple one. What refuses a request stores nothing and sends nothing.

mod rows;

use std::{collections::BTreeSet, sync::Arc};

use xdbridge::{
    adapters::clock::SystemClock,
    app::config::Config,
    formats::{
        audit::{AuditKind, AuditOutcome},
        xdr::request::Packaging,
    },
};

use crate::support::{
    bridge::{ELM, RUI, TestBridge, fault, registry_response, runtime},
    request::{Posted, TestRequest},
    scripted_smtp::ScriptedSmtp,
    soap_answer::SoapAnswer,
    soap_ground::Ground,
};

use rows::{ACTION, REPLY_TO, ROWS, UNKNOWN_BLOCKS};

const SOAP12: &str = "http://www.w3.org/2003/05/soap-envelope";
const SOAP11: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const WSA: &str = "http://www.w3.org/2005/08/addressing";
const UNSPECIFIED: &str = "http://www.w3.org/2005/08/addressing/unspecified";
/// A value that no reason may repeat.
const CANARY: &str = "zq7value";

/// The rules of section 6 that are no row of the table above, and the test that shows each.
const ELSEWHERE: [(&str, &str); 5] = [
    (
        "SOAP-90",
        "a_failure_of_our_own_is_a_receiver_fault_in_the_packaging_of_the_request",
    ),
    (
        "SOAP-91",
        "an_overloaded_bridge_asks_the_sender_to_come_again",
    ),
    ("SOAP-92", "what_is_wrong_with_metadata_is_no_fault"),
    (
        "SOAP-93",
        "each_row_of_the_fault_table_is_answered_as_it_says",
    ),
    (
        "SOAP-94",
        "each_row_of_the_fault_table_is_answered_as_it_says",
    ),
];

fn ground(change: impl FnOnce(&mut Config)) -> (TestBridge, ScriptedSmtp) {
    let runtime = runtime();
    let server = runtime.block_on(ScriptedSmtp::builder().start());
    let next_hops = [("direct.harbor.example", server.address())];
    let bridge = TestBridge::start_with(runtime, &next_hops, Arc::new(SystemClock), change);
    (bridge, server)
}

fn both(request: &TestRequest) -> [(Packaging, Posted); 2] {
    [
        (Packaging::Mtom, request.mtom()),
        (Packaging::SimpleSoap, request.simple()),
    ]
}

// rule: SOAP-80, SOAP-81, SOAP-82, SOAP-83, SOAP-84, SOAP-85, SOAP-86, SOAP-87, SOAP-88, SOAP-89, SOAP-93, SOAP-94, SOAP-67, SOAP-60, SOAP-68, SOAP-148, SOAP-95, SOAP-10
#[test]
fn each_row_of_the_fault_table_is_answered_as_it_says() {
    let (bridge, server) = ground(|_| {});
    let request = TestRequest::new(ELM, &[RUI]);
    for row in &ROWS {
        for (packaging, posted) in both(&request) {
            let what = format!("{:?} {} {packaging:?}", row.shows, row.to);
            let http = bridge.post(&posted.with(row.from, row.to));
            assert_eq!(http.status, row.status, "{what}");
            let answer = SoapAnswer::of(&http);
            assert_eq!(answer.packaging, Some(packaging), "{what}");
            let found = answer.fault();
            assert_eq!(found.code, format!("{{{SOAP12}}}{}", row.code), "{what}");
            let subcodes = row.subcodes.iter().map(|local| format!("{{{WSA}}}{local}"));
            assert_eq!(found.subcodes, subcodes.collect::<Vec<_>>(), "{what}");
            assert_eq!(found.rule, row.rule, "{what}");

            let related = if row.is_related {
                request.message_id.as_str()
            } else {
                UNSPECIFIED
            };
            assert_eq!(answer.addressing("RelatesTo"), related, "{what}");
            let action = if row.subcodes.is_empty() {
                "soap/fault"
            } else {
                "fault"
            };
            let in_header = answer.envelope.split("</soap:Header>").next().unwrap();
            assert!(
                in_header.contains(&format!("{WSA}/{action}<")),
                "{what}: {in_header}"
            );

            assert!(!found.reason.contains(CANARY), "{what}: {}", found.reason);
            assert!(found.reason.len() < 250, "{what}");
            let is_problem = row.shows == ["SOAP-84"];
            assert_eq!(
                found.problem_action.as_deref(),
                is_problem.then_some("urn:zq7value")
            );
            let upgrade = vec![format!("{{{SOAP12}}}Envelope")];
            let is_upgrade = row.code == "VersionMismatch";
            assert_eq!(
                answer.qnames("SupportedEnvelope"),
                if is_upgrade { upgrade } else { vec![] }
            );
            // The bridge itself reads it too, whatever the HTTP status.
            assert_eq!(fault(&http).subcodes, row.subcodes, "{what}");
        }
    }
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());
    let audited = bridge.audit_of(AuditKind::Iti41Import);
    assert_eq!(audited.len(), 2 * ROWS.len());
    assert!(
        audited
            .iter()
            .all(|record| record.outcome == AuditOutcome::Serious)
    );
}

#[test]
fn every_rule_of_the_fault_section_has_a_row_or_a_test() {
    let spec = include_str!("../../docs/spec/soap.md");
    let section = spec
        .split("\n## ")
        .find(|part| part.starts_with("6. "))
        .unwrap();
    let ids: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.trim_start_matches("| ").split([' ', '|']).next())
        .filter(|word| word.starts_with("SOAP-"))
        .collect();
    let shown = ROWS.iter().flat_map(|row| row.shows.iter().copied());
    let shown: BTreeSet<&str> = shown.chain(ELSEWHERE.map(|(id, _)| id)).collect();
    assert_eq!(shown, ids);
    for (id, test) in ELSEWHERE {
        assert!(
            include_str!("faults.rs").contains(&format!("fn {test}()")),
            "{id}: {test}"
        );
    }
}

// rule: SOAP-82, SOAP-46
#[test]
fn each_block_that_is_not_understood_is_named() {
    let (bridge, _server) = ground(|_| {});
    for (_, posted) in both(&TestRequest::new(ELM, &[RUI])) {
        let answer = SoapAnswer::of(&bridge.post(&posted.with("<soap:Header>", UNKNOWN_BLOCKS)));
        let expected = ["{urn:example:a}zq7value", "{}b"];
        assert_eq!(answer.qnames("NotUnderstood"), expected);
    }
}

// rule: SOAP-67, SOAP-63
#[test]
fn a_request_without_message_id_is_answered_in_relation_to_nothing() {
    let (bridge, _server) = ground(|_| {});
    let request = TestRequest::new(ELM, &[RUI]);
    let id = format!(
        "<wsa:MessageID soap:mustUnderstand=\"true\">{}</wsa:MessageID>",
        request.message_id
    );
    for (_, posted) in both(&request) {
        let posted = posted.with(&id, "");
        let wrong = SoapAnswer::of(&bridge.post(&posted.clone().with(ACTION, "")));
        assert_eq!(
            (wrong.status, wrong.addressing("RelatesTo").as_str()),
            (400, UNSPECIFIED)
        );
        let good = SoapAnswer::of(&bridge.post(&posted));
        assert_eq!(
            (good.status, good.addressing("RelatesTo").as_str()),
            (200, UNSPECIFIED)
        );
    }
}

// rule: SOAP-45, SOAP-81
#[test]
fn soap_1_1_is_told_in_its_own_words_that_1_2_is_spoken() {
    let (bridge, server) = ground(|_| {});
    let request = TestRequest::new(ELM, &[RUI]);
    let mtom = request.mtom();
    let simple = Posted {
        content_type: "text/xml; charset=utf-8".to_owned(),
        ..request.simple()
    };
    for posted in [mtom, simple] {
        let answer = SoapAnswer::of(&bridge.post(&posted.with(SOAP12, SOAP11)));
        assert_eq!((answer.status, answer.packaging), (500, None));
        let tree = roxmltree::Document::parse(&answer.envelope).unwrap();
        assert!(tree.root_element().has_tag_name((SOAP11, "Envelope")));
        let fault = tree
            .descendants()
            .find(|n| n.has_tag_name((SOAP11, "Fault")))
            .unwrap();
        let texts: Vec<_> = fault
            .children()
            .map(|child| (child.tag_name().name(), child.text().unwrap()))
            .collect();
        assert_eq!(texts[0], ("faultcode", "soap11:VersionMismatch"));
        assert_eq!(fault.lookup_namespace_uri(Some("soap11")), Some(SOAP11));
        assert_eq!(texts[1].0, "faultstring");
        assert_eq!(
            answer.qnames("SupportedEnvelope"),
            [format!("{{{SOAP12}}}Envelope")]
        );
        assert_eq!(answer.addressing("RelatesTo"), request.message_id.as_str());
    }
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());
}

// rule: SOAP-90
#[test]
fn a_failure_of_our_own_is_a_receiver_fault_in_the_packaging_of_the_request() {
    let ground = Ground::with(
        |_| {},
        |_| {},
        |_, _| Box::pin(async { panic!("as planned: {CANARY}") }),
    );
    let mut connection = ground.connect();
    connection.send("POST /xdr HTTP/1.1\r\nHost: x\r\nContent-Type: application/soap+xml\r\nContent-Length: 4\r\n\r\nbody").unwrap();
    for (packaging, http) in [
        (Packaging::Mtom, ground.post(b"x")),
        (Packaging::SimpleSoap, connection.answer().unwrap()),
    ] {
        let answer = SoapAnswer::of(&http);
        assert_eq!((answer.status, answer.packaging), (500, Some(packaging)));
        let fault = answer.fault();
        assert_eq!(fault.code, format!("{{{SOAP12}}}Receiver"));
        assert!(!fault.reason.contains(CANARY));
        assert_eq!(answer.addressing("RelatesTo"), UNSPECIFIED);
    }
}

// rule: SOAP-91, SOAP-95, LIM-17
#[test]
fn an_overloaded_bridge_asks_the_sender_to_come_again() {
    let (bridge, server) = ground(|config| {
        config.limits.max_message_bytes = 300_000;
        config.limits.max_bytes_in_flight = 300_000;
    });
    let mut request = TestRequest::new(ELM, &[RUI]);
    request.documents = vec![("application/pdf", vec![b'x'; 200_000])];
    // Another sender's body is under way: once it may go on, its room is taken.
    let mut other = bridge.connect();
    other
        .send("POST /xdr HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: 200000\r\nExpect: 100-continue\r\n\r\n")
        .unwrap();
    assert!(other.head().unwrap().starts_with("HTTP/1.1 100 "));
    let answer = bridge.post(&request.mtom());
    assert_eq!((answer.status, answer.body.len()), (503, 0));
    assert!(answer.header("retry-after").is_some());
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());
}

// rule: SOAP-92, SOAP-10
#[test]
fn what_is_wrong_with_metadata_is_no_fault() {
    let (bridge, _server) = ground(|_| {});
    for (packaging, posted) in both(&TestRequest::new(ELM, &[RUI])) {
        let http = bridge.post(&posted.with("20260302141500", CANARY));
        let answer = SoapAnswer::of(&http);
        assert_eq!((answer.status, answer.packaging), (200, Some(packaging)));
        assert!(!registry_response(&http).is_success());
    }
}

// rule: SOAP-2, SOAP-7, SOAP-9, SOAP-95, T-11b
#[test]
fn http_itself_refuses_what_is_no_soap() {
    let (bridge, server) = ground(|config| config.limits.max_message_bytes = 20_000);
    let posted = TestRequest::new(ELM, &[RUI]).mtom();
    let head = |line: &str, fields: &str| {
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n{fields}\r\n\r\nbody")
    };
    let soap = "Content-Type: application/soap+xml";
    for (request, status) in [
        (head("PUT /xdr", soap), 405),
        (head("DELETE /xdr", soap), 405),
        (head("POST /", soap), 404),
        (head("POST /xdr/x", soap), 404),
        (head("POST /xdr", "X-Nothing: x"), 415),
        (head("POST /xdr", "Content-Type: application/json"), 415),
        (head("POST /xdr", "Content-Type: no type"), 415),
        (
            head("POST /xdr", &format!("{soap}\r\nContent-Type: text/xml")),
            415,
        ),
        (
            head(
                "POST /xdr",
                "Content-Type: application/soap+xml; charset=ebcdic",
            ),
            415,
        ),
        (
            head("POST /xdr", &format!("{soap}\r\nContent-Encoding: gzip")),
            415,
        ),
        (
            head(
                "POST /xdr",
                &format!("{soap}\r\nContent-Encoding: identity"),
            ),
            400,
        ),
        (
            head(
                "POST /xdr",
                "Content-Type: Application/SOAP+XML;Charset=\"UTF-8\";action=x",
            ),
            400,
        ),
        (
            head("POST /xdr", &format!("X-Long: {}", "x".repeat(70_000))),
            431,
        ),
        (
            "POST /xdr HTTP/1.1\r\nHost: x\r\nContent-Length: 20001\r\n\r\n".to_owned(),
            413,
        ),
    ] {
        let mut connection = bridge.connect();
        connection.send(&request).unwrap();
        let answer = connection.answer().unwrap();
        assert_eq!(
            answer.status,
            status,
            "{}",
            &request[..request.len().min(200)]
        );
        // Only a message in a packaging that is known is worth a fault.
        assert_eq!(answer.body.is_empty(), status != 400, "{status}");
    }
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());

    // Chunked, and after 100 Continue, it is the same request.
    let mut connection = bridge.connect();
    let head = format!(
        "POST /xdr HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        posted.content_type
    );
    connection.send(head).unwrap();
    assert!(connection.head().unwrap().starts_with("HTTP/1.1 100 "));
    for chunk in posted.body.chunks(1_000) {
        connection
            .send(crate::support::soap_ground::as_chunk(chunk))
            .unwrap();
    }
    connection.send("0\r\n\r\n").unwrap();
    assert!(registry_response(&connection.answer().unwrap()).is_success());
}

/// A ReplyTo that asks for no answer.
const NO_ANSWER: &str = "<wsa:Address>http://www.w3.org/2005/08/addressing/none</wsa:Address>";

// rule: SOAP-70, SOAP-95
#[test]
fn who_wants_no_answer_gets_none_and_its_submission_is_processed() {
    let runtime = runtime();
    let hop = ScriptedSmtp::builder().tls(&crate::support::bridge::as_tls(
        &crate::support::bridge::pki().mail_host,
    ));
    let server = runtime.block_on(hop.start());
    let bridge = TestBridge::start(runtime, &[("direct.harbor.example", server.address())]);
    let silent = |posted: Posted| {
        let answer = bridge.post(&posted);
        assert_eq!((answer.status, answer.body.len()), (202, 0));
        assert_eq!(answer.header("content-type"), None);
    };
    for (number, (_, posted)) in (1..).zip(both(&TestRequest::new(ELM, &[RUI]))) {
        let posted = posted.with(REPLY_TO, NO_ANSWER);
        // A fault, a Failure for its metadata, one for its recipients: nobody to tell, but each is in the audit.
        silent(posted.clone().with(ACTION, ""));
        silent(posted.clone().with("</soap:Envelope>", ""));
        silent(posted.clone().with("20260302141500", CANARY));
        silent(posted.clone().with(RUI, "nobody@direct.fjord.example"));
        assert_eq!(bridge.audit_of(AuditKind::Iti41Import).len(), 4 * number);
        bridge.assert_nothing_stored();
    }
    let records = bridge.audit_of(AuditKind::Iti41Import);
    assert!(
        records
            .iter()
            .all(|record| record.outcome == AuditOutcome::Serious)
    );
    assert_eq!(records[0].details["rules"], "SOAP-60");
    assert_eq!(records[2].details["rules"], "MD-40");

    let good = TestRequest::new(ELM, &[RUI])
        .mtom()
        .with(REPLY_TO, NO_ANSWER);
    // 202 is a promise: what cannot be recorded is not answered by it.
    bridge.break_store();
    let answer = bridge.post(&good);
    assert_eq!((answer.status, answer.body.len()), (503, 0));
    assert!(answer.header("retry-after").is_some());
    bridge.mend_store();
    for _ in 0..2 {
        silent(good.clone());
    }
    bridge.wait_until_sent();
    assert_eq!(crate::support::mailbox::received(&server).len(), 1);
    assert_eq!(bridge.exchanges().len(), 1);
}
