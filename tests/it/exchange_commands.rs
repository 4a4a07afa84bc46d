//! What an operator sees of exchanges, and does to them, by the real command against a bridge at work.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use openssl::base64::{decode_block, encode_block};
use serde_json::{Value, json};
use xdbridge::{
    bridge::exchange::{Exchange, LegState, Origin, Reason, RecipientState},
    flows::ports::Clock,
    formats::{
        audit::{AuditKind, AuditOutcome, AuditRecord},
        notification::mdn::Disposition,
    },
};

use crate::support::{
    bridge::{ELM, INTAKE, RUI, TestBridge, UNTRUSTED, as_tls, now, pki, runtime},
    mailbox::received,
    openssl_peer::{OpensslPeer, mailed, wrapped},
    operated::{Operated, texts},
    receiving_ground::{
        ADA, FINAL_DELIVERY, ReceivingGround, SENDER, Setup, TEAM, letter, sealed, success,
    },
    request::TestRequest,
    scripted_smtp::{Act as SmtpAct, ScriptedSmtp},
    scripted_xdr::Act,
    store::StandingClock,
    wait_until,
};

const MINUTE: Duration = Duration::from_secs(60);

/// A clock of whole seconds: the store counts in microseconds, and gives them back as they were.
fn clock() -> Arc<StandingClock> {
    StandingClock::at(Timestamp::from_second(now().as_second()).unwrap())
}

/// A bridge that sends to a next hop which puts off the first `busy` mails.
struct Sending {
    bridge: TestBridge,
    hop: ScriptedSmtp,
    clock: Arc<StandingClock>,
    commands: Operated,
}

impl Sending {
    fn start(busy: usize) -> Self {
        let runtime = runtime();
        let builder = ScriptedSmtp::builder().tls(&as_tls(&pki().mail_host));
        let left = std::sync::atomic::AtomicUsize::new(busy);
        let builder = builder.acts(move |_, step| {
            use std::sync::atomic::Ordering::SeqCst;
            let is_busy = step == "END"
                && left
                    .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
                    .is_ok();
            is_busy.then(|| SmtpAct::Say("451 4.3.0 our disk is full".to_owned()))
        });
        let hop = runtime.block_on(builder.start());
        let next_hops: [(&str, SocketAddr); 1] = [("direct.harbor.example", hop.address())];
        let clock = clock();
        let bridge = TestBridge::start_with(runtime, &next_hops, clock.clone(), |_| {});
        let commands = Operated::on(bridge.data());
        Self {
            bridge,
            hop,
            clock,
            commands,
        }
    }

    fn submit(&self, to: &[&str]) -> Exchange {
        let before = self.bridge.exchanges().len();
        self.bridge.submit(&TestRequest::new(ELM, to).mtom());
        let all = self.bridge.exchanges();
        assert_eq!(all.len(), before + 1);
        all.into_iter().last().unwrap()
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.bridge.store().due_changed().notify_one();
    }

    fn wait_for_attempts(&self, count: usize) {
        wait_until("the attempts are recorded", || {
            self.bridge.audit_of(AuditKind::Iti32Export).len() >= count
        });
    }
}

fn id_of(exchange: &Exchange) -> String {
    exchange.id.to_string()
}

fn deeds(bridge: &TestBridge) -> Vec<AuditRecord> {
    bridge.audit_of(AuditKind::Operator)
}

/// The mail with one octet of its CMS changed, so many from its end.
fn altered(mail: &[u8], from_end: usize) -> Vec<u8> {
    let text = std::str::from_utf8(mail).unwrap();
    let (header, body) = text.split_once("\r\n\r\n").unwrap();
    let mut cms = decode_block(&body.replace("\r\n", "")).unwrap();
    let at = cms.len() - from_end;
    cms[at] ^= 1;
    let octets = encode_block(&cms);
    let lines: Vec<&str> = octets
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!("{header}\r\n\r\n{}\r\n", lines.join("\r\n")).into_bytes()
}

// rule: T-13, RCV-R2, RCV-R3, RCV-R5, RCV-R6, SM-38, PHI-4, AUD-5
#[test]
fn why_a_mail_was_not_opened_is_named_precisely_to_operators_and_to_nobody_else() {
    let ground = ReceivingGround::start(|_| success());
    let commands = Operated::on(ground.bridge.data());
    let peer = OpensslPeer::new();
    let entity = wrapped(&letter("s@direct.harbor.example", &[ADA], FINAL_DELIVERY));
    let to = &pki().direct_elm.certificate;
    let signed = peer.sign(&entity, &[&pki().harbor], &["-binary"]);
    let forged = String::from_utf8(signed.clone()).unwrap();
    let forged = forged.replacen("JVBERi0xLjQ", "JVBERi0xLjU", 1);
    let stranger = xdbridge::app::pki::Authority::root("Other CA", now()).unwrap();
    let profile = xdbridge::app::pki::Profile::address(&SENDER.parse().unwrap(), now());
    let untrusted = peer.sign(&entity, &[&stranger.issue(&profile).unwrap()], &["-binary"]);
    let elsewhere = peer.sign(&entity, &[&pki().mei], &["-binary"]);

    let mut replies = Vec::new();
    for (name, mail, whom, cause) in [
        (
            "not verified",
            peer.enclose(&forged, to),
            None,
            "no signature holds: the signature does not fit the content (RCV-R5)",
        ),
        (
            "wrong key",
            altered(
                &mailed(&peer.encrypt(&signed, &[to], &["-aes-256-gcm"])),
                400,
            ),
            None,
            "undecryptable (RCV-R2)",
        ),
        (
            "not signed",
            peer.enclose(&entity, to),
            None,
            "the content is not signed: multipart/signed or SignedData is needed (RCV-4)",
        ),
        (
            "untrusted",
            peer.enclose(&untrusted, to),
            Some(ADA),
            "(RCV-R6)",
        ),
        (
            "not bound",
            peer.enclose(&elsewhere, to),
            Some(ADA),
            "no signer's certificate is bound to the sender (RCV-R5)",
        ),
    ] {
        let before = ground.bridge.exchanges().len();
        let reply = ground.send(SENDER, &[ADA], &mail);
        replies.push(reply.rsplit_once(' ').unwrap().0.to_owned());
        wait_until("the exchange is final", || {
            let all = ground.bridge.exchanges();
            all.len() > before && all.iter().all(Exchange::is_final)
        });
        let exchange = ground.bridge.exchanges().pop().unwrap();
        let shown = commands.json(&["show", &id_of(&exchange)]);
        let causes = texts(&shown, "/causes", "/text");
        let at = causes.iter().position(|found| found.contains(cause));
        let at = at.unwrap_or_else(|| panic!("{name}: {causes:?}"));
        let about = shown["causes"][at]["recipient"].as_str();
        assert_eq!(about, whom, "{name}");
        assert_eq!(shown["state"], "failed", "{name}");
        assert_eq!(shown["direction"], "to-xdr", "{name}");
        assert_eq!(
            texts(&shown, "/recipients_each", "/reason"),
            ["untrusted"],
            "{name}"
        );
        assert_eq!(
            texts(&shown, "/recipients_each", "/state"),
            ["Rejected"],
            "{name}"
        );
        assert_eq!(shown["notices"], json!([]), "{name}");
        let text = commands.text(&["show", &id_of(&exchange)]);
        assert!(text.contains(cause), "{name}: {text}");
    }
    // Outside they are one.
    replies.dedup();
    assert_eq!(replies, ["250 2.0.0 Ok: queued as"]);
    ground.assert_silence();
    // Who looked is in the audit, by what the kernel says.
    let reads = ground.bridge.audit_of(AuditKind::AuditLogUsed);
    let uid = rustix::process::getuid().as_raw();
    let by = format!("exchange show, uid {uid} pid ");
    let shows = reads
        .iter()
        .filter(|one| one.details["reader"].starts_with(&by));
    assert_eq!(shows.filter(|one| one.exchange.is_some()).count(), 10);
}

// rule: Q-7, AUD-5
#[test]
fn a_submission_is_found_by_every_id_and_what_waits_is_tried_now() {
    let ground = Sending::start(2);
    let exchange = ground.submit(&[RUI, UNTRUSTED]);
    ground.wait_for_attempts(1);
    let Origin::Xdr {
        soap_message_id,
        submission_set_unique_id,
        ..
    } = &exchange.origin
    else {
        panic!("from XDR");
    };
    let message_id = exchange.legs[0].as_mail().unwrap().message_id.to_string();
    let soap = soap_message_id.as_ref().unwrap().as_str().to_owned();
    let bracketed = format!("<{message_id}>");
    let first = ground.commands.json(&["show", &id_of(&exchange)]);
    for id in [
        soap.as_str(),
        submission_set_unique_id,
        &message_id,
        &bracketed,
    ] {
        let shown = ground.commands.json(&["show", id]);
        assert_eq!(shown["id"], first["id"], "{id}");
    }
    assert_eq!(first["state"], "open");
    assert_eq!(first["partner"], "elm");
    assert_eq!(first["from"], ELM);
    assert_eq!(first["ids"]["wsa_message_id"], soap);
    assert_eq!(
        texts(&first, "/recipients_each", "/address"),
        [RUI, UNTRUSTED]
    );
    assert_eq!(
        texts(&first, "/recipients_each", "/reason"),
        ["null", "untrusted"]
    );
    let said = texts(&first, "/attempts", "/text");
    assert!(
        said.len() == 1 && said[0].ends_with(": 451 4.3.0 our disk is full"),
        "{said:?}"
    );
    let sends = |shown: &Value| -> Vec<(u64, String)> {
        let all = shown["next"].as_array().unwrap().iter();
        all.filter(|one| one["what"] == "send")
            .map(|one| {
                let at = one["at"].as_str().unwrap().to_owned();
                (one["attempt"].as_u64().unwrap(), at)
            })
            .collect()
    };
    let due = sends(&first);
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].0, 2);
    assert!(due[0].1.parse::<Timestamp>().unwrap() > ground.clock.now());

    // No time passes: an attempt is made because an operator asked for it.
    let done = ground.commands.json(&["retry", &soap]);
    assert_eq!(
        (&done["is_changed"], &done["hastened"]),
        (&json!(true), &json!(1))
    );
    ground.wait_for_attempts(2);
    wait_until("the third attempt waits", || {
        sends(&ground.commands.json(&["show", &soap]))
            .iter()
            .any(|(number, _)| *number == 3)
    });
    ground.commands.text(&["retry", &soap]);
    ground.bridge.wait_until_sent();
    let refused = ground.commands.refused(&["retry", &soap]);
    assert!(refused.contains("the mail was handed over"), "{refused}");
    let mails = received(&ground.hop);
    assert_eq!(mails.len(), 3);
    assert!(mails.iter().all(|mail| mail.message == mails[0].message));

    let refused = ground.commands.refused(&["show", "nobody@nowhere.example"]);
    assert!(
        refused.contains("no exchange is known by this id"),
        "{refused}"
    );
    let deeds = deeds(&ground.bridge);
    let done: Vec<_> = deeds
        .iter()
        .map(|one| (one.details["deed"].as_str(), one.outcome))
        .collect();
    let success = AuditOutcome::Success;
    assert_eq!(
        done,
        [
            ("retry", success),
            ("retry", success),
            ("retry", AuditOutcome::Minor)
        ]
    );
    assert!(deeds.iter().all(|one| one.exchange == Some(exchange.id)));
}

// rule: Q-7, RT-17, Q-4
#[test]
fn what_is_held_is_not_sent_and_what_an_operator_ends_is_told_as_failed() {
    let ground = Sending::start(1);
    let exchange = ground.submit(&[RUI, INTAKE]);
    let id = id_of(&exchange);
    ground.wait_for_attempts(2);
    let reason = ["--reason", "the practice moves today"];
    ground
        .commands
        .text(&[&["hold", &id], &reason[..]].concat());
    let again = ground.commands.json(&["hold", &id]);
    assert_eq!(again["is_changed"], false);
    ground.advance(3 * MINUTE);
    wait_until("the attempt is withheld", || {
        ground
            .bridge
            .exchange()
            .hold
            .is_some_and(|hold| hold.withheld.len() == 1)
    });
    let shown = ground.commands.json(&["show", &id]);
    assert_eq!(shown["state"], "held");
    assert_eq!(
        (&shown["next"][0]["what"], &shown["next"][0]["is_withheld"]),
        (&json!("send"), &json!(true))
    );
    assert_eq!(received(&ground.hop).len(), 1);
    let refused = ground.commands.refused(&["retry", &id]);
    assert!(
        refused.contains("it is held: release it first"),
        "{refused}"
    );

    // One of the two is given up while it is held; the other goes on when it is released.
    let ended = ground
        .commands
        .json(&["fail", &id, "--recipient", INTAKE, "--reason", "retired"]);
    assert_eq!(ended["ended"], json!([INTAKE]));
    let again = ground
        .commands
        .json(&["fail", &id, "--recipient", INTAKE, "--reason", "retired"]);
    assert_eq!(
        (&again["is_changed"], &again["ended"]),
        (&json!(false), &json!([]))
    );
    let released = ground.commands.json(&["release", &id]);
    assert_eq!(
        (&released["is_changed"], &released["hastened"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(ground.commands.json(&["release", &id])["is_changed"], false);
    ground.bridge.wait_until_sent();
    assert_eq!(ground.bridge.recipient(RUI).state, RecipientState::Relayed);
    let mails = received(&ground.hop);
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[1].recipients, [RUI]);

    // What has left can be given up, too: its sender waits no longer.
    ground
        .commands
        .text(&["fail", &id, "--reason", "no answer by phone"]);
    wait_until("both outcomes are told", || {
        ground.bridge.audit_of(AuditKind::Outcome).len() == 2
    });
    for record in ground.bridge.audit_of(AuditKind::Outcome) {
        assert_eq!(record.details["outcome"], "operator");
    }
    for (deed, error) in [
        (&["retry", &id][..], "every recipient is settled"),
        (&["hold", &id], "every recipient is settled"),
        (&["release", &id], "every recipient is settled"),
        (
            &["fail", &id, "--reason", "x", "--recipient", "x@y.example"],
            "none of its recipients",
        ),
    ] {
        let refused = ground.commands.refused(deed);
        assert!(refused.contains(error), "{refused}");
    }
    let reasons: Vec<_> = deeds(&ground.bridge)
        .into_iter()
        .filter(|one| one.outcome == AuditOutcome::Success)
        .filter_map(|mut one| one.details.remove("reason"))
        .collect();
    assert_eq!(
        reasons,
        [
            "the practice moves today",
            "retired",
            "retired",
            "no answer by phone"
        ]
    );
    // Without a reason nothing is ended.
    let output = ground.commands.run(&["fail", &id]);
    assert_eq!(output.status.code(), Some(2));
}

/// A bridge whose endpoint does with the n-th request what the n-th act says.
struct Posting {
    receiving: ReceivingGround,
    clock: Arc<StandingClock>,
    commands: Operated,
}

impl Posting {
    fn start(acts: Vec<Act>) -> Self {
        let clock = clock();
        let setup = Setup {
            clock: clock.clone(),
            ..Setup::default()
        };
        let script = move |number: usize| acts.get(number).or(acts.last()).unwrap().clone();
        let receiving = ReceivingGround::start_as(script, setup);
        let commands = Operated::on(receiving.bridge.data());
        Self {
            receiving,
            clock,
            commands,
        }
    }

    /// Sends a mail that is posted `posts` times by then, and gives its exchange.
    fn deliver(&self, id: &str, posts: usize) -> Exchange {
        let before = self.receiving.bridge.exchanges().len();
        let reply = self
            .receiving
            .deliver(&letter(id, &[ADA], FINAL_DELIVERY), &[ADA]);
        assert!(reply.starts_with("250"), "{reply}");
        self.wait_for_posts(posts);
        self.receiving.bridge.exchanges().remove(before)
    }

    fn wait_for_posts(&self, count: usize) {
        wait_until("the posts are recorded", || {
            self.receiving.bridge.audit_of(AuditKind::Iti41Export).len() >= count
        });
    }

    fn leg(&self, id: &str) -> LegState {
        let all = self.receiving.bridge.exchanges();
        let exchange = all.iter().find(|one| id_of(one) == id).unwrap();
        exchange.legs[0].as_xdr().unwrap().state
    }

    /// What the sender was told last, once so many notices came.
    fn told(&self, count: usize) -> (Option<Disposition>, String) {
        let mut notices = self.receiving.notices(count);
        notices.sort_by_key(|one| one.report.disposition != Some(Disposition::Processed));
        let last = notices.pop().unwrap();
        let text = String::from_utf8_lossy(&last.entity).into_owned();
        (last.report.disposition, text)
    }
}

fn busy() -> Act {
    Act::Answer {
        status: 503,
        content_type: "text/html",
        body: b"<html>later</html>".to_vec(),
    }
}

// rule: Q-7, RT-17, DSN-5
#[test]
fn a_post_is_retried_held_released_and_ended_and_the_sender_is_told_by_mdn() {
    let ground = Posting::start(vec![busy(), busy(), busy(), success(), busy()]);
    let id = id_of(&ground.deliver("p1@direct.harbor.example", 1));
    let shown = ground
        .commands
        .json(&["show", "<p1@direct.harbor.example>"]);
    assert_eq!(shown["id"], id);
    assert_eq!(shown["endpoints"], json!(["ehr"]));
    assert_eq!(shown["legs"][0]["state"], "Opened");
    assert_eq!(texts(&shown, "/attempts", "/is_success"), ["false"]);
    ground.commands.text(&["retry", &id]);
    ground.wait_for_posts(2);

    ground.commands.text(&["hold", &id]);
    ground.clock.advance(5 * MINUTE);
    ground.receiving.bridge.store().due_changed().notify_one();
    wait_until("the post is withheld", || {
        let shown = ground.commands.json(&["show", &id]);
        shown["next"][0]["is_withheld"] == true
    });
    assert_eq!(ground.receiving.posted().len(), 2);
    ground.commands.text(&["release", &id]);
    ground.wait_for_posts(3);
    ground.commands.text(&["retry", &id]);
    wait_until("it is delivered", || ground.leg(&id) == LegState::Delivered);
    let (disposition, _) = ground.told(2);
    assert_eq!(disposition, Some(Disposition::Dispatched));
    let posted = ground.receiving.posted();
    assert_eq!(posted.len(), 4);
    assert!(posted.iter().all(|one| one.body == posted[0].body));
    let refused = ground.commands.refused(&["fail", &id, "--reason", "x"]);
    assert!(refused.contains("every recipient is settled"), "{refused}");

    let second = id_of(&ground.deliver("p2@direct.harbor.example", 5));
    let ended = ground
        .commands
        .json(&["fail", &second, "--reason", "the endpoint is gone"]);
    assert_eq!(ended["ended"], json!([ADA]));
    assert_eq!(ground.leg(&second), LegState::Refused);
    let (disposition, text) = ground.told(4);
    assert_eq!(disposition, Some(Disposition::Failed));
    assert!(text.contains(&Reason::Operator.context()), "{text}");
    // Why is the operator's and the audit's.
    assert!(!text.contains("the endpoint is gone"), "{text}");
    let shown = ground.commands.json(&["show", &second]);
    assert_eq!(texts(&shown, "/recipients_each", "/reason"), ["operator"]);
    let sent = texts(&shown, "/notices", "/disposition");
    assert_eq!(sent, ["processed", "failed"]);
    assert_eq!(ground.receiving.posted().len(), 5);
}

// rule: RT-15, Q-7
#[test]
fn what_is_in_doubt_is_not_posted_again_by_any_command() {
    let ground = Posting::start(vec![Act::CloseAfterBody]);
    let id = id_of(&ground.deliver("d1@direct.harbor.example", 1));
    wait_until("it is in doubt", || ground.leg(&id) == LegState::InDoubt);
    ground.receiving.notices(2);
    let refused = ground.commands.refused(&["retry", &id]);
    assert!(
        refused.contains("a repeat could store the submission twice"),
        "{refused}"
    );
    let shown = ground.commands.json(&["show", &id]);
    assert_eq!(texts(&shown, "/recipients_each", "/reason"), ["inDoubt"]);
    assert_eq!(ground.receiving.posted().len(), 1);
}

#[test]
fn a_list_is_filtered_and_paged_and_names_no_person() {
    let ground = ReceivingGround::start(|_| success());
    let commands = Operated::on(ground.bridge.data());
    let bridge = &ground.bridge;
    for number in 0..3 {
        let id = format!("l{number}@direct.harbor.example");
        ground.deliver(&letter(&id, &[ADA, TEAM], ""), &[ADA, TEAM]);
    }
    bridge.submit(&TestRequest::new(ELM, &[RUI, UNTRUSTED]).mtom());
    let stranger = sealed(
        &letter("l9@direct.harbor.example", &[ADA], ""),
        &[&pki().mei],
        &pki().direct_elm,
    );
    ground.send(SENDER, &[ADA], &stranger);
    bridge.wait_until_sent();
    wait_until("all mails are settled", || {
        let all = bridge.exchanges();
        all.iter().filter(|one| one.is_final()).count() == 4
    });

    let ids = |arguments: &[&str]| {
        let page = commands.json(&[&["list"], arguments].concat());
        assert_eq!(page["next"], Value::Null);
        texts(&page, "/exchanges", "/id")
    };
    let mut all: Vec<String> = bridge.exchanges().iter().map(id_of).collect();
    all.reverse();
    assert_eq!(ids(&[]), all);
    assert_eq!(ids(&["--since", "1h"]), all);
    assert!(ids(&["--since", "2100-01-01T00:00:00Z"]).is_empty());
    assert_eq!(ids(&["--direction", "to-direct"]), all[1..2]);
    assert_eq!(ids(&["--partner", "elm"]), all[1..2]);
    assert_eq!(ids(&["--open"]), all[1..2]);
    assert_eq!(ids(&["--state", "open"]), all[1..2]);
    assert_eq!(ids(&["--state", "failed"]), all[..1]);
    assert_eq!(ids(&["--endpoint", "ehr"]), all[2..]);
    assert_eq!(ids(&["--final", "--state", "delivered"]), all[2..]);

    // Page by page, each told where the next one begins.
    let mut paged = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut arguments = vec!["list", "--limit", "2"];
        if let Some(after) = &after {
            arguments.extend(["--after", after]);
        }
        let page = commands.json(&arguments);
        let some = texts(&page, "/exchanges", "/id");
        assert!(some.len() <= 2);
        paged.extend(some);
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(paged, all);

    let text = commands.text(&["list"]);
    assert!(
        text.contains("1 open, 0 delivered, 1 failed  untrusted"),
        "{text}"
    );
    for name in ["ada.quill", "rui.silva", "ngozi.okafor", "lena.varga"] {
        assert!(!text.contains(name), "{text}");
        assert!(!commands.json(&["list"]).to_string().contains(name));
    }
    let looks = deeds(bridge);
    assert!(looks.iter().all(|one| one.details["deed"] == "list"));
    assert!(
        looks
            .iter()
            .any(|one| one.details["filter"].contains("\"partner\":\"elm\""))
    );
    for bad in [
        &["--state", "lost"][..],
        &["--since", "noon"],
        &["--limit", "0"],
        &["--after", "x"],
    ] {
        let output = commands.run(&[&["list"], bad].concat());
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn where_no_bridge_runs_its_store_is_opened_in_its_place_and_the_next_start_goes_on() {
    let ground = Sending::start(1);
    let exchange = ground.submit(&[RUI]);
    let id = id_of(&exchange);
    ground.wait_for_attempts(1);
    let Sending {
        bridge, commands, ..
    } = ground;
    // Its folder stays until the test is over.
    let _folder = bridge.stop_and_keep();
    let output = commands.run(&["hold", &id, "--json"]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("no bridge listens on ") && said.contains("its store was opened"),
        "{said}"
    );
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["is_changed"], true);
    assert_eq!(commands.json(&["show", &id])["state"], "held");
    assert_eq!(commands.json(&["release", &id])["is_changed"], true);
}
