//! The transition function, and what both directions share.

use jiff::Timestamp;

use super::{
    Effect, Event, EventKind, Exchange, Origin, Outcome, Reason, RecipientState, Scheduled,
    timers::after, to_direct, to_xdr,
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
            let due = after(self.at, exchange.deadlines.body_retention);
            self.later(Effect::RemoveBodies, due);
        }
    }
}
