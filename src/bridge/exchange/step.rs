//! The transition function, and what both directions share.

use jiff::Timestamp;

use super::{
    Effect, Event, EventKind, Exchange, Origin, Outcome, Reason, RecipientState, Scheduled,
    operator, timers::after, to_direct, to_xdr,
};
use crate::formats::ids::DirectAddress;

/// What becomes of `exchange` when `event` happens, and what must be done. An event that comes late, twice, or
/// does not fit changes nothing and asks for nothing.
pub fn step(exchange: &Exchange, event: &Event) -> (Exchange, Vec<Scheduled>) {
    let mut life = Life {
        exchange: exchange.clone(),
        effects: Vec::new(),
        at: event.at,
    };
    let is_beginning = matches!(event.kind, EventKind::Accepted);
    // An exchange begins once, and nothing happens to it before.
    if life.exchange.is_begun == is_beginning {
        return (life.exchange, life.effects);
    }
    life.exchange.is_begun = true;
    operator::apply(&mut life, &event.kind);
    match life.exchange.origin {
        Origin::Xdr { .. } => to_direct::apply(&mut life, &event.kind),
        Origin::Direct { .. } => to_xdr::apply(&mut life, &event.kind),
    }
    life.close_if_settled();
    (life.exchange, life.effects)
}

/// An exchange while one event works on it.
pub(super) struct Life {
    pub(super) exchange: Exchange,
    pub(super) effects: Vec<Scheduled>,
    /// When the event happened.
    pub(super) at: Timestamp,
}

impl Life {
    /// Asks for `effect` now.
    pub(super) fn now(&mut self, effect: Effect) {
        self.later(effect, self.at);
    }

    /// Asks for `effect` at `due`.
    pub(super) fn later(&mut self, effect: Effect, due: Timestamp) {
        self.effects.push(Scheduled::new(effect, due));
    }

    /// Asks for another attempt, unless it would come after attempts have ended: then the deadline decides.
    pub(super) fn retry(&mut self, effect: Effect, due: Timestamp) {
        if due < self.exchange.deadlines.queue {
            self.later(effect, due);
        }
    }

    /// Whether `deadline` has come. One that fires early (the clock was set back) is set again: a deadline never
    /// decides before its time (SRC-4).
    pub(super) fn has_come(&mut self, deadline: Timestamp, effect: Effect) -> bool {
        let has_come = deadline <= self.at;
        if !has_come {
            self.later(effect, deadline);
        }
        has_come
    }

    /// Where the recipient stands in the list, if it is not settled.
    pub(super) fn find_open(&self, address: &DirectAddress) -> Option<usize> {
        self.exchange
            .recipients
            .iter()
            .position(|recipient| recipient.address == *address && recipient.outcome.is_none())
    }

    /// The recipients that are not settled.
    pub(super) fn open_recipients(&self) -> Vec<usize> {
        self.exchange
            .recipients
            .iter()
            .enumerate()
            .filter(|(_, recipient)| recipient.outcome.is_none())
            .map(|(index, _)| index)
            .collect()
    }

    /// Makes the one final decision about a recipient. Whether it was made here, and not before.
    pub(super) fn decide(
        &mut self,
        index: usize,
        state: RecipientState,
        failure: Option<Reason>,
    ) -> bool {
        let at = self.at;
        match self.exchange.recipients.get_mut(index) {
            Some(recipient) if recipient.outcome.is_none() => {
                recipient.state = state;
                recipient.reason = failure;
                recipient.outcome = Some(Outcome { at, failure });
                true
            }
            _ => false,
        }
    }

    fn close_if_settled(&mut self) {
        let exchange = &mut self.exchange;
        let is_settled = exchange.recipients.iter().all(|r| r.outcome.is_some());
        if is_settled && exchange.final_at.is_none() {
            exchange.final_at = Some(self.at);
            // Nothing is left that could be handed on.
            exchange.hold = None;
            let due = after(self.at, exchange.deadlines.body_retention);
            self.later(Effect::RemoveBodies, due);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            Disposition, Leg, MdnToSend, PostResult, Recipient, RecipientState as State,
            StatusResult, samples::*,
        },
        *,
    };

    /// Two in one leg, one without a certificate yet, one refused at accept.
    fn xdr_exchange(wants_final_delivery: bool) -> Exchange {
        let located = |text| Recipient::queued(address(text), vec![leg_id(1)], None);
        let recipients = vec![
            located(ADA),
            located(NGOZI),
            Recipient::queued(address(LATE), Vec::new(), None),
            Recipient::refused(address("x@gone.example"), Reason::UnknownRecipient),
        ];
        let mut exchange = from_xdr(vec![mail_leg(1)], recipients);
        exchange.wants_final_delivery = wants_final_delivery;
        exchange
    }

    const LATE: &str = "late@third.example";

    fn any_recipient() -> impl Strategy<Value = DirectAddress> {
        proptest::sample::select(vec![ADA, NGOZI, LATE, "x@gone.example", "no@body.example"])
            .prop_map(address)
    }

    fn any_disposition() -> impl Strategy<Value = Disposition> {
        proptest::sample::select(vec![
            Disposition::Processed,
            Disposition::Dispatched {
                final_delivery: true,
            },
            Disposition::Dispatched {
                final_delivery: false,
            },
            Disposition::Displayed,
            Disposition::Failed,
            Disposition::Other,
        ])
    }

    /// Bytes of one leg or the other, each time others, for some recipients or all.
    fn any_sealing() -> impl Strategy<Value = EventKind> {
        let to = proptest::sample::subsequence(vec![ADA, NGOZI, LATE], 0..=3);
        (1_u128..3, to, 1_u128..1_000).prop_map(|(leg, to, body)| EventKind::LegSealed {
            leg: leg_id(leg),
            recipients: to.into_iter().map(address).collect(),
            sealed: sealed(body),
        })
    }

    fn any_status_result() -> impl Strategy<Value = StatusResult> {
        proptest::sample::select(vec![
            StatusResult::Taken,
            StatusResult::Refused,
            StatusResult::Unknown {
                retry_at: minute(9),
                may_have_arrived: true,
            },
            StatusResult::Unknown {
                retry_at: minute(9_999),
                may_have_arrived: false,
            },
        ])
    }

    fn any_mail_event() -> impl Strategy<Value = EventKind> {
        let to = any_recipient;
        let reason = Reason::CertificateRevoked;
        prop_oneof![
            2 => Just(EventKind::Accepted),
            4 => any_sealing(),
            2 => to().prop_map(|recipient| EventKind::CertificateFound {
                recipient,
                certificate: b"der".to_vec(),
                leg: mail_leg(2),
            }),
            1 => to().prop_map(move |recipient| EventKind::RecipientRefused { recipient, reason }),
            2 => to().prop_map(|recipient| EventKind::TrustUndecided {
                recipient,
                reason: Reason::Untrusted,
            }),
            1 => to().prop_map(move |recipient| EventKind::LookUpDeferred {
                recipient,
                reason,
                attempt: 1,
                retry_at: minute(9),
            }),
            1 => (1_u128..3).prop_map(|leg| EventKind::LegFailed {
                leg: leg_id(leg),
                reason: Reason::TooLarge,
            }),
            4 => to().prop_map(|recipient| EventKind::SmtpAccepted { recipient, by: None }),
            2 => to().prop_map(|recipient| EventKind::SmtpRefused {
                recipient,
                reason: Reason::SmtpRejected,
            }),
            1 => to().prop_map(|recipient| EventKind::SmtpDeferred {
                leg: leg_id(1),
                domain: recipient.domain().clone(),
                attempt: 1,
                retry_at: minute(9),
            }),
            8 => (to(), any_disposition()).prop_map(|(recipient, disposition)| EventKind::Notice {
                recipient,
                disposition,
            }),
            1 => to().prop_map(|recipient| EventKind::DsnFailed { recipient }),
            1 => to().prop_map(|recipient| EventKind::OperatorFailed { recipient }),
            1 => Just(EventKind::OperatorHeld),
            1 => Just(EventKind::OperatorReleased),
            1 => Just(EventKind::DeadlineQueue),
            1 => Just(EventKind::DeadlineTp),
            1 => Just(EventKind::DeadlineTd),
            2 => (0_usize..5, 1_u128..9).prop_map(|(recipient, number)| {
                let leg = post_leg(number, true);
                let post = leg.as_xdr().unwrap();
                EventKind::StatusMade {
                    recipient,
                    soap_message_id: post.soap_message_id.clone(),
                    request: post.request.clone(),
                }
            }),
            2 => (0_usize..5, 1_u32..4, any_status_result()).prop_map(
                |(recipient, attempt, result)| EventKind::StatusPosted { recipient, attempt, result }
            ),
            // The other direction's events must not matter.
            1 => Just(EventKind::Absorbed),
        ]
    }

    fn any_post_event() -> impl Strategy<Value = EventKind> {
        let to = any_recipient;
        let leg = || (1_u128..3).prop_map(leg_id);
        let result = || {
            let retry_at = minute(9);
            proptest::sample::select(vec![
                PostResult::Success,
                PostResult::Partial {
                    failed: vec![address(NGOZI)],
                },
                PostResult::Refused,
                PostResult::Unavailable { retry_at },
                PostResult::Deferred,
                PostResult::AnswerLost { retry_at },
            ])
        };
        let opened = || {
            let legs = vec![
                (post_leg(1, true), vec![address(ADA), address(NGOZI)]),
                (post_leg(2, false), vec![address(ADA)]),
            ];
            EventKind::Opened(opening(legs))
        };
        prop_oneof![
            2 => Just(EventKind::Accepted),
            4 => Just(opened()),
            1 => Just(EventKind::Absorbed),
            2 => leg().prop_map(|leg| EventKind::PostStarted { leg }),
            6 => (leg(), 1_u32..4, result()).prop_map(|(leg, attempt, result)| {
                EventKind::Posted { leg, attempt, result, code: None }
            }),
            2 => (to(), 1_u128..1_000).prop_map(|(recipient, body)| EventKind::MdnSealed {
                recipient,
                disposition: MdnToSend::Processed,
                sealed: sealed(body),
            }),
            2 => (leg(), result())
                .prop_map(|(leg, result)| EventKind::DeferredAnswer { leg, result }),
            1 => (leg(), to(), any::<bool>()).prop_map(|(leg, recipient, success)| {
                EventKind::EdgeDisposition { leg, recipient, success }
            }),
            4 => to().prop_map(|recipient| EventKind::MdnDone {
                recipient,
                disposition: MdnToSend::Processed,
            }),
            1 => to().prop_map(|recipient| EventKind::OperatorFailed { recipient }),
            1 => Just(EventKind::OperatorHeld),
            1 => Just(EventKind::OperatorReleased),
            1 => to().prop_map(|recipient| EventKind::RecipientRefused {
                recipient,
                reason: Reason::Untrusted,
            }),
            1 => to().prop_map(|recipient| EventKind::TrustUndecided {
                recipient,
                reason: Reason::Untrusted,
            }),
            1 => Just(EventKind::DeadlineQueue),
            1 => Just(EventKind::DeadlineTp),
        ]
    }

    /// Whether `kind` may settle a recipient as `outcome` says: the cause and the reason agree.
    fn agrees(kind: &EventKind, recipient: &Recipient, outcome: &Outcome) -> bool {
        use EventKind as E;
        let failure = outcome.failure;
        match kind {
            E::Accepted => recipient.state == State::Rejected,
            E::RecipientRefused { reason, .. }
            | E::LegFailed { reason, .. }
            | E::SmtpRefused { reason, .. } => failure == Some(*reason),
            E::Notice { disposition, .. } => {
                failure == (*disposition == Disposition::Failed).then_some(Reason::MdnFailed)
            }
            E::DsnFailed { .. } => failure == Some(Reason::DsnFailed),
            // In doubt, where a post may have arrived.
            E::OperatorFailed { .. } => {
                matches!(failure, Some(Reason::Operator | Reason::InDoubt))
            }
            E::DeadlineTp => failure == Some(Reason::TimeoutProcessed),
            E::DeadlineTd => failure == Some(Reason::TimeoutDispatched),
            E::DeadlineQueue => failure.is_some(),
            E::Absorbed => failure.is_none(),
            E::Opened(_) => failure == Some(Reason::Untrusted),
            E::Posted { .. } | E::DeferredAnswer { .. } | E::EdgeDisposition { .. } => true,
            _ => false,
        }
    }

    /// Feeds `kinds` and checks, after each, what holds in every life.
    fn live(mut exchange: Exchange, kinds: Vec<(bool, EventKind)>) -> (Exchange, Vec<Effect>) {
        let mut all_effects = Vec::new();
        let events = std::iter::once((false, EventKind::Accepted)).chain(kinds);
        for (number, (is_late, kind)) in events.enumerate() {
            let minutes = number as u64 % 49 + if is_late { 61 } else { 0 };
            let event = Event {
                at: minute(minutes),
                kind,
            };
            let (next, effects) = step(&exchange, &event);
            for (before, after) in exchange.recipients.iter().zip(&next.recipients) {
                match (&before.outcome, &after.outcome) {
                    (Some(_), _) => assert_eq!(
                        (&before.state, &before.outcome, &before.reason),
                        (&after.state, &after.outcome, &after.reason),
                        "{event:?}"
                    ),
                    (None, Some(outcome)) => {
                        assert!(agrees(&event.kind, after, outcome), "{event:?} {after:?}");
                        assert_eq!(outcome.at, event.at);
                    }
                    (None, None) => {}
                }
            }
            let is_settled = next.recipients.iter().all(|r| r.outcome.is_some());
            assert_eq!(next.final_at.is_some(), is_settled, "{event:?}");
            if exchange.final_at.is_some() {
                assert_eq!(next.final_at, exchange.final_at, "{event:?}");
            }
            for (before, after) in exchange.legs.iter().zip(&next.legs) {
                let (before, after) = (before.as_mail(), after.as_mail());
                if before.is_some_and(|mail| mail.sealed.is_some()) {
                    assert_eq!(after, before, "{event:?}");
                }
            }
            assert!(exchange.legs.len() <= next.legs.len(), "{event:?}");
            // The store may feed an event again whose result it could not record. A stale sealing asks again for
            // what it did not get; nothing else does.
            let (again, more) = step(&next, &event);
            assert_eq!(again, next, "{event:?}");
            let is_settling = |scheduled: &Scheduled| {
                matches!(
                    scheduled.effect,
                    Effect::ReportOutcome { .. } | Effect::RemoveBodies | Effect::SendMdn { .. }
                )
            };
            assert!(!more.iter().any(is_settling), "{event:?}");
            all_effects.extend(effects.into_iter().map(|scheduled| scheduled.effect));
            exchange = next;
        }
        (exchange, all_effects)
    }

    fn count(effects: &[Effect], wanted: &Effect) -> usize {
        effects.iter().filter(|effect| *effect == wanted).count()
    }

    proptest! {
        // rule: SND-6, XDR-81
        #[test]
        fn a_leg_that_was_sealed_never_changes_its_message_id_or_its_bytes(
            first in any_sealing(),
            kinds in proptest::collection::vec((any::<bool>(), any_mail_event()), 0..40),
        ) {
            let mut exchange = xdr_exchange(true);
            feed(&mut exchange, minute(0), EventKind::Accepted);
            let everybody = EventKind::LegSealed {
                leg: leg_id(1),
                recipients: vec![address(ADA), address(NGOZI)],
                sealed: sealed(900),
            };
            feed(&mut exchange, minute(0), everybody);
            let made = exchange.mail_leg(leg_id(1)).cloned();
            prop_assert!(made.as_ref().is_some_and(|mail| mail.sealed == Some(sealed(900))));
            let sealings = std::iter::once((false, first)).chain(kinds);
            let (exchange, effects) = live(exchange, sealings.collect());
            prop_assert_eq!(exchange.mail_leg(leg_id(1)), made.as_ref());
            prop_assert_eq!(count(&effects, &Effect::Seal { leg: leg_id(1) }), 0);
            // A mail to somebody bears the one Message-ID: nobody is moved to another leg.
            for recipient in &exchange.recipients[..2] {
                prop_assert_eq!(&recipient.legs, &vec![leg_id(1)]);
            }
            prop_assert!(exchange.legs.len() <= 2);
        }

        // rule: SRC-5, STS-3, LOOP-6
        #[test]
        fn every_recipient_of_a_submission_gets_one_outcome_and_one_report_whatever_happens(
            wants_final_delivery in any::<bool>(),
            kinds in proptest::collection::vec((any::<bool>(), any_mail_event()), 0..40),
        ) {
            let (exchange, effects) = live(xdr_exchange(wants_final_delivery), kinds);
            for (recipient, state) in exchange.recipients.iter().enumerate() {
                let reports = count(&effects, &Effect::ReportOutcome { recipient });
                prop_assert_eq!(reports, usize::from(state.outcome.is_some()));
                // One identity each: it is handed over for the first time once, if it was made at all.
                let first_attempts = effects.iter().filter(|effect| {
                    matches!(effect, Effect::PostStatus { recipient: of, attempt: 1, .. } if *of == recipient)
                });
                prop_assert_eq!(first_attempts.count(), usize::from(state.status.is_some()));
                prop_assert!(state.status.is_none() || state.outcome.is_some());
                let is_success = state.outcome.as_ref().is_some_and(|o| o.failure.is_none());
                prop_assert_eq!(is_success, state.outcome.is_some() && state.state.is_success());
            }
            let removals = count(&effects, &Effect::RemoveBodies);
            prop_assert_eq!(removals, usize::from(exchange.is_final()));
            // Whatever happened: when all deadlines have passed, everybody is told.
            let mut ended = exchange;
            for kind in [EventKind::DeadlineQueue, EventKind::DeadlineTp, EventKind::DeadlineTd] {
                feed(&mut ended, minute(200), kind);
            }
            prop_assert!(ended.is_final());
        }

        // rule: MDN-15, DST-5
        #[test]
        fn every_recipient_of_a_mail_gets_at_most_one_processed_and_one_final_mdn_in_order(
            kinds in proptest::collection::vec((any::<bool>(), any_post_event()), 0..40),
        ) {
            let (exchange, effects) = live(from_direct(&[ADA, NGOZI, LATE]), kinds);
            for recipient in 0..exchange.recipients.len() {
                let is = |effect: &Effect, wanted: MdnToSend| {
                    matches!(effect, Effect::SendMdn { recipient: of, disposition, .. }
                        if *of == recipient && *disposition == wanted)
                };
                let at = |wanted| effects.iter().position(|effect| is(effect, wanted));
                let number =
                    |wanted| effects.iter().filter(|effect| is(effect, wanted)).count();
                let last = number(MdnToSend::Dispatched) + number(MdnToSend::Failed);
                prop_assert!(number(MdnToSend::Processed) <= 1 && last <= 1);
                if let Some(end) = at(MdnToSend::Dispatched).or(at(MdnToSend::Failed)) {
                    prop_assert!(at(MdnToSend::Processed).is_some_and(|start| start < end));
                }
            }
            let is_ended = |leg: &Leg| leg.as_xdr().is_some_and(|post| post.state.is_final());
            prop_assert!(!exchange.is_final() || exchange.legs.iter().all(is_ended));
            let mut ended = exchange;
            feed(&mut ended, minute(200), EventKind::DeadlineQueue);
            prop_assert!(ended.is_final());
        }
    }
}
