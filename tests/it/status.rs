//! What an XDR sender is told of each recipient at its `status_endpoint`: over real sockets, from what becomes of the
//! mail to the ITI-41 request with its one `direct:messageDisposition` (mdn.md STS-1 to STS-4 and section 11).

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use xdbridge::{
    app::config::Config,
    bridge::{
        exchange::{Exchange, Recipient, StatusEnd},
        partner::Partial,
        status::StatusFrom,
    },
    formats::{
        audit::{AuditKind, AuditRecord},
        limits::Limits,
        soap::MetadataLevel,
        xdr::{disposition::MessageDisposition, response::Status},
    },
};

use crate::support::{
    bridge::{ELM, INTAKE, RUI, UNKNOWN, UNTRUSTED, as_tls, as_tls_ca, pki},
    envelopes::root_of,
    notices_ground::{Notice, NoticesGround, Submitted, WITH_EXTENSION},
    receiving_ground::{response, success, understood},
    request::TestRequest,
    scripted_xdr::{Act, ScriptedXdr, Seen},
    wait_until,
    xmllint::assert_valid,
};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A bridge, its notices, and the endpoint where partner `elm` takes outcomes.
struct Ground {
    notices: NoticesGround,
    edge: ScriptedXdr,
}

/// One disposition as the edge reads it.
struct Told {
    relates_to: String,
    from: String,
    to: Vec<String>,
    disposition: MessageDisposition,
    message_id: String,
}

impl Told {
    fn read(seen: &Seen) -> Self {
        let (request, documents) = understood(seen);
        let [document] = documents.as_slice() else {
            panic!("{} documents", documents.len());
        };
        assert_eq!(request.metadata_level, Some(MetadataLevel::Minimal));
        let block = request.address_block.unwrap();
        Self {
            relates_to: request.notification_relates_to.unwrap(),
            from: block.from.to_string(),
            to: block.to.iter().map(ToString::to_string).collect(),
            disposition: MessageDisposition::read(document, &Limits::default()).unwrap(),
            message_id: request.addressing.message_id.unwrap().to_string(),
        }
    }

    /// Whom it speaks of, and what it says in a word: `success`, or the reason.
    fn says(&self) -> (String, String) {
        let recipient = self.disposition.recipient.to_string();
        let word = match (&self.disposition.reason, self.disposition.is_success) {
            (None, true) => "success".to_owned(),
            (Some(reason), false) => reason.clone(),
            (reason, is_success) => panic!("success {is_success}, reason {reason:?}"),
        };
        (recipient, word)
    }
}

impl Ground {
    fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        Self::start_with(script, |_| {})
    }

    fn start_with(
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
        change: impl FnOnce(&mut Config) + 'static,
    ) -> Self {
        let edge = ScriptedXdr::start(&as_tls(&pki().mail_host), &as_tls_ca(), script);
        let url = edge.url();
        let notices = NoticesGround::start_with(|config| {
            config.partner[0].status_endpoint = Some(url);
            change(config);
        });
        Self { notices, edge }
    }

    /// Submits as it is, and gives the status of the answer.
    fn post(&self, request: &TestRequest) -> Status {
        self.notices.ground.bridge.submit(&request.mtom()).status
    }

    fn pass(&self, time: Duration) {
        self.notices.clock.advance(time);
        self.bridge_store().due_changed().notify_one();
    }

    fn bridge_store(&self) -> &Arc<dyn xdbridge::adapters::store::Store> {
        self.notices.ground.bridge.store()
    }

    /// What the edge was told so far.
    fn told(&self) -> Vec<Told> {
        self.edge.seen().iter().map(Told::read).collect()
    }

    /// What the edge was told of one submission, once `count` requests came.
    fn told_of(&self, submitted: &Submitted, count: usize) -> Vec<(String, String)> {
        let about = || {
            let told = self.told().into_iter();
            told.filter(|told| told.relates_to == submitted.soap_message_id)
                .map(|told| told.says())
                .collect::<Vec<_>>()
        };
        wait_until("the edge is told", || about().len() >= count);
        self.wait_until_all_is_done();
        about()
    }

    /// Waits until every settled recipient was reported, and no report is under way.
    fn wait_until_all_is_done(&self) {
        wait_until("every report has ended", || {
            let all = self.notices.submissions();
            let mut settled = all
                .iter()
                .flat_map(|exchange| &exchange.recipients)
                .filter(|recipient| recipient.outcome.is_some());
            settled.all(|recipient| end(recipient).is_some())
        });
    }

    /// The one recipient of the one submission.
    fn recipient(&self) -> Recipient {
        let all = self.notices.submissions();
        let [Exchange { recipients, .. }] = all.as_slice() else {
            panic!("{} exchanges", all.len());
        };
        recipients[0].clone()
    }

    fn audit_of_attempts(&self) -> Vec<AuditRecord> {
        let exports = self.notices.ground.bridge.audit_of(AuditKind::Iti41Export);
        let is_status = |record: &AuditRecord| record.details.contains_key("status");
        exports.into_iter().filter(is_status).collect()
    }
}

fn end(recipient: &Recipient) -> Option<StatusEnd> {
    recipient.status.as_ref()?.end
}

fn says(recipient: &str, word: &str) -> (String, String) {
    (recipient.to_owned(), word.to_owned())
}

/// A row of mdn.md section 11: what comes for the one recipient, then what the sender is told at once and after all
/// deadlines, with the option as given.
struct Row {
    name: &'static str,
    option: bool,
    comes: &'static [&'static str],
    told: Option<&'static str>,
    told_at_the_end: &'static str,
}

fn rows() -> Vec<Row> {
    let row = |name, option, comes, told, told_at_the_end| Row {
        name,
        option,
        comes,
        told,
        told_at_the_end,
    };
    vec![
        row("XDR MT 35", false, &[][..], None, "timeoutProcessed"),
        row("XDR MT 35, option on", true, &[], None, "timeoutProcessed"),
        row("XDR MT 36", true, &["processed"], None, "timeoutDispatched"),
        row(
            "XDR MT 36, dispatched without the extension",
            true,
            &["processed", "dispatched"],
            None,
            "timeoutDispatched",
        ),
        row(
            "XDR MT 38",
            true,
            &["processed", WITH_EXTENSION],
            Some("success"),
            "success",
        ),
        row(
            "XDR MT 38, then again, and the contrary",
            true,
            &["processed", WITH_EXTENSION, WITH_EXTENSION, "failed"],
            Some("success"),
            "success",
        ),
        row(
            "option off",
            false,
            &["processed"],
            Some("success"),
            "success",
        ),
        row(
            "option off, dispatched too",
            false,
            &["processed", WITH_EXTENSION],
            Some("success"),
            "success",
        ),
        row(
            "failed",
            true,
            &["processed", "failed"],
            Some("mdnFailed"),
            "mdnFailed",
        ),
        row(
            "displayed",
            true,
            &["displayed"],
            Some("success"),
            "success",
        ),
    ]
}

// rule: STS-1, STS-2, STS-3, STS-4, XDR-123, XDR-126, SRC-5
#[test]
fn every_recipient_is_told_of_once_and_truly_whatever_notices_come() {
    let ground = Ground::start(|_| success());
    let mut waiting = Vec::new();
    for row in rows() {
        let submitted = ground.notices.submit(&[RUI], row.option);
        for disposition in row.comes {
            let notice = Notice::mdn(&submitted, RUI, disposition);
            ground.notices.reply(&notice.message());
        }
        let told = ground.told_of(&submitted, row.told.iter().len());
        let expected: Vec<_> = row.told.map(|word| says(RUI, word)).into_iter().collect();
        assert_eq!(told, expected, "{}", row.name);
        waiting.push((row, submitted));
    }
    ground.pass(Duration::from_secs(61 * 60));
    for (row, submitted) in &waiting {
        let told = ground.told_of(submitted, 1);
        assert_eq!(told, [says(RUI, row.told_at_the_end)], "{}", row.name);
        // XDR MT 37: what comes after the deadline is suppressed.
        let late = Notice::mdn(submitted, RUI, WITH_EXTENSION);
        ground.notices.reply(&late.message());
    }
    ground.wait_until_all_is_done();
    let all = ground.told();
    assert_eq!(all.len(), waiting.len());
    let ids: BTreeSet<&String> = all.iter().map(|told| &told.message_id).collect();
    assert_eq!(ids.len(), all.len());
    for told in &all {
        assert_eq!(told.from, "postmaster@direct.elm.example");
        assert_eq!(told.to, [ELM]);
    }
    // Nothing is told of what was told, nor posted where mail goes.
    assert!(ground.notices.ground.posted().is_empty());
    assert_eq!(ground.notices.submissions().len(), waiting.len());
}

// rule: XDR-32, XDR-124, STS-1, SRC-6
#[test]
fn recipients_refused_at_accept_get_a_failure_disposition_each_beside_their_warning() {
    let ground = Ground::start(|_| success());
    let request = TestRequest::new(ELM, &[UNKNOWN, RUI, UNTRUSTED]);
    assert_eq!(ground.post(&request), Status::Success);
    wait_until("two are told of", || ground.edge.seen().len() == 2);
    ground.wait_until_all_is_done();
    let mut told: Vec<_> = ground.told().iter().map(Told::says).collect();
    told.sort();
    let mut expected = [says(UNTRUSTED, "untrusted"), says(UNKNOWN, "noCertificate")];
    expected.sort();
    assert_eq!(told, expected);
    for told in ground.told() {
        assert_eq!(told.relates_to, request.message_id.to_string());
    }

    // Nobody is left: the answer says it all.
    let nobody = TestRequest::new(ELM, &[UNKNOWN, UNTRUSTED]);
    assert_eq!(ground.post(&nobody), Status::Failure);
    ground.wait_until_all_is_done();
    assert_eq!(ground.edge.seen().len(), 2);
}

// rule: XDR-32
#[test]
fn an_atomic_refusal_is_the_answer_and_no_disposition() {
    let atomic = |config: &mut Config| config.partner[0].partial = Partial::Atomic;
    let ground = Ground::start_with(|_| success(), atomic);
    let request = TestRequest::new(ELM, &[RUI, UNKNOWN]);
    assert_eq!(ground.post(&request), Status::Failure);
    assert!(ground.notices.submissions().is_empty());
    assert!(ground.edge.seen().is_empty());
}

// rule: STS-1, STS-2, SOAP-118, XDR-120, XDR-121
#[test]
fn what_is_posted_is_valid_by_our_schemas_and_names_its_recipient_where_the_partner_wants_it() {
    let from_recipient = |config: &mut Config| {
        config.partner[0].status_from = StatusFrom::Recipient;
    };
    let ground = Ground::start_with(|_| success(), from_recipient);
    let submitted = ground.notices.submit(&[RUI], false);
    ground
        .notices
        .reply(&Notice::mdn(&submitted, RUI, "processed").message());
    let refused = TestRequest::new(ELM, &[RUI, UNKNOWN]);
    assert_eq!(ground.post(&refused), Status::Success);
    wait_until("two are told of", || ground.edge.seen().len() == 2);
    let mut documents = Vec::new();
    for seen in ground.edge.seen() {
        let told = Told::read(&seen);
        assert_eq!(told.from, told.says().0);
        let (root, includes) = root_of(&String::from_utf8(seen.body.clone()).unwrap());
        assert_eq!(includes.len(), 1);
        let (_, octets) = understood(&seen);
        documents.push(root);
        documents.push(String::from_utf8(octets[0].clone()).unwrap());
    }
    assert_valid(&documents);
}

// rule: STS-2
#[test]
fn a_request_without_a_message_id_is_named_by_its_submission_set() {
    let ground = Ground::start(|_| success());
    let request = TestRequest::new(ELM, &[RUI, UNKNOWN]);
    let id = format!(
        "<wsa:MessageID soap:mustUnderstand=\"true\">{}</wsa:MessageID>",
        request.message_id
    );
    let posted = request.mtom().with(&id, "");
    let answer = ground.notices.ground.bridge.submit(&posted);
    assert_eq!(answer.status, Status::Success);
    wait_until("it is told of", || ground.edge.seen().len() == 1);
    let expected = format!("urn:oid:{}", request.unique_id);
    assert_eq!(ground.told()[0].relates_to, expected);
}

// rule: STS-3
#[test]
fn a_status_whose_receipt_is_unknown_comes_again_octet_by_octet_until_it_is_taken() {
    let ground = Ground::start(|number| match number {
        0 => Act::CloseInBody,
        1 => Act::CloseAfterBody,
        2 => Act::soap(503, ""),
        3 => Act::CutAnswer,
        4 => Act::soap(200, "hello"),
        _ => success(),
    });
    let submitted = ground.notices.submit(&[RUI], false);
    ground
        .notices
        .reply(&Notice::mdn(&submitted, RUI, "processed").message());
    wait_until("it is taken in the end", || {
        ground.pass(Duration::from_secs(60));
        end(&ground.recipient()) == Some(StatusEnd::Taken)
    });
    let seen = ground.edge.seen();
    assert_eq!(seen.len(), 6);
    for later in &seen[2..] {
        assert_eq!(later.body, seen[1].body);
        let content_type = |seen: &Seen| {
            let mut lines = seen.head.lines();
            lines
                .find(|line| line.starts_with("content-type"))
                .map(str::to_owned)
        };
        assert_eq!(content_type(later), content_type(&seen[1]));
    }
    let results: Vec<String> = ground
        .audit_of_attempts()
        .iter()
        .map(|record| record.details["result"].clone())
        .collect();
    let unknown = ["unknown"; 5].into_iter();
    assert_eq!(results, unknown.chain(["taken"]).collect::<Vec<_>>());
    // A day later another one comes, and this one not again.
    ground.pass(25 * HOUR);
    let another = TestRequest::new(ELM, &[RUI, UNKNOWN]);
    assert_eq!(ground.post(&another), Status::Success);
    wait_until("the other one comes", || ground.edge.seen().len() > 6);
    let bodies: Vec<Vec<u8>> = ground.edge.seen().into_iter().map(|one| one.body).collect();
    assert_eq!(
        bodies.iter().filter(|body| **body == seen[1].body).count(),
        5
    );
}

// rule: STS-3
#[test]
fn a_status_that_nobody_takes_within_a_day_is_a_dead_letter_and_its_outcome_stays_readable() {
    let ground = Ground::start_with(
        |_| Act::soap(503, ""),
        |config| config.timers.body_retention = HOUR,
    );
    let dead = || ground.notices.ground.bridge.alarms("status_dead_letter");
    let before = dead();
    let submitted = ground.notices.submit(&[RUI], true);
    ground
        .notices
        .reply(&Notice::mdn(&submitted, RUI, "failed").message());
    wait_until("it was tried", || !ground.edge.seen().is_empty());
    let mut hours = 0;
    wait_until("it is given up", || {
        if hours < 23 {
            // Retention of all other bodies is over after the first of them.
            assert_eq!(end(&ground.recipient()), None, "after {hours} hours");
        }
        let count = ground.edge.seen().len();
        ground.pass(HOUR);
        hours += 1;
        wait_until("the next attempt, or the last", || {
            ground.edge.seen().len() > count || end(&ground.recipient()).is_some()
        });
        end(&ground.recipient()).is_some()
    });
    let recipient = ground.recipient();
    assert_eq!(end(&recipient), Some(StatusEnd::Expired));
    assert_eq!(
        recipient.outcome.unwrap().failure.unwrap().token(),
        "mdnFailed"
    );
    assert!(dead() > before);
    let seen = ground.edge.seen();
    assert!(seen.iter().all(|later| later.body == seen[0].body));
    // Its octets go with the others, once it is given up.
    ground.pass(25 * HOUR);
    let body = recipient.status.unwrap().request.body;
    wait_until("its octets are gone", || {
        ground.bridge_store().open(body).is_err()
    });
}

// rule: STS-3
#[test]
fn a_status_that_the_partner_refuses_is_not_repeated() {
    for refusal in [Act::soap(404, ""), response("Failure", "")] {
        let ground = Ground::start(move |_| refusal.clone());
        for count in 1..=2 {
            let request = TestRequest::new(ELM, &[RUI, UNKNOWN]);
            assert_eq!(ground.post(&request), Status::Success);
            wait_until("it was refused", || {
                let all = ground.notices.submissions().into_iter();
                let ends = all.map(|one| end(&one.recipients[1]));
                ends.filter(|end| *end == Some(StatusEnd::Refused)).count() == count
            });
            ground.pass(Duration::from_secs(30 * 60));
        }
        assert_eq!(ground.edge.seen().len(), 2);
    }
}

// rule: STS-3, XDR-50
#[test]
fn a_repeated_submission_is_told_of_no_second_time() {
    let ground = Ground::start(|_| success());
    let request = TestRequest::new(ELM, &[RUI, UNKNOWN]);
    for _ in 0..3 {
        assert_eq!(ground.post(&request), Status::Success);
    }
    ground.wait_until_all_is_done();
    assert_eq!(ground.edge.seen().len(), 1);
}

// rule: STS-3
#[test]
fn an_edge_that_stalls_delays_no_mail_no_notice_and_no_other_report() {
    let is_stalling = Arc::new(AtomicBool::new(true));
    let stalls = Arc::clone(&is_stalling);
    let ground = Ground::start(move |_| {
        if stalls.load(Ordering::SeqCst) {
            Act::Stall
        } else {
            success()
        }
    });
    let requests = [UNKNOWN, UNTRUSTED].map(|bad| TestRequest::new(ELM, &[RUI, bad, INTAKE]));
    for request in &requests {
        assert_eq!(ground.post(request), Status::Success);
    }
    wait_until("both are told of", || ground.edge.seen().len() >= 2);
    // The first silence lasts longer than all of this.
    let submitted = ground.notices.submit(&[RUI], false);
    ground
        .notices
        .reply(&Notice::mdn(&submitted, RUI, "processed").message());
    assert!(ground.notices.recipient(&submitted, RUI).outcome.is_some());
    is_stalling.store(false, Ordering::SeqCst);
    wait_until("all are told of", || {
        ground.pass(Duration::from_secs(60));
        let all = ground.notices.submissions();
        let mut recipients = all.iter().flat_map(|exchange| &exchange.recipients);
        recipients.all(|one| one.outcome.is_none() || end(one) == Some(StatusEnd::Taken))
    });
}

crate::support::stores::on_postgresql_too! {
    every_recipient_is_told_of_once_and_truly_whatever_notices_come,
    a_status_whose_receipt_is_unknown_comes_again_octet_by_octet_until_it_is_taken,
    a_repeated_submission_is_told_of_no_second_time,
}
