//! The same submission again, and what only looks the same (XDR-50).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::runtime::Runtime;
use xdbridge::{
    bridge::exchange::{Exchange, Reason, RecipientState},
    formats::{audit::AuditKind, finding::Severity, xdr::response::Status},
};

use crate::support::{
    bridge::{
        ASH, ELM, INTAKE, RUI, TestBridge, UNKNOWN, UNTRUSTED, as_tls, assert_plain_success,
        entries, fault, pki, registry_response, runtime,
    },
    mailbox::received,
    request::{Posted, TestRequest},
    scripted_smtp::{Act, ScriptedSmtp},
    soap_answer::SoapAnswer,
};

fn server(
    runtime: &Runtime,
    script: impl Fn(usize, &str) -> Option<Act> + Send + Sync + 'static,
) -> ScriptedSmtp {
    let builder = ScriptedSmtp::builder().tls(&as_tls(&pki().mail_host));
    runtime.block_on(builder.acts(script).start())
}

fn ground() -> (TestBridge, ScriptedSmtp) {
    let runtime = runtime();
    let server = server(&runtime, |_, _| None);
    let bridge = TestBridge::start(runtime, &[("direct.harbor.example", server.address())]);
    (bridge, server)
}

fn recipients_of_mails(server: &ScriptedSmtp) -> Vec<Vec<String>> {
    let mails = received(server).into_iter();
    mails.map(|mail| mail.recipients).collect()
}

// rule: XDR-50, SOAP-69
#[test]
fn a_request_posted_again_is_answered_as_before_and_sends_nothing_more() {
    let (bridge, server) = ground();
    let mut request = TestRequest::new(ELM, &[RUI, INTAKE]);
    let mut random = vec![0; 100_000];
    openssl::rand::rand_bytes(&mut random).unwrap();
    request.documents.push(("application/pdf", random));
    assert_plain_success(&bridge.submit(&request.mtom()));
    assert_plain_success(&bridge.submit(&request.mtom()));
    bridge.wait_until_sent();
    assert_plain_success(&bridge.submit(&request.mtom()));
    // A new id for the transport, the same set and content: the same submission.
    request.message_id = TestRequest::new(ELM, &[]).message_id;
    assert_plain_success(&bridge.submit(&request.simple()));

    assert_eq!(bridge.exchanges().len(), 1);
    // The received body and the sealed one: those of the repetitions are gone.
    assert_eq!(bridge.large_bodies(), 2);
    assert_eq!(recipients_of_mails(&server), [[RUI, INTAKE]]);
}

// rule: XDR-50
#[test]
fn two_identical_requests_at_once_make_one_mail() {
    let (bridge, server) = ground();
    let posted = TestRequest::new(ELM, &[RUI]).mtom();
    std::thread::scope(|scope| {
        let posts: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| assert_plain_success(&bridge.submit(&posted))))
            .collect();
        for post in posts {
            post.join().unwrap();
        }
    });
    bridge.wait_until_sent();
    assert_eq!(bridge.exchanges().len(), 1);
    assert_eq!(recipients_of_mails(&server), [[RUI]]);
}

// rule: XDR-50, SOAP-69
#[test]
fn an_id_used_again_for_other_content_is_a_submission_of_its_own() {
    let (bridge, server) = ground();
    let first = TestRequest::new(ELM, &[RUI]);
    let mut second = first.clone();
    second.documents[0].1 =
        b"<ClinicalDocument xmlns=\"urn:hl7-org:v3\"><id/></ClinicalDocument>".to_vec();
    for request in [&first, &second] {
        assert_plain_success(&bridge.submit(&request.mtom()));
    }
    bridge.wait_until_sent();
    assert_eq!(bridge.exchanges().len(), 2);
    assert_eq!(recipients_of_mails(&server), [[RUI], [RUI]]);
}

// rule: SOAP-69
#[test]
fn a_partner_may_have_such_an_id_refused() {
    let runtime = runtime();
    let server = server(&runtime, |_, _| None);
    let next_hops = [("direct.harbor.example", server.address())];
    let clock = Arc::new(xdbridge::adapters::clock::SystemClock);
    let bridge = TestBridge::start_with(runtime, &next_hops, clock, |config| {
        config.partner[0].strict_message_id = true;
    });
    let first = TestRequest::new(ELM, &[RUI]);
    assert_plain_success(&bridge.submit(&first.mtom()));
    assert_plain_success(&bridge.submit(&first.mtom()));
    let mut second = first.clone();
    second.documents[0].1 = b"<other/>".to_vec();
    let answer = bridge.post(&second.mtom());
    assert_eq!(answer.status, 400);
    let fault = fault(&answer);
    assert_eq!(
        fault.subcodes,
        ["InvalidAddressingHeader", "DuplicateMessageID"]
    );
    assert_eq!(bridge.exchanges().len(), 1);
}

// rule: XDR-50
#[test]
fn ids_never_match_across_partners() {
    let (bridge, server) = ground();
    let mut request = TestRequest::new(ELM, &[RUI]);
    assert_plain_success(&bridge.submit(&request.mtom()));
    request.from = Some(ASH.to_owned());
    let answer = bridge.post_as(Some(&pki().ash), &request.mtom()).unwrap();
    assert_plain_success(&registry_response(&answer));
    bridge.wait_until_sent();
    assert_eq!(bridge.exchanges().len(), 2);
    assert_eq!(recipients_of_mails(&server), [[RUI], [RUI]]);
}

// rule: XDR-50
#[test]
fn a_repetition_tries_only_the_recipients_that_failed_and_those_not_named_before() {
    let runtime = runtime();
    let is_moved = Arc::new(AtomicBool::new(false));
    let server = server(&runtime, {
        let is_moved = Arc::clone(&is_moved);
        move |_, step| {
            let is_refused = step.contains(INTAKE) && !is_moved.load(Ordering::SeqCst);
            is_refused.then(|| Act::Say("550 5.1.1 no such user".to_owned()))
        }
    });
    let bridge = TestBridge::start(runtime, &[("direct.harbor.example", server.address())]);
    let mut request = TestRequest::new(ELM, &[RUI, INTAKE]);
    assert_plain_success(&bridge.submit(&request.mtom()));
    bridge.wait_until_sent();
    let failed = bridge.recipient(INTAKE);
    assert_eq!(failed.state, RecipientState::Bounced);
    assert_eq!(failed.outcome.unwrap().failure, Some(Reason::SmtpRejected));

    is_moved.store(true, Ordering::SeqCst);
    let late = "late@direct.harbor.example";
    request.to.push(late.to_owned());
    assert_plain_success(&bridge.submit(&request.mtom()));
    bridge.wait_until_sent();
    let mails = recipients_of_mails(&server);
    assert_eq!(mails, [vec![RUI, INTAKE], vec![INTAKE, late]]);
    let exchanges = bridge.exchanges();
    assert_eq!(exchanges.len(), 2);
    // What was decided stays decided.
    let first = exchanges[0].recipient(&INTAKE.parse().unwrap()).unwrap();
    assert_eq!(first.state, RecipientState::Bounced);
    let second = exchanges[1].recipient(&INTAKE.parse().unwrap()).unwrap();
    assert_eq!(second.state, RecipientState::Relayed);
}

// rule: XDR-50, XDR-32, XDR-125
#[test]
fn a_recipient_that_is_refused_again_is_told_again_and_nothing_new_is_recorded() {
    let (bridge, server) = ground();
    let mut request = TestRequest::new(ELM, &[RUI, UNKNOWN]);
    let told = |request: &TestRequest| {
        let response = bridge.submit(&request.mtom());
        assert_eq!(response.status, Status::Success);
        let entries = entries(&response).into_iter();
        entries.map(|entry| (entry.0, entry.3)).collect::<Vec<_>>()
    };
    let unknown = (Severity::Warning, UNKNOWN.to_owned());
    for _ in 0..3 {
        assert_eq!(told(&request), std::slice::from_ref(&unknown));
        bridge.wait_until_sent();
    }
    assert_eq!(bridge.exchanges().len(), 1);
    assert_eq!(bridge.audit_of(AuditKind::Recipient).len(), 2);

    // One who is refused and was not named before has an outcome that must be reported, once.
    request.to.push(UNTRUSTED.to_owned());
    let untrusted = (Severity::Warning, UNTRUSTED.to_owned());
    for _ in 0..2 {
        assert_eq!(told(&request), [unknown.clone(), untrusted.clone()]);
    }
    let all = bridge.exchanges();
    let names = |exchange: &Exchange| {
        let recipients = exchange.recipients.iter();
        let addresses = recipients.map(|recipient| recipient.address.to_string());
        addresses.collect::<Vec<_>>()
    };
    let named: Vec<Vec<String>> = all.iter().map(names).collect();
    assert_eq!(named, [vec![RUI, UNKNOWN], vec![UNTRUSTED]]);
    assert_eq!(recipients_of_mails(&server), [[RUI]]);
}

// rule: XDR-50, NHIN-54
#[test]
fn a_repetition_is_recognised_among_many_submissions_with_its_message_id() {
    let (bridge, server) = ground();
    let first = TestRequest::new(ELM, &[RUI]);
    assert_plain_success(&bridge.submit(&first.simple()));
    // More than are looked at by an id that a sender chose.
    for _ in 0..20 {
        let mut other = TestRequest::new(ELM, &[RUI]);
        other.message_id = first.message_id.clone();
        assert_plain_success(&bridge.submit(&other.simple()));
    }
    bridge.wait_until_sent();
    assert_plain_success(&bridge.submit(&first.simple()));
    assert_eq!(bridge.exchanges().len(), 21);
    assert_eq!(recipients_of_mails(&server).len(), 21);
}

/// The same envelope in the words of another stack: other prefixes, in the metadata too, and other white space there.
fn rephrased(posted: Posted) -> Posted {
    let mut text = String::from_utf8(posted.body).unwrap();
    for (from, to) in [
        ("xmlns:soap=", "xmlns:s="),
        ("soap:", "s:"),
        ("xmlns:wsa=", "xmlns:a="),
        ("wsa:", "a:"),
        ("xmlns:direct=", "xmlns:d="),
        ("<direct:", "<d:"),
        ("</direct:", "</d:"),
        ("xmlns:xds=", "xmlns:x="),
        ("<xds:", "<x:"),
        ("</xds:", "</x:"),
        ("xmlns:rim=", "xmlns:r="),
        ("<rim:", "<r:"),
        ("</rim:", "</r:"),
        ("<r:Slot ", "\n    <r:Slot "),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    Posted {
        body: text.into_bytes(),
        ..posted
    }
}

// rule: XDR-50, SOAP-1, SOAP-67, SOAP-69
#[test]
fn a_repetition_in_other_clothes_is_the_same_submission_and_is_answered_by_its_own_id() {
    let (bridge, server) = ground();
    let mut request = TestRequest::new(ELM, &[RUI]);
    let other_boundary = |posted: Posted| Posted {
        content_type: posted.content_type.replace("xdb-", "=_other:'"),
        body: String::from_utf8(posted.body)
            .unwrap()
            .replace("xdb-", "=_other:'")
            .into_bytes(),
    };
    let clothes: [&dyn Fn(&TestRequest) -> Posted; 5] = [
        &|request| request.mtom(),
        &|request| other_boundary(request.mtom()),
        &|request| request.simple(),
        &|request| rephrased(request.simple()),
        &|request| rephrased(request.mtom()),
    ];
    for write in clothes {
        // Once by the id of before, once by a new one.
        for _ in 0..2 {
            let http = bridge.post(&write(&request));
            assert_plain_success(&registry_response(&http));
            let related = SoapAnswer::of(&http).addressing("RelatesTo");
            assert_eq!(related, request.message_id.as_str());
            request.message_id = TestRequest::new(ELM, &[]).message_id;
        }
    }
    bridge.wait_until_sent();
    assert_eq!(bridge.exchanges().len(), 1);
    assert_eq!(recipients_of_mails(&server), [[RUI]]);
}

// rule: XDR-50, SOAP-69, NHIN-54
#[test]
fn one_constant_message_id_for_two_patients_makes_two_exchanges() {
    let (bridge, server) = ground();
    let first = TestRequest::new(ELM, &[RUI]);
    let mut second = TestRequest::new(ELM, &[RUI]);
    second.message_id = first.message_id.clone();
    let of_another = |request: &TestRequest| {
        let posted = request.simple();
        let text = String::from_utf8(posted.body.clone()).unwrap();
        Posted {
            body: text.replace("PT-7731", "PT-8842").into_bytes(),
            ..posted
        }
    };
    for _ in 0..2 {
        assert_plain_success(&bridge.submit(&first.simple()));
        assert_plain_success(&bridge.submit(&of_another(&second)));
    }
    bridge.wait_until_sent();
    assert_eq!(bridge.exchanges().len(), 2);
    assert_eq!(recipients_of_mails(&server), [[RUI], [RUI]]);

    // The very same ids, SubmissionSet.uniqueId too, and another patient: two exchanges all the same.
    let mut third = first.clone();
    third.to = vec![INTAKE.to_owned()];
    assert_plain_success(&bridge.submit(&of_another(&third)));
    bridge.wait_until_sent();
    assert_eq!(bridge.exchanges().len(), 3);
}

crate::support::stores::on_postgresql_too! {
    a_request_posted_again_is_answered_as_before_and_sends_nothing_more,
    two_identical_requests_at_once_make_one_mail,
    an_id_used_again_for_other_content_is_a_submission_of_its_own,
    ids_never_match_across_partners,
    a_repetition_tries_only_the_recipients_that_failed_and_those_not_named_before,
    a_repetition_is_recognised_among_many_submissions_with_its_message_id,
}
