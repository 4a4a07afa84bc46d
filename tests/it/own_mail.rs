//! A submission for a domain that the bridge serves itself goes from one XDR system to another without mail: sealed,
//! signed and trusted like any other, its notices too, and no connection is made (MR-5, TX-8).

use std::fs;

use xdbridge::{
    adapters::certificates::DomainConfig,
    app::{
        config::Config,
        pki::{Authority, Profile},
    },
    bridge::exchange::{Exchange, Origin, Reason, Recipient, RecipientState},
    formats::{
        audit::{AuditKind, AuditRecord},
        finding::Severity,
        ids::DirectAddress,
        metadata::equal_metadata,
        xdr::response::Status,
    },
};

use crate::support::{
    bridge::{ASH, ELM, RUI, TestBridge, assert_plain_success, entries, now, pki, write_identity},
    keys,
    mailbox::{opened, received},
    postfix::Postfix,
    receiving_ground::{
        ADA, FINAL_DELIVERY, ReceivingGround, letter, response, sealed, success, understood,
    },
    request::TestRequest,
    scripted_xdr::{Act, Seen},
    soap_ground::every_octet,
    wait_until,
};

const ELM_DOMAIN: &str = "direct.elm.example";
const ASH_DOMAIN: &str = "direct.ash.example";
/// The next hop of this domain is what a test listens at.
const HARBOR_DOMAIN: &str = "direct.harbor.example";
/// What the audit calls the peer of such a mail.
const THIS_BRIDGE: &str = "this bridge";

/// A bridge whose endpoint serves both its domains. Mail for these would come to the same mailbox as that for the
/// foreign one, if there were any.
fn ground(
    script: impl Fn(usize) -> Act + Send + Sync + 'static,
    change: impl FnOnce(&mut Config),
) -> ReceivingGround {
    ReceivingGround::configured(script, |config| {
        config.endpoint[0].serves = [ELM_DOMAIN, ASH_DOMAIN].map(str::to_owned).to_vec();
        config.endpoint[0].idempotent = true;
        catch_mail_to_ourselves(config);
        change(config);
    })
}

fn catch_mail_to_ourselves(config: &mut Config) {
    let hops = &mut config.smtp.client.domains;
    let hop = hops[&HARBOR_DOMAIN.parse().unwrap()].clone();
    for own in [ELM_DOMAIN, ASH_DOMAIN] {
        hops.insert(own.parse().unwrap(), hop.clone());
    }
}

fn submissions(bridge: &TestBridge) -> Vec<Exchange> {
    let all = bridge.exchanges().into_iter();
    all.filter(|one| matches!(one.origin, Origin::Xdr { .. }))
        .collect()
}

/// The recipient of the last submission.
fn recipient(bridge: &TestBridge, address: &str) -> Recipient {
    let submission = submissions(bridge).pop().unwrap();
    let address: DirectAddress = address.parse().unwrap();
    submission.recipient(&address).unwrap().clone()
}

/// Waits until the submission's recipient has an outcome: its state, and the reason of a failure.
fn outcome(bridge: &TestBridge, address: &str) -> (RecipientState, Option<Reason>) {
    wait_until("the recipient is settled", || {
        recipient(bridge, address).outcome.is_some()
    });
    let recipient = recipient(bridge, address);
    (recipient.state, recipient.outcome.unwrap().failure)
}

/// The audit records of one kind whose peer is the bridge itself.
fn of_this_bridge(bridge: &TestBridge, kind: AuditKind) -> Vec<AuditRecord> {
    let records = bridge.audit_of(kind).into_iter();
    records
        .filter(|record| record.details.get("peer").map(String::as_str) == Some(THIS_BRIDGE))
        .collect()
}

fn assert_no_mail(ground: &ReceivingGround) {
    ground.bridge.wait_until_idle();
    assert_eq!(ground.mailbox.transcripts().len(), 0, "a connection");
}

/// What was posted says and carries what was submitted, for these recipients.
fn assert_arrived(seen: &Seen, request: &TestRequest, to: &[&str]) {
    let (posted, documents) = understood(seen);
    let sent: Vec<&[u8]> = request.documents.iter().map(|(_, one)| &**one).collect();
    assert_eq!(documents, sent);
    let block = posted.address_block.unwrap();
    assert_eq!(block.from.to_string(), *request.from.as_ref().unwrap());
    let told: Vec<String> = block.to.iter().map(ToString::to_string).collect();
    assert_eq!(told, to);
    assert!(equal_metadata(&posted.metadata, request.metadata().xml()));
}

/// A text, a binary of every octet, and a large one that does not shrink.
fn several_documents() -> Vec<(&'static str, Vec<u8>)> {
    let mut random = vec![0; 700_000];
    openssl::rand::rand_bytes(&mut random).unwrap();
    let text = "<ClinicalDocument xmlns=\"urn:hl7-org:v3\"><title>Überweisung</title></ClinicalDocument>\r\n.\r\n";
    vec![
        ("text/xml", text.as_bytes().to_vec()),
        ("application/pdf", every_octet(70_000)),
        ("application/dicom", random),
    ]
}

// rule: MR-5, TX-8, XDR-89, RCV-9, RCV-10, MDN-12
#[test]
fn a_submission_for_another_own_domain_is_posted_there_without_mail_and_its_notices_come_back() {
    let ground = ground(|_| success(), |_| {});
    for (documents, final_delivery) in [
        (several_documents(), true),
        (TestRequest::new(ELM, &[ASH]).documents, false),
    ] {
        let before = ground.posted().len();
        let audited = |kind| of_this_bridge(&ground.bridge, kind).len();
        let mails_before = audited(AuditKind::Iti32Import);
        let request = TestRequest {
            documents,
            final_delivery,
            extra_slot: Some(("urn:example:ward", "Ward 4 – Süd")),
            ..TestRequest::new(ELM, &[ASH])
        };
        assert_plain_success(&ground.bridge.submit(&request.mtom()));
        let (state, notices) = match final_delivery {
            true => (RecipientState::Dispatched, 2),
            false => (RecipientState::Processed, 1),
        };
        assert_eq!(outcome(&ground.bridge, ASH), (state, None));
        assert_no_mail(&ground);
        let posted = ground.posted();
        assert_eq!(posted.len(), before + 1);
        assert_arrived(&posted[before], &request, &[ASH]);
        // The document's mail and its notices.
        assert_eq!(audited(AuditKind::Iti32Import), mails_before + 1 + notices);
    }
    let bridge = &ground.bridge;
    assert_eq!(of_this_bridge(bridge, AuditKind::Iti32Export).len(), 2);
    assert_eq!(of_this_bridge(bridge, AuditKind::MdnOut).len(), 3);
    let results: Vec<String> = bridge
        .audit_of(AuditKind::MdnIn)
        .into_iter()
        .map(|mut record| record.details.remove("result").unwrap())
        .collect();
    assert_eq!(results, ["matched", "matched", "matched"]);
    let outcomes = bridge.audit_of(AuditKind::Outcome);
    assert_eq!(outcomes.len(), 2, "one outcome each, told once");
    let ids: Vec<&String> = outcomes.iter().map(|one| &one.details["outcome"]).collect();
    assert_eq!(ids, ["success", "success"]);
    assert_eq!(ground.causes(), Vec::<String>::new());
}

// rule: MR-5, TX-8, SND-6, WR-6
#[test]
fn one_sealed_mail_goes_to_a_real_mail_server_and_to_both_own_domains() {
    let postfix = Postfix::start(&pki().mail_host, &[RUI]);
    let address = postfix.address();
    let ground = ground(
        |_| success(),
        |config| {
            let hops = &mut config.smtp.client.domains;
            let foreign = hops.get_mut(&HARBOR_DOMAIN.parse().unwrap()).unwrap();
            foreign.smarthost = Some(address.to_string().parse().unwrap());
        },
    );
    let request = TestRequest::new(ELM, &[ASH, RUI, ADA]);
    assert_plain_success(&ground.bridge.submit(&request.mtom()));
    for own in [ASH, ADA] {
        let expected = (RecipientState::Processed, None);
        assert_eq!(outcome(&ground.bridge, own), expected);
    }
    wait_until("Postfix has delivered", || !postfix.mailbox(RUI).is_empty());
    ground.bridge.wait_until_sent();
    assert_no_mail(&ground);
    let mails = postfix.mailbox(RUI);
    assert_eq!(mails.len(), 1);
    let mail = opened(&mails[0], &pki().harbor);
    assert_eq!(mail.to, [ASH, RUI, ADA]);
    assert_eq!(
        recipient(&ground.bridge, RUI).state,
        RecipientState::Relayed
    );
    // What came home is that very mail, once for each domain.
    let homes = ground.bridge.exchanges().into_iter();
    let ids = homes.filter_map(|one| match one.origin {
        Origin::Direct { message_id, .. } if !one.legs.is_empty() => message_id,
        _ => None,
    });
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    assert_eq!(ids, [mail.message_id.clone(), mail.message_id]);
    let mut posted: Vec<Vec<String>> = Vec::new();
    for seen in ground.posted() {
        let (read, _) = understood(&seen);
        let to = read.address_block.unwrap().to;
        posted.push(to.iter().map(ToString::to_string).collect());
    }
    posted.sort();
    assert_eq!(posted, [[ASH], [ADA]]);
}

// rule: MR-5, RT-2, XDR-32
#[test]
fn an_own_address_that_no_endpoint_serves_is_an_unknown_recipient() {
    let own = |severity, code: &str| (severity, code.into(), "unknownRecipient".into(), ASH.into());
    let ground = ReceivingGround::configured(|_| success(), catch_mail_to_ourselves);
    // The partner `ash` gets notices there, and no endpoint takes documents.
    let response = ground.bridge.submit(&TestRequest::new(ELM, &[ASH]).mtom());
    assert_eq!(response.status, Status::Failure);
    let expected = [own(Severity::Error, "UnknownRecipient")];
    assert_eq!(entries(&response), expected);
    ground.bridge.assert_nothing_stored();

    let response = ground
        .bridge
        .submit(&TestRequest::new(ELM, &[RUI, ASH]).mtom());
    assert_eq!(response.status, Status::Success);
    let expected = [own(Severity::Warning, "UnknownRecipient")];
    assert_eq!(entries(&response), expected);
    ground.bridge.wait_until_sent();
    let mails = received(&ground.mailbox);
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].recipients, [RUI]);
    assert!(ground.posted().is_empty());

    // Where nothing is received at all, nobody of our own is known.
    let (bridge, hop) = TestBridge::beside_a_hop(&[HARBOR_DOMAIN], catch_mail_to_ourselves);
    let response = bridge.submit(&TestRequest::new(ELM, &[ASH]).mtom());
    let expected = [own(Severity::Error, "UnknownRecipient")];
    assert_eq!(entries(&response), expected);
    assert!(hop.transcripts().is_empty());
}

/// Gives `direct.ash.example` a key of its own CA, and trust in `trusted` alone; `direct.elm.example` trusts its own CA,
/// and that of the other if `is_known`.
fn part_the_domains(config: &mut Config, is_known: bool, is_mutual: bool) {
    let folder = config.soap.server.certificate.parent().unwrap().to_owned();
    let authority = Authority::root("Ash CA", now()).unwrap();
    let profile = Profile::domain(&ASH_DOMAIN.parse().unwrap(), now());
    let key = keys::issue(&authority, &profile);
    let anchor = folder.join("ash-ca.pem");
    fs::write(&anchor, authority.certificate.to_pem().unwrap()).unwrap();
    let identity = write_identity(&folder, "ash-apart", &key);
    let [elm, ash] = config.certificates.domains.as_mut_slice() else {
        panic!("two domains");
    };
    let elm_anchor = elm.anchors[0].clone();
    if is_known {
        elm.anchors.push(anchor.clone());
    }
    *ash = DomainConfig {
        identities: vec![identity],
        anchors: vec![anchor],
        ..ash.clone()
    };
    if is_mutual {
        ash.anchors.push(elm_anchor);
    }
}

// rule: MR-5, OB-S5, RT-5, RCV-7
#[test]
fn each_own_domain_trusts_the_other_or_does_not_by_its_own_anchors() {
    // The sender's domain does not know the CA of the recipient's: refused before anything is sealed.
    let apart = ground(
        |_| success(),
        |config| part_the_domains(config, false, true),
    );
    let response = apart.bridge.submit(&TestRequest::new(ELM, &[ASH]).mtom());
    assert_eq!(response.status, Status::Failure);
    let expected = [(
        Severity::Error,
        "UnavailableRecipient".to_owned(),
        "untrusted".to_owned(),
        ASH.to_owned(),
    )];
    assert_eq!(entries(&response), expected);
    apart.bridge.assert_nothing_stored();

    // It does, but the recipient's domain does not trust the sender's: dropped there in silence.
    let one_way = ground(
        |_| success(),
        |config| part_the_domains(config, true, false),
    );
    assert_plain_success(&one_way.bridge.submit(&TestRequest::new(ELM, &[ASH]).mtom()));
    wait_until("the mail is judged", || {
        let all = one_way.bridge.exchanges();
        let mut mails = all.iter().filter(|one| one.is_final());
        mails.any(|one| matches!(one.origin, Origin::Direct { .. }))
    });
    assert_no_mail(&one_way);
    assert!(one_way.posted().is_empty());
    let waits = recipient(&one_way.bridge, ASH);
    assert_eq!(waits.state, RecipientState::Relayed);
    assert!(
        one_way
            .causes()
            .iter()
            .any(|cause| cause.contains("RCV-R6")),
        "{:?}",
        one_way.causes()
    );

    // Both do.
    let mutual = ground(|_| success(), |config| part_the_domains(config, true, true));
    assert_plain_success(&mutual.bridge.submit(&TestRequest::new(ELM, &[ASH]).mtom()));
    let expected = (RecipientState::Processed, None);
    assert_eq!(outcome(&mutual.bridge, ASH), expected);
    assert_no_mail(&mutual);
    assert_eq!(mutual.posted().len(), 1);
}

// rule: MR-5, RT-9, RT-13, MDN-12
#[test]
fn what_the_other_system_refuses_comes_back_as_a_failure() {
    let refused = "<rs:RegistryErrorList><rs:RegistryError errorCode=\"XDSUnknownPatientId\" codeContext=\"x\" \
         severity=\"urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error\"/></rs:RegistryErrorList>";
    let ground = ground(move |_| response("Failure", refused), |_| {});
    let request = TestRequest {
        final_delivery: true,
        ..TestRequest::new(ELM, &[ASH])
    };
    assert_plain_success(&ground.bridge.submit(&request.mtom()));
    let expected = (RecipientState::Nacked, Some(Reason::MdnFailed));
    assert_eq!(outcome(&ground.bridge, ASH), expected);
    assert_no_mail(&ground);
    assert_eq!(ground.posted().len(), 1);
}

// rule: MR-5, RX-23
#[test]
fn a_foreign_mail_for_an_own_domain_is_answered_by_mail_as_before() {
    let ground = ground(|_| success(), |_| {});
    let mail = letter("abroad@direct.harbor.example", &[ADA], FINAL_DELIVERY);
    let reply = ground.deliver(&mail, &[ADA]);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(ground.notices(2).len(), 2);
    assert!(of_this_bridge(&ground.bridge, AuditKind::MdnOut).is_empty());
    // And one of our own domain's still does not come from outside.
    let from_inside = sealed(&mail, &[&pki().direct_ash], &pki().direct_elm);
    let reply = ground.send(ASH, &[ADA], &from_inside);
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
}

// rule: MR-5, RT-11, LIM-1, LIM-17
#[test]
fn a_mail_waits_for_room_in_the_byte_budget_and_is_never_larger_than_a_received_one_may_be() {
    // Much less than one mail and the memory that opening it takes: each waits for the others.
    let ground = ground(
        |_| success(),
        |config| {
            config.limits.max_message_bytes = 2 * 1024 * 1024;
            config.limits.max_bytes_in_flight = 2 * 1024 * 1024;
        },
    );
    let mut expected = Vec::new();
    for number in 0..4 {
        let mut request = TestRequest::new(ELM, &[ASH]);
        let mut document = vec![0; 400_000 + number];
        openssl::rand::rand_bytes(&mut document).unwrap();
        request.documents = vec![("application/pdf", document.clone())];
        expected.push(vec![document]);
        wait_until("there is room for another submission", || {
            ground.bridge.post(&request.mtom()).status == 200
        });
    }
    wait_until("all are settled", || {
        let all = submissions(&ground.bridge);
        let mut recipients = all.iter().flat_map(|one| &one.recipients);
        all.len() == 4 && recipients.all(|one| one.outcome.is_some())
    });
    let posted = ground.posted();
    let mut arrived: Vec<Vec<Vec<u8>>> = posted.iter().map(|seen| understood(seen).1).collect();
    arrived.sort_by_key(|documents| documents[0].len());
    assert_eq!(arrived, expected);

    // A request within the limit, whose mail is beyond it: base64 is paid twice.
    let mut request = TestRequest::new(ELM, &[ASH]);
    let mut document = vec![0; 1_300_000];
    openssl::rand::rand_bytes(&mut document).unwrap();
    request.documents = vec![("application/pdf", document)];
    wait_until("there is room for another submission", || {
        ground.bridge.post(&request.mtom()).status == 200
    });
    wait_until("it is refused", || {
        let mut all = submissions(&ground.bridge).into_iter();
        all.any(|one| one.recipients[0].reason == Some(Reason::TooLarge))
    });
    assert_eq!(ground.posted().len(), 4);
    assert_no_mail(&ground);
}

// rule: MR-5
#[test]
fn mail_for_an_own_address_is_sealed_to_our_own_keys_and_no_others() {
    // A file of a peer's names an address of ours: nobody here has its key.
    let ground = ground(
        |_| success(),
        |config| {
            let profile = Profile::address(&ASH.parse().unwrap(), now());
            let stray = keys::issue(&pki().authority, &profile);
            let peers = &config.certificates.recipients[0];
            fs::write(peers.join("stray.pem"), stray.certificate.to_pem().unwrap()).unwrap();
        },
    );
    assert_plain_success(&ground.bridge.submit(&TestRequest::new(ELM, &[ASH]).mtom()));
    let expected = (RecipientState::Processed, None);
    assert_eq!(outcome(&ground.bridge, ASH), expected);
    assert_no_mail(&ground);
    assert_eq!(ground.posted().len(), 1);
}

crate::support::stores::on_postgresql_too! {
    a_submission_for_another_own_domain_is_posted_there_without_mail_and_its_notices_come_back,
}
