//! `receiving.inline_verify`: a mail is judged before its reply. Whatever is wrong inside it has one reply, its cause is in
//! the audit, and no mail is lost when there is no time.

use std::time::{Duration, Instant};

use xdbridge::{
    app::{
        config::Config,
        pki::{Authority, Profile},
    },
    bridge::exchange::RecipientState,
    flows::ports::Clock,
    formats::{audit::AuditKind, notification::mdn::Disposition, smime::SigningIdentity},
};

use crate::support::{
    bridge::{MEI, pki},
    openssl_peer::{OpensslPeer, wrapped},
    receiving_ground::{
        ADA, FINAL_DELIVERY, LETTER, ReceivingGround, SENDER, TEAM, Unended, letter, sealed,
        success, understood,
    },
    wait_until,
};

/// The one reply.
const NOT_ACCEPTED: &str = "550 5.7.1 message not accepted";
/// What every such reply waits for.
const SOONEST_REFUSAL: Duration = Duration::from_secs(1);

fn inline(change: impl FnOnce(&mut Config)) -> ReceivingGround {
    ReceivingGround::configured(
        |_| success(),
        |config| {
            config.receiving.inline_verify = true;
            change(config);
        },
    )
}

fn to_ada() -> String {
    letter("i1@direct.harbor.example", &[ADA], FINAL_DELIVERY)
}

/// A certificate for the sender's domain by a CA that nobody trusts.
fn stranger() -> SigningIdentity {
    let now = xdbridge::adapters::clock::SystemClock.now();
    let other = Authority::root("Nobody's CA", now).unwrap();
    let domain = "direct.harbor.example".parse().unwrap();
    other.issue(&Profile::domain(&domain, now)).unwrap()
}

// rule: T-13, RCV-R3, RCV-R4, RCV-R5, RCV-R6, WR-6, WR-7, DST-2
#[test]
fn whatever_is_wrong_inside_a_mail_has_one_reply_and_its_cause_is_audited() {
    let ground = inline(|_| {});
    let peer = OpensslPeer::new();
    let elm = &pki().direct_elm;
    let signed = peer.sign(wrapped(&to_ada()), &[&pki().harbor], &["-binary"]);
    let text = String::from_utf8(signed).unwrap();
    let tampered = text.replacen("JVBERi0xLjQ", "JVBERi0xLjU", 1);
    assert_ne!(text, tampered);
    let enclose = |content: &str| peer.enclose(content, &elm.certificate);
    let good = sealed(&to_ada(), &[&pki().harbor], elm);
    let by = |signer: &SigningIdentity| sealed(&to_ada(), &[signer], elm);
    let cases: [(&str, &str, &str, Vec<u8>, &str); 8] = [
        (
            "not signed",
            SENDER,
            ADA,
            enclose(&wrapped(&to_ada())),
            "is not signed",
        ),
        (
            "tampered with",
            SENDER,
            ADA,
            enclose(&tampered),
            "does not fit the content",
        ),
        (
            "no mail inside",
            SENDER,
            ADA,
            sealed("no header", &[&pki().harbor], elm),
            "",
        ),
        (
            "another envelope sender",
            "x@direct.harbor.example",
            ADA,
            good.clone(),
            "WR-7",
        ),
        (
            "forwarded behind the sender's back",
            SENDER,
            TEAM,
            good.clone(),
            "WR-6",
        ),
        (
            "another domain's signer",
            SENDER,
            ADA,
            by(&pki().mei),
            "RCV-R5",
        ),
        (
            "a CA that nobody trusts",
            SENDER,
            ADA,
            by(&stranger()),
            "RCV-R6",
        ),
        (
            "ciphertext that was altered",
            SENDER,
            ADA,
            altered(good.clone()),
            "",
        ),
    ];
    for (name, from, to, mail, cause) in cases {
        let before = ground.causes().len();
        let began = Instant::now();
        let reply = ground.send(from, &[to], &mail);
        assert_eq!(reply.trim_end(), NOT_ACCEPTED, "{name}");
        assert!(began.elapsed() >= SOONEST_REFUSAL, "{name}");
        let causes = ground.causes();
        let told = causes.get(before..).unwrap_or_default();
        assert!(!told.is_empty(), "{name}");
        assert!(
            told.iter().any(|found| found.contains(cause)),
            "{name}: {told:?}"
        );
    }
    ground.bridge.assert_nothing_stored();
    ground.assert_silence();
    // Every refusal names the transaction that it was in.
    for record in ground.bridge.audit_of(AuditKind::SecurityAlert) {
        assert!(record.exchange.is_none());
        let id = record
            .details
            .get("queue-id")
            .or(record.details.get("smtp-queue-id"));
        assert_eq!(id.map_or(0, String::len), 32, "{record:?}");
    }
}

/// The mail with its last octets of ciphertext altered.
fn altered(mail: Vec<u8>) -> Vec<u8> {
    let mut mail = mail;
    let end = mail.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
    let at = end - 100;
    mail[at] = if mail[at] == b'A' { b'B' } else { b'A' };
    mail
}

// rule: RCV-9, RX-47
#[test]
fn a_trusted_mail_is_taken_posted_and_told_as_without_it() {
    let ground = inline(|_| {});
    let reply = ground.deliver(&to_ada(), &[ADA]);
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    let exchange = ground.settled();
    assert_eq!(exchange.recipients[0].state, RecipientState::Dispatched);
    assert_eq!(understood(&ground.posted()[0]).1, [LETTER]);
    let told: Vec<_> = ground
        .notices(2)
        .iter()
        .map(|n| n.report.disposition)
        .collect();
    assert_eq!(
        told,
        [Some(Disposition::Processed), Some(Disposition::Dispatched)]
    );
}

// rule: MR-4, RCV-R6
#[test]
fn a_mail_is_taken_as_soon_as_one_recipient_may_have_it() {
    let ground = inline(|_| {});
    // The signed header names Ada alone.
    let reply = ground.deliver(&to_ada(), &[TEAM, ADA]);
    assert!(reply.starts_with("250"), "{reply}");
    let exchange = ground.settled();
    let states: Vec<_> = exchange.recipients.iter().map(|one| one.state).collect();
    assert_eq!(
        states,
        [RecipientState::Rejected, RecipientState::Dispatched]
    );
    let mut froms: Vec<String> = ground.notices(2).into_iter().map(|n| n.from).collect();
    froms.dedup();
    assert_eq!(froms, [ADA]);
}

// rule: RCV-8, MDN-46
#[test]
fn a_notice_is_taken_if_somebody_may_say_it_and_refused_like_any_mail_if_nobody_may() {
    let ground = inline(|_| {});
    let report = "multipart/report; report-type=disposition-notification; boundary";
    let notice = to_ada().replace("multipart/mixed; boundary", report);
    let reply = ground.deliver(&notice, &[ADA]);
    assert!(reply.starts_with("250"), "{reply}");
    assert!(ground.settled().legs.is_empty());
    let forged = sealed(&notice, &[&stranger()], &pki().direct_elm);
    let reply = ground.send("", &[ADA], &forged);
    assert_eq!(reply.trim_end(), NOT_ACCEPTED);
    assert_eq!(ground.bridge.exchanges().len(), 1);
    let by_mei = sealed(&notice, &[&pki().mei], &pki().direct_elm);
    assert_eq!(ground.send(MEI, &[ADA], &by_mei).trim_end(), NOT_ACCEPTED);
}

/// A letter of some hundred kilobytes.
fn long_letter(id: &str) -> String {
    let padding = "Please see the attachment.\r\n".repeat(20_000);
    letter(id, &[ADA], FINAL_DELIVERY).replace("Please see the attachment.\r\n", &padding)
}

// rule: RX-48
#[test]
fn a_mail_that_cannot_be_judged_in_time_is_taken_and_opened_later() {
    // No mail is opened before the time is over.
    let ground = inline(|config| config.receiving.inline_verify_timeout = Duration::from_nanos(1));
    let long = long_letter("i1@direct.harbor.example");
    assert_taken_unjudged(&ground, &long);
}

// rule: RX-48, LIM-17
#[test]
fn a_mail_that_there_is_no_room_to_open_now_is_taken_and_opened_later() {
    // Opening it takes four times its octets, and its own octets are in flight until it is answered: there is no room
    // before the reply, and enough after it.
    let long = long_letter("i1@direct.harbor.example");
    let size_bytes = sealed(&long, &[&pki().harbor], &pki().direct_elm).len() as u64;
    let ground = inline(move |config| {
        wait_forever(config);
        config.limits.max_message_bytes = 2 * size_bytes;
        config.limits.max_bytes_in_flight = 4 * size_bytes + size_bytes / 2;
    });
    assert_taken_unjudged(&ground, &long);
}

/// Lets the judgement take longer than any reply is waited for.
fn wait_forever(config: &mut Config) {
    config.receiving.inline_verify_timeout = Duration::from_secs(60 * 60);
    let server = config.smtp.server.as_mut().unwrap();
    server.answer_timeout = Duration::from_secs(2 * 60 * 60);
}

/// A trusted mail is taken and posted, and one that nobody trusts is taken and then dropped in silence, as without inline
/// verification.
fn assert_taken_unjudged(ground: &ReceivingGround, mail: &str) {
    let reply = ground.deliver(mail, &[ADA]);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(
        ground.settled().recipients[0].state,
        RecipientState::Dispatched
    );
    let forged = sealed(mail, &[&stranger()], &pki().direct_elm);
    let reply = ground.send(SENDER, &[ADA], &forged);
    assert!(reply.starts_with("250"), "{reply}");
    let states = || {
        let exchanges = ground.bridge.exchanges().into_iter();
        exchanges
            .map(|exchange| exchange.recipients[0].state)
            .collect::<Vec<_>>()
    };
    wait_until("it is dropped", || {
        states().contains(&RecipientState::Rejected)
    });
    assert_eq!(ground.posted().len(), 1);
}

// rule: RX-48, LIM-17, T-26
#[test]
fn many_large_mails_at_once_neither_wait_for_one_another_nor_get_lost() {
    const MAILS: u64 = 6;
    let sealed_letter = |number: u64| {
        let id = format!("i{number}@direct.harbor.example");
        sealed(&long_letter(&id), &[&pki().harbor], &pki().direct_elm)
    };
    let mails: Vec<Vec<u8>> = (0..MAILS).map(sealed_letter).collect();
    let size_bytes = mails[0].len() as u64;
    // While all are in flight nobody has room to be opened.
    let ground = inline(move |config| {
        wait_forever(config);
        config.limits.max_message_bytes = 2 * size_bytes;
        config.limits.max_bytes_in_flight = (MAILS + 3) * size_bytes;
    });
    let address = ground.bridge.smtp_address();
    let begun = mails
        .iter()
        .map(|mail| Unended::hand_over(address, SENDER, &[ADA], mail));
    let mut begun: Vec<Unended> = begun.collect();
    wait_until("all of them came but for their ends", || {
        let measures = ground.bridge.measures();
        let lines = &mut measures.lines();
        let value = lines.find_map(|line| line.strip_prefix("xdbridge_bytes_in_flight "));
        value.is_some_and(|value| value.parse::<u64>().unwrap() >= MAILS * size_bytes)
    });
    begun.iter_mut().for_each(Unended::end);
    for mail in &mut begun {
        let reply = mail.reply();
        assert!(reply.starts_with("250"), "{reply}");
    }
    wait_until("all are posted", || {
        let posted = ground.posted().len() as u64;
        assert!(posted <= MAILS);
        posted == MAILS
    });
}

// rule: RCV-R2
#[test]
fn what_is_not_sealed_for_us_keeps_its_own_reply() {
    let ground = inline(|_| {});
    let reply = ground.send(SENDER, &[ADA], to_ada().as_bytes());
    assert!(
        reply.starts_with("550 5.7.1 S/MIME encryption required"),
        "{reply}"
    );
    let for_others = sealed(&to_ada(), &[&pki().harbor], &pki().mei);
    let reply = ground.send(SENDER, &[ADA], &for_others);
    assert!(reply.starts_with("550 5.7.5"), "{reply}");
    ground.bridge.assert_nothing_stored();
}
