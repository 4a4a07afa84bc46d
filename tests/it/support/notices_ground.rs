//! A bridge that sends and receives by a clock of the test's, and the notices that a peer sends about what it got.

use std::sync::Arc;

use jiff::Timestamp;
use xdbridge::{
    app::config::Config,
    bridge::exchange::{Exchange, Origin, Recipient, RecipientState},
    formats::{
        audit::{AuditKind, AuditRecord},
        ids::ExchangeId,
    },
};

use super::{
    bridge::{ELM, RUI, assert_plain_success, now, pki},
    receiving_ground::{ReceivingGround, Setup, sealed, success},
    request::TestRequest,
    store::StandingClock,
    wait_until,
};

/// A bridge that sends and receives for Ngozi, by a clock of the test's.
pub(crate) struct NoticesGround {
    pub(crate) ground: ReceivingGround,
    pub(crate) clock: Arc<StandingClock>,
}

/// What was submitted: the exchange, the wsa:MessageID of the request, and the Message-ID that its mail had.
#[derive(Clone)]
pub(crate) struct Submitted {
    pub(crate) exchange: ExchangeId,
    pub(crate) soap_message_id: String,
    pub(crate) message_id: String,
}

impl NoticesGround {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// The same with settings that `change` makes.
    pub(crate) fn start_with(change: impl FnOnce(&mut Config) + 'static) -> Self {
        Self::start_as(Setup {
            change: Box::new(change),
            ..Setup::default()
        })
    }

    /// The same with what the test sets up, but for the clock.
    pub(crate) fn start_as(setup: Setup) -> Self {
        let start = Timestamp::from_second(now().as_second()).unwrap();
        let clock = StandingClock::at(start);
        let setup = Setup {
            clock: clock.clone(),
            ..setup
        };
        let ground = ReceivingGround::start_as(|_| success(), setup);
        Self { ground, clock }
    }

    /// Submits for `to` and waits until the mail is relayed.
    pub(crate) fn submit(&self, to: &[&str], final_delivery: bool) -> Submitted {
        let request = TestRequest {
            final_delivery,
            ..TestRequest::new(ELM, to)
        };
        self.submit_and_wait(&request, |exchange| {
            let mut recipients = exchange.recipients.iter();
            recipients.all(|recipient| recipient.state == RecipientState::Relayed)
        })
    }

    /// Submits for `to` and waits until the exchange `is_so`.
    pub(crate) fn submit_until(&self, to: &[&str], is_so: impl Fn(&Exchange) -> bool) -> Submitted {
        self.submit_and_wait(&TestRequest::new(ELM, to), is_so)
    }

    fn submit_and_wait(
        &self,
        request: &TestRequest,
        is_so: impl Fn(&Exchange) -> bool,
    ) -> Submitted {
        let earlier: Vec<ExchangeId> = self.submissions().iter().map(|one| one.id).collect();
        assert_plain_success(&self.ground.bridge.submit(&request.mtom()));
        let new = || {
            let mut all = self.submissions().into_iter();
            all.find(|one| !earlier.contains(&one.id)).unwrap()
        };
        wait_until("the mail is as far", || is_so(&new()));
        let exchange = new();
        let [leg] = exchange.legs.as_slice() else {
            panic!("{} legs", exchange.legs.len());
        };
        Submitted {
            exchange: exchange.id,
            soap_message_id: request.message_id.to_string(),
            message_id: leg.as_mail().unwrap().message_id.to_string(),
        }
    }

    pub(crate) fn submissions(&self) -> Vec<Exchange> {
        let all = self.ground.bridge.exchanges().into_iter();
        all.filter(|one| matches!(one.origin, Origin::Xdr { .. }))
            .collect()
    }

    pub(crate) fn received(&self) -> impl Iterator<Item = Exchange> {
        let all = self.ground.bridge.exchanges().into_iter();
        all.filter(|one| matches!(one.origin, Origin::Direct { .. }))
    }

    pub(crate) fn recipient(&self, submitted: &Submitted, address: &str) -> Recipient {
        let mut all = self.submissions().into_iter();
        let exchange = all.find(|one| one.id == submitted.exchange).unwrap();
        let address = address.parse().unwrap();
        exchange.recipient(&address).unwrap().clone()
    }

    pub(crate) fn state(&self, submitted: &Submitted, address: &str) -> RecipientState {
        self.recipient(submitted, address).state
    }

    /// Sends a sealed mail and waits until the bridge has done with it. Whether it was taken for a notice.
    pub(crate) fn send(&self, from: &str, to: &str, mail: &[u8]) -> bool {
        // All have the same time of acceptance: the new one is the one that was not there.
        let earlier: Vec<ExchangeId> = self.received().map(|one| one.id).collect();
        let reply = self.ground.send(from, &[to], mail);
        assert!(reply.starts_with("250"), "{reply}");
        let new = || {
            let mut received = self.received();
            received.find(|one| !earlier.contains(&one.id)).unwrap()
        };
        wait_until("the notice is looked at", || new().is_final());
        let exchange = new();
        assert!(exchange.legs.is_empty());
        exchange.recipients[0].state == RecipientState::Dispatched
    }

    /// Seals a notice of Rui's domain and sends it.
    pub(crate) fn reply(&self, message: &str) {
        let mail = sealed(message, &[&pki().harbor], &pki().direct_elm);
        assert!(self.send(RUI, ELM, &mail), "it is a trusted notice");
    }

    /// How often an outcome of the submission was told, and as what.
    pub(crate) fn told(&self, submitted: &Submitted) -> Vec<String> {
        self.ground.bridge.wait_until_idle();
        let records = self.ground.bridge.audit_of(AuditKind::Outcome).into_iter();
        records
            .filter(|record| record.exchange == Some(submitted.exchange))
            .map(|record| record.details["outcome"].clone())
            .collect()
    }

    /// The results of notices about the submission, in their order.
    pub(crate) fn results(&self, submitted: &Submitted) -> Vec<String> {
        let records = self.ground.bridge.audit_of(AuditKind::MdnIn).into_iter();
        records
            .filter(|record| record.exchange == Some(submitted.exchange))
            .map(|record| record.details["result"].clone())
            .collect()
    }

    /// The last audit record whose error begins so.
    pub(crate) fn error(&self, token: &str) -> Option<AuditRecord> {
        let mut all = self.ground.bridge.audit().into_iter().rev();
        all.find(|record| {
            let error = record.details.get("error");
            error.is_some_and(|error| error.starts_with(token))
        })
    }

    pub(crate) fn errors(&self, token: &str) -> usize {
        let all = self.ground.bridge.audit().into_iter();
        all.filter(|record| {
            let error = record.details.get("error");
            error.is_some_and(|error| error.starts_with(token))
        })
        .count()
    }
}

/// A notice: header lines of the message, and the fields of its report.
#[derive(Clone)]
pub(crate) struct Notice {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) header: String,
    pub(crate) report: String,
    pub(crate) kind: (&'static str, &'static str),
}

impl Notice {
    pub(crate) fn mdn(submitted: &Submitted, recipient: &str, disposition: &str) -> Self {
        let report = format!(
            "Reporting-UA: direct.harbor.example; hisp\r\nFinal-Recipient: rfc822; {recipient}\r\n\
             Original-Message-ID: <{}>\r\n\
             Disposition: automatic-action/MDN-sent-automatically; {disposition}\r\n",
            submitted.message_id
        );
        Self::of(report)
    }

    pub(crate) fn of(report: String) -> Self {
        Self {
            from: RUI.to_owned(),
            to: ELM.to_owned(),
            header: String::new(),
            report,
            kind: (
                "disposition-notification",
                "message/disposition-notification",
            ),
        }
    }

    pub(crate) fn dsn(submitted: &Submitted, recipient: &str, action: &str, status: &str) -> Self {
        let report = format!(
            "Reporting-MTA: dns; mx.harbor.example\r\nX-Original-Message-ID: <{}>\r\n\r\n\
             Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n",
            submitted.message_id
        );
        Self {
            kind: ("delivery-status", "message/delivery-status"),
            ..Self::of(report)
        }
    }

    pub(crate) fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.report.contains(from), "nothing to replace: {from}");
        self.report = self.report.replace(from, to);
        self
    }

    /// The message, as it is signed.
    pub(crate) fn message(&self) -> String {
        let Self {
            from,
            to,
            header,
            report,
            kind: (report_type, media_type),
        } = self;
        format!(
            "From: <{from}>\r\nTo: <{to}>\r\nSubject: Notice\r\nDate: Sun, 22 Nov 2026 07:59:00 +0000\r\n\
             Message-ID: <{}@direct.harbor.example>\r\nMIME-Version: 1.0\r\nAuto-Submitted: auto-replied\r\n{header}\
             Content-Type: multipart/report; report-type={report_type}; boundary=\"b\"\r\n\r\n\
             --b\r\nContent-Type: text/plain\r\n\r\nA notice.\r\n\
             --b\r\nContent-Type: {media_type}\r\n\r\n{report}\r\n--b--\r\n",
            ExchangeId::random()
        )
    }
}

pub(crate) const WITH_EXTENSION: &str = "dispatched\r\nX-DIRECT-FINAL-DESTINATION-DELIVERY:";
