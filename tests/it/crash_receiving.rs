//! What the bridge has answered 250 for is posted under one wsa:MessageID and told by one notice of each kind,
//! whatever happens to the bridge: killed, out of space, or failing at every fault point of the way (design.md
//! section 1, points 3 and 4). These tests need the fault points.
#![cfg(feature = "fault-points")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::ExitStatusExt,
    sync::Mutex,
    thread,
};

use openssl::x509::X509;
use xdbridge::{
    adapters::clock::SystemClock,
    bridge::exchange::{Exchange, LegState, Reason, RecipientState},
    flows::{fault_points, ports::Clock},
    formats::smime::{SealHeader, SealOptions, seal, seal_header},
};

use crate::support::{
    crossing_ground::{CrossingGround, HISP_DOMAIN, OWN_DOMAIN, Workshop, address, message_id},
    process::BridgeProcess,
    receiving_ground::{FINAL_DELIVERY, response, success},
    scripted_xdr::ScriptedXdr,
    smtp_sender::hand_over_once,
    stores::on_postgresql,
    tls::Identity,
    wait_until,
};

/// Cases that run at the same time: they mostly wait.
const CASES_AT_ONCE: usize = 4;
const SIGKILL: i32 = 9;
/// `processed` and the final notice, for each of two recipients.
const NOTICES: usize = 4;
/// Starts after which everything must have settled.
const MOST_STARTS: usize = 5;

/// Which passages of a point one mail goes through: each one is a case of its own.
fn passages(point: &str) -> Vec<u32> {
    match point {
        // The mail, the request, and a notice of each kind.
        "body.write" | "body.sync" => vec![1, 2, 3, 5],
        // At least: the record of the start, perhaps with the first sweep, the mail, its opening, a post that begins and
        // ends, and two records of each notice.
        "store.before_commit" | "store.after_commit" => (1..=7).collect(),
        point if point.starts_with("notify.") || point == "smtp.before_final_dot" => vec![1, 3],
        _ => vec![1],
    }
}

/// The points of the way, and those of intake, store and hand-over that lie on it as well.
fn every_passage() -> Vec<(&'static str, u32)> {
    let shared = [
        "accept.body_received",
        "body.write",
        "body.sync",
        "store.before_commit",
        "store.after_commit",
        "smtp.before_final_dot",
    ];
    let points = shared.into_iter().chain(fault_points::TO_XDR);
    points
        .flat_map(|point| passages(point).into_iter().map(move |n| (point, n)))
        .collect()
}

/// Runs `check` for each case, some at a time.
fn for_each<C: Send>(cases: Vec<C>, check: impl Fn(C) + Sync) {
    let cases = Mutex::new(cases.into_iter());
    thread::scope(|scope| {
        for _ in 0..CASES_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let case = cases.lock().unwrap().next();
                    let Some(case) = case else { break };
                    check(case);
                }
            });
        }
    });
}

/// A bridge that receives, the endpoint behind it, and one sealed mail.
struct Ground<'a> {
    crossing: CrossingGround<'a>,
    endpoint: ScriptedXdr,
    sender: String,
    recipients: [String; 2],
    mail: Vec<u8>,
}

impl<'a> Ground<'a> {
    /// The endpoint takes the first post, and knows it from then on.
    fn new(workshop: &'a Workshop, is_idempotent: bool) -> Self {
        let crossing = workshop.ground();
        let folder = crossing.path();
        let pem = fs::read(folder.join("ca/ca.pem")).unwrap();
        let client_ca = Identity {
            certificate: X509::from_pem(&pem).unwrap(),
            key: workshop.relay().key.clone(),
        };
        let known = "<rs:RegistryErrorList><rs:RegistryError errorCode=\"XDSDuplicateUniqueIdInRegistry\" \
             codeContext=\"x\" severity=\"urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error\"/>\
             </rs:RegistryErrorList>";
        let endpoint =
            ScriptedXdr::start(workshop.relay(), &client_ca, move |number| match number {
                0 => success(),
                _ => response("Failure", known),
            });
        crossing.add_settings(&format!(
            "\n[smtp.server]\nbind = \"127.0.0.1:0\"\nhost_name = \"{OWN_DOMAIN}\"\n\
             certificate = \"tls/server.pem\"\nkey = \"tls/server.key\"\n\n\
             [soap.client]\ncertificate = \"tls/trial-ehr.pem\"\nkey = \"tls/trial-ehr.key\"\n\
             ca_files = [\"relay-ca.pem\"]\n\n\
             [sources]\ngateway_oid = \"2.999.1\"\n\n\
             [[endpoint]]\nname = \"ehr\"\nurl = \"{}\"\nserves = [\"{OWN_DOMAIN}\"]\nidempotent = {is_idempotent}\n",
            endpoint.url()
        ));
        let sender = format!("rui.silva@{HISP_DOMAIN}");
        let recipients = ["ada.quill", "care.team"].map(|local| format!("{local}@{OWN_DOMAIN}"));
        let pem = fs::read(folder.join("direct/domain.pem")).unwrap();
        let to = X509::from_pem(&pem).unwrap();
        let mail = sealed(workshop, &sender, &recipients, &to);
        Self {
            crossing,
            endpoint,
            sender,
            recipients,
            mail,
        }
    }

    /// Sends the mail; the reply to its data, or `None` if the bridge was gone before it.
    fn deliver(&self, bridge: &BridgeProcess) -> Option<String> {
        if !bridge.is_listening() {
            return None;
        }
        let line = bridge.wait_for_line(|line| line.contains("\"smtp\":\"127.0.0.1:"));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = line["smtp"].as_str().unwrap().parse().unwrap();
        hand_over_once(
            address,
            OWN_DOMAIN,
            &self.sender,
            &self.recipients,
            &self.mail,
        )
    }

    /// The identities of the notices that arrived, each with its octets.
    fn notices(&self) -> BTreeMap<String, BTreeSet<Vec<u8>>> {
        let mut notices = BTreeMap::<_, BTreeSet<_>>::new();
        for mail in self.crossing.arrived() {
            notices.entry(message_id(&mail)).or_default().insert(mail);
        }
        notices
    }

    /// Waits until the sender has had every notice, or until the next attempt is a minute away.
    fn wait_for_notices(&self, bridge: &BridgeProcess, case: &str) {
        let what = format!("{case}: the sender was told, or has to wait");
        wait_until(&what, || {
            let log = bridge.log_text();
            self.notices().len() == NOTICES
                || log.contains("the answer did not come")
                || log.contains("is tried again later")
        });
    }

    /// Starts the bridge until everything has settled; what waits for another attempt becomes due between the starts.
    fn settle(&self, case: &str) {
        for _ in 0..MOST_STARTS {
            self.crossing.let_retries_be_due();
            let bridge = self.crossing.start();
            self.wait_for_notices(&bridge, case);
            bridge.stop();
            // The sender may know all while a repeated mail is still to be settled.
            let exchanges = self.crossing.exchanges();
            if self.notices().len() == NOTICES && exchanges.iter().all(Exchange::is_final) {
                return;
            }
        }
        panic!("{case}: it never settles");
    }

    /// One wsa:MessageID went out, and one notice of each kind for each recipient, whatever their number on the wire.
    fn assert_one_of_each(&self, case: &str) {
        let bodies = self.endpoint.whole_bodies(case);
        assert!(bodies.len() <= 1, "{case}: {} requests", bodies.len());
        let notices = self.notices();
        assert_eq!(notices.len(), NOTICES, "{case}");
        for (id, octets) in &notices {
            assert_eq!(octets.len(), 1, "{case}: {id} differs from itself");
        }
        let exchanges = self.crossing.exchanges();
        assert!(exchanges.iter().all(Exchange::is_final), "{case}");
        let legs = exchanges.iter().flat_map(|exchange| &exchange.legs);
        assert_eq!(legs.count(), 1, "{case}: opened once");
    }

    /// The exchange that holds the leg.
    fn opened(&self) -> Exchange {
        let exchanges = self.crossing.exchanges().into_iter();
        let mut opened = exchanges.filter(|exchange| !exchange.legs.is_empty());
        opened.next().unwrap()
    }
}

fn sealed(workshop: &Workshop, sender: &str, recipients: &[String], to: &X509) -> Vec<u8> {
    let entity = format!(
        "Content-Type: message/rfc822\r\n\r\nFrom: <{sender}>\r\nTo: {}\r\nSubject: Letter\r\n\
         Date: Sun, 22 Nov 2026 07:59:00 +0000\r\nMessage-ID: <one@{HISP_DOMAIN}>\r\nMIME-Version: 1.0\r\n\
         {FINAL_DELIVERY}Content-Type: text/plain; name=\"letter.txt\"\r\n\
         Content-Disposition: attachment; filename=\"letter.txt\"\r\n\r\nA letter.\r\n",
        recipients.join(", ")
    );
    let now = SystemClock.now();
    let options = SealOptions::default();
    let to_header = [address("ada.quill", OWN_DOMAIN)];
    let header = seal_header(&SealHeader {
        from: &sender.parse().unwrap(),
        to: &to_header,
        cc: &[],
        date: now,
        message_id: &format!("outer@{HISP_DOMAIN}").parse().unwrap(),
        in_reply_to: None,
        references: &[],
        subject: "Encrypted message",
        cipher: options.cipher,
    });
    let mut mail = header.into_bytes();
    seal(
        &mut mail,
        std::slice::from_ref(workshop.hisp()),
        std::slice::from_ref(to),
        &options,
        now,
        "=_signed",
        &mut |out| out.write_all(entity.as_bytes()),
    )
    .unwrap();
    mail
}

/// The sender repeats its mail, as one does that lost the reply: nothing new comes of it.
fn repeat(case: &str, ground: &Ground<'_>, is_known: bool) {
    let bridge = ground.crossing.start();
    let reply = ground.deliver(&bridge).unwrap();
    assert!(reply.starts_with("250"), "{case}: {reply}");
    if is_known {
        bridge.wait_for_line(|line| line.contains("came before"));
    } else {
        ground.wait_for_notices(&bridge, case);
    }
    bridge.stop();
    ground.settle(case);
}

fn survives_a_kill(workshop: &Workshop, point: &str, passage: u32, is_idempotent: bool) {
    let case = format!("{point}@{passage}=kill, idempotent {is_idempotent}");
    let ground = Ground::new(workshop, is_idempotent);
    let mut bridge = ground
        .crossing
        .start_with(&format!("{point}@{passage}=kill"));
    let reply = ground.deliver(&bridge);
    // A point that is never passed fails here.
    let status = bridge.ended();
    assert_eq!(status.signal(), Some(SIGKILL), "{case}: {status}");
    ground.crossing.wait_for_silence();
    let recorded = ground.crossing.exchanges().len();
    match &reply {
        Some(reply) => {
            assert!(reply.starts_with("250"), "{case}: {reply}");
            assert_eq!(recorded, 1, "{case}: accepted and lost");
        }
        None => assert!(recorded <= 1, "{case}"),
    }
    if recorded == 1 {
        ground.settle(&case);
    }
    repeat(&case, &ground, recorded == 1);
    ground.assert_one_of_each(&case);
    let exchange = ground.opened();
    let leg = exchange.legs[0].as_xdr().unwrap();
    let is_unsure = !is_idempotent && ["post.started", "post.ended"].contains(&point);
    for recipient in &exchange.recipients {
        let outcome = recipient.outcome.as_ref().unwrap();
        if is_unsure {
            assert_eq!(outcome.failure, Some(Reason::InDoubt), "{case}");
        } else if is_idempotent {
            assert_eq!(recipient.state, RecipientState::Dispatched, "{case}");
        } else {
            // Some commit lies between the beginning of the post and its end.
            let known = [LegState::Delivered, LegState::InDoubt];
            assert!(known.contains(&leg.state), "{case}: {:?}", leg.state);
        }
    }
    let most = if is_idempotent { 2 } else { 1 };
    assert!(ground.endpoint.seen().len() <= most, "{case}");
}

// rule: COR-2, MDN-15, DST-6, Q-6
#[test]
fn a_received_mail_survives_sigkill_at_every_fault_point() {
    let workshop = Workshop::new();
    for_each(every_passage(), |(point, passage)| {
        survives_a_kill(&workshop, point, passage, true);
    });
}

// rule: COR-2, MDN-15, DST-6, Q-6
#[test]
fn a_received_mail_survives_sigkill_on_postgresql_as_well() {
    on_postgresql(|| {
        // Where something was recorded just before, or is to be next.
        let cases = [
            ("receive.before_answer", 1),
            ("open.prepared", 1),
            ("open.recorded", 1),
            ("post.started", 1),
            ("post.ended", 1),
            ("notify.seal_recorded", 1),
            ("notify.sent", 1),
            ("notify.recorded", 3),
            ("store.before_commit", 3),
            ("store.after_commit", 4),
        ];
        let workshop = Workshop::new();
        for_each(cases.to_vec(), |(point, passage)| {
            survives_a_kill(&workshop, point, passage, true);
        });
    });
}

// rule: COR-2, RT-15
#[test]
fn an_endpoint_that_does_not_know_its_submissions_is_never_posted_to_twice() {
    let workshop = Workshop::new();
    let posting = ["post.started", "post.ended", "post.recorded"];
    let mut cases: Vec<(&str, u32)> = posting.into_iter().map(|point| (point, 1)).collect();
    cases.extend((3..=7).map(|n| ("store.before_commit", n)));
    for_each(cases, |(point, passage)| {
        survives_a_kill(&workshop, point, passage, false);
    });
}

fn rides_out_an_error(workshop: &Workshop, point: &str, passage: u32, error: &str) {
    let case = format!("{point}@{passage}={error}");
    let ground = Ground::new(workshop, true);
    let mut bridge = ground
        .crossing
        .start_with(&format!("{point}@{passage}={error}"));
    if !bridge.is_listening() {
        // Its own start could not be recorded: it says so and ends. The next start finds the fault gone.
        assert_eq!(point, "store.before_commit", "{case}");
        assert_eq!(bridge.ended().code(), Some(1), "{case}");
        bridge = ground.crossing.start();
    }
    let mut reply = ground.deliver(&bridge).unwrap();
    if !reply.starts_with("250") {
        let full = reply.starts_with("452 4.3.1") && error == "enospc";
        assert!(full || reply.starts_with("451 4.3"), "{case}: {reply}");
        // The fault has passed: the repetition goes through.
        reply = ground.deliver(&bridge).unwrap();
    }
    assert!(reply.starts_with("250"), "{case}: {reply}");
    ground.wait_for_notices(&bridge, &case);
    assert!(bridge.is_alive(), "{case}");
    bridge.stop();
    ground.settle(&case);
    repeat(&case, &ground, true);
    ground.assert_one_of_each(&case);
    for recipient in &ground.opened().recipients {
        assert_eq!(recipient.state, RecipientState::Dispatched, "{case}");
    }
}

// rule: COR-2, MDN-15
#[test]
fn an_error_of_the_disk_at_any_fault_point_of_receiving_is_refused_or_ridden_out() {
    let workshop = Workshop::new();
    for_each(every_passage(), |(point, passage)| {
        rides_out_an_error(&workshop, point, passage, "eio");
    });
}

// rule: COR-2, MDN-15
#[test]
fn a_full_disk_at_any_fault_point_of_receiving_is_refused_or_ridden_out() {
    let workshop = Workshop::new();
    for_each(every_passage(), |(point, passage)| {
        rides_out_an_error(&workshop, point, passage, "enospc");
    });
}
