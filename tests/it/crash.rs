//! What the bridge has answered Success for is delivered once, whatever happens to it: killed, out of space, failing
//! or torn files (design.md section 1, point 4). These tests need the fault points.
#![cfg(feature = "fault-points")]

use std::{
    collections::BTreeSet, fs, os::unix::process::ExitStatusExt, path::PathBuf, sync::Mutex, thread,
};

use xdbridge::{
    bridge::exchange::{Exchange, Reason, RecipientState},
    flows::fault_points,
    formats::ids::BodyId,
};

use super::support::{
    crossing_ground::{Answered, CrossingGround, Letter, Workshop, files_below, message_id},
    process::BridgeProcess,
};

/// Cases that run at the same time: they mostly wait.
const CASES_AT_ONCE: usize = 4;
const SIGKILL: i32 = 9;

/// How large the letter is: a small one lies in rows of the store, a large one in files of several chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Small,
    Large,
}

impl Size {
    fn letter(self) -> Letter {
        match self {
            Self::Small => Letter::small(),
            Self::Large => Letter::large(),
        }
    }
}

/// Which passages of a point one message goes through: each one is a case of its own.
fn passages(point: &str, size: Size) -> Vec<u32> {
    match point {
        // The recorded request, of three chunks if it is large, and the sealed mail.
        "body.write" if size == Size::Large => vec![1, 4],
        "body.write" | "body.sync" => vec![1, 2],
        // At least: the record of the start, perhaps with the first sweep, accept, and a record of each of sealing and
        // sending, which are leased by the transaction before them.
        "store.before_commit" | "store.after_commit" => (1..=4).collect(),
        _ => vec![1],
    }
}

/// Every passage of every point that there is.
fn every_passage(size: Size) -> Vec<(&'static str, u32)> {
    let points = fault_points::TO_DIRECT.into_iter();
    points
        .flat_map(|point| passages(point, size).into_iter().map(move |n| (point, n)))
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

fn is_any_queued(exchanges: &[Exchange]) -> bool {
    let mut recipients = exchanges.iter().flat_map(|exchange| &exchange.recipients);
    recipients.any(|recipient| recipient.state == RecipientState::Queued)
}

/// One exchange is in the store and both its recipients were handed over; all that ever arrived is one message, perhaps
/// repeated octet by octet, and each time for both recipients.
fn assert_sent_as_one(case: &str, ground: &CrossingGround<'_>) {
    let exchanges = ground.exchanges();
    assert_eq!(exchanges.len(), 1, "{case}");
    let states: Vec<_> = exchanges[0].recipients.iter().map(|r| r.state).collect();
    assert_eq!(states, [RecipientState::Relayed; 2], "{case}");

    let arrived = ground.arrived();
    assert!(!arrived.is_empty(), "{case}");
    let ids: BTreeSet<String> = arrived.iter().map(|mail| message_id(mail)).collect();
    assert_eq!(ids.len(), 1, "{case}");
    let all_equal = arrived.iter().all(|mail| mail == &arrived[0]);
    assert!(all_equal, "{case}: a repeated mail has other octets");
    for transcript in ground.sink.transcripts() {
        if !transcript.messages.is_empty() {
            assert_eq!(transcript.said("RCPT TO").len(), 2, "{case}");
        }
    }
}

fn survives_a_kill(workshop: &Workshop, point: &str, passage: u32, size: Size) {
    let case = format!("{point}@{passage}=kill, {size:?}");
    let ground = workshop.ground();
    let letter = size.letter();
    let mut bridge = ground.start_with(&format!("{point}@{passage}=kill"));
    let answered = ground.post(&bridge, &letter);
    // A point that is never passed fails here.
    let status = bridge.ended();
    assert_eq!(status.signal(), Some(SIGKILL), "{case}: {status}");
    ground.wait_for_silence();

    let exchanges = ground.exchanges();
    match answered {
        Answered::Success => assert_eq!(exchanges.len(), 1, "{case}"),
        Answered::Nothing => assert!(exchanges.len() <= 1, "{case}"),
        Answered::Refused(..) => panic!("{case}: {answered:?}"),
    }
    let mut expected = ground.arrived().len();
    if exchanges.is_empty() {
        assert_eq!(expected, 0, "{case}: sent, but not recorded");
    }

    let bridge = ground.start();
    if is_any_queued(&exchanges) {
        expected += 1;
        ground.wait_for_messages(expected);
    }
    // The sender repeats its request: it may have lost the answer.
    assert_eq!(ground.post(&bridge, &letter), Answered::Success, "{case}");
    if exchanges.is_empty() {
        expected += 1;
        ground.wait_for_messages(expected);
    }
    bridge.stop();
    assert_eq!(ground.arrived().len(), expected, "{case}");
    assert_sent_as_one(&case, &ground);
}

// rule: XDR-50
#[test]
fn a_large_submission_survives_sigkill_at_every_fault_point() {
    let workshop = Workshop::new();
    for_each(every_passage(Size::Large), |(point, passage)| {
        survives_a_kill(&workshop, point, passage, Size::Large);
    });
}

// rule: XDR-50
#[test]
fn a_small_submission_survives_sigkill_at_every_fault_point() {
    let workshop = Workshop::new();
    for_each(every_passage(Size::Small), |(point, passage)| {
        survives_a_kill(&workshop, point, passage, Size::Small);
    });
}

/// The letter's request with a ReplyTo that asks for no answer.
fn silent(letter: &Letter) -> (String, Vec<u8>) {
    let (content_type, mut body) = letter.request();
    let anonymous = b"/addressing/anonymous<";
    let at = body
        .windows(anonymous.len())
        .position(|octets| octets == anonymous)
        .unwrap();
    let none = b"/addressing/none<";
    body.splice(at..at + anonymous.len(), none.iter().copied());
    (content_type, body)
}

// rule: SOAP-70, SOAP-91, XDR-50
#[test]
fn who_wants_no_answer_is_told_202_of_what_is_recorded_and_of_nothing_else() {
    let workshop = Workshop::new();
    let accept = [
        "accept.body_received",
        "accept.decided",
        "accept.before_answer",
    ];
    let cases = accept
        .into_iter()
        .flat_map(|point| [(point, "kill"), (point, "eio")]);
    for_each(cases.collect(), |(point, action)| {
        let case = format!("{point}@1={action}");
        let ground = workshop.ground();
        let (content_type, body) = silent(&Letter::small());
        let post = |bridge: &_| ground.post_octets(bridge, "/xdr", &content_type, &body);
        let promised = Answered::Refused(202, String::new());
        let mut bridge = ground.start_with(&case);
        let answered = post(&bridge);
        if action == "kill" {
            assert_eq!(answered, Answered::Nothing, "{case}");
            assert_eq!(bridge.ended().signal(), Some(SIGKILL), "{case}");
            ground.wait_for_silence();
            bridge = ground.start();
        } else if point == "accept.before_answer" {
            // It is recorded by then.
            assert_eq!(answered, promised, "{case}");
        } else {
            assert_eq!(answered, Answered::Refused(503, String::new()), "{case}");
            assert!(ground.arrived().is_empty(), "{case}");
        }
        // Whatever its sender knows: it repeats its request.
        assert_eq!(post(&bridge), promised, "{case}");
        ground.wait_for_messages(1);
        bridge.stop();
        assert_sent_as_one(&case, &ground);
    });
}

/// What an error at a point leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The sender is refused, nothing is sent, and a repetition goes through.
    Refused,
    /// The sender is answered Success, and the message is sent, perhaps after another attempt.
    Delivered,
    /// One or the other, or the bridge refuses to start: by which transaction the passage happens to be.
    Either,
}

/// What an error at this passage means. Points after a commit have no error of their own, since what is durable stays
/// so whatever a later step says: `store.after_commit`, `accept.before_answer`, `deliver.seal_recorded` and
/// `deliver.send_recorded` must not turn it into a refusal or a repetition.
fn outcome_of_an_error(point: &str, passage: u32) -> Outcome {
    match point {
        "accept.body_received" | "accept.decided" => Outcome::Refused,
        "body.write" | "body.sync" if passage == 1 => Outcome::Refused,
        "store.before_commit" => Outcome::Either,
        _ => Outcome::Delivered,
    }
}

fn rides_out_an_error(
    workshop: &Workshop,
    point: &str,
    passage: u32,
    error: &'static str,
    size: Size,
) {
    let case = format!("{point}@{passage}={error}, {size:?}");
    let outcome = outcome_of_an_error(point, passage);
    let ground = workshop.ground();
    let letter = size.letter();
    let mut bridge = ground.start_with(&format!("{point}@{passage}={error}"));
    if !bridge.is_listening() {
        // Its own start could not be recorded: it says so and ends. The next start finds the fault gone.
        assert_eq!(outcome, Outcome::Either, "{case}");
        assert_eq!(bridge.ended().code(), Some(1), "{case}");
        bridge = ground.start();
    }
    let answered = ground.post(&bridge, &letter);
    match (&answered, outcome) {
        (Answered::Refused(status, text), Outcome::Refused | Outcome::Either) => {
            let code = if error == "enospc" {
                "XDSRepositoryOutOfResources"
            } else {
                "XDSRepositoryBusy"
            };
            assert!(
                *status == 503 || text.contains(code),
                "{case}: {answered:?}"
            );
            assert!(ground.arrived().is_empty(), "{case}");
            // The fault has passed: the repetition goes through.
            assert_eq!(ground.post(&bridge, &letter), Answered::Success, "{case}");
        }
        (Answered::Success, Outcome::Delivered | Outcome::Either) => {}
        _ => panic!("{case}: {answered:?}"),
    }
    if point == "smtp.before_final_dot" {
        // The next attempt is a minute away.
        bridge.wait_for_line(|line| line.contains("\"deferred\":2"));
        assert!(ground.arrived().is_empty(), "{case}");
    } else {
        ground.wait_for_messages(1);
    }
    assert!(bridge.is_alive(), "{case}");
    bridge.stop();
    if is_any_queued(&ground.exchanges()) {
        // Not sent, or sent and not recorded: it is sent again, and is the same.
        let count = ground.arrived().len();
        ground.let_retries_be_due();
        let bridge = ground.start();
        ground.wait_for_messages(count + 1);
        bridge.stop();
    }
    assert_sent_as_one(&case, &ground);
}

// rule: SOAP-91
#[test]
fn an_error_of_the_disk_at_any_fault_point_is_refused_or_ridden_out() {
    let workshop = Workshop::new();
    for_each(every_passage(Size::Large), |(point, passage)| {
        rides_out_an_error(&workshop, point, passage, "eio", Size::Large);
    });
}

// rule: SOAP-91
#[test]
fn a_full_disk_at_any_fault_point_is_refused_or_ridden_out() {
    let workshop = Workshop::new();
    for_each(every_passage(Size::Small), |(point, passage)| {
        rides_out_an_error(&workshop, point, passage, "enospc", Size::Small);
    });
}

/// What happens to a stored body while nobody looks.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Shortened,
    Emptied,
    Flipped,
    Gone,
}

impl Damage {
    fn inflict(self, path: &PathBuf) {
        let mut octets = fs::read(path).unwrap();
        match self {
            Self::Shortened => octets.truncate(octets.len() - 100),
            Self::Emptied => octets.clear(),
            Self::Flipped => {
                let middle = octets.len() / 2;
                octets[middle] ^= 1;
            }
            Self::Gone => {
                fs::remove_file(path).unwrap();
                return;
            }
        }
        fs::write(path, octets).unwrap();
    }
}

const DAMAGES: [Damage; 4] = [
    Damage::Shortened,
    Damage::Emptied,
    Damage::Flipped,
    Damage::Gone,
];

fn file_of(ground: &CrossingGround<'_>, body: BodyId) -> PathBuf {
    let name = body.to_string();
    let files = files_below(&ground.path().join("data/bodies"));
    let mut files = files.into_iter();
    files
        .find(|path| path.file_name().is_some_and(|file| file == name.as_str()))
        .expect("the body lies in a file")
}

/// The damage is told to operators, the recipients are reported as failed, and the peer has no message.
fn assert_reported(case: &str, ground: &CrossingGround<'_>, bridge: BridgeProcess) {
    bridge.wait_for_line(|line| line.contains("\"alarm\":\"body_damaged\""));
    let count = "xdbridge_alarms_total{alarm=\"body_damaged\"} 1\n";
    bridge.wait_for_measures(|measures| measures.contains(count));
    bridge.stop();
    let exchanges = ground.exchanges();
    assert_eq!(exchanges.len(), 1, "{case}");
    for recipient in &exchanges[0].recipients {
        assert_eq!(recipient.state, RecipientState::Bounced, "{case}");
        assert_eq!(recipient.reason, Some(Reason::Internal), "{case}");
    }
    assert!(ground.arrived().is_empty(), "{case}");
}

fn killed_at(ground: &CrossingGround<'_>, point: &str, letter: &Letter) -> Exchange {
    let mut bridge = ground.start_with(&format!("{point}=kill"));
    ground.post(&bridge, letter);
    assert_eq!(bridge.ended().signal(), Some(SIGKILL));
    let mut exchanges = ground.exchanges();
    assert_eq!(exchanges.len(), 1);
    exchanges.remove(0)
}

#[test]
fn a_request_whose_file_is_damaged_after_accept_is_never_sent_and_reported_as_failed() {
    let workshop = Workshop::new();
    for_each(DAMAGES.to_vec(), |damage| {
        let ground = workshop.ground();
        let exchange = killed_at(&ground, "deliver.before_seal", &Letter::large());
        damage.inflict(&file_of(&ground, exchange.body));
        assert_reported(&format!("{damage:?}"), &ground, ground.start());
    });
}

#[test]
fn a_sealed_mail_whose_file_is_damaged_is_never_sent_and_reported_as_failed() {
    let workshop = Workshop::new();
    for_each(DAMAGES.to_vec(), |damage| {
        let ground = workshop.ground();
        let exchange = killed_at(&ground, "deliver.before_send", &Letter::large());
        let leg = exchange.mail_leg(exchange.legs[0].id).unwrap();
        let sealed = leg.sealed.as_ref().expect("the leg is sealed");
        damage.inflict(&file_of(&ground, sealed.body));
        assert_reported(&format!("{damage:?}"), &ground, ground.start());
    });
}

#[test]
fn a_request_whose_row_is_damaged_after_accept_is_never_sent_and_reported_as_failed() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    killed_at(&ground, "deliver.before_seal", &Letter::small());
    let damage = "UPDATE body SET content = substr(content, 1, length(content) - 1)";
    assert_eq!(ground.change_rows(damage), 1);
    assert_reported("row", &ground, ground.start());
}

#[test]
fn a_sealed_mail_that_is_torn_behind_its_fsync_is_never_sent_and_reported_as_failed() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let bridge = ground.start_with("body.sync@2=tear");
    assert_eq!(ground.post(&bridge, &Letter::large()), Answered::Success);
    assert_reported("body.sync@2=tear", &ground, bridge);
}

#[test]
fn a_request_that_is_torn_behind_its_fsync_is_not_accepted() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    let bridge = ground.start_with("body.sync@1=tear");
    let letter = Letter::large();
    let answered = ground.post(&bridge, &letter);
    assert!(
        matches!(answered, Answered::Refused(503, _)),
        "{answered:?}"
    );
    assert_eq!(ground.post(&bridge, &letter), Answered::Success);
    ground.wait_for_messages(1);
    bridge.stop();
    assert_sent_as_one("body.sync@1=tear", &ground);
}
