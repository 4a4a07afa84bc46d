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
        ADA, FINAL_DELIVERY, LETTER, ReceivingGround, SENDER, TEAM, letter, sealed, success,
        understood,
    },
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

// rule: RX-48, LIM-17
#[test]
fn a_mail_that_cannot_be_judged_in_time_is_taken_and_opened_later() {
    // Opening it takes four times its octets, and its own octets are in flight until it is answered: there is no room
    // before the reply, and enough after it.
    let ground = inline(|config| {
        config.receiving.inline_verify_timeout = Duration::from_millis(50);
        config.limits.max_message_bytes = 512 * 1024;
        config.limits.max_bytes_in_flight = 512 * 1024;
    });
    let padding = "Please see the attachment.\r\n".repeat(4_000);
    let long = to_ada().replace("Please see the attachment.\r\n", &padding);
    let reply = ground.deliver(&long, &[ADA]);
    assert!(reply.starts_with("250"), "{reply}");
    assert_eq!(
        ground.settled().recipients[0].state,
        RecipientState::Dispatched
    );
    // What is not trusted is then dropped in silence, as without inline verification.
    let forged = sealed(&long, &[&stranger()], &pki().direct_elm);
    let reply = ground.send(SENDER, &[ADA], &forged);
    assert!(reply.starts_with("250"), "{reply}");
    let states = || {
        let exchanges = ground.bridge.exchanges().into_iter();
        exchanges
            .map(|exchange| exchange.recipients[0].state)
            .collect::<Vec<_>>()
    };
    crate::support::wait_until("it is dropped", || {
        states().contains(&RecipientState::Rejected)
    });
    assert_eq!(ground.posted().len(), 1);
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
