//! A submission crosses: posted by XDR over mutual TLS, received as Direct mail by a counterpart that uses nothing of
//! ours, a real Postfix and the tools of the command line.

use xdbridge::{
    bridge::exchange::{Reason, RecipientState},
    formats::{
        audit::{AuditKind, AuditOutcome},
        metadata::equal_metadata,
    },
};

use crate::support::{
    bridge::{ELM, INTAKE, MEI, RUI, TestBridge, assert_plain_success, pki, runtime},
    folder::TestFolder,
    mailbox::{opened, received, unpacked},
    postfix::{Postfix, REFUSED},
    request::TestRequest,
    scripted_smtp::ScriptedSmtp,
    soap_ground::every_octet,
    tools::{assert_tools_accept_the_package, opened_by_openssl},
    wait_until,
};

/// A text, a binary of every octet, and a large one that does not shrink.
fn several_documents() -> Vec<(&'static str, Vec<u8>)> {
    let mut random = vec![0; 1_300_000];
    openssl::rand::rand_bytes(&mut random).unwrap();
    let text = "<ClinicalDocument xmlns=\"urn:hl7-org:v3\"><title>Überweisung</title></ClinicalDocument>\r\n.\r\n";
    vec![
        ("text/xml", text.as_bytes().to_vec()),
        ("application/pdf", every_octet(70_000)),
        ("application/dicom", random),
    ]
}

// rule: XDR-80, XDR-81, XDR-86, XDR-88, XDR-89, SND-6, TX-22, TX-28, XDM-1
#[test]
fn a_submission_reaches_a_real_mail_server_whole_and_a_recipient_refused_there_fails_alone() {
    let postfix = Postfix::start(&pki().mail_host, &[RUI, INTAKE, MEI]);
    let next_hops = [
        ("direct.harbor.example", postfix.address()),
        ("direct.quay.example", postfix.address()),
    ];
    let bridge = TestBridge::start(runtime(), &next_hops);
    let mut request = TestRequest::new(ELM, &[RUI, REFUSED, MEI]);
    request.documents = several_documents();
    request.extra_slot = Some(("urn:example:ward", "Ward 4 – Süd"));

    assert_plain_success(&bridge.submit(&request.mtom()));
    bridge.wait_until_sent();
    wait_until("Postfix has delivered", || {
        !postfix.mailbox(RUI).is_empty() && !postfix.mailbox(MEI).is_empty()
    });

    let exchange = bridge.exchange();
    let message_id = exchange.legs[0].as_mail().unwrap().message_id.as_str();
    for (address, identity) in [(RUI, &pki().harbor), (MEI, &pki().mei)] {
        let mails = postfix.mailbox(address);
        let [mail] = mails.as_slice() else {
            panic!("{} mails for {address}", mails.len());
        };
        let folder = TestFolder::new();
        let entity = opened_by_openssl(folder.path(), mail, identity);
        let unpacked = unpacked(&entity);
        assert_tools_accept_the_package(folder.path(), &unpacked.zip);
        let sent: Vec<&[u8]> = request
            .documents
            .iter()
            .map(|(_, octets)| &**octets)
            .collect();
        assert_eq!(unpacked.documents, sent);
        assert!(equal_metadata(
            unpacked.submission.metadata.xml(),
            request.metadata().xml()
        ));
        assert_eq!(unpacked.message_id, message_id);
        assert_eq!(unpacked.from, ELM);
        assert_eq!(unpacked.to, [RUI, REFUSED, MEI]);
    }
    assert!(postfix.mailbox(REFUSED).is_empty());

    for relayed in [RUI, MEI] {
        let recipient = bridge.recipient(relayed);
        assert_eq!(
            (recipient.state, recipient.outcome),
            (RecipientState::Relayed, None)
        );
    }
    let refused = bridge.recipient(REFUSED);
    assert_eq!(refused.state, RecipientState::Bounced);
    assert_eq!(refused.outcome.unwrap().failure, Some(Reason::SmtpRejected));
    wait_until("its outcome is told", || {
        bridge.audit_of(AuditKind::Outcome).len() == 1
    });
    let outcome = bridge.audit_of(AuditKind::Outcome).remove(0);
    assert_eq!(outcome.outcome, AuditOutcome::Serious);
    assert_eq!(outcome.details["recipient"], REFUSED);
    assert_eq!(outcome.details["outcome"], "smtpRejected");
    bridge.stop();
}

/// A next hop with STARTTLS that takes everything.
fn plain_server(runtime: &tokio::runtime::Runtime) -> ScriptedSmtp {
    let identity = crate::support::bridge::as_tls(&pki().mail_host);
    runtime.block_on(ScriptedSmtp::builder().tls(&identity).start())
}

// rule: SOAP-10, SOAP-11, XDR-81
#[test]
fn a_simple_envelope_crosses_as_well_and_is_answered_in_kind() {
    let runtime = runtime();
    let server = plain_server(&runtime);
    let bridge = TestBridge::start(runtime, &[("direct.harbor.example", server.address())]);
    let mut request = TestRequest::new(ELM, &[RUI, INTAKE]);
    request.documents = several_documents();
    let answer = bridge.post(&request.simple());
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("application/soap+xml")
    );
    assert_plain_success(&crate::support::bridge::registry_response(&answer));

    bridge.wait_until_sent();
    let received = received(&server);
    let [mail] = received.as_slice() else {
        panic!("{} mails", received.len());
    };
    assert_eq!(mail.recipients, [RUI, INTAKE]);
    let unpacked = opened(&mail.message, &pki().harbor);
    let sent: Vec<&[u8]> = request
        .documents
        .iter()
        .map(|(_, octets)| &**octets)
        .collect();
    assert_eq!(unpacked.documents, sent);
    assert!(equal_metadata(
        unpacked.submission.metadata.xml(),
        request.metadata().xml()
    ));
}

crate::support::stores::on_postgresql_too! {
    a_submission_reaches_a_real_mail_server_whole_and_a_recipient_refused_there_fails_alone,
}
