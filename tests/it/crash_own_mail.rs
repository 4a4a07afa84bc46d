//! A submission for a domain of the bridge's own is posted under one identity and settled once, whatever happens to the
//! bridge on the way that leads from it to itself: killed, failing, or its sealed mail damaged (design.md section 1,
//! points 3 and 4; MR-5). These tests need the fault points.
#![cfg(feature = "fault-points")]

use std::{fs, os::unix::process::ExitStatusExt, sync::Mutex, thread};

use openssl::x509::X509;
use xdbridge::{
    bridge::exchange::{Exchange, Origin, Reason, RecipientState},
    flows::fault_points,
};

use crate::support::{
    crossing_ground::{
        Answered, CrossingGround, Letter, OWN_DOMAIN, Workshop, address, files_below,
    },
    receiving_ground::{response, success},
    scripted_xdr::ScriptedXdr,
    tls::Identity,
};

/// Cases that run at the same time: they mostly wait.
const CASES_AT_ONCE: usize = 4;
const SIGKILL: i32 = 9;
/// Starts after which everything must have settled.
const MOST_STARTS: usize = 5;

/// The points of the way, and those of both directions and of the store that lie on it, each with the passages that one
/// submission goes through: its mail, and two notices for each of two recipients.
fn every_passage() -> Vec<(&'static str, u32)> {
    let own = fault_points::OWN_MAIL;
    let own = own.into_iter().map(|point| (point, vec![1, 2, 5]));
    let shared = [
        ("deliver.before_send", vec![1]),
        ("deliver.sent", vec![1]),
        ("deliver.send_recorded", vec![1]),
        ("receive.before_record", vec![1, 2]),
        ("receive.before_answer", vec![1, 2]),
        ("open.before", vec![1, 2]),
        ("open.recorded", vec![1]),
        ("post.ended", vec![1]),
        ("notify.before_send", vec![1, 4]),
        ("notify.sent", vec![1, 4]),
        ("notify.recorded", vec![1, 4]),
        ("notice.taken", vec![1, 4]),
        // The request, the sealed mail, and that mail as it comes in.
        ("body.write", vec![3]),
        ("body.sync", vec![3]),
        ("store.before_commit", (3..=10).collect()),
        ("store.after_commit", (3..=10).collect()),
    ];
    own.chain(shared)
        .flat_map(|(point, passages)| passages.into_iter().map(move |n| (point, n)))
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

/// A bridge, the endpoint behind its own domain, and a submission for that domain.
struct Ground<'a> {
    crossing: CrossingGround<'a>,
    endpoint: ScriptedXdr,
    letter: Letter,
}

impl<'a> Ground<'a> {
    /// The endpoint takes the first post, and knows it from then on.
    fn new(workshop: &'a Workshop, letter: Letter) -> Self {
        let crossing = workshop.ground();
        let pem = fs::read(crossing.path().join("ca/ca.pem")).unwrap();
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
             [[endpoint]]\nname = \"ehr\"\nurl = \"{}\"\nserves = [\"{OWN_DOMAIN}\"]\nidempotent = true\n",
            endpoint.url()
        ));
        let letter = Letter {
            to: ["ada.quill", "care.team"]
                .map(|local| address(local, OWN_DOMAIN))
                .to_vec(),
            final_delivery: true,
            ..letter
        };
        Self {
            crossing,
            endpoint,
            letter,
        }
    }

    /// Starts the bridge until everything has settled; what waits for another attempt becomes due between the starts.
    fn settle(&self, case: &str) {
        for _ in 0..MOST_STARTS {
            self.crossing.let_retries_be_due();
            let bridge = self.crossing.start();
            self.crossing.wait_until_quiet();
            bridge.stop();
            if self.crossing.exchanges().iter().all(Exchange::is_final) {
                return;
            }
        }
        panic!("{case}: it never settles");
    }

    fn submissions(&self) -> Vec<Exchange> {
        let all = self.crossing.exchanges().into_iter();
        all.filter(|one| matches!(one.origin, Origin::Xdr { .. }))
            .collect()
    }

    /// One wsa:MessageID was posted, and both recipients were told of as served; nobody saw a mail.
    fn assert_posted_as_one(&self, case: &str) {
        let posts = self.endpoint.seen().len();
        assert!(posts <= 2, "{case}: {posts} posts");
        assert_eq!(self.endpoint.whole_bodies(case).len(), 1, "{case}");
        let submissions = self.submissions();
        assert_eq!(submissions.len(), 1, "{case}");
        for recipient in &submissions[0].recipients {
            assert_eq!(recipient.state, RecipientState::Dispatched, "{case}");
            let outcome = recipient.outcome.as_ref().unwrap();
            assert_eq!(outcome.failure, None, "{case}");
        }
        let exchanges = self.crossing.exchanges().into_iter();
        let opened = exchanges
            .filter(|one| matches!(one.origin, Origin::Direct { .. }) && !one.legs.is_empty());
        assert_eq!(opened.count(), 1, "{case}: opened once");
        assert_eq!(self.crossing.sink.transcripts().len(), 0, "{case}: a mail");
    }
}

/// Whatever its sender knows: it repeats its request, and nothing new comes of it.
fn repeat_and_compare(case: &str, ground: &Ground<'_>) {
    let bridge = ground.crossing.start();
    let answered = ground.crossing.post(&bridge, &ground.letter);
    assert_eq!(answered, Answered::Success, "{case}");
    ground.crossing.wait_until_quiet();
    bridge.stop();
    ground.settle(case);
    ground.assert_posted_as_one(case);
}

fn survives_a_kill(workshop: &Workshop, point: &str, passage: u32) {
    let case = format!("{point}@{passage}=kill");
    let ground = Ground::new(workshop, Letter::small());
    let mut bridge = ground.crossing.start_with(&case);
    let answered = ground.crossing.post(&bridge, &ground.letter);
    // A point that is never passed fails here.
    let status = bridge.ended();
    assert_eq!(status.signal(), Some(SIGKILL), "{case}: {status}");
    let recorded = ground.submissions().len();
    match answered {
        Answered::Success => assert_eq!(recorded, 1, "{case}: accepted and lost"),
        Answered::Nothing => assert!(recorded <= 1, "{case}"),
        Answered::Refused(..) => panic!("{case}: {answered:?}"),
    }
    if recorded == 1 {
        ground.settle(&case);
        ground.assert_posted_as_one(&case);
    }
    repeat_and_compare(&case, &ground);
}

// rule: MR-5, DST-6, TX-29, Q-6
#[test]
fn a_submission_for_an_own_domain_survives_sigkill_at_every_fault_point() {
    let workshop = Workshop::new();
    for_each(every_passage(), |(point, passage)| {
        survives_a_kill(&workshop, point, passage);
    });
}

fn rides_out_an_error(workshop: &Workshop, point: &str, passage: u32, error: &str) {
    let case = format!("{point}@{passage}={error}");
    let ground = Ground::new(workshop, Letter::large());
    let mut bridge = ground.crossing.start_with(&case);
    let answered = ground.crossing.post(&bridge, &ground.letter);
    assert_eq!(answered, Answered::Success, "{case}");
    ground.crossing.wait_until_quiet();
    assert!(bridge.is_alive(), "{case}");
    bridge.stop();
    ground.settle(&case);
    ground.assert_posted_as_one(&case);
    repeat_and_compare(&case, &ground);
}

// rule: MR-5, TX-29, Q-2
#[test]
fn an_error_on_the_way_to_an_own_domain_puts_the_mail_off_and_loses_nothing() {
    let workshop = Workshop::new();
    let own = fault_points::OWN_MAIL.into_iter();
    let mut cases: Vec<(&str, u32, &str)> = own
        .flat_map(|point| [(point, 1, "eio"), (point, 2, "enospc")])
        .collect();
    // The large request is written in three pieces, and so are its mail, and that mail as it comes in.
    cases.extend([("body.sync", 3, "enospc"), ("body.sync", 3, "tear")]);
    cases.extend([
        ("receive.before_record", 1, "eio"),
        ("receive.before_record", 2, "enospc"),
    ]);
    for_each(cases, |(point, passage, error)| {
        rides_out_an_error(&workshop, point, passage, error);
    });
}

// rule: MR-5
#[test]
fn a_sealed_mail_for_an_own_domain_that_is_damaged_is_never_taken_and_reported_as_failed() {
    let workshop = Workshop::new();
    let ground = Ground::new(&workshop, Letter::large());
    let mut bridge = ground.crossing.start_with("own_mail.before=kill");
    let answered = ground.crossing.post(&bridge, &ground.letter);
    assert_eq!(answered, Answered::Success);
    assert_eq!(bridge.ended().signal(), Some(SIGKILL));
    let submission = ground.submissions().remove(0);
    let leg = submission.mail_leg(submission.legs[0].id).unwrap();
    let name = leg.sealed.as_ref().unwrap().body.to_string();
    let files = files_below(&ground.crossing.path().join("data/bodies"));
    let mut files = files.into_iter();
    let file = files.find(|path| path.ends_with(&name)).unwrap();
    let mut octets = fs::read(&file).unwrap();
    octets.truncate(octets.len() - 100);
    fs::write(&file, octets).unwrap();

    let bridge = ground.crossing.start();
    bridge.wait_for_line(|line| line.contains("\"alarm\":\"body_damaged\""));
    ground.crossing.wait_until_quiet();
    bridge.stop();
    let exchanges = ground.crossing.exchanges();
    assert_eq!(exchanges.len(), 1, "nothing came in");
    for recipient in &exchanges[0].recipients {
        assert_eq!(recipient.state, RecipientState::Bounced);
        assert_eq!(recipient.reason, Some(Reason::Internal));
    }
    assert!(ground.endpoint.seen().is_empty());
    assert_eq!(ground.crossing.sink.transcripts().len(), 0);
}
