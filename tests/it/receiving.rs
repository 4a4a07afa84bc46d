//! A Direct message reaches an XDR endpoint, and its sender is told of each recipient once.

use std::collections::BTreeMap;

use xdbridge::{
    bridge::{
        endpoint::EndpointConfig,
        exchange::{LegState, Reason, RecipientState},
    },
    formats::{
        audit::AuditKind, ids::MessageId, notification::mdn::Disposition, soap::MetadataLevel,
    },
};

use crate::support::{
    bridge::{as_tls, as_tls_ca, pki},
    receiving_ground::{
        ADA, FINAL_DELIVERY, LETTER, ReceivingGround, SENDER, TEAM, letter, response, sealed,
        sealed_entity, success, understood,
    },
    scripted_xdr::{Act, ScriptedXdr},
    wait_until,
};

// rule: RCV-9, RCV-10, DST-1, DST-3, MDN-12, MDN-27, MDN-28, MDN-30, COR-4, XDR-104, XDR-107, XDR-110
#[test]
fn a_mail_is_posted_and_its_sender_learns_that_it_was_processed_and_dispatched() {
    let ground = ReceivingGround::start(|_| success());
    let reply = ground.deliver(
        &letter("m1@direct.harbor.example", &[ADA], FINAL_DELIVERY),
        &[ADA],
    );
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    let exchange = ground.settled();
    let [posted] = &ground.posted()[..] else {
        panic!("{} posts", ground.posted().len());
    };
    let (request, documents) = understood(posted);
    assert_eq!(documents, [LETTER]);
    let block = request.address_block.unwrap();
    assert_eq!(block.from.to_string(), SENDER);
    assert_eq!(block.to, [ADA.parse().unwrap()]);
    assert_eq!(request.metadata_level, Some(MetadataLevel::Minimal));
    let leg = exchange.legs[0].as_xdr().unwrap();
    assert_eq!(leg.state, LegState::Delivered);
    assert_eq!(
        request.addressing.message_id.as_ref(),
        Some(&leg.soap_message_id)
    );

    let notices = ground.notices(2);
    let told: Vec<_> = notices
        .iter()
        .map(|notice| (notice.report.disposition, notice.report.is_final_delivery))
        .collect();
    assert_eq!(
        told,
        [
            (Some(Disposition::Processed), false),
            (Some(Disposition::Dispatched), true)
        ]
    );
    let original: MessageId = "m1@direct.harbor.example".parse().unwrap();
    for notice in &notices {
        assert_eq!(notice.report.original_message_id.as_ref(), Some(&original));
        assert_eq!(notice.report.final_recipients, [ADA.parse().unwrap()]);
        assert_eq!((&*notice.from, &*notice.envelope_from), (ADA, ADA));
    }
    assert_ne!(notices[0].message_id, notices[1].message_id);
    assert_eq!(exchange.recipients[0].state, RecipientState::Dispatched);
}

// rule: DST-4, MDN-10
#[test]
fn without_a_request_for_final_delivery_processed_is_all_that_is_said() {
    let ground = ReceivingGround::start(|_| success());
    let options = "Disposition-Notification-Options: X-DIRECT-FINAL-DESTINATION-DELIVERY=true\r\n";
    ground.deliver(&letter("m2@direct.harbor.example", &[ADA], options), &[ADA]);
    ground.settled();
    ground.notices(1);
    ground.bridge.wait_until_idle();
    let notices = ground.notices_now();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].report.disposition, Some(Disposition::Processed));
}

// rule: RT-13, MDN-25, DST-5
#[test]
fn what_the_endpoint_refuses_is_told_as_failed_with_the_reason() {
    let error = "<rs:RegistryErrorList><rs:RegistryError errorCode=\"XDSUnknownPatientId\" codeContext=\"Ada Quill\" \
         severity=\"urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error\"/></rs:RegistryErrorList>";
    let ground = ReceivingGround::start(move |_| response("Failure", error));
    ground.deliver(&letter("m3@direct.harbor.example", &[ADA], ""), &[ADA]);
    let exchange = ground.settled();
    let outcome = exchange.recipients[0].outcome.as_ref().unwrap();
    assert_eq!(outcome.failure, Some(Reason::XdrRefused));
    let notices = ground.notices(2);
    let told: Vec<_> = notices.iter().map(|n| n.report.disposition).collect();
    assert_eq!(
        told,
        [Some(Disposition::Processed), Some(Disposition::Failed)]
    );
    let text = String::from_utf8_lossy(&notices[1].entity);
    assert!(text.contains("Error: xdrRefused: "), "{text}");
    assert!(!text.contains("Quill"), "the endpoint's words stay here");
}

// rule: COR-1, MR-3
#[test]
fn recipients_of_one_endpoint_share_a_request_and_each_gets_notices_of_its_own() {
    let ground = ReceivingGround::start(|_| success());
    let both = [ADA, TEAM];
    ground.deliver(&letter("m4@direct.harbor.example", &both, ""), &both);
    ground.settled();
    assert_eq!(ground.posted().len(), 1);
    let (request, _) = understood(&ground.posted()[0]);
    assert_eq!(request.address_block.unwrap().to.len(), 2);
    let mut froms: Vec<String> = ground.notices(2).into_iter().map(|n| n.from).collect();
    froms.sort();
    assert_eq!(froms, both);
}

// rule: COR-1, XDR-107, XDR-108
#[test]
fn recipients_of_two_endpoints_get_a_request_each_and_each_its_own_result() {
    let server = as_tls(&pki().mail_host);
    let team = ScriptedXdr::start(&server, &as_tls_ca(), |_| response("Failure", ""));
    let url = team.url();
    let ground = ReceivingGround::configured(
        |_| success(),
        |config| {
            config.endpoint.push(EndpointConfig {
                name: "team".to_owned(),
                url,
                serves: vec![TEAM.to_owned()],
                ..EndpointConfig::default()
            });
        },
    );
    let both = [ADA, TEAM];
    let letter = letter("m12@direct.harbor.example", &both, FINAL_DELIVERY);
    ground.deliver(&letter, &both);
    let exchange = ground.settled();
    let mut ids = Vec::new();
    for (posted, address) in [(ground.posted(), ADA), (team.seen(), TEAM)] {
        let [posted] = &posted[..] else {
            panic!("{address}: {} posts", posted.len());
        };
        let (request, documents) = understood(posted);
        assert_eq!(documents, [LETTER], "{address}");
        let to = request.address_block.unwrap().to;
        assert_eq!(to, [address.parse().unwrap()], "no word of the other");
        ids.push(request.addressing.message_id);
    }
    assert_ne!(ids[0], ids[1]);
    let ends: Vec<_> = exchange
        .recipients
        .iter()
        .map(|recipient| recipient.outcome.as_ref().unwrap().failure)
        .collect();
    assert_eq!(ends, [None, Some(Reason::XdrRefused)]);
    let notices = ground.notices(4);
    for (address, last) in [(ADA, Disposition::Dispatched), (TEAM, Disposition::Failed)] {
        let own = notices.iter().filter(|notice| notice.from == address);
        let mut told: Vec<_> = own.map(|notice| notice.report.disposition).collect();
        // They may have come over several connections.
        told.sort_by_key(|said| *said != Some(Disposition::Processed));
        assert_eq!(
            told,
            [Some(Disposition::Processed), Some(last)],
            "{address}"
        );
    }
}

// rule: RCV-R1, RCV-R2, RCV-2
#[test]
fn what_is_not_sealed_for_us_is_refused_in_the_session() {
    let ground = ReceivingGround::start(|_| success());
    // The longer one is on its way to disk when it is looked at.
    for length in [0, 10_000] {
        let plain = letter("m5@direct.harbor.example", &[ADA], "");
        let plain = plain + &"Nothing new since then.\r\n".repeat(length);
        let reply = ground.send(SENDER, &[ADA], plain.as_bytes());
        assert!(reply.starts_with("550 5.7.1"), "{reply}");
        let for_others = sealed(&plain, &[&pki().harbor], &pki().mei);
        let reply = ground.send(SENDER, &[ADA], &for_others);
        assert!(reply.starts_with("550 5.7.5"), "{reply}");
        let reply = ground.send(SENDER, &["nobody@direct.gone.example"], &for_others);
        assert!(reply.starts_with("550 5.7.1"), "{reply}");
        ground.bridge.assert_nothing_stored();
    }
    let broken = "From: x\r\nContent-Type: application/pkcs7-mime\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nMIIB\r\n";
    let reply = ground.send(SENDER, &[ADA], broken.as_bytes());
    assert!(reply.starts_with("554 5.6.0"), "{reply}");
    ground.bridge.assert_nothing_stored();
}

// rule: RCV-R4, RCV-R5, RCV-R6, DST-2, T-4, T-13c
#[test]
fn what_is_not_trusted_is_neither_posted_nor_answered() {
    for (name, from, to, signer) in [
        ("signed by another trusted domain", SENDER, ADA, &pki().mei),
        (
            "another envelope sender",
            "x@direct.harbor.example",
            ADA,
            &pki().harbor,
        ),
        (
            "forwarded behind the sender's back",
            SENDER,
            TEAM,
            &pki().harbor,
        ),
    ] {
        let ground = ReceivingGround::start(|_| success());
        let letter = letter("m6@direct.harbor.example", &[ADA], FINAL_DELIVERY);
        let reply = ground.send(from, &[to], &sealed(&letter, &[signer], &pki().direct_elm));
        assert!(reply.starts_with("250"), "{name}: {reply}");
        let exchange = ground.settled();
        assert_eq!(
            exchange.recipients[0].state,
            RecipientState::Rejected,
            "{name}"
        );
        assert!(!ground.is_opened(), "{name}");
        ground.bridge.wait_until_idle();
        assert!(ground.posted().is_empty(), "{name}");
        assert!(ground.notices_now().is_empty(), "{name}");
        let alerts = ground.bridge.audit_of(AuditKind::SecurityAlert);
        assert!(!alerts.is_empty(), "{name}");
    }
}

// rule: DST-6, MDN-15, T-22
#[test]
fn the_same_mail_again_is_not_posted_again_and_its_notices_are_repeated_as_they_were() {
    let ground = ReceivingGround::start(|_| success());
    let letter = letter("m7@direct.harbor.example", &[ADA], FINAL_DELIVERY);
    ground.deliver(&letter, &[ADA]);
    ground.settled();
    ground.notices(2);
    // Sealed anew: other octets outside, the same signed content.
    let reply = ground.deliver(&letter, &[ADA]);
    assert!(reply.starts_with("250"), "{reply}");
    let notices = ground.notices(4);
    assert_eq!(ground.posted().len(), 1);
    for first in &notices[..2] {
        let mut repeated = notices[2..].iter();
        let again = repeated.find(|again| again.message_id == first.message_id);
        assert_eq!(again.unwrap().entity, first.entity);
    }
    // Another content under the same Message-ID is another mail.
    let other = letter.replace("Please see", "Please do see");
    ground.deliver(&other, &[ADA]);
    wait_until("the other mail is posted", || ground.posted().len() == 2);
}

// rule: DST-6, MDN-15, T-22
#[test]
fn the_same_mail_without_a_message_id_is_posted_once_and_told_once() {
    let ground = ReceivingGround::start(|_| success());
    let id = "Message-ID: <m9@direct.harbor.example>\r\n";
    let with_id = letter("m9@direct.harbor.example", &[ADA], FINAL_DELIVERY);
    let text = with_id.replace(id, "");
    assert_ne!(text, with_id);
    for (number, wrap) in [true, false].into_iter().enumerate() {
        let deliver = |text: &str| {
            let reply = if wrap {
                ground.deliver(text, &[ADA])
            } else {
                ground.send(SENDER, &[ADA], &unwrapped(text))
            };
            assert!(reply.starts_with("250"), "{reply}");
        };
        let (posts, told) = (2 * number, 6 * number);
        deliver(&text);
        wait_until("it is posted", || ground.posted().len() == posts + 1);
        ground.notices(told + 2);
        // Sealed anew.
        deliver(&text);
        let mut copies: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
        for notice in ground.notices(told + 4) {
            let of_one = copies.entry(notice.message_id).or_default();
            of_one.push(notice.entity);
        }
        assert_eq!(ground.posted().len(), posts + 1);
        // Each round has two notices that came twice, and two of another mail.
        assert_eq!(copies.len(), 4 * number + 2);
        let twice = copies.values().filter(|copies| match copies.as_slice() {
            [one, other] => one == other,
            _ => false,
        });
        assert_eq!(twice.count(), 2 * number + 2);
        // Sent at another time, it is another mail: the same document may well be sent twice.
        let later = text.replace("Date: Sun, 22 Nov 2026 ", "Date: Mon, 23 Nov 2026 ");
        assert_ne!(later, text);
        deliver(&later);
        wait_until("the other mail is posted", || {
            ground.posted().len() == posts + 2
        });
        ground.notices(told + 6);
    }
}

/// The letter signed without its header, which is the outer one (WR-2).
fn unwrapped(letter: &str) -> Vec<u8> {
    let at = letter.find("Content-Type: multipart/mixed").unwrap();
    let (header, entity) = letter.split_at(at);
    let to = &pki().direct_elm.certificate;
    let sealed = sealed_entity(entity, &[&pki().harbor], to);
    let sealed = String::from_utf8(sealed).unwrap();
    let outer = &sealed[sealed.find("Content-Type: application/").unwrap()..];
    format!("{header}{outer}").into_bytes()
}

// rule: MDN-14, LOOP-1, RCV-8, XDR-112
#[test]
fn a_notice_is_never_posted_and_never_answered() {
    let ground = ReceivingGround::start(|_| success());
    let report = "multipart/report; report-type=disposition-notification; boundary";
    let mdn = letter("m8@direct.harbor.example", &[ADA], FINAL_DELIVERY)
        .replace("multipart/mixed; boundary", report);
    ground.deliver(&mdn, &[ADA]);
    let exchange = ground.settled();
    assert!(exchange.legs.is_empty());
    ground.bridge.wait_until_idle();
    assert!(ground.posted().is_empty() && ground.notices_now().is_empty());
}

// rule: RT-15
#[test]
fn a_lost_answer_is_in_doubt_unless_the_endpoint_knows_what_it_had() {
    let script = |number| match number {
        0 => Act::CloseAfterBody,
        _ => success(),
    };
    let ground = ReceivingGround::start(script);
    ground.deliver(&letter("m9@direct.harbor.example", &[ADA], ""), &[ADA]);
    let exchange = ground.settled();
    let outcome = exchange.recipients[0].outcome.as_ref().unwrap();
    assert_eq!(outcome.failure, Some(Reason::InDoubt));
    assert_eq!(ground.posted().len(), 1);
    let notices = ground.notices(2);
    assert_eq!(notices[1].report.disposition, Some(Disposition::Failed));
}

// rule: RCV-8, RT-2
#[test]
fn a_bridge_without_an_endpoint_takes_mail_for_its_senders_and_says_that_it_goes_nowhere() {
    let ground = ReceivingGround::configured(
        |_| success(),
        |config| {
            config.endpoint.clear();
            config.soap.client = None;
            config.sources.gateway_oid = None;
        },
    );
    let reply = ground.deliver(&letter("m10@direct.harbor.example", &[ADA], ""), &[ADA]);
    assert!(reply.starts_with("250"), "{reply}");
    let exchange = ground.settled();
    let outcome = exchange.recipients[0].outcome.as_ref().unwrap();
    assert_eq!(outcome.failure, Some(Reason::UnknownRecipient));
    let notices = ground.notices(2);
    assert_eq!(notices[1].report.disposition, Some(Disposition::Failed));
    assert!(ground.posted().is_empty());
}

crate::support::stores::on_postgresql_too! {
    a_mail_is_posted_and_its_sender_learns_that_it_was_processed_and_dispatched,
    recipients_of_two_endpoints_get_a_request_each_and_each_its_own_result,
    the_same_mail_again_is_not_posted_again_and_its_notices_are_repeated_as_they_were,
    the_same_mail_without_a_message_id_is_posted_once_and_told_once,
}
