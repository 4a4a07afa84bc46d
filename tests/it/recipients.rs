//! Recipients that cannot be served, beside those that can (XDR-32); and the least that a submission may say.

use xdbridge::{
    app::config::Config,
    bridge::{
        exchange::{Reason, RecipientState},
        partner::Partial,
        routing::RouteConfig,
    },
    formats::{
        audit::AuditKind,
        finding::Severity::{self, Error, Warning},
        xdr::response::Status,
    },
};

use crate::support::{
    bridge::{
        ELM, INTAKE, MEI, RUI, TestBridge, UNKNOWN, UNTRUSTED, assert_plain_success, entries, pki,
    },
    mailbox::{opened, received},
    request::{Posted, TestRequest},
    scripted_smtp::ScriptedSmtp,
    wait_until,
};

fn ground(change: impl FnOnce(&mut Config)) -> (TestBridge, ScriptedSmtp) {
    let domains = [
        "direct.harbor.example",
        "direct.harbor.example.org",
        "direct.quay.example",
        "direct.dune.example",
        "direct.fjord.example",
    ];
    TestBridge::beside_a_hop(&domains, change)
}

fn entry(severity: Severity, token: &str, location: &str) -> (Severity, String, String, String) {
    let code = match token {
        "badAddress" | "unknownRecipient" => "UnknownRecipient",
        _ => "UnavailableRecipient",
    };
    (severity, code.into(), token.into(), location.into())
}

// rule: XDR-32, XDR-30, XDR-42, XDR-88, XDR-124
#[test]
fn recipients_that_cannot_be_served_are_warned_of_and_the_others_get_their_mail() {
    let (bridge, server) = ground(|config| {
        let allowed = [RUI, UNKNOWN, UNTRUSTED];
        config.partner[0].send_to = allowed.map(str::to_owned).to_vec();
    });
    let request = TestRequest::new(ELM, &[UNKNOWN, RUI, UNTRUSTED, MEI]);
    let response = bridge.submit(&request.mtom());
    assert_eq!(response.status, Status::Success);
    let expected = [
        entry(Warning, "noCertificate", UNKNOWN),
        entry(Warning, "untrusted", UNTRUSTED),
        entry(Warning, "policyRefused", MEI),
    ];
    assert_eq!(entries(&response), expected);

    bridge.wait_until_sent();
    let mails = received(&server);
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].recipients, [RUI]);
    // The mail names nobody who does not get it.
    assert_eq!(opened(&mails[0].message, &pki().harbor).to, [RUI]);
    for (address, reason) in [
        (UNKNOWN, Reason::NoCertificate),
        (UNTRUSTED, Reason::Untrusted),
        (MEI, Reason::PolicyRefused),
    ] {
        let recipient = bridge.recipient(address);
        assert_eq!(recipient.state, RecipientState::Rejected);
        assert_eq!(recipient.outcome.unwrap().failure, Some(reason));
    }
    // One disposition for each, which the status submission will carry.
    wait_until("three outcomes are told", || {
        bridge.audit_of(AuditKind::Outcome).len() == 3
    });
}

// rule: XDR-32, XDR-124
#[test]
fn a_submission_whose_recipients_are_all_refused_fails_and_leaves_nothing() {
    let (bridge, server) = ground(|_| {});
    let mut request = TestRequest::new(ELM, &[UNKNOWN, UNTRUSTED]);
    request.documents = vec![("application/pdf", vec![b'x'; 200_000])];
    let response = bridge.submit(&request.mtom());
    assert_eq!(response.status, Status::Failure);
    let expected = [
        entry(Error, "noCertificate", UNKNOWN),
        entry(Error, "untrusted", UNTRUSTED),
    ];
    assert_eq!(entries(&response), expected);
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());
    assert_eq!(bridge.audit_of(AuditKind::Iti41Import).len(), 1);
}

// rule: XDR-32
#[test]
fn an_atomic_partner_sends_to_all_or_to_none() {
    let (bridge, server) = ground(|config| config.partner[0].partial = Partial::Atomic);
    let response = bridge.submit(&TestRequest::new(ELM, &[RUI, UNKNOWN]).mtom());
    assert_eq!(response.status, Status::Failure);
    assert_eq!(entries(&response), [entry(Error, "noCertificate", UNKNOWN)]);
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());

    assert_plain_success(&bridge.submit(&TestRequest::new(ELM, &[RUI, INTAKE]).mtom()));
    bridge.wait_until_sent();
    assert_eq!(received(&server)[0].recipients, [RUI, INTAKE]);
}

// rule: XDR-60, XDR-64, XDR-67, SOAP-113
#[test]
fn without_an_address_block_the_intended_recipients_are_served() {
    let (bridge, server) = ground(|_| {});
    let mut request = TestRequest::new(ELM, &[]);
    request.from = None;
    request.intended_recipients = vec![
        format!("Harbor Hospital^^^^^^^^^2.999.40|^Silva^Rui^^^Dr|^^Internet^{RUI}"),
        format!("\n  ||^^Internet^Intake &lt;{INTAKE}&gt;\n "),
    ];
    assert_plain_success(&bridge.submit(&request.mtom()));
    bridge.wait_until_sent();
    let mails = received(&server);
    assert_eq!(mails[0].recipients, [RUI, INTAKE]);
    assert_eq!(opened(&mails[0].message, &pki().harbor).from, ELM);
}

// rule: ADR-7, XDR-32, XDR-60, XDR-61
#[test]
fn a_broken_address_in_full_metadata_refuses_its_recipient_and_no_other() {
    let (bridge, server) = ground(|_| {});
    let mut request = TestRequest::new(ELM, &[]);
    request.from = None;
    request.intended_recipients = ["no address", "intake@[192.0.2.7]", RUI]
        .map(|address| format!("||^^Internet^{address}"))
        .to_vec();
    let response = bridge.submit(&request.mtom());
    assert_eq!(response.status, Status::Success);
    let expected = [
        entry(Warning, "badAddress", "no address"),
        entry(Warning, "badAddress", "intake@[192.0.2.7]"),
    ];
    assert_eq!(entries(&response), expected);
    bridge.wait_until_sent();
    let mails = received(&server);
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].recipients, [RUI]);

    // Where nobody else is named, the submission fails for each of them.
    request.intended_recipients.pop();
    let response = bridge.submit(&request.mtom());
    assert_eq!(response.status, Status::Failure);
    let expected = [
        entry(Error, "badAddress", "no address"),
        entry(Error, "badAddress", "intake@[192.0.2.7]"),
    ];
    assert_eq!(entries(&response), expected);

    // With an addressBlock nobody is found by it: it is content like any other, and crosses.
    let mut request = TestRequest::new(ELM, &[RUI]);
    request.intended_recipients = vec!["||^^Internet^no address".to_owned()];
    assert_plain_success(&bridge.submit(&request.mtom()));
}

// rule: ADR-7, XDR-32
#[test]
fn an_atomic_partner_s_broken_address_refuses_the_submission() {
    let (bridge, server) = ground(|config| config.partner[0].partial = Partial::Atomic);
    let mut request = TestRequest::new(ELM, &[]);
    request.from = None;
    request.intended_recipients = vec![
        format!("||^^Internet^{RUI}"),
        "||^^Internet^no address".to_owned(),
    ];
    let response = bridge.submit(&request.mtom());
    assert_eq!(response.status, Status::Failure);
    assert_eq!(
        entries(&response),
        [entry(Error, "badAddress", "no address")]
    );
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());
}

// rule: XDR-60, XDR-32
#[test]
fn an_organisation_that_no_route_leads_to_is_an_unknown_recipient() {
    let (bridge, server) = ground(|config| {
        config.route = vec![RouteConfig {
            organisation: "2.999.41".to_owned(),
            authority: None,
            address: RUI.to_owned(),
        }];
    });
    let mut request = TestRequest::new(ELM, &[]);
    request.from = None;
    request.intended_recipients = vec!["Harbor Hospital^^^^^^^^^2.999.40".to_owned()];
    let response = bridge.submit(&request.mtom());
    assert_eq!(response.status, Status::Failure);
    let refused = entries(&response);
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].1, "UnknownRecipient");
    // The form of every refused recipient: the reason, and the value that it is about (XDR-32).
    let entry = &response.errors[0];
    assert!(
        entry.context.starts_with("unknownRecipient: "),
        "{}",
        entry.context
    );
    assert_eq!(
        entry.location.as_deref(),
        Some("Harbor Hospital^^^^^^^^^2.999.40")
    );
    bridge.assert_nothing_stored();
    assert!(server.transcripts().is_empty());

    // One that a route leads to is served.
    request.intended_recipients = vec!["Quay Hospital^^^^^^^^^2.999.41".to_owned()];
    assert_plain_success(&bridge.submit(&request.mtom()));
    bridge.wait_until_sent();
    assert_eq!(received(&server)[0].recipients, [RUI]);
}

/// The specification's own example of a minimal request, for the domains of this ground.
fn minimal_example() -> Posted {
    let example = include_bytes!("../../docs/spec/examples/02-request-direct-minimal-mtom.http");
    let text = String::from_utf8(example.to_vec()).unwrap();
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap();
    let content_type = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Type: "))
        .unwrap();
    Posted {
        content_type: content_type.to_owned(),
        body: body
            .replace("direct.elm.example.org", "direct.elm.example")
            .replace("direct.harbor.example.org", "direct.harbor.example")
            .replace('\n', "\r\n")
            .into_bytes(),
    }
}

// rule: XDR-20, XDR-84, SOAP-115, MD-20
#[test]
fn minimal_metadata_is_enough() {
    let (bridge, server) = ground(|_| {});
    let posted = minimal_example();
    assert_plain_success(&bridge.submit(&posted));
    bridge.wait_until_sent();
    let mails = received(&server);
    assert_eq!(mails[0].recipients, [RUI, INTAKE]);
    let unpacked = opened(&mails[0].message, &pki().harbor);
    let set = unpacked.submission.metadata.submission_set().unwrap();
    assert_eq!(set.intended_recipients.len(), 2);
    assert_eq!(set.patient_id, None);
    assert_eq!(unpacked.documents, [b"%PDF-1.4 sample payload\r\n"]);

    // Without intendedRecipient the bridge writes it from the addressBlock.
    let text = String::from_utf8(posted.body.clone()).unwrap();
    let start = text.find("<rim:Slot name=\"intendedRecipient\">").unwrap();
    let end = start + text[start..].find("</rim:Slot>").unwrap() + "</rim:Slot>".len();
    let posted = posted.with(&text[start..end], "");
    let posted = posted.with("2.999.30.2002", "2.999.30.2003");
    assert_plain_success(&bridge.submit(&posted));
    bridge.wait_until_sent();
    let mails = received(&server);
    let unpacked = opened(&mails[1].message, &pki().harbor);
    let set = unpacked.submission.metadata.submission_set().unwrap();
    assert_eq!(set.intended_recipients.len(), 2);
}
