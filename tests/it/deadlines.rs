//! Time passes: attempts by the schedule, deadlines, retention. The clock is the test's; nothing waits for real time.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use xdbridge::{
    bridge::exchange::{Outcome, Reason, RecipientState},
    flows::ports::StoreError,
    formats::audit::{AuditKind, AuditOutcome},
};

use crate::support::{
    bridge::{ELM, INTAKE, RUI, TestBridge, as_tls, assert_plain_success, now, pki, runtime},
    mailbox::received,
    request::TestRequest,
    scripted_smtp::{Act, ScriptedSmtp},
    store::StandingClock,
    wait_until,
};

const MINUTE: Duration = Duration::from_secs(60);

/// A bridge whose time stands still until it is moved.
struct Ground {
    bridge: TestBridge,
    clock: Arc<StandingClock>,
    /// When it started.
    start: Timestamp,
}

impl Ground {
    fn start(runtime: tokio::runtime::Runtime, next_hop: SocketAddr) -> Self {
        // The store counts in microseconds: a time of whole seconds comes back from it as it was.
        let start = Timestamp::from_second(now().as_second()).unwrap();
        let clock = StandingClock::at(start);
        let next_hops = [("direct.harbor.example", next_hop)];
        let bridge = TestBridge::start_with(runtime, &next_hops, clock.clone(), |_| {});
        Self {
            bridge,
            clock,
            start,
        }
    }

    /// Moves the clock, and wakes those who sleep by the one of the machine.
    fn move_to(&self, time: Timestamp) {
        self.clock.set(time);
        self.bridge.store().due_changed().notify_one();
    }

    fn after_start(&self, wait: Duration) -> Timestamp {
        self.start + wait
    }

    fn next_due(&self) -> Option<Timestamp> {
        let due = self.bridge.store().next_due();
        self.bridge.runtime.block_on(due).unwrap()
    }

    /// Waits until everything that is due now is done.
    fn wait_until_done(&self) {
        use xdbridge::flows::ports::Clock;
        // A claimed effect is due again when its lease lapses, so it must not be taken for a retry.
        wait_until("everything that is due is done", || {
            self.next_due().is_none_or(|due| due > self.clock.now())
        });
    }

    fn attempts(&self) -> usize {
        self.bridge.audit_of(AuditKind::Iti32Export).len()
    }

    fn outcomes(&self) -> Vec<String> {
        let records = self.bridge.audit_of(AuditKind::Outcome).into_iter();
        records
            .map(|record| record.details["outcome"].clone())
            .collect()
    }
}

/// An address where nobody listens.
fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn failed(at: Timestamp, reason: Reason) -> Option<Outcome> {
    Some(Outcome {
        at,
        failure: Some(reason),
    })
}

// rule, XDR-123
#[test]
fn a_dead_next_hop_is_tried_by_the_schedule_until_the_queue_lifetime_ends() {
    let ground = Ground::start(runtime(), dead_address());
    let request = TestRequest::new(ELM, &[RUI, INTAKE]);
    assert_plain_success(&ground.bridge.submit(&request.mtom()));

    let end = ground.after_start(50 * MINUTE);
    let mut times = vec![ground.start];
    loop {
        wait_until("one more attempt was recorded", || {
            ground.attempts() == 2 * times.len()
        });
        assert_eq!(ground.bridge.recipient(RUI).state, RecipientState::Queued);
        let next = ground.next_due().unwrap();
        if next >= end {
            break;
        }
        times.push(next);
        ground.move_to(next);
    }
    // After 1, 2, 4, 8, 15, 15 minutes, each longer or shorter by up to a fifth; the last one, two minutes before the
    // end, comes as soon as it must.
    let last = ground.after_start(48 * MINUTE);
    let schedule = [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 15.0];
    for (pair, planned) in times.windows(2).zip(schedule) {
        let wait = Duration::try_from(pair[1].duration_since(pair[0])).unwrap();
        let wait = wait.as_secs_f64() / 60.0;
        let shortest = if pair[1] == last {
            0.0
        } else {
            0.8 * planned - 0.1
        };
        let is_planned = (shortest..=1.2 * planned + 0.1).contains(&wait);
        assert!(is_planned, "{wait} minutes in place of {planned}");
    }
    assert_eq!(times.last(), Some(&last));
    assert!((7..=9).contains(&times.len()), "{} attempts", times.len());

    ground.move_to(end);
    wait_until("both outcomes are told", || ground.outcomes().len() == 2);
    ground.wait_until_done();
    assert_eq!(ground.outcomes(), ["smtpExpired", "smtpExpired"]);
    for address in [RUI, INTAKE] {
        let recipient = ground.bridge.recipient(address);
        assert_eq!(recipient.state, RecipientState::Bounced);
        assert_eq!(recipient.outcome, failed(end, Reason::SmtpExpired));
    }
    assert_eq!(ground.bridge.exchange().final_at, Some(end));

    // Later deadlines change nothing.
    ground.move_to(ground.after_start(61 * MINUTE));
    ground.wait_until_done();
    assert_eq!(ground.outcomes().len(), 2);
    assert_eq!(ground.bridge.recipient(RUI).state, RecipientState::Bounced);
}

// rule: Q-6, XDR-81
#[test]
fn a_next_hop_that_comes_back_gets_the_same_mail() {
    let runtime = runtime();
    let builder = ScriptedSmtp::builder().tls(&as_tls(&pki().mail_host));
    let is_first = AtomicBool::new(true);
    let busy = builder.acts(move |_, step| {
        let is_busy = step == "END" && is_first.swap(false, Ordering::SeqCst);
        is_busy.then(|| Act::Say("451 4.3.0 try again".to_owned()))
    });
    let server = runtime.block_on(busy.start());
    let ground = Ground::start(runtime, server.address());
    let request = TestRequest::new(ELM, &[RUI]);
    assert_plain_success(&ground.bridge.submit(&request.mtom()));
    wait_until("the first attempt was recorded", || ground.attempts() == 1);
    assert_eq!(ground.bridge.recipient(RUI).state, RecipientState::Queued);

    ground.move_to(ground.after_start(2 * MINUTE));
    ground.bridge.wait_until_sent();
    assert_eq!(ground.bridge.recipient(RUI).state, RecipientState::Relayed);
    let mails = received(&server);
    assert_eq!(mails.len(), 2);
    assert!(mails[0].message == mails[1].message, "the same octets");
    let outcomes: Vec<_> = ground.bridge.audit_of(AuditKind::Iti32Export);
    assert_eq!(outcomes[0].outcome, AuditOutcome::Minor);
    assert_eq!(outcomes[1].outcome, AuditOutcome::Success);
}

fn large_document() -> (&'static str, Vec<u8>) {
    let mut random = vec![0; 100_000];
    openssl::rand::rand_bytes(&mut random).unwrap();
    ("application/pdf", random)
}

// rule: XDR-123, RT-10
#[test]
fn without_a_processed_notice_a_recipient_fails_after_an_hour_and_the_bodies_go_a_day_later() {
    let runtime = runtime();
    let builder = ScriptedSmtp::builder().tls(&as_tls(&pki().mail_host));
    let refused = builder.acts(|_, step| {
        let is_refused = step.contains(INTAKE);
        is_refused.then(|| Act::Say("550 5.7.1 no".to_owned()))
    });
    let server = runtime.block_on(refused.start());
    let ground = Ground::start(runtime, server.address());
    let mut request = TestRequest::new(ELM, &[RUI, INTAKE]);
    request.documents = vec![large_document()];
    assert_plain_success(&ground.bridge.submit(&request.mtom()));
    ground.bridge.wait_until_sent();
    wait_until("one outcome is told", || ground.outcomes().len() == 1);
    assert_eq!(ground.outcomes(), ["smtpRejected"]);
    let is_final = || ground.bridge.exchange().is_final();

    // The queue's end is nothing to a mail that has left.
    ground.move_to(ground.after_start(59 * MINUTE));
    ground.wait_until_done();
    assert_eq!(ground.bridge.recipient(RUI).state, RecipientState::Relayed);
    assert!(!is_final());

    let end = ground.after_start(60 * MINUTE);
    ground.move_to(end);
    wait_until("the second outcome is told", || {
        ground.outcomes().len() == 2
    });
    ground.wait_until_done();
    assert_eq!(ground.outcomes(), ["smtpRejected", "timeoutProcessed"]);
    let recipient = ground.bridge.recipient(RUI);
    assert_eq!(recipient.state, RecipientState::ExpiredP);
    assert_eq!(recipient.outcome, failed(end, Reason::TimeoutProcessed));
    assert!(is_final());
    assert_eq!(received(&server).len(), 1);

    // The bodies stay for a day, for an operator who wants to see or repeat; then they go.
    let day = 24 * 60 * MINUTE;
    ground.move_to(end + day - Duration::from_secs(1));
    ground.wait_until_done();
    assert_eq!(ground.bridge.large_bodies(), 2);
    ground.move_to(end + day);
    wait_until("the bodies are gone", || ground.bridge.large_bodies() == 0);
    let exchange = ground.bridge.exchange();
    for body in exchange.bodies() {
        let Err(StoreError::DamagedBody { .. }) = ground.bridge.store().open(body) else {
            panic!("a body is still there");
        };
    }
    // What became of it is still known.
    assert_eq!(ground.outcomes().len(), 2);
    assert_eq!(ground.next_due(), None);
}

// rule: RT-10, SOAP-119
#[test]
fn a_wish_for_final_delivery_is_handed_on_and_its_absence_told_once() {
    let runtime = runtime();
    let builder = ScriptedSmtp::builder().tls(&as_tls(&pki().mail_host));
    let server = runtime.block_on(builder.start());
    let ground = Ground::start(runtime, server.address());
    let mut request = TestRequest::new(ELM, &[RUI]);
    request.final_delivery = true;
    assert_plain_success(&ground.bridge.submit(&request.mtom()));
    ground.bridge.wait_until_sent();
    assert!(ground.bridge.exchange().wants_final_delivery);

    // Both timers end together by default: one outcome, however they come.
    ground.move_to(ground.after_start(60 * MINUTE));
    wait_until("an outcome is told", || !ground.outcomes().is_empty());
    ground.wait_until_done();
    ground.move_to(ground.after_start(120 * MINUTE));
    ground.wait_until_done();
    assert_eq!(ground.outcomes(), ["timeoutProcessed"]);
}

crate::support::stores::on_postgresql_too! {
    a_dead_next_hop_is_tried_by_the_schedule_until_the_queue_lifetime_ends,
    a_next_hop_that_comes_back_gets_the_same_mail,
    without_a_processed_notice_a_recipient_fails_after_an_hour_and_the_bodies_go_a_day_later,
}
