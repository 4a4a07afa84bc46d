//! What operators do to an exchange: try again now, hold, release, end. Whether it makes sense is decided here, by the
//! state of the exchange and by what waits in the outbox for it.

use jiff::Timestamp;

use super::{
    Effect, EventKind, Exchange, Hold, LegState, Origin, Recipient, RecipientState, step::Life,
};
use crate::formats::ids::DirectAddress;

/// Why what an operator asks for is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// There is nothing left to be done.
    #[error("every recipient is settled: nothing is handed on any more")]
    Settled,
    /// Whether the endpoint stored it is not known, and a repeat could store it twice.
    #[error(
        "it is in doubt: the endpoint's answer was lost, and a repeat could store the submission twice; its sender was \
         told so. Ask whoever runs the endpoint"
    )]
    InDoubt,
    /// Nothing is handed on while it is held.
    #[error("it is held: release it first")]
    Held,
    /// Before the mail is opened nobody is trusted, and so nobody could be told.
    #[error(
        "its mail is not opened yet, and until then nobody could be told that it failed: it is opened, or refused, by \
         itself"
    )]
    NotOpened,
    /// What it will lead to nobody knows yet.
    #[error("an attempt is under way, and its result counts: ask again when it has ended")]
    UnderWay,
    /// The mail has left, and no notice has come.
    #[error(
        "nothing waits to be tried: the mail was handed over, and the receiving system has to tell what became of it"
    )]
    HandedOver,
    /// The endpoint said that its answer comes later.
    #[error(
        "nothing waits to be tried: the endpoint took the submission and tells its result later"
    )]
    AnswerComesLater,
    /// Nothing waits, for no reason that an operator could change.
    #[error("nothing waits to be tried")]
    NothingWaits,
    /// The address is not one of its recipients.
    #[error("{0} is none of its recipients")]
    NoSuchRecipient(DirectAddress),
    /// The recipient has it.
    #[error("{0} is settled as delivered")]
    Delivered(DirectAddress),
}

/// What is in the outbox for an exchange.
#[derive(Clone, Copy, Debug)]
pub struct InOutbox<'a> {
    /// What is to be done.
    pub effect: &'a Effect,
    /// From when on it can be claimed; of what is under way, when its lease lapses.
    pub due: Timestamp,
    /// Whether a worker has it.
    pub is_under_way: bool,
}

impl Exchange {
    /// Whether it can be held, or released.
    pub fn may_be_held(&self) -> Result<(), NotNow> {
        if self.is_final() {
            Err(NotNow::Settled)
        } else {
            Ok(())
        }
    }

    /// Which of `outbox` are tried now in place of their time: every attempt that waits.
    pub fn to_try_now(&self, outbox: &[InOutbox<'_>]) -> Result<Vec<usize>, NotNow> {
        if self.hold.is_some() {
            return Err(NotNow::Held);
        }
        let attempts = || {
            outbox
                .iter()
                .enumerate()
                .filter(|(_, one)| is_attempt(one.effect))
        };
        let waiting: Vec<usize> = attempts()
            .filter(|(_, one)| !one.is_under_way)
            .map(|(index, _)| index)
            .collect();
        if !waiting.is_empty() {
            return Ok(waiting);
        }
        if attempts().next().is_some() {
            return Err(NotNow::UnderWay);
        }
        let has_leg = |state| {
            let mut posts = self.legs.iter().filter_map(|leg| leg.as_xdr());
            posts.any(|post| post.state == state)
        };
        let mut open = self.recipients.iter().filter(|one| one.outcome.is_none());
        Err(if has_leg(LegState::AwaitingDeferred) {
            NotNow::AnswerComesLater
        } else if has_leg(LegState::InDoubt) {
            NotNow::InDoubt
        } else if self.is_final() {
            NotNow::Settled
        } else if open.all(|one| one.state != RecipientState::Queued) {
            NotNow::HandedOver
        } else {
            NotNow::NothingWaits
        })
    }

    /// Whom to settle as failed when an operator ends the delivery to `named`, or to everybody who is open; and which of
    /// `outbox` must still wait when that is recorded, since an attempt that a worker has taken may succeed. Whoever has
    /// failed already is left as it is.
    pub fn to_end(
        &self,
        named: &[DirectAddress],
        outbox: &[InOutbox<'_>],
    ) -> Result<(Vec<DirectAddress>, Vec<usize>), NotNow> {
        let ended = self.named(named)?;
        let is_unopened = matches!(&self.origin, Origin::Direct { from: None, .. });
        if is_unopened && !ended.is_empty() {
            return Err(NotNow::NotOpened);
        }
        let mut guarded = Vec::new();
        for (index, handing) in outbox.iter().enumerate() {
            if !ended.iter().any(|one| hands_on(handing.effect, one)) {
                continue;
            }
            if handing.is_under_way {
                return Err(NotNow::UnderWay);
            }
            guarded.push(index);
        }
        let is_posting = |one: &&Recipient| {
            let mut posts = one.legs.iter().filter_map(|leg| self.leg(*leg)?.as_xdr());
            posts.any(|post| post.state == LegState::Posting)
        };
        if ended.iter().any(is_posting) {
            return Err(NotNow::UnderWay);
        }
        let addresses = ended.into_iter().map(|one| one.address.clone());
        Ok((addresses.collect(), guarded))
    }

    /// The open ones among `named`, or among all.
    fn named(&self, named: &[DirectAddress]) -> Result<Vec<&Recipient>, NotNow> {
        let is_open = |one: &&Recipient| one.outcome.is_none();
        let is_delivered = |one: &Recipient| {
            let outcome = one.outcome.as_ref();
            outcome.is_some_and(|outcome| outcome.failure.is_none())
        };
        if named.is_empty() {
            let open: Vec<&Recipient> = self.recipients.iter().filter(is_open).collect();
            if open.is_empty() && self.recipients.iter().any(is_delivered) {
                return Err(NotNow::Settled);
            }
            return Ok(open);
        }
        let mut found = Vec::new();
        for address in named {
            let Some(recipient) = self.recipient(address) else {
                return Err(NotNow::NoSuchRecipient(address.clone()));
            };
            if is_delivered(recipient) {
                return Err(NotNow::Delivered(address.clone()));
            }
            found.push(recipient);
        }
        Ok(found.into_iter().filter(is_open).collect())
    }
}

/// The part of [`super::step()`] that both directions share.
pub(super) fn apply(life: &mut Life, event: &EventKind) {
    match event {
        EventKind::OperatorHeld => {
            let exchange = &mut life.exchange;
            if exchange.final_at.is_none() && exchange.hold.is_none() {
                exchange.hold = Some(Hold {
                    since: life.at,
                    withheld: Vec::new(),
                });
            }
        }
        EventKind::OperatorReleased => {
            let withheld = life.exchange.hold.take().map(|hold| hold.withheld);
            for effect in withheld.unwrap_or_default() {
                life.now(effect);
            }
        }
        EventKind::Withheld { effect } => match &mut life.exchange.hold {
            Some(hold) if hold.withheld.contains(effect) => {}
            Some(hold) => hold.withheld.push(effect.clone()),
            // Released, or settled, since it was found to be held: it runs, and finds out.
            None => life.now(effect.clone()),
        },
        _ => {}
    }
}

/// Whether it can be tried before its time: deadlines and clearing up come when they are due.
fn is_attempt(effect: &Effect) -> bool {
    match effect {
        Effect::LookUp { .. }
        | Effect::Seal { .. }
        | Effect::Send { .. }
        | Effect::Open
        | Effect::Post { .. }
        | Effect::SendMdn { .. }
        | Effect::ReportOutcome { .. }
        | Effect::PostStatus { .. } => true,
        Effect::DeadlineQueue | Effect::DeadlineTp | Effect::DeadlineTd | Effect::RemoveBodies => {
            false
        }
    }
}

/// Whether the recipient may get the message by it.
fn hands_on(effect: &Effect, recipient: &Recipient) -> bool {
    match effect {
        Effect::Send { leg, domain, .. } => {
            recipient.state == RecipientState::Queued
                && recipient.legs.contains(leg)
                && recipient.address.domain() == domain
        }
        Effect::Post { leg, .. } => recipient.legs.contains(leg),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Event, LegKind, Outcome, PostResult, Reason, Scheduled, XdrLeg, samples::*, step,
    };
    use super::*;

    fn send() -> Effect {
        Effect::Send {
            leg: leg_id(1),
            domain: address(ADA).domain().clone(),
            attempt: 2,
        }
    }

    fn post() -> Effect {
        Effect::Post {
            leg: leg_id(1),
            endpoint: "harbor".to_owned(),
            attempt: 2,
        }
    }

    fn waits(effect: &Effect) -> InOutbox<'_> {
        InOutbox {
            effect,
            due: minute(0),
            is_under_way: false,
        }
    }

    fn runs(effect: &Effect) -> InOutbox<'_> {
        InOutbox {
            effect,
            due: minute(0),
            is_under_way: true,
        }
    }

    /// From XDR, sealed, both recipients in one leg.
    fn to_direct() -> Exchange {
        let recipients = [ADA, NGOZI]
            .map(|text| Recipient::queued(address(text), vec![leg_id(1)], Some(b"der".to_vec())));
        let mut exchange = from_xdr(vec![mail_leg(1)], recipients.into());
        feed(&mut exchange, minute(0), EventKind::Accepted);
        let made = EventKind::LegSealed {
            leg: leg_id(1),
            recipients: vec![address(ADA), address(NGOZI)],
            sealed: sealed(9),
        };
        feed(&mut exchange, minute(0), made);
        exchange
    }

    /// From Direct, opened, its one leg in `state`, `processed` handed over.
    fn to_xdr(state: LegState, is_answer_lost: bool) -> Exchange {
        let mut exchange = from_direct(&[ADA]);
        feed(&mut exchange, minute(0), EventKind::Accepted);
        let legs = vec![(post_leg(1, true), vec![address(ADA)])];
        feed(&mut exchange, minute(1), EventKind::Opened(opening(legs)));
        let processed = EventKind::MdnDone {
            recipient: address(ADA),
            disposition: super::super::MdnToSend::Processed,
        };
        feed(&mut exchange, minute(1), processed);
        let leg = leg_mut(&mut exchange);
        leg.state = state;
        leg.answer_lost = is_answer_lost;
        exchange
    }

    fn leg_mut(exchange: &mut Exchange) -> &mut XdrLeg {
        match &mut exchange.legs[0].kind {
            LegKind::Xdr(post) => post,
            LegKind::Mail(_) => panic!("a post"),
        }
    }

    fn settled(mut exchange: Exchange, failure: Option<Reason>) -> Exchange {
        for recipient in &mut exchange.recipients {
            recipient.outcome = Some(Outcome {
                at: minute(2),
                failure,
            });
        }
        exchange.final_at = Some(minute(2));
        exchange
    }

    fn held(mut exchange: Exchange) -> Exchange {
        feed(&mut exchange, minute(2), EventKind::OperatorHeld);
        exchange
    }

    // rule: Q-7
    #[test]
    fn whatever_waits_is_tried_now_and_the_rest_is_refused_with_its_reason() {
        let (send, post, deadline) = (send(), post(), Effect::DeadlineTp);
        let relayed = || {
            let mut exchange = to_direct();
            for recipient in &mut exchange.recipients {
                recipient.state = RecipientState::Relayed;
            }
            exchange
        };
        let nothing = waits(&deadline);
        for (name, exchange, outbox, expected) in [
            (
                "waits",
                to_direct(),
                vec![nothing, waits(&send)],
                Ok(vec![1]),
            ),
            (
                "one runs",
                to_direct(),
                vec![runs(&send), waits(&post)],
                Ok(vec![1]),
            ),
            (
                "runs",
                to_direct(),
                vec![nothing, runs(&send)],
                Err(NotNow::UnderWay),
            ),
            (
                "held",
                held(to_direct()),
                vec![waits(&send)],
                Err(NotNow::Held),
            ),
            (
                "nothing",
                to_direct(),
                vec![nothing],
                Err(NotNow::NothingWaits),
            ),
            ("relayed", relayed(), vec![nothing], Err(NotNow::HandedOver)),
            (
                "final",
                settled(to_direct(), None),
                vec![nothing],
                Err(NotNow::Settled),
            ),
            // A report that waits is tried, whatever became of the message.
            (
                "report",
                settled(to_direct(), None),
                vec![waits(&Effect::ReportOutcome { recipient: 0 })],
                Ok(vec![0]),
            ),
            (
                "post",
                to_xdr(LegState::Opened, false),
                vec![waits(&post)],
                Ok(vec![0]),
            ),
            (
                "deferred",
                to_xdr(LegState::AwaitingDeferred, false),
                vec![nothing],
                Err(NotNow::AnswerComesLater),
            ),
            (
                "in doubt",
                settled(to_xdr(LegState::InDoubt, true), Some(Reason::InDoubt)),
                vec![nothing],
                Err(NotNow::InDoubt),
            ),
        ] {
            assert_eq!(exchange.to_try_now(&outbox), expected, "{name}");
        }
    }

    // rule: Q-7
    #[test]
    fn a_delivery_is_ended_for_whoever_is_open_and_not_while_it_may_succeed() {
        let (send, post) = (send(), post());
        let (ada, ngozi) = (address(ADA), address(NGOZI));
        let of_ada = vec![ada.clone()];
        let mut one_delivered = to_direct();
        one_delivered.recipients[0].outcome = Some(Outcome {
            at: minute(2),
            failure: None,
        });
        let mut relayed = to_direct();
        relayed.recipients[0].state = RecipientState::Relayed;
        let unopened = {
            let mut exchange = from_direct(&[ADA]);
            feed(&mut exchange, minute(0), EventKind::Accepted);
            exchange
        };
        let stranger = address("x@else.example");
        for (name, exchange, named, outbox, expected) in [
            (
                "all",
                to_direct(),
                vec![],
                vec![waits(&send)],
                Ok((vec![ada.clone(), ngozi.clone()], vec![0])),
            ),
            (
                "one",
                to_direct(),
                of_ada.clone(),
                vec![waits(&send)],
                Ok((of_ada.clone(), vec![0])),
            ),
            // The other's domain: its attempt is none of this one's.
            (
                "other",
                to_direct(),
                vec![ngozi.clone()],
                vec![runs(&send)],
                Ok((vec![ngozi.clone()], vec![])),
            ),
            (
                "under way",
                to_direct(),
                of_ada.clone(),
                vec![runs(&send)],
                Err(NotNow::UnderWay),
            ),
            (
                "handed over",
                relayed,
                of_ada.clone(),
                vec![runs(&send)],
                Ok((of_ada.clone(), vec![])),
            ),
            (
                "the rest",
                one_delivered.clone(),
                vec![],
                vec![],
                Ok((vec![ngozi.clone()], vec![])),
            ),
            (
                "delivered",
                one_delivered,
                of_ada.clone(),
                vec![],
                Err(NotNow::Delivered(ada.clone())),
            ),
            (
                "stranger",
                to_direct(),
                vec![stranger.clone()],
                vec![],
                Err(NotNow::NoSuchRecipient(stranger)),
            ),
            (
                "settled",
                settled(to_direct(), None),
                vec![],
                vec![],
                Err(NotNow::Settled),
            ),
            (
                "again",
                settled(to_direct(), Some(Reason::Operator)),
                vec![],
                vec![],
                Ok((vec![], vec![])),
            ),
            (
                "again, named",
                settled(to_direct(), Some(Reason::Operator)),
                of_ada.clone(),
                vec![],
                Ok((vec![], vec![])),
            ),
            ("unopened", unopened, vec![], vec![], Err(NotNow::NotOpened)),
            (
                "post",
                to_xdr(LegState::Opened, false),
                vec![],
                vec![waits(&post)],
                Ok((of_ada.clone(), vec![0])),
            ),
            (
                "post claimed",
                to_xdr(LegState::Opened, false),
                vec![],
                vec![runs(&post)],
                Err(NotNow::UnderWay),
            ),
            (
                "posting",
                to_xdr(LegState::Posting, false),
                vec![],
                vec![],
                Err(NotNow::UnderWay),
            ),
        ] {
            assert_eq!(exchange.to_end(&named, &outbox), expected, "{name}");
        }
    }

    #[test]
    fn what_is_settled_is_neither_held_nor_released() {
        assert_eq!(to_direct().may_be_held(), Ok(()));
        assert_eq!(held(to_direct()).may_be_held(), Ok(()));
        let exchange = settled(to_direct(), None);
        assert_eq!(exchange.may_be_held(), Err(NotNow::Settled));
        assert_eq!(held(exchange.clone()), exchange);
    }

    // rule: Q-7
    #[test]
    fn what_became_due_while_it_was_held_is_due_once_when_it_is_released() {
        let mut exchange = to_direct();
        feed(&mut exchange, minute(2), EventKind::OperatorHeld);
        let since = exchange.clone();
        feed(&mut exchange, minute(3), EventKind::OperatorHeld);
        assert_eq!(exchange, since, "held is held");
        for _ in 0..2 {
            let withheld = EventKind::Withheld { effect: send() };
            assert!(feed(&mut exchange, minute(3), withheld).is_empty());
        }
        let effects = feed(&mut exchange, minute(4), EventKind::OperatorReleased);
        assert_eq!(effects, [Scheduled::new(send(), minute(4))]);
        assert_eq!(exchange, to_direct());
        assert!(feed(&mut exchange, minute(5), EventKind::OperatorReleased).is_empty());
        // Released between the look at the exchange and the record of what was withheld.
        let effects = feed(
            &mut exchange,
            minute(6),
            EventKind::Withheld { effect: send() },
        );
        assert_eq!(effects, [Scheduled::new(send(), minute(6))]);
        assert_eq!(exchange, to_direct());
    }

    #[test]
    fn a_held_leg_is_not_posted() {
        let mut exchange = held(to_xdr(LegState::Opened, false));
        let started = EventKind::PostStarted { leg: leg_id(1) };
        feed(&mut exchange, minute(3), started.clone());
        assert_eq!(leg_mut(&mut exchange).state, LegState::Opened);
        feed(&mut exchange, minute(4), EventKind::OperatorReleased);
        feed(&mut exchange, minute(4), started);
        assert_eq!(leg_mut(&mut exchange).state, LegState::Posting);
    }

    // rule: RT-17
    #[test]
    fn the_deadline_ends_what_is_held_and_says_that_an_operator_did() {
        for mut exchange in [held(to_direct()), held(to_xdr(LegState::Opened, false))] {
            feed(&mut exchange, minute(50), EventKind::DeadlineQueue);
            for recipient in &exchange.recipients {
                assert_eq!(recipient.reason, Some(Reason::Operator), "{recipient:?}");
            }
            assert!(exchange.is_final());
            assert_eq!(exchange.hold, None);
        }
        // What may have been stored is in doubt, held or not.
        let mut exchange = held(to_xdr(LegState::Opened, true));
        feed(&mut exchange, minute(50), EventKind::DeadlineQueue);
        assert_eq!(exchange.recipients[0].reason, Some(Reason::InDoubt));
    }

    // rule: RT-17, RT-15
    #[test]
    fn whom_an_operator_gives_up_is_told_once_and_in_doubt_where_it_may_have_been_stored() {
        for (state, is_lost, reason, end) in [
            (LegState::Opened, false, Reason::Operator, LegState::Refused),
            (LegState::Opened, true, Reason::InDoubt, LegState::InDoubt),
            (LegState::Posting, false, Reason::InDoubt, LegState::InDoubt),
            (
                LegState::AwaitingDeferred,
                false,
                Reason::Operator,
                LegState::Refused,
            ),
        ] {
            let mut exchange = to_xdr(state, is_lost);
            let failed = EventKind::OperatorFailed {
                recipient: address(ADA),
            };
            let effects = feed(&mut exchange, minute(5), failed.clone());
            let told = effects
                .iter()
                .filter(|one| matches!(one.effect, Effect::SendMdn { .. }));
            assert_eq!(told.count(), 1, "{state:?}");
            assert_eq!(exchange.recipients[0].reason, Some(reason), "{state:?}");
            assert_eq!(leg_mut(&mut exchange).state, end, "{state:?}");
            // Once: neither the same again nor a late answer changes anything.
            let answered = EventKind::Posted {
                leg: leg_id(1),
                attempt: 1,
                result: PostResult::Success,
                code: None,
            };
            for kind in [failed, answered] {
                let event = Event {
                    at: minute(6),
                    kind,
                };
                assert_eq!(step(&exchange, &event), (exchange.clone(), Vec::new()));
            }
        }
        let mut exchange = to_direct();
        let failed = EventKind::OperatorFailed {
            recipient: address(ADA),
        };
        let effects = feed(&mut exchange, minute(5), failed);
        let report = Scheduled::new(Effect::ReportOutcome { recipient: 0 }, minute(5));
        assert_eq!(effects, [report]);
        assert!(exchange.recipients[1].outcome.is_none());
    }
}
