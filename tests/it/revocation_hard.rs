//! `revocation = "hard"`: what cannot be judged for want of a list waits for one, in both directions, and is refused when
//! none comes in time (REV-4).

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use xdbridge::{
    app::config::Config,
    bridge::{
        exchange::{Reason, RecipientState},
        trust::WhenUnknown,
    },
    flows::ports::Clock,
    formats::audit::AuditKind,
};

use crate::support::{
    bridge::{ELM, RUI, TestBridge, assert_plain_success, pki},
    crl::{by_lists_in, crl_of, place, put},
    folder::TestFolder,
    mailbox::received,
    notices_ground::{Notice, NoticesGround},
    receiving_ground::{ADA, LETTER, ReceivingGround, SENDER, Setup, letter, sealed},
    request::TestRequest,
    scripted_smtp::{Act, Builder, ScriptedSmtp},
    wait_until,
};

/// A bridge that must know whether a certificate is revoked, with one list of the CA that everybody has.
struct Ground {
    notices: NoticesGround,
    lists: TestFolder,
    start: Timestamp,
}

impl Ground {
    fn start(list: &[u8]) -> Self {
        Self::start_with(list, ScriptedSmtp::builder(), |_| {})
    }

    fn start_with(
        list: &[u8],
        mailbox: Builder,
        change: impl FnOnce(&mut Config) + 'static,
    ) -> Self {
        let lists = TestFolder::new();
        place(&lists.path().join("first.pem"), list);
        let by_lists = by_lists_in(lists.path());
        let setup = Setup {
            mailbox,
            change: Box::new(|config| {
                by_lists(config);
                config.certificates.domains[0].revocation = WhenUnknown::Hard;
                change(config);
            }),
            ..Setup::default()
        };
        let notices = NoticesGround::start_as(setup);
        Self {
            start: notices.clock.now(),
            notices,
            lists,
        }
    }

    fn receiving(&self) -> &ReceivingGround {
        &self.notices.ground
    }

    fn bridge(&self) -> &TestBridge {
        &self.notices.ground.bridge
    }

    /// A list in date comes.
    fn list_comes(&self) {
        let list = crl_of(&pki().authority).pem();
        put(self.bridge(), self.lists.path(), "fresh.pem", &list);
    }

    /// So many minutes have passed since the start.
    fn minute(&self, minutes: u64) {
        self.notices
            .clock
            .set(self.start + Duration::from_secs(60 * minutes));
        self.bridge().store().due_changed().notify_one();
    }

    /// Waits until all that could be done was, and something is to be tried again soon.
    fn wait_for_retry(&self) {
        let now = self.notices.clock.now();
        let soon = now + Duration::from_secs(20 * 60);
        wait_until("another attempt is due soon", || {
            let due = self.bridge().next_due();
            due.is_some_and(|due| now < due && due < soon)
        });
        assert!(self.bridge().alarms("revocation_unknown") > 0);
    }

    fn assert_waiting(&self, address: &str) {
        let recipient = self.bridge().recipient(address);
        assert_eq!(recipient.outcome, None);
        assert_eq!(recipient.state, RecipientState::Queued);
        assert_eq!(recipient.reason, Some(Reason::Untrusted));
    }

    fn assert_untrusted(&self, address: &str) {
        wait_until("the recipient is settled", || {
            self.bridge().recipient(address).outcome.is_some()
        });
        let recipient = self.bridge().recipient(address);
        assert_eq!(recipient.state, RecipientState::Rejected);
        let outcome = recipient.outcome.unwrap();
        assert_eq!(outcome.failure, Some(Reason::Untrusted));
    }

    fn mail_comes(&self) {
        let letter = letter("waits@direct.harbor.example", &[ADA], "");
        let mail = sealed(&letter, &[&pki().harbor], &pki().direct_elm);
        let reply = self.receiving().send(SENDER, &[ADA], &mail);
        assert!(reply.starts_with("250"), "{reply}");
    }
}

/// A list whose next one is late.
fn stale() -> Vec<u8> {
    crl_of(&pki().authority).hours(-50, -1).pem()
}

/// A list that becomes stale after ten minutes.
fn short_lived() -> Vec<u8> {
    crl_of(&pki().authority).minutes_left(10).pem()
}

// rule: REV-4, RCV-R6
#[test]
fn mail_whose_signer_may_be_revoked_waits_for_a_list_and_is_delivered_when_one_comes() {
    for inline_verify in [false, true] {
        let ground = Ground::start_with(&stale(), ScriptedSmtp::builder(), move |config| {
            config.receiving.inline_verify = inline_verify;
        });
        ground.mail_comes();
        ground.wait_for_retry();
        ground.assert_waiting(ADA);
        assert!(ground.receiving().posted().is_empty());

        ground.list_comes();
        ground.minute(2);
        assert_eq!(ground.receiving().next_posted(0), [LETTER]);
        assert_eq!(ground.receiving().notices(1)[0].from, ADA);
        assert_eq!(ground.bridge().recipient(ADA).reason, None);
        let records = ground.bridge().audit_of(AuditKind::Recipient);
        let pending = |name: &str| {
            let pending = records
                .iter()
                .filter(|record| record.details.contains_key(name));
            pending.count()
        };
        assert_eq!((pending("pending"), pending("signer")), (1, 1));
    }
}

// rule: REV-4, RCV-R6, DST-2
#[test]
fn mail_whose_signer_may_be_revoked_is_nobodys_when_no_list_comes_in_time() {
    // While there is time, at the last attempt; and by the deadline itself.
    for minutes in [49, 51] {
        let ground = Ground::start(&stale());
        ground.mail_comes();
        ground.wait_for_retry();
        ground.minute(minutes);
        ground.assert_untrusted(ADA);
        ground.receiving().assert_silence();
        if minutes == 49 {
            let causes = ground.receiving().causes();
            let words = "is revoked is not known: the CRL is past its nextUpdate";
            assert!(
                causes.iter().any(|cause| cause.contains(words)),
                "{causes:?}"
            );
        }
    }
}

// rule: REV-4, RCV-8, MDN-46
#[test]
fn a_notice_whose_signer_may_be_revoked_waits_for_a_list_and_then_counts() {
    let ground = Ground::start(&short_lived());
    let submitted = ground.notices.submit(&[RUI], false);
    ground.minute(11);
    let notice = Notice::mdn(&submitted, RUI, "processed").message();
    let mail = sealed(&notice, &[&pki().harbor], &pki().direct_elm);
    let reply = ground.receiving().send(RUI, &[ELM], &mail);
    assert!(reply.starts_with("250"), "{reply}");
    ground.wait_for_retry();
    assert_eq!(
        ground.notices.state(&submitted, RUI),
        RecipientState::Relayed
    );
    assert_eq!(ground.notices.errors("mdn_spoof_suspect"), 0);

    ground.list_comes();
    ground.minute(13);
    wait_until("the notice counts", || {
        ground.notices.state(&submitted, RUI) == RecipientState::Processed
    });
    assert_eq!(ground.notices.results(&submitted), ["matched"]);
    assert_eq!(ground.notices.errors("mdn_spoof_suspect"), 0);
}

// rule: REV-4, XDR-32
#[test]
fn a_recipient_whose_certificate_may_be_revoked_is_accepted_and_waits_for_a_list() {
    for comes in [true, false] {
        let ground = Ground::start(&stale());
        let request = TestRequest::new(ELM, &[RUI]);
        assert_plain_success(&ground.bridge().submit(&request.mtom()));
        ground.wait_for_retry();
        ground.assert_waiting(RUI);
        if comes {
            ground.list_comes();
            ground.minute(2);
            ground.bridge().wait_until_sent();
            assert_eq!(
                ground.bridge().recipient(RUI).state,
                RecipientState::Relayed
            );
        } else {
            ground.minute(51);
            ground.assert_untrusted(RUI);
        }
        let mails = received(&ground.receiving().mailbox);
        assert_eq!(mails.len(), usize::from(comes));
    }
}

// rule: REV-4, SND-6
#[test]
fn a_sealed_mail_waits_for_a_list_and_goes_as_it_is_when_one_comes() {
    for comes in [true, false] {
        let was_asked = AtomicBool::new(false);
        let busy_once = ScriptedSmtp::builder().acts(move |_, step| {
            (step == "END" && !was_asked.swap(true, Ordering::SeqCst))
                .then(|| Act::Say("451 4.3.0 try again".to_owned()))
        });
        let ground = Ground::start_with(&short_lived(), busy_once, |_| {});
        let request = TestRequest::new(ELM, &[RUI]);
        assert_plain_success(&ground.bridge().submit(&request.mtom()));
        wait_until("the first attempt was recorded", || {
            ground.bridge().audit_of(AuditKind::Iti32Export).len() == 1
        });
        ground.minute(12);
        wait_until("the second attempt waits", || {
            ground.bridge().recipient(RUI).reason.is_some()
        });
        ground.wait_for_retry();
        ground.assert_waiting(RUI);
        assert_eq!(ground.receiving().mailbox.transcripts().len(), 1);
        if comes {
            ground.list_comes();
            ground.minute(20);
            ground.bridge().wait_until_sent();
            let recipient = ground.bridge().recipient(RUI);
            assert_eq!(recipient.state, RecipientState::Relayed);
            assert_eq!(recipient.reason, None);
        } else {
            ground.minute(51);
            ground.assert_untrusted(RUI);
        }
        // The one that was put off, and the same octets again.
        let mails = received(&ground.receiving().mailbox);
        assert_eq!(mails.len(), 1 + usize::from(comes));
        assert_eq!(mails[0].message, mails[mails.len() - 1].message);
    }
}
