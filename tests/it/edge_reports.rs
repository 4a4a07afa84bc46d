//! What an endpoint says later of a request that was posted to it: a deferred response, or a disposition of its own. Over
//! real sockets, from the mail that comes in to the notice that its sender gets (mdn.md section 9 and section 11, COR-5,
//! COR-6, DST-7).

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use xdbridge::{
    app::config::Config,
    bridge::exchange::{Exchange, LegState, XdrLeg},
    formats::{
        audit::AuditKind,
        notification::mdn::Disposition,
        smime::SigningIdentity,
        xdr::{disposition::MessageDisposition, response::Status},
    },
};

use crate::support::{
    bridge::{fault, now, pki, registry_response},
    receiving_ground::{ADA, FINAL_DELIVERY, ReceivingGround, Setup, TEAM, letter, success},
    request::{Posted, TestRequest},
    scripted_xdr::Act,
    store::StandingClock,
    tls::HttpAnswer,
    wait_until,
};

/// The postmaster whom the edge writes as.
const EDGE: &str = "postmaster@direct.elm.example";

/// A bridge that receives for an endpoint for which partner `elm` speaks, by a clock of the test's.
struct Ground {
    ground: ReceivingGround,
    clock: Arc<StandingClock>,
}

impl Ground {
    fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static, is_final_later: bool) -> Self {
        Self::start_with(script, move |config| {
            config.endpoint[0].partner = Some("elm".to_owned());
            config.endpoint[0].final_by_disposition = is_final_later;
        })
    }

    fn start_with(
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
        change: impl FnOnce(&mut Config) + 'static,
    ) -> Self {
        let clock = StandingClock::at(Timestamp::from_second(now().as_second()).unwrap());
        let setup = Setup {
            clock: clock.clone(),
            change: Box::new(change),
            ..Setup::default()
        };
        let ground = ReceivingGround::start_as(script, setup);
        Self { ground, clock }
    }

    /// A mail comes for `to` and is posted; the leg as it stands once it is in `state`.
    fn posted(&self, to: &[&str], state: LegState) -> XdrLeg {
        let mail = letter("1@direct.harbor.example", to, FINAL_DELIVERY);
        let reply = self.ground.deliver(&mail, to);
        assert!(reply.starts_with("250"), "{reply}");
        wait_until("it is posted", || {
            let all = self.ground.bridge.exchanges();
            all.iter()
                .any(|exchange| leg(exchange).is_some_and(|leg| leg.state == state))
        });
        leg(&self.ground.exchange()).unwrap()
    }

    fn leg(&self) -> XdrLeg {
        leg(&self.ground.exchange()).unwrap()
    }

    /// Posts with the certificate of `client`.
    fn say_as(&self, client: &SigningIdentity, posted: &Posted) -> HttpAnswer {
        self.ground.bridge.post_as(Some(client), posted).unwrap()
    }

    fn say(&self, posted: &Posted) -> HttpAnswer {
        self.say_as(&pki().elm, posted)
    }

    /// What the sender was told in the end of each recipient, once `count` notices came: for each recipient `processed`
    /// and one more.
    fn told(&self, count: usize) -> Vec<(String, Disposition)> {
        let notices = self.ground.notices(count);
        assert_eq!(notices.len(), count);
        let mut told: Vec<_> = notices
            .iter()
            .map(|notice| {
                let report = &notice.report;
                (
                    report.final_recipients[0].to_string(),
                    report.disposition.unwrap(),
                )
            })
            .filter(|(_, disposition)| *disposition != Disposition::Processed)
            .collect();
        told.sort_by(|one, other| one.0.cmp(&other.0));
        told
    }

    /// How many security alerts the audit has.
    fn alerts(&self) -> usize {
        self.ground.bridge.audit_of(AuditKind::SecurityAlert).len()
    }

    /// The results of reports about requests of ours, in their order.
    fn results(&self) -> Vec<String> {
        let imports = self
            .ground
            .bridge
            .audit_of(AuditKind::Iti41Import)
            .into_iter();
        imports
            .filter_map(|mut record| record.details.remove("result"))
            .collect()
    }
}

fn leg(exchange: &Exchange) -> Option<XdrLeg> {
    exchange.legs.first()?.as_xdr().cloned()
}

/// How a disposition says what it is about (SOAP-118).
#[derive(Clone, Copy, Debug)]
enum Form {
    AttributeInBlock,
    OwnHeader,
    TextChild,
}

/// A disposition as an edge posts it.
fn disposition(relates_to: &str, recipient: &str, is_success: bool, form: Form) -> Posted {
    let document = MessageDisposition {
        recipient: recipient.parse().unwrap(),
        is_success,
        reason: (!is_success).then(|| "chartClosed".to_owned()),
    };
    let mut request = TestRequest::new(EDGE, &["rui.silva@direct.harbor.example"]);
    request.documents = vec![("text/xml", document.to_xml().into_bytes())];
    let (before, inserted) = match form {
        Form::AttributeInBlock => (
            "</direct:addressBlock>",
            format!("<direct:notification relatesTo=\"{relates_to}\"/>"),
        ),
        Form::OwnHeader => (
            "</soap:Header>",
            format!(
                "<direct:notification xmlns:direct=\"urn:direct:addressing\" relatesTo=\"{relates_to}\"/>"
            ),
        ),
        Form::TextChild => (
            "</direct:addressBlock>",
            format!("<direct:relatesTo>{relates_to}</direct:relatesTo>"),
        ),
    };
    request.mtom().with(before, &format!("{inserted}{before}"))
}

/// A deferred response as an edge posts it.
fn deferred(relates_to: &str, body: &str) -> Posted {
    let action = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-bResponse";
    Posted {
        content_type: format!("application/soap+xml; charset=UTF-8; action=\"{action}\""),
        body: format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
             xmlns:a=\"http://www.w3.org/2005/08/addressing\"><s:Header>\
             <a:Action s:mustUnderstand=\"true\">{action}</a:Action>\
             <a:MessageID>urn:uuid:4d5e6f70-8192-4da3-9b0e-3b4c5d6e7f80</a:MessageID>\
             <a:RelatesTo>{relates_to}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
        )
        .into_bytes(),
    }
}

fn registry(status: &str, errors: &str) -> String {
    format!(
        "<r:RegistryResponse xmlns:r=\"urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0\" \
         status=\"urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:{status}\">{errors}</r:RegistryResponse>"
    )
}

fn error(code: &str) -> String {
    format!(
        "<r:RegistryErrorList><r:RegistryError errorCode=\"{code}\" codeContext=\"x\" \
         severity=\"urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error\"/></r:RegistryErrorList>"
    )
}

fn delivered(address: &str) -> (String, Disposition) {
    (address.to_owned(), Disposition::Dispatched)
}

fn failed(address: &str) -> (String, Disposition) {
    (address.to_owned(), Disposition::Failed)
}

// rule: COR-5, XDR-125, SOAP-118, DST-3
#[test]
fn an_edge_that_reports_later_closes_each_recipient_by_a_disposition_in_any_of_its_forms() {
    for form in [Form::AttributeInBlock, Form::OwnHeader, Form::TextChild] {
        let ground = Ground::start(|_| success(), true);
        let leg = ground.posted(&[ADA, TEAM], LegState::AwaitingDeferred);
        let id = leg.soap_message_id.as_str();
        for (recipient, is_success) in [(ADA, true), (TEAM, false)] {
            let said = disposition(id, recipient, is_success, form);
            // Once more changes nothing, and neither does the contrary.
            let contrary = disposition(id, recipient, !is_success, form);
            for posted in [&said, &said, &contrary] {
                let answer = registry_response(&ground.say(posted));
                assert_eq!(answer.status, Status::Success, "{form:?}");
            }
        }
        assert_eq!(ground.told(4), [delivered(ADA), failed(TEAM)], "{form:?}");
        let results = ground.results();
        let matched = results.iter().filter(|result| *result == "matched").count();
        assert_eq!((matched, results.len()), (2, 6), "{form:?}");
        assert_eq!(ground.alerts(), 0);
        // A disposition is no submission: nothing goes out as mail, and nobody is told of it (LOOP-1).
        assert_eq!(ground.ground.bridge.exchanges().len(), 1);
    }
}

// rule: COR-5, XDR-125, T-7, A-4
#[test]
fn a_disposition_about_nothing_of_the_partners_changes_nothing_and_is_audited() {
    let ground = Ground::start(|_| success(), true);
    let leg = ground.posted(&[ADA], LegState::AwaitingDeferred);
    let id = leg.soap_message_id.as_str();
    // The first notice to the sender may leave meanwhile.
    let stands = || {
        let exchange = ground.ground.exchange();
        (exchange.legs, exchange.recipients[0].outcome.clone())
    };
    let before = stands();
    let say = |client, id, recipient| {
        let said = disposition(id, recipient, true, Form::AttributeInBlock);
        registry_response(&ground.say_as(client, &said))
    };
    let unknown = "urn:uuid:00000000-0000-4000-8000-000000000001";
    for (number, (client, id, recipient, is_alert)) in [
        (&pki().elm, unknown, ADA, false),
        // Another partner, and somebody else than the request was for.
        (&pki().ash, id, ADA, true),
        (&pki().elm, id, TEAM, true),
    ]
    .into_iter()
    .enumerate()
    {
        let alerts = ground.alerts();
        let answer = say(client, id, recipient);
        assert_eq!(answer.status, Status::Failure, "{number}");
        assert!(
            answer.errors[0].context.contains("relatesTo unknown"),
            "{number}"
        );
        assert_eq!(ground.alerts() - alerts, usize::from(is_alert), "{number}");
    }
    assert_eq!(stands(), before);
    // The right one still counts.
    assert_eq!(say(&pki().elm, id, ADA).status, Status::Success);
    assert_eq!(ground.told(2), [delivered(ADA)]);
}

// rule: COR-5
#[test]
fn an_endpoint_whose_success_is_final_has_nothing_to_report() {
    let ground = Ground::start(|_| success(), false);
    let leg = ground.posted(&[ADA], LegState::Delivered);
    let said = disposition(
        leg.soap_message_id.as_str(),
        ADA,
        false,
        Form::AttributeInBlock,
    );
    assert_eq!(
        registry_response(&ground.say(&said)).status,
        Status::Success
    );
    assert_eq!(ground.results(), ["suppressed"]);
    assert_eq!(ground.told(2), [delivered(ADA)]);
}

// rule: COR-5, XDR-125
#[test]
fn a_notification_that_is_no_disposition_is_refused() {
    let ground = Ground::start(|_| success(), true);
    let leg = ground.posted(&[ADA], LegState::AwaitingDeferred);
    let id = leg.soap_message_id.as_str();
    let good = disposition(id, ADA, true, Form::AttributeInBlock);
    // The document has the octets that its hash says, but they say nothing.
    let mut request = TestRequest::new(EDGE, &["rui.silva@direct.harbor.example"]);
    request.documents = vec![("text/xml", b"<note/>".to_vec())];
    let before = "</direct:addressBlock>";
    let inserted = format!("<direct:notification relatesTo=\"{id}\"/>{before}");
    let other = request.mtom().with(before, &inserted);
    assert_eq!(
        registry_response(&ground.say(&other)).status,
        Status::Failure
    );
    assert_eq!(ground.leg().state, LegState::AwaitingDeferred);
    // One whose metadata is not in order is refused as a submission would be.
    let broken = good.clone().with(
        "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember",
        "urn:x:y",
    );
    assert_eq!(
        registry_response(&ground.say(&broken)).status,
        Status::Failure
    );
    assert_eq!(ground.leg().state, LegState::AwaitingDeferred);
    assert_eq!(
        registry_response(&ground.say(&good)).status,
        Status::Success
    );
}

// rule: DST-7, SOAP-130, SOAP-131
#[test]
fn what_was_answered_202_is_told_by_the_deferred_response() {
    let partly = error("XDSRepositoryError").replace(
        "codeContext=\"x\"",
        &format!("codeContext=\"x\" location=\"{TEAM}\""),
    );
    for (body, told) in [
        (registry("Success", ""), [delivered(ADA), delivered(TEAM)]),
        (
            registry("Failure", &error("XDSRepositoryError")),
            [failed(ADA), failed(TEAM)],
        ),
        (
            registry("PartialSuccess", &partly).replace(
                "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType",
                "urn:ihe:iti:2007:ResponseStatusType",
            ),
            [delivered(ADA), failed(TEAM)],
        ),
    ] {
        let ground = Ground::start(|_| Act::soap(202, ""), false);
        let leg = ground.posted(&[ADA, TEAM], LegState::AwaitingDeferred);
        // Nothing is told before.
        assert_eq!(ground.told(2), []);
        let said = deferred(leg.soap_message_id.as_str(), &body);
        for _ in 0..2 {
            let answer = ground.say(&said);
            assert_eq!((answer.status, answer.body.len()), (202, 0), "{body}");
        }
        assert_eq!(ground.told(4), told, "{body}");
        assert_eq!(ground.results(), ["matched", "suppressed"], "{body}");
    }
}

// rule: DST-7, SOAP-130
#[test]
fn a_deferred_fault_refuses_and_a_busy_one_lets_the_request_come_again() {
    let fault = |code: &str| {
        format!(
            "<s:Fault><s:Code><s:Value>s:{code}</s:Value></s:Code><s:Reason><s:Text xml:lang=\"en\">x</s:Text>\
             </s:Reason></s:Fault>"
        )
    };
    let refused = Ground::start(|_| Act::soap(202, ""), false);
    let leg = refused.posted(&[ADA], LegState::AwaitingDeferred);
    let said = deferred(leg.soap_message_id.as_str(), &fault("Sender"));
    assert_eq!(refused.say(&said).status, 202);
    assert_eq!(refused.told(2), [failed(ADA)]);

    let busy = Ground::start(
        |number| match number {
            0 => Act::soap(202, ""),
            _ => success(),
        },
        false,
    );
    let leg = busy.posted(&[ADA], LegState::AwaitingDeferred);
    let said = deferred(leg.soap_message_id.as_str(), &fault("Receiver"));
    assert_eq!(busy.say(&said).status, 202);
    wait_until("it comes again", || {
        busy.clock.advance(Duration::from_secs(30));
        busy.ground.bridge.store().due_changed().notify_one();
        busy.ground.posted().len() == 2
    });
    let seen = busy.ground.posted();
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!(busy.told(2), [delivered(ADA)]);
}

// rule: DST-7, RT-14
#[test]
fn what_was_answered_202_and_never_again_fails_at_the_deadline() {
    let ground = Ground::start(|_| Act::soap(202, ""), false);
    let leg = ground.posted(&[ADA], LegState::AwaitingDeferred);
    assert_eq!(ground.told(1), []);
    ground.clock.advance(Duration::from_secs(51 * 60));
    ground.ground.bridge.store().due_changed().notify_one();
    assert_eq!(ground.told(2), [failed(ADA)]);
    // What comes then changes nothing.
    let said = deferred(leg.soap_message_id.as_str(), &registry("Success", ""));
    assert_eq!(ground.say(&said).status, 202);
    assert_eq!(ground.results(), ["suppressed"]);
    assert_eq!(ground.leg().state, LegState::Expired);
}

// rule: COR-6
#[test]
fn a_deferred_response_that_overtakes_the_answer_to_the_post_is_not_lost() {
    // The endpoint reads the request and keeps its answer to itself.
    let ground = Ground::start(|_| Act::Stall, false);
    let leg = ground.posted(&[ADA], LegState::Posting);
    let said = deferred(leg.soap_message_id.as_str(), &registry("Success", ""));
    assert_eq!(ground.say(&said).status, 202);
    assert_eq!(ground.results(), ["matched"]);
    assert_eq!(ground.told(2), [delivered(ADA)]);
    assert_eq!(ground.leg().state, LegState::Delivered);
}

// rule: SOAP-131, SOAP-84, T-7
#[test]
fn a_deferred_response_about_nothing_of_the_partners_is_answered_202_and_audited() {
    let ground = Ground::start(|_| Act::soap(202, ""), false);
    let leg = ground.posted(&[ADA], LegState::AwaitingDeferred);
    let id = leg.soap_message_id.as_str();
    let unknown = "urn:uuid:00000000-0000-4000-8000-000000000001";
    let said = deferred(unknown, &registry("Success", ""));
    assert_eq!(ground.say(&said).status, 202);
    let unmatched = ground.ground.bridge.audit_of(AuditKind::Iti41Import);
    let is_unknown = |error: &String| error == "relatesTo unknown";
    assert!(
        unmatched
            .iter()
            .any(|record| record.details.get("error").is_some_and(is_unknown))
    );
    // A partner that speaks for no endpoint has no response to give.
    let said = deferred(id, &registry("Success", ""));
    let answer = fault(&ground.say_as(&pki().ash, &said));
    assert!(format!("{answer:?}").contains("Sender"), "{answer:?}");
    assert_eq!(ground.leg().state, LegState::AwaitingDeferred);

    // One that speaks for another endpoint is an alert.
    let both = Ground::start_with(
        |_| Act::soap(202, ""),
        |config| {
            config.endpoint[0].partner = Some("elm".to_owned());
            let mut other = config.endpoint[0].clone();
            other.name = "other".to_owned();
            other.serves = vec!["direct.ash.example".to_owned()];
            other.partner = Some("ash".to_owned());
            config.endpoint.push(other);
        },
    );
    let leg = both.posted(&[ADA], LegState::AwaitingDeferred);
    let said = deferred(leg.soap_message_id.as_str(), &registry("Success", ""));
    assert_eq!(both.say_as(&pki().ash, &said).status, 202);
    assert_eq!(both.alerts(), 1);
    assert_eq!(both.leg().state, LegState::AwaitingDeferred);
}
