//! What happens between the bridge and an XDR endpoint, and what the sender of the mail is told of it: each row of
//! docs/spec/mdn.md section 9 over the wire. The clock is the test's where time matters.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use xdbridge::{
    app::pki::{KeyPurpose, Profile},
    bridge::{
        endpoint::EndpointConfig,
        exchange::{Exchange, LegState, Origin, Reason},
        to_xdr::{EndpointPolicy, policy::MissingMetadata},
    },
    flows::{ports::Clock, settings::MdnEnvelopeSender},
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        notification::mdn::Disposition,
        soap::Fault,
    },
};

use crate::support::{
    bridge::{now, pki},
    keys,
    receiving_ground::{
        ADA, FINAL_DELIVERY, Notice, ReceivingGround, SENDER, Setup, TEAM, letter, response,
        sealed, success, with_package,
    },
    scripted_smtp::{Act as SmtpAct, ScriptedSmtp},
    scripted_xdr::{Act, ScriptedXdr},
    store::StandingClock,
    tls::Identity,
    wait_until,
};

const MINUTE: Duration = Duration::from_secs(60);
/// How long the outbox leases work, by default.
const LEASE: Duration = Duration::from_secs(40 * 60);
/// What an endpoint says in its own words, and nobody repeats.
const OWN_WORDS: &str = "Ada Quill of Room 7";

/// A RegistryError.
fn error(code: &str, severity: &str, location: &str) -> String {
    format!(
        "<rs:RegistryError errorCode=\"{code}\" codeContext=\"{OWN_WORDS}\" location=\"{location}\" \
         severity=\"urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:{severity}\"/>"
    )
}

fn listed(status: &str, errors: &[String]) -> Act {
    let list = format!(
        "<rs:RegistryErrorList>{}</rs:RegistryErrorList>",
        errors.concat()
    );
    response(status, &list)
}

fn failure(code: &str) -> Act {
    listed("Failure", &[error(code, "Error", "")])
}

fn fault(fault: &Fault) -> Act {
    let id = "urn:uuid:4d5e6f70-8192-4da3-9b0e-3b4c5d6e7f80";
    let (content_type, body) = fault.write_answer(&id.parse().unwrap());
    Act::Answer {
        status: 500,
        // A few for the whole of the test.
        content_type: content_type.leak(),
        body,
    }
}

fn http(status: u16) -> Act {
    Act::Answer {
        status,
        content_type: "text/html",
        body: format!("<html>{OWN_WORDS}</html>").into_bytes(),
    }
}

/// What must come of one mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    leg: LegState,
    reason: Option<Reason>,
    /// The alarm that an operator gets.
    alarm: Option<&'static str>,
}

const DELIVERED: End = End {
    leg: LegState::Delivered,
    reason: None,
    alarm: None,
};
const REFUSED: End = End {
    leg: LegState::Refused,
    reason: Some(Reason::XdrRefused),
    alarm: None,
};
const IN_DOUBT: End = End {
    leg: LegState::InDoubt,
    reason: Some(Reason::InDoubt),
    alarm: Some("in_doubt"),
};

impl End {
    fn alarming(self) -> Self {
        let alarm = Some("endpoint");
        Self { alarm, ..self }
    }
}

/// A bridge, and the mails that a test sends it one after the other.
struct Ground {
    receiving: ReceivingGround,
    clock: Arc<StandingClock>,
    start: Timestamp,
}

impl Ground {
    /// The n-th request meets the n-th act.
    fn start(acts: Vec<Act>, change: impl FnOnce(&mut EndpointConfig) + 'static) -> Self {
        let setup = Setup {
            change: Box::new(|config| change(&mut config.endpoint[0])),
            ..Setup::default()
        };
        Self::start_as(acts, setup)
    }

    fn start_as(acts: Vec<Act>, setup: Setup) -> Self {
        // The store counts in microseconds: a time of whole seconds comes back from it as it was.
        let start = Timestamp::from_second(now().as_second()).unwrap();
        let clock = StandingClock::at(start);
        let script = move |number: usize| acts.get(number).or(acts.last()).unwrap().clone();
        let setup = Setup {
            clock: clock.clone(),
            ..setup
        };
        Self {
            receiving: ReceivingGround::start_as(script, setup),
            clock,
            start,
        }
    }

    /// Sends a mail that asks for final delivery, and gives its Message-ID.
    fn deliver(&self, number: usize, to: &[&str]) -> String {
        let id = format!("m{number}@direct.harbor.example");
        let reply = self.receiving.deliver(&letter(&id, to, FINAL_DELIVERY), to);
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
        id
    }

    fn move_to(&self, time: Timestamp) {
        self.clock.set(time);
        self.receiving.bridge.store().due_changed().notify_one();
    }

    fn next_due(&self) -> Timestamp {
        let bridge = &self.receiving.bridge;
        let due = bridge.runtime.block_on(bridge.store().next_due()).unwrap();
        due.unwrap()
    }

    /// When the next thing is due, once all that is due now is done.
    fn later(&self) -> Timestamp {
        // A claimed effect is due again when its lease lapses, so it must not be taken for a retry.
        let lapse = self.clock.now() + LEASE;
        wait_until("everything that is due is done", || {
            let due = self.next_due();
            due > self.clock.now() && due != lapse
        });
        self.next_due()
    }

    fn posts_recorded(&self) -> Vec<AuditRecord> {
        self.receiving.bridge.audit_of(AuditKind::Iti41Export)
    }

    fn wait_for_posts(&self, count: usize) {
        wait_until("the post was recorded", || {
            self.posts_recorded().len() >= count
        });
    }

    /// The exchange of the mail with this Message-ID, as far as it is now.
    fn exchange(&self, id: &str) -> Option<Exchange> {
        let all = self.receiving.bridge.exchanges();
        all.into_iter().find(|exchange| match &exchange.origin {
            Origin::Direct { message_id, .. } => {
                message_id.as_ref().is_some_and(|own| own.as_str() == id)
            }
            Origin::Xdr { .. } => false,
        })
    }

    /// The same, once it is final.
    fn settled(&self, id: &str) -> Exchange {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            let exchange = self.exchange(id);
            if exchange.as_ref().is_some_and(Exchange::is_final) {
                return exchange.unwrap();
            }
            let is_late = std::time::Instant::now() > end;
            assert!(
                !is_late,
                "{id}: {exchange:?} {:?}",
                self.posts_recorded().last()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the sender was told of the mail, once `count` notices came, and that no more come.
    fn told(&self, id: &str, count: usize) -> Vec<Notice> {
        let of_mail = || {
            let notices = self.receiving.notices_now().into_iter();
            notices
                .filter(|notice| {
                    let about = notice.report.original_message_id.as_ref();
                    about.is_some_and(|about| about.as_str() == id)
                })
                .collect::<Vec<_>>()
        };
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while of_mail().len() < count {
            let audit = || self.receiving.bridge.audit_of(AuditKind::MdnOut);
            let is_late = std::time::Instant::now() > end;
            assert!(!is_late, "{id}: {:?} {:?}", self.exchange(id), audit());
            std::thread::sleep(Duration::from_millis(50));
        }
        self.later();
        let mut notices = of_mail();
        assert_eq!(notices.len(), count);
        // They are listed by connection, and each may have come over another one.
        notices.sort_by_key(|notice| notice.report.disposition != Some(Disposition::Processed));
        notices
    }

    /// The mail `id` to Ada came to this end, and her notices say so.
    fn assert_end(&self, case: &str, id: &str, end: End) {
        let exchange = self.settled(id);
        let leg = exchange.legs[0].as_xdr().unwrap();
        assert_eq!(leg.state, end.leg, "{case}");
        let outcome = exchange.recipients[0].outcome.as_ref().unwrap();
        assert_eq!(outcome.failure, end.reason, "{case}");
        let notices = self.told(id, 2);
        assert_told(case, &notices, end.reason);
    }
}

/// First `processed`; then `dispatched` with the field of final delivery, or `failed` with the reason and without the
/// endpoint's words.
fn assert_told(case: &str, notices: &[Notice], reason: Option<Reason>) {
    let said: Vec<_> = notices
        .iter()
        .map(|notice| (notice.report.disposition, notice.report.is_final_delivery))
        .collect();
    let last = match reason {
        None => (Some(Disposition::Dispatched), true),
        Some(_) => (Some(Disposition::Failed), false),
    };
    let first = (Some(Disposition::Processed), false);
    assert_eq!(said, [first, last], "{case}");
    let text = String::from_utf8_lossy(&notices[1].entity);
    assert!(!text.contains(OWN_WORDS), "{case}: {text}");
    if let Some(reason) = reason {
        for field in ["Error", "Failure"] {
            let line = format!("\r\n{field}: {}", reason.context());
            assert!(text.contains(&line), "{case}: {text}");
        }
    }
}

/// Sends a mail for each row, and each must be posted once and come to its end at once.
fn each_ends_at_once(rows: Vec<(&str, Act, End)>) {
    let acts = rows.iter().map(|(_, act, _)| act.clone()).collect();
    let ground = Ground::start(acts, |_| {});
    for (number, (case, _, end)) in rows.iter().enumerate() {
        let alarms = |end: &End| {
            let kind = end.alarm?;
            Some(ground.receiving.bridge.alarms(kind))
        };
        let before = alarms(end);
        let id = ground.deliver(number, &[ADA]);
        ground.assert_end(case, &id, *end);
        assert_eq!(ground.receiving.posted().len(), number + 1, "{case}");
        let records = ground.posts_recorded();
        assert_eq!(records.len(), number + 1, "{case}");
        let expected = match end.reason {
            None => AuditOutcome::Success,
            Some(_) => AuditOutcome::Serious,
        };
        assert_eq!(records[number].outcome, expected, "{case}");
        assert!(alarms(end) > before || end.alarm.is_none(), "{case}");
    }
}

// rule: RT-13, DSN-5, DST-3, MDN-25, XDR-111
#[test]
fn what_the_endpoint_decides_is_told_at_once() {
    let mut rows = vec![
        ("Success", success(), DELIVERED),
        (
            "Success with a warning",
            listed("Success", &[error("DocumentQueued", "Warning", "")]),
            DELIVERED,
        ),
        ("Failure without an error", response("Failure", ""), REFUSED),
        (
            "Sender fault",
            fault(&Fault::sender("SOAP-42", OWN_WORDS)),
            REFUSED.alarming(),
        ),
    ];
    for code in [
        "XDSRepositoryMetadataError",
        "XDSUnknownPatientId",
        "XDSPatientIdDoesNotMatch",
        "InvalidDocumentContent",
        "XDSMissingDocument",
        "XDSMissingDocumentMetadata",
        "XDSNonIdenticalHash",
        "XDSNonIdenticalSize",
        // Nothing was posted before: what the endpoint knows is another submission.
        "XDSDuplicateUniqueIdInRegistry",
    ] {
        rows.push((code, failure(code), REFUSED));
    }
    each_ends_at_once(rows);
}

// rule: RT-13, XDR-110
#[test]
fn other_http_answers_are_a_refusal_and_an_alarm() {
    let elsewhere = || panic!("nobody is sent there");
    let elsewhere = ScriptedXdr::start(
        &Identity::self_signed("localhost"),
        &Identity::ca("nobody"),
        move |_| elsewhere(),
    );
    let redirect = Act::Redirect(elsewhere.url());
    let mut rows = vec![("307", redirect, REFUSED.alarming())];
    for (case, status) in [("400", 400), ("401", 401), ("403", 403), ("404", 404)] {
        rows.push((case, http(status), REFUSED.alarming()));
    }
    each_ends_at_once(rows);
    assert!(elsewhere.seen().is_empty());
}

// rule: RT-15
#[test]
fn a_lost_answer_of_an_endpoint_that_does_not_know_its_submissions_is_in_doubt() {
    each_ends_at_once(vec![
        ("closed after the body", Act::CloseAfterBody, IN_DOUBT),
        ("cut answer", Act::CutAnswer, IN_DOUBT),
        ("silence", Act::Stall, IN_DOUBT),
        ("no RegistryResponse", Act::soap(200, "<x/>"), IN_DOUBT),
        ("garbage", http(200), IN_DOUBT),
        ("no content", http(204), IN_DOUBT),
    ]);
}

// rule: COR-1, RT-13
#[test]
fn a_partial_success_fails_those_whom_it_names_or_everybody() {
    let named = listed("X", &[error("UnknownRecipient", "Error", ADA)]);
    let unnamed = listed("X", &[error("XDSRepositoryError", "Error", "")]);
    let partial = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess";
    let as_partial = |act| match act {
        Act::Answer {
            status,
            content_type,
            body,
        } => {
            let text = String::from_utf8(body).unwrap();
            let x = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:X";
            assert!(text.contains(x));
            Act::Answer {
                status,
                content_type,
                body: text.replace(x, partial).into_bytes(),
            }
        }
        act => act,
    };
    let ground = Ground::start(vec![as_partial(named), as_partial(unnamed)], |_| {});
    for (number, reasons) in [
        [Some(Reason::XdrRefused), None],
        [Some(Reason::XdrRefused); 2],
    ]
    .into_iter()
    .enumerate()
    {
        let id = ground.deliver(number, &[ADA, TEAM]);
        let exchange = ground.settled(&id);
        for (recipient, reason) in exchange.recipients.iter().zip(reasons) {
            let outcome = recipient.outcome.as_ref().unwrap();
            assert_eq!(outcome.failure, reason, "{number}");
        }
        let notices = ground.told(&id, 4);
        for (address, reason) in [ADA, TEAM].into_iter().zip(reasons) {
            let own: Vec<Notice> = ground
                .told(&id, 4)
                .into_iter()
                .filter(|notice| notice.from == address)
                .collect();
            assert_told(address, &own, reason);
        }
        assert_eq!(notices.len(), 4);
    }
}

// rule: XDR-102, RT-13, DST-3
#[test]
fn the_submission_sets_of_a_package_are_one_result_for_the_sender() {
    let refused = || failure("XDSRepositoryMetadataError");
    let rows = [
        ("both", [success(), success()], None),
        (
            "one refused",
            [success(), refused()],
            Some(Reason::XdrRefused),
        ),
        (
            "both refused",
            [refused(), refused()],
            Some(Reason::XdrRefused),
        ),
        (
            "one in doubt",
            [success(), Act::CloseAfterBody],
            Some(Reason::InDoubt),
        ),
        // One has to wait: nothing is told before, and the other is not posted again.
        ("one later", [success(), http(503)], None),
    ];
    let mut acts: Vec<Act> = rows.iter().flat_map(|(_, acts, _)| acts.clone()).collect();
    acts.push(success());
    let ground = Ground::start(acts, |_| {});
    let zip = package("two-sets");
    for (number, (case, _, reason)) in rows.iter().enumerate() {
        let id = format!("sets{number}@direct.harbor.example");
        let message = with_package(&letter(&id, &[ADA], FINAL_DELIVERY), &zip);
        let reply = ground.receiving.deliver(&message, &[ADA]);
        assert!(reply.starts_with("250 2.0.0"), "{case}: {reply}");
        ground.wait_for_posts(2 * number + 2);
        if *case == "one later" {
            let processed = ground.told(&id, 1);
            let said = processed[0].report.disposition;
            assert_eq!(said, Some(Disposition::Processed), "{case}");
            let exchange = ground.exchange(&id).unwrap();
            let mut states: Vec<_> = exchange
                .legs
                .iter()
                .map(|leg| leg.as_xdr().unwrap().state)
                .collect();
            states.sort_by_key(|state| *state == LegState::Delivered);
            assert_eq!(states, [LegState::Opened, LegState::Delivered], "{case}");
            ground.move_to(ground.later());
        }
        let exchange = ground.settled(&id);
        assert_eq!(exchange.legs.len(), 2, "{case}");
        let outcome = exchange.recipients[0].outcome.as_ref().unwrap();
        assert_eq!(outcome.failure, *reason, "{case}");
        assert_told(case, &ground.told(&id, 2), *reason);
        let posted = ground.receiving.posted();
        let own = &posted[2 * number..];
        let bodies: BTreeSet<&[u8]> = own.iter().map(|post| &*post.body).collect();
        assert_eq!(bodies.len(), 2, "{case}: a request for each set");
        let is_repeated = *case == "one later";
        assert_eq!(own.len(), 2 + usize::from(is_repeated), "{case}");
    }
}

// rule: XDR-105, MD-176, DIR-8, RCV-R7, XDM-40, MDN-25
#[test]
fn what_cannot_be_converted_as_the_endpoint_needs_it_is_processed_and_then_failed() {
    type Change = fn(&mut EndpointPolicy);
    let wrong_hash = package("wrong-hash-and-missing-file");
    let rows: [(&str, Change, Option<&[u8]>, &str); 5] = [
        (
            "full metadata, or nothing",
            |policy| {
                policy.needs_full_metadata = true;
                policy.missing_metadata = MissingMetadata::Refuse;
            },
            None,
            "XDR-105",
        ),
        (
            "constants do not say who the patient is",
            |policy| {
                policy.needs_full_metadata = true;
                policy.missing_metadata = MissingMetadata::Fill;
            },
            None,
            "MD-94",
        ),
        (
            "a package",
            |policy| policy.xdm_required = true,
            None,
            "DIR-8",
        ),
        (
            "a type of document",
            |policy| policy.required_types = vec!["text/xml".to_owned()],
            None,
            "DIR-8",
        ),
        (
            "a package that is not what it says",
            |_| {},
            Some(&wrong_hash),
            "XDM-40",
        ),
    ];
    for (case, change, zip, rule) in rows {
        let ground = Ground::start(vec![success()], move |endpoint| {
            change(&mut endpoint.policy)
        });
        let id = "policy@direct.harbor.example";
        let mut message = letter(id, &[ADA], FINAL_DELIVERY);
        if let Some(zip) = zip {
            message = with_package(&message, zip);
        }
        let reply = ground.receiving.deliver(&message, &[ADA]);
        assert!(reply.starts_with("250 2.0.0"), "{case}: {reply}");
        let exchange = ground.settled(id);
        let outcome = exchange.recipients[0].outcome.as_ref().unwrap();
        assert_eq!(outcome.failure, Some(Reason::ConversionFailed), "{case}");
        let notices = ground.told(id, 2);
        assert_told(case, &notices, Some(Reason::ConversionFailed));
        assert!(ground.receiving.posted().is_empty(), "{case}");
        let found = ground.receiving.bridge.audit_of(AuditKind::Iti32Import);
        let found: Vec<&str> = found
            .iter()
            .filter_map(|record| record.details.get("findings").map(String::as_str))
            .collect();
        assert!(
            found
                .iter()
                .any(|rules| rules.split(' ').any(|found| found == rule)),
            "{case}: {found:?}"
        );
    }
}

/// A medium of `fixtures/xdm`.
fn package(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/xdm");
    fs::read(folder.join(format!("{name}.zip"))).unwrap()
}

// rule: MDN-25, RT-13
#[test]
fn a_failed_notice_names_the_errorcode_of_the_endpoint_if_it_is_a_known_one() {
    let acts = vec![
        failure("XDSUnknownPatientId"),
        failure(OWN_WORDS),
        response("Failure", ""),
    ];
    let ground = Ground::start(acts, |_| {});
    let context = Reason::XdrRefused.context();
    for (number, expected) in [
        format!("\r\nError: {context} [XDSUnknownPatientId]\r\n"),
        format!("\r\nError: {context}\r\n"),
        format!("\r\nError: {context}\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = ground.deliver(number, &[ADA]);
        let notices = ground.told(&id, 2);
        let text = String::from_utf8_lossy(&notices[1].entity);
        // The field may be folded.
        let text = text.replace("\r\n ", " ");
        assert!(text.contains(&expected), "{text}");
        assert!(!text.contains(OWN_WORDS), "{text}");
    }
}

// rule: RT-14, XDR-111, XDR-110, DST-5
#[test]
fn an_endpoint_in_trouble_gets_the_same_request_again_after_a_minute() {
    let mut troubles = vec![("Receiver fault", fault(&Fault::receiver(OWN_WORDS)))];
    for (case, status) in [
        ("500", 500),
        ("502", 502),
        ("503", 503),
        ("408", 408),
        ("429", 429),
    ] {
        troubles.push((case, http(status)));
    }
    for code in [
        "XDSRepositoryBusy",
        "XDSRepositoryOutOfResources",
        "XDSRegistryBusy",
        "XDSRegistryOutOfResources",
        "XDSRegistryNotAvailable",
    ] {
        troubles.push((code, failure(code)));
    }
    let acts = troubles
        .iter()
        .flat_map(|(_, act)| [act.clone(), success()])
        .collect();
    let ground = Ground::start(acts, |_| {});
    for (number, (case, _)) in troubles.iter().enumerate() {
        let id = ground.deliver(number, &[ADA]);
        ground.wait_for_posts(2 * number + 1);
        let notices = ground.told(&id, 1);
        let said = notices[0].report.disposition;
        assert_eq!(said, Some(Disposition::Processed), "{case}");
        let exchange = ground.exchange(&id).unwrap();
        let leg = exchange.legs[0].as_xdr().unwrap();
        assert_eq!(leg.state, LegState::Opened, "{case}");
        assert!(!leg.answer_lost, "{case}");

        let next = ground.later();
        let wait = Duration::try_from(next.duration_since(ground.clock.now())).unwrap();
        assert!((48..=72).contains(&wait.as_secs()), "{case}: {wait:?}");
        ground.move_to(next);
        ground.assert_end(case, &id, DELIVERED);
        let [.., first, second] = &ground.receiving.posted()[..] else {
            panic!("{case}: two posts");
        };
        assert_eq!(first.body, second.body, "{case}: the same octets");
        let records = ground.posts_recorded();
        assert_eq!(records[2 * number].outcome, AuditOutcome::Minor, "{case}");
    }
}

// rule: RT-14
#[test]
fn a_request_that_broke_off_before_its_end_was_not_sent_and_is_tried_again() {
    // A document of 11 MB: larger than what both sockets hold, 10 MB by Linux's defaults, so that its end never left.
    let lines = format!("{}\r\n", "A".repeat(76)).repeat(200_000);
    let letter = |id: &str| {
        let small = letter(id, &[ADA], FINAL_DELIVERY);
        small.replace("JVBERi0xLjQKJSBsZXR0ZXIK\r\n", &lines)
    };
    let ground = Ground::start(vec![Act::CloseInBody, success()], |_| {});
    let id = "large@direct.harbor.example";
    let reply = ground.receiving.deliver(&letter(id), &[ADA]);
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    ground.wait_for_posts(1);
    ground.told(id, 1);
    let exchange = ground.exchange(id).unwrap();
    let leg = exchange.legs[0].as_xdr().unwrap();
    assert_eq!((leg.state, leg.answer_lost), (LegState::Opened, false));
    ground.move_to(ground.later());
    ground.assert_end("broken off", id, DELIVERED);
    let posted = ground.receiving.posted();
    assert!(!posted[0].is_whole && posted[1].is_whole);
}

// rule: RT-14, DST-7
#[test]
fn what_no_attempt_brings_home_in_fifty_minutes_has_failed() {
    let ground = Ground::start(vec![failure("XDSRepositoryBusy")], |_| {});
    let id = ground.deliver(0, &[ADA]);
    let end = ground.start + 50 * MINUTE;
    let mut attempts = 1;
    loop {
        ground.wait_for_posts(attempts);
        let next = ground.later();
        if next >= end {
            break;
        }
        attempts += 1;
        ground.move_to(next);
    }
    assert!((7..=9).contains(&attempts), "{attempts} attempts");
    assert_eq!(ground.clock.now(), ground.start + 48 * MINUTE);
    ground.told(&id, 1);
    ground.move_to(end);
    let expired = End {
        leg: LegState::Expired,
        reason: Some(Reason::XdrUnavailable),
        alarm: None,
    };
    ground.assert_end("busy to the end", &id, expired);
    let outcome = ground.settled(&id).recipients[0].outcome.clone();
    assert_eq!(outcome.unwrap().at, end);
    assert_eq!(ground.receiving.posted().len(), attempts);
    let bodies = ground.receiving.posted();
    assert!(bodies.iter().all(|post| post.body == bodies[0].body));
}

// rule: DST-7, RT-14
#[test]
fn an_answer_that_was_put_off_and_never_comes_has_failed_after_fifty_minutes() {
    let ground = Ground::start(vec![http(202)], |_| {});
    let id = ground.deliver(0, &[ADA]);
    ground.wait_for_posts(1);
    ground.told(&id, 1);
    let exchange = ground.receiving.exchange();
    let leg = exchange.legs[0].as_xdr().unwrap();
    assert_eq!(leg.state, LegState::AwaitingDeferred);
    ground.move_to(ground.start + 50 * MINUTE);
    let expired = End {
        leg: LegState::Expired,
        reason: Some(Reason::XdrUnavailable),
        alarm: None,
    };
    ground.assert_end("202", &id, expired);
    assert_eq!(ground.receiving.posted().len(), 1);
}

// rule: RT-15, DST-6
#[test]
fn an_endpoint_that_knows_its_submissions_gets_the_same_again_after_a_lost_answer() {
    let known = || failure("XDSDuplicateUniqueIdInRegistry");
    let rows = [
        (
            "closed, then known",
            Act::CloseAfterBody,
            known(),
            DELIVERED,
        ),
        ("cut, then Success", Act::CutAnswer, success(), DELIVERED),
        ("silence, then known", Act::Stall, known(), DELIVERED),
        ("garbage, then known", http(200), known(), DELIVERED),
        (
            "closed, then not the same",
            Act::CloseAfterBody,
            failure("XDSNonIdenticalHash"),
            REFUSED,
        ),
    ];
    let acts = rows
        .iter()
        .flat_map(|(_, first, second, _)| [first.clone(), second.clone()]);
    let ground = Ground::start(acts.collect(), |endpoint| endpoint.idempotent = true);
    for (number, (case, _, _, end)) in rows.iter().enumerate() {
        let id = ground.deliver(number, &[ADA]);
        ground.wait_for_posts(2 * number + 1);
        ground.told(&id, 1);
        let exchange = ground.exchange(&id).unwrap();
        let leg = exchange.legs[0].as_xdr().unwrap();
        assert_eq!((leg.state, leg.answer_lost), (LegState::Opened, true));
        ground.move_to(ground.later());
        ground.assert_end(case, &id, *end);
        let [.., first, second] = &ground.receiving.posted()[..] else {
            panic!("{case}: two posts");
        };
        assert_eq!(first.body, second.body, "{case}");
    }
}

// rule: RT-15
#[test]
fn an_answer_that_is_lost_until_the_deadline_is_in_doubt() {
    let ground = Ground::start(vec![Act::CloseAfterBody], |endpoint| {
        endpoint.idempotent = true;
    });
    let id = ground.deliver(0, &[ADA]);
    ground.wait_for_posts(1);
    ground.told(&id, 1);
    ground.move_to(ground.start + 50 * MINUTE);
    ground.assert_end("lost", &id, IN_DOUBT);
}

// rule: RT-13
#[test]
fn where_trust_between_bridge_and_endpoint_fails_the_post_is_refused_and_alarmed() {
    let strangers = Identity::ca("Strangers");
    let untrusted = Setup {
        server: strangers.issue("mx.harbor.example"),
        ..Setup::default()
    };
    let refuses_us = Setup {
        client_ca: strangers,
        ..Setup::default()
    };
    for (case, setup) in [("its certificate", untrusted), ("ours", refuses_us)] {
        let ground = Ground::start_as(vec![success()], setup);
        let before = ground.receiving.bridge.alarms("endpoint");
        let id = ground.deliver(0, &[ADA]);
        ground.assert_end(case, &id, REFUSED);
        assert!(ground.receiving.posted().is_empty(), "{case}");
        assert!(
            ground.receiving.bridge.alarms("endpoint") > before,
            "{case}"
        );
    }
}

// rule: MDN-30
#[test]
fn notices_have_a_null_envelope_sender_where_that_is_set() {
    let setup = Setup {
        change: Box::new(|config| {
            config.notification.mdn_envelope_sender = MdnEnvelopeSender::Null;
        }),
        ..Setup::default()
    };
    let ground = Ground::start_as(vec![success()], setup);
    let id = ground.deliver(0, &[ADA]);
    for notice in ground.told(&id, 2) {
        assert_eq!((&*notice.envelope_from, &*notice.from), ("", ADA));
    }
}

/// The commands MAIL that the sender's mail system got.
fn hand_overs(ground: &Ground) -> usize {
    let transcripts = ground.receiving.mailbox.transcripts();
    let each = transcripts
        .iter()
        .map(|transcript| transcript.said("MAIL").len());
    each.sum()
}

// rule: LOOP-2
#[test]
fn a_notice_that_nobody_takes_for_an_hour_is_dropped_and_the_next_one_tried() {
    let busy = |_: usize, step: &str| {
        step.starts_with("MAIL")
            .then(|| SmtpAct::Say("451 4.3.0 later".to_owned()))
    };
    let setup = Setup {
        mailbox: ScriptedSmtp::builder().acts(busy),
        ..Setup::default()
    };
    let ground = Ground::start_as(vec![success()], setup);
    let id = ground.deliver(0, &[ADA]);
    ground.settled(&id);
    let dropped = || ground.receiving.bridge.audit_of(AuditKind::MdnOut);
    let mut start = ground.start;
    for (number, disposition) in ["processed", "dispatched"].into_iter().enumerate() {
        let before = hand_overs(&ground);
        while dropped().len() == number {
            let (handed_over, next) = (hand_overs(&ground), ground.later());
            assert!(next < start + 65 * MINUTE, "it is never dropped");
            ground.move_to(next);
            // When posting ends nothing is handed over.
            wait_until("one more attempt", || {
                let is_end = next == ground.start + 50 * MINUTE;
                is_end || hand_overs(&ground) > handed_over || dropped().len() > number
            });
            ground.later();
        }
        let tried = Duration::try_from(ground.clock.now().duration_since(start)).unwrap();
        assert!((50 * MINUTE..=60 * MINUTE).contains(&tried), "{tried:?}");
        assert!(hand_overs(&ground) - before >= 6);
        let record = &dropped()[number];
        assert_eq!(record.details["disposition"], disposition);
        assert_eq!(record.outcome, AuditOutcome::Serious);
        start = ground.clock.now();
    }
}

// rule: LOOP-2
#[test]
fn a_notice_that_is_refused_is_dropped_at_once() {
    let refused = |_: usize, step: &str| {
        step.starts_with("RCPT")
            .then(|| SmtpAct::Say("550 5.1.1 nobody here".to_owned()))
    };
    let setup = Setup {
        mailbox: ScriptedSmtp::builder().acts(refused),
        ..Setup::default()
    };
    let ground = Ground::start_as(vec![success()], setup);
    let id = ground.deliver(0, &[ADA]);
    let dropped = || ground.receiving.bridge.audit_of(AuditKind::MdnOut);
    wait_until("both notices are dropped", || dropped().len() == 2);
    ground.later();
    assert_eq!(hand_overs(&ground), 2);
    for record in dropped() {
        assert_eq!(record.outcome, AuditOutcome::Serious);
        assert!(record.details["smtp-reply"].contains("550"));
    }
    assert_eq!(
        ground.settled(&id).legs[0].as_xdr().unwrap().state,
        LegState::Delivered
    );
}

// rule: MDN-28
#[test]
fn without_a_published_certificate_notices_are_sealed_to_the_signers_own() {
    let setup = Setup {
        change: Box::new(|config| config.certificates.recipients.clear()),
        ..Setup::default()
    };
    let ground = Ground::start_as(vec![success()], setup);
    let id = ground.deliver(0, &[ADA]);
    // They are opened with the signer's key.
    assert_told("signer", &ground.told(&id, 2), None);
}

// rule: MDN-28, LOOP-2
#[test]
fn a_notice_that_may_be_sealed_to_no_certificate_is_dropped_and_audited() {
    let profile = Profile {
        purpose: KeyPurpose::MailSigning,
        ..Profile::domain(&"direct.harbor.example".parse().unwrap(), now())
    };
    let signs_only = keys::issue(&pki().authority, &profile);
    let setup = Setup {
        change: Box::new(|config| config.certificates.recipients.clear()),
        ..Setup::default()
    };
    let ground = Ground::start_as(vec![success()], setup);
    let letter = letter("s@direct.harbor.example", &[ADA], FINAL_DELIVERY);
    let mail = sealed(&letter, &[&signs_only], &pki().direct_elm);
    let reply = ground.receiving.send(SENDER, &[ADA], &mail);
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    let dropped = || ground.receiving.bridge.audit_of(AuditKind::MdnOut);
    wait_until("both notices are dropped", || dropped().len() == 2);
    ground.later();
    for record in dropped() {
        assert_eq!(record.outcome, AuditOutcome::Serious);
        assert!(record.details["error"].contains("certificate"));
    }
    assert_eq!(hand_overs(&ground), 0);
    assert_eq!(ground.posts_recorded()[0].outcome, AuditOutcome::Success);
}

crate::support::stores::on_postgresql_too! {
    a_lost_answer_of_an_endpoint_that_does_not_know_its_submissions_is_in_doubt,
    a_partial_success_fails_those_whom_it_names_or_everybody,
    an_endpoint_in_trouble_gets_the_same_request_again_after_a_minute,
    what_no_attempt_brings_home_in_fifty_minutes_has_failed,
    an_endpoint_that_knows_its_submissions_gets_the_same_again_after_a_lost_answer,
    a_notice_that_nobody_takes_for_an_hour_is_dropped_and_the_next_one_tried,
}
